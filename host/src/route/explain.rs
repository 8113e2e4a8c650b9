//! Why a connection went where it went, stage by stage: what `pointsman route` prints.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{By, Decision, Fate, source, unserved, why};
use crate::policy::contract::{Connection, StageKind, Verdict};
use crate::table::{FrontendKey, FrontendKind, Origin, Port, Slot, Stage, Table};

/// The answer to "where would this connection go?".
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Explanation {
    /// `forward`, `reject`, `drop` or `not-a-service`.
    pub verdict: &'static str,
    /// Why not, when it is not `forward`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `namespace/name:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Which of the Service's addresses was dialled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frontend: Option<&'static str>,
    /// Where the client is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<&'static str>,
    /// Of the table.
    pub generation: u64,
    /// In the order in which they were asked.
    pub stages: Vec<StageExplanation>,
    /// The candidate set.
    pub candidates: Vec<String>,
    /// Where it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// What Kubernetes does with the client's address: `kept`, or replaced by the `node`'s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<&'static str>,
    /// With `--connections`: how many went to each endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<BTreeMap<String, u64>>,
    /// With `--connections`: how many went nowhere, if any did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<u64>,
    /// What the random bits came from; `--seed` gives the same again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// What one stage did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageExplanation {
    /// Which stage.
    pub stage: StageKind,
    /// The policy that was asked.
    pub policy: String,
    /// Its choice, or why it was not asked.
    pub choice: String,
    /// What it left.
    pub kept: Vec<String>,
    /// What it took away, and why.
    pub removed: Vec<Removed>,
    /// What the balancer that is tried said, and whether the client is its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowExplanation>,
}

/// What a balancer that is tried beside the one in force said.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShadowExplanation {
    /// The candidate.
    pub policy: String,
    /// Its choice, or why it has none.
    pub choice: String,
    /// Whether the client is one of those that it is in charge of.
    pub canary: bool,
    /// The share of clients that it is in charge of, where it is of any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
}

/// An endpoint that a stage took away.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Removed {
    /// `ip:port`.
    pub endpoint: String,
    /// Why.
    pub why: String,
}

/// Explains a decision on a port of the table of this generation.
pub fn explain(generation: u64, port: &Port, connection: &Connection, decision: &Decision) -> Explanation {
    let in_group = |slot: Slot| decision.group.is_none() || port.endpoints[slot as usize].group == decision.group;
    let all = 0..port.endpoints.len() as Slot;
    let (grouped, other): (Vec<Slot>, Vec<Slot>) = all.partition(|slot| in_group(*slot));
    let candidates: Vec<Slot> =
        decision.set.and_then(|set| port.sets.get(set as usize)).map(|set| set.members.to_vec()).unwrap_or_default();
    let chosen = match decision.fate {
        Fate::Forward(slot) => Some(slot),
        Fate::Reject(_) | Fate::Drop(_) => None,
    };
    let keys = |slots: &[Slot]| slots.iter().map(|slot| port.endpoints[*slot as usize].key.to_string()).collect();
    let left_out = grouped.iter().filter(|slot| !candidates.contains(slot));
    let stages = vec![
        StageExplanation {
            stage: StageKind::Selector,
            policy: asked(&port.selector, &decision.selector),
            choice: said(&decision.selector, group_name(port, decision.group)),
            kept: keys(&grouped),
            removed: other.iter().map(|slot| removed(port, *slot, other_group(port, *slot))).collect(),
            shadow: None,
        },
        StageExplanation {
            stage: StageKind::TrafficPolicy,
            policy: asked(&port.traffic_policy, &decision.traffic_policy),
            choice: said(&decision.traffic_policy, verdict_name(port, decision.verdict)),
            kept: keys(&candidates),
            removed: left_out.map(|slot| removed(port, *slot, why::left_out(port, *slot, connection, decision.verdict))).collect(),
            shadow: None,
        },
        StageExplanation {
            stage: StageKind::Balancer,
            policy: match &port.shadow {
                Some(shadow) if decision.balancer == By::Canary => shadow.name.to_string(),
                _ => asked(&port.balancer, &decision.balancer),
            },
            choice: said(&decision.balancer, chosen.map_or("none".to_owned(), |slot| port.endpoints[slot as usize].key.to_string())),
            kept: keys(chosen.as_slice()),
            removed: candidates.iter().filter_map(|slot| never_picked(port, *slot)).collect(),
            shadow: shadow(port, decision),
        },
    ];
    Explanation {
        verdict: verdict_of(decision.fate),
        reason: why::refused(port, connection, decision),
        service: Some(port.to_string()),
        frontend: Some(frontend_name(connection.frontend)),
        origin: Some(origin_name(connection.origin)),
        generation,
        stages,
        candidates: keys(&candidates),
        endpoint: chosen.map(|slot| port.endpoints[slot as usize].key.to_string()),
        source: chosen.map(|slot| source::of(port, connection, &port.endpoints[slot as usize])),
        ..Explanation::default()
    }
}

