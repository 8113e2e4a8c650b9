//! What policies of a class promise, as laws that can be checked: a policy's author names the class instead of writing the tests.
//!
//! A law is given a `Lab`, which makes fresh subjects; it finds what is wrong, and measures.

mod every;
mod hashing;
mod lab;
mod loads;
mod spread;
mod stages;
mod weights;

use std::fmt;

pub use lab::{Bounds, Lab, Make};
pub use spread::{by_group, by_place};
pub use stages::{MakeSelector, MakeTrafficPolicy, Selector, TrafficPolicy, check_selector, check_traffic_policy};
pub(in crate::workbench) use stages::{labels, varied};

use super::report::{Case, Estimate, Metric, Verdict};

/// A class of policies; of balancers, unless it says otherwise.
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
    /// A traffic policy that stays on the node
    Locality,
    /// A traffic policy that stays in the zone
    Zone,
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
            Self::Locality => "locality",
            Self::Zone => "zone",
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
        Class::All | Class::Locality | Class::Zone => &[],
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

/// What a policy promises.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// Its classes.
    pub classes: &'static [Class],
    /// The most of the clients that a change of one endpoint moves without need.
    pub collateral: f64,
}

/// Of the clients. Maglev with a table of 100 entries an endpoint has 1.2 to 2.0 % (measured), of 65,537 entries below 1 %; ketama and
/// rendezvous have none.
pub const COLLATERAL: f64 = 0.025;

/// What a built-in policy promises.
pub fn of_built_in(name: &str) -> Option<Promise> {
    let promise = |classes| Some(Promise { classes, collateral: COLLATERAL });
    match name {
        "round-robin" => promise(&[Class::Weighted, Class::RoundRobin]),
        "random" => promise(&[Class::Weighted]),
        "least-connections" => promise(&[Class::LeastLoaded]),
        "two-choices" | "peak-ewma" => promise(&[Class::LeastLoaded, Class::FewChoices]),
        "maglev" | "rendezvous" | "ketama" => promise(&[Class::ConsistentHash]),
        // As Envoy's: the ring is filled up to its smallest size, so everybody's points change in number (6.7 % from 10 endpoints to 9).
        "ring-hash" => Some(Promise { classes: &[Class::ConsistentHash], collateral: 0.1 }),
        "bounded-maglev" => promise(&[Class::BoundedLoad]),
        "first-available" | "kubernetes" | "label-selector" | "canary" => promise(&[Class::All]),
        "prefer-local" => promise(&[Class::Locality]),
        "zone-spill" => promise(&[Class::Zone]),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
