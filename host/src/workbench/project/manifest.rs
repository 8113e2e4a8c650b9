//! `policy.yaml`: what a project says of itself.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::bail;
use serde::Deserialize;

use crate::policy::Runtime;
use crate::policy::contract::StageKind;
use crate::workbench::bounded;

/// The manifest's name in its folder.
pub const FILE: &str = "policy.yaml";

/// Bytes of a manifest.
const MAX_BYTES: usize = 64 << 10;

/// A project's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The policy's name, in annotations and as the component's file.
    pub name: String,
    /// The stage that it fills.
    pub stage: StageKind,
    /// What it is written in.
    pub language: Language,
    /// What it needs of a host.
    #[serde(default)]
    pub runtime: Runtime,
}

/// What a policy is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// With the SDK.
    Rust,
    /// With bindings by `wit-bindgen`.
    C,
    /// With componentize-js.
    Js,
    /// With componentize-py.
    Python,
}

impl Manifest {
    /// The manifest of the project in this folder.
    ///
    /// # Errors
    /// There is none, or it says something else; with file, line and remedy.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let shown = path.display();
        if !path.exists() {
            bail!("{shown} is not there: name a project's folder, or make one with `pointsman policy new`");
        }
        let text = bounded::text(&path, MAX_BYTES, "a manifest has a few lines")?;
        let manifest: Self = serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{shown}: {error}"))?;
        check_name(&manifest.name).map_err(|why| anyhow::anyhow!("{shown}: name: {why}"))?;
        Ok(manifest)
    }
}

/// What a project can be called: what is a name in annotations, in Cargo.toml, package.json and WIT alike.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let starts = name.starts_with(|first: char| first.is_ascii_lowercase());
    if name.len() > MAX_NAME || !starts || name.ends_with('-') || !name.bytes().all(fits) {
        return Err(format!("{name:?} cannot be a project's name: use a-z, 0-9 and '-', a letter first, at most {MAX_NAME} of them"));
    }
    if TAKEN.contains(&name) {
        return Err(format!("{name:?} is a package that the project is made of: choose another"));
    }
    if pointsman_guests::BUILT_IN.iter().any(|built_in| built_in.name == name) {
        return Err(format!("{name:?} is the name of a built-in policy, which cannot be replaced: choose another"));
    }
    Ok(())
}

/// Of the packages of a project in Rust.
const TAKEN: [&str; 1] = ["pointsman-sdk"];

/// As for every policy.
const MAX_NAME: usize = 63;

impl Language {
    /// All, in the order in which they are offered.
    pub const ALL: [Self; 4] = [Self::Rust, Self::C, Self::Js, Self::Python];

    /// As on the command line and in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Js => "js",
            Self::Python => "python",
        }
    }

    /// What its components need of a host.
    pub fn runtime(self) -> Runtime {
        match self {
            Self::Rust | Self::C => Runtime::Normal,
            Self::Js | Self::Python => Runtime::Large,
        }
    }
}

impl FromStr for Language {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|language| language.name() == text);
        found.ok_or_else(|| format!("there is no template in {text:?}: choose {}", Self::ALL.map(Self::name).join(", ")))
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::C => "C",
            Self::Js => "JavaScript",
            Self::Python => "Python",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]
    use super::*;

    fn read(text: &str) -> Result<Manifest, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), text).unwrap();
        Manifest::read(folder.path()).map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "DIR"))
    }

    #[test]
    fn a_manifest_names_the_policy_its_stage_and_its_language() {
        let manifest = read("{name: my-canary, stage: traffic-policy, language: js, runtime: large}").unwrap();
        let expected =
            Manifest { name: "my-canary".into(), stage: StageKind::TrafficPolicy, language: Language::Js, runtime: Runtime::Large };
        assert_eq!(manifest, expected);
        assert_eq!(read("{name: a, stage: selector, language: c}").unwrap().runtime, Runtime::Normal);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_file() {
        for (text, words) in [
            ("{name: a, stage: balancer}", ["DIR/policy.yaml", "language"]),
            ("{name: a, stage: balancer, language: go}", ["DIR/policy.yaml", "go"]),
            ("{name: a, stage: balancer, language: c, size: 1}", ["DIR/policy.yaml", "size"]),
            ("{name: ../a, stage: balancer, language: c}", ["DIR/policy.yaml: name", "../a"]),
            ("{name: maglev, stage: balancer, language: c}", ["built-in", "maglev"]),
        ] {
            let error = read(text).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{text}: {error}");
        }
        let nothing = Manifest::read(tempfile::tempdir().unwrap().path()).unwrap_err().to_string();
        assert!(nothing.contains("pointsman policy new"), "{nothing}");
    }

    #[test]
    fn names_are_those_that_every_language_takes() {
        let long = "a".repeat(64);
        for name in ["", "-a", "a-", "A", "a_b", "1a", "a.b", "a b", "ä", long.as_str(), "pointsman-sdk", "maglev"] {
            assert!(check_name(name).is_err(), "{name:?} was taken");
        }
        for name in ["a", "weighted-canary", "canary-2"] {
            assert_eq!(check_name(name), Ok(()));
        }
    }
}
