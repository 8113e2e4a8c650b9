//! Policies that misbehave, on a worker: the right class, the way back, and no more of them than the breaker bears.

use super::*;
use crate::policy::breaker::BreakerState;
use crate::policy::compile::Compiler;
use crate::policy::contract::{Connection, Decider, Fault, Outcome, OutcomeKind, Place, Planner, Setting};
use crate::policy::counters::PolicyCounters;
use crate::policy::planners::Planners;
use crate::policy::registry::{Registry, RegistryOptions};
use crate::policy::worker::WorkerPolicies;

/// A worker with one balancer over three endpoints.
struct Bench {
    worker: WorkerPolicies,
    policy: Arc<LoadedPolicy>,
    table: Arc<Table>,
}

impl Bench {
    fn new(policy: Arc<LoadedPolicy>) -> Self {
        Self::with(policy, &[])
    }

    /// Of the balancer that fails as told.
    fn faulty(fault: &str) -> Self {
        Self::with(load("faulty-balancer", 2), &[native::setting("fault", fault)])
    }

    fn with(policy: Arc<LoadedPolicy>, settings: &[Setting]) -> Self {
        let endpoints = native::endpoints(&[1, 1, 1]);
        let record = ServicePort { settings: settings.to_vec(), ..native::port(0) };
        let plan = planner(&policy).plan_balancer(&record, &endpoints).unwrap();
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
fn a_half_open_breaker_does_not_close_on_answers_that_could_not_be_used() {
    let mut bench = Bench::faulty("slot");
    let id = bench.policy.version().id;
    for _ in 0..6 {
        let slot = bench.pick(0).unwrap().unwrap();
        bench.worker.blame(id, &Fault::OutOfRange(format!("slot {slot}")));
    }
    assert_eq!(bench.pick(0), Err(Fault::NotAsked("its breaker is open")));
    assert!(matches!(bench.pick(60_000), Err(Fault::OutOfRange(_))), "asked in shadow, and found wanting");
    assert_eq!(bench.counters().breaker, BreakerState::Open);
    assert_eq!(bench.counters().shadowed, 0);
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

#[test]
fn an_endless_loop_ends_by_fuel() {
    assert_eq!(Bench::faulty("loop").pick(1), Err(Fault::OutOfFuel));
    assert_eq!(Bench::new(load("always-loop", 0)).pick(1), Err(Fault::OutOfFuel));
}

#[test]
fn where_fuel_is_plenty_the_epoch_ends_it() {
    let limits = Limits { hot_fuel: u64::MAX / 2, ..Limits::default() };
    let sandbox = Sandbox::new(limits, Compiler::InProcess).unwrap();
    let mut bench = Bench::new(load_with(&sandbox, "always-loop", 0, false).unwrap());
    let began = super::super::clock::processor_time();
    assert_eq!(bench.pick(1), Err(Fault::Deadline));
    let ran = super::super::clock::processor_time() - began;
    assert!(ran.as_millis() >= 10, "it was given its time: {ran:?}");
}

/// Filling memory and formatting lines costs fuel by the byte, so a decision's usual fuel would end both before their own limit does.
fn with_much_fuel(fault: &str) -> Bench {
    let limits = Limits { hot_fuel: 1 << 30, worker_deadline: std::time::Duration::from_secs(10), ..Limits::default() };
    let sandbox = Sandbox::new(limits, Compiler::InProcess).unwrap();
    Bench::with(load_with(&sandbox, "faulty-balancer", 2, false).unwrap(), &[native::setting("fault", fault)])
}

#[test]
fn memory_ends_at_its_limit() {
    assert_eq!(Bench::faulty("grow").pick(1), Err(Fault::OutOfFuel));
    let mut bench = with_much_fuel("grow");
    let fault = bench.pick(1).unwrap_err();
    assert!(matches!(&fault, Fault::HostLimit(what) if what.ends_with("of at most 16777216")), "{fault}");
    let peak = bench.counters().memory_peak_bytes;
    assert!(peak > 15 << 20 && peak <= 16 << 20, "{peak}");
}

#[test]
fn a_call_that_goes_too_deep_ends_at_the_stacks_limit() {
    let fault = with_much_fuel("recurse").pick(1).unwrap_err();
    assert_eq!(fault, Fault::Trap("call stack exhausted".into()));
}

#[test]
fn memories_tables_and_instances_are_counted() {
    let refused = |limits: Limits| {
        let sandbox = Sandbox::new(limits, Compiler::InProcess).unwrap();
        load_with(&sandbox, "round-robin", 0, false).map(|_| ()).unwrap_err().to_string()
    };
    let instances = refused(Limits { instances: 2, ..Limits::default() });
    assert!(instances.contains("met a limit of the host: instance count too high at 3"), "{instances}");
    let tables = refused(Limits { tables: 1, ..Limits::default() });
    assert!(tables.contains("tables") && tables.contains("maximum of 1"), "{tables}");
    let memories = refused(Limits { memories: 0, ..Limits::default() });
    assert!(memories.contains("memories") && memories.contains("maximum of 0"), "{memories}");
    let elements = refused(Limits { table_elements: 4, ..Limits::default() });
    assert!(elements.contains("limit of 4"), "{elements}");
}

#[test]
fn a_flood_of_log_lines_costs_the_lines() {
    let mut bench = with_much_fuel("log-flood");
    for n in 0..10 {
        assert!(bench.pick(n).unwrap().is_some());
    }
    let counters = bench.counters();
    assert_eq!(counters.log_lines + counters.log_dropped, 1_000);
    assert!(counters.log_lines <= 20, "ten in each second that this took: {}", counters.log_lines);
}

#[test]
fn a_plan_that_the_worker_fails_on_costs_its_service_only() {
    let policy = load("faulty-balancer", 2);
    let endpoints = native::endpoints(&[1, 1, 1]);
    let mut bench = Bench::new(Arc::clone(&policy));
    let trap = ServicePort { id: 1, settings: vec![native::setting("fault", "adopt-trap")], ..native::port(1) };
    let plan = planner(&policy).plan_balancer(&trap, &endpoints).unwrap();
    let mut bad = port(&trap, &endpoints);
    bad.balancer.current = Some(Planned { version: Arc::clone(policy.version()), plan: Arc::from([Arc::from(plan)]) });
    let mut table = (*bench.table).clone();
    table.ports.push_back(Some(Arc::new(bad)));
    bench.worker.adopt(&Arc::new(table), &[1], 0);
    assert_eq!(bench.pick(10), Err(REBUILDING));
    bench.worker.mend(200);
    assert_eq!(bench.pick(200), Ok(Some(0)), "the other Service is served again");
    let connection = native::connection(1, 300);
    let answer = bench.worker.pick(policy.version().id, &connection, 0);
    assert_eq!(answer, Err(Fault::NotAsked("it failed on this Service's plan")));
    assert_eq!(bench.counters().faults_total(), 1, "and the plan is not tried again");
}

#[test]
fn a_plan_that_is_none_leaves_no_opinion() {
    assert_eq!(Bench::faulty("garbage-plan").pick(1), Ok(None));
}

#[test]
fn a_slot_outside_the_set_is_for_the_caller_to_see() {
    assert_eq!(Bench::faulty("slot").pick(1), Ok(Some(u32::MAX)));
}

#[test]
fn a_learner_is_told_what_became_of_its_picks() {
    let mut bench = Bench::new(load("learner", 4));
    let hash = bench.table.port(0).unwrap().endpoints[0].hash;
    assert_eq!(bench.pick(1), Ok(Some(0)));
    bench.worker.report(2, &[Outcome { service: 0, endpoint: hash, kind: OutcomeKind::Refused, millis: 3 }]);
    assert_eq!(bench.pick(3), Ok(Some(1)));
    bench.worker.report(4, &[Outcome { service: 9, endpoint: hash, kind: OutcomeKind::Connected, millis: 3 }]);
    assert_eq!(bench.pick(5), Ok(Some(1)), "another Service's outcomes are not its business");
    bench.worker.report(6, &[Outcome { service: 0, endpoint: hash, kind: OutcomeKind::Connected, millis: 3 }]);
    assert_eq!(bench.pick(7), Ok(Some(0)));
}

/// A worker with the first two stages over one Service port with this fault.
fn stage(name: &str, fault: &str) -> (WorkerPolicies, VersionId) {
    let policy = load(name, 5);
    let record = ServicePort { settings: vec![native::setting("fault", fault)], ..native::port(0) };
    let endpoints = native::endpoints(&[1, 1, 1]);
    let mut planner = planner(&policy);
    let mut port = port(&record, &endpoints);
    let version = Arc::clone(policy.version());
    if policy.stage() == StageKind::Selector {
        let plan = planner.plan_selector(&record).unwrap().data.into();
        port.selector.current = Some(Planned { version, plan });
    } else {
        let plan = planner.plan_traffic_policy(&record, &endpoints).unwrap().data.into();
        port.traffic_policy.current = Some(Planned { version, plan });
    }
    let mut worker = WorkerPolicies::new(7);
    worker.install(Arc::clone(&policy), 0);
    worker.adopt(&table_of(port), &[0], 0);
    (worker, policy.version().id)
}

#[test]
fn groups_and_subsets_are_checked() {
    let connection = native::connection(0, 1);
    let (mut worker, id) = stage("faulty-selector", "group");
    assert_eq!(worker.choose_group(id, &connection), Err(Fault::OutOfRange("group 99 of 1".into())));
    let (mut worker, id) = stage("faulty-selector", "none");
    assert_eq!(worker.choose_group(id, &connection), Ok(None));
    let (mut worker, id) = stage("faulty-traffic-policy", "subset");
    assert_eq!(worker.choose_subset(id, &connection, None), Err(Fault::OutOfRange("subset 99 of 1".into())));
    let (mut worker, id) = stage("faulty-traffic-policy", "trap");
    assert!(matches!(worker.choose_subset(id, &connection, None), Err(Fault::Trap(_))));
}

/// Planners over a registry in which these stand under their own names with an `x-` before.
fn planners(names: &[&str]) -> (Planners, Vec<VersionId>) {
    let registry = Registry::new(Arc::clone(&SANDBOX), RegistryOptions::default());
    let ids = names.iter().map(|name| {
        let swapped = registry.swap(&format!("x-{name}"), component(name)).unwrap();
        registry.catalogue().entry(swapped.stage, &swapped.name).unwrap().current.id
    });
    let ids = ids.collect();
    (Planners::new(registry), ids)
}

fn asking(fault: &str) -> ServicePort {
    ServicePort { settings: vec![native::setting("fault", fault)], ..native::port(0) }
}

#[test]
fn planner_faults_have_their_class_and_the_next_call_is_served() {
    let (mut planners, ids) = planners(&["faulty-balancer"]);
    let endpoints = native::endpoints(&[1, 1, 1]);
    let mut plan = |fault| planners.plan_balancer(ids[0], &asking(fault), &endpoints).map(|_| ());
    assert!(matches!(plan("plan-trap"), Err(Fault::Trap(_))));
    assert_eq!(plan("none"), Ok(()));
    assert_eq!(plan("plan-loop"), Err(Fault::OutOfFuel));
    assert_eq!(plan("none"), Ok(()));
    assert_eq!(plan("plan-error"), Err(Fault::Refused("the setting `fault` asks for an error of plan".into())));
    assert!(matches!(plan("huge-plan"), Err(Fault::HostLimit(_) | Fault::Refused(_))), "{:?}", plan("huge-plan"));
    assert_eq!(plan("none"), Ok(()));
}

#[test]
fn partitions_are_checked() {
    let (mut planners, ids) = planners(&["faulty-traffic-policy"]);
    let endpoints = native::endpoints(&[1; 8]);
    let mut plan = |fault| planners.plan_traffic_policy(ids[0], &asking(fault), &endpoints).map(|partition| partition.subsets.len());
    assert_eq!(plan("none"), Ok(1));
    assert_eq!(plan("members"), Err(Fault::OutOfRange("slot 8 of 8 in subset 0".into())));
    assert_eq!(plan("duplicate"), Err(Fault::OutOfRange("slot 0 twice in subset 0".into())));
    assert_eq!(plan("many"), Err(Fault::OutOfRange("65 subsets, of at most 64".into())));
}

#[test]
fn a_selector_that_was_lost_plans_again_before_it_classifies() {
    let (mut planners, ids) = planners(&["faulty-selector"]);
    let labels = native::port(0).selector.unwrap();
    planners.plan_selector(ids[0], &native::port(0)).unwrap();
    assert_eq!(planners.classify(ids[0], 0, &labels), Ok(Some(0)));
    let other = ServicePort { id: 1, ..asking("plan-trap") };
    assert!(matches!(planners.plan_selector(ids[0], &other), Err(Fault::Trap(_))));
    assert_eq!(planners.classify(ids[0], 0, &labels), Ok(Some(0)));
    assert!(matches!(planners.classify(ids[0], 1, &labels), Err(Fault::NotAsked(_))));
    planners.plan_selector(ids[0], &asking("classify")).unwrap();
    assert_eq!(planners.classify(ids[0], 0, &labels), Err(Fault::OutOfRange("group 99 of 1".into())));
}

/// Each failure may take a planner's whole deadline; of thousands of Services, five find out.
#[test]
fn a_planner_that_fails_again_and_again_is_left_alone_for_a_while() {
    let (mut planners, ids) = planners(&["faulty-balancer"]);
    let members = native::endpoints(&[1]);
    let rests = Err(Fault::NotAsked("its planner failed again and again"));
    let fails = |planners: &mut Planners| matches!(planners.plan_balancer(ids[0], &asking("plan-trap"), &members), Err(Fault::Trap(_)));
    for _ in 0..4 {
        assert!(fails(&mut planners));
    }
    assert!(planners.plan_balancer(ids[0], &asking("none"), &members).is_ok(), "it works for another Service: counted from the start");
    for _ in 0..5 {
        assert!(fails(&mut planners));
    }
    assert_eq!(planners.plan_balancer(ids[0], &asking("plan-trap"), &members), rests);
    assert_eq!(planners.plan_balancer(ids[0], &asking("none"), &members), rests, "nor for anyone else");
    planners.set_now(101);
    assert!(fails(&mut planners), "the first wait is 100 ms at most");
    assert_eq!(planners.plan_balancer(ids[0], &asking("plan-trap"), &members), rests, "and one failure is enough for the next");
    planners.set_now(30_101);
    assert!(planners.plan_balancer(ids[0], &asking("none"), &members).is_ok());
    assert!(fails(&mut planners) && planners.plan_balancer(ids[0], &asking("none"), &members).is_ok(), "mended");
}

#[test]
fn settings_have_a_size() {
    let (mut planners, ids) = planners(&["faulty-balancer"]);
    let port = ServicePort { settings: vec![native::setting("padding", &"x".repeat(64 << 10))], ..native::port(0) };
    let answer = planners.plan_balancer(ids[0], &port, &native::endpoints(&[1]));
    assert_eq!(answer, Err(Fault::Refused("its settings are 65543 bytes, and the limit is 65536".into())));
}

#[test]
fn wasi_needs_a_grant_and_then_is_empty_and_always_the_same() {
    let refusal = load_with(&SANDBOX, "wasi-curious", 0, false).map(|_| ()).unwrap_err().to_string();
    assert!(refusal.starts_with("imports wasi:") && refusal.contains("--grant-wasi"), "{refusal}");
    let picks = || {
        let mut bench = Bench::new(load_with(&SANDBOX, "wasi-curious", 0, true).unwrap());
        (0..50).map(|n| bench.pick(n).unwrap()).collect::<Vec<_>>()
    };
    let first = picks();
    assert!(first.iter().all(Option::is_some), "{first:?}");
    assert_eq!(first, picks());
}

#[test]
fn a_pool_that_is_full_is_a_limit_and_not_the_end() {
    let limits = Limits { pool_instances: 3, ..Limits::default() };
    let sandbox = Sandbox::new(limits, Compiler::InProcess).unwrap();
    let policy = load_with(&sandbox, "random", 0, false).unwrap();
    let kept: Vec<_> = (0..3).map(|n| policy.instantiate(Place::Worker(n)).unwrap()).collect();
    assert_eq!(policy.instantiate(Place::Planner).map(|_| ()), Err(Fault::HostLimit("the instances of the pool".into())));
    drop(kept);
    assert!(policy.instantiate(Place::Planner).is_ok());
}
