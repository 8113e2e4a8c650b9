//! The data plane: listeners, workers, TCP and UDP. The control side owns a [`DataPlane`]; each worker is a thread with its own runtime,
//! listeners, table handle, policy instances and counters, and hears of changes through a queue.

mod accept;
pub mod affinity;
pub mod anyip;
mod command;
mod connect;
mod decide;
mod drains;
pub mod limits;
mod listeners;
mod policies;
mod proxy_protocol;
mod relay;
mod sockets;
mod tcp;
pub mod transparent;
mod udp;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::observe::{LogSender, ShadowKey, Snapshot};
use crate::route::HashKey;
use crate::table::Table;
use affinity::Affinity;
pub use command::TableUpdate;
use command::{Command, ListenerCommand};
use listeners::Listeners;
pub use listeners::{Bound, NotServed, VipMap};
pub use policies::Policies;
pub use udp::UdpLimits;
use worker::Setup;

/// How long an endpoint may take to answer a SYN. HAProxy's manual advises a little over 3 s, so that one lost SYN and its
/// retransmissions (1 s, 3 s) are survived.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How the data plane is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Threads.
    pub workers: usize,
    /// Connections open at the same time, in all; lowered to what the limit of descriptors allows. Each worker has an equal share, and
    /// stops accepting when it is used up. A UDP flow counts for half of one, and there may be as many of them as connections.
    pub max_connections: usize,
    /// What UDP flows are allowed.
    pub udp: UdpLimits,
    /// See [`DEFAULT_CONNECT_TIMEOUT`].
    pub connect_timeout: Duration,
    /// The key of `client-hash`.
    pub hash_key: HashKey,
    /// Whether the machine's network is set up for keeping clients' addresses: see [`transparent`].
    pub transparent: Arc<AtomicBool>,
    /// Where the workers' random bits come from.
    pub seed: u64,
    /// The clock of `now_ms`.
    pub clock: Clock,
}

/// The monotonic clock that everyone in this process shares: `now_ms` counts from its start.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at 0 now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the start.
    pub fn now_ms(self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }
}

/// The workers and what they listen on, as the control side sees them.
pub struct DataPlane<P: Policies> {
    workers: Vec<Handle<P>>,
    listeners: Listeners,
    affinity: Arc<Affinity>,
    table: Arc<Table>,
}

struct Handle<P: Policies> {
    commands: mpsc::UnboundedSender<Command<P>>,
    thread: JoinHandle<Snapshot>,
}

impl<P: Policies> DataPlane<P> {
    /// Starts the workers, one for each element of `policies`. They listen on nothing yet.
    pub fn start(config: &Config, policies: Vec<P>, log: Option<&LogSender>) -> io::Result<Self> {
        let affinity = Arc::new(Affinity::default());
        let count = policies.len().max(1);
        let descriptors = limits::descriptors();
        let max_connections = limits::max_connections(config.max_connections, descriptors);
        let mut workers = Vec::with_capacity(count);
        for (index, policies) in policies.into_iter().enumerate() {
            let setup = Setup {
                index: index as u16,
                clock: config.clock,
                hash_key: config.hash_key,
                connect_timeout: config.connect_timeout,
                max_connections: max_connections.div_ceil(count) as u64,
                transparent: Arc::clone(&config.transparent),
                udp: config.udp,
                seed: config.seed.wrapping_add(index as u64),
                affinity: Arc::clone(&affinity),
                log: log.cloned(),
                policies,
            };
            let (commands, queue) = mpsc::unbounded_channel();
            workers.push(Handle { commands, thread: worker::start(setup, queue)? });
        }
        let listeners = Listeners::new(workers.len(), descriptors);
        Ok(Self { workers, listeners, affinity, table: Arc::default() })
    }

    /// Puts a new table in force on every worker. Frontends that are gone serve what is queued by the old table, then close; then
    /// comes the table; then new listeners; and then those close that can forward nobody any more. Returns whether listeners were looked
    /// at: most changes leave them as they are, and there may be 10,000.
    pub fn publish(&mut self, update: TableUpdate<P::Loaded>, vip: &VipMap<'_>) -> bool {
        let table = Arc::clone(&update.table);
        let same = self.listens_alike(&update);
        if !same {
            let gone = self.listeners.close_gone(&table);
            self.tell(gone);
        }
        for id in &update.removed {
            if self.table.port(*id).is_some_and(|port| port.options.affinity.is_some()) {
                self.affinity.forget_service(*id);
            }
        }
        for worker in &self.workers {
            worker.send(Command::Table(Box::new(update.clone())));
        }
        self.table = table;
        if !same {
            let changes = self.listeners.update(&self.table, vip);
            self.tell(changes);
        }
        !same
    }

