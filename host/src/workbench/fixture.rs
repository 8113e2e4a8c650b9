//! A host without sockets whose decisions are recorded, for tests: the production's planners' calls, workers, decision core and recorder,
//! and a history drawn from a seed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it fails")]

use std::collections::BTreeMap;
use std::io::Write;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use pointsman_guests::Component;
use pointsman_sdk::native;

use super::recording::Recording;
use crate::observe::Recorder;
use crate::observe::recording::file::{Header, WorkerStart};
use crate::policy::compile::Compiler;
use crate::policy::contract::{Connection, Endpoint, Node, Outcome, OutcomeKind, ServicePort, Setting};
use crate::policy::replica::{self, Replica};
use crate::policy::tape::{Clients, Ending, Fate, Terms};
use crate::policy::worker::WorkerPolicies;
use crate::policy::{Grants, Limits, LoadedPolicy, Sandbox};
use crate::route::{self, By};
use crate::table::{
    self, CandidateSet, Conditions, Fallback, FrontendKind, Load, LoadGuard, Origin, Planned, Port, PortOptions, Stage, Subset, Table,
    VersionId,
};

/// One engine for all tests.
pub(super) static SANDBOX: LazyLock<Arc<Sandbox>> = LazyLock::new(|| Sandbox::new(limits(), Compiler::InProcess).unwrap());

/// What a policy takes of a busy machine must not keep it from being asked: a history is to be the same on every run.
fn limits() -> Limits {
    Limits { core_share_percent: u32::MAX, ..Limits::default() }
}

pub(super) fn component(name: &str) -> &'static [u8] {
    Component::named(name).unwrap_or_else(|| panic!("no component {name}")).bytes
}

/// Everything, as it is.
pub(super) fn all() -> Terms {
    Terms { sample: NonZeroU32::MIN, clients: Clients::Plain }
}

/// Numbers that are the same in every run (xorshift).
pub(super) struct Draw(pub(super) u64);

impl Draw {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// The recorded host.
pub(super) struct Studio {
    pub(super) workers: Vec<WorkerPolicies>,
    pub(super) draw: Draw,
    pub(super) now_ms: u64,
    recorder: Recorder,
    policies: BTreeMap<String, Arc<LoadedPolicy>>,
    table: Arc<Table>,
    loads: BTreeMap<String, Arc<Load>>,
    open: Vec<Open>,
}

struct Open {
    worker: usize,
    number: Option<NonZeroU64>,
    outcome: Outcome,
    _held: LoadGuard,
}

/// What fills the stages of a Service port.
#[derive(Clone, Copy)]
pub(super) struct Filled<'a> {
    pub(super) service: u32,
    pub(super) selector: &'a str,
    pub(super) traffic_policy: &'a str,
    pub(super) balancer: &'a str,
    pub(super) stand_in: Option<&'a str>,
}

pub(super) fn header(terms: Terms, workers: u64) -> Header {
    Header {
        program: "test".into(),
        sample: terms.sample.get(),
        hashed_clients: terms.clients != Clients::Plain,
        workers: (0..workers).map(|worker| WorkerStart { seed: (worker + 7).into(), fresh: true }).collect(),
        limits: (&Limits::default()).into(),
        policies: Vec::new(),
    }
}

impl Studio {
    pub(super) fn new(path: &Path, terms: Terms, workers: u64) -> Self {
        // Room for every chunk: here the workers are in more of a hurry than the writer, and nothing is to be lost.
        let file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
        let recorder = Recorder::with_capacity(file, 1 << 30, terms, &header(terms, workers), 1 << 16);
        Self::with(recorder.unwrap(), workers)
    }

    pub(super) fn with(recorder: Recorder, workers: u64) -> Self {
        Self {
            workers: (0..workers).map(|worker| WorkerPolicies::recorded(worker + 7, recorder.tape(worker as u16))).collect(),
            draw: Draw(0x5eed),
            now_ms: 0,
            recorder,
            policies: BTreeMap::new(),
            table: Arc::default(),
            loads: BTreeMap::new(),
            open: Vec::new(),
        }
    }

    /// Ends the host and its recording. Frames that were lost.
    pub(super) fn end(mut self) -> u64 {
        self.close_some(usize::MAX);
        self.workers.clear();
        let lost = self.recorder.lost();
        self.recorder.close();
        lost
    }

