//! A balancer that is tried on recorded connections: a planner, an instance on each worker, and what its picks come to. What is made of its
//! answers is the decision core's doing, as in production.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use super::measures::{Measures, Moved};
use super::world::{Held, Loads, Seen};
use super::{DiffError, Id, Placed};
use crate::policy::LoadedPolicy;
use crate::policy::contract::{Connection, Decider, Fault, Slot, Verdict};
use crate::policy::replica::Replica;
use crate::policy::tape::records::{EndpointRecord, SetRecord};
use crate::route::{self, By, Decision, Fate, Reason};
use crate::table::{CandidateSet, Conditions, Endpoint, Fallback, Planned, Port, PortOptions, ServiceId, Stage, Subset, Table, VersionId};
use crate::workbench::report::Subject;

pub(super) struct Side {
    policy: Arc<LoadedPolicy>,
    planner: Option<Replica>,
    workers: BTreeMap<u16, Placement>,
    /// By number and Service port, as long as a worker goes by it.
    ports: HashMap<(u32, ServiceId), Weak<Port>>,
    loads: Loads,
    /// Where open connections went; those of a closed loop count for their endpoint.
    open: BTreeMap<Id, (Arc<str>, Option<Held>)>,
    /// The endpoint of each client's last connection, for session affinity.
    pins: HashMap<(ServiceId, u64, u64), Arc<str>>,
    measures: Measures,
    moved: Moved,
    reads_load: bool,
    faults: BTreeMap<&'static str, u64>,
}

/// The candidate on one worker.
struct Placement {
    replica: Option<Replica>,
    table: Arc<Table>,
    fuel: Vec<u64>,
    faults: Vec<&'static str>,
}

/// Only the balancer is asked: what the other stages said is in the recording.
impl Decider for Placement {
    fn choose_group(&mut self, _: VersionId, _: &Connection) -> Result<Option<u32>, Fault> {
        Err(Fault::NotAsked("recorded"))
    }

    fn choose_subset(&mut self, _: VersionId, _: &Connection, _: Option<u32>) -> Result<Verdict, Fault> {
        Err(Fault::NotAsked("recorded"))
    }

    fn pick(&mut self, _: VersionId, connection: &Connection, set: u32) -> Result<Option<Slot>, Fault> {
        let Some(replica) = &mut self.replica else { return Err(Fault::NotAsked("it faulted before")) };
        let answer = replica.pick(connection, set);
        self.fuel.push(replica.last_fuel());
        match &answer {
            Ok(Some(_)) => {}
            Ok(None) => self.faults.push(Fault::NoOpinion.class()),
            Err(fault) => self.faults.push(fault.class()),
        }
        answer
    }

    fn blame(&mut self, _: VersionId, fault: &Fault) {
        self.faults.push(fault.class());
    }
}

impl Side {
    pub(super) fn new(policy: Arc<LoadedPolicy>, loads: Loads) -> Self {
        Self {
            policy,
            planner: None,
            workers: BTreeMap::new(),
            ports: HashMap::new(),
            loads,
            open: BTreeMap::new(),
            pins: HashMap::new(),
            measures: Measures::default(),
            moved: Moved::default(),
            reads_load: false,
            faults: BTreeMap::new(),
        }
    }

    pub(super) fn subject(&self) -> Subject {
        let version = self.policy.version();
        Subject { name: version.name.to_string(), digest: Some(version.digest.to_string()) }
    }

    pub(super) fn measures(&self) -> &Measures {
        &self.measures
    }

    pub(super) fn moved(&self) -> &Moved {
        &self.moved
    }

    pub(super) fn reads_load(&self) -> bool {
        self.reads_load
    }

    /// What went wrong, a line a kind. Having no opinion is not wrong.
    pub(super) fn faults(&self) -> Vec<String> {
        let wrong = self.faults.iter().filter(|(class, _)| **class != Fault::NoOpinion.class());
        wrong.map(|(class, count)| format!("{}: {class} {count} times", self.policy.version().name)).collect()
    }

