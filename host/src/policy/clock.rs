//! Time that a policy is held to: the processor's, since what a guest takes while its thread is not running is not its doing.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Processor time of this thread so far.
pub(super) fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
