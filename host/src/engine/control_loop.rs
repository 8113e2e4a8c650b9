//! The control side of a running host: one thread that takes changes in, makes tables and hands them to the data plane.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::addresses::Addresses;
use super::canaries::{Canaries, Counts, RollBack};
use super::core::Core;
use super::health::Health;
use super::pulls::Outcome;
use super::{Options, Record, report};
use crate::admin::{
    self, Bound, EventLog, Metrics, ObjectsRequest, PolicyReply, PolicyRequest, ProxyHealth, Readiness, ShadowRequest, SwapCount, Sync,
};
use crate::control::Update;
use crate::dataplane::{self, Clock, DataPlane, TableUpdate};
use crate::objects::reference::Reference;
use crate::objects::{Diagnostic, list_to_json};
use crate::observe::Recorder;
use crate::observe::decision_log::DecisionLog;
use crate::observe::recording::file::{Header, PolicyRecord, WorkerStart};
use crate::policy::directory::DirectoryEvent;
use crate::policy::registry::{Registry, Swapped};
use crate::policy::tape::Clients;
use crate::policy::worker::WorkerPolicies;
use crate::policy::{LoadedPolicy, Refusal};
use crate::probe::{self, Flip, Watched};
use crate::table::{ServiceId, Table, VersionId};

mod policies;

/// Changes are gathered for this long before a table is made of them (architecture.md, "the way of a change").
const GATHER: Duration = Duration::from_millis(10);

/// Planning pauses after this long, so that endpoints that left, metrics and the end of the host get their turn however many Services
/// there are to plan, and however slow a policy is. One call of a policy is bounded by its own deadline.
const PLANNING_TURN: Duration = Duration::from_millis(250);

/// How often a bind that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A policy that cannot plan a Service is asked again this seldom in the end; as seldom as a trapped instance is rebuilt.
const MAX_REPLAN_WAIT: Duration = Duration::from_secs(30);

/// What reaches the control side.
pub(super) enum Event {
    /// Something happened in `--policy-dir`.
    Policy(DirectoryEvent),
    /// What became of a policy that a Service names by reference.
    Pulled { name: String, outcome: Outcome },
    /// A swap or rollback by the admin port is through its checks.
    Checked { name: String, result: Result<Swapped, Refusal>, verb: &'static str, reply: oneshot::Sender<PolicyReply> },
    /// Drain and end.
    Stop,
}

/// What the control loop is handed at start.
pub(super) struct Wiring {
    pub(super) options: Options,
    pub(super) registry: Arc<Registry>,
    pub(super) events: Arc<EventLog>,
    pub(super) bound: Arc<ArcSwap<Bound>>,
    pub(super) readiness: watch::Sender<Readiness>,
    pub(super) metrics_asked: mpsc::Receiver<oneshot::Sender<Metrics>>,
    pub(super) policies_asked: mpsc::Receiver<PolicyRequest>,
    pub(super) objects_asked: mpsc::Receiver<ObjectsRequest>,
    pub(super) shadows_asked: mpsc::Receiver<ShadowRequest>,
    /// What the prober is to probe, what it found, and what it counts.
    pub(super) probed: watch::Sender<Watched>,
    pub(super) flips: mpsc::Receiver<Flip>,
    pub(super) probes: Arc<probe::Counters>,
    /// What `/healthz` says.
    pub(super) health: Arc<ProxyHealth>,
    /// Each table that is put in force.
    pub(super) tables: watch::Sender<Arc<Table>>,
    /// Something changed below `-f`.
    pub(super) files: Arc<Notify>,
    /// What is to be pulled.
    pub(super) wanted: watch::Sender<BTreeSet<Reference>>,
    pub(super) changes: mpsc::Sender<Event>,
    pub(super) changes_seen: mpsc::Receiver<Event>,
}

/// Runs until `Event::Stop`, then drains. Planning blocks this thread, and nothing else.
pub(super) fn run(wiring: Wiring) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the control runtime")?;
    let result = runtime.block_on(async { ControlLoop::start(wiring).await?.run().await });
    // A component that is still being checked does not hold up the end.
    runtime.shutdown_background();
    result
}

