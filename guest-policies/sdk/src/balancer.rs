//! Stage 3: which endpoint. The trait that an author implements, and the instance that keeps its plans.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::dense::Dense;
use crate::load::Load;
use crate::types::{Connection, Description, Endpoint, Node, Outcome, Place, ServiceId, ServicePort, Setting, Slot};

/// A balancer: plans for a candidate set where there is time, and picks from the plan where there is none.
///
/// The same type serves the planner (`plan`) and the workers (`adopt`, `pick`), as separate instances that share nothing but
/// the plans. See the crate's page for an example.
pub trait Balancer: Sized {
    /// What a worker needs to pick. Fields that only the worker uses (a cursor) are `#[serde(skip)]`.
    type Plan: Serialize + DeserializeOwned;

    /// Who this policy is. `package` is what its Cargo.toml says.
    fn describe(package: Description) -> Description {
        package
    }

    /// First call.
    ///
    /// # Errors
    /// A sentence for whoever wrote the settings; the policy is refused.
    fn configure(place: Place, node: &Node, settings: &[Setting]) -> Result<Self, String>;

    /// Planner. Makes the plan for one candidate set.
    ///
    /// # Errors
    /// A sentence for whoever wrote the Service; the set keeps the plan it had, or goes without.
    fn plan(&mut self, port: &ServicePort, members: &[Endpoint]) -> Result<Self::Plan, String>;

    /// Worker. A plan has come, in place of `previous` where the set had one: carry over what should survive a change.
    fn adopt(&mut self, plan: Self::Plan, previous: Option<Self::Plan>) -> Self::Plan {
        drop(previous);
        plan
    }

    /// Worker. An endpoint for a new connection. `None`: no opinion, the host picks.
    fn pick(&mut self, plan: &mut Self::Plan, connection: &Connection, load: &impl Load) -> Option<Slot>;

    /// Both. A Service port is gone; its plans are dropped already.
    fn forget(&mut self, _service: ServiceId) {}
}

/// A balancer that learns from what became of its picks. Exported by `export_learning_balancer!`.
pub trait LearningBalancer: Balancer {
    /// Worker. A batch of outcomes, in the order in which they happened.
    fn report(&mut self, now_ms: u64, outcomes: &[Outcome]);
}

/// A balancer with its plans, spoken to as the host does: in bytes.
pub struct BalancerInstance<B: Balancer> {
    balancer: Option<B>,
    plans: Dense<Dense<B::Plan>>,
}

impl<B: Balancer> BalancerInstance<B> {
    /// An instance that `configure` has not been called on.
    pub const fn new() -> Self {
        Self { balancer: None, plans: Dense::new() }
    }

    /// First call. Called again, it starts afresh.
    ///
    /// # Errors
    /// The policy's own.
    pub fn configure(&mut self, place: Place, node: &Node, settings: &[Setting]) -> Result<(), String> {
        *self = Self { balancer: Some(B::configure(place, node, settings)?), plans: Dense::new() };
        Ok(())
    }

    /// Planner. The plan of a candidate set, as bytes.
    ///
    /// # Errors
    /// The policy's own.
    pub fn plan(&mut self, port: &ServicePort, members: &[Endpoint]) -> Result<Vec<u8>, String> {
        let balancer = self.balancer.as_mut().ok_or(crate::NOT_CONFIGURED)?;
        codec::encode(&balancer.plan(port, members)?)
    }

    /// Worker. Bytes that are no plan leave the set without one: `pick` then has no opinion.
    pub fn adopt(&mut self, service: ServiceId, set: u32, data: &[u8]) {
        let Some(balancer) = self.balancer.as_mut() else { return };
        if self.plans.entry(service).is_none() {
            self.plans.insert(service, Dense::new());
        }
        let Some(sets) = self.plans.entry(service) else { return };
        let previous = sets.remove(set);
        match codec::decode(data) {
            Ok(plan) => sets.insert(set, balancer.adopt(plan, previous)),
            Err(error) => crate::log::warn(&format!("service {service}, set {set}: {error}")),
        }
    }

    /// Worker. An endpoint for a new connection.
    #[inline]
    pub fn pick(&mut self, connection: &Connection, set: u32, load: &impl Load) -> Option<Slot> {
        let plan = self.plans.entry(connection.service)?.entry(set)?;
        self.balancer.as_mut()?.pick(plan, connection, load)
    }

    /// Both. A Service port is gone.
    pub fn forget(&mut self, service: ServiceId) {
        self.plans.remove(service);
        if let Some(balancer) = &mut self.balancer {
            balancer.forget(service);
        }
    }
}

impl<B: LearningBalancer> BalancerInstance<B> {
    /// Worker. What became of earlier picks.
    pub fn report(&mut self, now_ms: u64, outcomes: &[Outcome]) {
        if let Some(balancer) = &mut self.balancer {
            balancer.report(now_ms, outcomes);
        }
    }
}

impl<B: Balancer> Default for BalancerInstance<B> {
    fn default() -> Self {
        Self::new()
    }
}
