//! The records of the contract as they cross into a guest and back (`wit/policy.wit`): borrowed where they go in, owned where they
//! come out. Field order and names are the WIT's; wasmtime checks both when an instance is made.

use wasmtime::component::{ComponentType, Lift, Lower, flags};

use super::contract;
use pointsman_sdk::types as sdk;

macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident from $from:path { $($variant:ident = $text:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(ComponentType, Lower, Clone, Copy)]
        #[component(enum)]
        #[repr(u8)]
        pub(super) enum $name { $(#[component(name = $text)] $variant),* }

        impl From<$from> for $name {
            fn from(value: $from) -> Self {
                match value { $(<$from>::$variant => Self::$variant),* }
            }
        }
    };
}

wire_enum!(Protocol from sdk::Protocol { Tcp = "tcp", Udp = "udp", Sctp = "sctp" });
wire_enum!(Frontend from sdk::Frontend {
    ClusterIp = "cluster-ip", NodePort = "node-port", ExternalIp = "external-ip", LoadBalancer = "load-balancer", HostPort = "host-port",
});
wire_enum!(Origin from sdk::Origin { Pod = "pod", Node = "node", Outside = "outside" });
wire_enum!(Locality from sdk::Locality { Cluster = "cluster", Local = "local" });
wire_enum!(OutcomeKind from sdk::OutcomeKind {
    Connected = "connected", Refused = "refused", TimedOut = "timed-out", Reset = "reset", Closed = "closed",
});

flags! {
    Conditions {
        #[component(name = "ready")]
        const READY;
        #[component(name = "serving")]
        const SERVING;
        #[component(name = "terminating")]
        const TERMINATING;
    }
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(super) struct Connection {
    service: u32,
    #[component(name = "client-hi")]
    client_hi: u64,
    #[component(name = "client-lo")]
    client_lo: u64,
    #[component(name = "client-port")]
    client_port: u16,
    #[component(name = "client-hash")]
    client_hash: u64,
    frontend: Frontend,
    origin: Origin,
    attempt: u32,
    #[component(name = "now-ms")]
    now_ms: u64,
    random: u64,
}

impl From<&contract::Connection> for Connection {
    fn from(c: &contract::Connection) -> Self {
        Self {
            service: c.service,
            client_hi: c.client_hi,
            client_lo: c.client_lo,
            client_port: c.client_port,
            client_hash: c.client_hash,
            frontend: c.frontend.into(),
            origin: c.origin.into(),
            attempt: c.attempt,
            now_ms: c.now_ms,
            random: c.random,
        }
    }
}

/// A label or a setting: both are a key and a value.
#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(super) struct Pair<'a> {
    key: &'a str,
    value: &'a str,
}

pub(super) fn labels(labels: &[contract::Label]) -> Vec<Pair<'_>> {
    labels.iter().map(|l| Pair { key: &l.key, value: &l.value }).collect()
}

pub(super) fn settings(settings: &[contract::Setting]) -> Vec<Pair<'_>> {
    settings.iter().map(|s| Pair { key: &s.key, value: &s.value }).collect()
}

#[derive(ComponentType, Lower, Clone)]
#[component(record)]
pub(super) struct ServicePort<'a> {
    id: u32,
    namespace: &'a str,
    name: &'a str,
    #[component(name = "port-name")]
    port_name: &'a str,
    port: u16,
    protocol: Protocol,
    labels: Vec<Pair<'a>>,
    selector: Option<Vec<Pair<'a>>>,
    #[component(name = "internal-traffic-policy")]
    internal_traffic_policy: Locality,
    #[component(name = "external-traffic-policy")]
    external_traffic_policy: Locality,
    #[component(name = "traffic-distribution")]
    traffic_distribution: Option<&'a str>,
    settings: Vec<Pair<'a>>,
}

impl<'a> From<&'a contract::ServicePort> for ServicePort<'a> {
    fn from(port: &'a contract::ServicePort) -> Self {
        Self {
            id: port.id,
            namespace: &port.namespace,
            name: &port.name,
            port_name: &port.port_name,
            port: port.port,
            protocol: port.protocol.into(),
            labels: labels(&port.labels),
            selector: port.selector.as_deref().map(labels),
            internal_traffic_policy: port.internal_traffic_policy.into(),
            external_traffic_policy: port.external_traffic_policy.into(),
            traffic_distribution: port.traffic_distribution.as_deref(),
            settings: settings(&port.settings),
        }
    }
}