struct ControlLoop {
    wiring: Wiring,
    core: Core,
    plane: DataPlane<WorkerPolicies>,
    log: Option<DecisionLog>,
    recorder: Option<Recorder>,
    addresses: Addresses,
    clock: Clock,
    table: Arc<Table>,
    installed: BTreeSet<VersionId>,
    /// Installed to be tried beside those in force.
    candidates: BTreeSet<VersionId>,
    canaries: Canaries,
    swaps: BTreeMap<(String, &'static str), u64>,
    /// Swaps that are answered when they are in force.
    replies: Vec<(PolicyReply, oneshot::Sender<PolicyReply>)>,
    /// What is not bound, as told last.
    not_served: BTreeSet<String>,
    stopping: bool,
    health: Health,
    sync: Sync,
    /// What tables brought up that is not told yet.
    arisen: Vec<Diagnostic>,
    /// Since when a change waits for its table.
    queued: Option<Instant>,
    /// When plans that failed are made again, and how long after that.
    replan_at_ms: u64,
    replan_wait: Duration,
}

impl ControlLoop {
    async fn start(wiring: Wiring) -> anyhow::Result<Self> {
        let options = &wiring.options;
        let log = match &options.decision_log {
            Some(path) => Some(DecisionLog::open(path).with_context(|| format!("--decision-log {}", path.display()))?),
            None => None,
        };
        let clock = Clock::start();
        let seed = fastrand::u64(..);
        let transparent = Arc::new(AtomicBool::new(false));
        let config = dataplane::Config {
            workers: options.workers,
            max_connections: options
                .max_connections
                .unwrap_or_else(|| dataplane::limits::default_max_connections(dataplane::limits::descriptors())),
            connect_timeout: options.connect_timeout,
            hash_key: options.hash_key,
            transparent: Arc::clone(&transparent),
            udp: options.udp,
            seed,
            clock,
        };
        let recorder = options.record.as_ref().map(|record| start_recording(record, options, &wiring.registry, seed)).transpose()?;
        let policies = (0..options.workers as u64).map(|worker| match &recorder {
            Some(recorder) => WorkerPolicies::recorded(seed.wrapping_add(worker), recorder.tape(worker as u16)),
            None => WorkerPolicies::new(seed.wrapping_add(worker)),
        });
        let policies = policies.collect();
        let plane = DataPlane::start(&config, policies, log.as_ref().map(DecisionLog::sender).as_ref()).context("starting the workers")?;
        let addresses = Addresses::new(options, transparent)?;
        let core = Core::new(options.files.clone(), options.control.clone(), Arc::clone(&wiring.registry));
        let core = core.probing(options.allow_exec_probes).allowing(options.policy_registries.clone(), true);
        Ok(Self {
            core,
            plane,
            log,
            recorder,
            addresses,
            clock,
            table: Arc::default(),
            installed: BTreeSet::new(),
            candidates: BTreeSet::new(),
            canaries: Canaries::default(),
            swaps: BTreeMap::new(),
            replies: Vec::new(),
            not_served: BTreeSet::new(),
            stopping: false,
            health: Health::default(),
            sync: Sync::default(),
            arisen: Vec::new(),
            queued: None,
            replan_at_ms: 0,
            replan_wait: RETRY,
            wiring,
        })
    }

    async fn run(mut self) -> anyhow::Result<()> {
        self.files_changed().await;
        self.take_cached();
        self.rebuild().await;
        let files = Arc::clone(&self.wiring.files);
        let mut retry = interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut serving = false;
        while !self.stopping {
            if !serving && !self.core.is_dirty() {
                serving = true;
                // Every worker answers after it has taken its first table in: from here on a connection is decided.
                let _ = self.plane.snapshot().await;
                self.wiring.readiness.send_replace(Readiness::Serving);
                tracing::info!("serving: frontends={} listeners={}", self.table.frontends.len(), self.plane.listeners());
            }
            tokio::select! {
                event = self.wiring.changes_seen.recv() => match event {
                    Some(Event::Stop) | None => self.stopping = true,
                    Some(event) => self.absorb(event).await,
                },
                () = files.notified() => {
                    // Whoever watches them has gathered already.
                    self.files_changed().await;
                    self.rebuild().await;
                }
                Some(reply) = self.wiring.metrics_asked.recv() => {
                    let _ = reply.send(self.metrics().await);
                }
                Some(request) = self.wiring.policies_asked.recv() => self.asked(request).await,
                Some(request) = self.wiring.objects_asked.recv() => {
                    let _ = request.reply.send(list_to_json(&self.core.list(request.kind)));
                }
                Some(request) = self.wiring.shadows_asked.recv() => self.shadow_asked(request).await,
                Some(flip) = self.wiring.flips.recv() => self.flipped(flip).await,
                _ = retry.tick() => self.retry().await,
                () = ready(()), if self.core.is_dirty() => self.rebuild().await,
            }
        }
        self.stop().await
    }

