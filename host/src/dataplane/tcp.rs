//! The way of a TCP connection: decided as soon as it is accepted, by the table of that moment; connected, again and again if need
//! be; relayed; and accounted for exactly once, however it ends.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::connect::connect;
use super::decide::{decide_again, forwarded, lookup, pinned, write, write_end};
use super::drains::Place;
use super::policies::Policies;
use super::proxy_protocol;
use super::relay::{Ending, Passed, Relay, Side};
use super::transparent;
use super::worker::Worker;
use crate::observe::counters::ConnectionCounter;
use crate::observe::{ConnectError, ConnectFailure, ConnectionRecord, Outcome, Source};
use crate::policy::contract::{Connection, Outcome as Learned, OutcomeKind, Slot};
use crate::route::{self, Fate, MAX_ATTEMPTS, Reason};
use crate::table::{FrontendKey, LoadGuard};

/// Decides a connection that was just accepted. Those that go nowhere end here, with a reset: user space cannot take back a handshake,
/// so a drop is a reset too, counted and logged as what it is.
pub(super) fn begin<P: Policies>(worker: &Rc<Worker<P>>, key: FrontendKey, client: TcpStream, from: SocketAddr) {
    begin_or_wait(worker, key, client, from, None);
}

/// The same; a connection that finds all endpoints gone, and the plan that knows the new ones still to come, waits for that once, and is
/// counted from then on: `waited` is its counter.
fn begin_or_wait<P: Policies>(
    worker: &Rc<Worker<P>>,
    key: FrontendKey,
    client: TcpStream,
    from: SocketAddr,
    waited: Option<ConnectionCounter>,
) {
    let table = Arc::clone(&worker.table.borrow());
    let Some((frontend, port)) = lookup(&table, &key) else {
        waited.unwrap_or_else(|| worker.counters.accepted_unknown()).ended(Outcome::Rejected);
        reset(&client);
        return;
    };
    let address = from.ip().to_canonical();
    let origin = route::origin(&table.origins, address, key.ip);
    let random = worker.random.borrow_mut().u64(..);
    let connection = route::connection(port.id, from, frontend.kind, origin, worker.hash_key, worker.clock.now_ms(), random);
    let pinned = pinned(worker, port, &connection);
    let decision = route::decide(port, &mut *worker.policies.borrow_mut(), &connection, pinned);
    let fate = decision.fate;
    if waited.is_none() && fate == Fate::Reject(Reason::NoCandidates) && port.awaits_plan() {
        let (worker, seen) = (Rc::clone(worker), table.generation);
        let counter = worker.counters.accepted(port, frontend.kind);
        tokio::task::spawn_local(async move {
            worker.newer_table(seen).await;
            begin_or_wait(&worker, key, client, from, Some(counter));
        });
        return;
    }
    worker.counters.decided(port, &decision);
    let recorded = write(&mut *worker.policies.borrow_mut(), &connection, &decision, None);
    let mut open = Open {
        worker: Rc::clone(worker),
        counter: Some(waited.unwrap_or_else(|| worker.counters.accepted(port, frontend.kind))),
        client,
        endpoint: None,
        load: None,
        place: None,
        accepted: Instant::now(),
        record: ConnectionRecord {
            at: SystemTime::now(),
            worker: worker.index,
            generation: table.generation,
            port: Arc::clone(port),
            frontend: key,
            kind: frontend.kind,
            client: SocketAddr::new(address, from.port()),
            origin,
            decision,
            source: Source::default(),
            failures: Vec::new(),
            outcome: Outcome::Drained,
            bytes_in: 0,
            bytes_out: 0,
            duration: Duration::ZERO,
            recorded,
        },
    };
    match fate {
        Fate::Forward(slot) => {
            // From now on, not from when the task runs: what is accepted in the same breath is decided before that.
            open.load = port.endpoints.get(slot as usize).map(|endpoint| endpoint.load.enter());
            drop(tokio::task::spawn_local(open.forward(connection, slot)));
        }
        Fate::Reject(_) => open.record.outcome = Outcome::Rejected,
        Fate::Drop(_) => open.record.outcome = Outcome::Dropped,
    }
}

