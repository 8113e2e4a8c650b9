//! A policy on trial: a planner and workers in the sandbox, with the limits, the checks and the calls of production. What production does about
//! faults (the breaker, a wait before it is asked again) is left out: each is to be seen. An instance that faulted is made anew before the next
//! call, and given its plan.

mod balancer;
mod stages;

pub use balancer::{Spent, Trial};
pub use stages::{SelectorTrial, TrafficPolicyTrial};
