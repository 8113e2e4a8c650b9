#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::observe::fixture::{endpoint, port as plain};
use crate::table::{Endpoint, Port, Shadow};

fn port(since: u64, endpoints: &[(&str, u32)]) -> Arc<Port> {
    let endpoints = endpoints.iter().map(|(address, weight)| Endpoint { weight: *weight, ..endpoint(address) }).collect();
    let shadow = Shadow { name: "maglev".into(), planned: None, since, canary: None };
    Arc::new(Port { shadow: Some(Box::new(shadow)), ..plain(0, "web", endpoints) })
}

fn both(balancer: Result<Slot, Fault>, candidate: Result<Slot, Fault>, canary: bool) -> Shadowed {
    Shadowed { canary, candidate: candidate.map_err(Box::new), balancer: balancer.map_err(Box::new), fuel: [100, 0] }
}

const A: (&str, u32) = ("127.9.0.1:80", 1);
const B: (&str, u32) = ("127.9.0.2:80", 3);
const C: (&str, u32) = ("127.9.0.3:80", 0);

fn picked(snapshot: &ShadowSnapshot, key: &str) -> EndpointPicks {
    snapshot.endpoints[key]
}

#[test]
fn answers_are_counted_by_who_gave_them() {
    let mut comparison = Comparison::of(&port(1, &[A, B, C]), None).unwrap();
    comparison.count(Some(0), &both(Ok(0), Ok(1), false));
    comparison.count(Some(0), &both(Ok(0), Ok(0), true));
    comparison.count(Some(0), &both(Ok(1), Err(Fault::Trap("x".into())), true));
    comparison.count(Some(0), &both(Err(Fault::NoOpinion), Ok(1), false));
    let snapshot = comparison.snapshot();
    let tally = &snapshot.tally;
    assert_eq!((tally.connections, tally.canaries, tally.failed, tally.compared, tally.moved), (4, 2, 1, 2, 1));
    let [balancer, candidate] = &tally.subjects;
    assert_eq!((balancer.answered, balancer.no_opinion, balancer.faulted(), balancer.fuel_max), (3, 1, 0, 100));
    assert_eq!((candidate.answered, candidate.faulted(), candidate.not_asked()), (3, 1, 0));
    assert_eq!((balancer.fuel_quantile(0.5), candidate.fuel_quantile(0.99)), (100, 0), "not beyond the most");
    assert_eq!(comparison.faulted(), 1);
    // Of four connections, weights promise the first one, the second three, and the third none.
    assert_eq!(picked(&snapshot, A.0), EndpointPicks { picks: [2, 1], promised: 1.0 });
    assert_eq!(picked(&snapshot, B.0), EndpointPicks { picks: [1, 2], promised: 3.0 });
    assert_eq!(picked(&snapshot, C.0).promised, 0.0);
}

#[test]
fn a_change_of_endpoints_goes_on_counting() {
    let mut comparison = Comparison::of(&port(1, &[A, B]), None).unwrap();
    (0..8).for_each(|_| comparison.count(Some(0), &both(Ok(0), Ok(1), false)));
    // The slots are others now, and the weights; what was promised stays promised.
    let mut comparison = Comparison::of(&port(1, &[C, ("127.9.0.2:80", 1), ("127.9.0.9:80", 1)]), Some(comparison)).unwrap();
    comparison.count(Some(0), &both(Ok(1), Ok(2), false));
    let snapshot = comparison.snapshot();
    assert_eq!(snapshot.tally.connections, 9);
    assert_eq!(snapshot.endpoints.len(), 3, "{:?}", snapshot.endpoints);
    assert_eq!(picked(&snapshot, B.0), EndpointPicks { picks: [1, 8], promised: 6.5 });
    assert_eq!(picked(&snapshot, "127.9.0.9:80"), EndpointPicks { picks: [0, 1], promised: 0.5 });
    let mut sum = snapshot.clone();
    sum.merge(&snapshot);
    assert_eq!((sum.tally.moved, picked(&sum, B.0)), (18, EndpointPicks { picks: [2, 16], promised: 13.0 }));
}

#[test]
fn another_comparison_begins_with_nothing() {
    let mut comparison = Comparison::of(&port(1, &[A, B]), None).unwrap();
    comparison.count(Some(0), &both(Ok(0), Ok(1), false));
    let comparison = Comparison::of(&port(2, &[A, B]), Some(comparison)).unwrap();
    assert_eq!(comparison.snapshot().tally, ShadowTally::default());
    assert!(Comparison::of(&Arc::new(plain(0, "web", vec![])), Some(comparison)).is_none(), "nobody is tried any more");
}

/// A slot or set that the port does not have cannot come from a decision on it; if one does, it is not counted.
#[test]
fn what_is_out_of_range_is_left_out() {
    let mut comparison = Comparison::of(&port(1, &[A]), None).unwrap();
    comparison.count(Some(9), &both(Ok(9), Ok(0), false));
    comparison.count(None, &both(Ok(0), Ok(0), false));
    assert_eq!(picked(&comparison.snapshot(), A.0), EndpointPicks { picks: [1, 2], promised: 0.0 });
}