#[derive(ComponentType, Lower, Clone)]
#[component(record)]
pub(super) struct Endpoint<'a> {
    slot: u32,
    key: &'a str,
    hash: u64,
    conditions: Conditions,
    weight: u32,
    local: bool,
    node: Option<&'a str>,
    zone: Option<&'a str>,
    #[component(name = "node-hints")]
    node_hints: &'a [String],
    #[component(name = "zone-hints")]
    zone_hints: &'a [String],
    labels: Vec<Pair<'a>>,
    group: Option<u32>,
    #[component(name = "ready-since-ms")]
    ready_since_ms: u64,
}

impl<'a> From<&'a contract::Endpoint> for Endpoint<'a> {
    fn from(e: &'a contract::Endpoint) -> Self {
        let mut conditions = Conditions::empty();
        for (set, flag) in [
            (e.conditions.ready, Conditions::READY),
            (e.conditions.serving, Conditions::SERVING),
            (e.conditions.terminating, Conditions::TERMINATING),
        ] {
            if set {
                conditions |= flag;
            }
        }
        Self {
            slot: e.slot,
            key: &e.key,
            hash: e.hash,
            conditions,
            weight: e.weight,
            local: e.local,
            node: e.node.as_deref(),
            zone: e.zone.as_deref(),
            node_hints: &e.node_hints,
            zone_hints: &e.zone_hints,
            labels: labels(&e.labels),
            group: e.group,
            ready_since_ms: e.ready_since_ms,
        }
    }
}

#[derive(ComponentType, Lower, Clone)]
#[component(record)]
pub(super) struct Node<'a> {
    name: &'a str,
    zone: Option<&'a str>,
    labels: Vec<Pair<'a>>,
}

impl<'a> From<&'a contract::Node> for Node<'a> {
    fn from(node: &'a contract::Node) -> Self {
        Self { name: &node.name, zone: node.zone.as_deref(), labels: labels(&node.labels) }
    }
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(variant)]
pub(super) enum Place {
    #[component(name = "planner")]
    Planner,
    #[component(name = "worker")]
    Worker(u64),
}

impl From<contract::Place> for Place {
    fn from(place: contract::Place) -> Self {
        match place {
            contract::Place::Planner => Self::Planner,
            contract::Place::Worker(seed) => Self::Worker(seed),
        }
    }
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(super) struct Outcome {
    service: u32,
    endpoint: u64,
    kind: OutcomeKind,
    millis: u32,
}

impl From<&contract::Outcome> for Outcome {
    fn from(o: &contract::Outcome) -> Self {
        Self { service: o.service, endpoint: o.endpoint, kind: o.kind.into(), millis: o.millis }
    }
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct Description {
    name: String,
    version: String,
    summary: String,
}

impl From<Description> for contract::Description {
    fn from(d: Description) -> Self {
        Self { name: d.name, version: d.version, summary: d.summary }
    }
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct Grouping {
    groups: Vec<String>,
    data: Vec<u8>,
}

impl From<Grouping> for contract::Grouping {
    fn from(g: Grouping) -> Self {
        Self { groups: g.groups, data: g.data }
    }
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct Subset {
    name: String,
    members: Vec<u32>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct Partition {
    subsets: Vec<Subset>,
    data: Vec<u8>,
}

impl From<Partition> for contract::Partition {
    fn from(p: Partition) -> Self {
        let subsets = p.subsets.into_iter().map(|s| contract::Subset { name: s.name, members: s.members }).collect();
        Self { subsets, data: p.data }
    }
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(variant)]
pub(super) enum Verdict {
    #[component(name = "forward")]
    Forward(u32),
    #[component(name = "reject")]
    Reject,
    #[component(name = "drop")]
    Drop,
}

impl From<Verdict> for contract::Verdict {
    fn from(v: Verdict) -> Self {
        match v {
            Verdict::Forward(subset) => Self::Forward(subset),
            Verdict::Reject => Self::Reject,
            Verdict::Drop => Self::Drop,
        }
    }
}

/// How grave a guest's log line is.
#[allow(dead_code, reason = "`Lift` makes the variants from their numbers")]
#[derive(ComponentType, Lift, Clone, Copy, Debug, PartialEq, Eq)]
#[component(enum)]
#[repr(u8)]
pub(super) enum LogLevel {
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}
