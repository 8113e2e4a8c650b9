//! What plans and decisions of the built-in policies may cost: fuel, which is the same on every machine.

use super::*;
use crate::policy::contract::Place;

/// Those that are built in.
fn balancers() -> impl Iterator<Item = &'static str> {
    let balancers = pointsman_guests::BUILT_IN.iter().filter(|component| component.stage == pointsman_guests::Stage::Balancer);
    balancers.map(|component| component.name)
}

/// Endpoints with these weights in turn.
fn endpoints(count: usize, weights: &[u32]) -> Vec<Endpoint> {
    native::endpoints(&weights.iter().copied().cycle().take(count).collect::<Vec<u32>>())
}

#[test]
fn plans_for_ten_thousand_endpoints_take_less_than_half_of_the_fuel() {
    let limits = SANDBOX.limits();
    let mut over = Vec::new();
    for name in balancers() {
        let policy = load(name, 0);
        for (count, weights) in [(1_000, &[1][..]), (1_000, &[1, 2, 10]), (10_000, &[1]), (10_000, &[1, 2, 10])] {
            let endpoints = endpoints(count, weights);
            let mut planner = planner(&policy);
            let plan = planner.plan_balancer(&native::port(0), &endpoints);
            let planned = planner.last_fuel();
            let mut worker = policy.instantiate(Place::Worker(1)).unwrap();
            let adopted = plan.clone().and_then(|plan| worker.adopt_set(0, 0, &plan).map(|()| plan.len()));
            println!("{name:<18} {count:>6} {weights:?}: plan {planned}, adopt {}, {adopted:?} bytes", worker.last_fuel());
            if adopted.is_err() || planned > limits.planner_fuel / 2 || worker.last_fuel() > limits.adopt_fuel / 2 {
                over.push(format!("{name}, {count} of weights {weights:?}: plan {planned}, adopt {}, {adopted:?}", worker.last_fuel()));
            }
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}

#[test]
fn a_decision_costs_the_same_for_ten_and_for_ten_thousand_endpoints() {
    for name in ["round-robin", "random", "two-choices", "maglev"] {
        let policy = load(name, 0);
        let most = |count: usize| {
            let endpoints = endpoints(count, &[1]);
            let plan = plan_balancer(&policy, &endpoints);
            let mut worker = policy.instantiate(Place::Worker(1)).unwrap();
            worker.set_table(&balanced(&policy, &endpoints, plan.clone()));
            worker.adopt_set(0, 0, &plan).unwrap();
            let fuel = (0..1_000).map(|n| {
                worker.pick(&native::connection(0, n), 0).unwrap();
                worker.last_fuel()
            });
            fuel.max().unwrap()
        };
        let (ten, ten_thousand) = (most(10), most(10_000));
        assert!(ten_thousand <= ten + ten / 4 + 16, "{name}: {ten}, then {ten_thousand}");
        assert!(ten_thousand < 1_000, "{name}: {ten_thousand}");
    }
}

#[test]
fn no_decision_comes_close_to_its_fuel() {
    let limit = SANDBOX.limits().hot_fuel;
    for name in balancers() {
        let policy = load(name, 0);
        for (count, weights) in
            [(32, &[1][..]), (1_000, &[1]), (1_000, &[1, 2, 10]), (3_000, &[1, 2, 3, 4, 5, 6, 7]), (10_000, &[1, 2, 10])]
        {
            let endpoints = endpoints(count, weights);
            let plan = plan_balancer(&policy, &endpoints);
            let mut worker = policy.instantiate(Place::Worker(1)).unwrap();
            worker.set_table(&balanced(&policy, &endpoints, plan.clone()));
            worker.adopt_set(0, 0, &plan).unwrap();
            for n in 0..200 {
                assert!(worker.pick(&native::connection(0, n), 0).unwrap().is_some(), "{name}, {count} of weights {weights:?}");
                let fuel = worker.last_fuel();
                assert!(fuel < limit / 10 * 9, "{name}, {count} of weights {weights:?}: {fuel} of {limit}");
            }
        }
    }
}

/// Every endpoint has as many connections as `first-available` has room for, and some have more than `bounded-maglev` would give them:
/// both look as far as they ever do.
#[test]
fn nor_under_load() {
    let limit = SANDBOX.limits().hot_fuel;
    for name in balancers() {
        let policy = load(name, 0);
        for count in [100, 256, 300, 1_000] {
            let endpoints = endpoints(count, &[1]);
            let plan = plan_balancer(&policy, &endpoints);
            let table = balanced(&policy, &endpoints, plan.clone());
            let loads = || table.port(0).unwrap().endpoints.iter().map(|endpoint| &endpoint.load);
            let held: Vec<_> = loads().enumerate().flat_map(|(n, load)| (0..100 + n % 100).map(move |_| load.enter())).collect();
            let mut worker = policy.instantiate(Place::Worker(1)).unwrap();
            worker.set_table(&table);
            worker.adopt_set(0, 0, &plan).unwrap();
            for n in 0..400 {
                let picked = worker.pick(&native::connection(0, n), 0);
                assert!(matches!(picked, Ok(Some(_))), "{name}, {count} under load: {picked:?}");
                let fuel = worker.last_fuel();
                assert!(fuel < limit / 10 * 9, "{name}, {count} under load: {fuel} of {limit}");
            }
            drop(held);
        }
    }
}
