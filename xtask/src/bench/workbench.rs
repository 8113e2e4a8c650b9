//! The workbench's two promises of speed: a recording of live decisions replays exactly and quickly, and so does a simulated rolling restart.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pointsman_tests::backend::Backend;
use pointsman_tests::load;
use pointsman_tests::process::Process;
use serde_json::Value;

use super::pointsman;
use crate::step::root;

/// Decisions that are recorded, one for each connection: the answers of three policies.
const DECISIONS: u64 = 1_000_000;
/// Every built-in one.
const BALANCERS: [&str; 11] = [
    "round-robin",
    "random",
    "least-connections",
    "two-choices",
    "maglev",
    "rendezvous",
    "ring-hash",
    "ketama",
    "first-available",
    "peak-ewma",
    "bounded-maglev",
];
const BACKENDS: u8 = 4;
const CLIENTS: u64 = 8;
/// What a simulation is to take at most.
const SIMULATED: Duration = Duration::from_secs(10);
/// And a replay.
const REPLAYED: Duration = Duration::from_secs(5);

/// Measures, prints what it found, and fails if it does not hold.
pub(super) fn run() -> Result<()> {
    simulate()?;
    for balancer in BALANCERS {
        let folder = tempfile::tempdir()?;
        let recording = folder.path().join("day.rec");
        record(folder.path(), &recording, balancer)?;
        replay(&recording, balancer)?;
    }
    Ok(())
}

fn simulate() -> Result<()> {
    for name in ["two-choices", "maglev"] {
        let began = Instant::now();
        let (code, _) = policy(&["sim", name, "-f", "docs/scenarios/rolling-restart.yaml", "--seeds", "32"])?;
        let took = began.elapsed();
        println!("{name}: 32 seeds of a rolling restart of 100 endpoints in {:.1} s", took.as_secs_f64());
        ensure!(code < 2 && took < SIMULATED, "it ended with {code} after {took:?}");
    }
    Ok(())
}

fn record(folder: &Path, recording: &Path, balancer: &str) -> Result<()> {
    let backends = (0..BACKENDS).map(|n| Backend::named([127, 198, 8, 1 + n], &n.to_string())).collect::<Result<Vec<_>>>()?;
    let port = std::net::TcpListener::bind(("127.198.8.9", 0))?.local_addr()?.port();
    let addresses = |backend: &Backend| {
        let address = backend.address();
        format!("- {{addresses: [{{ip: {}}}], ports: [{{port: {}}}]}}\n", address.ip(), address.port())
    };
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: s, annotations: {{pointsman.dev/balancer: {balancer}}}}}\n\
         spec: {{clusterIP: 10.96.8.1, ports: [{{port: {port}}}]}}\n---\napiVersion: v1\nkind: Endpoints\nmetadata: {{name: s}}\nsubsets:\n{}",
        backends.iter().map(addresses).collect::<String>()
    );
    std::fs::write(folder.join("s.yaml"), text)?;
    let mut process =
        Process::start("pointsman", pointsman().args(["--workers", "2", "--record"]).arg(recording).arg("-f").arg(folder.join("s.yaml")))?;
    process.wait_for_line("`serving: …`", |line| line.contains("serving: ").then_some(()))?;
    let address = std::net::SocketAddr::from(([127, 96, 8, 1], port));
    let began = Instant::now();
    let answered = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| answered.fetch_add(load::in_a_row(address, DECISIONS.div_ceil(CLIENTS)).answered(), Ordering::Relaxed));
        }
    });
    let answered = answered.into_inner();
    ensure!(answered >= DECISIONS, "{answered} of {DECISIONS} connections were answered");
    process.signal(nix::sys::signal::Signal::SIGTERM)?;
    process.wait().context("ending pointsman")?;
    let bytes = std::fs::metadata(recording)?.len();
    println!(
        "{balancer}: {answered} connections recorded on two workers, {:.0} a second, {} bytes a connection",
        answered as f64 / began.elapsed().as_secs_f64(),
        bytes / answered
    );
    Ok(())
}

fn replay(recording: &Path, balancer: &str) -> Result<()> {
    let began = Instant::now();
    let (code, report) = policy(&["replay", &recording.display().to_string(), "--format", "json"])?;
    let took = began.elapsed();
    let metric = |name: &str| {
        let metric = report["metrics"].as_array()?.iter().find(|metric| metric["name"] == name)?;
        metric["values"][0]["mean"].as_f64()
    };
    // What is recorded as a decision is the answer of one policy.
    let (answers, differences, left_out) = (metric("decisions").unwrap_or_default(), metric("differences"), metric("left-out"));
    println!("{balancer}: {DECISIONS} decisions, {answers} answers, replayed in {:.1} s: {}", took.as_secs_f64(), report["verdict"]);
    let mut notes = report["notes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let exact = notes.any(|note| note.starts_with("exact"));
    ensure!(code == 0 && exact && differences == Some(0.0) && left_out == Some(0.0), "it ended with {code}: {report:#}");
    ensure!(answers >= 3.0 * DECISIONS as f64, "not every decision is in it: {report:#}");
    ensure!(took < REPLAYED, "{took:?}");
    Ok(())
}

/// Exit status and report.
fn policy(arguments: &[&str]) -> Result<(i32, Value)> {
    let output = Command::new(root().join("target/release/pointsman")).current_dir(root()).arg("policy").args(arguments).output()?;
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Ok((output.status.code().context("it was killed")?, report))
}
