//! Balancers that do one thing wrong, and the law that each breaks.
#![allow(clippy::unwrap_used, reason = "a test may end at once")]

use std::collections::BTreeSet;

use pointsman_sdk::types::{Connection, Endpoint, Outcome, OutcomeKind, Slot};

use super::super::*;
use crate::workbench::subject::{Answer, FaultClass, Subject};

/// A balancer in a few lines.
struct Wrong {
    pick: Pick,
    endpoints: Vec<Endpoint>,
    /// Those of weight, by key.
    eligible: Vec<Endpoint>,
    active: Vec<u32>,
    picks: u64,
    changes: u64,
    /// Picks under this plan.
    since_planned: u64,
    /// The connection before.
    last: Option<Connection>,
    /// How many in a row came from one client, and from one port after the other.
    alike: u64,
    scanned: u64,
    /// Endpoints that were slow to connect to, ever.
    slow: BTreeSet<u64>,
    name: &'static str,
}

type Pick = fn(&mut Wrong, &Connection) -> Answer;

impl Wrong {
    fn new(name: &'static str, pick: Pick) -> Self {
        Self {
            pick,
            endpoints: Vec::new(),
            eligible: Vec::new(),
            active: Vec::new(),
            picks: 0,
            changes: 0,
            since_planned: 0,
            last: None,
            alike: 0,
            scanned: 0,
            slow: BTreeSet::new(),
            name,
        }
    }

    /// By weight, as these are told.
    fn by_weight(&self, n: u64, weight: fn(u32) -> u32) -> Answer {
        let sum: u64 = self.eligible.iter().map(|endpoint| u64::from(weight(endpoint.weight))).sum();
        let mut left = n % sum.max(1);
        for endpoint in &self.eligible {
            match left.checked_sub(u64::from(weight(endpoint.weight))) {
                Some(rest) => left = rest,
                None => return Answer::Slot(endpoint.slot),
            }
        }
        Answer::NoOpinion
    }

    /// The least loaded of those that may be picked.
    fn least(&self, by: impl Fn(&Endpoint) -> f64) -> Answer {
        let least = self.eligible.iter().min_by(|a, b| by(a).total_cmp(&by(b)));
        least.map_or(Answer::NoOpinion, |endpoint| Answer::Slot(endpoint.slot))
    }