/// A connection and all that is counted for it. Dropping it ends and accounts for it, with the outcome that its record has by then;
/// until another is set, that is the end of the worker.
struct Open<P: Policies> {
    worker: Rc<Worker<P>>,
    counter: Option<ConnectionCounter>,
    client: TcpStream,
    endpoint: Option<TcpStream>,
    load: Option<LoadGuard>,
    /// Among the connections of its endpoint.
    place: Option<Rc<Place>>,
    accepted: Instant,
    record: ConnectionRecord,
}

impl<P: Policies> Open<P> {
    async fn forward(mut self, mut connection: Connection, slot: Slot) {
        self.record.outcome = match self.reach(&mut connection, slot).await {
            Some(endpoint) => self.relay(endpoint).await,
            None => Outcome::ConnectFailed,
        };
    }

    /// Connects to the endpoint that was decided on, or to another if it cannot be reached. No byte of the client's has been read yet.
    async fn reach(&mut self, connection: &mut Connection, mut slot: Slot) -> Option<TcpStream> {
        let preface = match self.record.port.options.proxy_protocol {
            true => proxy_protocol::header(self.record.client, SocketAddr::new(self.record.frontend.ip, self.record.frontend.port)),
            false => Vec::new(),
        };
        loop {
            let endpoint = self.record.port.endpoints.get(slot as usize)?;
            let (address, hash) = (endpoint.address, endpoint.hash);
            if let Some(counter) = &mut self.counter {
                counter.picked(endpoint);
            }
            self.load.get_or_insert_with(|| endpoint.load.enter());
            let begun = Instant::now();
            let client = transparent::seen_by(slot, &self.worker.transparent, &mut self.record);
            match connect(self.record.frontend.protocol, address, client, &preface, &self.worker.connect_timeout).await {
                Ok(stream) => {
                    self.reached(slot, hash, begun);
                    return Some(stream);
                }
                Err(why) => self.failed(slot, hash, why, begun),
            }
            connection.attempt += 1;
            if connection.attempt == MAX_ATTEMPTS {
                return None;
            }
            slot = match decide_again(&self.worker, &mut self.record, connection) {
                None if self.worker.awaits_plan(&self.record.frontend) => {
                    let seen = self.worker.table.borrow().generation;
                    self.worker.newer_table(seen).await;
                    decide_again(&self.worker, &mut self.record, connection)?
                }
                slot => slot?,
            };
        }
    }

    fn reached(&mut self, slot: Slot, hash: u64, begun: Instant) {
        if let Some(counter) = &self.counter {
            counter.connected();
        }
        self.learned(hash, OutcomeKind::Connected, begun);
        if let Some(timeout) = self.record.port.options.affinity {
            self.worker.affinity.pin(self.record.port.id, self.record.client.ip(), hash, self.worker.clock.now_ms(), timeout);
        }
        let (table, port) = (self.worker.table.borrow(), &self.record.port);
        let place = self.worker.drains.borrow_mut().enter(port, slot, table.port(port.id), self.worker.clock.now_ms());
        drop(table);
        self.place = Some(place);
    }

    fn failed(&mut self, slot: Slot, hash: u64, why: ConnectError, begun: Instant) {
        self.load = None;
        if let Some(counter) = &mut self.counter {
            counter.connect_failed(why);
        }
        let port = &self.record.port;
        // A failure of this host says nothing of the endpoint.
        if why != ConnectError::Local {
            let kind = if why == ConnectError::TimedOut { OutcomeKind::TimedOut } else { OutcomeKind::Refused };
            self.learned(hash, kind, begun);
            if port.options.affinity.is_some() {
                self.worker.affinity.forget(port.id, self.record.client.ip(), hash);
            }
        }
        let endpoint = Arc::clone(&port.endpoints[slot as usize].key);
        self.record.failures.push(ConnectFailure { endpoint, why });
    }

