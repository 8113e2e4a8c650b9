//! The counters as text, for Prometheus: names and labels stand in docs/reference.md.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::proxy_health::ProbeCounts;
use super::shadow::{CanaryStatus, ShadowStatus};
use crate::observe::{ServiceKey, ShadowKey, Snapshot, SubjectTally};
use crate::policy::breaker::BreakerState;
use crate::policy::counters::{FAULT_CLASSES, PolicyCounters};

/// OpenMetrics, which Prometheus and `curl` read alike.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every counter of the engine at one moment.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Of the table in force.
    pub generation: u64,
    /// Sockets that listen, those of all workers together.
    pub listeners: u64,
    /// Connections, summed over the workers.
    pub traffic: Snapshot,
    /// Policies: those of every worker, one after the other; equal ones are added up here.
    pub policies: Vec<PolicyCounters>,
    /// By policy and result.
    pub swaps: Vec<SwapCount>,
    /// Who is tried beside whom.
    pub shadows: Vec<ShadowStatus>,
    /// Attempts to probe.
    pub probes: Vec<ProbeCount>,
    /// `/healthz` and `/livez`.
    pub health: ProbeCounts,
    /// What became of changes.
    pub sync: Sync,
    /// Lines written to the decision log.
    pub decision_log_written: u64,
    /// Lines that found its queue full.
    pub decision_log_dropped: u64,
    /// Frames that a recording lost.
    pub recording_dropped: u64,
}

/// How often something became of an attempt to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeCount {
    /// `container` or `endpoint`.
    pub kind: &'static str,
    /// `success`, `failure` or `unknown`.
    pub result: &'static str,
    /// How often.
    pub count: u64,
}

/// What kube-proxy tells of its syncs, of which a table is the like here.
#[derive(Clone, Debug, PartialEq)]
pub struct Sync {
    /// How many tables took so long, by kube-proxy's bounds (1 ms, doubled fourteen times); those beyond all of them last.
    pub durations: [u64; SYNC_BOUNDS.len() + 1],
    /// Seconds that all of them took.
    pub seconds: f64,
    /// When the last table was put in force, in seconds since 1970; 0: never.
    pub last: f64,
    /// When the last change was read; 0: never.
    pub last_queued: f64,
    /// Changes of Services, and of their endpoints.
    pub service_changes: u64,
    /// Likewise.
    pub endpoint_changes: u64,
    /// Service ports under a Local policy that have endpoints, and none here: internal, external.
    pub no_local_endpoints: [u64; 2],
}

/// kube-proxy's buckets, in seconds: a millisecond, doubled fourteen times.
pub(super) const SYNC_BOUNDS: [f64; 15] =
    [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];

impl Default for Sync {
    fn default() -> Self {
        Self {
            durations: [0; SYNC_BOUNDS.len() + 1],
            seconds: 0.0,
            last: 0.0,
            last_queued: 0.0,
            service_changes: 0,
            endpoint_changes: 0,
            no_local_endpoints: [0; 2],
        }
    }
}

impl Sync {
    /// A table took so long.
    pub fn took(&mut self, time: std::time::Duration) {
        let seconds = time.as_secs_f64();
        self.durations[SYNC_BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(SYNC_BOUNDS.len())] += 1;
        self.seconds += seconds;
    }
}

/// How often something became of a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapCount {
    /// The name in annotations.
    pub policy: String,
    /// `swapped`, `unchanged`, `refused` or `rolled-back`.
    pub result: &'static str,
    /// How often.
    pub count: u64,
}

/// The text of a scrape.
pub(super) fn text(metrics: Metrics) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page::new(metrics)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

/// What is rendered: the counters, with one entry a policy version.
#[derive(Debug)]
struct Page {
    metrics: Metrics,
    policies: Vec<PolicyCounters>,
}

