//! One worker: a thread with a runtime of its own. Nothing in here is shared with another worker but affinity and the counts of live
//! connections per endpoint.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;

use super::Clock;
use super::accept::Listening;
use super::affinity::Affinity;
use super::command::{Command, ListenerCommand, ListenerId, TableUpdate};
use super::drains::Drains;
use super::policies::Policies;
use super::sockets::Listener;
use super::udp::{self, Udp, UdpLimits};
use crate::observe::counters::Counters;
use crate::observe::{LogSender, Snapshot};
use crate::policy::contract::Outcome;
use crate::route::HashKey;
use crate::table::{FrontendKey, Table};

/// How often a worker does its housekeeping: mends policies, reports outcomes, frees what has expired.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// A connection waits this long for a plan at the most: as long as a policy may take to make one.
pub(super) const MAX_PLAN_WAIT: Duration = Duration::from_secs(2);

/// Outcomes that wait for the next tick; more are counted and not told.
const MAX_OUTCOMES: usize = 8192;

/// Lent to whichever connection is readable. Larger costs cache, smaller costs system calls: 64 KiB is what a loopback packet can
/// carry.
const BUFFER_BYTES: usize = 64 * 1024;

/// What a worker starts with.
pub(super) struct Setup<P> {
    pub(super) index: u16,
    pub(super) clock: Clock,
    pub(super) hash_key: HashKey,
    pub(super) connect_timeout: Duration,
    pub(super) max_connections: u64,
    pub(super) transparent: Arc<AtomicBool>,
    pub(super) udp: UdpLimits,
    pub(super) seed: u64,
    pub(super) affinity: Arc<Affinity>,
    pub(super) log: Option<LogSender>,
    pub(super) policies: P,
}

/// What the tasks of a worker share. Borrows never live across an await.
pub(super) struct Worker<P> {
    pub(super) index: u16,
    pub(super) clock: Clock,
    pub(super) hash_key: HashKey,
    pub(super) connect_timeout: Duration,
    pub(super) max_connections: u64,
    pub(super) transparent: Arc<AtomicBool>,
    pub(super) affinity: Arc<Affinity>,
    pub(super) log: Option<LogSender>,
    pub(super) table: RefCell<Arc<Table>>,
    pub(super) policies: RefCell<P>,
    pub(super) random: RefCell<fastrand::Rng>,
    pub(super) buffer: RefCell<Box<[u8]>>,
    pub(super) counters: Counters,
    pub(super) drains: RefCell<Drains>,
    pub(super) udp: Udp,
    /// A connection has ended.
    pub(super) freed: Notify,
    /// A table was put in force.
    renewed: Notify,
    outcomes: RefCell<Vec<Outcome>>,
}

/// Starts a worker; it ends when it was drained, or when nobody can tell it anything any more, and gives back its last counts.
pub(super) fn start<P: Policies>(setup: Setup<P>, commands: mpsc::UnboundedReceiver<Command<P>>) -> io::Result<JoinHandle<Snapshot>> {
    let (ready, started) = std_mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("worker-{}", setup.index)).spawn(move || {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default());
        let (runtime, udp) = match runtime.and_then(|runtime| Ok((runtime, Udp::new(setup.udp)?))) {
            Ok(made) => made,
            Err(error) => {
                let _ = ready.send(Err(error));
                return Snapshot::default();
            }
        };
        let _ = ready.send(Ok(()));
        run(setup, udp, commands, runtime)
    })?;
    started.recv().unwrap_or_else(|_| Err(io::Error::other("a worker ended at its start"))).map(|()| thread)
}

fn run<P: Policies>(setup: Setup<P>, udp: Udp, commands: mpsc::UnboundedReceiver<Command<P>>, runtime: LocalRuntime) -> Snapshot {
    let worker = Rc::new(Worker {
        index: setup.index,
        clock: setup.clock,
        hash_key: setup.hash_key,
        connect_timeout: setup.connect_timeout,
        max_connections: setup.max_connections.max(1),
        transparent: setup.transparent,
        affinity: setup.affinity,
        log: setup.log,
        table: RefCell::default(),
        policies: RefCell::new(setup.policies),
        random: RefCell::new(fastrand::Rng::with_seed(setup.seed)),
        buffer: RefCell::new(vec![0; BUFFER_BYTES].into_boxed_slice()),
        counters: Counters::default(),
        drains: RefCell::default(),
        udp,
        freed: Notify::new(),
        renewed: Notify::new(),
        outcomes: RefCell::default(),
    });
    let mut steward = Steward { worker: Rc::clone(&worker), listeners: HashMap::new() };
    runtime.block_on(steward.serve(commands));
    // Tasks end with their runtime: connections that are still open are reset, and counted as drained.
    drop(steward);
    drop(runtime);
    udp::end(&worker);
    worker.counters.snapshot()
}

/// The task that obeys the control side.
struct Steward<P> {
    worker: Rc<Worker<P>>,
    listeners: HashMap<ListenerId, Listening>,
}

impl<P: Policies> Steward<P> {
    async fn serve(&mut self, mut commands: mpsc::UnboundedReceiver<Command<P>>) {
        tokio::task::spawn_local(udp::serve(Rc::clone(&self.worker)));
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut draining = None;
        loop {
            tokio::select! {
                command = commands.recv(), if draining.is_none() || !commands.is_closed() => match command {
                    Some(Command::Drain { deadline }) => {
                        self.listeners.drain().for_each(|(_, listening)| listening.close(&self.worker));
                        udp::drain(&self.worker);
                        draining = Some(deadline);
                    }
                    Some(command) => self.obey(command),
                    None if draining.is_some() => {}
                    None => return,
                },
                _ = ticks.tick() => self.worker.tick(),
                () = self.worker.drained(draining) => return,
            }
        }
    }

