//! Stage 1: which pods back a Service, and which group of them may serve a connection.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::dense::Dense;
use crate::types::{Connection, Description, Grouping, Label, Node, Place, ServiceId, ServicePort, Setting};

/// A selector: says which pods back a Service and sorts them into groups; may confine a connection to one group.
pub trait Selector: Sized {
    /// What both the planner (to classify) and a worker (to choose) need to know of a Service port.
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

    /// Planner. The names of the groups that the Service's pods may fall into, and the plan.
    ///
    /// # Errors
    /// A sentence for whoever wrote the Service.
    fn plan(&mut self, port: &ServicePort) -> Result<(Vec<String>, Self::Plan), String>;

    /// Planner. The group of a pod with these labels, as an index into the names; `None`: it does not back the Service.
    fn classify(&mut self, plan: &Self::Plan, labels: &[Label]) -> Option<u32>;

    /// Worker. The group that may serve a connection; `None`: any.
    fn choose(&mut self, _plan: &mut Self::Plan, _connection: &Connection) -> Option<u32> {
        None
    }

    /// Both. A Service port is gone; its plan is dropped already.
    fn forget(&mut self, _service: ServiceId) {}
}

/// A selector with its plans, spoken to as the host does: in bytes.
pub struct SelectorInstance<S: Selector> {
    selector: Option<S>,
    plans: Dense<S::Plan>,
}

impl<S: Selector> SelectorInstance<S> {
    /// An instance that `configure` has not been called on.
    pub const fn new() -> Self {
        Self { selector: None, plans: Dense::new() }
    }

    /// First call. Called again, it starts afresh.
    ///
    /// # Errors
    /// The policy's own.
    pub fn configure(&mut self, place: Place, node: &Node, settings: &[Setting]) -> Result<(), String> {
        *self = Self { selector: Some(S::configure(place, node, settings)?), plans: Dense::new() };
        Ok(())
    }

    /// Planner. The groups of a Service port; the plan is kept for `classify`.
    ///
    /// # Errors
    /// The policy's own.
    pub fn plan(&mut self, port: &ServicePort) -> Result<Grouping, String> {
        let selector = self.selector.as_mut().ok_or(crate::NOT_CONFIGURED)?;
        let (groups, plan) = selector.plan(port)?;
        let data = codec::encode(&plan)?;
        self.plans.insert(port.id, plan);
        Ok(Grouping { groups, data })
    }

    /// Planner. The group of a pod; none before the Service port was planned.
    pub fn classify(&mut self, service: ServiceId, labels: &[Label]) -> Option<u32> {
        let plan = self.plans.entry(service)?;
        self.selector.as_mut()?.classify(plan, labels)
    }

    /// Worker. Bytes that are no plan leave the Service port without one: `choose` then allows any group.
    pub fn adopt(&mut self, service: ServiceId, data: &[u8]) {
        match codec::decode(data) {
            Ok(plan) => self.plans.insert(service, plan),
            Err(error) => {
                self.plans.remove(service);
                crate::log::warn(&format!("service {service}: {error}"));
            }
        }
    }

    /// Worker. The group that may serve a connection.
    #[inline]
    pub fn choose(&mut self, connection: &Connection) -> Option<u32> {
        let plan = self.plans.entry(connection.service)?;
        self.selector.as_mut()?.choose(plan, connection)
    }

    /// Both. A Service port is gone.
    pub fn forget(&mut self, service: ServiceId) {
        self.plans.remove(service);
        if let Some(selector) = &mut self.selector {
            selector.forget(service);
        }
    }
}

impl<S: Selector> Default for SelectorInstance<S> {
    fn default() -> Self {
        Self::new()
    }
}
