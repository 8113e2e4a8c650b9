//! What a policy costs, by the number of endpoints: fuel of plans, adoptions and decisions, memory, and time on this machine.

use std::time::Instant;

use pointsman_sdk::native;
use pointsman_sdk::types::Setting;

use super::component::Candidate;
use super::laws::{Bounds, Lab};
use super::report::{Case, Estimate, Line, Metric, Plot, Verdict};
use super::subject::{Answer, Subject};
use crate::policy::Limits;

/// What a decision and a plan may cost.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Fuel of a decision.
    pub decision: u64,
    /// Fuel of a plan.
    pub plan: u64,
    /// Fuel of an adoption.
    pub adoption: u64,
    /// Bytes of memory that a worker's instance may hold.
    pub memory: u64,
}

impl Budget {
    /// What a host with these limits allows.
    pub fn of(limits: &Limits) -> Self {
        Self { decision: limits.hot_fuel, plan: limits.planner_fuel, adoption: limits.adopt_fuel, memory: limits.memory_bytes as u64 }
    }
}

/// Decisions measured for each number of endpoints.
const DECISIONS: u64 = 10_000;

/// One case for each number of endpoints, and fuel over their number. With `timed`, also nanoseconds, which differ from run to run.
///
/// # Errors
/// It is no balancer, or cannot be instantiated.
pub fn measure(
    candidate: &Candidate,
    settings: &[Setting],
    sizes: &[usize],
    budget: Budget,
    seed: u64,
    timed: bool,
) -> anyhow::Result<(Vec<Case>, Plot)> {
    let mut cases = Vec::with_capacity(sizes.len());
    let mut points = Vec::with_capacity(sizes.len());
    for size in sizes {
        let case = one(candidate, settings, *size, budget, seed, timed)?;
        let p99 = case.metrics.iter().find(|metric| metric.name == "fuel-p99").and_then(|metric| metric.values.first());
        points.extend(p99.map(|value| (*size as f64, value.mean)));
        cases.push(case);
    }
    let plot = Plot {
        title: "Fuel of a decision".to_owned(),
        x: "endpoints".to_owned(),
        y: "fuel (99 % are below)".to_owned(),
        logarithmic: true,
        lines: vec![Line { label: candidate.subject().name, points }],
    };
    Ok((cases, plot))
}

fn one(candidate: &Candidate, settings: &[Setting], size: usize, budget: Budget, seed: u64, timed: bool) -> anyhow::Result<Case> {
    let mut subject = candidate.balancer(settings, 1, seed)?;
    let mut case = Case { name: format!("{size} endpoints"), verdict: Verdict::Holds, findings: Vec::new(), metrics: Vec::new() };
    let endpoints = native::endpoints(&vec![1; size]);
    let began = Instant::now();
    if let Err(why) = subject.set_endpoints(&endpoints, 0) {
        case.findings.push(format!("it cannot plan: {why}"));
        case.verdict = Verdict::Fails;
        return Ok(case);
    }
    let planned = began.elapsed();
    let mut unused = |_: usize, _: u64| -> Result<Box<dyn Subject>, String> { Err(String::new()) };
    let connections = Lab::new(&mut unused, seed, Bounds::default()).connections(DECISIONS);
    let mut fuel = Vec::with_capacity(connections.len());
    let began = Instant::now();
    let mut faults = 0_u64;
    for connection in &connections {
        faults += u64::from(matches!(subject.pick(0, connection), Answer::Fault(_)));
        fuel.push(subject.last_fuel());
    }
    let decided = began.elapsed();
    fuel.sort_unstable();
    let quantile = |part: f64| fuel[((fuel.len() - 1) as f64 * part) as usize];
    let spent = subject.trial().spent();
    let measures = [
        ("fuel-p50", "fuel", quantile(0.5), None),
        ("fuel-p99", "fuel", quantile(0.99), None),
        ("fuel-max", "fuel", quantile(1.0), Some(budget.decision)),
        ("plan-fuel", "fuel", spent.plan, Some(budget.plan)),
        ("adopt-fuel", "fuel", spent.adopt, Some(budget.adoption)),
        ("plan-size", "bytes", subject.trial().plan().len() as u64, None),
        ("memory-peak", "bytes", subject.memory_peak(), Some(budget.memory)),
    ];
    for (name, unit, value, budget) in measures {
        case.metrics.push(metric(name, unit, value as f64));
        if let Some(budget) = budget.filter(|budget| value > *budget) {
            case.findings.push(format!("{name} is {value}, and the budget is {budget}"));
        }
    }
    if timed {
        case.metrics.push(metric("decision", "ns", (decided.as_nanos() as f64 / DECISIONS as f64).round()));
        case.metrics.push(metric("plan-and-adopt", "µs", (planned.as_nanos() as f64 / 1e3).round()));
    }
    if faults > 0 {
        let words = subject.take_faults().into_iter().next().unwrap_or_default();
        case.findings.push(format!("{faults} of {DECISIONS} decisions failed: {words}"));
    }
    if !case.findings.is_empty() {
        case.verdict = Verdict::Fails;
    }
    Ok(case)
}

fn metric(name: &str, unit: &str, value: f64) -> Metric {
    Metric { name: name.to_owned(), unit: unit.to_owned(), values: vec![Estimate::exact(value)], differs: None }
}
