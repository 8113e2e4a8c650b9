//! Where laws are checked: subjects, endpoints and connections, all from one seed.

use std::collections::BTreeMap;

use pointsman_sdk::native;
use pointsman_sdk::types::{Connection, Endpoint, Frontend, Origin};
use xxhash_rust::xxh64::xxh64;

use crate::workbench::subject::{Answer, Subject};

/// Makes a fresh subject with so many workers; the seed is that of its workers.
pub type Make<'a> = dyn FnMut(usize, u64) -> Result<Box<dyn Subject>, String> + 'a;

/// Makes what laws need.
pub struct Lab<'a> {
    make: &'a mut Make<'a>,
    random: fastrand::Rng,
    pub(super) bounds: Bounds,
}

/// What differs between balancers of a class.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most that an endpoint may have, times the mean, for `Class::BoundedLoad`.
    pub factor: f64,
    /// The most of the clients that may move without need, for `Class::ConsistentHash`.
    pub collateral: f64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { factor: 1.25, collateral: super::COLLATERAL }
    }
}

/// Where keys end: the endpoint's key, or why there is none.
pub(super) type Place = Result<String, Answer>;

impl<'a> Lab<'a> {
    /// A lab.
    pub fn new(make: &'a mut Make<'a>, seed: u64, bounds: Bounds) -> Self {
        Self { make, random: fastrand::Rng::with_seed(seed), bounds }
    }

    /// One worker, with these endpoints.
    pub(super) fn subject(&mut self, endpoints: &[Endpoint]) -> Result<Box<dyn Subject>, String> {
        self.subject_of(1, 1, endpoints)
    }

    pub(super) fn subject_of(&mut self, workers: usize, seed: u64, endpoints: &[Endpoint]) -> Result<Box<dyn Subject>, String> {
        let mut subject = (self.make)(workers, seed)?;
        subject.set_endpoints(endpoints, 0).map_err(|why| format!("planning {} endpoints: {why}", endpoints.len()))?;
        Ok(subject)
    }

    /// A connection of a client of its own.
    pub(super) fn connection(&mut self, now_ms: u64) -> Connection {
        let client = self.random.u32(..);
        Connection {
            client_lo: 0xffff_0000_0000 | u64::from(client),
            client_hash: xxh64(&client.to_be_bytes(), 0),
            client_port: self.random.u16(1024..),
            random: self.random.u64(..),
            origin: Origin::Pod,
            frontend: Frontend::ClusterIp,
            now_ms,
            ..native::connection(0, 0)
        }
    }

    /// So many connections, a millisecond apart, each of a client of its own.
    pub fn connections(&mut self, count: u64) -> Vec<Connection> {
        (0..count).map(|n| self.connection(n)).collect()
    }

    /// The listing in another order.
    pub(super) fn shuffled(&mut self, endpoints: &[Endpoint]) -> Vec<Endpoint> {
        let mut endpoints = endpoints.to_vec();
        self.random.shuffle(&mut endpoints);
        endpoints
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.random.usize(..bound)
    }
}

/// Endpoints with these weights, ready, each with an address of its own.
pub(super) fn endpoints(weights: &[u32]) -> Vec<Endpoint> {
    native::endpoints(weights)
}

pub(super) fn equal(count: usize) -> Vec<Endpoint> {
    endpoints(&vec![1; count])
}

/// Weights of every size, among them 0.
const MIXED: [u32; 7] = [1, 5, 0, 2, 1, 100, 0];

pub(super) fn mixed(count: usize) -> Vec<Endpoint> {
    endpoints(&(0..count).map(|at| MIXED[at % MIXED.len()]).collect::<Vec<_>>())
}

/// As a listing: the slot is the place in it.
pub(super) fn renumbered(endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    (0..).zip(endpoints).map(|(slot, endpoint)| Endpoint { slot, ..endpoint }).collect()
}

/// Where each connection ends.
pub(super) fn places(subject: &mut dyn Subject, worker: usize, endpoints: &[Endpoint], connections: &[Connection]) -> Vec<Place> {
    connections.iter().map(|connection| place(subject, worker, endpoints, connection)).collect()
}

pub(super) fn place(subject: &mut dyn Subject, worker: usize, endpoints: &[Endpoint], connection: &Connection) -> Place {
    match subject.pick(worker, connection) {
        Answer::Slot(slot) => Ok(endpoints.get(slot as usize).map_or_else(|| format!("slot {slot}"), |endpoint| endpoint.key.clone())),
        other => Err(other),
    }
}

/// How many ended on each endpoint, in their order.
pub(super) fn counts(endpoints: &[Endpoint], places: &[Place]) -> Vec<u64> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for key in places.iter().flatten() {
        *counts.entry(key).or_default() += 1;
    }
    endpoints.iter().map(|endpoint| counts.get(endpoint.key.as_str()).copied().unwrap_or_default()).collect()
}

/// Shares by weight.
pub(super) fn fair(endpoints: &[Endpoint], picks: u64) -> Vec<f64> {
    let sum: f64 = endpoints.iter().map(|endpoint| f64::from(endpoint.weight)).sum();
    endpoints.iter().map(|endpoint| picks as f64 * f64::from(endpoint.weight) / sum).collect()
}

/// In words.
pub(super) fn shown(place: &Place) -> String {
    match place {
        Ok(key) => key.clone(),
        Err(Answer::NoOpinion) => "no opinion".to_owned(),
        Err(Answer::Fault(class)) => format!("a fault ({class:?})"),
        Err(Answer::Slot(slot)) => format!("slot {slot}"),
    }
}
