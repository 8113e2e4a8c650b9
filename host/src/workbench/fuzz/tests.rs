//! Planted faults are found, and what is built in has none that is found as quickly.
#![allow(clippy::unwrap_used, reason = "a test may end at once")]

use std::sync::{Arc, LazyLock};

use pointsman_guests::{BUILT_IN, Component, Stage};
use pointsman_sdk::types::Setting;

use super::*;
use crate::policy::compile::Compiler;
use crate::policy::{Limits, Runtime, Sandbox};
use crate::workbench::component::Candidate;

static SANDBOX: LazyLock<Arc<Sandbox>> = LazyLock::new(|| Sandbox::new(Limits::default(), Compiler::InProcess).unwrap());

/// Inputs that are tried for a planted fault: far fewer than 30 seconds allow.
const MOST_INPUTS: u64 = 300;

fn fuzzed(name: &str, settings: &[Setting], wanted: Wanted, inputs: u64) -> Case {
    let candidate = Candidate::load(&SANDBOX, name, Component::named(name).unwrap().bytes, Runtime::Normal).unwrap();
    let mut make = || match candidate.balancer(settings, 1, 1) {
        Ok(subject) => Ok(Box::new(subject) as Box<dyn Subject>),
        Err(error) => Err(error.to_string()),
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
    for component in BUILT_IN.iter().filter(|component| component.stage == Stage::Balancer) {
        let case = fuzzed(component.name, &[], Wanted::default(), 30);
        assert_eq!((case.verdict, &case.findings[..]), (Verdict::Holds, &[][..]), "{}", component.name);
    }
    assert_eq!(fuzzed("planted", &[], Wanted { affinity: true }, 30).verdict, Verdict::Holds, "without a fault");
}

#[test]
fn the_same_seed_finds_the_same() {
    let setting = Setting { key: "fault".to_owned(), value: "seven".to_owned() };
    let run = || fuzzed("planted", std::slice::from_ref(&setting), Wanted::default(), MOST_INPUTS);
    assert_eq!(run(), run());
}
