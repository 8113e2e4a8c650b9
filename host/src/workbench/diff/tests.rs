#![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]

use std::path::Path;

use super::*;
use crate::workbench::fixture::{Filled, SANDBOX, Studio, all, component, file, open};
use pointsman_sdk::native;

const ENDPOINTS: u32 = 10;

/// A host with one Service of ten endpoints, of which one leaves after half of the connections.
fn recorded(path: &Path, balancer: &str) {
    let mut studio = Studio::new(path, all(), 2);
    let filled = Filled { service: 0, selector: "label-selector", traffic_policy: "kubernetes", balancer, stand_in: None };
    let mut endpoints = native::endpoints(&[1; ENDPOINTS as usize]);
    endpoints.iter_mut().for_each(|endpoint| endpoint.group = Some(0));
    studio.plan(filled, &endpoints);
    for half in 0..2 {
        for n in 0..3_000 {
            studio.connect(n % 2, 0, 100).unwrap();
            if n % 20 == 19 {
                studio.close_some(if n > 200 { 20 } else { 10 });
            }
        }
        if half == 0 {
            endpoints.pop();
            studio.plan(filled, &endpoints);
        }
    }
    studio.end();
}

fn compared(path: &Path, a: Option<&str>, b: &str, closed_loop: bool) -> Report {
    let candidate = |name| Candidate { name, bytes: component(name), runtime: Runtime::Normal };
    let comparison =
        Comparison { a: a.map(candidate), b: Candidate { name: b, bytes: component(b), runtime: Runtime::Normal }, closed_loop };
    diff(&open(path), &SANDBOX, &comparison, &mut |_, _| {}).unwrap()
}

/// The values of a metric, side by side.
fn values(report: &Report, name: &str) -> Vec<f64> {
    let metric = report.metrics.iter().find(|metric| metric.name == name).unwrap();
    metric.values.iter().map(|value| value.mean).collect()
}

fn has(report: &Report, name: &str) -> bool {
    report.metrics.iter().any(|metric| metric.name == name)
}

#[test]
fn two_choices_instead_of_maglev_loses_affinity_and_gains_balance() {
    let folder = tempfile::tempdir().unwrap();
    recorded(&file(&folder), "maglev");
    let report = compared(&file(&folder), None, "two-choices", true);
    assert_eq!(report.subjects[0].name, "recorded");
    assert_eq!(values(&report, "connections"), [6_000.0, 6_000.0]);
    let affinity = values(&report, "affinity-kept");
    assert!(affinity[0] > 99.0 && affinity[1] < 30.0, "{affinity:?}");
    let imbalance = values(&report, "imbalance");
    assert!(imbalance[1] < imbalance[0] && imbalance[1] < 1.2, "{imbalance:?}");
    assert!(report.metrics.iter().all(|metric| metric.differs.is_none()), "what was measured once is no difference: {report:?}");
    assert!(!has(&report, "fuel-p50") && values(&report, "b-fuel-p50").len() == 1, "what was recorded has none");
    let titles: Vec<_> = report.plots.iter().map(|plot| (plot.title.as_str(), plot.lines.len())).collect();
    assert_eq!(titles, [("Picks by endpoint", 2), ("In-flight gap over time", 2)]);
    let picks = &report.plots[0].lines[0].points;
    assert!(picks.len() == 10 && picks.windows(2).all(|pair| pair[0].1 >= pair[1].1), "the largest first: {picks:?}");
    assert_eq!(picks.iter().map(|(_, count)| count).sum::<f64>(), 6_000.0);
    let gap = values(&report, "in-flight-gap");
    assert!(gap[1] < gap[0], "{gap:?}");
    assert_eq!(report.verdict, Verdict::Holds);
    assert_eq!(report, compared(&file(&folder), None, "two-choices", true), "the same bytes on every run");
}

