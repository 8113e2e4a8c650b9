//! Whether the control side keeps up, told as kube-proxy tells it on `/healthz` and `/livez` (kubernetes-semantics 3.16): load balancers
//! of clouds ask for just that.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::Serialize;

/// A change that waits longer than this for its table makes the proxy unhealthy: twice kube-proxy's sync period of 30 s.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(60);

/// What the control side did last. Shared between it and those who answer.
#[derive(Debug)]
pub struct ProxyHealth {
    families: Vec<&'static str>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the last table was put in force; at the start, that.
    updated: SystemTime,
    /// Since when a change waits for its table.
    queued: Option<SystemTime>,
    node_eligible: bool,
    healthz: BTreeMap<u16, u64>,
    livez: BTreeMap<u16, u64>,
}

/// The body of an answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    pub(super) healthy: bool,
    status: BTreeMap<&'static str, FamilyReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyReport {
    last_updated: String,
    healthy: bool,
}

/// How often each status was answered, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeCounts {
    /// `/healthz`, by status.
    pub healthz: BTreeMap<u16, u64>,
    /// `/livez`, by status.
    pub livez: BTreeMap<u16, u64>,
}

/// Which of the two was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// Counts the node's eligibility in.
    Healthz,
    /// Leaves it out.
    Livez,
}

impl ProxyHealth {
    /// Of a host that serves these IP families (`IPv4`, `IPv6`) and starts now. Nothing waits yet.
    pub fn new(families: Vec<&'static str>, now: SystemTime) -> Self {
        let state = State { updated: now, queued: None, node_eligible: true, healthz: BTreeMap::new(), livez: BTreeMap::new() };
        Self { families, state: Mutex::new(state) }
    }

    /// A change has been read, and waits for its table.
    pub fn queued(&self, now: SystemTime) {
        self.state().queued.get_or_insert(now);
    }

    /// All changes that were read are in force.
    pub fn updated(&self, now: SystemTime) {
        let mut state = self.state();
        state.updated = now;
        state.queued = None;
    }

    /// Whether load balancers should send traffic to this node: not when it is deleted, or about to be (KEP-3836).
    pub fn set_node_eligible(&self, eligible: bool) {
        self.state().node_eligible = eligible;
    }

    /// Whether changes come into force in time.
    pub fn healthy(&self, now: SystemTime) -> bool {
        self.state().keeps_up(now)
    }

    /// How often each was asked.
    pub fn counts(&self) -> ProbeCounts {
        let state = self.state();
        ProbeCounts { healthz: state.healthz.clone(), livez: state.livez.clone() }
    }

    /// The answer, which is counted.
    pub(super) fn report(&self, probe: Probe, now: SystemTime) -> Report {
        let mut state = self.state();
        let keeps_up = state.keeps_up(now);
        let healthy = keeps_up && (probe == Probe::Livez || state.node_eligible);
        // "Recent" where it is healthy, as kube-proxy has it: else a quiet cluster would look like a dead proxy.
        let updated = time(if keeps_up { now } else { state.updated });
        let family = |name: &&'static str| (*name, FamilyReport { last_updated: updated.clone(), healthy: keeps_up });
        let report = Report {
            last_updated: updated.clone(),
            current_time: time(now),
            node_eligible: (probe == Probe::Healthz).then_some(state.node_eligible),
            healthy,
            status: self.families.iter().map(family).collect(),
        };
        let counts = if probe == Probe::Healthz { &mut state.healthz } else { &mut state.livez };
        *counts.entry(if healthy { 200 } else { 503 }).or_default() += 1;
        report
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keeps_up(&self, now: SystemTime) -> bool {
        self.queued.is_none_or(|queued| now.duration_since(queued).unwrap_or_default() <= HEALTH_TIMEOUT)
    }
}

fn time(at: SystemTime) -> String {
    Timestamp::try_from(at).map(|at| at.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use serde_json::{Value, json};

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    fn json(report: &Report) -> Value {
        serde_json::to_value(report).unwrap()
    }

    #[test]
    fn a_change_that_waits_too_long_makes_it_unhealthy() {
        let health = ProxyHealth::new(vec!["IPv4"], at(0));
        assert!(health.report(Probe::Healthz, at(1_000)).healthy, "nothing waits, however long ago the last table was");
        health.queued(at(1_000));
        health.queued(at(1_050));
        assert!(health.healthy(at(1_060)));
        assert!(!health.healthy(at(1_061)), "counted from the oldest");
        let report = json(&health.report(Probe::Livez, at(1_061)));
        assert_eq!(
            report,
            json!({
                "lastUpdated": "2023-11-14T22:13:20Z",
                "currentTime": "2023-11-14T22:31:01Z",
                "healthy": false,
                "status": {"IPv4": {"lastUpdated": "2023-11-14T22:13:20Z", "healthy": false}},
            })
        );
        health.updated(at(1_070));
        assert!(health.healthy(at(9_999)));
    }

    #[test]
    fn an_ineligible_node_is_unhealthy_and_alive() {
        let health = ProxyHealth::new(vec!["IPv4", "IPv6"], at(0));
        health.set_node_eligible(false);
        let report = json(&health.report(Probe::Healthz, at(5)));
        assert_eq!((&report["healthy"], &report["nodeEligible"]), (&json!(false), &json!(false)));
        assert_eq!(report["status"]["IPv6"]["healthy"], json!(true), "the proxier itself keeps up");
        assert!(health.report(Probe::Livez, at(5)).healthy);
        assert!(health.healthy(at(5)), "health-check node ports ask for the proxy, not for the node");
        let counts = health.counts();
        assert_eq!((counts.healthz, counts.livez), (BTreeMap::from([(503, 1)]), BTreeMap::from([(200, 1)])));
    }
}
