//! What a policy costs, by the number of endpoints: fuel of plans, adoptions and decisions, memory, and time on this machine.

use std::time::Instant;

use pointsman_sdk::native;
use pointsman_sdk::types::{Connection, Label, Locality, Setting};

use super::component::Candidate;
use super::laws::{Bounds, Lab};
use super::metrics::quantile;
use super::report::{Case, Estimate, Line, Metric, Plot, Verdict};
use super::subject::Subject;
use crate::policy::Limits;
use crate::policy::contract::{Fault, StageKind};
use crate::policy::trial::{Cost, SelectorTrial, TrafficPolicyTrial, Trial};

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
/// As numbers are named, and lines labelled.
const DECISION: &str = "fuel-p99";
const PLAN: &str = "plan-fuel";
const CLASSIFY: &str = "classify-fuel";
const ADOPT: &str = "adopt-fuel";

/// A policy of any stage, as far as its calls are counted.
trait Counted {
    /// Has it plan, for so many endpoints, and adopt the plan. Says the fuel of sorting them into groups, of a selector.
    fn meet(&mut self, endpoints: usize) -> Result<Option<u64>, Fault>;

    /// Asks it about a connection.
    fn ask(&mut self, connection: &Connection) -> Result<(), Fault>;

    fn cost(&self) -> Cost;
}

impl Counted for Trial {
    fn meet(&mut self, endpoints: usize) -> Result<Option<u64>, Fault> {
        self.set_endpoints(&native::endpoints(&vec![1; endpoints])).map(|()| None)
    }

    fn ask(&mut self, connection: &Connection) -> Result<(), Fault> {
        self.pick(0, connection).map(drop)
    }

    fn cost(&self) -> Cost {
        self.cost()
    }
}

impl Counted for TrafficPolicyTrial {
    fn meet(&mut self, endpoints: usize) -> Result<Option<u64>, Fault> {
        self.plan(&native::endpoints(&vec![1; endpoints])).map(|_| None)
    }

    fn ask(&mut self, connection: &Connection) -> Result<(), Fault> {
        self.choose(connection).map(drop)
    }

    fn cost(&self) -> Cost {
        self.cost()
    }
}

impl Counted for SelectorTrial {
    fn meet(&mut self, endpoints: usize) -> Result<Option<u64>, Fault> {
        self.plan()?;
        let mut fuel = 0;
        for pod in 0..endpoints {
            self.classify(&pod_labels(pod))?;
            fuel += self.cost().spent.classify;
        }
        Ok(Some(fuel))
    }

    fn ask(&mut self, connection: &Connection) -> Result<(), Fault> {
        self.choose(connection).map(drop)
    }

    fn cost(&self) -> Cost {
        self.cost()
    }
}

/// Labels as pods of a Deployment have them.
fn pod_labels(pod: usize) -> Vec<Label> {
    let pairs = [
        ("app", "web".to_owned()),
        ("app.kubernetes.io/name", "web".to_owned()),
        ("app.kubernetes.io/version", format!("v{}", pod % 2 + 1)),
        ("pod-template-hash", format!("{:08x}", pod % 2)),
        ("tier", "front".to_owned()),
    ];
    pairs.map(|(key, value)| Label { key: key.to_owned(), value }).into()
}

