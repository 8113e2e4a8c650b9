//! What policies of a class promise, as laws that can be checked: a policy's author names the class instead of writing the tests.
//!
//! A law is given a `Lab`, which makes fresh subjects; it finds what is wrong, and measures.

mod class;
mod every;
mod fill;
mod hashing;
mod hostile;
mod lab;
mod latency;
mod loads;
mod selectors;
mod spread;
mod stages;
mod weights;

pub use class::{COLLATERAL, Class, Promise, of_built_in};
pub use lab::{Bounds, Lab, Make};
pub(in crate::workbench) use selectors::labels;
pub use selectors::{MakeSelector, Selector, check_selector};
pub use spread::{by_group, by_place};
pub(in crate::workbench) use stages::varied;
pub use stages::{MakeTrafficPolicy, TrafficPolicy, check_traffic_policy};

use super::report::{Case, Estimate, Metric, Verdict};

/// What a law found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    findings: Vec<String>,
    metrics: Vec<Metric>,
    /// Why it was not checked.
    skipped: Option<String>,
}

impl Found {
    /// Something is not as it must be; the first few are told.
    fn wrong(&mut self, what: impl FnOnce() -> String) {
        match self.findings.len() {
            0..MAX_FINDINGS => self.findings.push(what()),
            MAX_FINDINGS => self.findings.push("and more".to_owned()),
            _ => {}
        }
    }

    fn unless(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong(what);
        }
    }

    fn measured(&mut self, name: &str, unit: &str, value: f64) {
        self.metrics.push(Metric { name: name.to_owned(), unit: unit.to_owned(), values: vec![Estimate::exact(value)], differs: None });
    }
}

const MAX_FINDINGS: usize = 3;

/// A law: its name, and the check. An error is the subject's: it would not plan, say.
type Law = (&'static str, fn(&mut Lab<'_>, &mut Found) -> Result<(), String>);

/// The laws of a class of balancers, those of every balancer first.
fn laws(class: Class) -> Vec<Law> {
    let own: &[Law] = match class {
        Class::ConsistentHash => hashing::LAWS,
        Class::Weighted => weights::LAWS,
        Class::RoundRobin => weights::EXACT_LAWS,
        Class::LeastLoaded => loads::LAWS,
        Class::FewChoices => loads::FEW_LAWS,
        Class::BoundedLoad => loads::BOUNDED_LAWS,
        Class::LatencyAware => latency::LAWS,
        Class::FillInOrder => fill::LAWS,
        Class::All | Class::Locality | Class::Zone | Class::ServicePolicy | Class::Match | Class::Share => &[],
    };
    every::LAWS.iter().chain(own).copied().collect()
}

/// Checks every law of these classes, each law once.
pub fn check(classes: &[Class], lab: &mut Lab<'_>, progress: &mut dyn FnMut(usize, usize)) -> Vec<Case> {
    let mut all: Vec<Law> = Vec::new();
    for law in classes.iter().flat_map(|class| laws(*class)) {
        if !all.iter().any(|(name, _)| *name == law.0) {
            all.push(law);
        }
    }
    let of = all.len();
    let mut cases = Vec::with_capacity(of);
    for (at, (name, law)) in all.into_iter().enumerate() {
        progress(at, of);
        cases.push(judge(name, |found| law(lab, found)));
    }
    progress(of, of);
    cases
}

/// Checks one law.
fn judge(name: &str, law: impl FnOnce(&mut Found) -> Result<(), String>) -> Case {
    let mut found = Found::default();
    if let Err(why) = law(&mut found) {
        found.findings.push(why);
    }
    let verdict = match (&found.skipped, found.findings.is_empty()) {
        (_, false) => Verdict::Fails,
        (Some(_), true) => Verdict::Skipped,
        (None, true) => Verdict::Holds,
    };
    found.findings.extend(found.skipped);
    Case { name: name.to_owned(), verdict, findings: found.findings, metrics: found.metrics }
}

#[cfg(test)]
mod tests;
