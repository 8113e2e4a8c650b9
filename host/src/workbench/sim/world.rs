//! What there is: endpoints, and connections to them.

use std::collections::VecDeque;

use pointsman_sdk::types::{Endpoint, Slot};

use super::random::Stream;
use super::scenario::{Failure, Group};

/// Tries of one connection, as the data plane has it: the first, and three more.
pub(super) const MAX_ATTEMPTS: usize = 4;

/// A connection, as long as it is there: a number that is used again has another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Handle {
    number: u32,
    generation: u32,
}

/// An endpoint, and the server behind it.
pub(super) struct Node {
    /// As policies see it; `slot` is filled in for each plan.
    pub(super) endpoint: Endpoint,
    /// Requests served at a time.
    pub(super) capacity: u32,
    /// What it takes longer than others, whatever befalls it.
    slow: f64,
    /// What it takes longer for a while.
    pub(super) slowed: Vec<Slowed>,
    /// It left for good.
    pub(super) removed: bool,
    /// For how many reasons it is not ready, as the host knows it.
    pub(super) not_ready: u32,
    /// For how many reasons nobody answers there.
    pub(super) gone: u32,
    /// The ways in which it fails for a while.
    pub(super) failing: Vec<Failing>,
    /// In the plan that workers have.
    pub(super) slot: Option<Slot>,
    /// The plan that brought it in.
    pub(super) joined: u32,
    /// Connections, from pick to close.
    pub(super) active: u32,
    /// Of these, each worker's.
    pub(super) own: Vec<u32>,
    /// Requests in service.
    pub(super) busy: u32,
    /// Requests that wait.
    pub(super) waiting: VecDeque<Handle>,
}

/// Slower by a factor, until a time.
pub(super) struct Slowed {
    pub(super) factor: f64,
    pub(super) until: u64,
}

/// Failing a part of the connections, until a time.
pub(super) struct Failing {
    pub(super) how: Failure,
    pub(super) share: f64,
    pub(super) until: u64,
}

impl Node {
    pub(super) fn new(group: &Group, key: &str, workers: usize, now_ms: u64) -> Self {
        let endpoint =
            Endpoint { zone: group.zone.clone(), ready_since_ms: now_ms, ..pointsman_sdk::native::endpoint(0, key, group.weight) };
        Self {
            endpoint,
            capacity: group.capacity.unwrap_or(u32::MAX),
            slow: group.slow,
            slowed: Vec::new(),
            removed: false,
            not_ready: 0,
            gone: 0,
            failing: Vec::new(),
            slot: None,
            joined: 0,
            active: 0,
            own: vec![0; workers],
            busy: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Another in its place: the same server, afresh.
    pub(super) fn successor(&self) -> Group {
        Group {
            count: 1,
            key: None,
            weight: self.endpoint.weight,
            zone: self.endpoint.zone.clone(),
            capacity: Some(self.capacity),
            slow: self.slow,
        }
    }

    /// The factor by which it is slower than others now.
    pub(super) fn slowness(&self, now: u64) -> f64 {
        self.slowed.iter().filter(|slowed| now < slowed.until).fold(self.slow, |slow, slowed| slow * slowed.factor)
    }

    /// How it fails a connection now, if it does: after it was established, or before.
    pub(super) fn fails(&self, now: u64, established: bool, chance: &mut Stream) -> Option<Failure> {
        let mut failing = self.failing.iter().filter(|failing| now < failing.until && (failing.how == Failure::Reset) == established);
        failing.find(|failing| chance.unit() < failing.share).map(|failing| failing.how)
    }

    /// Whether the host takes it for an endpoint now.
    pub(super) fn is_ready(&self) -> bool {
        !self.removed && self.not_ready == 0
    }
}

/// A connection on its way, or established.
pub(super) struct Connection {
    pub(super) stage: Stage,
    pub(super) worker: usize,
    pub(super) client: u32,
    /// The policy's random bits, the same for every attempt.
    pub(super) bits: u64,
    /// What happens by chance to this connection alone.
    pub(super) chance: Stream,
    /// Of the first request, then of the next.
    pub(super) service: u64,
    pub(super) lifetime: u64,
    /// Nodes that were tried, the last of them last; of these so many.
    pub(super) tried: [u32; MAX_ATTEMPTS],
    pub(super) attempts: usize,
    /// Since when the client waits for its answer.
    pub(super) asked: u64,
    /// When this attempt began; then when the request reached the endpoint.
    pub(super) begun: u64,
    /// The plan that the last of them was picked by.
    pub(super) plan: u32,
    /// When it was established.
    pub(super) opened: u64,
    /// Whether it came while it was measured.
    pub(super) measured: bool,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connecting,
    Established,
}

impl Connection {
    /// The node that is tried, or that it is established with.
    pub(super) fn node(&self) -> usize {
        self.tried[self.attempts.saturating_sub(1)] as usize
    }

    pub(super) fn has_tried(&self, node: u32) -> bool {
        self.tried[..self.attempts].contains(&node)
    }
}

/// Connections by handle, in places that are used again.
#[derive(Default)]
pub(super) struct Connections {
    places: Vec<(u32, Option<Connection>)>,
    free: Vec<u32>,
}

impl Connections {
    pub(super) fn insert(&mut self, connection: Connection) -> Handle {
        let number = self.free.pop().unwrap_or(self.places.len() as u32);
        if number as usize == self.places.len() {
            self.places.push((0, None));
        }
        let (generation, place) = &mut self.places[number as usize];
        *place = Some(connection);
        Handle { number, generation: *generation }
    }

    /// None: it has ended.
    pub(super) fn find(&mut self, handle: Handle) -> Option<&mut Connection> {
        let (generation, connection) = self.places.get_mut(handle.number as usize)?;
        connection.as_mut().filter(|_| *generation == handle.generation)
    }

    pub(super) fn remove(&mut self, handle: Handle) -> Option<Connection> {
        let (generation, place) = self.places.get_mut(handle.number as usize)?;
        if *generation != handle.generation {
            return None;
        }
        let connection = place.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(handle.number);
        Some(connection)
    }

    /// Those that are established with a node.
    pub(super) fn established_with(&self, node: usize) -> Vec<Handle> {
        let places = self.places.iter().enumerate();
        let with = places.filter_map(|(number, (generation, connection))| {
            let connection = connection.as_ref()?;
            let with = connection.stage == Stage::Established && connection.node() == node;
            with.then_some(Handle { number: number as u32, generation: *generation })
        });
        with.collect()
    }
}
