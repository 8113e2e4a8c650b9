//! A version that is tried beside one in force stands there twice: nothing that it does as the one is seen of the other.

use super::*;
use crate::policy::breaker::BreakerState;
use crate::policy::contract::{Connection, Decider, Fault, Setting};
use crate::policy::counters::PolicyCounters;
use crate::policy::worker::WorkerPolicies;
use crate::table::Shadow;

/// Three endpoints; one version in force with the first settings, and the same one tried with the second.
fn worker(policy: &Arc<LoadedPolicy>, settings: [&[Setting]; 2]) -> (WorkerPolicies, Arc<Table>) {
    let endpoints = native::endpoints(&[1, 1, 1]);
    let plans = settings.map(|settings| {
        let record = ServicePort { settings: settings.to_vec(), ..native::port(0) };
        planner(policy).plan_balancer(&record, &endpoints).unwrap()
    });
    let [in_force, tried] = plans;
    let table = balanced(policy, &endpoints, in_force);
    let mut port = Port::clone(table.port(0).unwrap());
    let planned = Planned { version: Arc::clone(policy.version()), plan: Arc::from([Arc::from(tried)]) };
    port.shadow = Some(Box::new(Shadow { name: "tried".into(), planned: Some(planned), since: 1, canary: None }));
    let table = table_of(port);
    let mut worker = WorkerPolicies::new(7);
    worker.install(Arc::clone(policy), 0);
    worker.install_candidate(Arc::clone(policy), 0);
    worker.adopt(&table, &[0], 0);
    (worker, table)
}

fn connection(n: u64) -> Connection {
    Connection { now_ms: n, ..native::connection(0, n) }
}

/// Of the one in force, of the one that is tried.
fn counters(worker: &WorkerPolicies) -> [PolicyCounters; 2] {
    let all = worker.counters();
    [false, true].map(|candidate| all.iter().find(|counters| counters.candidate == candidate).unwrap().clone())
}

#[test]
fn the_same_version_decides_by_two_plans() {
    let policy = load("maglev", 1);
    let setting = |size: &str| vec![native::setting("table-size", size)];
    let (mut worker, _) = worker(&policy, [&setting("251"), &setting("509")]);
    let id = policy.version().id;
    let mut differ = 0;
    for n in 0..500 {
        let one = worker.pick(id, &connection(n), 0).unwrap().unwrap();
        let fuel = worker.fuel();
        let other = worker.pick_as_candidate(id, &connection(n), 0).unwrap().unwrap();
        assert!(one < 3 && other < 3 && fuel > 0 && worker.fuel() > 0);
        differ += u32::from(one != other);
    }
    assert!(differ > 0, "tables of other sizes hold other entries");
    let [in_force, tried] = counters(&worker);
    assert_eq!((in_force.answered, tried.answered), (500, 500));
}

#[test]
fn a_rotation_that_is_tried_does_not_turn_the_one_in_force() {
    let policy = load("round-robin", 1);
    let id = policy.version().id;
    let (mut worker, _) = worker(&policy, [&[], &[]]);
    let mut alone = Vec::new();
    for n in 0..6 {
        alone.push(worker.pick(id, &connection(n), 0).unwrap().unwrap());
        worker.pick_as_candidate(id, &connection(n), 0).unwrap();
    }
    assert_eq!(alone[..3], alone[3..]);
    let mut sorted = alone[..3].to_vec();
    sorted.sort_unstable();
    assert_eq!(sorted, [0, 1, 2]);
}

#[test]
fn what_fails_as_a_candidate_is_in_force_as_before() {
    for fault in ["trap", "loop", "slot", "adopt-trap"] {
        let policy = load("faulty-balancer", 2);
        let id = policy.version().id;
        let (mut worker, _) = worker(&policy, [&[], &[native::setting("fault", fault)]]);
        for n in (0..9_000).step_by(50) {
            match worker.pick_as_candidate(id, &connection(n), 0) {
                Ok(Some(slot)) => worker.blame_candidate(id, &Fault::OutOfRange(format!("slot {slot}"))),
                Ok(None) => panic!("{fault}: no opinion"),
                Err(_) => {}
            }
            assert_eq!(worker.pick(id, &connection(n), 0), Ok(Some(0)), "{fault}, at {n}");
            worker.mend(n);
        }
        let [in_force, tried] = counters(&worker);
        assert_eq!((in_force.faults_total(), in_force.breaker, in_force.breaker_opened), (0, BreakerState::Closed, 0), "{fault}");
        assert!(tried.faults_total() > 0, "{fault}");
        if fault != "adopt-trap" {
            assert_eq!((tried.breaker, tried.breaker_opened), (BreakerState::Open, 1), "{fault}");
        }
    }
}

#[test]
fn each_seat_is_given_up_by_itself() {
    let policy = load("random", 1);
    let id = policy.version().id;
    let (mut worker, table) = worker(&policy, [&[], &[]]);
    worker.retire_candidate(id);
    assert_eq!(worker.pick_as_candidate(id, &connection(1), 0), Err(Fault::NotAsked("not installed")));
    assert_eq!(worker.fuel(), 0);
    assert!(worker.pick(id, &connection(1), 0).unwrap().is_some());
    worker.install_candidate(Arc::clone(&policy), 0);
    worker.retire(id);
    assert!(worker.pick_as_candidate(id, &connection(2), 0).unwrap().is_some(), "installed under a table that names it");
    assert_eq!(worker.pick(id, &connection(2), 0), Err(Fault::NotAsked("not installed")));
    // The port no longer names it.
    let port = Port { shadow: None, ..Port::clone(table.port(0).unwrap()) };
    worker.adopt(&table_of(port), &[0], 3);
    assert_eq!(worker.pick_as_candidate(id, &connection(3), 0), Ok(None), "forgotten");
}