    async fn relay(&mut self, endpoint: TcpStream) -> Outcome {
        let endpoint = &*self.endpoint.insert(endpoint);
        let client = &self.client;
        let mut age = self.record.port.options.max_connection_age.map(|age| {
            let deadline = tokio::time::Instant::from_std(self.accepted + age);
            Box::pin(tokio::time::sleep_until(deadline))
        });
        let (worker, counter, record, place) = (&self.worker, &self.counter, &mut self.record, &self.place);
        let mut relay = Relay::default();
        let mut step = |context: &mut Context<'_>, watched: Option<Side>| {
            if expired(&mut age, context) {
                if relay.holds_bytes() {
                    // An orderly end would pass off what arrived so far as the whole.
                    reset(client);
                    reset(endpoint);
                }
                return Poll::Ready(Step::Ended(Outcome::Aged));
            }
            if place.as_ref().is_some_and(|place| place.must_end(context)) {
                return Poll::Ready(Step::Ended(Outcome::EndpointLeft));
            }
            let mut passed = Passed::default();
            let ending = relay.poll(context, client, endpoint, &worker.buffer, &mut passed);
            record.bytes_in += passed.to_endpoint;
            record.bytes_out += passed.to_client;
            if let Some(counter) = counter {
                counter.passed(passed.to_endpoint, passed.to_client);
            }
            match (ending, relay.unread()) {
                (Poll::Ready(Ending::Closed), _) => Poll::Ready(Step::Ended(Outcome::Closed)),
                (Poll::Ready(Ending::Reset), _) => Poll::Ready(Step::Ended(Outcome::Reset)),
                (Poll::Pending, unread) if unread != watched => Poll::Ready(Step::Watch(unread)),
                (Poll::Pending, _) => Poll::Pending,
            }
        };
        let mut watched = None;
        loop {
            let next = match watched {
                None => poll_fn(|context| step(context, watched)).await,
                Some(side) => tokio::select! {
                    biased;
                    next = poll_fn(|context| step(context, watched)) => next,
                    _ = if side == Side::Client { client } else { endpoint }.ready(Interest::ERROR) => return Outcome::Reset,
                },
            };
            match next {
                Step::Ended(outcome) => return outcome,
                Step::Watch(unread) => watched = unread,
            }
        }
    }

    fn learned(&self, endpoint: u64, kind: OutcomeKind, since: Instant) {
        let millis = u32::try_from(since.elapsed().as_millis()).unwrap_or(u32::MAX);
        self.worker.learned(Learned { service: self.record.port.id, endpoint, kind, millis });
    }
}

impl<P: Policies> Drop for Open<P> {
    fn drop(&mut self) {
        let outcome = self.record.outcome;
        if !matches!(outcome, Outcome::Closed | Outcome::Aged) {
            reset(&self.client);
            self.endpoint.iter().for_each(reset);
        }
        if let (Some(_), Some(slot)) = (&self.endpoint, forwarded(&self.record.decision)) {
            let kind = if outcome == Outcome::Closed { OutcomeKind::Closed } else { OutcomeKind::Reset };
            self.learned(self.record.port.endpoints[slot as usize].hash, kind, self.accepted);
        }
        if let Some(place) = &self.place {
            self.worker.drains.borrow_mut().leave(place);
        }
        if let Some(counter) = self.counter.take() {
            counter.ended(outcome);
        }
        write_end(&self.worker, &self.record);
        self.worker.freed.notify_waiters();
        if let Some(log) = &self.worker.log {
            self.record.duration = self.accepted.elapsed();
            log.send(Box::new(self.record.clone()));
        }
    }
}

/// How far a relay has come.
enum Step {
    /// Another side than before is not read from.
    Watch(Option<Side>),
    Ended(Outcome),
}

fn expired(age: &mut Option<Pin<Box<Sleep>>>, context: &mut Context<'_>) -> bool {
    age.as_mut().is_some_and(|age| age.as_mut().poll(context).is_ready())
}

/// Makes the coming close a reset.
fn reset(stream: &TcpStream) {
    // A socket that refuses this is dead already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::worker::WorkerPolicies;

    fn future_bytes<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// A worker holds one of these for every connection, and two sockets' registrations of some 400 bytes each; the budget for all of it
    /// is 3 KiB.
    #[test]
    fn an_idle_connection_is_small() {
        let bytes = future_bytes(Open::<WorkerPolicies>::forward);
        assert!(bytes <= 1536, "{bytes}");
    }
}
