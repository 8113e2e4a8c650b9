#![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]

use std::time::Duration;

use super::*;
use crate::observe::fixture;
use crate::table::PortOptions;

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

/// Port 0 with these endpoints, all ready.
fn port(drain: Drain, addresses: &[&str]) -> Arc<Port> {
    let ready = |address: &&str| {
        let mut endpoint = fixture::endpoint(address);
        endpoint.conditions.ready = true;
        endpoint
    };
    let options = PortOptions { drain, ..PortOptions::default() };
    Arc::new(Port { options, ..fixture::port(0, "web", addresses.iter().map(ready).collect()) })
}

/// A connection to each of two endpoints, A and B, under this rule.
struct Bench {
    drains: Drains,
    port: Arc<Port>,
    places: [Rc<Place>; 2],
}

impl Bench {
    fn new(drain: Drain) -> Self {
        let (mut drains, port) = (Drains::default(), port(drain, &[A, B]));
        let places = [0, 1].map(|slot| drains.enter(&port, slot, Some(&port), 0));
        Self { drains, port, places }
    }

    fn table(&mut self, port: Arc<Port>, now_ms: u64) {
        self.drains.table_changed(&fixture::table(&[port]), &[], now_ms);
    }

    /// Whether the connections to A and to B are to end.
    fn ended(&self) -> [bool; 2] {
        [0, 1].map(|at| self.places[at].over.get())
    }
}

const GRACE: Drain = Drain::After(Duration::from_secs(5));

#[test]
fn keep_lets_them_live_whatever_happens() {
    let mut bench = Bench::new(Drain::Keep);
    bench.table(port(Drain::Keep, &[B]), 10);
    bench.drains.due(u64::MAX);
    assert_eq!(bench.ended(), [false, false]);
    // The rule in force is the Service's newest.
    bench.table(port(Drain::Reset, &[B]), 20);
    assert_eq!(bench.ended(), [true, false]);
}

#[test]
fn reset_ends_those_of_an_endpoint_that_left_at_once() {
    let mut bench = Bench::new(Drain::Reset);
    bench.table(port(Drain::Reset, &[B]), 10);
    assert_eq!(bench.ended(), [true, false]);
}

#[test]
fn masked_and_unready_count_as_left() {
    let mut bench = Bench::new(Drain::Reset);
    bench.table(Arc::new(Port { masked: Arc::from([0]), ..Port::clone(&bench.port) }), 10);
    assert_eq!(bench.ended(), [true, false]);
    let mut endpoints = bench.port.endpoints.to_vec();
    endpoints[1].conditions.ready = false;
    endpoints[1].conditions.serving = true;
    bench.table(Arc::new(Port { endpoints: endpoints.into(), ..Port::clone(&bench.port) }), 20);
    assert_eq!(bench.ended(), [true, true]);
}

#[test]
fn grace_is_counted_from_the_first_table_without_the_endpoint() {
    let mut bench = Bench::new(GRACE);
    bench.table(port(GRACE, &[B]), 1_000);
    bench.table(port(GRACE, &[B]), 4_000);
    bench.drains.due(5_999);
    assert_eq!(bench.ended(), [false, false]);
    bench.drains.due(6_000);
    assert_eq!(bench.ended(), [true, false]);
}

#[test]
fn an_endpoint_that_returns_within_the_grace_keeps_its_connections() {
    let mut bench = Bench::new(GRACE);
    bench.table(port(GRACE, &[B]), 1_000);
    bench.table(port(GRACE, &[A, B]), 5_000);
    bench.drains.due(60_000);
    assert_eq!(bench.ended(), [false, false]);
}

#[test]
fn a_service_that_goes_takes_its_connections_along_by_its_own_rule() {
    for (drain, at_once, later) in [(Drain::Keep, false, false), (Drain::Reset, true, true), (GRACE, false, true)] {
        let mut bench = Bench::new(drain);
        // Its id may come back with another Service, whose rule is not theirs.
        bench.drains.table_changed(&Table::default(), &[0], 1_000);
        assert_eq!(bench.ended(), [at_once; 2], "{drain:?}");
        bench.table(port(Drain::Reset, &["10.9.9.9:1"]), 2_000);
        assert_eq!(bench.ended(), [at_once; 2], "{drain:?}");
        bench.drains.due(6_000);
        assert_eq!(bench.ended(), [later; 2], "{drain:?}");
        for place in &bench.places {
            bench.drains.leave(place);
        }
    }
}

#[test]
fn one_whose_endpoint_left_while_it_was_being_made_is_no_exception() {
    let mut drains = Drains::default();
    let (decided, current) = (port(Drain::Reset, &[A, B]), port(Drain::Reset, &[B]));
    assert!(drains.enter(&decided, 0, Some(&current), 0).over.get());
    assert!(!drains.enter(&decided, 1, Some(&current), 0).over.get());
    assert!(drains.enter(&decided, 1, None, 0).over.get(), "the Service itself went");
}

#[test]
fn nothing_is_kept_of_connections_that_ended() {
    let mut bench = Bench::new(GRACE);
    for place in &bench.places {
        bench.drains.leave(place);
    }
    assert!(bench.drains.services.is_empty() && bench.drains.orphans.is_empty());
}