impl Page {
    /// A version may stand on several workers, and come back under the same digest after a rollback: its series must not be written twice.
    fn new(mut metrics: Metrics) -> Self {
        let mut merged: BTreeMap<_, PolicyCounters> = BTreeMap::new();
        for counters in std::mem::take(&mut metrics.policies) {
            let key = (Arc::clone(&counters.version.name), counters.stage, Arc::clone(&counters.version.digest));
            match merged.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(counters);
                }
                Entry::Occupied(mut entry) => entry.get_mut().merge(&counters),
            }
        }
        Self { metrics, policies: merged.into_values().collect() }
    }

    fn host(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let Metrics { generation, listeners, traffic, decision_log_written, decision_log_dropped, recording_dropped, .. } = &self.metrics;
        families.info("pointsman_build", "What is running", vec![("version", env!("CARGO_PKG_VERSION"))])?;
        families.gauge("pointsman_table_generation", "Generation of the routing table in force", one(*generation))?;
        families.gauge("pointsman_listeners", "Listening sockets", one(*listeners))?;
        let errors = traffic.accept_errors.iter().map(|(reason, count)| (vec![("reason", *reason)], *count));
        families.counter("pointsman_accept_errors", "Connections that could not be accepted, by reason", errors)?;
        let pauses = "Pauses in accepting, for want of descriptors or at the limit of connections";
        families.counter("pointsman_accept_pauses", pauses, one(traffic.accept_pauses))?;
        families.gauge("pointsman_affinity_pins", "Clients that session affinity holds an endpoint for", one(traffic.affinity_pins))?;
        families.counter("pointsman_affinity_evicted", "Clients that lost their pin for want of room", one(traffic.affinity_evicted))?;
        families.counter("pointsman_decision_log_written", "Lines written to the decision log", one(*decision_log_written))?;
        families.counter(
            "pointsman_decision_log_dropped",
            "Lines that found the queue of the decision log full",
            one(*decision_log_dropped),
        )?;
        let lost = "Frames that a recording lost: its disk could not keep up, or failed";
        families.counter("pointsman_recording_dropped", lost, one(*recording_dropped))
    }

    /// Under kube-proxy's own names, so that its dashboards find them (kubernetes-semantics 3.18).
    fn proxy(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let (sync, health) = (&self.metrics.sync, &self.metrics.health);
        families.histogram("kubeproxy_sync_proxy_rules_duration_seconds", "Time from a change to its table in force", sync)?;
        families.seconds("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When the last table was put in force", sync.last)?;
        families.seconds("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "When the last change was read", sync.last_queued)?;
        families.counter("kubeproxy_sync_proxy_rules_service_changes", "Service ports that changed", one(sync.service_changes))?;
        families.counter(
            "kubeproxy_sync_proxy_rules_endpoint_changes",
            "Service ports whose endpoints changed",
            one(sync.endpoint_changes),
        )?;
        let none_local = ["internal", "external"].into_iter().zip(sync.no_local_endpoints);
        let none_local = none_local.map(|(policy, count)| (vec![("traffic_policy", policy)], count));
        let what = "Service ports under a Local policy that have endpoints, and none on this node";
        families.gauge("kubeproxy_sync_proxy_rules_no_local_endpoints_total", what, none_local)?;
        let texts = |counts: &BTreeMap<u16, u64>| counts.iter().map(|(code, count)| (code.to_string(), *count)).collect::<Vec<_>>();
        for (name, counts) in [("kubeproxy_proxy_healthz", texts(&health.healthz)), ("kubeproxy_proxy_livez", texts(&health.livez))] {
            families.counter(name, "Answers, by status", counts.iter().map(|(code, count)| (vec![("code", code.as_str())], *count)))?;
        }
        let probes = self.metrics.probes.iter().map(|probe| (vec![("kind", probe.kind), ("result", probe.result)], probe.count));
        families.counter("pointsman_probes", "Attempts to probe, by result", probes)
    }

    fn udp(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let services = &self.metrics.traffic.services;
        let datagrams = services.iter().flat_map(|(key, service)| {
            each(of_service(key), "direction", [("in", service.tally.datagrams_in), ("out", service.tally.datagrams_out)])
        });
        families.counter("pointsman_datagrams", "Datagrams passed on from clients (in) and to clients (out)", datagrams)?;
        let lost = self.metrics.traffic.datagrams_lost.iter().map(|(reason, count)| (vec![("reason", *reason)], *count));
        families.counter("pointsman_datagrams_lost", "Datagrams that were not passed on, by reason", lost)?;
        let refusals = self.metrics.traffic.refusals.iter().map(|(result, count)| (vec![("result", *result)], *count));
        families.counter("pointsman_udp_refusals", "Clients to be told that nobody is there (ICMP), by what became of it", refusals)
    }

    fn connections(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let services = &self.metrics.traffic.services;
        let verdicts = services.iter().flat_map(|(key, service)| each(of_service(key), "verdict", service.tally.verdicts()));
        families.counter("pointsman_connections", "Connections accepted, by verdict", verdicts)?;
        let outcomes = services.iter().flat_map(|(key, service)| each(of_service(key), "outcome", service.tally.outcomes()));
        families.counter("pointsman_connections_closed", "Connections ended, by outcome", outcomes)?;
        let active = services.iter().map(|(key, service)| (of_service(key), service.tally.active));
        families.gauge("pointsman_active_connections", "Connections that live", active)?;
        let bytes = services.iter().flat_map(|(key, service)| {
            each(of_service(key), "direction", [("in", service.tally.bytes_in), ("out", service.tally.bytes_out)])
        });
        families.counter("pointsman_bytes", "Bytes passed on from clients (in) and to clients (out)", bytes)
    }

    fn endpoints(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let endpoints = || {
            let services = self.metrics.traffic.services.iter();
            services.flat_map(|(key, service)| {
                service.endpoints.iter().map(move |(endpoint, counts)| (with(of_service(key), "endpoint", endpoint), counts))
            })
        };
        let made = endpoints().map(|(labels, counts)| (labels, counts.connections));
        families.counter("pointsman_endpoint_connections", "Connections made to the endpoint", made)?;
        let active = endpoints().map(|(labels, counts)| (labels, counts.active));
        families.gauge("pointsman_endpoint_active", "Connections to the endpoint that live", active)?;
        // Most endpoints never fail: with 100,000 of them, zeros would be most of the text.
        let failed = |failures: [(&'static str, u64); 4]| failures.into_iter().filter(|(_, count)| *count > 0);
        let failures = endpoints().flat_map(|(labels, counts)| each(labels, "reason", failed(counts.connect_failures())));
        families.counter("pointsman_connect_failures", "Attempts to reach the endpoint that failed, by reason", failures)
    }

    fn decisions(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let policies = &self.policies;
        let outcomes = policies.iter().flat_map(|policy| {
            let answers = [("answered", policy.answered), ("no-opinion", policy.no_opinion), (SHADOWED, policy.shadowed)];
            each(of_policy(policy), "outcome", answers.into_iter().chain(faults(policy).filter(|(class, _)| *class != NOT_ASKED)))
        });
        families.counter("pointsman_policy_decisions", "Decisions that the policy was asked for, by outcome", outcomes)?;
        let fuel = policies.iter().map(|policy| (of_policy(policy), policy.fuel_total));
        families.counter("pointsman_policy_fuel", "Fuel used by decisions", fuel)?;
        let most = policies.iter().map(|policy| (of_policy(policy), policy.fuel_max));
        families.gauge("pointsman_policy_fuel_max", "Most fuel that one decision used", most)?;
        let memory = policies.iter().map(|policy| (of_policy(policy), policy.memory_peak_bytes));
        families.gauge("pointsman_policy_memory_bytes", "Most linear memory that one instance held", memory)?;
        let fallbacks = self.metrics.traffic.fallbacks.iter().map(|(key, count)| {
            let labels = vec![("policy", &*key.policy), ("stage", key.stage.name()), ("reason", key.reason), ("by", key.by)];
            (labels, *count)
        });
        families.counter("pointsman_policy_fallbacks", "Decisions made in the stead of the policy, by reason", fallbacks)?;
        let breakers = policies.iter().map(|policy| (of_policy(policy), state(policy.breaker)));
        families.gauge("pointsman_policy_breaker_state", "0 closed, 1 half-open, 2 open; the worst of all workers", breakers)?;
        let swaps = self.metrics.swaps.iter().map(|swap| (vec![("policy", swap.policy.as_str()), ("result", swap.result)], swap.count));
        families.counter("pointsman_policy_swaps", "Swaps and rollbacks asked for, by result", swaps)
    }
}

impl Page {
    /// Of Services on which a balancer is tried; the counts begin anew with each comparison.
    fn shadows(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let shadows = || self.metrics.traffic.shadows.iter().map(|(key, shadow)| (of_shadow(key), &shadow.tally));
        let asked = shadows()
            .flat_map(|(labels, tally)| each(labels, "canary", [("false", tally.connections - tally.canaries), ("true", tally.canaries)]));
        families.counter("pointsman_shadow_connections", "Connections that a balancer was tried on, by whether it was in charge", asked)?;
        let moved = shadows().map(|(labels, tally)| (labels, tally.moved));
        families.counter("pointsman_shadow_moved", "Connections for which the balancer in force and the one tried differ", moved)?;
        let answers = shadows().flat_map(|(labels, tally)| {
            let [balancer, candidate] = &tally.subjects;
            let of = |subject, tally| each(with(labels.clone(), "subject", subject), "outcome", outcomes(tally));
            of("balancer", balancer).chain(of("candidate", candidate)).collect::<Vec<_>>()
        });
        families.counter("pointsman_shadow_answers", "What the balancer in force and the one tried answered, by outcome", answers)?;
        let failed = shadows().map(|(labels, tally)| (labels, tally.failed));
        families.counter("pointsman_canary_failed", "Connections that the balancer tried should have decided and could not", failed)?;
        let canaries = || self.metrics.shadows.iter().filter_map(|shadow| Some((of_status(shadow), shadow.canary.as_ref()?)));
        let shares = canaries().map(|(labels, canary): (_, &CanaryStatus)| (labels, canary.share));
        families.ratio("pointsman_canary_share", "Clients that the balancer tried is in charge of, of 1", shares)?;
        let rollbacks = canaries().map(|(labels, canary)| (labels, canary.rollbacks));
        families.counter("pointsman_canary_rollbacks", "Canaries that were rolled back", rollbacks)
    }
}

/// Faults only where there were some.
fn outcomes(tally: &SubjectTally) -> Vec<(&'static str, u64)> {
    let answers = [("answered", tally.answered), ("no-opinion", tally.no_opinion), (NOT_ASKED, tally.not_asked())];
    answers.into_iter().chain(tally.faults().filter(|(_, count)| *count > 0)).collect()
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(&mut encoder);
        self.host(&mut families)?;
        self.connections(&mut families)?;
        self.endpoints(&mut families)?;
        self.decisions(&mut families)?;
        self.shadows(&mut families)?;
        self.udp(&mut families)?;
        self.proxy(&mut families)
    }
}

/// The class of a fault that is none of the policy: its breaker was open, or its instance was being made.
const NOT_ASKED: &str = "not-asked";

/// An answer that was not used, since the breaker was half-open.
const SHADOWED: &str = "shadowed";

type Labels<'a> = Vec<(&'static str, &'a str)>;

fn of_service(key: &ServiceKey) -> Labels<'_> {
    vec![("namespace", &key.namespace), ("service", &key.service), ("port", &key.port)]
}

