//! What the host says of itself: the records of the modules as log lines, events, metrics and answers of the admin port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::canaries::{self, Canaries};
use crate::admin::{self, Bound, BoundFrontend, Event, EventLog, NotServed, PolicyStatus, ProbeCount, Refused, RefusedKind};
use crate::control::Update;
use crate::dataplane::DataPlane;
use crate::objects::{Diagnostic, Severity};
use crate::observe::{ShadowSnapshot, Snapshot};
use crate::policy::Refusal;
use crate::policy::counters::PolicyCounters;
use crate::policy::registry::{self, Swapped};
use crate::policy::worker::WorkerPolicies;
use crate::probe::{self, KeyKind, Verdict};
use crate::route::explain::frontend_name;
use crate::table::{Locality, PolicyVersion, Port, Protocol, ServiceId, Table, VersionId};
use crate::workbench::report::{Report, Subject};
use crate::workbench::{self, shadow::Compared};

/// Something that is no diagnostic of a manifest.
pub(super) fn notice(events: &EventLog, severity: admin::Severity, message: String, remedy: Option<String>) {
    match severity {
        admin::Severity::Error => tracing::error!("{message}"),
        admin::Severity::Warning => tracing::warn!("{message}"),
        admin::Severity::Info => tracing::info!("{message}"),
    }
    let time = SystemTime::now();
    events.record(Event { time, severity, file: None, line: None, object: None, field: None, message, remedy });
}

/// What is wrong with a manifest.
pub(super) fn diagnostic(events: &EventLog, diagnostic: Diagnostic) {
    let summary = diagnostic.summary();
    let help = diagnostic.remedy.as_deref().map(|remedy| format!(" (help: {remedy})")).unwrap_or_default();
    let severity = match diagnostic.severity {
        Severity::Error => {
            tracing::error!("{summary}{help}");
            admin::Severity::Error
        }
        Severity::Warning => {
            tracing::warn!("{summary}{help}");
            admin::Severity::Warning
        }
    };
    let Diagnostic { severity: _, file, line, column: _, object, field, message, remedy } = diagnostic;
    events.record(Event { time: SystemTime::now(), severity, file, line, object, field, message, remedy });
}