/// One case for each number of endpoints, and fuel over their number. With `timed`, also nanoseconds, which differ from run to run.
///
/// # Errors
/// It cannot be instantiated.
pub fn measure(
    candidate: &Candidate,
    settings: &[Setting],
    sizes: &[usize],
    budget: Budget,
    seed: u64,
    timed: bool,
) -> anyhow::Result<(Vec<Case>, Plot)> {
    let mut cases = Vec::with_capacity(sizes.len());
    for size in sizes {
        let mut subject: Box<dyn Counted> = match candidate.stage() {
            StageKind::Balancer => Box::new(candidate.balancer_trial(settings, 1, seed)?),
            StageKind::TrafficPolicy => Box::new(candidate.traffic_policy(settings, Locality::Cluster)?),
            StageKind::Selector => Box::new(candidate.selector(settings)?),
        };
        cases.push(one(&mut *subject, *size, budget, seed, timed));
    }
    let line = |(name, label): (&str, &str)| {
        let value = |case: &Case| case.metrics.iter().find(|metric| metric.name == name)?.values.first().map(|value| value.mean);
        let points = sizes.iter().zip(&cases).filter_map(|(size, case)| Some((*size as f64, value(case)?))).collect();
        Line { label: label.to_owned(), points }
    };
    let lines = [(DECISION, "a decision (99 % are below)"), (PLAN, "a plan"), (CLASSIFY, "all pods into groups"), (ADOPT, "an adoption")];
    let plot = Plot {
        title: "Fuel by the number of endpoints".to_owned(),
        x: "endpoints".to_owned(),
        y: "fuel".to_owned(),
        logarithmic: true,
        lines: lines.map(line).into_iter().filter(|line| !line.points.is_empty()).collect(),
    };
    Ok((cases, plot))
}

fn one(subject: &mut dyn Counted, size: usize, budget: Budget, seed: u64, timed: bool) -> Case {
    let mut case = Case { name: format!("{size} endpoints"), verdict: Verdict::Holds, findings: Vec::new(), metrics: Vec::new() };
    let began = Instant::now();
    let classified = match subject.meet(size) {
        Ok(classified) => classified,
        Err(why) => {
            case.findings.push(format!("it cannot plan: {why}"));
            case.verdict = Verdict::Fails;
            return case;
        }
    };
    let planned = began.elapsed();
    let mut unused = |_: usize, _: u64| -> Result<Box<dyn Subject>, String> { Err(String::new()) };
    let connections = Lab::new(&mut unused, seed, Bounds::default()).connections(DECISIONS);
    let mut fuel = Vec::with_capacity(connections.len());
    let began = Instant::now();
    let (mut faults, mut first) = (0_u64, None);
    for connection in &connections {
        if let Err(fault) = subject.ask(connection) {
            faults += 1;
            first.get_or_insert(fault);
        }
        fuel.push(subject.cost().spent.decision);
    }
    let decided = began.elapsed();
    let mut quantile = |part: f64| quantile(&mut fuel, part);
    let Cost { spent, plan_bytes, memory_peak } = subject.cost();
    let measures = [
        ("fuel-p50", "fuel", quantile(0.5), None),
        (DECISION, "fuel", quantile(0.99), None),
        ("fuel-max", "fuel", quantile(1.0), Some(budget.decision)),
        (PLAN, "fuel", Some(spent.plan), Some(budget.plan)),
        // A call for each pod, with the planner's fuel each.
        (CLASSIFY, "fuel", classified, None),
        (ADOPT, "fuel", Some(spent.adopt), Some(budget.adoption)),
        ("plan-size", "bytes", Some(plan_bytes), None),
        ("memory-peak", "bytes", Some(memory_peak), Some(budget.memory)),
    ];
    for (name, unit, value, budget) in measures {
        let Some(value) = value else { continue };
        case.metrics.push(metric(name, unit, value as f64));
        let Some(budget) = budget else { continue };
        case.metrics.push(metric(&format!("{name}-budget"), unit, budget as f64));
        if value > budget {
            case.findings.push(format!("{name} is {value}, and the budget is {budget}"));
        }
    }
    if timed {
        case.metrics.push(metric("decision", "ns", (decided.as_nanos() as f64 / DECISIONS as f64).round()));
        case.metrics.push(metric("plan-and-adopt", "µs", (planned.as_nanos() as f64 / 1e3).round()));
    }
    if let Some(fault) = first {
        case.findings.push(format!("{faults} of {DECISIONS} decisions failed: {fault}"));
    }
    if !case.findings.is_empty() {
        case.verdict = Verdict::Fails;
    }
    case
}

fn metric(name: &str, unit: &str, value: f64) -> Metric {
    Metric { name: name.to_owned(), unit: unit.to_owned(), values: vec![Estimate::exact(value)], differs: None }
}
