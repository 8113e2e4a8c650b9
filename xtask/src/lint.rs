//! `cargo xtask lint`.

use std::process::Command;

use anyhow::Result;

use crate::provision;
use crate::step::{Steps, cargo, root};
use crate::test::GUESTS;

/// Formatting, clippy, documentation and dependencies, of both workspaces; a warning is an error.
pub(crate) fn run(steps: &mut Steps) -> Result<()> {
    steps.run("formatting", cargo().args(["fmt", "--all", "--check"]))?;
    steps.run("formatting of the policies", cargo().args(["fmt", "--all", "--check", "--manifest-path", GUESTS]))?;
    provision::wasm_toolchain(steps)?;
    let clippy = ["clippy", "--locked", "--workspace", "--all-targets"];
    steps.run("clippy", cargo().args(clippy).args(["--", "-D", "warnings"]))?;
    let guests = ["--manifest-path", GUESTS, "--", "-D", "warnings"];
    steps.run("clippy of the policies", cargo().args(clippy).args(guests))?;
    let doc = ["doc", "--quiet", "--locked", "--workspace", "--no-deps"];
    steps.run("documentation", cargo().args(doc).env("RUSTDOCFLAGS", "-D warnings"))?;
    let deny = provision::cargo_deny(steps)?;
    for workspace in ["Cargo.toml", GUESTS] {
        let mut check = Command::new(&deny);
        check.current_dir(root()).args(["--manifest-path", workspace, "--config"]).arg(root().join("deny.toml"));
        // A version that is skipped in one workspace need not be in the other.
        check.args(["check", "--allow", "unmatched-skip", "--allow", "license-exception-not-encountered", "bans", "licenses", "sources"]);
        steps.run(&format!("bans, licences and sources of {workspace}"), &mut check)?;
    }
    Ok(())
}
