//! The laws are kept by what is built in, and each finds a subject that breaks it.
#![allow(clippy::unwrap_used, reason = "a test may end at once")]

use std::sync::{Arc, LazyLock};

use pointsman_guests::{BUILT_IN, Stage};
use pointsman_sdk::types::{Connection, Endpoint, Label, Locality, Outcome, Slot, Verdict as Answered};

use super::*;
use crate::policy::compile::Compiler;
use crate::policy::contract::Fault;
use crate::policy::{Limits, Runtime, Sandbox};
use crate::workbench::component::Candidate;
use crate::workbench::subject::{Answer, FaultClass, Subject};

static SANDBOX: LazyLock<Arc<Sandbox>> = LazyLock::new(|| Sandbox::new(Limits::default(), Compiler::InProcess).unwrap());

fn failures(cases: &[Case]) -> Vec<String> {
    let failed = cases.iter().filter(|case| case.verdict == Verdict::Fails);
    failed.map(|case| format!("{}: {}", case.name, case.findings.join("; "))).collect()
}

#[test]
fn every_built_in_balancer_keeps_the_laws_of_its_classes() {
    for component in BUILT_IN.iter().filter(|component| component.stage == Stage::Balancer) {
        let promise = of_built_in(component.name).unwrap_or_else(|| panic!("{} has no class", component.name));
        let bounds = Bounds { collateral: promise.collateral, ..Bounds::default() };
        let candidate = Candidate::load(&SANDBOX, component.name, component.bytes, Runtime::Normal).unwrap();
        let mut make = |workers, seed| match candidate.balancer(&[], workers, seed) {
            Ok(subject) => Ok(Box::new(subject) as Box<dyn Subject>),
            Err(error) => Err(format!("{error:#}")),
        };
        let cases = check(promise.classes, &mut Lab::new(&mut make, 7, bounds), &mut |_, _| {});
        assert_eq!(failures(&cases), [""; 0], "{}", component.name);
        assert!(cases.len() >= every::LAWS.len());
    }
}

/// A balancer in a few lines.
struct Wrong {
    pick: Pick,
    endpoints: Vec<Endpoint>,
    /// Those of weight, by key.
    eligible: Vec<Endpoint>,
    active: Vec<u32>,
    picks: u64,
    changes: u64,
    name: &'static str,
}

type Pick = fn(&mut Wrong, &Connection) -> Answer;

impl Wrong {
    /// Of those that may be picked.
    fn nth(&self, n: u64) -> Answer {
        let index = n.checked_rem(self.eligible.len() as u64);
        index.map_or(Answer::NoOpinion, |index| Answer::Slot(self.eligible[index as usize].slot))
    }
}

impl Subject for Wrong {
    fn name(&self) -> &str {
        self.name
    }

    fn workers(&self) -> usize {
        64
    }

    fn set_endpoints(&mut self, endpoints: &[Endpoint], _now_ms: u64) -> Result<(), String> {
        self.endpoints = endpoints.to_vec();
        self.eligible = endpoints.iter().filter(|endpoint| endpoint.weight > 0).cloned().collect();
        self.eligible.sort_by(|a, b| a.key.cmp(&b.key));
        self.active = vec![0; endpoints.len()];
        self.changes += 1;
        Ok(())
    }

    fn pick(&mut self, worker: usize, connection: &Connection) -> Answer {
        self.picks += 1;
        let connection = Connection { client_hi: worker as u64, ..*connection };
        (self.pick)(self, &connection)
    }

    fn last_fuel(&self) -> u64 {
        0
    }

    fn memory_peak(&self) -> u64 {
        if self.name == "leaks" { 1_000_000 + self.changes * 64 } else { 1_000_000 }
    }

    fn set_active(&mut self, _worker: usize, slot: Slot, active: u32) {
        self.active[slot as usize] = active;
    }

    fn report(&mut self, _worker: usize, _now_ms: u64, _outcomes: &[Outcome]) {}
}

