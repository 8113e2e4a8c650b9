//! The contract's and the table's records, as recordings hold them.

use bincode::{Decode, Encode};
use serde::Serialize;

use super::frame::Bits;
use crate::policy::contract;
use crate::table::{self, Stage, VersionId};

/// The same variants under the same names, there and back.
macro_rules! mirror {
    ($(#[$meta:meta])* $name:ident of $from:path { $($variant:ident),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
        #[serde(rename_all = "kebab-case")]
        #[allow(missing_docs, reason = "each is the one of the same name there")]
        pub enum $name { $($variant),* }

        impl From<$from> for $name {
            fn from(value: $from) -> Self {
                match value { $(<$from>::$variant => Self::$variant),* }
            }
        }

        impl From<$name> for $from {
            fn from(value: $name) -> Self {
                match value { $($name::$variant => Self::$variant),* }
            }
        }
    };
}

mirror!(/// `contract::Connection::frontend`.
    Frontend of table::FrontendKind { ClusterIp, NodePort, ExternalIp, LoadBalancer, HostPort });
mirror!(/// `contract::Connection::origin`.
    Origin of table::Origin { Pod, Node, Outside });
mirror!(/// `contract::ServicePort::protocol`.
    Protocol of table::Protocol { Tcp, Udp, Sctp });
mirror!(/// `contract::ServicePort::internal_traffic_policy`.
    Locality of table::Locality { Cluster, Local });

/// A label or a setting.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Pair {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// `contract::Node`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct NodeRecord {
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: Option<String>,
    /// Its labels.
    pub labels: Vec<Pair>,
}

/// `contract::Endpoint`, without its slot: that is its place in the port.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EndpointRecord {
    /// `10.244.1.5:80`.
    pub key: String,
    /// xxh64 of `key`, seed 0.
    pub hash: Bits,
    /// Takes new connections.
    pub ready: bool,
    /// Answers its probe.
    pub serving: bool,
    /// Is being deleted.
    pub terminating: bool,
    /// 0: never picked.
    pub weight: u32,
    /// On this node.
    pub local: bool,
    /// Its node.
    pub node: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
    /// Hints.
    pub node_hints: Vec<String>,
    /// Hints.
    pub zone_hints: Vec<String>,
    /// The pod's labels.
    pub labels: Vec<Pair>,
    /// The selector's group.
    pub group: Option<u32>,
    /// When it last became ready.
    pub ready_since_ms: u64,
}

/// A Service port, with what was made of it. No settings: those are the recorded policies' own.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PortRecord {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The port's name, or nothing.
    pub port_name: String,
    /// The port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The Service's labels.
    pub labels: Vec<Pair>,
    /// Its selector.
    pub selector: Option<Vec<Pair>>,
    /// `spec.internalTrafficPolicy`.
    pub internal_traffic_policy: Locality,
    /// `spec.externalTrafficPolicy`.
    pub external_traffic_policy: Locality,
    /// `spec.trafficDistribution`.
    pub traffic_distribution: Option<String>,
    /// By slot: the numbers of the endpoints' records.
    pub endpoints: Vec<u32>,
    /// Slots that left since it was planned.
    pub masked: Vec<u32>,
    /// The selector's groups.
    pub groups: Vec<String>,
    /// The traffic policy's subsets.
    pub subsets: Vec<String>,
    /// The candidate sets.
    pub sets: Vec<SetRecord>,
    /// The versions of each stage: the one in force, and the one that stands in.
    pub versions: [Vec<u32>; 3],
}

/// A candidate set.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct SetRecord {
    /// None: any.
    pub group: Option<u32>,
    /// The subset.
    pub subset: u32,
    /// Slots, ascending.
    pub members: Vec<u32>,
}

