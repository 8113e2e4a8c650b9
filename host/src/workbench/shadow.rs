//! What a running host counted of a balancer that is tried beside the one in force, as a report.

use super::metrics::Balance;
use super::report::{Case, Estimate, Kind, Line, Metric, Plot, RANKED, Report, SCHEMA, Subject, Verdict};
use crate::observe::{ShadowSnapshot, SubjectTally};
use crate::table::Canary;

/// An endpoint that was promised less than this says nothing of balance: it has only just come.
const MIN_PROMISED: f64 = 1.0;

/// A comparison.
#[derive(Clone, Debug)]
pub struct Compared<'a> {
    /// The Service, as `namespace/name`.
    pub service: String,
    /// The balancer in force, the candidate.
    pub subjects: [Subject; 2],
    /// The clients that the candidate is in charge of.
    pub canary: Option<Canary>,
    /// Why it no longer is.
    pub rolled_back: Option<&'a str>,
    /// What was counted.
    pub counts: &'a ShadowSnapshot,
    /// What the host allows a decision.
    pub fuel_limit: u64,
}

/// The report of a comparison.
pub fn report(compared: &Compared<'_>) -> Report {
    let tally = &compared.counts.tally;
    let mut cases = vec![faults(&tally.subjects[1]), asked(&tally.subjects[1]), fuel(&tally.subjects[1], compared.fuel_limit)];
    cases.extend(compared.canary.map(|canary| in_force(canary, compared.rolled_back)));
    let fails = cases.iter().any(|case| case.verdict == Verdict::Fails);
    Report {
        schema: SCHEMA.to_owned(),
        kind: if compared.canary.is_some() { Kind::Canary } else { Kind::Shadow },
        subjects: compared.subjects.to_vec(),
        seed: None,
        verdict: if fails { Verdict::Fails } else { Verdict::Holds },
        cases,
        metrics: metrics(compared.counts, compared.canary),
        plots: plots(compared),
        notes: notes(compared),
    }
}

fn faults(candidate: &SubjectTally) -> Case {
    let classes = candidate.faults().filter(|(_, count)| *count > 0);
    let findings = classes.map(|(class, count)| format!("{class}: {count} of {}", connections(of(candidate)))).collect();
    case("the candidate has no faults", candidate, findings)
}

fn asked(candidate: &SubjectTally) -> Case {
    let missed = candidate.not_asked();
    let why = "it could not plan, its breaker was open, or its instance was being made";
    let finding = (missed > 0).then(|| format!("not asked: {missed} of {}: {why}", connections(of(candidate))));
    case("the candidate was always asked", candidate, finding.into_iter().collect())
}

fn fuel(candidate: &SubjectTally, limit: u64) -> Case {
    let used_up = candidate.faults().find(|(class, _)| *class == "out-of-fuel").map_or(0, |(_, count)| count);
    let mut findings = Vec::new();
    if used_up > 0 || candidate.fuel_max > limit {
        findings.push(format!("{} was used by one decision, {limit} is allowed", candidate.fuel_max));
    }
    case("within fuel", candidate, findings)
}

fn in_force(canary: Canary, rolled_back: Option<&str>) -> Case {
    let findings = rolled_back.map(|why| format!("{} is asked for, none is in force: {why}", canary.asked));
    let verdict = if canary.rolled_back() { Verdict::Fails } else { Verdict::Holds };
    Case { name: "the canary is in force".to_owned(), verdict, findings: findings.into_iter().collect(), metrics: Vec::new() }
}

/// Fails where there are findings; without a connection there is nothing to judge by.
fn case(name: &str, candidate: &SubjectTally, mut findings: Vec<String>) -> Case {
    let verdict = match (of(candidate), findings.is_empty()) {
        (0, _) => {
            findings.push("no connection was compared yet".to_owned());
            Verdict::Skipped
        }
        (_, true) => Verdict::Holds,
        (_, false) => Verdict::Fails,
    };
    Case { name: name.to_owned(), verdict, findings, metrics: Vec::new() }
}