    fn policy(&mut self, name: &str) -> Arc<LoadedPolicy> {
        let id = VersionId(self.policies.len() as u32);
        let load = || replica::load(&SANDBOX, name, component(name), id, Grants::default()).unwrap();
        Arc::clone(self.policies.entry(name.to_owned()).or_insert_with(load))
    }

    /// Endpoints, some of them with weights and other whereabouts.
    pub(super) fn endpoints(&mut self, of: u64) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for n in 0..of {
            if self.draw.below(4) > 0 || endpoints.is_empty() {
                let mut endpoint =
                    native::endpoint(endpoints.len() as u32, &format!("10.244.1.{n}:80"), [1, 1, 2, 0][self.draw.below(4) as usize]);
                endpoint.local = self.draw.below(2) == 0;
                endpoint.zone = Some(format!("zone-{}", self.draw.below(2)));
                endpoint.group = Some(0);
                endpoints.push(endpoint);
            }
        }
        endpoints[0].weight = 1;
        endpoints
    }

    /// Plans a Service port as the control side does, and puts the table in force on every worker.
    pub(super) fn plan(&mut self, filled: Filled<'_>, endpoints: &[Endpoint]) {
        self.now_ms += self.draw.below(50);
        let record = ServicePort { selector: Some(Vec::new()), ..native::port(filled.service) };
        let node = Node::default();
        let (selector, traffic) = (self.policy(filled.selector), self.policy(filled.traffic_policy));
        let half = || [("canary", "version=v2"), ("share", "50%")].map(|(key, value)| Setting { key: key.into(), value: value.into() });
        let settings = if filled.selector == "canary" { half().into() } else { Vec::new() };
        let grouping = Replica::planner(&selector, &node).unwrap().plan_selector(&ServicePort { settings, ..record.clone() }).unwrap();
        let groups = grouping.groups.len().max(1) as u32;
        let grouped = |endpoint: &Endpoint| Endpoint { group: Some(endpoint.slot % groups), ..endpoint.clone() };
        let endpoints: &[Endpoint] = &endpoints.iter().map(grouped).collect::<Vec<_>>();
        let partition = Replica::planner(&traffic, &node).unwrap().plan_traffic_policy(&record, endpoints).unwrap();
        let sets: Vec<CandidateSet> = (0..)
            .zip(&partition.subsets)
            .flat_map(|(at, subset)| {
                std::iter::once(None).chain((0..groups).filter(|_| groups > 1).map(Some)).map(move |group| (at, subset, group))
            })
            .map(|(at, subset, group)| {
                let within = |slot: &u32| group.is_none() || endpoints[*slot as usize].group == group;
                let mut members: Vec<_> = subset.members.iter().copied().filter(within).collect();
                members.sort_unstable();
                CandidateSet { group, subset: at, members: members.into() }
            })
            .filter(|set| !set.members.is_empty())
            .collect();
        let mut balanced = |name: &str| {
            let policy = self.policy(name);
            let mut planner = Replica::planner(&policy, &node).unwrap();
            let plans = sets.iter().map(|set| {
                let members: Vec<_> = set.members.iter().map(|slot| endpoints[*slot as usize].clone()).collect();
                Arc::<[u8]>::from(planner.plan_balancer(&record, &members).unwrap())
            });
            planned(&policy, plans.collect::<Vec<_>>().into())
        };
        let (balancer, stand_in) = (balanced(filled.balancer), filled.stand_in.map(&mut balanced));
        let name: Arc<str> = "asked".into();
        let port = Port {
            id: filled.service,
            generation: self.table.generation + 1,
            record: Arc::new(record),
            options: PortOptions::default(),
            shadow: None,
            endpoints: endpoints.iter().map(|endpoint| self.endpoint(endpoint)).collect(),
            masked: Arc::default(),
            groups: grouping.groups.into(),
            subsets: partition.subsets.iter().map(|s| Subset { name: s.name.clone(), members: s.members.clone() }).collect(),
            sets: sets.into(),
            selector: Stage { name: Arc::clone(&name), current: Some(planned(&selector, grouping.data.into())), stand_in: None },
            traffic_policy: Stage { name: Arc::clone(&name), current: Some(planned(&traffic, partition.data.into())), stand_in: None },
            balancer: Stage { name, current: Some(balancer), stand_in },
            fallback: Fallback::default(),
        };
        self.put(filled.service, Some(Arc::new(port)), true);
    }

    /// Masks a slot, which is a table without a plan.
    pub(super) fn mask(&mut self, service: u32, slot: u32) {
        let port = Port { masked: [slot].into(), ..Port::clone(self.table.port(service).unwrap()) };
        self.put(service, Some(Arc::new(port)), false);
    }

    pub(super) fn remove(&mut self, service: u32) {
        self.workers.iter_mut().for_each(|worker| worker.forget(service));
        self.put(service, None, true);
    }

    fn put(&mut self, service: u32, port: Option<Arc<Port>>, changed: bool) {
        let mut table = Table::clone(&self.table);
        table.generation += 1;
        while table.ports.len() <= service as usize {
            table.ports.push_back(None);
        }
        table.ports.set(service as usize, port);
        self.table = Arc::new(table);
        for worker in &mut self.workers {
            for policy in self.policies.values() {
                worker.install(Arc::clone(policy), self.now_ms);
            }
            worker.adopt(&self.table, if changed { std::slice::from_ref(&service) } else { &[] }, self.now_ms);
        }
    }

    fn endpoint(&mut self, of: &Endpoint) -> table::Endpoint {
        table::Endpoint {
            address: of.key.parse().unwrap(),
            key: of.key.as_str().into(),
            hash: of.hash,
            conditions: Conditions { ready: true, serving: true, terminating: false },
            weight: of.weight,
            local: of.local,
            node: None,
            zone: of.zone.as_deref().map(Arc::from),
            node_hints: Vec::new(),
            zone_hints: Vec::new(),
            labels: Arc::default(),
            group: of.group,
            ready_since_ms: of.ready_since_ms,
            load: Arc::clone(self.loads.entry(of.key.clone()).or_default()),
        }
    }

    /// One connection from one of so many clients, which stays open until `close_some`. The endpoint's key, if it went to one.
    pub(super) fn connect(&mut self, worker: usize, service: u32, clients: u64) -> Option<String> {
        self.now_ms += self.draw.below(3);
        let client = self.draw.below(clients);
        let connection = Connection {
            client_hash: client.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            random: self.draw.next(),
            now_ms: self.now_ms,
            frontend: if self.draw.below(2) == 0 { FrontendKind::ClusterIp } else { FrontendKind::NodePort },
            origin: if self.draw.below(2) == 0 { Origin::Pod } else { Origin::Outside },
            ..native::connection(service, client)
        };
        let port = Arc::clone(self.table.port(service)?);
        let policies = &mut self.workers[worker];
        let decision = route::decide(&port, policies, &connection, None);
        let fate = match decision.fate {
            route::Fate::Forward(slot) if matches!(decision.balancer, By::NotAsked(_)) => Fate::Pinned(slot),
            route::Fate::Forward(slot) => Fate::Forward(slot),
            route::Fate::Reject(_) => Fate::Reject,
            route::Fate::Drop(_) => Fate::Drop,
        };
        let number = policies.decided(&connection, fate, None);
        let route::Fate::Forward(slot) = decision.fate else { return None };
        let endpoint = &port.endpoints[slot as usize];
        let kind = if self.draw.below(20) == 0 { OutcomeKind::Refused } else { OutcomeKind::Closed };
        let outcome = Outcome { service, endpoint: endpoint.hash, kind, millis: 5 };
        self.open.push(Open { worker, number, outcome, _held: endpoint.load.enter() });
        Some(endpoint.key.to_string())
    }

    /// Ends up to so many of the connections that are open, and tells the policies of it.
    pub(super) fn close_some(&mut self, most: usize) {
        self.now_ms += 20;
        let mut outcomes = vec![Vec::new(); self.workers.len()];
        for _ in 0..most.min(self.open.len()) {
            let at = self.draw.below(self.open.len() as u64) as usize;
            let open = self.open.swap_remove(at);
            outcomes[open.worker].push(open.outcome);
            if let Some(number) = open.number {
                self.workers[open.worker].ended(number.get(), self.now_ms, Ending::Closed);
            }
        }
        for (worker, outcomes) in self.workers.iter_mut().zip(&outcomes) {
            worker.mend(self.now_ms);
            worker.report(self.now_ms, outcomes);
        }
    }
}

