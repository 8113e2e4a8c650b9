//! Python: componentize-py, of the project's virtual environment or of the PATH, with stubs for WASI.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

use super::{Made, on_path, run, world};
use crate::policy::contract::StageKind;

pub(super) fn component(folder: &Path, stage: StageKind) -> anyhow::Result<Made> {
    let own = folder.canonicalize()?.join(".venv/bin/componentize-py");
    let Some(tool) = Some(own).filter(|own| own.is_file()).or_else(|| on_path("componentize-py")) else {
        bail!(
            "componentize-py is not here. In {}:\n\
             \n    python3 -m venv .venv && .venv/bin/pip install -r requirements.txt\n\
             \n(on Debian, `apt-get install python3-venv` comes first, as root)",
            folder.display()
        );
    };
    let output = tempfile::Builder::new().suffix(".wasm").tempfile()?;
    let mut command = Command::new(tool);
    command.current_dir(folder).args(["--quiet", "--wit-path", "wit", "--world", &world(stage), "componentize", "--stub-wasi"]);
    if !run(command.args(["policy", "--output"]).arg(output.path()))? {
        return Ok(Err("componentize-py could not build it".to_owned()));
    }
    Ok(Ok(std::fs::read(output.path())?))
}
