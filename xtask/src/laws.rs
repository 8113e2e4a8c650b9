//! `cargo xtask laws`: what the built-in policies promise, held against them, with the numbers.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::provision;
use crate::step::{Steps, cargo, root};
use crate::test::GUESTS;

/// Tests of the policies that hold tables against published ones: Envoy's Maglev and ring hash, Cilium's shares, nginx's round robin and ketama.
const VECTORS: [&str; 6] = [
    "envoys_tables",
    "an_attempts_hash_is_envoys",
    "ciliums_shares",
    "envoys_ring",
    "nginx_sends_these_clients_to_these_servers",
    "the_vector_of_nginx",
];

/// Policies, and the settings that the published numbers are for.
const CHECKED: [(&str, &[&str]); 17] = [
    ("round-robin", &[]),
    ("random", &[]),
    ("least-connections", &[]),
    ("two-choices", &[]),
    ("maglev", &[]),
    ("maglev", &["--setting", "table-size=65537"]),
    ("ring-hash", &[]),
    ("ketama", &[]),
    ("rendezvous", &[]),
    ("bounded-maglev", &[]),
    ("peak-ewma", &[]),
    ("first-available", &[]),
    ("kubernetes", &[]),
    ("prefer-local", &[]),
    ("zone-spill", &[]),
    ("label-selector", &[]),
    ("canary", &[]),
];

/// Checks all of them and prints every number; fails where a law is broken.
pub(crate) fn run(steps: &mut Steps) -> Result<()> {
    provision::wasm_toolchain(steps)?;
    for vector in VECTORS {
        published(steps, vector)?;
    }
    steps.run("build", cargo().args(["build", "--locked", "--bin", "pointsman"]))?;
    let mut broken = Vec::new();
    for (name, settings) in CHECKED {
        let report = check(name, settings)?;
        println!("\n{name} {}", settings.join(" "));
        for case in report["cases"].as_array().into_iter().flatten() {
            let measured = case["metrics"].as_array().into_iter().flatten().map(number).collect::<Vec<_>>().join(", ");
            let verdict = case["verdict"].as_str().unwrap_or_default();
            println!("  {verdict:<8} {:<60} {measured}", case["name"].as_str().unwrap_or_default());
            if verdict == "fails" {
                broken.push(format!("{name}: {}: {}", case["name"], case["findings"]));
            }
        }
        if settings.contains(&"table-size=65537") {
            broken.extend(
                collateral(&report).filter(|collateral| *collateral > 1.0).map(|over| format!("{name}: {over} % collateral at M = 65537")),
            );
        }
    }
    ensure!(broken.is_empty(), "broken: {}", broken.join("; "));
    Ok(())
}

/// Runs the test, and sees to it that there is one: cargo is content with a name that none has.
fn published(steps: &mut Steps, vector: &str) -> Result<()> {
    let arguments = ["test", "--locked", "--workspace", "--manifest-path", GUESTS, vector];
    let said = steps.output(&format!("published: {vector}"), cargo().args(arguments))?;
    ensure!(passed(&said) > 0, "no test is called {vector}: what it holds against published numbers is unchecked");
    Ok(())
}

/// How many tests passed, by the last lines of their binaries: `test result: ok. 1 passed; 0 failed; …`.
fn passed(said: &str) -> u32 {
    let results = said.lines().filter_map(|line| line.strip_prefix("test result: ok. "));
    results.filter_map(|line| line.split_once(" passed")?.0.parse::<u32>().ok()).sum()
}

fn check(name: &str, settings: &[&str]) -> Result<Value> {
    let mut command = Command::new(root().join("target/debug/pointsman"));
    let output = command.args(["policy", "check", name, "--format", "json"]).args(settings).output().context("running pointsman")?;
    serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

fn number(metric: &Value) -> String {
    let mean = metric["values"][0]["mean"].as_f64().unwrap_or_default();
    let rounded = if mean.abs() >= 100.0 { format!("{mean:.0}") } else { format!("{mean:.3}") };
    format!(
        "{} {rounded}{}",
        metric["name"].as_str().unwrap_or_default(),
        metric["unit"].as_str().filter(|unit| !unit.is_empty()).map(|unit| format!(" {unit}")).unwrap_or_default()
    )
}

fn collateral(report: &Value) -> impl Iterator<Item = f64> + '_ {
    let metrics = report["cases"].as_array().into_iter().flatten().flat_map(|case| case["metrics"].as_array().into_iter().flatten());
    metrics.filter(|metric| metric["name"] == "collateral").filter_map(|metric| metric["values"][0]["mean"].as_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_matches_nothing_passes_nothing() {
        let none = "\nrunning 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.00s\n";
        assert_eq!(passed(none), 0);
        assert_eq!(passed(&format!("{none}{}", none.replace("ok. 0", "ok. 2"))), 2);
        assert_eq!(passed(""), 0);
    }
}