fn of_shadow(key: &ShadowKey) -> Labels<'_> {
    vec![("namespace", &key.namespace), ("service", &key.service)]
}

fn of_status(shadow: &ShadowStatus) -> Labels<'_> {
    vec![("namespace", &shadow.namespace), ("service", &shadow.name)]
}

fn of_policy(policy: &PolicyCounters) -> Labels<'_> {
    vec![("policy", &policy.version.name), ("stage", policy.stage.name()), ("digest", &policy.version.digest)]
}

fn faults(policy: &PolicyCounters) -> impl Iterator<Item = (&'static str, u64)> {
    FAULT_CLASSES.into_iter().zip(policy.faults)
}

fn state(breaker: BreakerState) -> u64 {
    match breaker {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    }
}

fn each<'a>(
    labels: Labels<'a>,
    key: &'static str,
    counts: impl IntoIterator<Item = (&'static str, u64)>,
) -> impl Iterator<Item = (Labels<'a>, u64)> {
    counts.into_iter().map(move |(value, count)| (with(labels.clone(), key, value), count))
}

fn one(value: u64) -> impl Iterator<Item = (Labels<'static>, u64)> {
    std::iter::once((vec![], value))
}

fn with<'a>(mut labels: Labels<'a>, key: &'static str, value: &'a str) -> Labels<'a> {
    labels.push((key, value));
    labels
}