fn planned<P>(policy: &LoadedPolicy, plan: P) -> Planned<P> {
    Planned { version: Arc::clone(policy.version()), plan }
}

/// A day at a host: every built-in policy of every stage, one that learns, one that traps, over churn, masks, removals and rebuilds.
pub(super) fn day(path: &Path, terms: Terms) -> u64 {
    let mut studio = Studio::new(path, terms, 2);
    live(&mut studio);
    studio.end()
}

/// Every built-in one, and one that learns.
pub(super) const BALANCERS: [&str; 12] = [
    "round-robin",
    "random",
    "least-connections",
    "two-choices",
    "maglev",
    "rendezvous",
    "learner",
    "ring-hash",
    "ketama",
    "peak-ewma",
    "bounded-maglev",
    "first-available",
];

pub(super) fn live(studio: &mut Studio) {
    const TRAFFIC: [&str; 3] = ["kubernetes", "prefer-local", "zone-spill"];
    // Beside the balancers: one that traps, and a selector that makes two groups.
    const TRAPS: u32 = BALANCERS.len() as u32;
    const SERVICES: u32 = TRAPS + 2;
    let filled = |service: u32| Filled {
        service,
        selector: if service > TRAPS { "canary" } else { "label-selector" },
        traffic_policy: TRAFFIC[service as usize % 3],
        balancer: if service == TRAPS { "always-trap" } else { BALANCERS[service as usize % BALANCERS.len()] },
        stand_in: (service == TRAPS).then_some("maglev"),
    };
    for service in 0..SERVICES {
        let endpoints = studio.endpoints(12);
        studio.plan(filled(service), &endpoints);
    }
    for round in 0..60 {
        let service = studio.draw.below(SERVICES.into()) as u32;
        match studio.draw.below(8) {
            0 => studio.mask(service, 0),
            1 => {
                studio.remove(service);
                let endpoints = studio.endpoints(12);
                studio.plan(filled(service), &endpoints);
            }
            2 if round % 10 == 0 => {
                let now_ms = studio.now_ms;
                studio.workers.iter_mut().for_each(|worker| worker.reconfigure(now_ms));
            }
            _ => {
                let endpoints = studio.endpoints(12);
                studio.plan(filled(service), &endpoints);
            }
        }
        for n in 0..80 {
            let service = studio.draw.below(SERVICES.into()) as u32;
            studio.connect(n % 2, service, 50);
        }
        studio.close_some(70);
    }
}

