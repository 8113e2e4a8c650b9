//! Planted faults are found, and what is built in has none that is found as quickly.
#![allow(clippy::unwrap_used, reason = "a test may end at once")]

use std::sync::{Arc, LazyLock};

use pointsman_guests::{BUILT_IN, Component};
use pointsman_sdk::types::{Connection, Endpoint, Label, Setting, Slot, Verdict as Choice};

use super::*;
use crate::policy::compile::Compiler;
use crate::policy::contract::{Fault, StageKind};
use crate::policy::{Limits, Runtime, Sandbox};
use crate::workbench::component::Candidate;
use crate::workbench::laws::{Selector, TrafficPolicy};

static SANDBOX: LazyLock<Arc<Sandbox>> = LazyLock::new(|| Sandbox::new(Limits::default(), Compiler::InProcess).unwrap());

/// Inputs that are tried for a planted fault: far fewer than 30 seconds allow.
const MOST_INPUTS: u64 = 300;

fn fuzzed(name: &str, settings: &[Setting], wanted: Wanted, inputs: u64) -> Case {
    let candidate = Candidate::load(&SANDBOX, name, Component::named(name).unwrap().bytes, Runtime::Normal).unwrap();
    let mut make = |policy| {
        Ok(match candidate.stage() {
            StageKind::Balancer => Tried::Balancer(Box::new(candidate.balancer(settings, 1, 1).unwrap())),
            StageKind::TrafficPolicy => Tried::TrafficPolicy(Box::new(candidate.traffic_policy(settings, policy)?)),
            StageKind::Selector => Tried::Selector(Box::new(candidate.selector(settings)?)),
        })
    };
    fuzz(&mut make, wanted, 1, &mut |tried| tried < inputs).unwrap()
}

#[test]
fn each_planted_fault_is_found_and_made_small() {
    // The fault, how it shows, and what must be left of the input: no more steps than these.
    for (fault, shows, steps) in [
        ("seven", "trap", 2),
        ("heavy", "plan fails", 1),
        ("shrunk", "out-of-range", 3),
        ("hash-loop", "out-of-fuel", 2),
        ("idle", "out-of-range", 2),
        ("flaps", "a client goes elsewhere", 110),
        ("leak", "host-limit", 300),
        ("divide", "trap", 2),
        ("clock", "trap", 3),
        ("random-max", "out-of-range", 2),
    ] {
        let setting = Setting { key: "fault".to_owned(), value: fault.to_owned() };
        let case = fuzzed("planted", &[setting], Wanted { affinity: fault == "flaps" }, MOST_INPUTS);
        assert_eq!(case.verdict, Verdict::Fails, "{fault} is not found");
        let finding = &case.findings[0];
        assert!(finding.starts_with(shows), "{fault}: {finding}");
        assert!(case.findings.len() <= steps + 1, "{fault}: {:?}", case.findings);
    }
}

#[test]
fn what_is_built_in_has_none() {
    for component in BUILT_IN {
        let case = fuzzed(component.name, &[], Wanted::default(), 30);
        assert_eq!((case.verdict, &case.findings[..]), (Verdict::Holds, &[][..]), "{}", component.name);
    }
    assert_eq!(fuzzed("planted", &[], Wanted { affinity: true }, 30).verdict, Verdict::Holds, "without a fault");
}

#[test]
fn a_plan_that_always_fails_is_made_as_small_as_can_be() {
    for seed in 1..6 {
        let mut made = 0;
        let mut make = |_| {
            made += 1;
            Ok(Tried::TrafficPolicy(Box::new(Wrong { fault: "plans by chance", nth: made, ready: 0 }) as Box<dyn TrafficPolicy>))
        };
        let case = fuzz(&mut make, Wanted::default(), seed, &mut |tried| tried < 1).unwrap();
        assert_eq!(case.findings.len(), 2, "{:?}", case.findings);
        assert_eq!(case.findings[1].matches("key:").count(), 1, "{:?}", case.findings);
    }
}

