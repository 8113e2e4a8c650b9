//! JavaScript: componentize-js, run by node, with all that would import WASI left out.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

use super::{Made, on_path, run, world};
use crate::policy::contract::StageKind;
use crate::workbench::project::templates::COMPONENTIZE_JS;

/// The package, as node looks for it.
const PACKAGE: &str = "node_modules/@bytecodealliance/componentize-js/package.json";

pub(super) fn component(folder: &Path, stage: StageKind) -> anyhow::Result<Made> {
    let Some(node) = on_path("node") else {
        bail!("there is no node here: install Node.js 20 or newer (on Debian, as root: `apt-get install nodejs npm`)");
    };
    if !folder.canonicalize()?.ancestors().any(|above| above.join(PACKAGE).is_file()) {
        bail!("componentize-js is not here: run `npm install` in {}", folder.display());
    }
    let output = tempfile::Builder::new().suffix(".wasm").tempfile()?;
    let mut command = Command::new(node);
    command.current_dir(folder).args(["--input-type=module", "--eval", COMPONENTIZE_JS, "policy.js", "wit"]);
    if !run(command.arg(world(stage)).arg(output.path()))? {
        return Ok(Err("componentize-js could not build it".to_owned()));
    }
    Ok(Ok(std::fs::read(output.path())?))
}
