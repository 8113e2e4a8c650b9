//! A large table: 10,000 Services of 10 endpoints each. How long until it is served, and how long until one changed endpoint is in force.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pointsman_tests::http;
use pointsman_tests::metrics::Metrics;
use pointsman_tests::process::Process;

use super::{median_and_most, pointsman, resident_kib};

const SERVICES: usize = 10_000;
const ENDPOINTS: usize = 10;
/// Services in a file: people keep them apart by team or application.
const IN_A_FILE: usize = 100;
/// Endpoints that change, one after the other.
const CHANGES: usize = 30;

/// Measures, and prints what it found.
pub(super) fn run() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("pointsman-services-").tempdir()?;
    for file in 0..SERVICES / IN_A_FILE {
        write(folder.path(), file, 0)?;
    }
    let began = Instant::now();
    let mut process = Process::start("pointsman", pointsman().arg("-f").arg(folder.path()))?;
    let serving = process.wait_for_line("`serving: …`", |line| line.split_once("serving: ").map(|(_, what)| what.to_owned()))?;
    let started = began.elapsed();
    println!(
        "\n{SERVICES} Services of {ENDPOINTS} endpoints: served after {:.2} s ({serving}), {} MiB resident",
        started.as_secs_f64(),
        resident_kib(&process)? / 1024
    );

    let mut waits = Vec::with_capacity(CHANGES);
    for change in 1..=CHANGES {
        let before = generations(&process);
        let written = Instant::now();
        write(folder.path(), change % (SERVICES / IN_A_FILE), change)?;
        while generations(&process) == before {
            anyhow::ensure!(written.elapsed() < Duration::from_secs(10), "a changed endpoint is not in force after 10 s");
            std::thread::sleep(Duration::from_millis(1));
        }
        waits.push(written.elapsed().as_secs_f64() * 1e3);
    }
    let (median, most) = median_and_most(&mut waits);
    println!("one endpoint changed: in force {median:.1} ms after its file was written (median of {CHANGES}; the longest {most:.1} ms)");
    // The host's own time: from when it has read a change to when the workers have the table.
    let admin = process.log().iter().find_map(|line| line.split_once("admin listening on http://")?.1.trim().parse().ok());
    let metrics = Metrics::parse(&http::get(admin.context("the host did not say where its admin port is")?, "/metrics")?.body)?;
    let mean = |name: &str| metrics.sum(&format!("kubeproxy_sync_proxy_rules_duration_seconds_{name}"), &[]);
    let (tables, within) = (mean("count"), metrics.sum("kubeproxy_sync_proxy_rules_duration_seconds_bucket", &[("le", "0.016")]));
    println!("of {tables} tables, {within} were in force within 16 ms of the change being read; the first one is all Services");
    Ok(())
}

/// Tables that the log tells of.
fn generations(process: &Process) -> usize {
    process.log().iter().filter(|line| line.contains("table generation")).count()
}

/// One file; `version` changes one endpoint of its first Service.
fn write(folder: &Path, file: usize, version: usize) -> Result<()> {
    let mut text = String::new();
    for at in 0..IN_A_FILE {
        let service = file * IN_A_FILE + at;
        writeln!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{service}}}\nspec: {{ports: [{{port: 80, targetPort: 8080}}]}}"
        )?;
        write!(
            text,
            "---\napiVersion: v1\nkind: Endpoints\nmetadata: {{name: s{service}}}\nsubsets:\n- ports: [{{port: 8080}}]\n  addresses: ["
        )?;
        for endpoint in 0..ENDPOINTS {
            let last = if at == 0 && endpoint == 0 { 100 + version } else { endpoint };
            write!(text, "{{ip: 10.{}.{}.{}}}, ", 128 + service / 256 / 256, service / 256, (service % 16) * 10 + last)?;
        }
        text.push_str("]\n");
    }
    // Replaced whole, as editors and mounted ConfigMaps do it.
    let (fresh, path) = (folder.join(format!(".{file}")), folder.join(format!("{file}.yaml")));
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, &path).with_context(|| format!("writing {}", path.display()))
}
