//! The laws are kept by what is built in, and each finds a subject that breaks it.
#![allow(clippy::unwrap_used, reason = "a test may end at once")]

use std::sync::{Arc, LazyLock};

use pointsman_guests::{BUILT_IN, Stage};

use super::*;
use crate::policy::compile::Compiler;
use crate::policy::contract::StageKind;
use crate::policy::{Limits, Runtime, Sandbox};
use crate::workbench::component::Candidate;
use crate::workbench::subject::Subject;

mod balancers;
mod stages;

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
            Stage::Selector => check_selector(promise.classes, &mut |laws| Ok(Box::new(candidate.selector(laws)?)), &mut lab),
            _ => check_traffic_policy(promise.classes, &mut |policy| Ok(Box::new(candidate.traffic_policy(&[], policy)?)), &mut lab),
        };
        assert_eq!(failures(&cases), [""; 0], "{}", component.name);
        assert!(cases.len() >= 5);
    }
}

/// It keeps every endpoint that ever refused.
#[test]
fn a_map_that_is_never_pruned_is_found() {
    let bytes = pointsman_guests::Component::named("learner").unwrap().bytes;
    let candidate = Candidate::load(&SANDBOX, "learner", bytes, Runtime::Normal).unwrap();
    let mut make =
        |workers, seed| candidate.balancer(&[], workers, seed).map(|s| Box::new(s) as Box<dyn Subject>).map_err(|e| e.to_string());
    let cases = check(&[Class::All], &mut Lab::new(&mut make, 7, Bounds::default()), &mut |_, _| {});
    assert!(failures(&cases)[0].starts_with("memory does not grow with changes: "), "{:?}", failures(&cases));
}

#[test]
fn each_class_is_of_the_stage_of_whoever_promises_it() {
    for component in BUILT_IN {
        let stage = match component.stage {
            Stage::Selector => StageKind::Selector,
            Stage::TrafficPolicy => StageKind::TrafficPolicy,
            Stage::Balancer => StageKind::Balancer,
        };
        for class in of_built_in(component.name).unwrap().classes {
            assert_eq!(class.stage(), Some(stage), "{}", component.name);
            assert!(Class::of_stage(stage).any(|of_stage| of_stage == *class));
        }
    }
    assert_eq!(Class::of_stage(StageKind::Selector).collect::<Vec<_>>(), [Class::All, Class::Match, Class::Share]);
}
