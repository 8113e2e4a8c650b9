#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod events;
mod expectations;
mod files;
mod random;

use std::path::Path;

use pointsman_policy_least_connections::LeastConnections;
use pointsman_policy_maglev::Maglev;
use pointsman_policy_random::Random;
use pointsman_policy_rendezvous::Rendezvous;
use pointsman_policy_round_robin::RoundRobin;
use pointsman_policy_two_choices::TwoChoices;

use super::*;
use crate::workbench::native::NativeSubject;
use crate::workbench::report::{Estimate, Report};

/// A built-in, natively.
fn built_in(name: &str, workers: usize, seed: u64) -> Result<Box<dyn Subject>, String> {
    Ok(match name {
        "least-connections" => Box::new(NativeSubject::<LeastConnections>::new(name, &[], workers, seed)?),
        "maglev" => Box::new(NativeSubject::<Maglev>::new(name, &[], workers, seed)?),
        "random" => Box::new(NativeSubject::<Random>::new(name, &[], workers, seed)?),
        "rendezvous" => Box::new(NativeSubject::<Rendezvous>::new(name, &[], workers, seed)?),
        "round-robin" => Box::new(NativeSubject::<RoundRobin>::new(name, &[], workers, seed)?),
        "two-choices" => Box::new(NativeSubject::<TwoChoices>::new(name, &[], workers, seed)?),
        other => return Err(format!("there is no policy `{other}`")),
    })
}

fn scenario(text: &str) -> Scenario {
    Scenario::read(Path::new("test.yaml"), text).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]))
}

fn try_run(text: &str, policies: &[&str], seeds: u32, seed: u64) -> Result<Report, SimError> {
    let subject = |name: &&str| report::Subject { name: (*name).to_owned(), digest: None };
    let subjects: Vec<report::Subject> = policies.iter().map(subject).collect();
    let mut factory = |wanted: Wanted<'_>, workers: usize, seed: u64| match wanted {
        Wanted::Tried(which) => built_in(policies[which], workers, seed),
        Wanted::Named(name) => built_in(name, workers, seed),
    };
    simulate(&scenario(text), &subjects, &mut factory, seeds, seed, &mut |_, _| {})
}

fn run(text: &str, policies: &[&str], seeds: u32) -> Report {
    try_run(text, policies, seeds, 7).unwrap()
}

/// The value of a metric, for each subject.
fn values(report: &Report, metric: &str) -> Vec<Estimate> {
    let found = report.metrics.iter().find(|candidate| candidate.name == metric);
    found.unwrap_or_else(|| panic!("{metric} was not measured")).values.clone()
}

fn mean(report: &Report, metric: &str) -> f64 {
    values(report, metric)[0].mean
}
