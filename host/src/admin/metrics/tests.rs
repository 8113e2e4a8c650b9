#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::observe::{EndpointSnapshot, FallbackKey, ServiceSnapshot, ShadowSnapshot, ShadowTally, Tally};
use crate::policy::contract::StageKind;
use crate::table::{PolicyVersion, VersionId};

fn policy(id: u32, digest: &str, answered: u64, breaker: BreakerState) -> PolicyCounters {
    let version = PolicyVersion { id: VersionId(id), name: "round-robin".into(), digest: digest.into() };
    let mut counters = PolicyCounters::new(Arc::new(version), StageKind::Balancer);
    counters.answered = answered;
    counters.no_opinion = 1;
    counters.faults[0] = 2;
    counters.fuel_total = 10 * answered;
    counters.fuel_max = 8 + answered;
    counters.memory_peak_bytes = 65_536;
    counters.breaker = breaker;
    counters
}

fn shadow(name: &str, canary: Option<CanaryStatus>) -> ShadowStatus {
    let text = str::to_owned;
    let (namespace, name, balancer, candidate) = (text("default"), text(name), text("round-robin"), text("maglev"));
    ShadowStatus { namespace, name, balancer, candidate, digest: None, canary }
}

fn canary(share: f64, rollbacks: u64) -> CanaryStatus {
    CanaryStatus { asked: "5%".to_owned(), in_force: "5%".to_owned(), share, rolled_back: None, rollbacks }
}

/// Ten connections, two of canaries, one of which the candidate lost.
fn compared() -> ShadowSnapshot {
    let balancer = SubjectTally { answered: 10, ..SubjectTally::default() };
    let candidate = SubjectTally { answered: 6, no_opinion: 1, faults: [1, 0, 0, 0, 0, 0, 2], ..SubjectTally::default() };
    let tally = ShadowTally { connections: 10, canaries: 2, failed: 1, compared: 6, moved: 4, subjects: [balancer, candidate] };
    ShadowSnapshot { tally, endpoints: BTreeMap::new() }
}

fn small() -> Metrics {
    let shadow_key = ShadowKey { namespace: "default".into(), service: "web".into() };
    let key = ServiceKey { namespace: "default".into(), service: "web".into(), port: "http".into() };
    let tally = Tally { accepted: 7, rejected: 1, closed: 4, reset: 1, active: 1, bytes_in: 100, bytes_out: 200, ..Tally::default() };
    let endpoint = EndpointSnapshot { connections: 6, active: 1, failures: [3, 0, 0, 0], ..EndpointSnapshot::default() };
    let service = ServiceSnapshot { tally, endpoints: BTreeMap::from([("10.0.0.1:80".into(), endpoint)]), ..ServiceSnapshot::default() };
    let fallback = |reason, by| FallbackKey { policy: "round-robin".into(), stage: StageKind::Balancer, reason, by };
    let traffic = Snapshot {
        accept_errors: BTreeMap::from([("files", 5)]),
        fallbacks: BTreeMap::from([(fallback("no-opinion", "native"), 2), (fallback("trap", "stand-in"), 4)]),
        services: BTreeMap::from([(key, service)]),
        shadows: BTreeMap::from([(shadow_key, compared())]),
        ..Snapshot::default()
    };
    let mut sync =
        Sync { last: 1.5, last_queued: 1.25, service_changes: 3, endpoint_changes: 2, no_local_endpoints: [0, 1], ..Sync::default() };
    sync.took(std::time::Duration::from_millis(3));
    Metrics {
        generation: 42,
        listeners: 8,
        traffic,
        policies: vec![policy(1, "sha256:aa", 3, BreakerState::Closed), policy(1, "sha256:aa", 4, BreakerState::Open)],
        shadows: vec![shadow("web", Some(canary(0.05, 0))), shadow("shop", None), shadow("cart", Some(canary(0.0, 2)))],
        swaps: vec![SwapCount { policy: "mine".to_owned(), result: "swapped", count: 1 }],
        probes: vec![ProbeCount { kind: "container", result: "success", count: 9 }],
        health: ProbeCounts { healthz: BTreeMap::from([(200, 4), (503, 1)]), livez: BTreeMap::new() },
        sync,
        decision_log_written: 6,
        decision_log_dropped: 1,
        recording_dropped: 8,
    }
}

#[test]
fn a_small_snapshot_reads_as_it_always_did() {
    let text = text(small()).unwrap().replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let golden = include_str!("golden.txt");
    for (at, (line, wanted)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(line, wanted, "line {}", at + 1);
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}

#[test]
fn a_version_that_came_back_has_one_series() {
    let policies = vec![
        policy(1, "sha256:aa", 3, BreakerState::Closed),
        policy(2, "sha256:bb", 5, BreakerState::Closed),
        policy(3, "sha256:aa", 4, BreakerState::Closed),
    ];
    let text = text(Metrics { policies, ..Metrics::default() }).unwrap();
    let mut series: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().0).collect();
    let all = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), all);
    assert!(text.contains(r#"pointsman_policy_fuel_total{policy="round-robin",stage="balancer",digest="sha256:aa"} 70"#), "{text}");
}

#[test]
fn label_values_cannot_break_out() {
    let swaps = vec![SwapCount { policy: "a\"b\\c\nd".to_owned(), result: "refused", count: 1 }];
    let text = text(Metrics { swaps, ..Metrics::default() }).unwrap();
    assert!(text.contains(r#"pointsman_policy_swaps_total{policy="a\"b\\c\nd",result="refused"} 1"#), "{text}");
}