    /// A worker goes by this port from now on.
    pub(super) fn service(
        &mut self,
        worker: u16,
        placed: Placed<'_>,
        service: ServiceId,
        number: Option<u32>,
        seen: Option<&Seen>,
    ) -> Result<(), DiffError> {
        let port = match (number, seen) {
            (Some(number), Some(seen)) => Some(self.port(placed, service, number, seen)?),
            _ => None,
        };
        let placement = match self.workers.entry(worker) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let replica = Replica::new(&self.policy, placed.1, placed.0, &[]);
                let replica = replica.map_err(|fault| cannot(&self.policy, "anything", fault))?;
                entry.insert(Placement { replica: Some(replica), table: Arc::default(), fuel: Vec::new(), faults: Vec::new() })
            }
        };
        let table = Arc::make_mut(&mut placement.table);
        table.generation += 1;
        while table.ports.len() <= service as usize {
            table.ports.push_back(None);
        }
        let before = std::mem::replace(&mut table.ports[service as usize], port.clone());
        let Some(replica) = &mut placement.replica else { return Ok(()) };
        replica.set_table(&placement.table);
        let result = match &port {
            None => replica.forget(service),
            // Endpoints that are masked leave the plans as they are, and nothing is adopted.
            Some(port) if before.as_ref().is_some_and(|before| before.masked != port.masked && plans_of(before) == plans_of(port)) => {
                Ok(())
            }
            Some(port) => {
                let mut plans = plans_of(port).into_iter().flat_map(|plans| plans.iter().enumerate());
                plans.try_for_each(|(set, plan)| replica.adopt(service, Some(set as u32), plan))
            }
        };
        if let Err(fault) = result {
            *self.faults.entry(fault.class()).or_default() += 1;
            placement.replica = None;
        }
        Ok(())
    }

    /// Asks about a new connection.
    pub(super) fn pick(&mut self, id: Id, connection: &Connection, set: u32) {
        self.ask(id, connection, set, &[]);
    }

    /// The recorded endpoint could not be reached. Whoever had picked it, too, is asked again.
    pub(super) fn retry(&mut self, id: Id, connection: &Connection, set: Option<u32>, failed: &Arc<str>) {
        let same = self.open.get(&id).is_some_and(|(key, _)| key == failed);
        let Some(set) = set.filter(|_| same) else { return };
        self.open.remove(&id);
        let port = self.port_of(id.0, connection.service);
        let tried: Vec<Slot> = port.iter().flat_map(|port| slots_of(port, failed)).collect();
        self.ask(id, connection, set, &tried);
    }

    /// Session affinity decided: this side's own, as far as there is one.
    pub(super) fn follow(&mut self, id: Id, connection: &Connection, recorded: &Arc<str>) {
        let port = self.port_of(id.0, connection.service);
        let own = self.pins.get(&client(connection)).filter(|key| port.iter().any(|port| !slots_of(port, key).is_empty()));
        let key = Arc::clone(own.unwrap_or(recorded));
        self.open.insert(id, (key, None));
    }

    /// The connection is open, and counts.
    pub(super) fn enter(&mut self, id: Id) {
        if let Some((key, held)) = self.open.get_mut(&id) {
            *held = Some(self.loads.enter(key));
        }
    }

    pub(super) fn ended(&mut self, id: Id) {
        self.open.remove(&id);
    }

    /// Where a connection went.
    pub(super) fn endpoint(&self, id: Id) -> Option<Arc<str>> {
        self.open.get(&id).map(|(key, _)| Arc::clone(key))
    }

    pub(super) fn measure(&mut self, id: Id, connection: &Connection, seen: &Seen, among: (u32, &[Slot])) {
        if let Some((key, _)) = self.open.get(&id) {
            let key = Arc::clone(key);
            self.measures.picked(connection, seen, among, &key);
        }
    }

    pub(super) fn in_flight(&mut self, members: &[(Arc<str>, u32)], now_ms: u64) {
        self.measures.in_flight(members, &self.loads, now_ms);
    }

    pub(super) fn differs(&mut self, connection: &Connection, differs: bool) {
        self.moved.add(connection, differs);
    }

    fn ask(&mut self, id: Id, connection: &Connection, set: u32, tried: &[Slot]) {
        let Some(port) = self.port_of(id.0, connection.service) else { return };
        let Some(placement) = self.workers.get_mut(&id.0) else { return };
        let mut decision = Decision {
            group: None,
            selector: By::NotAsked("recorded"),
            verdict: Verdict::Forward(0),
            traffic_policy: By::NotAsked("recorded"),
            set: Some(set),
            balancer: By::NotAsked(""),
            fate: Fate::Reject(Reason::NoCandidates),
            shadow: None,
        };
        route::retry(&port, placement, connection, &mut decision, tried);
        self.measures.fuel.append(&mut placement.fuel);
        for class in placement.faults.drain(..) {
            *self.faults.entry(class).or_default() += 1;
        }
        if let Some(replica) = &mut placement.replica {
            self.reads_load |= !replica.take_loads().is_empty();
        }
        if let Fate::Forward(slot) = decision.fate
            && let Some(endpoint) = port.endpoints.get(slot as usize)
        {
            self.open.insert(id, (Arc::clone(&endpoint.key), None));
            self.pins.insert(client(connection), Arc::clone(&endpoint.key));
        }
    }

    fn port_of(&self, worker: u16, service: ServiceId) -> Option<Arc<Port>> {
        self.workers.get(&worker)?.table.port(service).cloned()
    }

    /// The port with this side's plans and loads.
    fn port(&mut self, (node, _): Placed<'_>, service: ServiceId, number: u32, seen: &Seen) -> Result<Arc<Port>, DiffError> {
        if let Some(port) = self.ports.get(&(number, service)).and_then(Weak::upgrade) {
            return Ok(port);
        }
        let record = seen.record.port(service);
        let name = format!("{}/{}:{}", record.namespace, record.name, record.port);
        let mut planner = match self.planner.take() {
            Some(planner) => planner,
            None => Replica::planner(&self.policy, node).map_err(|fault| cannot(&self.policy, &name, fault))?,
        };
        let mut plans: Vec<Arc<[u8]>> = Vec::with_capacity(seen.record.sets.len());
        for set in &seen.record.sets {
            let member = |slot: &u32| Some(seen.endpoints.get(*slot as usize)?.endpoint(*slot));
            let members: Vec<_> = set.members.iter().filter_map(member).collect();
            let plan = planner.plan_balancer(&record, &members).map_err(|fault| cannot(&self.policy, &name, fault))?;
            plans.push(plan.into());
        }
        self.planner = Some(planner);
        let set = |set: &SetRecord| CandidateSet { group: set.group, subset: set.subset, members: set.members.clone().into() };
        let subset = |name: &String| Subset { name: name.clone(), members: Vec::new() };
        let version = Arc::clone(self.policy.version());
        let port = Arc::new(Port {
            id: service,
            generation: 0,
            record: Arc::new(record),
            options: PortOptions::default(),
            shadow: None,
            endpoints: seen.endpoints.iter().map(|endpoint| self.endpoint_of(endpoint)).collect(),
            masked: seen.record.masked.clone().into(),
            groups: seen.record.groups.clone().into(),
            subsets: seen.record.subsets.iter().map(subset).collect(),
            sets: seen.record.sets.iter().map(set).collect(),
            selector: unfilled(),
            traffic_policy: unfilled(),
            balancer: Stage { name: Arc::clone(&version.name), current: Some(Planned { version, plan: plans.into() }), stand_in: None },
            fallback: Fallback::default(),
        });
        self.ports.insert((number, service), Arc::downgrade(&port));
        Ok(port)
    }

    fn endpoint_of(&self, record: &EndpointRecord) -> Endpoint {
        let key: Arc<str> = record.key.as_str().into();
        Endpoint {
            // Nobody connects to it here.
            address: record.key.parse().unwrap_or_else(|_| std::net::SocketAddr::from(([0, 0, 0, 0], 0))),
            load: self.loads.of(&key),
            key,
            hash: record.hash.into(),
            conditions: Conditions { ready: record.ready, serving: record.serving, terminating: record.terminating },
            weight: record.weight,
            local: record.local,
            node: record.node.as_deref().map(Arc::from),
            zone: record.zone.as_deref().map(Arc::from),
            node_hints: record.node_hints.clone(),
            zone_hints: record.zone_hints.clone(),
            labels: Arc::default(),
            group: record.group,
            ready_since_ms: record.ready_since_ms,
        }
    }
}

fn cannot(policy: &LoadedPolicy, port: &str, fault: Fault) -> DiffError {
    DiffError::NoPlan { name: policy.version().name.to_string(), port: port.to_owned(), fault }
}

fn unfilled<P>() -> Stage<P> {
    Stage { name: Arc::from("recorded"), current: None, stand_in: None }
}

fn plans_of(port: &Port) -> Option<&Arc<[Arc<[u8]>]>> {
    port.balancer.current.as_ref().map(|planned| &planned.plan)
}

fn slots_of(port: &Port, key: &str) -> Vec<Slot> {
    (0..).zip(port.endpoints.iter()).filter(|(_, endpoint)| *endpoint.key == *key).map(|(slot, _)| slot).collect()
}

fn client(connection: &Connection) -> (ServiceId, u64, u64) {
    (connection.service, connection.client_hi, connection.client_lo)
}
