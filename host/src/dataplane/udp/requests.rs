//! From clients to endpoints.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::flow::{self, Flow};
use super::flows::{Bond, FlowId, Key, Room, Terms};
use super::{BATCH, Frontend, Policies, Turn};
use crate::dataplane::decide::{lookup, pinned, write};
use crate::observe::{ConnectError, ConnectionRecord, Outcome};
use crate::policy::contract::Slot;
use crate::route::{self, Fate, Reason};
use crate::sys::datagrams::Batch;
use crate::table::{Port, ServiceId};

/// How long a flow's first datagram is kept, to be sent to another endpoint if this one refuses: an ICMP error comes within a round trip
/// or not at all.
pub(super) const HELD_MS: u64 = 1_000;

/// What first datagrams may take, on one worker; beyond, an endpoint's refusal costs the client a retry.
const MAX_HELD_BYTES: usize = 4 << 20;

/// Datagrams that may wait for a plan, on one worker, and what they may take: some milliseconds' worth of new flows.
const MAX_WAITING: usize = 1_024;
const MAX_WAITING_BYTES: usize = 1 << 20;

/// A datagram that waits for a plan.
pub(super) struct Waiting {
    pub(super) frontend: u32,
    pub(super) client: SocketAddr,
    pub(super) datagram: Box<[u8]>,
    pub(super) since_ms: u64,
}

/// Datagrams of one client in a batch.
struct Run<'a> {
    batch: &'a mut Batch,
    slots: Range<usize>,
    client: SocketAddr,
    /// Since when it has been here: it may have waited for a plan.
    since_ms: u64,
}