/// Which Service ports a new table changes, for whoever waits for a change to be seen.
pub(super) fn table(before: &Table, update: &Update) {
    // A table that only masks endpoints is followed at once by the one that is worth a line.
    if update.table.generation == before.generation || update.changed.len() + update.removed.len() == 0 {
        return;
    }
    let port = |id: &ServiceId| update.table.port(*id).or_else(|| before.port(*id)).map(ToString::to_string);
    let named: Vec<String> = update.changed.iter().chain(&update.removed).take(MAX_NAMED).filter_map(port).collect();
    let more = (update.changed.len() + update.removed.len()).saturating_sub(MAX_NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    tracing::info!("table generation {}: {}{more}", update.table.generation, named.join(", "));
}

/// A policy has a new version in force.
pub(super) fn swapped(events: &EventLog, swapped: &Swapped, by: &str) {
    if swapped.changed {
        let before = swapped.previous.as_deref().map(|digest| format!(", before it {digest}")).unwrap_or_default();
        let message = format!("{} \"{}\" is now {}{before} (by {by})", swapped.stage.name(), swapped.name, swapped.digest);
        notice(events, admin::Severity::Info, message, None);
    }
}

/// A policy file was refused; what was in force still is.
pub(super) fn refused(events: &EventLog, name: &str, refusal: &Refusal) {
    let message = format!("policy \"{name}\" was refused: {refusal}");
    notice(events, admin::Severity::Error, message, Some("what was in force still is; put a sound component in its place".to_owned()));
}

/// As the admin port says it.
pub(super) fn reply(swapped: &Swapped) -> admin::Swapped {
    admin::Swapped {
        name: swapped.name.to_string(),
        stage: swapped.stage.name().to_owned(),
        digest: swapped.digest.to_string(),
        previous: swapped.previous.as_deref().map(ToOwned::to_owned),
        changed: swapped.changed,
    }
}

/// As the admin port says it.
pub(super) fn refusal(refusal: &Refusal) -> Refused {
    let kind = match refusal {
        Refusal::Unknown { .. } => RefusedKind::UnknownPolicy,
        Refusal::Reserved(_) | Refusal::NothingToRollBack(_) | Refusal::OtherStage { .. } => RefusedKind::Conflict,
        Refusal::File { .. } | Refusal::Sandbox(_) => RefusedKind::Internal,
        _ => RefusedKind::Component,
    };
    Refused { kind, error: refusal.to_string(), remedy: None }
}

/// What is listened on and what is not.
pub(super) fn bound(plane: &DataPlane<WorkerPolicies>, admin: Option<SocketAddr>) -> Bound {
    let frontends = plane.bound().into_iter().map(|bound| BoundFrontend {
        service: bound.service,
        frontend: frontend_name(bound.kind).to_owned(),
        address: SocketAddr::new(bound.key.ip, bound.key.port),
        protocol: protocol_name(bound.key.protocol).to_owned(),
        bound: bound.address,
    });
    let not_served = plane.not_served().into_iter().map(|not| NotServed {
        address: SocketAddr::new(not.key.ip, not.key.port),
        service: not.service,
        why: not.why,
    });
    Bound { frontends: frontends.collect(), admin, not_served: not_served.collect() }
}

/// Logs what is listened on since the last time, and what no longer is.
pub(super) fn log_changes(before: &Bound, now: &Bound) {
    for new in now.frontends.iter().filter(|frontend| !before.frontends.contains(frontend)) {
        let BoundFrontend { service, frontend, address, protocol, bound } = new;
        let mapped = if address == bound { String::new() } else { format!(" at {bound}") };
        tracing::info!("listening: {service} {frontend} {address}/{protocol}{mapped}");
    }
    for gone in before.frontends.iter().filter(|frontend| !now.frontends.contains(frontend)) {
        tracing::info!("no longer listening: {} {} {}/{}", gone.service, gone.frontend, gone.address, gone.protocol);
    }
}

/// Every policy, with the worst state of its breakers.
pub(super) fn policies(policies: &[registry::PolicyStatus], counters: &[Vec<PolicyCounters>]) -> Vec<PolicyStatus> {
    // Where a version is in force, what it does as one that is tried is another matter.
    let breaker = |digest: &str| {
        let of_version = counters.iter().flatten().filter(|counters| *counters.version.digest == *digest);
        of_version.max_by_key(|counters| (!counters.candidate, counters.breaker)).map(|counters| counters.breaker.name().to_owned())
    };
    let status = |policy: &registry::PolicyStatus| PolicyStatus {
        name: policy.name.to_string(),
        stage: policy.stage.name().to_owned(),
        digest: policy.digest.to_string(),
        builtin: policy.builtin,
        previous: policy.previous.as_deref().map(ToOwned::to_owned),
        breaker: breaker(&policy.digest),
    };
    policies.iter().map(status).collect()
}

/// What came of a balancer that is tried on a Service; none where nobody is.
pub(super) fn shadow(
    table: &Table,
    traffic: &Snapshot,
    canaries: &Canaries,
    namespace: &str,
    name: &str,
    fuel_limit: impl FnOnce(VersionId) -> u64,
) -> Option<Report> {
    let named = |port: &Port| port.record.namespace == namespace && port.record.name == name;
    let (port, shadow) = table.shadowed().find(|(port, _)| named(port))?;
    let key = canaries::key(port);
    let nothing = ShadowSnapshot::default();
    let subject = |name: &str, version: Option<&Arc<PolicyVersion>>| Subject {
        name: name.to_owned(),
        digest: version.map(|version| version.digest.to_string()),
    };
    let subjects = [
        subject(&port.balancer.name, port.balancer.current.as_ref().map(|planned| &planned.version)),
        subject(&shadow.name, shadow.planned.as_ref().map(|planned| &planned.version)),
    ];
    Some(workbench::shadow::report(&Compared {
        service: format!("{namespace}/{name}"),
        subjects,
        canary: shadow.canary,
        rolled_back: canaries.reason(&key).filter(|_| shadow.canary.is_some_and(|canary| canary.rolled_back())),
        counts: traffic.shadows.get(&key).unwrap_or(&nothing),
        fuel_limit: shadow.planned.as_ref().map_or(0, |planned| fuel_limit(planned.version.id)),
    }))
}

/// Service ports that one log line names.
const MAX_NAMED: usize = 5;

/// Attempts to probe, for metrics.
pub(super) fn probes(counts: &probe::Counts) -> Vec<ProbeCount> {
    let count = |(kind, verdict, count): &(KeyKind, Verdict, u64)| ProbeCount { kind: kind.name(), result: verdict.name(), count: *count };
    counts.attempts.iter().map(count).collect()
}

/// Service ports under a Local policy that have endpoints to use, and none on this node: internal, external.
pub(super) fn no_local_endpoints(table: &Table) -> [u64; 2] {
    let lacks = |port: &Port| {
        let mut usable = port.endpoints.iter().filter(|endpoint| endpoint.conditions.ready || endpoint.conditions.serving).peekable();
        usable.peek().is_some() && !usable.any(|endpoint| endpoint.local)
    };
    let mut counts = [0; 2];
    for port in table.ports.iter().flatten() {
        let local = [port.record.internal_traffic_policy, port.record.external_traffic_policy].map(|policy| policy == Locality::Local);
        if (local[0] || local[1]) && lacks(port) {
            counts.iter_mut().zip(local).for_each(|(count, local)| *count += u64::from(local));
        }
    }
    counts
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}
