//! Write a Pointsman policy in plain Rust.
//!
//! A policy lives in two places. The *planner* is one instance, off the data path: it sees whole endpoints and takes its time.
//! A *worker* instance stands on every worker: it is given plans and decides, for each new connection, from numbers alone. One
//! type serves both; the SDK carries the plans between them.
//!
//! A balancer that sends each client to the endpoint that its address hashes to:
//!
//! ```
//! use pointsman_sdk::prelude::*;
//!
//! struct ByClient;
//!
//! impl Balancer for ByClient {
//!     type Plan = Packed<Slot>;
//!
//!     fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!
//!     fn plan(&mut self, _port: &ServicePort, members: &[Endpoint]) -> Result<Self::Plan, String> {
//!         Ok(members.iter().filter(|endpoint| endpoint.weight > 0).map(|endpoint| endpoint.slot).collect())
//!     }
//!
//!     fn pick(&mut self, plan: &mut Self::Plan, connection: &Connection, _load: &impl Load) -> Option<Slot> {
//!         let index = connection.client_hash.checked_rem(plan.len() as u64)?;
//!         plan.at(index as usize)
//!     }
//! }
//!
//! pointsman_sdk::export_balancer!(ByClient);
//!
//! // Natively the same type runs through the same bytes.
//! use pointsman_sdk::native::{self, NativeBalancer};
//! let mut balancer = NativeBalancer::<ByClient>::new(&[], 7).unwrap();
//! balancer.plan(&native::port(0), 0, &native::endpoints(&[1, 0, 1])).unwrap();
//! assert_eq!(balancer.pick(&native::connection(0, 1), 0, &Idle), Some(2));
//! ```
//!
//! Built for `wasm32-unknown-unknown` as a `cdylib`, that is a component once `wasm-tools component new` (or `pointsman`'s own
//! build) has wrapped it. `wit/policy.wit` says when the host makes each call and what follows from its failure.

pub mod codec;
pub mod hash;
pub mod load;
pub mod log;
pub mod maglev;
pub mod native;
pub mod order;
pub mod packed;
pub mod readiness;
pub mod requirements;
pub mod settings;
pub mod subsets;
pub mod types;
pub mod verdicts;
pub mod weighted;

mod balancer;
mod dense;
mod export;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod glue;
mod selector;
mod traffic_policy;

pub use balancer::{Balancer, BalancerInstance, LearningBalancer};
pub use selector::{Selector, SelectorInstance};
pub use traffic_policy::{TrafficPolicy, TrafficPolicyInstance};

/// What most policies use.
pub mod prelude {
    pub use crate::load::{Idle, Load};
    pub use crate::packed::Packed;
    pub use crate::types::*;
    pub use crate::{Balancer, LearningBalancer, Selector, TrafficPolicy};
}

/// A call came before `configure`.
const NOT_CONFIGURED: &str = "not configured";

#[cfg(test)]
mod tests;
