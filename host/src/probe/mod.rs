//! Readiness probes: asks pods and endpoints whether they are ready, as the kubelet does (kubernetes.io, "Configure Liveness, Readiness
//! and Startup Probes").
//!
//! objects → `targets` who is probed → `readiness` → `prober` (`schedule` says when, `ask` asks) → flips → `readiness` → the controller.
//! All but `prober` and `ask` is pure.

mod ask;
mod counters;
mod prober;
mod readiness;
mod schedule;
mod targets;

#[cfg(test)]
mod tests;

pub use counters::{Counters, Counts, KeyKind};
pub use prober::{MAX_IN_FLIGHT, Options, run};
pub use readiness::{Life, Readiness, Told, Watched, Word};
pub use schedule::{Answer, Attempt, AttemptId, Flip, Schedule, Verdict};
pub use targets::{Found, Owner, ProbeKey, Scope, Target, of_pod, of_service};