    /// Takes a change in, gathers what follows it closely, and puts all of it in force.
    async fn absorb(&mut self, first: Event) {
        let files = Arc::clone(&self.wiring.files);
        let until = Instant::now() + GATHER;
        let (mut reread, mut next) = (false, Some(first));
        loop {
            match next.take() {
                Some(Event::Policy(event)) => self.policy_file(event),
                Some(Event::Pulled { name, outcome }) => self.pulled(&name, outcome),
                Some(Event::Checked { name, result, verb, reply }) => {
                    let result = self.checked(&name, result, verb);
                    self.replies.push((result, reply));
                }
                Some(Event::Stop) => self.stopping = true,
                None => {}
            }
            tokio::select! {
                event = self.wiring.changes_seen.recv() => next = event,
                () = files.notified() => reread = true,
                () = sleep_until(until) => break,
            }
        }
        if reread {
            self.files_changed().await;
        }
        self.rebuild().await;
    }

    async fn files_changed(&mut self) {
        let masked = self.core.reload(self.clock.now_ms());
        self.read();
        let watched = self.core.watched();
        self.wiring.probed.send_if_modified(|known| {
            let differs = !known.ptr_eq(&watched);
            *known = watched;
            differs
        });
        self.want();
        self.wiring.health.set_node_eligible(self.core.node_eligible());
        if let Some(update) = masked {
            self.publish(update).await;
        }
    }

    /// Takes in what probes found, and what they found right after.
    async fn flipped(&mut self, first: Flip) {
        let mut next = Some(first);
        while let Some(flip) = next {
            let verdict = if flip.ready { "ready" } else { "not ready" };
            let severity = if flip.ready { admin::Severity::Info } else { admin::Severity::Warning };
            report::notice(&self.wiring.events, severity, format!("{}: {verdict}: {}", flip.key, flip.reason), None);
            if let Some(masked) = self.core.flipped(&flip, self.clock.now_ms()) {
                self.publish(masked).await;
            }
            next = self.wiring.flips.try_recv().ok();
        }
        self.read();
        self.rebuild().await;
    }

    /// A change was read, and waits for its table if it needs one.
    fn read(&mut self) {
        if self.core.is_dirty() {
            self.queued.get_or_insert_with(Instant::now);
            self.sync.last_queued = seconds(SystemTime::now());
            self.wiring.health.queued(SystemTime::now());
        }
    }

    /// Tries again what failed: binds every time, plans less and less often. Tells of policies that fail.
    async fn retry(&mut self) {
        let addresses = &self.addresses;
        if self.plane.retry(&|key, frontend| addresses.bound(key, frontend)) {
            self.publish_bound();
        }
        self.addresses.tidy().await;
        self.tell_findings();
        let counters = self.plane.policy_counters().await;
        self.health.look(&counters, &self.wiring.events);
        self.watch_canaries().await;
        if self.clock.now_ms() < self.replan_at_ms {
            return;
        }
        if self.core.retry_faulted() {
            self.rebuild().await;
            self.replan_wait = (self.replan_wait * 2).min(MAX_REPLAN_WAIT);
        } else {
            self.replan_wait = RETRY;
        }
        self.replan_at_ms = self.clock.now_ms() + self.replan_wait.as_millis() as u64;
    }

    /// Takes clients back from candidates that fail.
    async fn watch_canaries(&mut self) {
        if self.candidates.is_empty() {
            return;
        }
        let (policies, faults) = self.plane.candidate_counters().await;
        let ended = self.canaries.look(&self.table, &Counts { policies: &policies, faults: &faults });
        if ended.is_empty() {
            return;
        }
        for RollBack { service, message } in ended {
            self.core.roll_back(&service.namespace, &service.service);
            let remedy = "mend the candidate and swap it in, or change pointsman.dev/balancer-shadow or balancer-canary".to_owned();
            report::notice(&self.wiring.events, admin::Severity::Warning, message, Some(remedy));
        }
        self.rebuild().await;
    }