    fn open(&mut self, id: ListenerId, key: FrontendKey, socket: Listener) -> io::Result<()> {
        match socket {
            Listener::Streams(socket) => {
                Listening::open(&self.worker, key, socket).map(|listening| drop(self.listeners.insert(id, listening)))
            }
            Listener::Datagrams(socket) => udp::open(&self.worker, id, key, socket),
        }
    }

    fn obey(&mut self, command: Command<P>) {
        match command {
            Command::Table(update) => self.worker.adopt(*update),
            Command::Listener(ListenerCommand::Open { id, key, socket }) => {
                if let Err(error) = self.open(id, key, socket) {
                    tracing::error!("worker {} cannot accept on {}:{}: {error}", self.worker.index, key.ip, key.port);
                }
            }
            Command::Listener(ListenerCommand::Close { id, closed }) => {
                match self.listeners.remove(&id) {
                    Some(listening) => listening.close(&self.worker),
                    None => udp::close(&self.worker, id),
                }
                drop(closed);
            }
            Command::Snapshot(reply) => {
                // Whoever asked may have given up.
                let _ = reply.send((self.worker.counters.snapshot(), self.worker.policies.borrow().counters()));
            }
            Command::PolicyCounters(reply) => drop(reply.send(self.worker.policies.borrow().counters())),
            Command::CandidateCounters(reply) => {
                let _ = reply.send((self.worker.policies.borrow().counters(), self.worker.counters.candidate_faults()));
            }
            Command::Reconfigure => self.worker.policies.borrow_mut().reconfigure(self.worker.clock.now_ms()),
            // Met in `serve`, which knows what follows.
            Command::Drain { .. } => {}
        }
    }
}

impl<P: Policies> Worker<P> {
    /// Whether there is room for one more connection: it takes two descriptors, and a UDP flow one.
    pub(super) fn has_room(&self) -> bool {
        let flows = self.udp.flows();
        self.counters.active().saturating_sub(flows) * 2 + flows < self.max_connections * 2
    }

    /// How many UDP flows there may be now: as many as connections, so that these keep at least half of the descriptors, less what
    /// connections have taken beyond that.
    pub(super) fn max_flows(&self) -> usize {
        let connections = self.counters.active().saturating_sub(self.udp.flows());
        self.max_connections.min((self.max_connections * 2).saturating_sub(connections * 2)) as usize
    }

    /// To be told to the policies at the next tick.
    pub(super) fn learned(&self, outcome: Outcome) {
        let mut outcomes = self.outcomes.borrow_mut();
        if outcomes.len() < MAX_OUTCOMES {
            outcomes.push(outcome);
        } else {
            self.counters.outcome_untold();
        }
    }

    /// Whether endpoints left this frontend, and the plan without them is still to come.
    pub(super) fn awaits_plan(&self, key: &FrontendKey) -> bool {
        let table = self.table.borrow();
        table.frontend(key).and_then(|frontend| table.port(frontend.service)).is_some_and(|port| port.awaits_plan())
    }

    /// Waits for a table that is newer than `seen`, but not beyond `MAX_PLAN_WAIT`.
    pub(super) async fn newer_table(&self, seen: u64) {
        let renewed = self.renewed.notified();
        if self.table.borrow().generation == seen {
            // Either way, the caller goes by the table that is there.
            let _ = tokio::time::timeout(MAX_PLAN_WAIT, renewed).await;
        }
    }

    /// Waits until no connection is open, but not beyond the deadline; without one, forever.
    async fn drained(&self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return std::future::pending().await };
        let empty = async {
            while self.counters.active() > 0 {
                self.freed.notified().await;
            }
        };
        // Either way, what follows is the end.
        let _ = tokio::time::timeout_at(deadline.into(), empty).await;
    }

    /// Puts a new table in force. No connection is decided in between.
    fn adopt(&self, update: TableUpdate<P::Loaded>) {
        let now_ms = self.clock.now_ms();
        let mut policies = self.policies.borrow_mut();
        for policy in update.install {
            policies.install(policy, now_ms);
        }
        for policy in update.candidates {
            policies.install_candidate(policy, now_ms);
        }
        for id in &update.removed {
            policies.forget(*id);
        }
        policies.adopt(&update.table, &update.changed, now_ms);
        for version in update.retire {
            policies.retire(version);
        }
        for version in update.retired_candidates {
            policies.retire_candidate(version);
        }
        self.counters.table_changed(&update.table, &update.removed, &update.changed);
        drop(policies);
        let now_ms = self.clock.now_ms();
        self.drains.borrow_mut().table_changed(&update.table, &update.removed, now_ms);
        let before = self.table.replace(update.table);
        udp::table_changed(self, &before, &update.removed);
        self.renewed.notify_waiters();
    }

    fn tick(&self) {
        let now_ms = self.clock.now_ms();
        let mut policies = self.policies.borrow_mut();
        policies.mend(now_ms);
        let mut outcomes = self.outcomes.borrow_mut();
        if !outcomes.is_empty() {
            policies.report(now_ms, &outcomes);
            outcomes.clear();
        }
        drop((outcomes, policies));
        udp::tick(self);
        self.counters.sweep(&self.table.borrow());
        self.drains.borrow_mut().due(now_ms);
        // One worker is enough.
        if self.index == 0 {
            self.affinity.expire(now_ms);
        }
    }
}