impl<P: Policies> Turn<'_, P> {
    /// Serves one batch of what came in on a frontend. Returns whether there may be more.
    pub(super) fn requests(&mut self, number: u32) -> bool {
        let Some(frontend) = self.frontend(number) else { return false };
        let mut batch = std::mem::take(&mut self.state.requests);
        let received = match batch.receive_from(frontend.socket.as_fd(), 0..BATCH) {
            Ok(received) => received,
            Err(error) => {
                if error.kind() != ErrorKind::WouldBlock {
                    self.worker.counters.datagrams_lost("receive", 1);
                }
                0
            }
        };
        // One lookup for the batch: what the frontend belongs to now.
        let service = self.worker.table.borrow().frontend(&frontend.key).map(|frontend| frontend.service);
        let mut slot = 0;
        while slot < received {
            let first = slot;
            let client = batch.peer(first);
            while slot < received && batch.peer(slot) == client {
                slot += 1;
            }
            if let Some(client) = client {
                self.pass_on(&frontend, service, Run { batch: &mut batch, slots: first..slot, client, since_ms: self.now_ms });
            }
        }
        self.state.requests = batch;
        received == BATCH
    }

    /// Serves the datagrams that waited for a plan.
    pub(super) fn serve_waiting(&mut self) {
        let waiting = std::mem::take(&mut self.state.waiting);
        self.state.waiting_bytes = 0;
        let mut batch = std::mem::take(&mut self.state.requests);
        for Waiting { frontend, client, datagram, since_ms } in waiting {
            let Some(frontend) = self.frontend(frontend) else {
                self.worker.counters.datagrams_lost("no-endpoint", 1);
                continue;
            };
            let service = self.worker.table.borrow().frontend(&frontend.key).map(|frontend| frontend.service);
            batch.fill(0, &datagram, client);
            self.pass_on(&frontend, service, Run { batch: &mut batch, slots: 0..1, client, since_ms });
        }
        self.state.requests = batch;
    }

    fn pass_on(&mut self, frontend: &Frontend, service: Option<ServiceId>, mut run: Run<'_>) {
        let key = Key { frontend: frontend.number, client: run.client };
        let known = self.state.flows.find(&key).and_then(|id| Some((id, self.state.flows.bond(id)?)));
        if let Some((id, bond)) = known {
            if Some(bond.service) != service {
                // The address is another Service's by now.
                self.end(id, Outcome::EndpointLeft);
            } else if self.send(id, &mut run) {
                return;
            }
            // What its endpoint refused, or what it was never meant for, begins another flow.
        }
        let Some(id) = self.begin(frontend, key, &mut run) else { return };
        if !self.send(id, &mut run) {
            self.worker.counters.datagrams_lost("no-endpoint", run.slots.len() as u64);
        }
    }

    /// Sends the run to the flow's endpoint, or to another if that refuses. Returns false when the flow has ended and there is something left.
    fn send(&mut self, id: FlowId, run: &mut Run<'_>) -> bool {
        self.state.flows.used(id, false, self.now_ms);
        while !run.slots.is_empty() {
            let Some(flow) = self.state.flows.value_mut(id) else { return false };
            let Some(upstream) = &flow.upstream else { return false };
            match run.batch.send(upstream.as_fd(), run.slots.clone()) {
                Ok(sent) => {
                    let went = run.slots.start..run.slots.start + sent;
                    let bytes = went.map(|slot| run.batch.datagram(slot).len() as u64).sum();
                    flow.counter.datagrams_in(sent as u64, bytes);
                    flow.record.bytes_in += bytes;
                    run.slots.start += sent;
                }
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => {
                        self.worker.counters.datagrams_lost("send-buffer", run.slots.len() as u64);
                        return true;
                    }
                    Some(Errno::EMSGSIZE) => {
                        self.worker.counters.datagrams_lost("too-long", 1);
                        run.slots.start += 1;
                    }
                    _ => {
                        if !self.refused(id, flow::classify(&error)) {
                            return false;
                        }
                    }
                },
            }
        }
        true
    }

    /// A flow's endpoint cannot be reached. If it never answered, its first datagram goes to the next one. Returns whether the flow goes on.
    pub(super) fn refused(&mut self, id: FlowId, mut why: ConnectError) -> bool {
        loop {
            let Some(flow) = self.state.flows.value_mut(id) else { return false };
            flow.failed(self.worker, why);
            if flow.answered {
                self.end(id, Outcome::Reset);
                return false;
            }
            if !flow.reach_another(self.worker) {
                self.unreachable(id);
                return false;
            }
            let Some(endpoint) = flow.endpoint().map(|endpoint| endpoint.hash) else { return false };
            let service = flow.record.port.id;
            self.state.flows.rebind(id, Bond { service, endpoint });
            if !self.watch(id) {
                why = ConnectError::Local;
                continue;
            }
            let Some(flow) = self.state.flows.value_mut(id) else { return false };
            let (Some(first), Some(upstream)) = (&flow.first, &flow.upstream) else { return true };
            match upstream.send(first) {
                Ok(_) => return true,
                Err(error) => why = flow::classify(&error),
            }
        }
    }

    /// No endpoint is left for a flow that was never answered.
    fn unreachable(&mut self, id: FlowId) {
        let Some(key) = self.state.flows.key(id) else { return };
        let first = self.release(id);
        self.end(id, Outcome::ConnectFailed);
        let (Some(first), Some(frontend)) = (first, self.frontend(key.frontend)) else { return };
        if self.worker.awaits_plan(&frontend.key) {
            self.wait(frontend.number, key.client, &first, self.now_ms);
        } else {
            self.refuse(&frontend, key.client, &first);
        }
    }

    /// Decides a new flow. `None`: it goes nowhere, and that is accounted for.
    fn begin(&mut self, frontend: &Frontend, key: Key, run: &mut Run<'_>) -> Option<FlowId> {
        let count = run.slots.len() as u64;
        if self.state.draining {
            self.worker.counters.datagrams_lost("draining", count);
            self.refuse(frontend, run.client, run.batch.datagram(run.slots.start));
            return None;
        }
        self.state.flows.limit(self.worker.max_flows());
        if self.state.flows.room(run.client.ip()) == Room::None {
            self.worker.counters.datagrams_lost("flow-limit", count);
            return None;
        }
        let table = Arc::clone(&self.worker.table.borrow());
        let Some((known, port)) = lookup(&table, &frontend.key) else {
            self.worker.counters.accepted_unknown().ended(Outcome::Rejected);
            self.refuse(frontend, run.client, run.batch.datagram(run.slots.start));
            return None;
        };
        let worker = self.worker;
        let origin = route::origin(&table.origins, run.client.ip().to_canonical(), frontend.key.ip);
        let random = worker.random.borrow_mut().u64(..);
        let connection = route::connection(port.id, run.client, known.kind, origin, worker.hash_key, self.now_ms, random);
        let decision = route::decide(port, &mut *worker.policies.borrow_mut(), &connection, pinned(worker, port, &connection));
        let fate = decision.fate;
        if fate == Fate::Reject(Reason::NoCandidates) && port.awaits_plan() {
            for slot in run.slots.clone() {
                self.wait(frontend.number, run.client, run.batch.datagram(slot), run.since_ms);
            }
            return None;
        }
        worker.counters.decided(port, &decision);
        let counter = worker.counters.accepted(port, known.kind);
        let recorded = write(&mut *worker.policies.borrow_mut(), &connection, &decision, None);
        let record = flow::record(worker.index, table.generation, port, &connection, frontend.key, run.client, decision);
        let record = ConnectionRecord { recorded, ..record };
        let flow = Flow::new(counter, connection, record);
        match fate {
            Fate::Forward(slot) => self.establish(frontend, key, flow, slot, run),
            Fate::Reject(_) => {
                flow.finish(worker, Outcome::Rejected);
                self.refuse(frontend, run.client, run.batch.datagram(run.slots.start));
                None
            }
            Fate::Drop(_) => {
                flow.finish(worker, Outcome::Dropped);
                None
            }
        }
    }

    fn establish(&mut self, frontend: &Frontend, key: Key, mut flow: Flow, slot: Slot, run: &mut Run<'_>) -> Option<FlowId> {
        let first = run.batch.datagram(run.slots.start);
        if !self.make_room(run.client) {
            flow.finish(self.worker, Outcome::Evicted);
            self.worker.counters.datagrams_lost("flow-limit", run.slots.len() as u64);
            return None;
        }
        let endpoint = flow.reach(self.worker, slot).then(|| flow.endpoint().map(|endpoint| endpoint.hash)).flatten();
        let Some(endpoint) = endpoint else {
            flow.finish(self.worker, Outcome::ConnectFailed);
            self.refuse(frontend, run.client, first);
            return None;
        };
        let (bond, terms) = (Bond { service: flow.record.port.id, endpoint }, self.terms(&flow.record.port));
        if self.state.held_bytes + first.len() <= MAX_HELD_BYTES {
            flow.first = Some(first.into());
        }
        let held = flow.first.as_ref().map(|first| first.len());
        let id = match self.state.flows.begin(key, bond, terms, self.now_ms, flow) {
            Ok(id) => id,
            Err(flow) => {
                flow.finish(self.worker, Outcome::Evicted);
                return None;
            }
        };
        frontend.flows.set(frontend.flows.get() + 1);
        self.worker.udp.live.set(self.state.flows.len());
        if let Some(bytes) = held {
            self.state.held_bytes += bytes;
            self.state.held.push_back((id, self.now_ms + HELD_MS));
        }
        if self.watch(id) || self.refused(id, ConnectError::Local) { Some(id) } else { None }
    }

    /// Ends flows until there is room for one more of this client. Returns whether there is.
    fn make_room(&mut self, client: SocketAddr) -> bool {
        loop {
            match self.state.flows.room(client.ip()) {
                Room::Free => return true,
                Room::After(id) => self.end(id, Outcome::Evicted),
                Room::None => return false,
            }
        }
    }

    /// Listens for a flow's answers. A socket that is replaced or closed takes itself off the list.
    fn watch(&mut self, id: FlowId) -> bool {
        let Some(upstream) = self.state.flows.value(id).and_then(|flow| flow.upstream.as_ref()) else { return false };
        self.worker.udp.epoll.add(upstream, EpollEvent::new(EpollFlags::EPOLLIN, id.to_bits())).is_ok()
    }

    fn wait(&mut self, frontend: u32, client: SocketAddr, datagram: &[u8], since_ms: u64) {
        if self.state.waiting.len() >= MAX_WAITING || self.state.waiting_bytes + datagram.len() > MAX_WAITING_BYTES {
            self.worker.counters.datagrams_lost("waiting-limit", 1);
            return;
        }
        self.state.waiting_bytes += datagram.len();
        self.state.waiting.push_back(Waiting { frontend, client, datagram: datagram.into(), since_ms });
    }

    fn terms(&self, port: &Port) -> Terms {
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (own, limits) = (port.options.udp_idle_timeout, self.state.limits);
        Terms {
            idle_ms: millis(own.unwrap_or(limits.idle_timeout)),
            stream_idle_ms: millis(own.unwrap_or(limits.stream_idle_timeout)),
            max_age_ms: port.options.max_connection_age.map(millis),
        }
    }
}
