//! `pointsman policy new`: a folder that builds and has tests.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use super::manifest::{Language, check_name};
use super::templates;
use crate::policy::contract::StageKind;

/// Writes a project into a folder of its own; returns the paths of its files, in the folder.
///
/// # Errors
/// The name does not serve, there is no such template, or the folder is not empty or cannot be written.
pub fn write(folder: &Path, name: &str, language: Language, stage: StageKind) -> anyhow::Result<Vec<String>> {
    check_name(name).map_err(anyhow::Error::msg)?;
    let Some(files) = templates::files(language, stage) else {
        bail!("there is no template of a {} in {language}: there is one in Rust, and `--stage balancer` in every language", stage.name());
    };
    let shown = folder.display();
    match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => bail!("{shown} is there already, and not empty: choose another name, or go elsewhere"),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(|| format!("cannot use {shown}")),
        _ => {}
    }
    let mut paths = Vec::new();
    for (path, text) in files {
        let target = folder.join(&path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        fs::write(&target, fill(&text, name, language, stage)).with_context(|| format!("cannot write {}", target.display()))?;
        paths.push(path);
    }
    Ok(paths)
}

fn fill(text: &str, name: &str, language: Language, stage: StageKind) -> String {
    text.replace("{{name}}", name)
        .replace("{{summary}}", templates::summary(stage))
        .replace("{{stage}}", stage.name())
        .replace("{{language}}", language.name())
        .replace("{{runtime}}", language.runtime().name())
}

#[cfg(test)]
mod tests;
