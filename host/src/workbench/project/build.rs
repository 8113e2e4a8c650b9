//! `pointsman policy build`: from a project to a component, with the language's own toolchain. What that says goes to standard error as it
//! is. Nothing is installed from here; where a tool is missing, the error says how it is had.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::manifest::{self, Language, Manifest};
use crate::policy::Limits;
use crate::policy::contract::StageKind;
use crate::policy::inspect::inspect;

mod c;
mod encode;
mod js;
mod python;
mod rust;

/// How a build ended.
#[derive(Debug)]
pub enum Outcome {
    /// There is a component.
    Built(Built),
    /// The toolchain, or the contract, refuses the source. The toolchain has said why by itself; this is what is left to say.
    Refused(String),
}

/// A component.
#[derive(Debug)]
pub struct Built {
    /// What the project says of itself.
    pub manifest: Manifest,
    /// `NAME.wasm`, in the project's folder.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Builds the project in a folder.
///
/// # Errors
/// It could not be tried: no manifest, or a tool is missing.
pub fn build(folder: &Path) -> anyhow::Result<Outcome> {
    let manifest = Manifest::read(folder)?;
    let made = match manifest.language {
        Language::Rust => rust::component(folder)?,
        Language::C => c::component(folder, manifest.stage)?,
        Language::Js => js::component(folder, manifest.stage)?,
        Language::Python => python::component(folder, manifest.stage)?,
    };
    let component = match made {
        Ok(component) => component,
        Err(why) => return Ok(Outcome::Refused(why)),
    };
    if let Some(stage) = stage_of(&component).filter(|stage| *stage != manifest.stage) {
        let (file, said) = (folder.join(manifest::FILE), manifest.stage.name());
        let stage = stage.name();
        return Ok(Outcome::Refused(format!(
            "{}: stage: it says {said}, and what was built is a {stage}: write `stage: {stage}`, or mend the source",
            file.display()
        )));
    }
    let path = folder.join(format!("{}.wasm", manifest.name));
    // By rename: a host that watches this folder sees the old one or the new one.
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    std::io::Write::write_all(&mut file, &component)?;
    readable(file.as_file())?;
    file.persist(&path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Outcome::Built(Built { manifest, path, bytes: component.len() as u64 }))
}

/// The stage that a component fills, if it fills one: whether a host takes it is for `policy inspect` to say.
fn stage_of(component: &[u8]) -> Option<StageKind> {
    let limits = Limits::default().large();
    inspect(component, &limits).and_then(|found| found.shape(&limits, true)).ok().map(|shape| shape.stage)
}

/// A component, or why there is none.
type Made = Result<Vec<u8>, String>;

/// Temporary files are for their owner alone; what comes of this one is not.
fn readable(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

/// The world of a stage in the contract.
fn world(stage: StageKind) -> String {
    format!("{}-component", stage.name())
}

/// The program on the PATH.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Runs a tool to its end; what it writes is for the user. False: it failed.
fn run(command: &mut Command) -> anyhow::Result<bool> {
    let shown = command.get_program().to_owned();
    let status = command.status().with_context(|| format!("cannot run {}", shown.display()))?;
    Ok(status.success())
}

/// The first line of what a tool prints when it is asked something.
fn ask(program: impl AsRef<OsStr>, arguments: &[&str], folder: &Path) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(folder).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.lines().next().unwrap_or_default().to_owned())
}