/// Where a test's recording stands.
pub(super) fn file(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("day.rec")
}

/// A copy of a recording with some frames changed; what `edit` makes of the header and of the bytes of frames it leaves in order.
pub(super) fn rewrite(from: &Path, to: &Path, edit: &mut dyn FnMut(&mut crate::policy::tape::frame::Frame)) {
    use crate::observe::recording::file::{BLOCK_HEAD_BYTES, BlockHead, CHECK_BYTES, PREAMBLE_BYTES};
    use crate::policy::tape::frame::encoding;
    let bytes = std::fs::read(from).unwrap();
    let header = u32::from_le_bytes(bytes[10..14].try_into().unwrap()) as usize;
    let (head, mut rest) = bytes.split_at(PREAMBLE_BYTES + header + CHECK_BYTES);
    let mut out = std::fs::File::create(to).unwrap();
    out.write_all(head).unwrap();
    while !rest.is_empty() {
        let head = BlockHead::from_bytes(rest[..BLOCK_HEAD_BYTES].try_into().unwrap());
        let (frames, next) = rest[BLOCK_HEAD_BYTES..].split_at(head.length as usize);
        let (mut at, mut written) = (0, Vec::new());
        while at < frames.len() {
            let (mut frame, length) = bincode::decode_from_slice(&frames[at..], encoding()).unwrap();
            at += length;
            edit(&mut frame);
            bincode::encode_into_std_write(&frame, &mut written, encoding()).unwrap();
        }
        out.write_all(&BlockHead::of(head.worker, &written).to_bytes()).unwrap();
        out.write_all(&written).unwrap();
        rest = next;
    }
}

pub(super) fn open(path: &Path) -> Recording {
    Recording::open(path).unwrap()
}
