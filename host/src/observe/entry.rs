//! One line of the decision log, as JSON. The schema is part of the product (docs/), so it is written out here field by field.

use serde::Serialize;

use super::record::{ConnectionRecord, Outcome};
use crate::policy::contract::{Fault, StageKind};
use crate::route::explain::{frontend_name, group_name, origin_name, verdict_name};
use crate::route::{By, Decision, Fate};
use crate::table::{FrontendKey, Port, Protocol, Slot, Stage};

/// A connection, from accept to close.
#[derive(Serialize)]
struct Entry<'a> {
    time: String,
    generation: u64,
    service: String,
    frontend: &'static str,
    address: String,
    protocol: &'static str,
    client: String,
    origin: &'static str,
    stages: [StageEntry<'a>; 3],
    verdict: &'static str,
    /// Why it was not forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The endpoint that accepted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    /// Whom it saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
    /// The endpoints that could not be reached before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<AttemptEntry<'a>>,
    outcome: &'static str,
    bytes_in: u64,
    bytes_out: u64,
    duration_ms: u64,
    worker: u16,
}

/// What one stage said.
#[derive(Serialize)]
struct StageEntry<'a> {
    stage: StageKind,
    policy: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    choice: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_asked: Option<&'static str>,
    /// The fault after which someone else chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<String>,
    /// Who chose then: `stand-in` or `native`. `canary`: the balancer that is tried, since this client is its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'static str>,
    /// What the balancer that is tried said.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<ShadowEntry<'a>>,
}

/// A balancer that is tried beside the one in force.
#[derive(Serialize)]
struct ShadowEntry<'a> {
    policy: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    choice: Option<&'a str>,
    /// Why it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    /// Whether the client is one of its own.
    canary: bool,
}

/// An endpoint that could not be reached.
#[derive(Serialize)]
struct AttemptEntry<'a> {
    endpoint: &'a str,
    result: &'static str,
}

/// Appends the line, with its newline.
pub(super) fn write_line(record: &ConnectionRecord, line: &mut Vec<u8>) {
    let start = line.len();
    if serde_json::to_writer(&mut *line, &Entry::of(record)).is_err() {
        // Strings and numbers into memory: cannot fail; half a line would still be worse than none.
        line.truncate(start);
        return;
    }
    line.push(b'\n');
}

impl<'a> Entry<'a> {
    fn of(record: &'a ConnectionRecord) -> Self {
        let (port, decision) = (&*record.port, &record.decision);
        let picked = match decision.fate {
            Fate::Forward(slot) => Some(slot),
            Fate::Reject(_) | Fate::Drop(_) => None,
        };
        let endpoint = picked.filter(|_| reached(record.outcome)).and_then(|slot| key(port, slot));
        Self {
            time: time(record.at),
            generation: record.generation,
            service: port.to_string(),
            frontend: frontend_name(record.kind),
            address: address(&record.frontend),
            protocol: protocol(record.frontend.protocol),
            client: record.client.to_string(),
            origin: origin_name(record.origin),
            stages: [
                stage(StageKind::Selector, &port.selector, &decision.selector, || group_name(port, decision.group)),
                stage(StageKind::TrafficPolicy, &port.traffic_policy, &decision.traffic_policy, || verdict_name(port, decision.verdict)),
                balancer(port, decision, picked),
            ],
            verdict: verdict(record.outcome),
            reason: reason(record),
            endpoint,
            source: endpoint.map(|_| record.source.text()),
            attempts: record
                .failures
                .iter()
                .map(|failure| AttemptEntry { endpoint: &failure.endpoint, result: failure.why.text() })
                .collect(),
            outcome: record.outcome.text(),
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            duration_ms: record.duration.as_millis() as u64,
            worker: record.worker,
        }
    }
}

/// Of the balancer, and of the one that is tried.
fn balancer<'a>(port: &'a Port, decision: &'a Decision, picked: Option<Slot>) -> StageEntry<'a> {
    let choice = || picked.and_then(|slot| key(port, slot)).unwrap_or("none").to_owned();
    let mut entry = stage(StageKind::Balancer, &port.balancer, &decision.balancer, choice);
    let Some(shadow) = &port.shadow else { return entry };
    let digest = shadow.planned.as_ref().map(|planned| &*planned.version.digest);
    if decision.balancer == By::Canary {
        (entry.policy, entry.digest) = (&shadow.name, digest);
    }
    entry.shadow = decision.shadow.as_ref().map(|shadowed| ShadowEntry {
        policy: &shadow.name,
        digest,
        choice: shadowed.candidate.as_ref().ok().and_then(|slot| key(port, *slot)),
        fault: shadowed.candidate.as_ref().err().map(|fault| fault.to_string()),
        canary: shadowed.canary,
    });
    entry
}

fn stage<'a, P>(kind: StageKind, stage: &'a Stage<P>, by: &By, choice: impl FnOnce() -> String) -> StageEntry<'a> {
    let asked = match by {
        By::Current => stage.current.as_ref(),
        By::StandIn(_) => stage.stand_in.as_ref().or(stage.current.as_ref()),
        By::Fallback(_) | By::NotAsked(_) | By::Canary => None,
    };
    let (fallback, by_whom): (Option<&Fault>, _) = match by {
        By::Current | By::NotAsked(_) => (None, None),
        By::Canary => (None, Some("canary")),
        By::StandIn(fault) => (Some(fault), Some("stand-in")),
        By::Fallback(fault) => (Some(fault), Some("native")),
    };
    let not_asked = match by {
        By::NotAsked(why) => Some(*why),
        _ => None,
    };
    StageEntry {
        stage: kind,
        policy: asked.map_or(&stage.name, |planned| &planned.version.name),
        digest: asked.or(stage.current.as_ref()).map(|planned| &*planned.version.digest),
        choice: not_asked.is_none().then(choice),
        not_asked,
        fallback: fallback.map(Fault::to_string),
        by: by_whom,
        shadow: None,
    }
}

fn verdict(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Rejected => "reject",
        Outcome::Dropped => "drop",
        _ => "forward",
    }
}

/// Why the connection reached no endpoint.
fn reason(record: &ConnectionRecord) -> Option<&'static str> {
    match (record.outcome, record.decision.fate) {
        (Outcome::Rejected | Outcome::Dropped | Outcome::ConnectFailed, Fate::Reject(reason) | Fate::Drop(reason)) => Some(reason.text()),
        (Outcome::ConnectFailed, Fate::Forward(_)) => Some("every attempt to connect failed"),
        _ => None,
    }
}

fn reached(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Rejected | Outcome::Dropped | Outcome::ConnectFailed)
}

fn key(port: &Port, slot: Slot) -> Option<&str> {
    Some(&port.endpoints.get(slot as usize)?.key)
}

fn address(key: &FrontendKey) -> String {
    std::net::SocketAddr::new(key.ip, key.port).to_string()
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// RFC 3339, in UTC, to the millisecond.
fn time(at: std::time::SystemTime) -> String {
    jiff::Timestamp::try_from(at).map(|time| format!("{time:.3}")).unwrap_or_default()
}
