//! One Service with its endpoints, a worker and connections, without sockets: what `run` does with manifests, from the objects to the
//! decision.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

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
    addresses: Addresses,
    random: fastrand::Rng,
    now_ms: u64,
    /// Connections that are held open.
    held: Vec<LoadGuard>,
}

/// Why there is no stand.
#[derive(Debug, thiserror::Error)]
pub enum StandError {
    /// The Service, or an endpoint, is not one.
    #[error("{0}")]
    Mistake(String),
    /// A policy does not plan it.
    #[error("{0}")]
    Refused(String),
}

impl Stand {
    /// A Service with these endpoints; its annotations say which policies decide.
    ///
    /// # Errors
    /// What is wrong with the Service or an endpoint; a policy that cannot plan it.
    pub fn new(registry: Arc<Registry>, service: ServiceText, endpoints: &[Endpoint], seed: u64) -> Result<Self, StandError> {
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
            addresses: Addresses::default(),
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
    pub fn set_endpoints(&mut self, endpoints: &[Endpoint]) -> Result<(), StandError> {
        let objects = objects(&self.service, endpoints, &mut self.addresses)
            .map_err(|Wrong { about, field, message }| StandError::Mistake(format!("{about} {field}: {message}")))?;
        self.now_ms += STEP_MS;
        self.apply(objects)
    }

    fn apply(&mut self, objects: Vec<Object>) -> Result<(), StandError> {
        let changes = self.store.replace(objects);
        self.controller.apply(changes, self.now_ms);
        let node = self.controller.node().clone();
        self.registry.set_node(node);
        self.planners.set_now(self.now_ms);
        let update = self.controller.rebuild(&mut self.planners, self.now_ms);
        let errors: Vec<String> = update.diagnostics.iter().filter(|d| d.is_error()).map(|d| d.message.clone()).collect();
        if let Some((_, fault)) = update.faults.first() {
            return Err(StandError::Refused(if errors.is_empty() { format!("it could not plan: {fault}") } else { errors.join("; ") }));
        }
        if !errors.is_empty() {
            return Err(StandError::Mistake(errors.join("; ")));
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
    pub fn load(&mut self, key: &str, active: u32) -> Result<(), StandError> {
        let port = self.port();
        let endpoint = port.iter().flat_map(|port| port.endpoints.iter()).find(|endpoint| *self.shown(&endpoint.key) == *key);
        let endpoint = endpoint.ok_or_else(|| StandError::Mistake(format!("active: there is no endpoint {key}")))?;
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
        Arc::clone(self.addresses.names.get(&**key).unwrap_or(key))
    }
}

/// The addresses that stand for keys which are none; and the way back. A name keeps its address.
#[derive(Default)]
pub(super) struct Addresses {
    of: HashMap<String, SocketAddr>,
    names: HashMap<String, Arc<str>>,
}

impl Addresses {
    /// `127.0.0.1:90` is itself; `a:80` gets an address of its own.
    ///
    /// # Errors
    /// The key is neither, and what it should be.
    pub(super) fn of(&mut self, key: &str) -> Result<SocketAddr, String> {
        if let Ok(address) = key.parse::<SocketAddr>() {
            return match address.ip() {
                IpAddr::V6(_) => Err("a test's endpoints have IPv4 addresses, or names".to_owned()),
                IpAddr::V4(ip) if ip.to_bits() >= FIRST_ADDRESS && ip.to_bits() < FIRST_ADDRESS + MAX_NAMES => {
                    Err("addresses from 198.18.0.0/15 stand for endpoints with names; take another".to_owned())
                }
                _ if address.port() == 0 => Err("0 is no port".to_owned()),
                _ if address.to_string() != key => Err(format!("write {address}")),
                _ => Ok(address),
            };
        }
        if let Some(address) = self.of.get(key) {
            return Ok(*address);
        }
        let port = key.rsplit_once(':').filter(|(name, _)| !name.is_empty() && !name.contains(':'));
        let port = port.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port > 0);
        let port = port.ok_or_else(|| "write a name or an IPv4 address, and a port: a:80, say".to_owned())?;
        let number = u32::try_from(self.of.len()).ok().filter(|number| *number < MAX_NAMES);
        let number = number.ok_or_else(|| format!("at most {MAX_NAMES} endpoints have names; give the others addresses"))?;
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(FIRST_ADDRESS + number)), port);
        self.of.insert(key.to_owned(), address);
        self.names.insert(address.to_string(), key.into());
        Ok(address)
    }
}

