//! The flow table: who is talking to which endpoint, and since when. No sockets, no clock: times are passed in, and what ends is handed
//! back to whoever keeps the sockets.
//!
//! A flow is a client's address and port on one frontend. It is bound to an endpoint of a Service, and ends when it was idle for too
//! long, when it reaches its age, when its endpoint leaves, or when it has to make room.

mod chains;
mod standing;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::ops::{Bound, RangeInclusive};

use self::chains::{Chain, Chains};
pub(super) use self::standing::{Standing, standings};
use crate::table::ServiceId;

/// A flow that was answered and is still in use at this age is a stream, as in Linux (`net/netfilter/nf_conntrack_proto_udp.c`,
/// `stream_ts`). A question and its answer are none.
pub(super) const STREAM_AFTER_MS: u64 = 2_000;

/// Of a client that has as many flows as it may, so many of the oldest are looked at for the one that was idle longest.
const LOOKED_AT: usize = 32;

/// What a flow is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The frontend's number.
    pub(super) frontend: u32,
    pub(super) client: SocketAddr,
}

/// The endpoint that a flow is bound to, by the hash of its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bond {
    pub(super) service: ServiceId,
    pub(super) endpoint: u64,
}

/// How long a flow may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// Without a datagram, before it is a stream.
    pub(super) idle_ms: u64,
    /// Without a datagram, once it is one.
    pub(super) stream_idle_ms: u64,
    /// In all.
    pub(super) max_age_ms: Option<u64>,
}

/// How many flows there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) flows: usize,
    /// Of one client address.
    pub(super) per_client: usize,
}

/// One flow; stays invalid once that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FlowId {
    at: u32,
    epoch: u32,
}

/// Whether there is room for one more flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    /// When this one makes room. It is the client's own when the client has too many; else one that is no stream yet, as Linux has it
    /// (`early_drop`), so that a flood of new clients does not end what works.
    After(FlowId),
    /// Every flow is a stream.
    None,
}

/// Why time ended a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    Idle,
    Aged,
    /// Its endpoint was on its way out, and so long was given.
    EndpointLeft,
}

/// Flows, each with what the caller keeps for it.
pub(super) struct Flows<T> {
    limits: Limits,
    by_key: HashMap<Key, u32>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    chains: Chains<3>,
    classes: Vec<Class>,
    class_of: BTreeMap<(bool, u64), u32>,
    /// Keyed with random bits, as `by_key`: clients choose their addresses.
    clients: HashMap<IpAddr, Client>,
    endpoints: BTreeMap<Bond, Chain>,
    /// Of flows that end at a certain time, however busy they are.
    deadlines: BTreeSet<(u64, u32)>,
    /// The latest time that was passed in: it never goes back.
    now_ms: u64,
}

/// Kinds of chains.
const BY_IDLENESS: usize = 0;
const BY_CLIENT: usize = 1;
const BY_ENDPOINT: usize = 2;

struct Slot<T> {
    epoch: u32,
    flow: Option<Flow<T>>,
}

struct Flow<T> {
    key: Key,
    bond: Bond,
    terms: Terms,
    began_ms: u64,
    used_ms: u64,
    answered: bool,
    /// Index into `classes`.
    class: u32,
    /// `NEVER`, or when it ends because its endpoint is leaving.
    leaves_ms: u64,
    value: T,
}

/// Flows with the same idle timeout: the one that was used longest ago comes first.
struct Class {
    idle_ms: u64,
    stream: bool,
    chain: Chain,
}

#[derive(Default)]
struct Client {
    flows: usize,
    /// In the order of their beginning.
    chain: Chain,
}

const NEVER: u64 = u64::MAX;

impl FlowId {
    /// As a number below 2⁶³.
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.epoch) << 32 | u64::from(self.at)
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        Self { at: bits as u32, epoch: (bits >> 32) as u32 }
    }
}