    /// At random, but a trap where it is so.
    fn traps_if(&self, traps: bool, connection: &Connection) -> Answer {
        if traps { Answer::Fault(FaultClass::Trap) } else { self.nth(connection.random) }
    }

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
        self.since_planned = 0;
        Ok(())
    }

    fn pick(&mut self, worker: usize, connection: &Connection) -> Answer {
        self.picks += 1;
        self.since_planned += 1;
        let follows = |by: u16| {
            self.last.is_some_and(|last| {
                last.client_hash == connection.client_hash && connection.client_port == last.client_port.wrapping_add(by)
            })
        };
        self.scanned = if follows(1) { self.scanned + 1 } else { 0 };
        self.alike = if self.last.is_some_and(|last| last.client_hash == connection.client_hash) { self.alike + 1 } else { 0 };
        let answer = (self.pick)(self, &Connection { client_hi: worker as u64, ..*connection });
        self.last = Some(*connection);
        answer
    }

    fn last_fuel(&self) -> u64 {
        0
    }

    fn memory_peak(&self) -> u64 {
        if self.name == "leaks" { 1_000_000 + self.changes * 40 } else { 1_000_000 }
    }

    fn set_active(&mut self, _worker: usize, slot: Slot, active: u32) {
        if let Some(counter) = self.active.get_mut(slot as usize) {
            *counter = active;
        }
    }

    fn report(&mut self, _worker: usize, _now_ms: u64, outcomes: &[Outcome]) -> Result<(), FaultClass> {
        let slow = outcomes.iter().filter(|outcome| outcome.kind == OutcomeKind::Connected && outcome.millis > 100);
        self.slow.extend(slow.map(|outcome| outcome.endpoint));
        let overflows = self.name == "adds up times" && outcomes.iter().any(|outcome| outcome.millis == u32::MAX);
        if overflows { Err(FaultClass::Trap) } else { Ok(()) }
    }
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
    ("needs two", Class::All, "no fault on hostile input", |w, c| w.traps_if(w.endpoints.len() == 1, c)),
    ("needs somebody", Class::All, "no fault on hostile input", |w, c| w.traps_if(w.eligible.is_empty(), c)),
    ("adds up weights", Class::All, "no fault on hostile input", |w, c| {
        w.traps_if(w.endpoints.iter().any(|endpoint| endpoint.weight == u32::MAX), c)
    }),
    ("draws until it has one of weight", Class::All, "no fault on hostile input", |w, c| {
        w.traps_if(w.eligible.len() == 1 && w.endpoints.len() == 1000, c)
    }),
    ("a table of 8,192", Class::All, "no fault on hostile input", |w, c| w.traps_if(w.endpoints.len() > 8192, c)),
    ("as many as there ever were", Class::All, "no fault on hostile input", |w, c| w.traps_if(w.endpoints.len() == 2 && w.changes > 2, c)),
    ("adds one to a draw", Class::All, "no fault on hostile input", |w, c| w.traps_if(c.random == u64::MAX, c)),
    ("divides by a draw", Class::All, "no fault on hostile input", |w, c| w.traps_if(c.random == 0, c)),
    ("adds one to the clock", Class::All, "no fault on hostile input", |w, c| {
        w.traps_if(c.now_ms == u64::MAX && c.client_port == u16::MAX, c)
    }),
    ("a history of a hundred", Class::All, "no fault on hostile input", |w, c| w.traps_if(w.changes > 100, c)),
    ("time goes on", Class::All, "no fault on hostile input", |w, c| {
        w.traps_if(w.last.is_some_and(|last| last.now_ms == 1_000_000 && c.now_ms == 999_999), c)
    }),
    ("keeps each port", Class::All, "no fault on hostile input", |w, c| w.traps_if(w.scanned > 1000, c)),
    ("counts a client to a thousand", Class::All, "no fault on hostile input", |w, c| w.traps_if(w.alike > 1000 && w.scanned == 0, c)),
    ("adds one to loads", Class::All, "no fault on hostile input", |w, c| w.traps_if(w.active.contains(&u32::MAX), c)),
    ("adds up times", Class::All, "no fault on hostile input", |w, c| w.nth(c.random)),
    ("goes on after each plan", Class::All, "planning again changes nothing", |w, c| w.nth(c.random.wrapping_add(w.changes))),
    ("begins anew with each plan", Class::All, "planning again changes nothing", |w, _| w.nth(w.since_planned)),
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
    ("goes by loads", Class::ConsistentHash, "the client alone decides", |w, c| {
        let home = w.nth(c.client_hash);
        let full = matches!(home, Answer::Slot(slot) if w.active[slot as usize] > 500);
        if full { w.nth(c.client_hash + 1) } else { home }
    }),
    ("goes by where it comes from", Class::ConsistentHash, "the client alone decides", |w, c| {
        w.nth(c.client_hash % 1000 + c.origin as u64)
    }),
    ("goes by what it dialled", Class::ConsistentHash, "the client alone decides", |w, c| w.nth(c.client_hash % 1000 + c.frontend as u64)),
    ("another on each worker", Class::ConsistentHash, "all workers agree", |w, c| w.nth(c.client_hash ^ c.client_hi)),
    ("half of them never", Class::ConsistentHash, "clients are spread evenly", |w, c| {
        w.nth(c.client_hash % (w.eligible.len() as u64).div_ceil(2).max(1))
    }),
    ("one of them hardly ever", Class::ConsistentHash, "clients are spread evenly", |w, c| {
        w.nth(if c.client_hash % 40 > 0 { c.client_hash % 9 } else { 9 })
    }),
    ("weights up to 1,000", Class::ConsistentHash, "weights times a number give the same shares", |w, c| {
        w.by_weight(c.client_hash, |weight| weight.min(1000))
    }),
    ("tires", Class::ConsistentHash, "twice the connections, twice the counts", |w, c| {
        w.nth(if w.picks > 60_000 { 0 } else { c.client_hash })
    }),
    ("shifts with each change", Class::ConsistentHash, "what was before does not matter", |w, c| w.nth(c.client_hash % 1000 + w.changes)),
    ("no weights", Class::ConsistentHash, "shares follow the weights", |w, c| w.nth(c.client_hash)),
    ("modulo", Class::ConsistentHash, "removing an endpoint moves its own clients", |w, c| w.nth(c.client_hash)),
    ("modulo", Class::ConsistentHash, "adding an endpoint moves clients to it alone", |w, c| w.nth(c.client_hash)),
    ("no weights", Class::Weighted, "shares follow the weights, but for chance", |w, c| w.nth(c.random)),
    ("weights up to 1,000", Class::Weighted, "weights times a number give the same shares", |w, c| {
        w.by_weight(c.random, |weight| weight.min(1000))
    }),
    ("tires", Class::Weighted, "twice the connections, twice the counts", |w, c| w.nth(if w.picks > 60_000 { 0 } else { c.random })),
    ("at random", Class::RoundRobin, "each period has each endpoint as often as its weight", |w, c| w.nth(c.random)),
    ("all of one, then all of the next", Class::RoundRobin, "an endpoint's turns are spread over the period", |w, _| {
        w.by_weight(w.picks - 1, |weight| weight)
    }),
    ("the first first", Class::RoundRobin, "workers do not start in step", |w, _| w.nth(0)),
    ("blind to load", Class::LeastLoaded, "a loaded endpoint is avoided", |w, c| w.nth(c.random)),
    ("blind to load", Class::LeastLoaded, "10,000 open connections stay even over 100 endpoints", |w, c| w.nth(c.random)),
    ("blind to load", Class::LeastLoaded, "a slow endpoint gets fewer", |w, c| w.nth(c.random)),
    ("the least of all", Class::FewChoices, "counters that are stale do not make a herd", |w, _| {
        let least = (0..w.active.len()).min_by_key(|slot| w.active[*slot]);
        least.map_or(Answer::NoOpinion, |slot| Answer::Slot(slot as u32))
    }),
    ("the more loaded of two", Class::LeastLoaded, "of those it looks at, none is less loaded than the one it picks", |w, c| {
        let (one, other) = (c.random as usize % 20, (c.random >> 32) as usize % 20);
        // Right while one of them is idle.
        let less = if w.active[one].min(w.active[other]) == 0 { w.active[other] < w.active[one] } else { w.active[other] > w.active[one] };
        Answer::Slot(if less { other } else { one } as u32)
    }),
    ("no bound", Class::BoundedLoad, "no endpoint gets more than its bound", |w, c| w.nth(c.client_hash)),
    ("no weights", Class::BoundedLoad, "no endpoint gets more than its bound", |w, _| {
        w.least(|endpoint| f64::from(w.active[endpoint.slot as usize]))
    }),
    ("forgets that connections close", Class::BoundedLoad, "no endpoint gets more than its bound", |w, c| {
        let home = c.client_hash as usize % w.endpoints.len();
        let sum: u32 = w.endpoints.iter().map(|endpoint| endpoint.weight).sum();
        let bound = 1.25 * w.picks as f64 * f64::from(w.endpoints[home].weight) / f64::from(sum);
        if f64::from(w.active[home]) < bound.ceil() {
            return Answer::Slot(home as u32);
        }
        w.least(|endpoint| f64::from(w.active[endpoint.slot as usize]) / f64::from(endpoint.weight))
    }),
    ("blind to time", Class::LatencyAware, "an endpoint that is slow to connect to gets little", |w, c| w.nth(c.random)),
    ("blind to failures", Class::LatencyAware, "an endpoint that refuses at once does not attract", |w, c| w.nth(c.random)),
    ("never forgives", Class::LatencyAware, "and comes back when it is quick again", |w, c| {
        let good: Vec<&Endpoint> = w.eligible.iter().filter(|endpoint| !w.slow.contains(&endpoint.hash)).collect();
        good.get(c.random as usize % good.len().max(1)).map_or(Answer::NoOpinion, |endpoint| Answer::Slot(endpoint.slot))
    }),
    ("all alike", Class::FillInOrder, "one endpoint is filled before the next is begun, in the order of their keys", |w, c| {
        w.nth(c.random)
    }),
    ("never looks back", Class::FillInOrder, "who has room again is used again", |w, _| w.nth((w.picks - 1) / 10)),
];

#[test]
fn each_law_finds_what_breaks_it() {
    let mut unbroken = Vec::new();
    for (name, class, law, pick) in BROKEN {
        let mut make = |_: usize, _: u64| -> Result<Box<dyn Subject>, String> { Ok(Box::new(Wrong::new(name, *pick))) };
        let (_, check) = laws(*class).into_iter().find(|(name, _)| name == law).unwrap_or_else(|| panic!("no law {law:?} of {class}"));
        let case = judge(law, |found| check(&mut Lab::new(&mut make, 7, Bounds::default()), found));
        if case.verdict != Verdict::Fails || case.findings.is_empty() {
            unbroken.push(format!("{law}: not broken by {name}"));
        }
    }
    assert_eq!(unbroken, [""; 0]);
}

#[test]
fn every_law_has_something_that_breaks_it() {
    use clap::ValueEnum;
    let laws = Class::value_variants().iter().flat_map(|class| laws(*class)).map(|(name, _)| name);
    let unbroken: Vec<&str> = laws.filter(|law| !BROKEN.iter().any(|(_, _, broken, _)| broken == law)).collect();
    assert_eq!(unbroken, [""; 0]);
}