    /// Plans for one turn; what is left over is planned in the next.
    async fn rebuild(&mut self) {
        if self.core.node_changed() {
            self.plane.reconfigure();
        }
        let until = Instant::now() + PLANNING_TURN;
        if let Some(update) = self.core.rebuild(self.clock.now_ms(), &mut || Instant::now() < until) {
            self.publish(update).await;
        }
        if !self.core.is_large() {
            self.tell_findings();
        }
        if !self.core.is_dirty() {
            self.wiring.health.updated(SystemTime::now());
            if let Some(queued) = self.queued.take() {
                self.sync.took(queued.elapsed());
                self.sync.last = seconds(SystemTime::now());
            }
        }
        if !self.core.is_dirty() && !self.replies.is_empty() {
            // In force on every worker before the answer goes out, so that what the caller does next meets the new version.
            let _ = self.plane.snapshot().await;
            for (result, reply) in self.replies.drain(..) {
                let _ = reply.send(result);
            }
        }
    }

    async fn publish(&mut self, mut update: Update) {
        report::table(&self.table, &update);
        self.arisen.append(&mut update.diagnostics);
        let mut notices = self.addresses.prepare(&self.table, &update.table).await;
        notices.extend(self.addresses.keep_clients(&update.table, &update.changed).await);
        for notice in notices {
            report::notice(&self.wiring.events, admin::Severity::Warning, notice, None);
        }
        let live: BTreeSet<_> = self.wiring.registry.live().into_iter().collect();
        let mut retire: Vec<_> = self.installed.iter().filter(|version| !live.contains(version)).copied().collect();
        if !retire.is_empty() {
            // The registry may be ahead of the table: what the table names stays.
            let every: Vec<ServiceId> = (0..update.table.ports.len() as ServiceId).collect();
            let named = update.table.versions(&every);
            retire.retain(|version| !named.contains(version));
        }
        self.installed.retain(|version| !retire.contains(version));
        let fresh = update.table.versions(&update.changed).into_iter().filter(|version| !self.installed.contains(version));
        let install: Vec<Arc<LoadedPolicy>> = fresh.filter_map(|version| self.wiring.registry.loaded(version)).collect();
        self.installed.extend(install.iter().map(|policy| policy.version().id));
        let (candidates, retired_candidates) = self.change_candidates(&update).await;
        self.table = Arc::clone(&update.table);
        self.wiring.tables.send_replace(Arc::clone(&update.table));
        self.sync.service_changes += (update.removed.len() + update.changed.len()) as u64;
        self.sync.endpoint_changes += update.changed.len() as u64;
        let addresses = &self.addresses;
        let Update { table, changed, removed, .. } = update;
        let update = TableUpdate { table, changed, removed, install, retire, candidates, retired_candidates };
        if self.plane.publish(update, &|key, frontend| addresses.bound(key, frontend)) {
            self.publish_bound();
        }
    }

    /// Which versions are to be tried now that were not, and which no longer are. What new canaries did so far is counted before they are in
    /// charge.
    async fn change_candidates(&mut self, update: &Update) -> (Vec<Arc<LoadedPolicy>>, Vec<VersionId>) {
        let mut fresh = update.table.candidates(&update.changed);
        fresh.retain(|version| !self.candidates.contains(version));
        if fresh.is_empty() && self.candidates.is_empty() {
            return Default::default();
        }
        let install: Vec<Arc<LoadedPolicy>> = fresh.into_iter().filter_map(|version| self.wiring.registry.loaded(version)).collect();
        let every: Vec<ServiceId> = (0..update.table.ports.len() as ServiceId).collect();
        let named = update.table.candidates(&every);
        let retire: Vec<VersionId> = self.candidates.difference(&named).copied().collect();
        self.candidates.extend(install.iter().map(|policy| policy.version().id));
        self.candidates.retain(|version| !retire.contains(version));
        if self.canaries.differ(&update.table) {
            let (policies, faults) = self.plane.candidate_counters().await;
            self.canaries.begin(&update.table, &Counts { policies: &policies, faults: &faults });
        } else {
            self.canaries.tidy(&update.table);
        }
        (install, retire)
    }