/// Explains what becomes of a connection to an address that no Service port answers on.
pub fn explain_unserved(table: &Table, to: &FrontendKey) -> Explanation {
    let generation = table.generation;
    match unserved(table, to) {
        Some(fate) => Explanation {
            verdict: verdict_of(fate),
            reason: Some(why::nobody(table, to, fate)),
            frontend: Some(frontend_name(FrontendKind::ClusterIp)),
            generation,
            ..Explanation::default()
        },
        None => Explanation { verdict: "not-a-service", generation, ..Explanation::default() },
    }
}

fn verdict_of(fate: Fate) -> &'static str {
    match fate {
        Fate::Forward(_) => "forward",
        Fate::Reject(_) => "reject",
        Fate::Drop(_) => "drop",
    }
}

/// As in the decision log and the metrics.
pub fn frontend_name(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::ClusterIp => "cluster-ip",
        FrontendKind::NodePort => "node-port",
        FrontendKind::ExternalIp => "external-ip",
        FrontendKind::LoadBalancer => "load-balancer",
        FrontendKind::HostPort => "host-port",
    }
}

/// As in the decision log.
pub fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Pod => "pod",
        Origin::Node => "node",
        Origin::Outside => "outside",
    }
}

/// The group's name, as the selector gave it.
pub fn group_name(port: &Port, group: Option<u32>) -> String {
    match group {
        None => "any group".to_owned(),
        Some(group) => port.groups.get(group as usize).cloned().unwrap_or_else(|| format!("group {group}")),
    }
}

/// The subset's name, or the verdict.
pub fn verdict_name(port: &Port, verdict: Verdict) -> String {
    match verdict {
        Verdict::Forward(subset) => {
            port.subsets.get(subset as usize).map_or_else(|| format!("subset {subset}"), |subset| subset.name.clone())
        }
        Verdict::Reject => "reject".to_owned(),
        Verdict::Drop => "drop".to_owned(),
    }
}

fn asked<P>(stage: &Stage<P>, by: &By) -> String {
    let version = match by {
        By::Current => stage.current.as_ref(),
        By::StandIn(_) => stage.stand_in.as_ref().or(stage.current.as_ref()),
        By::Fallback(_) | By::NotAsked(_) | By::Canary => None,
    };
    version.map_or_else(|| stage.name.to_string(), |planned| planned.version.name.to_string())
}

fn said(by: &By, choice: String) -> String {
    match by {
        By::Current => choice,
        By::Canary => format!("{choice} (the client is a canary)"),
        By::StandIn(fault) => format!("{choice} (by the version before: the one in force {fault})"),
        By::Fallback(fault) => format!("{choice} (by the host's fallback: the policy {fault})"),
        By::NotAsked(why) => format!("not asked: {why}"),
    }
}

fn shadow(port: &Port, decision: &Decision) -> Option<ShadowExplanation> {
    let (shadow, shadowed) = (port.shadow.as_ref()?, decision.shadow.as_ref()?);
    Some(ShadowExplanation {
        policy: shadow.name.to_string(),
        choice: match &shadowed.candidate {
            Ok(slot) => port.endpoints[*slot as usize].key.to_string(),
            Err(fault) => format!("none: it {fault}"),
        },
        canary: shadowed.canary,
        share: shadow.canary.map(|canary| canary.in_force.to_string()),
    })
}

fn removed(port: &Port, slot: Slot, why: String) -> Removed {
    Removed { endpoint: port.endpoints[slot as usize].key.to_string(), why }
}

fn other_group(port: &Port, slot: Slot) -> String {
    format!("in group {}", group_name(port, port.endpoints[slot as usize].group))
}

fn never_picked(port: &Port, slot: Slot) -> Option<Removed> {
    let why = if port.masked.contains(&slot) {
        "it has just left"
    } else if port.endpoints[slot as usize].weight == 0 {
        "weight 0"
    } else {
        return None;
    };
    Some(removed(port, slot, why.to_owned()))
}
