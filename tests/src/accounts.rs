//! The books must balance: what the metrics counted, what the decision log says, and what the clients saw are the same connections.

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::{Engine, poll};

/// Waits until nothing is in flight, then holds the engine to its accounts for `connections` that clients have made.
pub fn balance(engine: &Engine, connections: u64) -> Result<()> {
    let decisions = balance_of_services(engine, connections)?;
    let reached = count(&decisions, |decision| decision["endpoint"].is_string());
    same("connections that reached an endpoint", engine.metrics()?.sum("pointsman_endpoint_connections_total", &[]), reached)
}

/// The same where endpoints came and went: the series of an endpoint that left are gone with it.
pub fn balance_of_services(engine: &Engine, connections: u64) -> Result<Vec<Value>> {
    poll::until("no active connection", || {
        let active = engine.metrics()?.sum("pointsman_endpoint_active", &[]);
        if active == 0.0 { Ok(Some(())) } else { bail!("{active} are active") }
    })?;
    let decisions = engine.decisions_at_least(usize::try_from(connections)?)?;
    let metrics = engine.metrics()?;
    let dropped = metrics.sum("pointsman_decision_log_dropped_total", &[]);
    ensure!(dropped == 0.0, "the decision log dropped {dropped} lines");
    ensure!(decisions.len() as u64 == connections, "{connections} connections made, {} decisions logged", decisions.len());
    same("connections", metrics.sum("pointsman_connections_total", &[]), connections)?;
    for (verdict, counted) in metrics.by("verdict", "pointsman_connections_total", &[]) {
        same(&verdict, counted, count(&decisions, |decision| decision["verdict"] == verdict.as_str()))?;
    }
    for direction in ["in", "out"] {
        let logged = decisions.iter().filter_map(|decision| decision[format!("bytes_{direction}")].as_u64()).sum();
        same(&format!("bytes {direction}"), metrics.sum("pointsman_bytes_total", &[("direction", direction)]), logged)?;
    }
    decisions.iter().try_for_each(complete)?;
    Ok(decisions)
}

fn same(what: &str, counted: f64, logged: u64) -> Result<()> {
    ensure!(counted == logged as f64, "{what}: the metrics say {counted}, the decision log {logged}");
    Ok(())
}

/// A decision names one generation, one outcome, all three stages in their order, and a digest for each stage that was asked.
pub fn complete(decision: &Value) -> Result<()> {
    for field in ["time", "service", "frontend", "address", "client", "origin", "verdict", "outcome"] {
        ensure!(decision[field].is_string(), "no `{field}` in {decision}");
    }
    for field in ["generation", "bytes_in", "bytes_out", "duration_ms", "worker"] {
        ensure!(decision[field].is_number(), "no `{field}` in {decision}");
    }
    let stages = decision["stages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<_> = stages.iter().filter_map(|stage| stage["stage"].as_str()).collect();
    ensure!(names == ["selector", "traffic-policy", "balancer"], "the stages are {names:?} in {decision}");
    for stage in stages {
        let digest = stage["digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:"));
        let asked = stage["choice"].is_string() && digest;
        let said = asked || stage["not_asked"].is_string() || stage["fallback"].is_string();
        ensure!(said, "the stage says neither its choice and digest, nor why it was not asked or failed: {stage}");
    }
    Ok(())
}

fn count(decisions: &[Value], fits: impl Fn(&Value) -> bool) -> u64 {
    decisions.iter().filter(|decision| fits(decision)).count() as u64
}
