//! Between the generated records and the SDK's.

use super::shared::pointsman::policy::types as wit;
use crate::types as sdk;

pub(super) fn each<A, B>(list: Vec<A>, convert: impl FnMut(A) -> B) -> Vec<B> {
    list.into_iter().map(convert).collect()
}

pub(super) fn label(label: wit::Label) -> sdk::Label {
    sdk::Label { key: label.key, value: label.value }
}

pub(super) fn setting(setting: wit::Setting) -> sdk::Setting {
    sdk::Setting { key: setting.key, value: setting.value }
}

pub(super) fn node(node: wit::Node) -> sdk::Node {
    sdk::Node { name: node.name, zone: node.zone, labels: each(node.labels, label) }
}

fn locality(locality: wit::Locality) -> sdk::Locality {
    match locality {
        wit::Locality::Cluster => sdk::Locality::Cluster,
        wit::Locality::Local => sdk::Locality::Local,
    }
}

pub(super) fn service_port(port: wit::ServicePort) -> sdk::ServicePort {
    sdk::ServicePort {
        id: port.id,
        namespace: port.namespace,
        name: port.name,
        port_name: port.port_name,
        port: port.port,
        protocol: match port.protocol {
            wit::Protocol::Tcp => sdk::Protocol::Tcp,
            wit::Protocol::Udp => sdk::Protocol::Udp,
            wit::Protocol::Sctp => sdk::Protocol::Sctp,
        },
        labels: each(port.labels, label),
        selector: port.selector.map(|selector| each(selector, label)),
        internal_traffic_policy: locality(port.internal_traffic_policy),
        external_traffic_policy: locality(port.external_traffic_policy),
        traffic_distribution: port.traffic_distribution,
        settings: each(port.settings, setting),
    }
}

pub(super) fn endpoint(endpoint: wit::Endpoint) -> sdk::Endpoint {
    sdk::Endpoint {
        slot: endpoint.slot,
        key: endpoint.key,
        hash: endpoint.hash,
        conditions: sdk::Conditions {
            ready: endpoint.conditions.contains(wit::Conditions::READY),
            serving: endpoint.conditions.contains(wit::Conditions::SERVING),
            terminating: endpoint.conditions.contains(wit::Conditions::TERMINATING),
        },
        weight: endpoint.weight,
        local: endpoint.local,
        node: endpoint.node,
        zone: endpoint.zone,
        node_hints: endpoint.node_hints,
        zone_hints: endpoint.zone_hints,
        labels: each(endpoint.labels, label),
        group: endpoint.group,
        ready_since_ms: endpoint.ready_since_ms,
    }
}

#[inline]
pub(super) fn connection(connection: wit::Connection) -> sdk::Connection {
    sdk::Connection {
        service: connection.service,
        client_hi: connection.client_hi,
        client_lo: connection.client_lo,
        client_port: connection.client_port,
        client_hash: connection.client_hash,
        frontend: match connection.frontend {
            wit::Frontend::ClusterIp => sdk::Frontend::ClusterIp,
            wit::Frontend::NodePort => sdk::Frontend::NodePort,
            wit::Frontend::ExternalIp => sdk::Frontend::ExternalIp,
            wit::Frontend::LoadBalancer => sdk::Frontend::LoadBalancer,
            wit::Frontend::HostPort => sdk::Frontend::HostPort,
        },
        origin: match connection.origin {
            wit::Origin::Pod => sdk::Origin::Pod,
            wit::Origin::Node => sdk::Origin::Node,
            wit::Origin::Outside => sdk::Origin::Outside,
        },
        attempt: connection.attempt,
        now_ms: connection.now_ms,
        random: connection.random,
    }
}
