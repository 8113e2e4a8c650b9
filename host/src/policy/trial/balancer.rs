//! A balancer on trial: workers whose loads the caller sets.

use std::sync::Arc;

use super::{Cost, Spent};
use crate::policy::contract::{Connection, Endpoint, Fault, Outcome, Place, ServicePort, Slot};
use crate::policy::instance::Instance;
use crate::policy::loaded::LoadedPolicy;
use crate::table::{self, CandidateSet, Fallback, Load, Port, PortOptions, Stage, Subset, Table};

/// One candidate set (0) of one Service port, and whoever decides it.
pub struct Trial {
    policy: Arc<LoadedPolicy>,
    port: ServicePort,
    seed: u64,
    planner: Option<Instance>,
    workers: Vec<Seat>,
    plan: Arc<[u8]>,
    /// By slot.
    weights: Vec<u32>,
    spent: Spent,
}

/// One worker: an instance, and the loads that it reads.
struct Seat {
    instance: Option<Instance>,
    table: Arc<Table>,
    loads: Vec<Arc<Load>>,
    memory_peak: u64,
}

impl Trial {
    /// Without endpoints yet. Worker n is configured with a seed that follows from `seed` and n.
    ///
    /// # Errors
    /// The fault of an instance, or that it refuses its settings.
    pub fn new(policy: Arc<LoadedPolicy>, port: ServicePort, workers: usize, seed: u64) -> Result<Self, Fault> {
        let planner = Some(policy.instantiate(Place::Planner)?);
        let empty = || Seat { instance: None, table: Arc::default(), loads: Vec::new(), memory_peak: 0 };
        let mut trial = Self {
            policy,
            port,
            seed,
            planner,
            workers: (0..workers).map(|_| empty()).collect(),
            plan: Arc::from([]),
            weights: Vec::new(),
            spent: Spent::default(),
        };
        (0..workers).try_for_each(|worker| trial.instance(worker).map(drop))?;
        Ok(trial)
    }

    /// The candidate set is these from now on; the slot of each is its place. Every worker adopts the plan. Loads stay with their keys.
    ///
    /// # Errors
    /// The planner's fault or refusal: then nothing changed. Or the first worker's that could not adopt.
    pub fn set_endpoints(&mut self, endpoints: &[Endpoint]) -> Result<(), Fault> {
        let endpoints: Vec<Endpoint> = (0..).zip(endpoints).map(|(slot, endpoint)| Endpoint { slot, ..endpoint.clone() }).collect();
        let mut planner = match self.planner.take() {
            Some(planner) => planner,
            None => self.policy.instantiate(Place::Planner)?,
        };
        let plan = planner.plan_balancer(&self.port, &endpoints);
        self.spent.plan = planner.last_fuel();
        self.planner = Some(planner).filter(|planner| !planner.is_dead());
        self.plan = plan?.into();
        self.weights = endpoints.iter().map(|endpoint| endpoint.weight).collect();
        for seat in &mut self.workers {
            seat.meet(&self.port, &endpoints);
        }
        (0..self.workers.len()).try_for_each(|worker| self.adopt(worker))
    }

    fn adopt(&mut self, worker: usize) -> Result<(), Fault> {
        let Seat { instance, table, .. } = &mut self.workers[worker];
        let instance = match instance {
            Some(instance) if !instance.is_dead() => instance,
            // A new one adopts by itself.
            _ => return self.instance(worker).map(drop),
        };
        instance.set_table(table);
        let adopted = instance.adopt_set(self.port.id, 0, &self.plan);
        self.spent.adopt = instance.last_fuel();
        adopted
    }