/// Writes families of metrics; the encoder escapes label values and gives counters their `_total`.
struct Families<'e, 'w>(&'e mut DescriptorEncoder<'w>);

impl Families<'_, '_> {
    fn counter<'a>(&mut self, name: &str, help: &str, rows: impl Iterator<Item = (Labels<'a>, u64)>) -> fmt::Result {
        self.family(name, help, MetricType::Counter, rows, |mut series, value| series.encode_counter::<NoLabelSet, _, u64>(&value, None))
    }

    fn gauge<'a>(&mut self, name: &str, help: &str, rows: impl Iterator<Item = (Labels<'a>, u64)>) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, rows, |mut series, value| series.encode_gauge(&value))
    }

    fn ratio<'a>(&mut self, name: &str, help: &str, rows: impl Iterator<Item = (Labels<'a>, f64)>) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, rows, |mut series, value| series.encode_gauge(&value))
    }

    fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn histogram(&mut self, name: &str, help: &str, sync: &Sync) -> fmt::Result {
        let buckets: Vec<(f64, u64)> = SYNC_BOUNDS.into_iter().chain([f64::INFINITY]).zip(sync.durations).collect();
        let count = sync.durations.iter().sum();
        self.0.encode_descriptor(name, help, None, MetricType::Histogram)?.encode_histogram::<NoLabelSet>(
            sync.seconds,
            count,
            &buckets,
            None,
        )
    }

    fn family<'a, V>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        rows: impl Iterator<Item = (Labels<'a>, V)>,
        write: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in rows {
            // A series without labels would be written with empty braces.
            if labels.is_empty() {
                return write(family, value);
            }
            write(family.encode_family(&labels)?, value)?;
        }
        Ok(())
    }

    fn info(&mut self, name: &str, help: &str, labels: Labels<'_>) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(&labels)
    }
}

#[cfg(test)]
mod tests;