/// What breaks a law; the law's name; its class.
const BROKEN: &[(&str, Class, &str, Pick)] = &[
    ("a slot too far", Class::All, "answers are endpoints of the set, never of weight 0", |w, c| {
        Answer::Slot((c.random % (w.endpoints.len() as u64 + 1)) as u32)
    }),
    ("weight 0 too", Class::All, "answers are endpoints of the set, never of weight 0", |w, c| {
        Answer::Slot((c.random % w.endpoints.len() as u64) as u32)
    }),
    ("chance of its own", Class::All, "the same calls, the same answers", |w, _| w.nth(fastrand::u64(..))),
    ("traps at the largest weight", Class::All, "no fault on hostile input", |w, c| {
        if w.endpoints.iter().any(|endpoint| endpoint.weight == u32::MAX) { Answer::Fault(FaultClass::Trap) } else { w.nth(c.random) }
    }),
    ("goes on after each plan", Class::All, "planning again changes nothing", |w, c| w.nth(c.random.wrapping_add(w.changes))),
    ("by slot, not by key", Class::All, "the order of the listing does not matter", |w, c| {
        let at = c.random.checked_rem(w.eligible.len() as u64);
        let mut eligible = w.endpoints.iter().filter(|endpoint| endpoint.weight > 0);
        at.and_then(|at| eligible.nth(at as usize)).map_or(Answer::NoOpinion, |endpoint| Answer::Slot(endpoint.slot))
    }),
    ("counts those of weight 0", Class::All, "an endpoint of weight 0 changes nothing", |w, c| {
        w.nth(c.random.wrapping_add(w.endpoints.len() as u64))
    }),
    ("gives up at 10,000", Class::All, "a decision at 10,000 endpoints stays within its fuel", |w, c| {
        if w.endpoints.len() >= 10_000 { Answer::Fault(FaultClass::OutOfFuel) } else { w.nth(c.random) }
    }),
    ("leaks", Class::All, "memory does not grow with changes", |w, c| w.nth(c.random)),
    ("goes by random bits", Class::ConsistentHash, "the client alone decides", |w, c| w.nth(c.random)),
    ("another on each worker", Class::ConsistentHash, "all workers agree", |w, c| w.nth(c.client_hash ^ c.client_hi)),
    ("half of them never", Class::ConsistentHash, "clients are spread evenly", |w, c| {
        w.nth(c.client_hash % (w.eligible.len() as u64).div_ceil(2).max(1))
    }),
    ("no weights", Class::ConsistentHash, "shares follow the weights", |w, c| w.nth(c.client_hash)),
    ("modulo", Class::ConsistentHash, "removing an endpoint moves its own clients", |w, c| w.nth(c.client_hash)),
    ("modulo", Class::ConsistentHash, "adding an endpoint moves clients to it alone", |w, c| w.nth(c.client_hash)),
    ("no weights", Class::Weighted, "shares follow the weights, but for chance", |w, c| w.nth(c.random)),
    ("weights up to 100", Class::Weighted, "weights times a number give the same shares", |w, c| {
        let sum: u64 = w.eligible.iter().map(|endpoint| u64::from(endpoint.weight.min(1000))).sum();
        let mut left = c.random % sum.max(1);
        for endpoint in w.eligible.iter() {
            match left.checked_sub(u64::from(endpoint.weight.min(1000))) {
                Some(rest) => left = rest,
                None => return Answer::Slot(endpoint.slot),
            }
        }
        Answer::NoOpinion
    }),
    ("at random", Class::RoundRobin, "each period has each endpoint as often as its weight", |w, c| w.nth(c.random)),
    ("all of one, then all of the next", Class::RoundRobin, "an endpoint's turns are spread over the period", |w, _| {
        let sum: u64 = w.eligible.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
        let mut left = (w.picks - 1) % sum.max(1);
        for endpoint in w.eligible.iter() {
            match left.checked_sub(u64::from(endpoint.weight)) {
                Some(rest) => left = rest,
                None => return Answer::Slot(endpoint.slot),
            }
        }
        Answer::NoOpinion
    }),
    ("the first first", Class::RoundRobin, "workers do not start in step", |w, _| w.nth(0)),
    ("blind to load", Class::LeastLoaded, "a loaded endpoint is avoided", |w, c| w.nth(c.random)),
    ("blind to load", Class::LeastLoaded, "10,000 open connections stay even over 100 endpoints", |w, c| w.nth(c.random)),
    ("blind to load", Class::LeastLoaded, "a slow endpoint gets fewer", |w, c| w.nth(c.random)),
    ("the least of all", Class::FewChoices, "counters that are stale do not make a herd", |w, _| {
        let least = (0..w.active.len()).min_by_key(|slot| w.active[*slot]);
        least.map_or(Answer::NoOpinion, |slot| Answer::Slot(slot as u32))
    }),
    ("no bound", Class::BoundedLoad, "no endpoint gets more than its bound", |w, c| w.nth(c.client_hash)),
];

