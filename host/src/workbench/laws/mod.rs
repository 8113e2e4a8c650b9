//! What policies of a class promise, as laws that can be checked: a policy's author names the class instead of writing the tests.
//!
//! A law is given a `Lab`, which makes fresh subjects; it finds what is wrong, and measures.

mod every;
mod hashing;
mod lab;
mod loads;
mod weights;

use std::fmt;

pub use lab::{Lab, Make};

use super::report::{Case, Estimate, Metric, Verdict};

/// A class of balancers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Class {
    /// Every balancer
    All,
    /// The endpoint follows from the client and the endpoints, and few clients move when those change
    ConsistentHash,
    /// Shares follow the weights
    Weighted,
    /// Each endpoint exactly as often as its weight says, evenly spread
    RoundRobin,
    /// Fewer live connections are better
    LeastLoaded,
    /// Looks at few endpoints, so that counters that are stale do not send everybody to one
    FewChoices,
    /// No endpoint gets more than so many times the mean
    BoundedLoad,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::ConsistentHash => "consistent-hash",
            Self::Weighted => "weighted",
            Self::RoundRobin => "round-robin",
            Self::LeastLoaded => "least-loaded",
            Self::FewChoices => "few-choices",
            Self::BoundedLoad => "bounded-load",
        })
    }
}

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

/// The laws of a class, those of every balancer first.
fn laws(class: Class) -> Vec<Law> {
    let own: &[Law] = match class {
        Class::All => &[],
        Class::ConsistentHash => hashing::LAWS,
        Class::Weighted => weights::LAWS,
        Class::RoundRobin => weights::EXACT_LAWS,
        Class::LeastLoaded => loads::LAWS,
        Class::FewChoices => loads::FEW_LAWS,
        Class::BoundedLoad => loads::BOUNDED_LAWS,
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
        let mut found = Found::default();
        if let Err(why) = law(lab, &mut found) {
            found.findings.push(why);
        }
        let verdict = match (&found.skipped, found.findings.is_empty()) {
            (_, false) => Verdict::Fails,
            (Some(_), true) => Verdict::Skipped,
            (None, true) => Verdict::Holds,
        };
        found.findings.extend(found.skipped);
        cases.push(Case { name: name.to_owned(), verdict, findings: found.findings, metrics: found.metrics });
    }
    progress(of, of);
    cases
}

/// The classes that the built-in balancers promise.
pub fn of_built_in(name: &str) -> Option<&'static [Class]> {
    Some(match name {
        "round-robin" => &[Class::Weighted, Class::RoundRobin],
        "random" => &[Class::Weighted],
        "least-connections" => &[Class::LeastLoaded],
        "two-choices" | "peak-ewma" => &[Class::LeastLoaded, Class::FewChoices],
        "maglev" | "rendezvous" | "ring-hash" | "ketama" => &[Class::ConsistentHash],
        "bounded-maglev" => &[Class::BoundedLoad],
        "first-available" => &[Class::All],
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
