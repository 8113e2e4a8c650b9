//! Why an endpoint was left out, and why a connection was refused. A policy does not say; the Service's and its endpoints' own state
//! does, in the order in which Kubernetes' rules look at it.

use pointsman_sdk::verdicts::is_local;

use super::explain::verdict_name;
use super::unserved::owner;
use super::{Decision, Fate, Reason};
use crate::policy::contract::{Connection, Verdict};
use crate::table::{Conditions, Endpoint, FrontendKey, FrontendKind, Port, Protocol, Slot, Table};

/// Why the traffic policy left an endpoint out.
pub(super) fn left_out(port: &Port, slot: Slot, connection: &Connection, verdict: Verdict) -> String {
    let endpoint = &port.endpoints[slot as usize];
    let conditions = endpoint.conditions;
    if !conditions.ready && conditions.terminating && !conditions.serving {
        "terminating and no longer serving".to_owned()
    } else if !conditions.ready && !conditions.terminating {
        "not ready".to_owned()
    } else if is_local(&port.record, connection.frontend, connection.origin) && !endpoint.local {
        let node = endpoint.node.as_deref().map_or("no known node".into(), |node| format!("node {node}"));
        format!("{} is Local, and it is on {node}", field(connection.frontend))
    } else if !conditions.ready {
        "terminating, and a ready endpoint is there".to_owned()
    } else {
        format!("not in \"{}\"{}", verdict_name(port, verdict), hints(endpoint))
    }
}

/// Why the connection goes nowhere; `None`: it goes somewhere.
pub(super) fn refused(port: &Port, connection: &Connection, decision: &Decision) -> Option<String> {
    let (Fate::Reject(reason) | Fate::Drop(reason)) = decision.fate else { return None };
    Some(match reason {
        Reason::SourceRange => {
            let ranges: Vec<String> = port.options.source_ranges.iter().map(ToString::to_string).collect();
            format!("{} is outside loadBalancerSourceRanges ({})", connection.client(), ranges.join(", "))
        }
        Reason::TrafficPolicy => by_traffic_policy(port, connection, decision).unwrap_or_else(|| reason.text().to_owned()),
        _ => reason.text().to_owned(),
    })
}

/// Why nobody answers at this address.
pub(super) fn nobody(table: &Table, to: &FrontendKey, fate: Fate) -> String {
    let (Fate::Reject(reason) | Fate::Drop(reason)) = fate else { return String::new() };
    let owner = owner(table, to).and_then(|service| table.port(service));
    match owner {
        Some(port) => {
            let record = &port.record;
            let protocol = protocol_name(to.protocol);
            format!("{} is the cluster IP of {}/{}, which has no port {}/{protocol}", to.ip, record.namespace, record.name, to.port)
        }
        None => format!("{}: {}", to.ip, reason.text()),
    }
}

/// What Kubernetes' rules say, where they come to the same verdict as the policy did.
fn by_traffic_policy(port: &Port, connection: &Connection, decision: &Decision) -> Option<String> {
    let usable = |conditions: Conditions| conditions.ready || (conditions.serving && conditions.terminating);
    let in_group = |endpoint: &&Endpoint| decision.group.is_none() || endpoint.group == decision.group;
    let asked: Vec<&Endpoint> = port.endpoints.iter().filter(in_group).collect();
    let usable: Vec<&Endpoint> = asked.iter().copied().filter(|endpoint| usable(endpoint.conditions)).collect();
    let is_local = is_local(&port.record, connection.frontend, connection.origin);
    match decision.verdict {
        Verdict::Reject if asked.is_empty() => Some("there is no endpoint".to_owned()),
        Verdict::Reject if usable.is_empty() => {
            Some(format!("none of {} is ready, and none serves while it terminates", endpoints(asked.len())))
        }
        Verdict::Drop if is_local && !usable.is_empty() && usable.iter().all(|endpoint| !endpoint.local) => {
            let field = field(connection.frontend);
            Some(format!("{field} is Local: no usable endpoint is on this node, {} elsewhere", endpoints(usable.len())))
        }
        _ => None,
    }
}

/// Which field says `Local` or `Cluster` here.
fn field(frontend: FrontendKind) -> &'static str {
    if frontend == FrontendKind::ClusterIp { "internalTrafficPolicy" } else { "externalTrafficPolicy" }
}

fn endpoints(count: usize) -> String {
    if count == 1 { "1 endpoint".to_owned() } else { format!("{count} endpoints") }
}

/// What the EndpointSlice says of who should use an endpoint.
fn hints(endpoint: &Endpoint) -> String {
    let list = |kind: &str, names: &[String]| (!names.is_empty()).then(|| format!("{kind} {}", names.join(", ")));
    let hints: Vec<String> = [list("nodes", &endpoint.node_hints), list("zones", &endpoint.zone_hints)].into_iter().flatten().collect();
    if hints.is_empty() { String::new() } else { format!(": hinted for {}", hints.join(", ")) }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}