    /// Whether the same addresses are to be listened on as before: none came or went, and nobody gained or lost all of its endpoints.
    fn listens_alike(&self, update: &TableUpdate<P::Loaded>) -> bool {
        let forwards = |table: &Table, id| table.port(id).is_some_and(|port| port.can_forward());
        let (before, now) = (&self.table, &update.table);
        before.frontends.ptr_eq(&now.frontends) && update.changed.iter().all(|id| forwards(before, *id) == forwards(now, *id))
    }

    /// Tries again to listen where it failed. Returns whether `bound` or `not_served` changed.
    pub fn retry(&mut self, vip: &VipMap<'_>) -> bool {
        let before = self.listeners.failures().clone();
        let changes = self.listeners.retry(&self.table, vip);
        let changed = !changes.is_empty() || before != *self.listeners.failures();
        self.tell(changes);
        changed
    }

    /// What is listened on, sorted by key.
    pub fn bound(&self) -> Vec<Bound> {
        self.listeners.bound(&self.table)
    }

    /// What is not listened on, with the reason, sorted by key.
    pub fn not_served(&self) -> Vec<NotServed> {
        self.listeners.not_served(&self.table)
    }

    /// How many sockets listen.
    pub fn listeners(&self) -> usize {
        self.listeners.sockets()
    }

    /// Counts of all workers together, and each worker's policies' own. A worker that has died is left out.
    pub async fn snapshot(&self) -> (Snapshot, Vec<P::Counters>) {
        let mut answers = Vec::with_capacity(self.workers.len());
        for worker in &self.workers {
            let (reply, answer) = oneshot::channel();
            worker.send(Command::Snapshot(reply));
            answers.push(answer);
        }
        let mut merged = self.affinity_counts();
        let mut policies = Vec::with_capacity(answers.len());
        for answer in answers {
            if let Ok((snapshot, counters)) = answer.await {
                merged.merge(&snapshot);
                policies.push(counters);
            }
        }
        (merged, policies)
    }

    /// Each worker's policies' counts alone, which cost a worker little.
    pub async fn policy_counters(&self) -> Vec<P::Counters> {
        let ask = |worker: &Handle<P>| {
            let (reply, answer) = oneshot::channel();
            worker.send(Command::PolicyCounters(reply));
            answer
        };
        let answers: Vec<_> = self.workers.iter().map(ask).collect();
        let mut counters = Vec::with_capacity(answers.len());
        for answer in answers {
            counters.extend(answer.await);
        }
        counters
    }

    /// The same, and the faults of the balancers that are tried, by Service, over all workers.
    pub async fn candidate_counters(&self) -> (Vec<P::Counters>, BTreeMap<ShadowKey, u64>) {
        let ask = |worker: &Handle<P>| {
            let (reply, answer) = oneshot::channel();
            worker.send(Command::CandidateCounters(reply));
            answer
        };
        let answers: Vec<_> = self.workers.iter().map(ask).collect();
        let (mut counters, mut faults) = (Vec::with_capacity(answers.len()), BTreeMap::new());
        for answer in answers {
            let Ok((theirs, of_worker)) = answer.await else { continue };
            counters.push(theirs);
            of_worker.into_iter().for_each(|(service, count)| *faults.entry(service).or_default() += count);
        }
        (counters, faults)
    }

    /// The node changed: policies on the workers are told.
    pub fn reconfigure(&self) {
        for worker in &self.workers {
            worker.send(Command::Reconfigure);
        }
    }

    /// Closes the listeners (what is queued is served), lets connections end until the timeout, and resets the rest. Returns the last
    /// counts; nothing is active in them.
    pub async fn drain(self, timeout: Duration) -> Snapshot {
        let deadline = Instant::now() + timeout;
        for worker in &self.workers {
            worker.send(Command::Drain { deadline });
        }
        let mut merged = self.affinity_counts();
        let join = tokio::task::spawn_blocking(move || self.workers.into_iter().map(|worker| worker.thread.join()).collect::<Vec<_>>());
        for ended in join.await.unwrap_or_default() {
            match ended {
                Ok(snapshot) => merged.merge(&snapshot),
                Err(_) => tracing::error!("a worker had died; its counts are lost"),
            }
        }
        merged
    }

    fn tell(&self, commands: Vec<(usize, ListenerCommand)>) {
        for (worker, command) in commands {
            self.workers[worker].send(Command::Listener(command));
        }
    }

    fn affinity_counts(&self) -> Snapshot {
        Snapshot { affinity_pins: self.affinity.len() as u64, affinity_evicted: self.affinity.evicted(), ..Snapshot::default() }
    }
}

impl<P: Policies> Handle<P> {
    fn send(&self, command: Command<P>) {
        if self.commands.send(command).is_err() {
            tracing::error!("a worker has died; restart pointsman");
        }
    }
}

#[cfg(test)]
mod tests;
