//! `cargo xtask test`.

use anyhow::Result;

use crate::provision;
use crate::step::{Steps, cargo, runs};

/// Runs every test, or those whose names match one of the filters.
pub(crate) fn run(steps: &mut Steps, filters: &[String]) -> Result<()> {
    provision::wasm_toolchain(steps)?;
    provision::peers(steps)?;
    steps.run("build, the binary among the rest", cargo().args(["build", "--workspace", "--all-targets", "--locked"]))?;
    if filters.is_empty() {
        let mut guests = cargo();
        steps.run("policies, natively", guests.args(["test", "--quiet", "--locked", "--workspace", "--manifest-path", GUESTS]))?;
    }
    steps.run("tests", tests(filters).env("RUST_LIB_BACKTRACE", "0"))?;
    if filters.is_empty() {
        steps.run("examples in the documentation", cargo().args(["test", "--quiet", "--locked", "--workspace", "--doc"]))?;
    }
    Ok(())
}

fn tests(filters: &[String]) -> std::process::Command {
    let mut command = cargo();
    if runs(cargo().args(["nextest", "--version"])) {
        command.args(["nextest", "run", "--locked", "--workspace"]).args(filters);
    } else {
        // One filter is all that libtest's runner takes from cargo; more go behind the dashes.
        command.args(["test", "--locked", "--workspace", "--lib", "--bins", "--tests", "--", "--test-threads", "4"]).args(filters);
    }
    command
}

/// The policies' own workspace.
pub(crate) const GUESTS: &str = "guest-policies/Cargo.toml";
