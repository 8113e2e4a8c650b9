//! Policies that misbehave, on a worker: the right class, the way back, and no more of them than the breaker bears.

use super::*;
use crate::policy::breaker::BreakerState;
use crate::policy::contract::{Connection, Decider, Fault};
use crate::policy::counters::PolicyCounters;
use crate::policy::worker::WorkerPolicies;

/// A worker with one balancer over three endpoints.
struct Bench {
    worker: WorkerPolicies,
    policy: Arc<LoadedPolicy>,
    table: Arc<Table>,
}

impl Bench {
    fn new(policy: Arc<LoadedPolicy>) -> Self {
        let endpoints = native::endpoints(&[1, 1, 1]);
        let plan = plan_balancer(&policy, &endpoints);
        let table = balanced(&policy, &endpoints, plan);
        let mut worker = WorkerPolicies::new(7);
        worker.install(Arc::clone(&policy), 0);
        worker.adopt(&table, &[0], 0);
        Self { worker, policy, table }
    }

    fn pick(&mut self, now_ms: u64) -> Result<Option<u32>, Fault> {
        let connection = Connection { now_ms, ..native::connection(0, now_ms) };
        self.worker.pick(self.policy.version().id, &connection, 0)
    }

    fn counters(&self) -> PolicyCounters {
        self.worker.counters().remove(0)
    }
}

const REBUILDING: Fault = Fault::NotAsked("being rebuilt");

#[test]
fn a_trap_is_named_and_the_instance_comes_back_with_its_plan() {
    let mut bench = Bench::new(load("always-trap", 3));
    assert_eq!(bench.pick(1_000), Err(Fault::Trap("wasm `unreachable` instruction executed".into())));
    assert_eq!(bench.pick(1_000), Err(REBUILDING));
    bench.worker.mend(1_040);
    assert_eq!(bench.pick(1_040), Err(REBUILDING), "the first wait is 50 ms at least");
    bench.worker.mend(1_100);
    assert!(matches!(bench.pick(1_100), Err(Fault::Trap(_))), "it was asked again");
    let counters = bench.counters();
    assert_eq!((counters.faults[0], counters.rebuilt, counters.answered), (2, 1, 0));
    assert_eq!(counters.faults_total(), 2);
}

#[test]
fn a_policy_that_keeps_trapping_is_no_longer_asked() {
    let mut bench = Bench::new(load("always-trap", 0));
    let mut faults = 0;
    for now_ms in (0..9_000).step_by(10) {
        faults += u32::from(matches!(bench.pick(now_ms), Err(Fault::Trap(_))));
        bench.worker.mend(now_ms);
    }
    assert_eq!(faults, 6);
    assert_eq!(bench.counters().breaker, BreakerState::Open);
    assert_eq!(bench.pick(9_000), Err(Fault::NotAsked("its breaker is open")));
}

#[test]
fn a_good_policy_is_counted_and_survives_blame() {
    let mut bench = Bench::new(load("round-robin", 1));
    let id = bench.policy.version().id;
    let slots: Vec<u32> = (0..3_000).map(|n| bench.pick(n).unwrap().unwrap()).collect();
    for slot in 0..3 {
        assert_eq!(slots.iter().filter(|s| **s == slot).count(), 1_000);
    }
    let counters = bench.counters();
    assert_eq!((counters.answered, counters.calls(), counters.faults_total()), (3_000, 3_000, 0));
    assert!(counters.fuel_max > 0 && counters.fuel_max < 10_000, "{}", counters.fuel_max);
    assert!(counters.memory_peak_bytes >= 65_536);
    // A slot outside of the set does not break the instance, but opens the breaker in the end.
    for _ in 0..6 {
        bench.worker.blame(id, &Fault::OutOfRange("slot 9".into()));
    }
    assert_eq!(bench.pick(3_000), Err(Fault::NotAsked("its breaker is open")));
    assert_eq!(bench.pick(12_999), Err(Fault::NotAsked("its breaker is half-open")), "ten seconds after the latest decision");
    assert_eq!(bench.counters().shadowed, 1);
}

#[test]
fn no_opinion_is_counted_and_is_no_fault() {
    let mut bench = Bench::new(load("random", 1));
    let connection = native::connection(0, 1);
    assert_eq!(bench.worker.pick(bench.policy.version().id, &connection, 5), Ok(None), "a set without a plan");
    let counters = bench.counters();
    assert_eq!((counters.answered, counters.no_opinion, counters.faults_total()), (0, 1, 0));
}

#[test]
fn a_version_that_was_retired_or_never_installed_is_not_asked() {
    let mut bench = Bench::new(load("random", 1));
    let id = bench.policy.version().id;
    let connection = native::connection(0, 1);
    assert_eq!(bench.worker.pick(VersionId(9), &connection, 0), Err(Fault::NotAsked("not installed")));
    bench.worker.retire(id);
    assert_eq!(bench.worker.pick(id, &connection, 0), Err(Fault::NotAsked("not installed")));
}

#[test]
fn a_new_instance_knows_the_plans_of_the_table() {
    let mut bench = Bench::new(load("round-robin", 1));
    bench.worker.reconfigure(10);
    assert!(bench.pick(10).unwrap().is_some());
    let table = Arc::clone(&bench.table);
    bench.worker.forget(0);
    assert_eq!(bench.pick(11), Ok(None), "forgotten");
    bench.worker.adopt(&table, &[0], 12);
    assert!(bench.pick(12).unwrap().is_some());
}
