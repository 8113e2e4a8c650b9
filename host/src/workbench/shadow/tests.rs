#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use super::*;
use crate::observe::{EndpointPicks, ShadowTally};
use crate::table::Share;

fn subject(name: &str) -> Subject {
    Subject { name: name.to_owned(), digest: Some("sha256:0".to_owned()) }
}

fn canary(asked: u32, in_force: u32) -> Option<Canary> {
    Some(Canary { asked: Share::of_millionths(asked), in_force: Share::of_millionths(in_force), salt: 0 })
}

/// 1,000 connections, 200 of canaries; 400 of 800 that both answered differ. The candidate has everything on one of two endpoints.
fn counts() -> ShadowSnapshot {
    let mut balancer = SubjectTally { answered: 1_000, fuel_max: 90, ..SubjectTally::default() };
    balancer.fuel_buckets[7] = 1_000;
    let mut candidate = SubjectTally { answered: 800, no_opinion: 200, fuel_max: 120, ..SubjectTally::default() };
    candidate.fuel_buckets[7] = 1_000;
    let picks = |balancer, candidate, promised| EndpointPicks { picks: [balancer, candidate], promised };
    ShadowSnapshot {
        tally: ShadowTally { connections: 1_000, canaries: 200, failed: 40, compared: 800, moved: 400, subjects: [balancer, candidate] },
        endpoints: BTreeMap::from([
            ("a:80".into(), picks(500, 800, 500.0)),
            ("b:80".into(), picks(500, 0, 500.0)),
            ("new:80".into(), picks(0, 3, 0.25)),
        ]),
    }
}

fn compared<'a>(counts: &'a ShadowSnapshot, canary: Option<Canary>, rolled_back: Option<&'a str>) -> Compared<'a> {
    let subjects = [subject("round-robin"), subject("maglev")];
    Compared { service: "default/web".to_owned(), subjects, canary, rolled_back, counts, fuel_limit: 50_000 }
}

fn values(report: &Report, name: &str) -> Vec<f64> {
    let metric = report.metrics.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("no {name} in {report:?}"));
    metric.values.iter().map(|value| value.mean).collect()
}

fn verdicts(report: &Report) -> Vec<(&str, Verdict)> {
    report.cases.iter().map(|case| (case.name.as_str(), case.verdict)).collect()
}

#[test]
fn a_shadow_that_is_sound_holds_however_much_it_differs() {
    let report = report(&compared(&counts(), None, None));
    assert_eq!((report.kind, report.verdict), (Kind::Shadow, Verdict::Holds));
    assert_eq!(values(&report, "moved"), [50.0]);
    assert_eq!(values(&report, "imbalance"), [1.0, 2.0], "an endpoint that has just come is left out");
    assert_eq!(values(&report, "jain"), [1.0, 0.5]);
    let lines: Vec<_> = report.plots[0].lines.iter().map(|line| (line.label.as_str(), line.points.clone())).collect();
    let picks = |counts: [f64; 3]| vec![(0.0, counts[0]), (50.0, counts[1]), (100.0, counts[2])];
    assert_eq!(lines, [("round-robin", picks([500.0, 500.0, 0.0])), ("maglev", picks([800.0, 3.0, 0.0]))], "the busiest first");
    assert_eq!(values(&report, "no-opinion"), [0.0, 20.0]);
    assert_eq!(values(&report, "faulted"), [0.0, 0.0]);
    assert_eq!(values(&report, "fallback"), [0.0, 20.0]);
    assert_eq!((values(&report, "fuel-p99"), values(&report, "fuel-max")), (vec![90.0, 120.0], vec![90.0, 120.0]));
    let holds = ["the candidate has no faults", "the candidate was always asked", "within fuel"].map(|name| (name, Verdict::Holds));
    assert_eq!(verdicts(&report), holds);
    assert!(!report.metrics.iter().any(|metric| metric.name.contains("canar")));
}

#[test]
fn a_candidate_that_fails_does_not_hold() {
    let mut counts = counts();
    let candidate = &mut counts.tally.subjects[1];
    (candidate.faults[0], candidate.faults[2], candidate.faults[6], candidate.fuel_max) = (2, 1, 97, 50_000);
    let report = report(&compared(&counts, None, None));
    assert_eq!(report.verdict, Verdict::Fails);
    assert_eq!(report.cases[0].findings, ["trap: 2 of 1100 connections", "out-of-fuel: 1 of 1100 connections"]);
    assert!(report.cases[1].findings[0].starts_with("not asked: 97 of 1100 connections: "));
    assert_eq!(report.cases[2].findings, ["50000 was used by one decision, 50000 is allowed"]);
    assert_eq!(values(&report, "faulted")[1], 3.0 * 100.0 / 1_100.0);
}

#[test]
fn a_canary_holds_while_it_is_in_force() {
    let counts = counts();
    let held = report(&compared(&counts, canary(200_000, 200_000), None));
    assert_eq!((held.kind, held.verdict), (Kind::Canary, Verdict::Holds));
    assert_eq!((values(&held, "canary-share"), values(&held, "canaries")), (vec![20.0], vec![20.0]));
    assert_eq!(values(&held, "canaries-failed"), [20.0]);
    let back = report(&compared(&counts, canary(200_000, 0), Some("its breaker opened")));
    assert_eq!(back.verdict, Verdict::Fails);
    let case = back.cases.last().unwrap();
    assert_eq!(case.findings, ["20% is asked for, none is in force: its breaker opened"]);
    assert_eq!(values(&back, "canary-share"), [0.0]);
}

#[test]
fn without_a_connection_there_is_nothing_to_judge_by() {
    let nothing = ShadowSnapshot::default();
    let report = report(&compared(&nothing, canary(200_000, 200_000), None));
    assert_eq!(report.verdict, Verdict::Holds);
    assert!(report.cases[..3].iter().all(|case| case.verdict == Verdict::Skipped), "{:?}", report.cases);
    assert_eq!(report.metrics.iter().map(|metric| metric.name.as_str()).collect::<Vec<_>>(), ["connections", "canary-share"]);
}