#[test]
fn each_law_finds_what_breaks_it() {
    for (name, class, law, pick) in BROKEN {
        let mut make = |_: usize, _: u64| -> Result<Box<dyn Subject>, String> {
            let wrong = Wrong { pick: *pick, endpoints: Vec::new(), eligible: Vec::new(), active: Vec::new(), picks: 0, changes: 0, name };
            Ok(Box::new(wrong))
        };
        let cases = check(&[*class], &mut Lab::new(&mut make, 7, Bounds::default()), &mut |_, _| {});
        let case = cases.iter().find(|case| case.name == *law).unwrap_or_else(|| panic!("no law {law:?} of {class}"));
        assert_eq!(case.verdict, Verdict::Fails, "{law}: not broken by {name}");
        assert!(!case.findings.is_empty());
    }
}

#[test]
fn every_law_has_something_that_breaks_it() {
    use clap::ValueEnum;
    let laws = Class::value_variants().iter().flat_map(|class| laws(*class)).map(|(name, _)| name);
    let unbroken: Vec<&str> = laws.filter(|law| !BROKEN.iter().any(|(_, _, broken, _)| broken == law)).collect();
    assert_eq!(unbroken, [""; 0]);
}

#[test]
fn the_same_seed_gives_the_same_findings() {
    let candidate =
        Candidate::load(&SANDBOX, "random", pointsman_guests::Component::named("random").unwrap().bytes, Runtime::Normal).unwrap();
    let run = |seed| {
        let mut make =
            |workers, seed| candidate.balancer(&[], workers, seed).map(|s| Box::new(s) as Box<dyn Subject>).map_err(|e| e.to_string());
        serde_json::to_string(&check(&[Class::ConsistentHash], &mut Lab::new(&mut make, seed, Bounds::default()), &mut |_, _| {})).unwrap()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn every_built_in_policy_of_the_other_stages_keeps_its_laws() {
    for component in BUILT_IN.iter().filter(|component| component.stage != Stage::Balancer) {
        let promise = of_built_in(component.name).unwrap_or_else(|| panic!("{} has no class", component.name));
        let candidate = Candidate::load(&SANDBOX, component.name, component.bytes, Runtime::Normal).unwrap();
        let mut unused = |_: usize, _: u64| -> Result<Box<dyn Subject>, String> { Err("no balancer".to_owned()) };
        let mut lab = Lab::new(&mut unused, 7, Bounds::default());
        let cases = match component.stage {
            Stage::Selector => check_selector(&mut || Ok(Box::new(candidate.selector(&[])?)), &mut lab),
            _ => check_traffic_policy(promise.classes, &mut |policy| Ok(Box::new(candidate.traffic_policy(&[], policy)?)), &mut lab),
        };
        assert_eq!(failures(&cases), [""; 0], "{}", component.name);
        assert!(cases.len() >= 4);
    }
}

/// A traffic policy in a few lines: subset 0 is what it plans; a choice that fails refuses.
struct WrongTraffic {
    plan: fn(&[Endpoint], u64) -> Vec<Slot>,
    choose: fn(&Connection) -> Result<Verdict, Fault>,
    plans: u64,
}

impl TrafficPolicy for WrongTraffic {
    fn plan(&mut self, endpoints: &[Endpoint]) -> Result<Vec<Vec<Slot>>, Fault> {
        self.plans = MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(vec![(self.plan)(endpoints, self.plans)])
    }

    fn choose(&mut self, connection: &Connection) -> Result<Answered, Fault> {
        (self.choose)(connection).map(|verdict| if verdict == Verdict::Holds { Answered::Forward(0) } else { Answered::Reject })
    }
}

/// Plans that were made: an instance that differs from its twin needs something of its own.
static MADE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

fn ready(endpoints: &[Endpoint]) -> Vec<Slot> {
    endpoints.iter().filter(|endpoint| endpoint.conditions.ready).map(|endpoint| endpoint.slot).collect()
}

type WrongPlan = fn(&[Endpoint], u64) -> Vec<Slot>;
type WrongChoice = fn(&Connection) -> Result<Verdict, Fault>;

const ALWAYS: WrongChoice = |_| Ok(Verdict::Holds);

const BROKEN_TRAFFIC: &[(Class, &str, WrongPlan, WrongChoice)] = &[
    (
        Class::All,
        "no fault on hostile input",
        |e, _| ready(e),
        |c| if c.client_hash == u64::MAX { Err(Fault::Trap(String::new())) } else { Ok(Verdict::Holds) },
    ),
    (Class::All, "the same calls, the same answers", |e, n| e.iter().map(|e| e.slot).skip(n as usize % 2).collect(), ALWAYS),
    (Class::All, "the order of the listing does not matter", |e, _| e.iter().take(3).map(|e| e.slot).collect(), ALWAYS),
    (Class::All, "nobody is refused while an endpoint is ready", |e, _| ready(e), |_| Ok(Verdict::Fails)),
    (Class::All, "no endpoint that is not ready, while one is", |e, _| e.iter().map(|e| e.slot).collect(), ALWAYS),
    (Class::Locality, "this node's endpoints alone, while one is ready", |e, _| ready(e), ALWAYS),
    (Class::Locality, "the others, when none of this node is ready", |e, _| e.iter().filter(|e| e.local).map(|e| e.slot).collect(), ALWAYS),
    (Class::Zone, "this zone's endpoints alone, while all are ready", |e, _| ready(e), ALWAYS),
    (
        Class::Zone,
        "a zone that is short of endpoints is not overloaded",
        |e, _| e.iter().filter(|e| e.conditions.ready && e.zone.as_deref() == Some("zone-1")).map(|e| e.slot).collect(),
        ALWAYS,
    ),
];

#[test]
fn each_law_of_traffic_policies_finds_what_breaks_it() {
    for (class, law, plan, choose) in BROKEN_TRAFFIC {
        let mut unused = |_: usize, _: u64| -> Result<Box<dyn Subject>, String> { Err("no balancer".to_owned()) };
        let mut lab = Lab::new(&mut unused, 7, Bounds::default());
        let mut make = |_: Locality| -> Result<Box<dyn TrafficPolicy>, Fault> {
            Ok(Box::new(WrongTraffic { plan: *plan, choose: *choose, plans: 0 }))
        };
        let cases = check_traffic_policy(&[*class], &mut make, &mut lab);
        let case = cases.iter().find(|case| case.name == *law).unwrap_or_else(|| panic!("no law {law:?} of {class}"));
        assert_eq!(case.verdict, Verdict::Fails, "{law}");
    }
    let unbroken: Vec<_> =
        stages::names().into_iter().filter(|name| !BROKEN_TRAFFIC.iter().any(|(c, law, ..)| (*c, *law) == *name)).collect();
    assert_eq!(unbroken, []);
}

/// A selector whose groups are numbers that a function makes of what it is asked.
struct WrongSelector {
    classify: fn(&[Label], u64) -> Result<Option<u32>, Fault>,
    choose: fn(&Connection) -> Option<u32>,
    made: u64,
}

impl Selector for WrongSelector {
    fn plan(&mut self) -> Result<Vec<String>, Fault> {
        self.made = MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(["one", "other"].map(String::from).into())
    }

    fn classify(&mut self, labels: &[Label]) -> Result<Option<u32>, Fault> {
        (self.classify)(labels, self.made)
    }

    fn choose(&mut self, connection: &Connection) -> Result<Option<u32>, Fault> {
        Ok((self.choose)(connection))
    }
}

#[test]
fn each_law_of_selectors_finds_what_breaks_it() {
    type Classify = fn(&[Label], u64) -> Result<Option<u32>, Fault>;
    type Choose = fn(&Connection) -> Option<u32>;
    let broken: [(&str, Classify, Choose); 4] = [
        ("no fault on hostile input", |labels, _| if labels.len() > 100 { Err(Fault::Trap(String::new())) } else { Ok(None) }, |_| None),
        ("the same calls, the same answers", |_, made| Ok(Some(made as u32 % 2)), |_| None),
        ("the order of labels does not matter", |labels, _| Ok(labels.first().map(|label| u32::from(label.key == "app"))), |_| None),
        ("a client stays in its group", |_, _| Ok(None), |connection| Some(connection.random as u32 % 2)),
    ];
    for (law, classify, choose) in broken {
        let mut unused = |_: usize, _: u64| -> Result<Box<dyn Subject>, String> { Err("no balancer".to_owned()) };
        let mut lab = Lab::new(&mut unused, 7, Bounds::default());
        let cases = check_selector(&mut || Ok(Box::new(WrongSelector { classify, choose, made: 0 })), &mut lab);
        let case = cases.iter().find(|case| case.name == law).unwrap_or_else(|| panic!("no law {law:?}"));
        assert_eq!(case.verdict, Verdict::Fails, "{law}");
    }
}
