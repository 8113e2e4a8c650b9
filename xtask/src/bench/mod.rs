//! `cargo xtask bench …`: measurements that need servers. What is printed is this machine's, on this day; ratios travel better.

mod connections;
mod services;
mod storm;
mod workbench;

use std::process::Command;

use anyhow::{Context, Result};
use pointsman_tests::process::Process;

use crate::provision;
use crate::step::{Steps, cargo, root};

/// Runs the measurements of this name, or all.
pub(crate) fn run(steps: &mut Steps, which: Option<&str>) -> Result<()> {
    provision::bench(steps)?;
    steps.run("build the release binary", cargo().args(["build", "--release", "--package", "pointsman"]))?;
    let wanted = |name: &str| which.is_none_or(|which| which == name);
    if wanted("connections") {
        connections::run()?;
    }
    if wanted("services") {
        services::run()?;
    }
    if wanted("storm") {
        storm::run()?;
    }
    if wanted("workbench") {
        workbench::run()?;
    }
    Ok(())
}

/// The names that [`run`] knows.
pub(crate) const NAMES: [&str; 4] = ["connections", "services", "storm", "workbench"];

/// The release binary, about to run on loopback addresses.
fn pointsman() -> Command {
    let mut command = Command::new(root().join("target/release/pointsman"));
    command.args(["run", "--vip-mode", "loopback", "--admin", "127.0.0.1:0", "--node-name", "bench"]);
    command
}

/// Resident memory of a process, in KiB.
fn resident_kib(process: &Process) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc/PID/status")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// The middle one and the largest.
fn median_and_most(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    (values.get(values.len() / 2).copied().unwrap_or_default(), values.last().copied().unwrap_or_default())
}
