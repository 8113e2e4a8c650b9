#![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]

use super::*;
use crate::policy::Runtime;
use crate::workbench::project::manifest::Manifest;

const STAGES: [StageKind; 3] = [StageKind::Selector, StageKind::TrafficPolicy, StageKind::Balancer];

#[test]
fn every_template_is_filled_in_and_says_what_it_is() {
    for language in Language::ALL {
        for stage in STAGES {
            let folder = tempfile::tempdir().unwrap();
            let paths = match write(folder.path(), "my-policy", language, stage) {
                Ok(paths) => paths,
                Err(error) => {
                    assert!(stage != StageKind::Balancer && error.to_string().contains(stage.name()), "{error}");
                    continue;
                }
            };
            let manifest = Manifest::read(folder.path()).unwrap();
            assert_eq!((manifest.name.as_str(), manifest.stage, manifest.language), ("my-policy", stage, language));
            assert_eq!(manifest.runtime == Runtime::Large, matches!(language, Language::Js | Language::Python));
            assert!(["README.md", ".gitignore", "wit/policy.wit"].iter().all(|path| paths.iter().any(|p| p == path)), "{paths:?}");
            for path in &paths {
                let text = fs::read_to_string(folder.path().join(path)).unwrap();
                assert!(!text.contains("{{name}}") && !text.contains("{{s") && !text.contains("{{r"), "{path} is not filled in");
            }
        }
    }
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "text").unwrap();
    let error = write(folder.path(), "my-policy", Language::Rust, StageKind::Balancer).unwrap_err().to_string();
    assert!(error.contains("not empty"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Bindings are generated once for each contract: a changed contract wants new ones (`wit-bindgen c`, as their first line says).
#[test]
fn the_bindings_for_c_are_of_this_contract() {
    let contract = crate::policy::inspect::digest(pointsman_guests::CONTRACT.as_bytes());
    let folder = tempfile::tempdir().unwrap();
    for stage in STAGES {
        let project = folder.path().join(stage.name());
        let Ok(paths) = write(&project, "my-policy", Language::C, stage) else { continue };
        for path in paths.iter().filter(|path| path.starts_with("bindings/")) {
            let text = fs::read_to_string(project.join(path)).unwrap();
            assert!(text.lines().next().unwrap().contains(&contract), "{path} was made of another wit/policy.wit than {contract}");
        }
    }
}

/// The SDK that projects bring along depends on what its own manifest says.
#[test]
fn the_sdk_has_the_dependencies_that_it_has_at_home() {
    let home = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../guest-policies/Cargo.toml"));
    let (_, away) =
        templates::files(Language::Rust, StageKind::Balancer).unwrap().into_iter().find(|(p, _)| p == "sdk/Cargo.toml").unwrap();
    let dependencies: Vec<&str> = away.lines().filter(|line| line.contains("version = ") && line.contains('{')).collect();
    assert_eq!(dependencies.len(), 4);
    for line in dependencies {
        assert!(home.lines().any(|at_home| at_home == line), "guest-policies/Cargo.toml does not say: {line}");
    }
}
