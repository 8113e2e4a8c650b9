//! One Service with its endpoints, a worker and connections, without sockets: what `run` does with manifests, from the objects to the
//! decision.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use pointsman_sdk::types::{Outcome, OutcomeKind};
use serde_json::{Map, Value, json};

use super::component::NODE;
use super::testfile::{Endpoint, ServiceText};
use crate::control::{Controller, Settings};
use crate::objects::{self, Object};
use crate::policy::contract::{Connection, Fault, Node, Slot};
use crate::policy::planners::Planners;
use crate::policy::registry::Registry;
use crate::policy::worker::WorkerPolicies;
use crate::route::{self, By, Fate, HashKey, MAX_ATTEMPTS};
use crate::store::Store;
use crate::table::{FrontendKind, LoadGuard, Origin, Port, Table};

/// What became of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcomes {
    /// The endpoint that it ended on.
    pub endpoint: Option<Arc<str>>,
    /// Refused or dropped, and why.
    pub refused: Option<&'static str>,
    /// The faults that the host had to make up for.
    pub faults: Vec<Fault>,
    /// How often a balancer had no opinion.
    pub no_opinion: u32,
    /// Endpoints that it tried and that could not be reached.
    pub failed: Vec<Arc<str>>,
}

/// A client of the stand.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Its address; port 0: one is drawn.
    pub address: SocketAddr,
    /// What it dialled.
    pub frontend: FrontendKind,
    /// Where it is.
    pub origin: Origin,
}

/// The Service and everything that decides for it.
pub struct Stand {
    store: Store,
    controller: Controller,
    planners: Planners,
    registry: Arc<Registry>,
    worker: WorkerPolicies,
    table: Arc<Table>,
    service: ServiceText,
    /// The address that stands for each key, where the key is none; and the way back.
    addresses: HashMap<String, SocketAddr>,
    names: HashMap<String, Arc<str>>,
    random: fastrand::Rng,
    now_ms: u64,
    /// Connections that are held open.
    held: Vec<LoadGuard>,
}

impl Stand {
    /// A Service with these endpoints; its annotations say which policies decide.
    ///
    /// # Errors
    /// What is wrong with the Service or an endpoint; a policy that cannot plan it.
    pub fn new(registry: Arc<Registry>, service: ServiceText, endpoints: &[Endpoint], seed: u64) -> anyhow::Result<Self> {
        let node = Node { name: NODE.to_owned(), ..Node::default() };
        let mut controller = Controller::new(Settings { node, ..Settings::default() });
        controller.catalogue(registry.catalogue());
        let mut stand = Self {
            store: Store::default(),
            controller,
            planners: Planners::new(Arc::clone(&registry)),
            registry,
            worker: WorkerPolicies::new(seed),
            table: Arc::default(),
            service,
            addresses: HashMap::new(),
            names: HashMap::new(),
            random: fastrand::Rng::with_seed(seed),
            now_ms: 1_000_000,
            held: Vec::new(),
        };
        stand.set_endpoints(endpoints)?;
        Ok(stand)
    }

