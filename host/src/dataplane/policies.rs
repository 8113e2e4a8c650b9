//! What a worker needs of its policies: to decide, and to be kept up to date. Tests put a fake in the sandbox's place.

use std::num::NonZeroU64;
use std::sync::Arc;

use crate::policy::LoadedPolicy;
use crate::policy::contract::{Connection, Decider, Outcome, ServiceId};
use crate::policy::counters::PolicyCounters;
use crate::policy::tape::{Ending, Fate};
use crate::policy::worker::WorkerPolicies;
use crate::table::{Table, VersionId};

/// The policies of one worker.
pub trait Policies: Decider + Send + 'static {
    /// A policy that is ready to be used.
    type Loaded: Clone + Send + 'static;
    /// What the policies count.
    type Counters: Send + 'static;

    /// Takes a policy in. A second time does nothing.
    fn install(&mut self, policy: Self::Loaded, now_ms: u64);
    /// Lets a version go.
    fn retire(&mut self, version: VersionId);
    /// Takes a balancer in that is to be tried beside one in force. A second time does nothing.
    fn install_candidate(&mut self, policy: Self::Loaded, now_ms: u64);
    /// Lets a version go that is no longer tried.
    fn retire_candidate(&mut self, version: VersionId);
    /// Adopts the plans of these ports, before the table is used.
    fn adopt(&mut self, table: &Arc<Table>, changed: &[ServiceId], now_ms: u64);
    /// A port is gone.
    fn forget(&mut self, service: ServiceId);
    /// Housekeeping, ten times a second.
    fn mend(&mut self, now_ms: u64);
    /// What became of connections, for policies that learn.
    fn report(&mut self, now_ms: u64, outcomes: &[Outcome]);
    /// The node's record changed.
    fn reconfigure(&mut self, now_ms: u64);
    /// The counts now.
    fn counters(&self) -> Self::Counters;
    /// What became of a decision, for a recording; see [`WorkerPolicies::decided`].
    fn decided(&mut self, _connection: &Connection, _fate: Fate, _again: Option<NonZeroU64>) -> Option<NonZeroU64> {
        None
    }
    /// A connection that has a number in the recording has ended.
    fn ended(&mut self, _number: u64, _now_ms: u64, _ending: Ending) {}
}

impl Policies for WorkerPolicies {
    type Loaded = Arc<LoadedPolicy>;
    type Counters = Vec<PolicyCounters>;

    fn install(&mut self, policy: Self::Loaded, now_ms: u64) {
        self.install(policy, now_ms);
    }

    fn retire(&mut self, version: VersionId) {
        self.retire(version);
    }

    fn install_candidate(&mut self, policy: Self::Loaded, now_ms: u64) {
        self.install_candidate(policy, now_ms);
    }

    fn retire_candidate(&mut self, version: VersionId) {
        self.retire_candidate(version);
    }

    fn adopt(&mut self, table: &Arc<Table>, changed: &[ServiceId], now_ms: u64) {
        self.adopt(table, changed, now_ms);
    }

    fn forget(&mut self, service: ServiceId) {
        self.forget(service);
    }

    fn mend(&mut self, now_ms: u64) {
        self.mend(now_ms);
    }

    fn report(&mut self, now_ms: u64, outcomes: &[Outcome]) {
        self.report(now_ms, outcomes);
    }

    fn reconfigure(&mut self, now_ms: u64) {
        self.reconfigure(now_ms);
    }

    fn counters(&self) -> Self::Counters {
        self.counters()
    }

    #[inline]
    fn decided(&mut self, connection: &Connection, fate: Fate, again: Option<NonZeroU64>) -> Option<NonZeroU64> {
        self.decided(connection, fate, again)
    }

    fn ended(&mut self, number: u64, now_ms: u64, ending: Ending) {
        self.ended(number, now_ms, ending);
    }
}
