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
        Outcome::EndpointLeft,
        Outcome::Drained,
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
    assert_eq!((snapshot.totals.accepted, snapshot.totals.active, snapshot.totals.rejected), (9, 0, 2));
    assert!(snapshot.totals.balances());
    let service = &snapshot.services[&ServiceKey::of(&port)];
    assert!(service.tally.balances());
    assert!(service.tally.outcomes().iter().all(|(_, count)| *count == 1));
    assert_eq!(service.tally.verdicts(), [("forward", 6), ("reject", 1), ("drop", 1)]);
    assert_eq!(service.frontends, [0, 8, 0, 0, 0]);
    assert_eq!(
        service.endpoints["127.0.0.1:1"],
        EndpointSnapshot { connections: 7, active: 0, bytes_in: 21, bytes_out: 28, failures: [0, 1, 0, 0] }
    );
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