impl<T> Flows<T> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            by_key: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            chains: Chains::new(),
            classes: Vec::new(),
            class_of: BTreeMap::new(),
            clients: HashMap::new(),
            endpoints: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            now_ms: 0,
        }
    }

    /// Changes how many flows there may be. Those that are more by then go on; the next to come ends them.
    pub(super) fn limit(&mut self, flows: usize) {
        self.limits.flows = flows;
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn find(&self, key: &Key) -> Option<FlowId> {
        let at = *self.by_key.get(key)?;
        Some(self.id(at))
    }

    pub(super) fn value(&self, id: FlowId) -> Option<&T> {
        self.flow(id).map(|flow| &flow.value)
    }

    pub(super) fn value_mut(&mut self, id: FlowId) -> Option<&mut T> {
        self.flow_mut(id).map(|flow| &mut flow.value)
    }

    pub(super) fn key(&self, id: FlowId) -> Option<Key> {
        self.flow(id).map(|flow| flow.key)
    }

    pub(super) fn bond(&self, id: FlowId) -> Option<Bond> {
        self.flow(id).map(|flow| flow.bond)
    }

    /// A datagram passed, in either direction.
    pub(super) fn used(&mut self, id: FlowId, answer: bool, now_ms: u64) {
        let now_ms = self.advance(now_ms);
        let Some(flow) = self.flow_mut(id) else { return };
        flow.used_ms = now_ms;
        flow.answered |= answer;
        let (class, stream) = (flow.class, flow.answered && now_ms >= flow.began_ms + STREAM_AFTER_MS);
        let stream_idle_ms = flow.terms.stream_idle_ms;
        if stream && !self.classes[class as usize].stream {
            self.leave_class(id.at, class);
            self.join_class(id.at, true, stream_idle_ms);
        } else if !self.classes[class as usize].chain.is_last(id.at) {
            self.leave_class(id.at, class);
            self.chains.join(BY_IDLENESS, &mut self.classes[class as usize].chain, id.at);
        }
    }

    /// Whether this client may begin one more.
    pub(super) fn room(&self, client: IpAddr) -> Room {
        if let Some(own) = self.clients.get(&client).filter(|client| client.flows >= self.limits.per_client) {
            let oldest = self.chains.iter(BY_CLIENT, own.chain).take(LOOKED_AT);
            return oldest.min_by_key(|at| self.used_ms(*at)).map_or(Room::None, |at| Room::After(self.id(at)));
        }
        if self.len() < self.limits.flows {
            return Room::Free;
        }
        let heads = self.classes.iter().filter(|class| !class.stream).filter_map(|class| class.chain.first());
        heads.min_by_key(|at| self.used_ms(*at)).map_or(Room::None, |at| Room::After(self.id(at)))
    }

    /// Begins a flow with its first datagram. Gives the value back if there is such a flow already, or no room.
    pub(super) fn begin(&mut self, key: Key, bond: Bond, terms: Terms, now_ms: u64, value: T) -> Result<FlowId, T> {
        let now_ms = self.advance(now_ms);
        if self.room(key.client.ip()) != Room::Free {
            return Err(value);
        }
        let Entry::Vacant(entry) = self.by_key.entry(key) else { return Err(value) };
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { epoch: 0, flow: None });
            self.chains.grow();
            self.slots.len() as u32 - 1
        });
        entry.insert(at);
        let flow = Flow { key, bond, terms, began_ms: now_ms, used_ms: now_ms, answered: false, class: 0, leaves_ms: NEVER, value };
        self.deadlines.extend(deadline(&flow).map(|at_ms| (at_ms, at)));
        self.slots[at as usize].flow = Some(flow);
        self.join_class(at, false, terms.idle_ms);
        let client = self.clients.entry(key.client.ip()).or_default();
        client.flows += 1;
        self.chains.join(BY_CLIENT, &mut client.chain, at);
        self.chains.join(BY_ENDPOINT, self.endpoints.entry(bond).or_default(), at);
        Ok(self.id(at))
    }

    /// Binds a flow to another endpoint.
    pub(super) fn rebind(&mut self, id: FlowId, bond: Bond) {
        let Some(flow) = self.flow_mut(id) else { return };
        let former = std::mem::replace(&mut flow.bond, bond);
        self.set_leaving(id.at, NEVER);
        self.leave_endpoint(id.at, former);
        self.chains.join(BY_ENDPOINT, self.endpoints.entry(bond).or_default(), id.at);
    }

    /// Ends a flow and gives back what was kept for it.
    pub(super) fn end(&mut self, id: FlowId) -> Option<T> {
        self.flow(id)?;
        let slot = &mut self.slots[id.at as usize];
        let flow = slot.flow.take()?;
        // 31 bits, so that an id fits below 2⁶³.
        slot.epoch = (slot.epoch + 1) & (u32::MAX >> 1);
        self.by_key.remove(&flow.key);
        if let Some(at_ms) = deadline(&flow) {
            self.deadlines.remove(&(at_ms, id.at));
        }
        self.leave_class(id.at, flow.class);
        self.leave_endpoint(id.at, flow.bond);
        if let Entry::Occupied(mut client) = self.clients.entry(flow.key.client.ip()) {
            self.chains.leave(BY_CLIENT, &mut client.get_mut().chain, id.at);
            client.get_mut().flows -= 1;
            if client.get().flows == 0 {
                client.remove();
            }
        }
        self.free.push(id.at);
        Some(flow.value)
    }

    /// A flow whose time is up, if there is one, and why. It is the caller who ends it.
    pub(super) fn expired(&mut self, now_ms: u64) -> Option<(FlowId, Expiry)> {
        let now_ms = self.advance(now_ms);
        if let Some((at_ms, at)) = self.deadlines.first().copied().filter(|(at_ms, _)| *at_ms <= now_ms) {
            let leaving = self.slots[at as usize].flow.as_ref().is_some_and(|flow| flow.leaves_ms == at_ms);
            return Some((self.id(at), if leaving { Expiry::EndpointLeft } else { Expiry::Aged }));
        }
        let heads = self.classes.iter().filter_map(|class| Some((class.chain.first()?, class.idle_ms)));
        let idle = heads.into_iter().find(|(at, idle_ms)| self.used_ms(*at).saturating_add(*idle_ms) <= now_ms);
        idle.map(|(at, _)| (self.id(at), Expiry::Idle))
    }

    /// A new table is in force for this Service: `standing` says of an endpoint how flows to it stand. Returns those that have to end now.
    pub(super) fn review(&mut self, service: ServiceId, now_ms: u64, mut standing: impl FnMut(u64) -> Standing) -> Vec<FlowId> {
        let now_ms = self.advance(now_ms);
        let mut leaving = Vec::new();
        let mut changed = Vec::new();
        for (bond, chain) in self.endpoints.range(of(service)) {
            let flows = self.chains.iter(BY_ENDPOINT, *chain);
            match standing(bond.endpoint) {
                Standing::Stays => changed.extend(flows.map(|at| (at, NEVER))),
                Standing::Leaves => leaving.extend(flows.map(|at| self.id(at))),
                Standing::LeavesAfter(grace_ms) => changed.extend(flows.map(|at| (at, now_ms.saturating_add(grace_ms)))),
            }
        }
        for (at, leaves_ms) in changed {
            self.set_leaving(at, leaves_ms);
        }
        leaving
    }

    /// The Services that flows are bound to.
    pub(super) fn services(&self) -> Vec<ServiceId> {
        let next = |bond: &Bond| self.endpoints.range((Bound::Excluded(Bond { endpoint: u64::MAX, ..*bond }), Bound::Unbounded)).next();
        let first = self.endpoints.iter().next();
        std::iter::successors(first.map(|(bond, _)| *bond), |bond| next(bond).map(|(bond, _)| *bond)).map(|bond| bond.service).collect()
    }

    /// The endpoints of this Service that flows are bound to, in ascending order.
    pub(super) fn endpoints(&self, service: ServiceId) -> Vec<u64> {
        self.endpoints.range(of(service)).map(|(bond, _)| bond.endpoint).collect()
    }

    /// How many flows are bound to an endpoint.
    #[cfg(test)]
    pub(super) fn bound_to(&self, bond: Bond) -> usize {
        self.endpoints.get(&bond).map_or(0, |chain| self.chains.iter(BY_ENDPOINT, *chain).count())
    }

    /// All flows that began on this frontend.
    pub(super) fn of_frontend(&self, frontend: u32) -> Vec<FlowId> {
        self.by_key.iter().filter(|(key, _)| key.frontend == frontend).map(|(_, at)| self.id(*at)).collect()
    }

    /// All flows.
    pub(super) fn all(&self) -> Vec<FlowId> {
        self.by_key.values().map(|at| self.id(*at)).collect()
    }

    /// A flow that is leaving already keeps its time; one whose endpoint is back (`NEVER`) is leaving no more.
    fn set_leaving(&mut self, at: u32, leaves_ms: u64) {
        let Some(flow) = &mut self.slots[at as usize].flow else { return };
        if leaves_ms != NEVER && flow.leaves_ms != NEVER {
            return;
        }
        let before = deadline(flow);
        flow.leaves_ms = leaves_ms;
        let after = deadline(flow);
        if before != after {
            before.map(|at_ms| self.deadlines.remove(&(at_ms, at)));
            self.deadlines.extend(after.map(|at_ms| (at_ms, at)));
        }
    }

    fn join_class(&mut self, at: u32, stream: bool, idle_ms: u64) {
        let class = *self.class_of.entry((stream, idle_ms)).or_insert_with(|| {
            self.classes.push(Class { idle_ms, stream, chain: Chain::default() });
            self.classes.len() as u32 - 1
        });
        self.chains.join(BY_IDLENESS, &mut self.classes[class as usize].chain, at);
        if let Some(flow) = &mut self.slots[at as usize].flow {
            flow.class = class;
        }
    }

    fn leave_class(&mut self, at: u32, class: u32) {
        self.chains.leave(BY_IDLENESS, &mut self.classes[class as usize].chain, at);
    }

    fn leave_endpoint(&mut self, at: u32, bond: Bond) {
        let Some(chain) = self.endpoints.get_mut(&bond) else { return };
        self.chains.leave(BY_ENDPOINT, chain, at);
        if chain.is_empty() {
            self.endpoints.remove(&bond);
        }
    }

    fn advance(&mut self, now_ms: u64) -> u64 {
        self.now_ms = self.now_ms.max(now_ms);
        self.now_ms
    }

    fn id(&self, at: u32) -> FlowId {
        FlowId { at, epoch: self.slots[at as usize].epoch }
    }

    fn used_ms(&self, at: u32) -> u64 {
        self.slots[at as usize].flow.as_ref().map_or(NEVER, |flow| flow.used_ms)
    }

    fn flow(&self, id: FlowId) -> Option<&Flow<T>> {
        self.slots.get(id.at as usize).filter(|slot| slot.epoch == id.epoch)?.flow.as_ref()
    }

    fn flow_mut(&mut self, id: FlowId) -> Option<&mut Flow<T>> {
        self.slots.get_mut(id.at as usize).filter(|slot| slot.epoch == id.epoch)?.flow.as_mut()
    }
}

fn of(service: ServiceId) -> RangeInclusive<Bond> {
    Bond { service, endpoint: 0 }..=Bond { service, endpoint: u64::MAX }
}

/// When a flow ends, however busy it is.
fn deadline<T>(flow: &Flow<T>) -> Option<u64> {
    let aged_ms = flow.terms.max_age_ms.map_or(NEVER, |age_ms| flow.began_ms.saturating_add(age_ms));
    Some(aged_ms.min(flow.leaves_ms)).filter(|at_ms| *at_ms != NEVER)
}

#[cfg(test)]
mod tests;
