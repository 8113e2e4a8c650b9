//! What is counted of a balancer that is tried beside the one in force: who answered, who differed, and how evenly each would spread what
//! came. Made when a table names a candidate; a connection finds its place by slot and set, and allocates nothing.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::policy::contract::{Fault, Slot};
use crate::policy::counters::{FAULT_CLASSES, FUEL_BUCKETS, fuel_bucket, fuel_quantile};
use crate::route::Shadowed;
use crate::table::Port;

/// A Service that somebody is tried on; its ports and families are one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShadowKey {
    /// The Service's namespace.
    pub namespace: Arc<str>,
    /// The Service's name.
    pub service: Arc<str>,
}

/// What is known of a comparison at one moment, of one worker or summed over several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShadowSnapshot {
    /// Its connections.
    pub tally: ShadowTally,
    /// The endpoints that are there now, by `ip:port`.
    pub endpoints: BTreeMap<Arc<str>, EndpointPicks>,
}

/// Connections that both balancers were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShadowTally {
    /// All of them.
    pub connections: u64,
    /// Those of clients that the candidate is in charge of.
    pub canaries: u64,
    /// Those of them that it could not decide: the balancer in force did.
    pub failed: u64,
    /// Those that both had an answer for.
    pub compared: u64,
    /// Those of them for which the two differ.
    pub moved: u64,
    /// The balancer in force, the candidate.
    pub subjects: [SubjectTally; 2],
}

/// What one of the two answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectTally {
    /// With an endpoint.
    pub answered: u64,
    /// With no opinion.
    pub no_opinion: u64,
    /// Not, by `FAULT_CLASSES`.
    pub faults: [u64; FAULT_CLASSES.len()],
    /// The most fuel of one answer.
    pub fuel_max: u64,
    /// Answers by fuel (`fuel_bucket`).
    pub fuel_buckets: [u64; FUEL_BUCKETS],
}

/// How often an endpoint was picked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EndpointPicks {
    /// By the balancer in force, by the candidate; used or not.
    pub picks: [u64; 2],
    /// How often its weight promised, of the connections that found it among their candidates.
    pub promised: f64,
}

impl SubjectTally {
    fn count(&mut self, answer: &Result<Slot, Box<Fault>>, fuel: u64) {
        match answer {
            Ok(_) => self.answered += 1,
            Err(fault) => match FAULT_CLASSES.iter().position(|class| *class == fault.class()) {
                Some(class) => self.faults[class] += 1,
                None => self.no_opinion += 1,
            },
        }
        if fuel > 0 {
            self.fuel_max = self.fuel_max.max(fuel);
            self.fuel_buckets[fuel_bucket(fuel)] += 1;
        }
    }

    /// Times that it was not asked: it could not plan, its breaker was open, or its instance was being made.
    pub fn not_asked(&self) -> u64 {
        self.faults[FAULT_CLASSES.len() - 1]
    }

    /// Faults of its own, by class.
    pub fn faults(&self) -> impl Iterator<Item = (&'static str, u64)> {
        FAULT_CLASSES.into_iter().zip(self.faults).take(FAULT_CLASSES.len() - 1)
    }

    /// Faults of its own.
    pub fn faulted(&self) -> u64 {
        self.faults().map(|(_, count)| count).sum()
    }

    /// The fuel that this share of the answers stayed below, rounded up to a power of two, and not beyond the most that was used.
    pub fn fuel_quantile(&self, share: f64) -> u64 {
        fuel_quantile(&self.fuel_buckets, share).min(self.fuel_max)
    }

    fn merge(&mut self, other: &Self) {
        self.answered += other.answered;
        self.no_opinion += other.no_opinion;
        self.fuel_max = self.fuel_max.max(other.fuel_max);
        let add = |sum: &mut [u64], more: &[u64]| sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        add(&mut self.faults, &other.faults);
        add(&mut self.fuel_buckets, &other.fuel_buckets);
    }
}

impl ShadowTally {
    fn count(&mut self, shadowed: &Shadowed) {
        self.connections += 1;
        self.canaries += u64::from(shadowed.canary);
        self.failed += u64::from(shadowed.failed_client());
        if let Some(moved) = shadowed.moved() {
            self.compared += 1;
            self.moved += u64::from(moved);
        }
        let [balancer, candidate] = &mut self.subjects;
        balancer.count(&shadowed.balancer, shadowed.fuel[0]);
        candidate.count(&shadowed.candidate, shadowed.fuel[1]);
    }

