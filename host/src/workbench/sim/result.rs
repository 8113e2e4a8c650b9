//! What the runs of a scenario say together.

use super::observe::{METRICS, Moment, Summary};
use super::scenario::{Expectation, Scenario};
use crate::workbench::metrics::{MIN_SEEDS, differs, estimate};
use crate::workbench::report::{Case, Estimate, Kind, Line, Metric, Plot, RANKED, RANKS, Report, SCHEMA, Subject, Verdict};

/// Parts of the requests for which it is said how long they waited at most: all but one in 10, 20, 50, …
pub(super) const WAIT_PARTS: [f64; 13] = [0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999];

/// Points of a plot over time; more are averaged.
const MOMENTS: usize = 200;

/// The report of all runs, by subject and seed.
pub(super) fn report(scenario: &Scenario, subjects: &[Subject], runs: &[Vec<Summary>], seeds: u32, seed: u64) -> Report {
    let metrics = metrics(runs);
    let cases: Vec<Case> = scenario.expect.iter().map(|expectation| case(expectation, subjects, &metrics, seeds, seed)).collect();
    let holds = cases.iter().all(|case| case.verdict != Verdict::Fails);
    Report {
        schema: SCHEMA.to_owned(),
        kind: Kind::Sim,
        subjects: subjects.to_vec(),
        seed: Some(seed),
        verdict: if holds { Verdict::Holds } else { Verdict::Fails },
        cases,
        metrics,
        plots: plots(subjects, runs),
        notes: notes(subjects, seeds),
    }
}

fn metrics(runs: &[Vec<Summary>]) -> Vec<Metric> {
    let measured = METRICS.iter().enumerate().filter_map(|(n, metric)| {
        let of = |runs: &Vec<Summary>| estimate(&runs.iter().filter_map(|run| run.values[n]).collect::<Vec<_>>());
        let values: Vec<Estimate> = runs.iter().map(of).collect::<Option<_>>()?;
        let differs = differs(&values);
        Some(Metric { name: metric.name.to_owned(), unit: metric.unit.to_owned(), values, differs })
    });
    measured.collect()
}

/// Held against the first subject: the others are what it is compared with.
fn case(expectation: &Expectation, subjects: &[Subject], metrics: &[Metric], seeds: u32, seed: u64) -> Case {
    let metric = metrics.iter().find(|metric| metric.name == expectation.metric);
    let bounds =
        [expectation.at_least.map(|bound| format!("at least {bound}")), expectation.at_most.map(|bound| format!("at most {bound}"))];
    let wanted = bounds.into_iter().flatten().collect::<Vec<_>>().join(" and ");
    let name = format!("{} {wanted}", expectation.metric);
    let Some((metric, value)) = metric.and_then(|metric| Some((metric, metric.values.first()?))) else {
        let finding = format!("{} was not measured: nothing in the scenario shows it", expectation.metric);
        return Case { name, verdict: Verdict::Fails, findings: vec![finding], metrics: Vec::new() };
    };
    let holds = expectation.at_most.is_none_or(|most| value.mean <= most) && expectation.at_least.is_none_or(|least| value.mean >= least);
    let subject = subjects.first().map_or("", |subject| subject.name.as_str());
    let finding =
        format!("{subject}: {} is {} and must be {wanted}; see it again with --seeds {seeds} --seed {seed}", metric.name, value.mean);
    Case {
        name,
        verdict: if holds { Verdict::Holds } else { Verdict::Fails },
        findings: if holds { Vec::new() } else { vec![finding] },
        metrics: vec![metric.clone()],
    }
}

fn notes(subjects: &[Subject], seeds: u32) -> Vec<String> {
    let mut notes = vec!["closed-loop: the load of endpoints follows from the subject's own choices".to_owned()];
    if subjects.len() > 1 && seeds < MIN_SEEDS {
        notes.push(format!("{seeds} seeds are too few to say what differs; take at least {MIN_SEEDS}"));
    }
    notes
}

/// Of the runs of one subject.
type Points<'a> = dyn Fn(&[Summary]) -> Vec<(f64, f64)> + 'a;

fn plots(subjects: &[Subject], runs: &[Vec<Summary>]) -> Vec<Plot> {
    let plot = |title: &str, x: &str, y: &str, logarithmic, points: &Points<'_>| {
        let lines = subjects.iter().zip(runs).map(|(subject, runs)| Line { label: subject.name.clone(), points: points(runs) });
        let lines: Vec<Line> = lines.filter(|line| !line.points.is_empty()).collect();
        (!lines.is_empty()).then(|| Plot { title: title.to_owned(), x: x.to_owned(), y: y.to_owned(), logarithmic, lines })
    };
    let gap = |runs: &[Summary]| over_time(runs, |moments| mean(moments.iter().map(|moment| moment.gap)));
    let kept = |runs: &[Summary]| {
        over_time(runs, |moments| {
            let (kept, returning) = moments.iter().fold((0, 0), |(kept, all), moment| (kept + moment.kept, all + moment.returning));
            (returning > 0).then(|| kept as f64 / returning as f64 * 100.0)
        })
    };
    let plots = [
        plot("In-flight gap over time", "time (s)", "most loaded endpoint above the mean (connections)", false, &gap),
        plot("Load by endpoint", RANKED, "picks / picks expected by weight", false, &loads),
        plot("Affinity over time", "time (s)", "returning clients that went where they were (%)", false, &kept),
        plot("Waiting to be served", "one request in …", "waits at least (ms)", true, &waits),
    ];
    plots.into_iter().flatten().collect()
}

/// The mean over runs of something in each part of the time.
fn over_time(runs: &[Summary], value: impl Fn(&[Moment]) -> Option<f64>) -> Vec<(f64, f64)> {
    let Some(first) = runs.first() else { return Vec::new() };
    let moments = first.over_time.len();
    let width = moments.div_ceil(MOMENTS).max(1);
    let interval = first.sample.as_secs_f64();
    let point = |from: usize| {
        let to = (from + width).min(moments);
        let values = runs.iter().filter_map(|run| value(run.over_time.get(from..to)?));
        Some((to as f64 * interval, mean(values)?))
    };
    (0..moments).step_by(width).filter_map(point).collect()
}

/// The mean over runs of the load at each rank, with ranks in percent, so that runs may have different numbers of endpoints.
fn loads(runs: &[Summary]) -> Vec<(f64, f64)> {
    let runs: Vec<&Summary> = runs.iter().filter(|run| !run.loads.is_empty()).collect();
    let most = runs.iter().map(|run| run.loads.len()).max().unwrap_or(0);
    let points = most.min(RANKS + 1);
    let point = |n: usize| {
        let part = n as f64 / (points - 1).max(1) as f64;
        let values = runs.iter().map(|run| run.loads[(part * (run.loads.len() - 1) as f64).round() as usize]);
        Some((part * 100.0, mean(values)?))
    };
    (0..points).filter_map(point).collect()
}

/// How long one request in so many waits, at least. What waits no time has no place on the axes.
fn waits(runs: &[Summary]) -> Vec<(f64, f64)> {
    let point = |(n, part): (usize, &f64)| {
        let wait = mean(runs.iter().filter_map(|run| run.waits.get(n).copied()))?;
        (wait > 0.0).then_some((1.0 / (1.0 - part), wait))
    };
    WAIT_PARTS.iter().enumerate().filter_map(point).collect()
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}
