//! Counts as plain numbers with names: what workers hand out, and what `/metrics` renders.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::{ConnectError, Outcome};
use super::shadow::{ShadowKey, ShadowSnapshot};
use crate::policy::contract::StageKind;
use crate::table::{FrontendKind, Port};

/// All counts at one moment, of one worker or summed over several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// All connections since the start, also those of Services that are gone.
    pub totals: Tally,
    /// Failed `accept` calls, by reason.
    pub accept_errors: BTreeMap<&'static str, u64>,
    /// How often a listener stopped accepting for a while: no descriptors, or the limit of connections reached.
    pub accept_pauses: u64,
    /// Datagrams that went nowhere, by reason.
    pub datagrams_lost: BTreeMap<&'static str, u64>,
    /// Refusals that were due to UDP clients (ICMP port unreachable), by what became of them.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Outcomes that no policy was told of, because too many came in one tick.
    pub outcomes_untold: u64,
    /// Stages that were not decided by the policy version in force.
    pub fallbacks: BTreeMap<FallbackKey, u64>,
    /// Clients that session affinity holds an endpoint for.
    pub affinity_pins: u64,
    /// Clients that lost their pin because there were too many.
    pub affinity_evicted: u64,
    /// By Service port. A Service that is gone leaves with its last connection.
    pub services: BTreeMap<ServiceKey, ServiceSnapshot>,
    /// Comparisons of a balancer that is tried with the one in force, by Service.
    pub shadows: BTreeMap<ShadowKey, ShadowSnapshot>,
}

/// Why a stage was decided by another than the policy version in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FallbackKey {
    /// The policy's name, as the Service asked for it.
    pub policy: Arc<str>,
    /// The stage.
    pub stage: StageKind,
    /// `Fault::class`; `not-asked` also where it could not plan.
    pub reason: &'static str,
    /// `stand-in` (the version before) or `native` (the host); `in-force`: who is in force, for a client of the one that is tried.
    pub by: &'static str,
}

/// Names of a Service port; the two IP families of one share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The Service's namespace.
    pub namespace: Arc<str>,
    /// The Service's name.
    pub service: Arc<str>,
    /// The port's name, or its number where it has none.
    pub port: Arc<str>,
}

/// What became of connections. Every one accepted is in exactly one of `rejected`, `dropped`, `connect_failed`, `closed`, `reset`,
/// `aged`, `drained`, `endpoint_left`, `evicted` and `active`. A UDP flow is one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Accepted.
    pub accepted: u64,
    /// The verdict was reject.
    pub rejected: u64,
    /// The verdict was drop.
    pub dropped: u64,
    /// The verdict was forward, and no endpoint could be reached.
    pub connect_failed: u64,
    /// Closed in order.
    pub closed: u64,
    /// Ended by a reset.
    pub reset: u64,
    /// Ended by their maximum age.
    pub aged: u64,
    /// Ended by the deadline of a drain.
    pub drained: u64,
    /// Ended because their endpoint left or was no longer ready.
    pub endpoint_left: u64,
    /// UDP flows that made room.
    pub evicted: u64,
    /// Open now.
    pub active: u64,
    /// Passed on from clients to endpoints.
    pub bytes_in: u64,
    /// Passed on from endpoints to clients.
    pub bytes_out: u64,
    /// Datagrams passed on from clients to endpoints.
    pub datagrams_in: u64,
    /// Datagrams passed on from endpoints to clients.
    pub datagrams_out: u64,
    /// Endpoints that could not be reached, by `ConnectError::ALL`.
    pub failures: [u64; 4],
}

/// Counts of one Service port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceSnapshot {
    /// Its connections.
    pub tally: Tally,
    /// Accepted, by `FRONTEND_KINDS`.
    pub frontends: [u64; FRONTEND_KINDS.len()],
    /// By `ip:port`.
    pub endpoints: BTreeMap<Arc<str>, EndpointSnapshot>,
}

/// Counts of one endpoint of one Service port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointSnapshot {
    /// Connections that it accepted.
    pub connections: u64,
    /// Open now, those being connected included.
    pub active: u64,
    /// Passed on to it.
    pub bytes_in: u64,
    /// Passed on from it.
    pub bytes_out: u64,
    /// Datagrams passed on to it.
    pub datagrams_in: u64,
    /// Datagrams passed on from it.
    pub datagrams_out: u64,
    /// Failed attempts, by `ConnectError::ALL`.
    pub failures: [u64; 4],
}

/// The order of `ServiceSnapshot::frontends`.
pub const FRONTEND_KINDS: [FrontendKind; 5] =
    [FrontendKind::ClusterIp, FrontendKind::NodePort, FrontendKind::ExternalIp, FrontendKind::LoadBalancer, FrontendKind::HostPort];

