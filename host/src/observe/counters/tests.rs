use std::sync::Arc;

use super::*;
use crate::observe::fixture::{endpoint, port, table};
use crate::policy::contract::Verdict;
use crate::route::Fate;
use crate::table::Shadow;

#[test]
fn every_connection_is_in_exactly_one_place() {
    let counters = Counters::default();
    let port = port(0, "web", vec![endpoint("127.0.0.1:1")]);
    let outcomes = [
        Outcome::Rejected,
        Outcome::Dropped,
        Outcome::ConnectFailed,
        Outcome::Closed,
        Outcome::Reset,
        Outcome::Aged,
        Outcome::Drained,
        Outcome::EndpointLeft,
        Outcome::Evicted,
    ];
    for outcome in outcomes {
        let mut counter = counters.accepted(&port, FrontendKind::NodePort);
        assert!(counters.snapshot().totals.balances());
        counter.picked(&port.endpoints[0]);
        if outcome == Outcome::ConnectFailed {
            counter.connect_failed(ConnectError::TimedOut);
        } else {
            counter.connected();
            counter.passed(3, 4);
        }
        counter.ended(outcome);
    }
    counters.accepted_unknown().ended(Outcome::Rejected);
    let snapshot = counters.snapshot();
    assert_eq!((snapshot.totals.accepted, snapshot.totals.active, snapshot.totals.rejected), (10, 0, 2));
    assert!(snapshot.totals.balances());
    let service = &snapshot.services[&ServiceKey::of(&port)];
    assert!(service.tally.balances());
    assert!(service.tally.outcomes().iter().all(|(_, count)| *count == 1));
    assert_eq!(service.tally.verdicts(), [("forward", 7), ("reject", 1), ("drop", 1)]);
    assert_eq!(service.frontends, [0, 9, 0, 0, 0]);
    assert_eq!(
        service.endpoints["127.0.0.1:1"],
        EndpointSnapshot { connections: 8, bytes_in: 24, bytes_out: 32, failures: [0, 1, 0, 0], ..EndpointSnapshot::default() }
    );
}

#[test]
fn datagrams_and_what_is_lost_are_counted_and_summed() {
    let (one, other) = (Counters::default(), Counters::default());
    let port = port(0, "dns", vec![endpoint("127.0.0.1:1")]);
    for counters in [&one, &other] {
        let mut counter = counters.accepted(&port, FrontendKind::ClusterIp);
        counter.picked(&port.endpoints[0]);
        counter.datagrams_in(2, 100);
        counter.datagrams_out(1, 0);
        counter.ended(Outcome::Closed);
        counters.datagrams_lost("flow-limit", 3);
        counters.refusal("sent");
    }
    let mut snapshot = one.snapshot();
    snapshot.merge(&other.snapshot());
    let (tally, endpoint) = (snapshot.totals, snapshot.services[&ServiceKey::of(&port)].endpoints["127.0.0.1:1"]);
    assert_eq!((tally.datagrams_in, tally.datagrams_out, tally.bytes_in, tally.bytes_out), (4, 2, 200, 0));
    assert_eq!((endpoint.datagrams_in, endpoint.datagrams_out, endpoint.bytes_in), (4, 2, 200));
    assert_eq!((snapshot.datagrams_lost["flow-limit"], snapshot.refusals["sent"]), (6, 2));
}