#[test]
fn the_loops_are_labelled_and_never_mixed() {
    let folder = tempfile::tempdir().unwrap();
    recorded(&file(&folder), "maglev");
    let open_loop = compared(&file(&folder), None, "two-choices", false);
    assert!(open_loop.notes[0].starts_with("open loop: "), "{:?}", open_loop.notes);
    assert!(
        open_loop.notes[1].contains("two-choices reads `load`") && open_loop.notes[1].contains("--closed-loop"),
        "{:?}",
        open_loop.notes
    );
    assert!(!has(&open_loop, "in-flight-gap") && open_loop.plots.len() == 1);
    let closed = compared(&file(&folder), None, "two-choices", true);
    assert!(closed.notes[0].starts_with("closed loop: ") && closed.notes.len() == 1, "{:?}", closed.notes);
    let stateless = compared(&file(&folder), None, "rendezvous", false);
    assert_eq!(stateless.notes.len(), 1, "it reads no load: {:?}", stateless.notes);
}

#[test]
fn the_same_balancer_moves_nobody() {
    let folder = tempfile::tempdir().unwrap();
    recorded(&file(&folder), "maglev");
    for (a, closed_loop) in [(None, false), (None, true), (Some("maglev"), false), (Some("maglev"), true)] {
        let report = compared(&file(&folder), a, "maglev", closed_loop);
        assert_eq!((values(&report, "moved-connections"), values(&report, "moved-clients")), (vec![0.0], vec![0.0]));
        for name in ["imbalance", "jain", "affinity-kept", "disruption", "collateral"] {
            let values = values(&report, name);
            assert_eq!(values[0], values[1], "{name}");
        }
    }
}

/// Rendezvous hashing moves the clients of the endpoint that left, and nobody else.
#[test]
fn disruption_is_told_from_collateral() {
    let folder = tempfile::tempdir().unwrap();
    recorded(&file(&folder), "rendezvous");
    let report = compared(&file(&folder), None, "round-robin", false);
    let (disruption, collateral) = (values(&report, "disruption"), values(&report, "collateral"));
    assert!(disruption[0] > 0.0 && disruption[0] < 25.0, "one of ten left: {disruption:?}");
    assert_eq!(collateral[0], 0.0, "monotone");
    assert!(collateral[1] > 50.0, "{collateral:?}");
    let (minimal, kept) = (values(&report, "minimal"), values(&report, "affinity-kept"));
    assert_eq!(disruption[0], minimal[0]);
    assert!(kept[0] > 98.0 && kept[0] < 100.0, "the clients of the endpoint that left, once each: {kept:?}");
}

#[test]
fn what_is_no_balancer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    recorded(&file(&folder), "maglev");
    let b = Candidate { name: "kubernetes", bytes: component("kubernetes"), runtime: Runtime::Normal };
    let error = diff(&open(&file(&folder)), &SANDBOX, &Comparison { a: None, b, closed_loop: false }, &mut |_, _| {}).unwrap_err();
    assert_eq!(error.to_string(), "kubernetes is a traffic-policy: only balancers can be compared on recorded connections");
}

#[test]
fn a_balancer_that_faults_fails() {
    let folder = tempfile::tempdir().unwrap();
    recorded(&file(&folder), "maglev");
    let report = compared(&file(&folder), None, "always-trap", false);
    assert_eq!(report.verdict, Verdict::Fails);
    assert!(
        report.cases[0].findings[0].starts_with("always-trap: not-asked") || report.cases[0].findings[0].contains("trap"),
        "{report:?}"
    );
}

/// An endpoint without weight holds nothing, and does not make the others look overloaded.
#[test]
fn the_gap_is_by_weight() {
    let folder = tempfile::tempdir().unwrap();
    let mut studio = Studio::new(&file(&folder), all(), 1);
    let mut endpoints = native::endpoints(&[2, 1, 1, 0]);
    endpoints.iter_mut().for_each(|endpoint| endpoint.group = Some(0));
    let filled = Filled { service: 0, selector: "label-selector", traffic_policy: "kubernetes", balancer: "round-robin", stand_in: None };
    studio.plan(filled, &endpoints);
    (0..400).for_each(|_| drop(studio.connect(0, 0, 100).unwrap()));
    studio.end();
    let report = compared(&file(&folder), None, "round-robin", true);
    let gap = values(&report, "in-flight-gap-max");
    assert!(gap[0] <= 1.0 && gap[1] <= 1.0, "in turn, by weight: {gap:?}");
}