impl ServiceKey {
    /// The names of a port.
    pub fn of(port: &Port) -> Self {
        let record = &port.record;
        let name = if record.port_name.is_empty() { record.port.to_string() } else { record.port_name.clone() };
        Self { namespace: record.namespace.as_str().into(), service: record.name.as_str().into(), port: name.into() }
    }
}

impl Tally {
    /// Counts the end of a connection.
    pub fn ended(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Closed => &mut self.closed,
            Outcome::Reset => &mut self.reset,
            Outcome::Rejected => &mut self.rejected,
            Outcome::Dropped => &mut self.dropped,
            Outcome::ConnectFailed => &mut self.connect_failed,
            Outcome::Aged => &mut self.aged,
            Outcome::Drained => &mut self.drained,
            Outcome::EndpointLeft => &mut self.endpoint_left,
            Outcome::Evicted => &mut self.evicted,
        } += 1;
        self.active -= 1;
    }

    /// Connections whose verdict was forward.
    pub fn forwarded(&self) -> u64 {
        self.accepted.saturating_sub(self.rejected + self.dropped)
    }

    /// By verdict.
    pub fn verdicts(&self) -> [(&'static str, u64); 3] {
        [("forward", self.forwarded()), ("reject", self.rejected), ("drop", self.dropped)]
    }

    /// By outcome.
    pub fn outcomes(&self) -> [(&'static str, u64); 9] {
        [
            (Outcome::Closed.text(), self.closed),
            (Outcome::Reset.text(), self.reset),
            (Outcome::Rejected.text(), self.rejected),
            (Outcome::Dropped.text(), self.dropped),
            (Outcome::ConnectFailed.text(), self.connect_failed),
            (Outcome::Aged.text(), self.aged),
            (Outcome::Drained.text(), self.drained),
            (Outcome::EndpointLeft.text(), self.endpoint_left),
            (Outcome::Evicted.text(), self.evicted),
        ]
    }

    /// Failed attempts to connect, by reason.
    pub fn connect_failures(&self) -> [(&'static str, u64); 4] {
        named_failures(&self.failures)
    }

    /// Whether nothing was lost: accepted = all outcomes + active.
    pub fn balances(&self) -> bool {
        self.accepted == self.outcomes().iter().map(|(_, count)| count).sum::<u64>() + self.active
    }

    fn merge(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.dropped += other.dropped;
        self.connect_failed += other.connect_failed;
        self.closed += other.closed;
        self.reset += other.reset;
        self.aged += other.aged;
        self.drained += other.drained;
        self.endpoint_left += other.endpoint_left;
        self.evicted += other.evicted;
        self.active += other.active;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.datagrams_in += other.datagrams_in;
        self.datagrams_out += other.datagrams_out;
        add(&mut self.failures, &other.failures);
    }
}

impl EndpointSnapshot {
    /// Failed attempts to connect, by reason.
    pub fn connect_failures(&self) -> [(&'static str, u64); 4] {
        named_failures(&self.failures)
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        self.connections += other.connections;
        self.active += other.active;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.datagrams_in += other.datagrams_in;
        self.datagrams_out += other.datagrams_out;
        add(&mut self.failures, &other.failures);
    }
}

impl ServiceSnapshot {
    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        self.tally.merge(&other.tally);
        add(&mut self.frontends, &other.frontends);
        for (key, endpoint) in &other.endpoints {
            self.endpoints.entry(Arc::clone(key)).or_default().merge(endpoint);
        }
    }
}

impl Snapshot {
    /// Adds another worker's counts.
    pub fn merge(&mut self, other: &Self) {
        self.totals.merge(&other.totals);
        for (reason, count) in &other.accept_errors {
            *self.accept_errors.entry(reason).or_default() += count;
        }
        for (reason, count) in &other.datagrams_lost {
            *self.datagrams_lost.entry(reason).or_default() += count;
        }
        for (result, count) in &other.refusals {
            *self.refusals.entry(result).or_default() += count;
        }
        for (key, count) in &other.fallbacks {
            *self.fallbacks.entry(key.clone()).or_default() += count;
        }
        self.accept_pauses += other.accept_pauses;
        self.outcomes_untold += other.outcomes_untold;
        self.affinity_pins += other.affinity_pins;
        self.affinity_evicted += other.affinity_evicted;
        for (key, service) in &other.services {
            self.services.entry(key.clone()).or_default().merge(service);
        }
        for (key, shadow) in &other.shadows {
            self.shadows.entry(key.clone()).or_default().merge(shadow);
        }
    }
}

fn named_failures(counts: &[u64; 4]) -> [(&'static str, u64); 4] {
    std::array::from_fn(|at| (ConnectError::ALL[at].text(), counts[at]))
}

fn add<const N: usize>(to: &mut [u64; N], from: &[u64; N]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}