impl EndpointRecord {
    /// As a table has it.
    pub fn of(endpoint: &table::Endpoint) -> Self {
        let labels = endpoint.labels.iter().map(|(key, value)| Pair { key: key.clone(), value: value.clone() });
        Self {
            key: endpoint.key.to_string(),
            hash: endpoint.hash.into(),
            ready: endpoint.conditions.ready,
            serving: endpoint.conditions.serving,
            terminating: endpoint.conditions.terminating,
            weight: endpoint.weight,
            local: endpoint.local,
            node: endpoint.node.as_deref().map(str::to_owned),
            zone: endpoint.zone.as_deref().map(str::to_owned),
            node_hints: endpoint.node_hints.clone(),
            zone_hints: endpoint.zone_hints.clone(),
            labels: labels.collect(),
            group: endpoint.group,
            ready_since_ms: endpoint.ready_since_ms,
        }
    }

    /// As a planner is told of it.
    pub fn endpoint(&self, slot: u32) -> contract::Endpoint {
        contract::Endpoint {
            slot,
            key: self.key.clone(),
            hash: self.hash.into(),
            conditions: table::Conditions { ready: self.ready, serving: self.serving, terminating: self.terminating },
            weight: self.weight,
            local: self.local,
            node: self.node.clone(),
            zone: self.zone.clone(),
            node_hints: self.node_hints.clone(),
            zone_hints: self.zone_hints.clone(),
            labels: labels(&self.labels),
            group: self.group,
            ready_since_ms: self.ready_since_ms,
        }
    }
}

impl PortRecord {
    /// As a table has it; `endpoints` are the numbers of its endpoints' records.
    pub fn of(port: &table::Port, endpoints: Vec<u32>) -> Self {
        let record = &port.record;
        let set = |set: &table::CandidateSet| SetRecord { group: set.group, subset: set.subset, members: set.members.to_vec() };
        Self {
            namespace: record.namespace.clone(),
            name: record.name.clone(),
            port_name: record.port_name.clone(),
            port: record.port,
            protocol: record.protocol.into(),
            labels: pairs(&record.labels),
            selector: record.selector.as_deref().map(pairs),
            internal_traffic_policy: record.internal_traffic_policy.into(),
            external_traffic_policy: record.external_traffic_policy.into(),
            traffic_distribution: record.traffic_distribution.clone(),
            endpoints,
            masked: port.masked.to_vec(),
            groups: port.groups.to_vec(),
            subsets: port.subsets.iter().map(|subset| subset.name.clone()).collect(),
            sets: port.sets.iter().map(set).collect(),
            versions: [versions(&port.selector), versions(&port.traffic_policy), versions(&port.balancer)],
        }
    }

    /// As a planner is told of it.
    pub fn port(&self, id: u32) -> contract::ServicePort {
        contract::ServicePort {
            id,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            port_name: self.port_name.clone(),
            port: self.port,
            protocol: self.protocol.into(),
            labels: labels(&self.labels),
            selector: self.selector.as_deref().map(labels),
            internal_traffic_policy: self.internal_traffic_policy.into(),
            external_traffic_policy: self.external_traffic_policy.into(),
            traffic_distribution: self.traffic_distribution.clone(),
            settings: Vec::new(),
        }
    }
}

impl NodeRecord {
    /// As policies are told of it.
    pub fn of(node: &contract::Node) -> Self {
        Self { name: node.name.clone(), zone: node.zone.clone(), labels: pairs(&node.labels) }
    }

    /// As policies are told of it.
    pub fn node(&self) -> contract::Node {
        contract::Node { name: self.name.clone(), zone: self.zone.clone(), labels: labels(&self.labels) }
    }
}

impl From<&contract::Setting> for Pair {
    fn from(setting: &contract::Setting) -> Self {
        Self { key: setting.key.clone(), value: setting.value.clone() }
    }
}

impl From<&Pair> for contract::Setting {
    fn from(pair: &Pair) -> Self {
        Self { key: pair.key.clone(), value: pair.value.clone() }
    }
}

fn pairs(labels: &[contract::Label]) -> Vec<Pair> {
    labels.iter().map(|label| Pair { key: label.key.clone(), value: label.value.clone() }).collect()
}

fn labels(pairs: &[Pair]) -> Vec<contract::Label> {
    pairs.iter().map(|pair| contract::Label { key: pair.key.clone(), value: pair.value.clone() }).collect()
}

fn versions<P>(stage: &Stage<P>) -> Vec<u32> {
    stage.planned().map(|planned| planned.version.id).map(|VersionId(id)| id).collect()
}