    fn publish_bound(&mut self) {
        let bound = report::bound(&self.plane, self.wiring.bound.load().admin);
        let not_served = self.plane.not_served().into_iter().filter(|not| !not.by_design);
        let said = not_served.map(|n| format!("{}: {} is not served: {}", n.service, SocketAddr::new(n.key.ip, n.key.port), n.why));
        let why: BTreeSet<String> = said.collect();
        for news in why.difference(&self.not_served) {
            report::notice(&self.wiring.events, admin::Severity::Warning, news.clone(), None);
        }
        self.not_served = why;
        report::log_changes(&self.wiring.bound.load(), &bound);
        self.wiring.bound.store(Arc::new(bound));
    }

    async fn shadow_asked(&mut self, request: ShadowRequest) {
        match request {
            ShadowRequest::List { reply } => {
                let _ = reply.send(self.canaries.status(&self.table));
            }
            ShadowRequest::Report { namespace, name, reply } => {
                let (traffic, _) = self.plane.snapshot().await;
                // A large policy's is larger.
                let of_any = self.wiring.options.limits.hot_fuel;
                let limit = |version| self.wiring.registry.loaded(version).map_or(of_any, |policy| policy.limits().hot_fuel);
                let report = report::shadow(&self.table, &traffic, &self.canaries, &namespace, &name, limit);
                let _ = reply.send(report.map(Box::new));
            }
        }
    }

    async fn metrics(&mut self) -> Metrics {
        let (traffic, counters) = self.plane.snapshot().await;
        let (written, dropped) = self.log.as_ref().map(|log| (log.written(), log.dropped())).unwrap_or_default();
        let swap = |((policy, result), count): (&(String, &'static str), &u64)| SwapCount { policy: policy.clone(), result, count: *count };
        Metrics {
            generation: self.table.generation,
            listeners: self.plane.listeners() as u64,
            traffic,
            policies: counters.into_iter().flatten().collect(),
            swaps: self.swaps.iter().map(swap).collect(),
            shadows: self.canaries.status(&self.table),
            probes: report::probes(&self.wiring.probes.counts()),
            health: self.wiring.health.counts(),
            sync: Sync { no_local_endpoints: report::no_local_endpoints(&self.table), ..self.sync.clone() },
            decision_log_written: written,
            decision_log_dropped: dropped,
            recording_dropped: self.recorder.as_ref().map(Recorder::lost).unwrap_or_default(),
        }
    }

    fn count(&mut self, policy: &str, result: &'static str) {
        *self.swaps.entry((policy.to_owned(), result)).or_default() += 1;
    }

    /// What has come to be wrong since the last time.
    fn tell_findings(&mut self) {
        let arisen = std::mem::take(&mut self.arisen);
        let findings = self.core.findings(arisen);
        self.tell(findings);
    }

    fn tell(&self, diagnostics: Vec<Diagnostic>) {
        for diagnostic in diagnostics {
            report::diagnostic(&self.wiring.events, diagnostic);
        }
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.wiring.readiness.send_replace(Readiness::Draining);
        tracing::info!("draining: no new connections; those that live have {:?}", self.wiring.options.drain_timeout);
        let last = self.plane.drain(self.wiring.options.drain_timeout).await;
        self.addresses.remove().await;
        if let Some(log) = self.log {
            log.close();
        }
        if let Some(recorder) = self.recorder {
            recorder.close();
        }
        let total = &last.totals;
        tracing::info!("ended: {} connections accepted, {} reset at the drain deadline", total.accepted, total.drained);
        Ok(())
    }
}

/// Opens the file of `--record`.
fn start_recording(record: &Record, options: &Options, registry: &Registry, seed: u64) -> anyhow::Result<Recorder> {
    let worker = |worker: u64| WorkerStart { seed: seed.wrapping_add(worker).into(), fresh: true };
    let catalogue = registry.catalogue();
    let policies = catalogue.entries.iter();
    let header = Header {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        sample: record.terms.sample.get(),
        hashed_clients: matches!(record.terms.clients, Clients::Hashed(_)),
        workers: (0..options.workers as u64).map(worker).collect(),
        limits: (&options.limits).into(),
        policies: policies.map(|((stage, name), entry)| PolicyRecord::new(*stage, name, &entry.current.digest)).collect(),
    };
    let recorder = Recorder::create(&record.file, record.limit_bytes, record.terms, &header);
    let recorder = recorder.with_context(|| format!("--record {}", record.file.display()))?;
    tracing::info!("recording decisions into {}", record.file.display());
    Ok(recorder)
}

/// Since 1970.
fn seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
