//! Which pods are a Service's endpoints, and what is said of each (kubernetes-semantics 2.1, 2.2, 2.6, 1.3).

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::control::endpoints::{Nodes, conditions, target_port};
use crate::control::index::PodEntry;
use crate::objects::model::{Conditions, EndpointPort, IpFamily, Pod, Protocol, Service, ServicePort, SliceEndpoint, TargetPort};

/// What makes two sets of ports one: Kubernetes hashes the same (`NewPortMapKey`).
pub(super) type PortsKey = Vec<(String, Protocol, u16, Option<String>)>;

/// The key of a set of ports, whatever their order.
pub(super) fn ports_key(ports: &[EndpointPort]) -> PortsKey {
    let of = |port: &EndpointPort| (port.name.clone(), port.protocol, port.port, port.app_protocol.clone());
    let mut key: PortsKey = ports.iter().map(of).collect();
    key.sort();
    key
}

/// A pod that is to be an endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) pod: &'a Pod,
    pub(super) ip: IpAddr,
    conditions: Conditions,
    zone: Option<&'a str>,
    hostname: Option<&'a str>,
}

impl<'a> Candidate<'a> {
    /// Whether it is this endpoint, in whatever state (upstream: `hashEndpoint`).
    pub(super) fn is(&self, endpoint: &SliceEndpoint) -> bool {
        endpoint.pod.as_deref() == Some(&self.pod.meta.name) && endpoint.ip == self.ip && endpoint.hostname.as_deref() == self.hostname
    }

    /// Whether nothing but its hints may differ.
    pub(super) fn equals(&self, endpoint: &SliceEndpoint) -> bool {
        self.is(endpoint)
            && endpoint.conditions == self.conditions
            && endpoint.node == self.pod.node
            && endpoint.zone.as_deref() == self.zone
    }

    pub(super) fn endpoint(&self) -> SliceEndpoint {
        SliceEndpoint {
            ip: self.ip,
            conditions: self.conditions,
            node: self.pod.node.clone(),
            zone: self.zone.map(str::to_owned),
            hostname: self.hostname.map(str::to_owned),
            zone_hints: Vec::new(),
            node_hints: Vec::new(),
            weight: None,
            pod: Some(self.pod.meta.name.clone()),
        }
    }
}

/// Pods whose ports are the same numbers, by their names.
#[derive(Debug, Default)]
pub(super) struct Group<'a> {
    pub(super) ports: Vec<EndpointPort>,
    pub(super) pods: Vec<Candidate<'a>>,
}

/// A Service's pods in a family, by the ports that they resolve to (row 2.3).
pub(super) fn groups<'a>(service: &'a Service, family: IpFamily, pods: &[&'a PodEntry], nodes: Nodes<'a>) -> BTreeMap<PortsKey, Group<'a>> {
    let named: Vec<&ServicePort> = service.ports.iter().filter(|port| matches!(port.target_port, TargetPort::Name(_))).collect();
    // By the numbers of the ports that are named; the others are the same for every pod.
    let mut by_numbers: BTreeMap<Vec<Option<u16>>, Group<'a>> = BTreeMap::new();
    for entry in pods.iter().filter(|entry| !entry.pod.finished && !entry.pod.addresses.is_empty()) {
        // A group is there as soon as a pod has its ports, though the pod may be left out below.
        let group = by_numbers.entry(named.iter().map(|port| target_port(port, entry)).collect()).or_default();
        let pod = &entry.pod;
        let Some(ip) = address(pod, family) else { continue };
        let node = pod.node.as_deref();
        if node.is_some_and(|node| !service.publish_not_ready && !nodes.exists(node)) {
            continue;
        }
        let (zone, hostname) = (nodes.zone(node), hostname(pod, service));
        group.pods.push(Candidate { pod, ip, conditions: conditions(service, entry), zone, hostname });
    }
    let with_ports = by_numbers.into_iter().map(|(numbers, group)| {
        let ports = resolved_ports(service, numbers);
        (ports_key(&ports), Group { ports, ..group })
    });
    with_ports.collect()
}

/// The ports that have a number; the others are left out, though a pod that has none is still listed.
fn resolved_ports(service: &Service, named: Vec<Option<u16>>) -> Vec<EndpointPort> {
    let mut named = named.into_iter();
    let resolved = service.ports.iter().filter_map(|port| {
        let number = match port.target_port {
            TargetPort::Number(number) => Some(number),
            TargetPort::Name(_) => named.next().flatten(),
        };
        Some(EndpointPort { name: port.name.clone(), protocol: port.protocol, port: number?, app_protocol: port.app_protocol.clone() })
    });
    resolved.collect()
}

/// The pod's first address of the family.
pub(super) fn address(pod: &Pod, family: IpFamily) -> Option<IpAddr> {
    pod.addresses.iter().copied().find(|ip| ip.is_ipv4() == (family == IpFamily::V4))
}

/// A pod's host name counts where it names this Service as its subdomain.
pub(super) fn hostname<'a>(pod: &'a Pod, service: &Service) -> Option<&'a str> {
    pod.hostname.as_deref().filter(|_| pod.subdomain.as_deref() == Some(&service.meta.name))
}
