//! A component as the workbench meets it: read, compiled under the limits of production, and tried without them being softened.

use std::sync::Arc;

use anyhow::{Context, bail};
use pointsman_guests::BUILT_IN;
use pointsman_sdk::native;
use pointsman_sdk::types::{Connection, Endpoint, Label, Outcome, ServicePort, Setting, Slot, Verdict};

use super::laws::{Selector, TrafficPolicy};
use super::report;
use super::subject::{Answer, FaultClass, Subject};
use crate::policy::contract::{Fault, Node, StageKind};
use crate::policy::registry::apart;
use crate::policy::trial::{SelectorTrial, TrafficPolicyTrial, Trial};
use crate::policy::{Grants, LoadedPolicy, Runtime, Sandbox};

/// A policy that was loaded to be tried.
#[derive(Clone)]
pub struct Candidate {
    policy: Arc<LoadedPolicy>,
}

impl Candidate {
    /// A component under this name, on the node `node-1` of `zone-1`. `runtime`: whether it may bring a language runtime along.
    ///
    /// # Errors
    /// Why an engine would refuse it.
    pub fn load(sandbox: &Arc<Sandbox>, name: &str, bytes: &[u8], runtime: Runtime) -> anyhow::Result<Self> {
        let trusted = BUILT_IN.iter().any(|built_in| built_in.bytes == bytes);
        let policy = apart(sandbox, name, bytes, node(), Grants { runtime, ..Grants::default() }, trusted)
            .with_context(|| format!("{name} would be refused"))?;
        Ok(Self { policy: Arc::new(policy) })
    }

    /// As reports name it.
    pub fn subject(&self) -> report::Subject {
        let version = self.policy.version();
        report::Subject { name: version.name.to_string(), digest: Some(version.digest.to_string()) }
    }

    /// The stage that it fills.
    pub fn stage(&self) -> StageKind {
        self.policy.stage()
    }

    /// Whether it is told what became of its picks.
    pub fn learns(&self) -> bool {
        self.policy.learns()
    }

    /// The loaded policy.
    pub fn policy(&self) -> &Arc<LoadedPolicy> {
        &self.policy
    }

    /// The balancer, with fresh instances. `settings` are those of the Service.
    ///
    /// # Errors
    /// It fills another stage; or the fault of its start.
    pub fn balancer(&self, settings: &[Setting], workers: usize, seed: u64) -> anyhow::Result<Component> {
        if self.stage() != StageKind::Balancer {
            let name = &self.policy.version().name;
            bail!("{name} is a {}, and this needs a balancer", self.stage().name());
        }
        Ok(Component { trial: Trial::new(Arc::clone(&self.policy), port(settings), workers, seed)?, faults: Vec::new() })
    }
}

/// Where policies on trial stand.
fn node() -> Node {
    Node { name: NODE.to_owned(), zone: Some(ZONE.to_owned()), ..Node::default() }
}

/// The node's name.
pub const NODE: &str = "node-1";
/// The node's zone.
pub const ZONE: &str = "zone-1";

impl Candidate {
    /// The traffic policy, with fresh instances.
    ///
    /// # Errors
    /// The fault of its start.
    pub fn traffic_policy(&self, settings: &[Setting]) -> Result<Box<dyn TrafficPolicy>, String> {
        let trial = TrafficPolicyTrial::new(Arc::clone(&self.policy), port(settings)).map_err(|fault| fault.to_string())?;
        Ok(Box::new(trial))
    }

    /// The selector, with fresh instances.
    ///
    /// # Errors
    /// The fault of its start.
    pub fn selector(&self, settings: &[Setting]) -> Result<Box<dyn Selector>, String> {
        let trial = SelectorTrial::new(Arc::clone(&self.policy), port(settings)).map_err(|fault| fault.to_string())?;
        Ok(Box::new(trial))
    }
}

/// A Service port with the selector `app: web`, and these settings.
fn port(settings: &[Setting]) -> ServicePort {
    let app = Label { key: "app".to_owned(), value: "web".to_owned() };
    ServicePort { settings: settings.to_vec(), selector: Some(vec![app]), ..native::port(0) }
}

impl TrafficPolicy for TrafficPolicyTrial {
    fn plan(&mut self, endpoints: &[Endpoint]) -> Result<Vec<Vec<Slot>>, String> {
        let partition = Self::plan(self, endpoints).map_err(|fault| fault.to_string())?;
        Ok(partition.subsets.into_iter().map(|subset| subset.members).collect())
    }

    fn choose(&mut self, connection: &Connection) -> Result<Verdict, String> {
        Self::choose(self, connection).map_err(|fault| fault.to_string())
    }
}

impl Selector for SelectorTrial {
    fn plan(&mut self) -> Result<usize, String> {
        Self::plan(self).map(|groups| groups.len()).map_err(|fault| fault.to_string())
    }

    fn classify(&mut self, labels: &[Label]) -> Result<Option<u32>, String> {
        Self::classify(self, labels).map_err(|fault| fault.to_string())
    }

    fn choose(&mut self, connection: &Connection) -> Result<Option<u32>, String> {
        Self::choose(self, connection).map_err(|fault| fault.to_string())
    }
}

/// A balancer's component on trial.
pub struct Component {
    trial: Trial,
    faults: Vec<String>,
}

impl Component {
    /// Faults in words, since they were asked for last; the first few.
    pub fn take_faults(&mut self) -> Vec<String> {
        std::mem::take(&mut self.faults)
    }

    /// The trial, for what only a component has: fuel of plans, memory.
    pub fn trial(&self) -> &Trial {
        &self.trial
    }

    fn note(&mut self, fault: &Fault) -> Answer {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault.to_string());
        }
        Answer::Fault(class(fault))
    }
}

/// More would say the same again.
const MAX_FAULTS: usize = 5;

impl Subject for Component {
    fn name(&self) -> &str {
        &self.trial.policy().version().name
    }

    fn workers(&self) -> usize {
        self.trial.workers()
    }

    fn set_endpoints(&mut self, endpoints: &[Endpoint], _now_ms: u64) -> Result<(), String> {
        self.trial.set_endpoints(endpoints).map_err(|fault| fault.to_string())
    }

    fn pick(&mut self, worker: usize, connection: &Connection) -> Answer {
        match self.trial.pick(worker, connection) {
            Ok(Some(slot)) => Answer::Slot(slot),
            Ok(None) => Answer::NoOpinion,
            Err(fault) => self.note(&fault),
        }
    }

    fn last_fuel(&self) -> u64 {
        self.trial.spent().pick
    }

    fn memory_peak(&self) -> u64 {
        self.trial.memory_peak()
    }

    fn set_active(&mut self, worker: usize, slot: Slot, active: u32) {
        self.trial.set_active(worker, slot, active);
    }

    fn report(&mut self, worker: usize, now_ms: u64, outcomes: &[Outcome]) {
        if let Err(fault) = self.trial.report(worker, now_ms, outcomes) {
            self.note(&fault);
        }
    }
}

fn class(fault: &Fault) -> FaultClass {
    match fault {
        Fault::Trap(_) => FaultClass::Trap,
        Fault::Deadline => FaultClass::Deadline,
        Fault::OutOfFuel => FaultClass::OutOfFuel,
        Fault::HostLimit(_) => FaultClass::HostLimit,
        Fault::OutOfRange(_) => FaultClass::OutOfRange,
        Fault::Refused(_) => FaultClass::Refused,
        Fault::NotAsked(_) | Fault::NoOpinion => FaultClass::NotAsked,
    }
}