#[test]
fn what_is_gone_leaves_with_its_last_connection() {
    let counters = Counters::default();
    let old = port(0, "web", vec![endpoint("127.0.0.1:1"), endpoint("127.0.0.1:2")]);
    let mut long = counters.accepted(&old, FrontendKind::ClusterIp);
    long.picked(&old.endpoints[0]);
    let mut short = counters.accepted(&old, FrontendKind::ClusterIp);
    short.picked(&old.endpoints[1]);
    short.ended(Outcome::Closed);

    let new = Arc::new(port(0, "web", vec![endpoint("127.0.0.1:3")]));
    let now = table(&[Arc::clone(&new)]);
    counters.table_changed(&now, &[], &[0]);
    counters.sweep(&now);
    let key = ServiceKey::of(&new);
    let endpoints = |counters: &Counters| counters.snapshot().services[&key].endpoints.keys().cloned().collect::<Vec<_>>();
    assert_eq!(endpoints(&counters), ["127.0.0.1:1".into()]);

    counters.table_changed(&table(&[]), &[0], &[]);
    counters.sweep(&table(&[]));
    assert_eq!(endpoints(&counters), ["127.0.0.1:1".into()], "the Service is gone, its connection is not");
    let other = port(0, "other", vec![]);
    counters.accepted(&other, FrontendKind::ClusterIp).ended(Outcome::Rejected);
    assert_eq!(counters.snapshot().services.len(), 2, "its id is another's by now");
    long.ended(Outcome::Closed);
    counters.sweep(&table(&[Arc::new(other)]));
    assert_eq!(counters.snapshot().services.len(), 1);
    assert_eq!(counters.snapshot().totals.closed, 2, "totals forget nothing");
}

#[test]
fn workers_add_up() {
    let port = port(0, "web", vec![endpoint("127.0.0.1:1")]);
    let mut all = Snapshot::default();
    for _ in 0..3 {
        let counters = Counters::default();
        let mut counter = counters.accepted(&port, FrontendKind::ClusterIp);
        counter.picked(&port.endpoints[0]);
        counter.connected();
        counter.ended(Outcome::Closed);
        counters.accept_failed("memory");
        all.merge(&counters.snapshot());
    }
    assert_eq!((all.totals.accepted, all.accept_errors["memory"]), (3, 3));
    assert_eq!(all.services[&ServiceKey::of(&port)].endpoints["127.0.0.1:1"].connections, 3);
}

/// A port on which a balancer is tried, and a decision of it that the candidate should have made.
fn tried(name: &str) -> (Arc<Port>, Decision) {
    let shadow = Shadow { name: "maglev".into(), planned: None, since: 1, canary: None };
    let endpoints = vec![endpoint("127.0.0.1:1"), endpoint("127.0.0.1:2")];
    let port = Port { shadow: Some(Box::new(shadow)), ..port(0, name, endpoints) };
    let fault = Box::new(Fault::Deadline);
    let shadowed = Shadowed { canary: true, candidate: Err(fault), balancer: Ok(1), fuel: [10, 50] };
    let decision = Decision {
        group: None,
        selector: By::Current,
        verdict: Verdict::Forward(0),
        traffic_policy: By::Current,
        set: Some(0),
        balancer: By::Current,
        fate: Fate::Forward(1),
        shadow: Some(Box::new(shadowed)),
    };
    (Arc::new(port), decision)
}

#[test]
fn a_comparison_lives_as_long_as_somebody_is_tried() {
    let counters = Counters::default();
    let (web, decision) = tried("web");
    counters.decided(&web, &decision);
    assert!(counters.snapshot().shadows.is_empty(), "no table has named it yet");
    let with = table(&[Arc::clone(&web)]);
    counters.table_changed(&with, &[], &[0]);
    (0..3).for_each(|_| counters.decided(&web, &decision));
    counters.retried(&web, &decision);
    let key = ShadowKey { namespace: "default".into(), service: "web".into() };
    let tally = &counters.snapshot().shadows[&key].tally;
    assert_eq!((tally.connections, tally.failed), (3, 3), "a retry is no connection");
    assert_eq!(counters.candidate_faults(), BTreeMap::from([(key.clone(), 3)]));
    let fallback = FallbackKey { policy: "maglev".into(), stage: StageKind::Balancer, reason: "deadline", by: "in-force" };
    assert_eq!(counters.snapshot().fallbacks.get(&fallback), Some(&4));
    // Another table of the same port, then one without a candidate, then none at all.
    counters.table_changed(&with, &[], &[0]);
    assert_eq!(counters.snapshot().shadows[&key].tally.connections, 3);
    counters.table_changed(&table(&[Arc::new(port(0, "web", vec![]))]), &[], &[0]);
    assert!(counters.snapshot().shadows.is_empty());
    counters.table_changed(&with, &[], &[0]);
    counters.table_changed(&table(&[]), &[0], &[]);
    assert!(counters.candidate_faults().is_empty());
}