    /// These are the endpoints from now on.
    ///
    /// # Errors
    /// As for `new`; what was in force stays.
    pub fn set_endpoints(&mut self, endpoints: &[Endpoint]) -> anyhow::Result<()> {
        let mut objects = vec![self.service_object()];
        let mut zones: HashMap<&str, &str> = HashMap::new();
        for endpoint in endpoints {
            let address = self.address(&endpoint.key)?;
            objects.push(pod(endpoint, address));
            if let (Some(node), Some(zone)) = (&endpoint.node, &endpoint.zone) {
                zones.insert(node, zone);
            }
        }
        let mut zones: Vec<_> = zones.into_iter().collect();
        zones.sort_unstable();
        objects.extend(zones.into_iter().map(|(node, zone)| node_object(node, zone)));
        let text: String = objects.iter().map(|object| format!("{object}\n")).collect();
        let parsed = objects::parse(Path::new("test"), &text);
        if let Some(error) = parsed.diagnostics.iter().find(|diagnostic| diagnostic.is_error()) {
            let at = [error.object.as_deref(), error.field.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
            bail!("{at}: {}", error.message);
        }
        self.now_ms += STEP_MS;
        self.apply(parsed.objects)
    }

    fn apply(&mut self, objects: Vec<Object>) -> anyhow::Result<()> {
        let changes = self.store.replace(objects);
        self.controller.apply(changes, self.now_ms);
        let node = self.controller.node().clone();
        self.registry.set_node(node);
        self.planners.set_now(self.now_ms);
        let update = self.controller.rebuild(&mut self.planners, self.now_ms);
        let errors: Vec<String> = update.diagnostics.iter().filter(|d| d.is_error()).map(|d| d.message.clone()).collect();
        ensure!(errors.is_empty(), "{}", errors.join("; "));
        if let Some((_, fault)) = update.faults.first() {
            bail!("it could not plan: {fault}");
        }
        for version in update.table.versions(&update.changed) {
            if let Some(policy) = self.registry.loaded(version) {
                self.worker.install(policy, self.now_ms);
            }
        }
        for version in update.table.candidates(&update.changed) {
            if let Some(policy) = self.registry.loaded(version) {
                self.worker.install_candidate(policy, self.now_ms);
            }
        }
        self.worker.adopt(&update.table, &update.changed, self.now_ms);
        self.table = update.table;
        self.now_ms += STEP_MS;
        Ok(())
    }

    /// One connection, as a worker of `run` would route it. `unreachable` endpoints refuse; `hold`: it stays open.
    pub fn connect(&mut self, client: Client, unreachable: &[String], hold: bool) -> Outcomes {
        let mut outcomes = Outcomes { endpoint: None, refused: None, faults: Vec::new(), no_opinion: 0, failed: Vec::new() };
        let Some(port) = self.port() else {
            outcomes.refused = Some("nothing listens: the Service has no endpoint");
            return outcomes;
        };
        let mut address = client.address;
        if address.port() == 0 {
            address.set_port(self.random.u16(32_768..61_000));
        }
        let random = self.random.u64(..);
        let mut connection = route::connection(port.id, address, client.frontend, client.origin, HashKey::PUBLIC, self.now_ms, random);
        let mut decision = route::decide(&port, &mut self.worker, &connection, None);
        let mut tried: Vec<Slot> = Vec::new();
        loop {
            outcomes.count([&decision.selector, &decision.traffic_policy, &decision.balancer].into_iter().skip(if tried.is_empty() {
                0
            } else {
                2
            }));
            let slot = match decision.fate {
                Fate::Forward(slot) => slot,
                Fate::Reject(reason) | Fate::Drop(reason) => {
                    outcomes.refused = Some(reason.text());
                    break;
                }
            };
            let endpoint = &port.endpoints[slot as usize];
            let key = self.shown(&endpoint.key);
            if !unreachable.iter().any(|unreachable| **unreachable == *key) {
                self.tell(&connection, endpoint.hash, OutcomeKind::Connected);
                if hold {
                    self.held.push(endpoint.load.enter());
                }
                outcomes.endpoint = Some(key);
                break;
            }
            self.tell(&connection, endpoint.hash, OutcomeKind::Refused);
            outcomes.failed.push(key);
            tried.push(slot);
            connection.attempt += 1;
            if connection.attempt == MAX_ATTEMPTS {
                outcomes.refused = Some("no endpoint could be reached");
                break;
            }
            connection.random = self.random.u64(..);
            route::retry(&port, &mut self.worker, &connection, &mut decision, &tried);
        }
        self.now_ms += 1;
        self.worker.mend(self.now_ms);
        outcomes
    }

    fn tell(&mut self, connection: &Connection, endpoint: u64, kind: OutcomeKind) {
        self.worker.report(self.now_ms, &[Outcome { service: connection.service, endpoint, kind, millis: 1 }]);
    }

    /// Opens so many connections to an endpoint that stay open.
    ///
    /// # Errors
    /// There is no such endpoint.
    pub fn load(&mut self, key: &str, active: u32) -> anyhow::Result<()> {
        let port = self.port().context("the Service has no endpoint")?;
        let endpoint = port.endpoints.iter().find(|endpoint| *self.shown(&endpoint.key) == *key);
        let endpoint = endpoint.with_context(|| format!("there is no endpoint {key}"))?;
        self.held.extend((0..active).map(|_| endpoint.load.enter()));
        Ok(())
    }

    /// Fuel of decisions so far, for the policy with this name: the most that one used.
    pub fn fuel_max(&self, policy: &str) -> u64 {
        let counters = self.worker.counters();
        counters.iter().filter(|counters| *counters.version.name == *policy).map(|counters| counters.fuel_max).max().unwrap_or_default()
    }

    /// The Service's port in the table.
    fn port(&self) -> Option<Arc<Port>> {
        self.table.ports.iter().flatten().find(|port| port.record.name == SERVICE).cloned()
    }

    /// The key that the test gave the endpoint.
    fn shown(&self, key: &Arc<str>) -> Arc<str> {
        Arc::clone(self.names.get(&**key).unwrap_or(key))
    }

    /// `127.0.0.1:90` is itself; `a:80` gets an address of its own, and keeps it.
    fn address(&mut self, key: &str) -> anyhow::Result<SocketAddr> {
        if let Ok(address) = key.parse() {
            return Ok(address);
        }
        if let Some(address) = self.addresses.get(key) {
            return Ok(*address);
        }
        let port = key.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port > 0);
        let port = port.with_context(|| format!("the endpoint {key:?} has no port; write {key}:80, say"))?;
        let next = FIRST_ADDRESS + self.addresses.len() as u32;
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(next)), port);
        self.addresses.insert(key.to_owned(), address);
        self.names.insert(address.to_string(), key.into());
        Ok(address)
    }

    fn service_object(&self) -> Value {
        let ServiceText { annotations, labels, spec } = &self.service;
        let mut whole = json!({"type": "ClusterIP", "clusterIP": "10.96.0.10", "selector": {"app": SERVICE}, "ports": [{"port": 80, "targetPort": "serving"}]});
        if let Value::Object(fields) = &mut whole {
            fields.extend(spec.clone());
        }
        json!({
            "apiVersion": "v1", "kind": "Service", "spec": whole,
            "metadata": {"name": SERVICE, "namespace": "default", "annotations": annotations, "labels": labels},
        })
    }
}