/// Something that cannot be an object.
pub(super) struct Wrong {
    /// The key of an endpoint; the Service has none.
    pub(super) about: String,
    /// In the object.
    pub(super) field: String,
    /// What is wrong.
    pub(super) message: String,
}

/// The Service, its pods, and the nodes that are in a zone.
///
/// # Errors
/// The first that cannot be an object.
pub(super) fn objects(service: &ServiceText, endpoints: &[Endpoint], addresses: &mut Addresses) -> Result<Vec<Object>, Wrong> {
    let mut objects = vec![service_object(service)];
    let mut zones = BTreeMap::new();
    let mut pods = HashMap::new();
    for endpoint in endpoints {
        let of = |message| Wrong { about: endpoint.key.clone(), field: String::new(), message };
        let address = addresses.of(&endpoint.key).map_err(of)?;
        let name = pod_name(address);
        objects.push(pod(endpoint, &name, address));
        pods.insert(format!("Pod default/{name}"), &endpoint.key);
        if let (Some(node), Some(zone)) = (&endpoint.node, &endpoint.zone) {
            zones.insert(node, zone);
        }
    }
    objects.extend(zones.into_iter().map(|(node, zone)| node_object(node, zone)));
    let text: String = objects.iter().map(|object| format!("{object}\n")).collect();
    let parsed = objects::parse(Path::new("test"), &text);
    let Some(wrong) = parsed.diagnostics.into_iter().find(|diagnostic| diagnostic.is_error()) else { return Ok(parsed.objects) };
    let about = wrong.object.and_then(|object| pods.get(&object).map(ToString::to_string)).unwrap_or_default();
    Err(Wrong { about, field: wrong.field.unwrap_or_default(), message: wrong.message })
}

fn service_object(service: &ServiceText) -> Value {
    let ServiceText { annotations, labels, spec } = service;
    let mut whole = json!({"type": "ClusterIP", "clusterIP": "10.96.0.10", "selector": {"app": SERVICE}, "ports": [{"port": 80, "targetPort": "serving"}]});
    if let Value::Object(fields) = &mut whole {
        fields.extend(spec.clone());
    }
    json!({
        "apiVersion": "v1", "kind": "Service", "spec": whole,
        "metadata": {"name": SERVICE, "namespace": "default", "annotations": annotations, "labels": labels},
    })
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
/// 198.18.0.1 and what follows: nobody's, for tests (RFC 2544).
const FIRST_ADDRESS: u32 = 0xc612_0001;
/// As far as 198.18.0.0/15 goes.
const MAX_NAMES: u32 = (1 << 17) - 2;
/// Between two changes.
const STEP_MS: u64 = 100;

/// Of the address: two keys can be alike but for what a name may hold.
fn pod_name(address: SocketAddr) -> String {
    format!("p-{}", address.to_string().replace(['.', ':'], "-"))
}

fn pod(endpoint: &Endpoint, name: &str, address: SocketAddr) -> Value {
    let mut labels: Map<String, Value> = [("app".to_owned(), json!(SERVICE))].into_iter().collect();
    labels.extend(endpoint.labels.iter().map(|(key, value)| (key.clone(), json!(value))));
    let serves = if endpoint.terminating { endpoint.serving } else { endpoint.ready };
    let ready = if serves { "True" } else { "False" };
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
