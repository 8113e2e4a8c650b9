//! What `policy new` writes, embedded. `{{name}}` and its like are filled in by `new`.

use pointsman_guests::{CONTRACT, GUEST_LOCK, SDK};

use super::manifest::Language;
use crate::policy::contract::StageKind;

/// A file of a project: its path, and its text.
pub(super) type File = (String, String);

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/", $path))
    };
}

/// What node is told to run.
pub(super) const COMPONENTIZE_JS: &str = template!("js/componentize.mjs");

/// The files of a project, not filled in yet; `None` where there is no template.
pub(super) fn files(language: Language, stage: StageKind) -> Option<Vec<File>> {
    let mut files = vec![file("policy.yaml", template!("policy.yaml")), file("wit/policy.wit", CONTRACT)];
    match language {
        Language::Rust => files.extend(rust(stage)),
        Language::C => files.extend(c(stage)?),
        Language::Js => files.extend(js(stage)?),
        Language::Python => files.extend(python(stage)?),
    }
    match stage {
        StageKind::Balancer => files.extend([
            file("tests/weighted-canary.yaml", template!("tests/weighted-canary.yaml")),
            file("tests/no-canaries.yaml", template!("tests/no-canaries.yaml")),
            file("tests/only-canaries.yaml", template!("tests/only-canaries.yaml")),
        ]),
        StageKind::TrafficPolicy => files.push(file("tests/zone-first.yaml", template!("tests/zone-first.yaml"))),
        StageKind::Selector => files.push(file("tests/audience.yaml", template!("tests/audience.yaml"))),
    }
    Some(files)
}

/// What the example does, in a line.
pub(super) fn summary(stage: StageKind) -> &'static str {
    match stage {
        StageKind::Balancer => "A share of the clients goes to the canaries, the rest by weight to the others",
        StageKind::TrafficPolicy => "Connections stay in this node's zone while somebody ready is there",
        StageKind::Selector => "Pods for an internal audience serve clients inside the cluster alone",
    }
}

fn file(path: &str, text: &str) -> File {
    (path.to_owned(), text.to_owned())
}

fn rust(stage: StageKind) -> Vec<File> {
    let source = match stage {
        StageKind::Balancer => template!("rust/balancer.rs"),
        StageKind::TrafficPolicy => template!("rust/traffic-policy.rs"),
        StageKind::Selector => template!("rust/selector.rs"),
    };
    let mut files = vec![
        file(".cargo/config.toml", template!("rust/config.toml")),
        file(".gitignore", template!("rust/gitignore")),
        file("Cargo.toml", template!("rust/Cargo.toml")),
        // The versions that the built-in policies are made of. Cargo drops the packages that are not here.
        file("Cargo.lock", GUEST_LOCK),
        file("README.md", template!("rust/README.md")),
        file("src/lib.rs", source),
        file("sdk/Cargo.toml", template!("rust/sdk.toml")),
    ];
    // In its own repository, the contract lies one folder further up.
    files.extend(SDK.iter().map(|(path, text)| (format!("sdk/src/{path}"), text.replace("\"../../wit\"", "\"../wit\""))));
    files
}

fn c(stage: StageKind) -> Option<Vec<File>> {
    if stage != StageKind::Balancer {
        return None;
    }
    Some(vec![
        file(".gitignore", template!("c/gitignore")),
        file("README.md", template!("c/README.md")),
        file("policy.c", template!("c/balancer.c")),
        file("bindings/balancer_component.c", template!("c/bindings/balancer_component.c")),
        file("bindings/balancer_component.h", template!("c/bindings/balancer_component.h")),
    ])
}

fn js(stage: StageKind) -> Option<Vec<File>> {
    if stage != StageKind::Balancer {
        return None;
    }
    Some(vec![
        file(".gitignore", template!("js/gitignore")),
        file("README.md", template!("js/README.md")),
        file("package.json", template!("js/package.json")),
        file("policy.js", template!("js/balancer.js")),
    ])
}

fn python(stage: StageKind) -> Option<Vec<File>> {
    if stage != StageKind::Balancer {
        return None;
    }
    Some(vec![
        file(".gitignore", template!("python/gitignore")),
        file("README.md", template!("python/README.md")),
        file("requirements.txt", template!("python/requirements.txt")),
        file("policy.py", template!("python/balancer.py")),
    ])
}
