//! The first two stages on trial: a planner and one worker.

use std::sync::Arc;

use super::{Cost, Spent};
use crate::policy::contract::{Connection, Endpoint, Fault, Label, Partition, Place, ServicePort, Verdict};
use crate::policy::instance::Instance;
use crate::policy::loaded::LoadedPolicy;
use crate::policy::planners::{check_grouping, check_partition};

/// Both places of a policy, with the last plan.
struct Pair {
    policy: Arc<LoadedPolicy>,
    port: ServicePort,
    planner: Instance,
    worker: Instance,
    plan: Option<Vec<u8>>,
    spent: Spent,
}

impl Pair {
    fn new(policy: Arc<LoadedPolicy>, port: ServicePort) -> Result<Self, Fault> {
        let (planner, worker) = (policy.instantiate(Place::Planner)?, policy.instantiate(Place::Worker(1))?);
        Ok(Self { policy, port, planner, worker, plan: None, spent: Spent::default() })
    }

    /// Plans, and has the worker adopt.
    fn plan<T>(
        &mut self,
        plan: impl FnOnce(&mut Instance, &ServicePort) -> Result<T, Fault>,
        data: impl FnOnce(&T) -> &[u8],
    ) -> Result<T, Fault> {
        if self.planner.is_dead() {
            self.planner = self.policy.instantiate(Place::Planner)?;
        }
        let planned = plan(&mut self.planner, &self.port);
        self.spent.plan = self.planner.last_fuel();
        let planned = planned?;
        self.plan = Some(data(&planned).to_vec());
        self.worker()?;
        if let Some(plan) = &self.plan {
            let adopted = self.worker.adopt(self.port.id, plan);
            self.spent.adopt = self.worker.last_fuel();
            adopted?;
        }
        Ok(planned)
    }

    fn worker(&mut self) -> Result<&mut Instance, Fault> {
        if self.worker.is_dead() {
            self.worker = self.policy.instantiate(Place::Worker(1))?;
            if let Some(plan) = &self.plan {
                self.worker.adopt(self.port.id, plan)?;
            }
        }
        Ok(&mut self.worker)
    }

    fn ask<R>(&mut self, call: impl FnOnce(&mut Instance) -> Result<R, Fault>) -> Result<R, Fault> {
        let worker = self.worker()?;
        let answer = call(worker);
        self.spent.decision = self.worker.last_fuel();
        answer
    }

    fn cost(&self) -> Cost {
        let (plan_bytes, memory_peak) = (self.plan.as_ref().map_or(0, Vec::len) as u64, self.worker.memory_peak());
        Cost { spent: self.spent, plan_bytes, memory_peak }
    }
}

/// A traffic policy on trial.
pub struct TrafficPolicyTrial {
    pair: Pair,
    subsets: u32,
}

impl TrafficPolicyTrial {
    /// For this Service port, on the node that the policy was loaded for.
    ///
    /// # Errors
    /// The fault of an instance.
    pub fn new(policy: Arc<LoadedPolicy>, port: ServicePort) -> Result<Self, Fault> {
        Ok(Self { pair: Pair::new(policy, port)?, subsets: 0 })
    }

    /// The subsets for these endpoints, each with its slots in order, checked as the host checks them.
    ///
    /// # Errors
    /// The fault or refusal; `OutOfRange` for a member that is none.
    pub fn plan(&mut self, endpoints: &[Endpoint]) -> Result<Partition, Fault> {
        let count = endpoints.len();
        let plan = |planner: &mut Instance, port: &ServicePort| {
            planner.plan_traffic_policy(port, endpoints).and_then(|partition| check_partition(partition, count))
        };
        let partition = self.pair.plan(plan, |partition| &partition.data)?;
        self.subsets = partition.subsets.len() as u32;
        Ok(partition)
    }

    /// What becomes of a connection.
    ///
    /// # Errors
    /// The fault; `OutOfRange` for a subset that the plan does not have.
    pub fn choose(&mut self, connection: &Connection) -> Result<Verdict, Fault> {
        match self.pair.ask(|worker| worker.choose_subset(connection, None))? {
            Verdict::Forward(subset) if subset >= self.subsets => Err(Fault::OutOfRange(format!("subset {subset} of {}", self.subsets))),
            verdict => Ok(verdict),
        }
    }

    /// What it took.
    pub fn cost(&self) -> Cost {
        self.pair.cost()
    }
}

/// A selector on trial.
pub struct SelectorTrial {
    pair: Pair,
    groups: u32,
}

impl SelectorTrial {
    /// For this Service port.
    ///
    /// # Errors
    /// The fault of an instance.
    pub fn new(policy: Arc<LoadedPolicy>, port: ServicePort) -> Result<Self, Fault> {
        Ok(Self { pair: Pair::new(policy, port)?, groups: 0 })
    }

    /// The names of the groups.
    ///
    /// # Errors
    /// The fault or refusal.
    pub fn plan(&mut self) -> Result<Vec<String>, Fault> {
        let plan = |planner: &mut Instance, port: &ServicePort| planner.plan_selector(port).and_then(check_grouping);
        let grouping = self.pair.plan(plan, |grouping| &grouping.data)?;
        self.groups = grouping.groups.len() as u32;
        Ok(grouping.groups)
    }

    /// The group of a pod with these labels.
    ///
    /// # Errors
    /// The fault; `OutOfRange` for a group that the plan does not have.
    pub fn classify(&mut self, labels: &[Label]) -> Result<Option<u32>, Fault> {
        let group = self.pair.planner.classify(self.pair.port.id, labels);
        self.pair.spent.classify = self.pair.planner.last_fuel();
        self.checked(group)
    }

    /// The group that may serve a connection.
    ///
    /// # Errors
    /// As for `classify`.
    pub fn choose(&mut self, connection: &Connection) -> Result<Option<u32>, Fault> {
        let group = self.pair.ask(|worker| worker.choose_group(connection));
        self.checked(group)
    }

    fn checked(&self, group: Result<Option<u32>, Fault>) -> Result<Option<u32>, Fault> {
        match group? {
            Some(group) if group >= self.groups => Err(Fault::OutOfRange(format!("group {group} of {}", self.groups))),
            group => Ok(group),
        }
    }

    /// What it took.
    pub fn cost(&self) -> Cost {
        self.pair.cost()
    }
}
