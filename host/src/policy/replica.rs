//! An instance that sees again what one saw that is on a tape: the same place, the same calls, the answers of `load` as they were.

use std::sync::Arc;

use super::contract::{
    Connection, Endpoint, Fault, Grouping, Node, Outcome, Partition, Place, ServiceId, ServicePort, Setting, Slot, Verdict,
};
use super::engine::Sandbox;
use super::instance::Instance;
use super::limits::Grants;
use super::loaded::{Candidate, LoadedPolicy, Surroundings};
use super::refusal::Refusal;
use crate::table::{Table, VersionId};

/// A component for replicas. It has been in force once, so it is not put through the self-test.
///
/// # Errors
/// Why it would be refused.
pub fn load(sandbox: &Arc<Sandbox>, name: &str, bytes: &[u8], id: VersionId, grants: Grants) -> Result<Arc<LoadedPolicy>, Refusal> {
    let surroundings = Arc::new(Surroundings { node: Arc::default(), settings: Vec::new() });
    let candidate = Candidate { name: name.into(), bytes, surroundings, grants };
    LoadedPolicy::load(sandbox, candidate, id).map(Arc::new)
}

/// A worker's instance.
pub struct Replica(Instance);

impl Replica {
    /// A configured instance.
    ///
    /// # Errors
    /// The fault of its start or of `configure`.
    pub fn new(policy: &LoadedPolicy, seed: u64, node: &Node, settings: &[Setting]) -> Result<Self, Fault> {
        policy.instantiate_with(Place::Worker(seed), node, settings).map(Self)
    }

    /// A planner's instance.
    ///
    /// # Errors
    /// As `new`.
    pub fn planner(policy: &LoadedPolicy, node: &Node) -> Result<Self, Fault> {
        policy.instantiate_with(Place::Planner, node, &[]).map(Self)
    }

    /// A selector's plan.
    ///
    /// # Errors
    /// The guest's fault, or its refusal.
    pub fn plan_selector(&mut self, port: &ServicePort) -> Result<Grouping, Fault> {
        self.0.plan_selector(port)
    }

    /// A traffic policy's plan.
    ///
    /// # Errors
    /// As `plan_selector`.
    pub fn plan_traffic_policy(&mut self, port: &ServicePort, endpoints: &[Endpoint]) -> Result<Partition, Fault> {
        self.0.plan_traffic_policy(port, endpoints)
    }

    /// A balancer's plan.
    ///
    /// # Errors
    /// As `plan_selector`.
    pub fn plan_balancer(&mut self, port: &ServicePort, members: &[Endpoint]) -> Result<Vec<u8>, Fault> {
        self.0.plan_balancer(port, members)
    }

    /// The table that `load` reads from now on; what it answers is noted.
    pub fn set_table(&mut self, table: &Arc<Table>) {
        self.0.note_loads(true);
        self.0.set_table(table);
    }

    /// What `load` answered since the last time, of a table.
    pub fn take_loads(&mut self) -> Vec<u32> {
        self.0.take_loads()
    }

    /// What `load` answers in the next call.
    pub fn give_loads(&mut self, answers: Vec<u32>) {
        self.0.give_loads(answers);
    }

    /// Whether the last call asked `load` exactly as often as answers were given.
    pub fn loads_fit(&self) -> bool {
        self.0.loads_fit()
    }

    /// A plan; of a balancer, for this candidate set.
    ///
    /// # Errors
    /// The guest's fault; so for each call that follows.
    pub fn adopt(&mut self, service: ServiceId, set: Option<u32>, plan: &[u8]) -> Result<(), Fault> {
        match set {
            None => self.0.adopt(service, plan),
            Some(set) => self.0.adopt_set(service, set, plan),
        }
    }

    /// A Service port is gone.
    pub fn forget(&mut self, service: ServiceId) -> Result<(), Fault> {
        self.0.forget(service)
    }

    /// What became of picks.
    pub fn report(&mut self, now_ms: u64, outcomes: &[Outcome]) -> Result<(), Fault> {
        self.0.report(now_ms, outcomes)
    }

    /// Stage 1.
    pub fn choose_group(&mut self, connection: &Connection) -> Result<Option<u32>, Fault> {
        self.0.choose_group(connection)
    }

    /// Stage 2.
    pub fn choose_subset(&mut self, connection: &Connection, group: Option<u32>) -> Result<Verdict, Fault> {
        self.0.choose_subset(connection, group)
    }

    /// Stage 3.
    pub fn pick(&mut self, connection: &Connection, set: u32) -> Result<Option<Slot>, Fault> {
        self.0.pick(connection, set)
    }

    /// Fuel that the last call used.
    pub fn last_fuel(&self) -> u64 {
        self.0.last_fuel()
    }
}