    fn merge(&mut self, other: &Self) {
        self.connections += other.connections;
        self.canaries += other.canaries;
        self.failed += other.failed;
        self.compared += other.compared;
        self.moved += other.moved;
        self.subjects.iter_mut().zip(&other.subjects).for_each(|(sum, more)| sum.merge(more));
    }
}

impl ShadowSnapshot {
    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        self.tally.merge(&other.tally);
        for (key, more) in &other.endpoints {
            let sum = self.endpoints.entry(Arc::clone(key)).or_default();
            sum.picks.iter_mut().zip(more.picks).for_each(|(sum, more)| *sum += more);
            sum.promised += more.promised;
        }
    }
}

/// The comparison of one Service port, on one worker.
pub(super) struct Comparison {
    key: ShadowKey,
    since: u64,
    /// Whose slots and sets these are.
    port: Arc<Port>,
    tally: ShadowTally,
    /// By slot: the balancer in force, the candidate.
    picks: Vec<[u64; 2]>,
    /// Connections of each candidate set.
    sets: Vec<u64>,
    /// Of the same endpoints, before the port was what it is.
    earlier: BTreeMap<Arc<str>, EndpointPicks>,
}

impl Comparison {
    /// Of a port, going on where the one before stood. None where nobody is tried.
    pub(super) fn of(port: &Arc<Port>, before: Option<Self>) -> Option<Self> {
        let since = port.shadow.as_ref()?.since;
        let record = &port.record;
        let (tally, mut earlier) = match before {
            Some(before) if before.since == since => (before.tally.clone(), before.endpoints()),
            _ => Default::default(),
        };
        // Who has left is not held against anybody any more, and a Service may see any number of endpoints come and go.
        let present: HashSet<&str> = port.endpoints.iter().map(|endpoint| &*endpoint.key).collect();
        earlier.retain(|key, _| present.contains(&**key));
        Some(Self {
            key: ShadowKey { namespace: record.namespace.as_str().into(), service: record.name.as_str().into() },
            since,
            port: Arc::clone(port),
            tally,
            picks: vec![[0; 2]; port.endpoints.len()],
            sets: vec![0; port.sets.len()],
            earlier,
        })
    }

    pub(super) fn key(&self) -> &ShadowKey {
        &self.key
    }

    /// A connection that met this candidate set.
    pub(super) fn count(&mut self, set: Option<u32>, shadowed: &Shadowed) {
        self.tally.count(shadowed);
        if let Some(count) = set.and_then(|set| self.sets.get_mut(set as usize)) {
            *count += 1;
        }
        for (subject, answer) in [&shadowed.balancer, &shadowed.candidate].into_iter().enumerate() {
            if let Some(picks) = answer.as_ref().ok().and_then(|slot| self.picks.get_mut(*slot as usize)) {
                picks[subject] += 1;
            }
        }
    }

    /// Faults of the candidate.
    pub(super) fn faulted(&self) -> u64 {
        self.tally.subjects[1].faulted()
    }

    pub(super) fn snapshot(&self) -> ShadowSnapshot {
        ShadowSnapshot { tally: self.tally.clone(), endpoints: self.endpoints() }
    }

    fn endpoints(&self) -> BTreeMap<Arc<str>, EndpointPicks> {
        let mut endpoints = self.earlier.clone();
        for (endpoint, picks) in self.port.endpoints.iter().zip(&self.picks) {
            let sum = endpoints.entry(Arc::clone(&endpoint.key)).or_default();
            sum.picks.iter_mut().zip(picks).for_each(|(sum, more)| *sum += more);
        }
        let weight = |slot: &Slot| self.port.endpoints.get(*slot as usize).map_or(0.0, |endpoint| f64::from(endpoint.weight));
        for (set, connections) in self.port.sets.iter().zip(&self.sets).filter(|(_, connections)| **connections > 0) {
            let whole: f64 = set.members.iter().map(weight).sum();
            for slot in set.members.iter().filter(|slot| weight(slot) > 0.0) {
                if let Some(sum) = self.port.endpoints.get(*slot as usize).and_then(|endpoint| endpoints.get_mut(&endpoint.key)) {
                    sum.promised += *connections as f64 * weight(slot) / whole;
                }
            }
        }
        endpoints
    }
}

#[cfg(test)]
mod tests;