#[test]
fn the_same_seed_finds_the_same() {
    let setting = Setting { key: "fault".to_owned(), value: "seven".to_owned() };
    let run = || fuzzed("planted", std::slice::from_ref(&setting), Wanted::default(), MOST_INPUTS);
    assert_eq!(run(), run());
}

/// Traffic policies and selectors that do one thing wrong; the number tells a twin from its brother.
#[derive(Clone, Copy)]
struct Wrong {
    fault: &'static str,
    nth: u64,
    ready: usize,
}

impl TrafficPolicy for Wrong {
    fn plan(&mut self, endpoints: &[Endpoint]) -> Result<Vec<Vec<Slot>>, Fault> {
        self.ready = endpoints.iter().filter(|endpoint| endpoint.conditions.ready).count();
        match self.fault {
            "plans no terminating one" if endpoints.iter().any(|endpoint| endpoint.conditions.terminating) => {
                Err(Fault::Refused("terminating".to_owned()))
            }
            "plans by chance" => Ok(vec![vec![self.nth as Slot]]),
            _ => Ok(vec![Vec::new()]),
        }
    }

    fn choose(&mut self, connection: &Connection) -> Result<Choice, Fault> {
        match self.fault {
            "traps" if connection.client_hash == 0 => Err(Fault::Trap("unreachable".to_owned())),
            "refuses" if self.ready == 3 => Ok(Choice::Reject),
            "chooses by chance" => Ok(Choice::Forward((self.nth % 2) as u32)),
            "flaps" => Ok(Choice::Forward(connection.random as u32 % 2)),
            _ => Ok(Choice::Forward(0)),
        }
    }
}

impl Selector for Wrong {
    fn plan(&mut self) -> Result<Vec<String>, Fault> {
        Ok(vec!["all".to_owned()])
    }

    fn classify(&mut self, labels: &[Label]) -> Result<Option<u32>, Fault> {
        match self.fault {
            "traps" if labels.is_empty() => Err(Fault::Trap("unreachable".to_owned())),
            "classifies by chance" => Ok(Some((self.nth % 2) as u32)),
            _ => Ok(None),
        }
    }

    fn choose(&mut self, connection: &Connection) -> Result<Option<u32>, Fault> {
        Ok(Some(if self.fault == "flaps" { connection.random as u32 % 2 } else { 0 }))
    }
}

#[test]
fn faults_of_the_other_stages_are_found() {
    let traffic_policy: fn(Wrong) -> Tried = |wrong| Tried::TrafficPolicy(Box::new(wrong));
    let selector: fn(Wrong) -> Tried = |wrong| Tried::Selector(Box::new(wrong));
    // The fault, how it shows, and the steps that must be enough.
    for (stage, fault, shows, steps) in [
        (traffic_policy, "plans no terminating one", "plan fails", 1),
        (traffic_policy, "plans by chance", "two instances differ", 1),
        (traffic_policy, "traps", "trap", 2),
        (traffic_policy, "refuses", "refused, though an endpoint is ready", 2),
        (traffic_policy, "chooses by chance", "two instances differ", 2),
        (traffic_policy, "flaps", "a client goes elsewhere", 3),
        (selector, "traps", "trap", 1),
        (selector, "classifies by chance", "two instances differ", 1),
        (selector, "flaps", "a client goes elsewhere", 3),
    ] {
        let mut made = 0;
        let mut make = |_| {
            made += 1;
            Ok(stage(Wrong { fault, nth: made, ready: 0 }))
        };
        let case = fuzz(&mut make, Wanted { affinity: fault == "flaps" }, 1, &mut |tried| tried < MOST_INPUTS).unwrap();
        let finding = &case.findings.first().unwrap_or_else(|| panic!("{fault} is not found"));
        assert!(finding.starts_with(shows), "{fault}: {finding}");
        assert!(case.findings.len() <= steps + 1, "{fault}: {:?}", case.findings);
    }
}