fn metrics(counts: &ShadowSnapshot, canary: Option<Canary>) -> Vec<Metric> {
    let tally = &counts.tally;
    let both = |name, unit, value: fn(&SubjectTally) -> f64| metric(name, unit, tally.subjects.iter().map(value).collect());
    let mut metrics = vec![metric("connections", "", vec![tally.connections as f64])];
    metrics.extend(part("moved", tally.moved, tally.compared));
    if let Some(canary) = canary {
        metrics.push(metric("canary-share", "%", vec![f64::from(canary.in_force.millionths()) / 10_000.0]));
        metrics.extend(part("canaries", tally.canaries, tally.connections));
        metrics.extend(part("canaries-failed", tally.failed, tally.canaries));
    }
    metrics.extend(balances(counts));
    if tally.connections > 0 {
        metrics.push(both("no-opinion", "%", |subject| percent(subject.no_opinion, of(subject))));
        metrics.push(both("faulted", "%", |subject| percent(subject.faulted(), of(subject))));
        metrics.push(both("fallback", "%", |subject| percent(of(subject) - subject.answered, of(subject))));
        metrics.push(both("fuel-p50", "fuel", |subject| subject.fuel_quantile(0.5) as f64));
        metrics.push(both("fuel-p99", "fuel", |subject| subject.fuel_quantile(0.99) as f64));
        metrics.push(both("fuel-max", "fuel", |subject| subject.fuel_max as f64));
    }
    metrics
}

/// Of the picks of each, whether they were used or not, by what weights promised.
fn balances(counts: &ShadowSnapshot) -> Vec<Metric> {
    let settled = || counts.endpoints.values().filter(|endpoint| endpoint.promised >= MIN_PROMISED);
    let of = |subject: usize| {
        let loads: Vec<f64> = settled().map(|endpoint| endpoint.picks[subject] as f64 / endpoint.promised).collect();
        Balance::of(&loads)
    };
    let (Some(balancer), Some(candidate)) = (of(0), of(1)) else { return Vec::new() };
    let both = |name, value: fn(Balance) -> f64| metric(name, "", vec![value(balancer), value(candidate)]);
    vec![both("imbalance", |balance| balance.imbalance), both("jain", |balance| balance.jain)]
}

/// What each picked, whether it was used or not, of the endpoints that are there now.
fn plots(compared: &Compared<'_>) -> Vec<Plot> {
    let endpoints = &compared.counts.endpoints;
    if endpoints.values().all(|endpoint| endpoint.picks == [0, 0]) {
        return Vec::new();
    }
    let line = |(n, subject): (usize, &Subject)| {
        Line::ranked(subject.name.clone(), endpoints.values().map(|endpoint| endpoint.picks[n] as f64).collect())
    };
    vec![Plot {
        title: "Picks by endpoint".to_owned(),
        x: RANKED.to_owned(),
        y: "connections".to_owned(),
        logarithmic: false,
        lines: compared.subjects.iter().enumerate().map(line).collect(),
    }]
}

fn notes(compared: &Compared<'_>) -> Vec<String> {
    let Compared { service, subjects: [balancer, candidate], .. } = compared;
    let mut notes = vec![
        format!("Service {service}: {} is in force, {} is tried", balancer.name, candidate.name),
        "counted since the comparison began, on all workers of this host; fuel-p50 and fuel-p99 are rounded up to powers of two".to_owned(),
    ];
    if let Some(canary) = compared.canary {
        notes.push(match compared.rolled_back {
            Some(_) => format!("{} is in charge of no client: it was rolled back, until it or its annotations change", candidate.name),
            None => format!("{} is in charge of {} of the clients", candidate.name, canary.in_force),
        });
    }
    notes
}

/// Connections that a subject was to answer.
fn of(subject: &SubjectTally) -> u64 {
    subject.answered + subject.no_opinion + subject.faulted() + subject.not_asked()
}

fn connections(count: u64) -> String {
    if count == 1 { "1 connection".to_owned() } else { format!("{count} connections") }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// None where there is no whole.
fn part(name: &str, part: u64, whole: u64) -> Option<Metric> {
    (whole > 0).then(|| metric(name, "%", vec![percent(part, whole)]))
}

fn metric(name: &str, unit: &str, values: Vec<f64>) -> Metric {
    Metric { name: name.to_owned(), unit: unit.to_owned(), values: values.into_iter().map(Estimate::exact).collect(), differs: None }
}

#[cfg(test)]
mod tests;
