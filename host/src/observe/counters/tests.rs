use std::sync::Arc;

use super::*;
use crate::observe::fixture::{endpoint, port, table};

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
    counters.table_changed(&[], &[0]);
    counters.sweep(&table(&[Arc::clone(&new)]));
    let key = ServiceKey::of(&new);
    let endpoints = |counters: &Counters| counters.snapshot().services[&key].endpoints.keys().cloned().collect::<Vec<_>>();
    assert_eq!(endpoints(&counters), ["127.0.0.1:1".into()]);

    counters.table_changed(&[0], &[]);
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
