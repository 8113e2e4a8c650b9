//! A policy on trial: a planner and workers in the sandbox, with the limits, the checks and the calls of production. What production does about
//! faults (the breaker, a wait before it is asked again) is left out: each is to be seen. An instance that faulted is made anew before the next
//! call, and given its plan.

mod balancer;
mod stages;

pub use balancer::Trial;
pub use stages::{SelectorTrial, TrafficPolicyTrial};

/// Fuel of the last call of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// `plan`.
    pub plan: u64,
    /// `classify`, of a selector.
    pub classify: u64,
    /// `adopt`, on the last worker.
    pub adopt: u64,
    /// `choose` or `pick`.
    pub decision: u64,
}

/// What a policy took so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Fuel of the last calls.
    pub spent: Spent,
    /// The plan in force, in bytes.
    pub plan_bytes: u64,
    /// The most linear memory that an instance of a worker held, in bytes.
    pub memory_peak: u64,
}
