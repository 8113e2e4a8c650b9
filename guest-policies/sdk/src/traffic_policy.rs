//! Stage 2: which endpoints this node may send a connection to.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::dense::Dense;
use crate::types::{Connection, Description, Endpoint, Node, Partition, Place, ServiceId, ServicePort, Setting, Subset, Verdict};

/// A traffic policy: cuts a Service port's endpoints into subsets, and confines each connection to one of them, or refuses it.
pub trait TrafficPolicy: Sized {
    /// What a worker needs to judge a connection.
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

    /// Planner. The subsets that connections may be confined to, and the plan.
    ///
    /// # Errors
    /// A sentence for whoever wrote the Service.
    fn plan(&mut self, port: &ServicePort, endpoints: &[Endpoint]) -> Result<(Vec<Subset>, Self::Plan), String>;

    /// Worker. What becomes of a connection; `group` is what the selector chose, `None` for any.
    fn choose(&mut self, plan: &mut Self::Plan, connection: &Connection, group: Option<u32>) -> Verdict;

    /// Both. A Service port is gone; its plan is dropped already.
    fn forget(&mut self, _service: ServiceId) {}
}

/// A traffic policy with its plans, spoken to as the host does: in bytes.
pub struct TrafficPolicyInstance<T: TrafficPolicy> {
    policy: Option<T>,
    plans: Dense<T::Plan>,
}

impl<T: TrafficPolicy> TrafficPolicyInstance<T> {
    /// An instance that `configure` has not been called on.
    pub const fn new() -> Self {
        Self { policy: None, plans: Dense::new() }
    }

    /// First call. Called again, it starts afresh.
    ///
    /// # Errors
    /// The policy's own.
    pub fn configure(&mut self, place: Place, node: &Node, settings: &[Setting]) -> Result<(), String> {
        *self = Self { policy: Some(T::configure(place, node, settings)?), plans: Dense::new() };
        Ok(())
    }

    /// Planner. The subsets of a Service port, and the plan as bytes.
    ///
    /// # Errors
    /// The policy's own.
    pub fn plan(&mut self, port: &ServicePort, endpoints: &[Endpoint]) -> Result<Partition, String> {
        let policy = self.policy.as_mut().ok_or(crate::NOT_CONFIGURED)?;
        let (subsets, plan) = policy.plan(port, endpoints)?;
        Ok(Partition { subsets, data: codec::encode(&plan)? })
    }

    /// Worker. Bytes that are no plan leave the Service port without one: `choose` then rejects.
    pub fn adopt(&mut self, service: ServiceId, data: &[u8]) {
        match codec::decode(data) {
            Ok(plan) => self.plans.insert(service, plan),
            Err(error) => {
                self.plans.remove(service);
                crate::log::warn(&format!("service {service}: {error}"));
            }
        }
    }

    /// Worker. What becomes of a connection. Inlined for certain: then a component reads the fields that it needs from the call's own
    /// scalars, and the rest of the connection is never put together.
    #[inline(always)]
    pub fn choose(&mut self, connection: &Connection, group: Option<u32>) -> Verdict {
        match (self.plans.entry(connection.service), &mut self.policy) {
            (Some(plan), Some(policy)) => policy.choose(plan, connection, group),
            _ => Verdict::Reject,
        }
    }

    /// Both. A Service port is gone.
    pub fn forget(&mut self, service: ServiceId) {
        self.plans.remove(service);
        if let Some(policy) = &mut self.policy {
            policy.forget(service);
        }
    }
}

impl<T: TrafficPolicy> Default for TrafficPolicyInstance<T> {
    fn default() -> Self {
        Self::new()
    }
}
