//! A component as the workbench meets it: read, compiled under the limits of production, and tried without them being softened.

use std::sync::Arc;

use anyhow::{Context, bail};
use pointsman_guests::BUILT_IN;
use pointsman_sdk::native;
use pointsman_sdk::types::{Connection, Endpoint, Label, Locality, Outcome, ServicePort, Setting, Slot, Verdict};

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
        Ok(Component(self.balancer_trial(settings, workers, seed)?))
    }

    /// The same, with what only a component has: fuel of plans.
    ///
    /// # Errors
    /// As for `balancer`.
    pub(super) fn balancer_trial(&self, settings: &[Setting], workers: usize, seed: u64) -> anyhow::Result<Trial> {
        if self.stage() != StageKind::Balancer {
            let name = &self.policy.version().name;
            bail!("{name} is a {}, and this needs a balancer", self.stage().name());
        }
        Trial::new(Arc::clone(&self.policy), port(settings), workers, seed)
            .with_context(|| format!("{} cannot start", self.policy.version().name))
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
    /// The traffic policy, with fresh instances, for a Service whose policies are this.
    ///
    /// # Errors
    /// The fault of its start.
    pub fn traffic_policy(&self, settings: &[Setting], policy: Locality) -> Result<TrafficPolicyTrial, Fault> {
        let port = ServicePort { internal_traffic_policy: policy, external_traffic_policy: policy, ..port(settings) };
        TrafficPolicyTrial::new(Arc::clone(&self.policy), port)
    }

    /// The selector, with fresh instances.
    ///
    /// # Errors
    /// The fault of its start.
    pub fn selector(&self, settings: &[Setting]) -> Result<SelectorTrial, Fault> {
        SelectorTrial::new(Arc::clone(&self.policy), port(settings))
    }
}

/// A Service port with the selector `app: web`, and these settings.
fn port(settings: &[Setting]) -> ServicePort {
    let app = Label { key: "app".to_owned(), value: "web".to_owned() };
    ServicePort { settings: settings.to_vec(), selector: Some(vec![app]), ..native::port(0) }
}

impl TrafficPolicy for TrafficPolicyTrial {
    fn plan(&mut self, endpoints: &[Endpoint]) -> Result<Vec<Vec<Slot>>, Fault> {
        Ok(Self::plan(self, endpoints)?.subsets.into_iter().map(|subset| subset.members).collect())
    }

    fn choose(&mut self, connection: &Connection) -> Result<Verdict, Fault> {
        Self::choose(self, connection)
    }
}

impl Selector for SelectorTrial {
    fn plan(&mut self) -> Result<Vec<String>, Fault> {
        Self::plan(self)
    }

    fn classify(&mut self, labels: &[Label]) -> Result<Option<u32>, Fault> {
        Self::classify(self, labels)
    }

    fn choose(&mut self, connection: &Connection) -> Result<Option<u32>, Fault> {
        Self::choose(self, connection)
    }
}

/// A balancer's component on trial.
pub struct Component(Trial);

impl Subject for Component {
    fn name(&self) -> &str {
        &self.0.policy().version().name
    }

    fn workers(&self) -> usize {
        self.0.workers()
    }

    fn set_endpoints(&mut self, endpoints: &[Endpoint], _now_ms: u64) -> Result<(), String> {
        self.0.set_endpoints(endpoints).map_err(|fault| fault.to_string())
    }

    fn pick(&mut self, worker: usize, connection: &Connection) -> Answer {
        match self.0.pick(worker, connection) {
            Ok(Some(slot)) => Answer::Slot(slot),
            Ok(None) => Answer::NoOpinion,
            Err(fault) => Answer::Fault(class(&fault)),
        }
    }

    fn last_fuel(&self) -> u64 {
        self.0.cost().spent.decision
    }

    fn update_fuel(&self) -> (u64, u64) {
        let spent = self.0.cost().spent;
        (spent.plan, spent.adopt)
    }

    fn memory_peak(&self) -> u64 {
        self.0.cost().memory_peak
    }

    fn set_active(&mut self, worker: usize, slot: Slot, active: u32) {
        self.0.set_active(worker, slot, active);
    }

    fn report(&mut self, worker: usize, now_ms: u64, outcomes: &[Outcome]) -> Result<(), FaultClass> {
        self.0.report(worker, now_ms, outcomes).map_err(|fault| class(&fault))
    }
}

/// The class of a fault.
pub(super) fn class(fault: &Fault) -> FaultClass {
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