    /// The worker's instance; a new one that has its plan, if the last one faulted.
    fn instance(&mut self, worker: usize) -> Result<&mut Instance, Fault> {
        let seat = &mut self.workers[worker];
        if seat.instance.as_ref().is_some_and(Instance::is_dead) {
            seat.retire();
        }
        match &mut seat.instance {
            Some(instance) => Ok(instance),
            none => {
                let seed = self.seed ^ (worker as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let mut instance = self.policy.instantiate(Place::Worker(seed))?;
                instance.set_table(&seat.table);
                if !self.weights.is_empty() {
                    instance.adopt_set(self.port.id, 0, &self.plan)?;
                    self.spent.adopt = instance.last_fuel();
                }
                Ok(none.insert(instance))
            }
        }
    }

    /// Where a connection goes: a slot that may be picked, or no opinion.
    ///
    /// # Errors
    /// The worker's fault; `OutOfRange` for a slot that is not in the set, or whose weight is 0.
    pub fn pick(&mut self, worker: usize, connection: &Connection) -> Result<Option<Slot>, Fault> {
        let instance = self.instance(worker)?;
        let answer = instance.pick(connection, 0);
        self.spent.decision = instance.last_fuel();
        match answer? {
            Some(slot) if self.weights.get(slot as usize).is_none_or(|weight| *weight == 0) => {
                Err(Fault::OutOfRange(format!("slot {slot} of {}", self.weights.len())))
            }
            answer => Ok(answer),
        }
    }

    /// What this worker reads as the slot's active connections from now on.
    pub fn set_active(&mut self, worker: usize, slot: Slot, active: u32) {
        if let Some(load) = self.workers[worker].loads.get(slot as usize) {
            load.set(active);
        }
    }

    /// Tells a worker what became of its picks, if the policy learns.
    ///
    /// # Errors
    /// The worker's fault.
    pub fn report(&mut self, worker: usize, now_ms: u64, outcomes: &[Outcome]) -> Result<(), Fault> {
        self.instance(worker)?.report(now_ms, outcomes)
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// What it took.
    pub fn cost(&self) -> Cost {
        let memory_peak = self.workers.iter().map(Seat::memory_peak).max().unwrap_or_default();
        Cost { spent: self.spent, plan_bytes: self.plan.len() as u64, memory_peak }
    }

    /// The policy.
    pub fn policy(&self) -> &Arc<LoadedPolicy> {
        &self.policy
    }
}

impl Seat {
    /// A table for `load.active`, with the loads that were set.
    fn meet(&mut self, record: &ServicePort, endpoints: &[Endpoint]) {
        let before = self.table.port(record.id).cloned();
        let before: std::collections::HashMap<&str, &Arc<Load>> =
            before.iter().flat_map(|port| port.endpoints.iter()).map(|endpoint| (&*endpoint.key, &endpoint.load)).collect();
        self.loads = endpoints.iter().map(|endpoint| before.get(&*endpoint.key).map(|load| Arc::clone(load)).unwrap_or_default()).collect();
        self.table = Arc::new(table(record, endpoints, &self.loads));
    }

    fn memory_peak(&self) -> u64 {
        self.memory_peak.max(self.instance.as_ref().map_or(0, Instance::memory_peak))
    }

    fn retire(&mut self) {
        self.memory_peak = self.memory_peak();
        self.instance = None;
    }
}

/// A table whose only Service port has these endpoints in one candidate set.
fn table(record: &ServicePort, endpoints: &[Endpoint], loads: &[Arc<Load>]) -> Table {
    let members: Vec<Slot> = (0..endpoints.len() as u32).collect();
    let nobody = || Arc::from("none");
    let port = Port {
        id: record.id,
        generation: 1,
        record: Arc::new(record.clone()),
        options: PortOptions::default(),
        endpoints: endpoints.iter().zip(loads).map(|(endpoint, load)| row(endpoint, load)).collect(),
        masked: Arc::from([]),
        groups: Arc::from([]),
        subsets: Arc::from([Subset { name: "all".to_owned(), members: members.clone() }]),
        sets: Arc::from([CandidateSet { group: None, subset: 0, members: members.into() }]),
        selector: Stage { name: nobody(), current: None, stand_in: None },
        traffic_policy: Stage { name: nobody(), current: None, stand_in: None },
        balancer: Stage { name: nobody(), current: None, stand_in: None },
        shadow: None,
        fallback: Fallback::default(),
    };
    let mut table = Table::default();
    for _ in 0..record.id {
        table.ports.push_back(None);
    }
    table.ports.push_back(Some(Arc::new(port)));
    table
}

fn row(of: &Endpoint, load: &Arc<Load>) -> table::Endpoint {
    table::Endpoint {
        // Nobody connects to it.
        address: of.key.parse().unwrap_or_else(|_| std::net::SocketAddr::from(([0, 0, 0, 0], 0))),
        key: of.key.as_str().into(),
        hash: of.hash,
        conditions: of.conditions,
        weight: of.weight,
        local: of.local,
        node: of.node.as_deref().map(Arc::from),
        zone: of.zone.as_deref().map(Arc::from),
        node_hints: of.node_hints.clone(),
        zone_hints: of.zone_hints.clone(),
        labels: Arc::new(of.labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect()),
        group: of.group,
        ready_since_ms: of.ready_since_ms,
        load: Arc::clone(load),
    }
}
