//! One flow with its socket and all that is counted for it.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::Policies;
use crate::dataplane::decide::{decide_again, forwarded, write_end};
use crate::dataplane::sockets::RECEIVE_BUFFER_BYTES;
use crate::dataplane::transparent;
use crate::dataplane::worker::Worker;
use crate::observe::counters::ConnectionCounter;
use crate::observe::{ConnectError, ConnectFailure, ConnectionRecord, Outcome, Source};
use crate::policy::contract::{Connection, Outcome as Learned, OutcomeKind, Slot};
use crate::route::{self, MAX_ATTEMPTS};
use crate::table::{Endpoint, LoadGuard};

/// From its first datagram to its end.
pub(super) struct Flow {
    /// Connected to its endpoint; `None`: that refused.
    pub(super) upstream: Option<UdpSocket>,
    /// Its first datagram, while an endpoint that refuses may make another one necessary.
    pub(super) first: Option<Box<[u8]>>,
    pub(super) answered: bool,
    pub(super) record: Box<ConnectionRecord>,
    pub(super) counter: ConnectionCounter,
    connection: Connection,
    load: Option<LoadGuard>,
    began: Instant,
}

impl Flow {
    pub(super) fn new(counter: ConnectionCounter, connection: Connection, record: ConnectionRecord) -> Self {
        let record = Box::new(record);
        Self { upstream: None, first: None, answered: false, record, counter, connection, load: None, began: Instant::now() }
    }

    /// The endpoint that it goes to.
    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        self.record.port.endpoints.get(forwarded(&self.record.decision)? as usize)
    }

    /// Connects to the endpoint that was decided on, or to another if that cannot be done. Returns whether it is connected.
    pub(super) fn reach<P: Policies>(&mut self, worker: &Worker<P>, mut slot: Slot) -> bool {
        loop {
            let Some(endpoint) = self.record.port.endpoints.get(slot as usize) else { return false };
            self.counter.picked(endpoint);
            self.load = Some(endpoint.load.enter());
            let (address, hash) = (endpoint.address, endpoint.hash);
            let client = transparent::seen_by(slot, &worker.transparent, &mut self.record);
            match connect(address, client) {
                Ok(socket) => {
                    self.upstream = Some(socket);
                    self.counter.connected();
                    if let Some(timeout) = self.record.port.options.affinity {
                        let (service, client) = (self.record.port.id, self.record.client.ip());
                        worker.affinity.pin(service, client, hash, self.connection.now_ms, timeout);
                    }
                    return true;
                }
                Err(error) => self.failed(worker, classify(&error)),
            }
            match self.next_slot(worker) {
                Some(next) => slot = next,
                None => return false,
            }
        }
    }

    /// Connects to another endpoint after the last one refused. Returns whether it is connected.
    pub(super) fn reach_another<P: Policies>(&mut self, worker: &Worker<P>) -> bool {
        self.next_slot(worker).is_some_and(|slot| self.reach(worker, slot))
    }

    /// Its endpoint cannot be reached.
    pub(super) fn failed<P: Policies>(&mut self, worker: &Worker<P>, why: ConnectError) {
        self.load = None;
        self.upstream = None;
        self.counter.connect_failed(why);
        let Some((key, hash)) = self.endpoint().map(|endpoint| (Arc::clone(&endpoint.key), endpoint.hash)) else { return };
        // A failure of this host says nothing of the endpoint.
        if why != ConnectError::Local {
            self.learned(worker, hash, OutcomeKind::Refused);
            if self.record.port.options.affinity.is_some() {
                worker.affinity.forget(self.record.port.id, self.record.client.ip(), hash);
            }
        }
        self.record.failures.push(ConnectFailure { endpoint: key, why });
    }

    /// The first answer came.
    pub(super) fn first_answer<P: Policies>(&mut self, worker: &Worker<P>) {
        self.answered = true;
        if let Some(hash) = self.endpoint().map(|endpoint| endpoint.hash) {
            self.learned(worker, hash, OutcomeKind::Connected);
        }
    }

    /// Accounts for its end.
    pub(super) fn finish<P: Policies>(mut self, worker: &Worker<P>, outcome: Outcome) {
        if let (Some(_), Some(hash)) = (&self.upstream, self.endpoint().map(|endpoint| endpoint.hash)) {
            let kind = if outcome == Outcome::Closed { OutcomeKind::Closed } else { OutcomeKind::Reset };
            self.learned(worker, hash, kind);
        }
        self.record.outcome = outcome;
        self.record.duration = self.began.elapsed();
        self.counter.ended(outcome);
        write_end(worker, &self.record);
        worker.freed.notify_waiters();
        if let Some(log) = &worker.log {
            log.send(self.record);
        }
    }

    /// The endpoint for the next attempt.
    fn next_slot<P: Policies>(&mut self, worker: &Worker<P>) -> Option<Slot> {
        self.connection.attempt += 1;
        if self.connection.attempt >= MAX_ATTEMPTS {
            return None;
        }
        decide_again(worker, &mut self.record, &self.connection)
    }

    fn learned<P: Policies>(&self, worker: &Worker<P>, endpoint: u64, kind: OutcomeKind) {
        let millis = u32::try_from(self.began.elapsed().as_millis()).unwrap_or(u32::MAX);
        worker.learned(Learned { service: self.record.port.id, endpoint, kind, millis });
    }
}

/// What a record says from the beginning.
pub(super) fn record(
    worker: u16,
    generation: u64,
    port: &Arc<crate::table::Port>,
    connection: &Connection,
    frontend: crate::table::FrontendKey,
    client: SocketAddr,
    decision: route::Decision,
) -> ConnectionRecord {
    ConnectionRecord {
        at: SystemTime::now(),
        worker,
        generation,
        port: Arc::clone(port),
        frontend,
        kind: connection.frontend,
        client: SocketAddr::new(client.ip().to_canonical(), client.port()),
        origin: connection.origin,
        decision,
        source: Source::default(),
        failures: Vec::new(),
        outcome: Outcome::Drained,
        bytes_in: 0,
        bytes_out: 0,
        duration: Duration::ZERO,
        recorded: None,
    }
}

/// What went wrong with a datagram on its way to an endpoint.
pub(super) fn classify(error: &io::Error) -> ConnectError {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED) => ConnectError::Refused,
        // No descriptor, no memory, no port left for this destination.
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM | Errno::EADDRNOTAVAIL | Errno::EAGAIN) => ConnectError::Local,
        _ => ConnectError::Unreachable,
    }
}

fn connect(endpoint: SocketAddr, client: Option<SocketAddr>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(endpoint), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    if let Some(client) = client {
        transparent::speak_as(&socket, client)?;
    }
    socket.connect(&endpoint.into())?;
    Ok(socket.into())
}
