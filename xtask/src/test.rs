//! `cargo xtask test`.

use std::process::Command;

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
    for (title, mut command) in tests(filters) {
        steps.run(title, command.env("RUST_LIB_BACKTRACE", "0"))?;
    }
    if filters.is_empty() {
        steps.run("examples in the documentation", cargo().args(["test", "--quiet", "--locked", "--workspace", "--doc"]))?;
    }
    Ok(())
}

/// With nextest, one run: `.config/nextest.toml` gives load tests the machine to themselves. Without it, they run after the others.
fn tests(filters: &[String]) -> Vec<(&'static str, Command)> {
    let with = |arguments: &[&str]| {
        let mut command = cargo();
        command.args(arguments).args(filters);
        command
    };
    if runs(cargo().args(["nextest", "--version"])) {
        return vec![("tests", with(&["nextest", "run", "--locked", "--workspace"]))];
    }
    let all = ["test", "--locked", "--workspace", "--lib", "--bins", "--tests", "--", "--test-threads", "4"];
    if !filters.is_empty() {
        return vec![("tests", with(&all))];
    }
    let load = ["test", "--locked", "--package", "pointsman-tests", "--test", "e2e", "--", "--test-threads", "1", "load::"];
    vec![("tests but those of load", with(&[&all[..], &["--skip", "load::"]].concat())), ("tests of load, one at a time", with(&load))]
}

/// The policies' own workspace.
pub(crate) const GUESTS: &str = "guest-policies/Cargo.toml";