impl Outcomes {
    fn count<'a>(&mut self, stages: impl Iterator<Item = &'a By>) {
        for by in stages {
            match by {
                By::StandIn(fault) | By::Fallback(fault) => match &**fault {
                    Fault::NoOpinion => self.no_opinion += 1,
                    fault => self.faults.push(fault.clone()),
                },
                By::Current | By::Canary | By::NotAsked(_) => {}
            }
        }
    }
}

/// The Service's name.
const SERVICE: &str = "web";
/// 10.244.0.1: the first pod of the first node, as most clusters number them.
const FIRST_ADDRESS: u32 = 0x0af4_0001;
/// Between two changes.
const STEP_MS: u64 = 100;

fn pod(endpoint: &Endpoint, address: SocketAddr) -> Value {
    let name: String = endpoint.key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let name = format!("p-{}", name.trim_matches('-'));
    let mut labels: Map<String, Value> = [("app".to_owned(), json!(SERVICE))].into_iter().collect();
    labels.extend(endpoint.labels.iter().map(|(key, value)| (key.clone(), json!(value))));
    let ready = if endpoint.ready && !endpoint.terminating || endpoint.serving { "True" } else { "False" };
    let mut metadata = json!({
        "name": name, "namespace": "default", "labels": labels, "annotations": {"pointsman.dev/weight": endpoint.weight.to_string()},
    });
    if endpoint.terminating {
        metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {
            "nodeName": endpoint.node.as_deref().unwrap_or(NODE),
            "containers": [{"name": "c", "image": "i", "ports": [{"name": "serving", "containerPort": address.port()}]}],
        },
        "status": {
            "phase": "Running", "podIP": address.ip().to_string(), "podIPs": [{"ip": address.ip().to_string()}],
            "conditions": [{"type": "Ready", "status": ready}],
        },
    })
}

fn node_object(name: &str, zone: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}}})
}
