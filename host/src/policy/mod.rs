//! The policies: WebAssembly components that decide, and the sandbox in which they do.
//!
//! `contract` is what the rest of the host sees; the decision core needs nothing else. A component becomes a policy in `registry`: measured
//! (`inspect`), compiled apart (`compile`), probed (`loaded`) and tested (`self_test`). Instances stand in two places: `planners`, off the
//! data path, and `worker`, next to the connections. Both enter a guest through one function of `instance`, which arms the `limits`. A `tape`
//! keeps what a worker's instances saw, and a `replica` sees it again.

mod backoff;
pub mod breaker;
pub mod catalogue;
mod clock;
pub mod compile;
pub mod contract;
pub mod counters;
pub mod directory;
mod engine;
pub mod fallback;
mod host;
pub mod inspect;
mod instance;
pub mod limits;
mod loaded;
pub mod planners;
mod refusal;
pub mod registry;
pub mod replica;
mod self_test;
pub mod tape;
pub mod trial;
mod wasi;
mod wire;
pub mod worker;

pub use engine::Sandbox;
pub use limits::{Grants, Limits, Runtime};
pub use loaded::LoadedPolicy;
pub use refusal::Refusal;
pub use self_test::Cost;
pub(crate) use wasi::empty_world;

#[cfg(test)]
mod tests;
