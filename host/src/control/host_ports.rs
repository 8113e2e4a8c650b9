//! `hostPort`: a port of the node that leads to one pod. Each pod on this node that has some is served as a Service of its own, named
//! `pod/NAME`, which no Service can be named: no selector, no cluster IP, one endpoint. It is there as long as the pod is, whether or
//! not the pod is ready (the portmap plugin of CNI does not ask either). A pod on the host's network listens by itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::allocation::Allocation;
use super::endpoints::{Resolved, ResolvedEndpoint, Wanted};
use super::index::{Dirty, Index};
use super::{Family, ServiceName, Settings, about};
use crate::objects::model::{
    ClusterIp, Conditions, ContainerPort, Diagnostic, IpFamily, Locality, Meta, Pod, Protocol, Service, ServiceOptions, ServicePort,
    ServiceType, Severity, TargetPort,
};

/// What stands for pods with host ports.
#[derive(Debug, Default)]
pub(super) struct HostPorts {
    services: BTreeMap<ServiceName, Arc<Service>>,
    /// By namespace and name of the pod.
    of_pod: HashMap<(String, String), BTreeSet<ServiceName>>,
    /// Pods with host ports that name no node: they are everywhere while there are no Node objects.
    homeless: BTreeSet<(String, String)>,
}

impl HostPorts {
    pub(super) fn service(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.services.get(name)
    }
}

impl ServiceName {
    /// The pod whose host ports go by this name.
    pub(super) fn pod(&self) -> Option<&str> {
        let pod = self.name.strip_prefix(PREFIX)?;
        Some(pod.split_once('/').map_or(pod, |(pod, _)| pod))
    }
}

/// `Service default/web`, or `Pod default/web`: what an address belongs to.
pub(super) fn owner(name: &ServiceName) -> String {
    match name.pod() {
        Some(pod) => format!("Pod {}/{pod}", name.namespace),
        None => format!("Service {name}"),
    }
}

impl Index {
    /// A pod came, went or changed, or may be on another node than before.
    pub(super) fn settle_host_ports(&mut self, namespace: &str, name: &str, own_node: &str, dirty: &mut Dirty) {
        let key = (namespace.to_owned(), name.to_owned());
        let pod = self.namespace(namespace).and_then(|known| known.pods.get(name)).map(|entry| Arc::clone(&entry.pod));
        let all = pod.as_deref().map(services).unwrap_or_default();
        if !all.is_empty() && pod.as_ref().is_some_and(|pod| pod.node.is_none()) {
            self.host_ports.homeless.insert(key.clone());
        } else {
            self.host_ports.homeless.remove(&key);
        }
        let here = pod.and_then(|pod| pod.node.clone()).map_or(self.nodes.is_empty(), |node| node == own_node);
        let wanted = if here { all } else { BTreeMap::new() };
        let mut before = self.host_ports.of_pod.remove(&key).unwrap_or_default();
        if !wanted.is_empty() {
            self.host_ports.of_pod.insert(key, wanted.keys().cloned().collect());
        }
        for (name, service) in wanted {
            before.remove(&name);
            match self.host_ports.services.get(&name) {
                // Its endpoint may be another.
                Some(known) if **known == service => dirty.hand_written.insert(name),
                _ => {
                    self.host_ports.services.insert(name.clone(), Arc::new(service));
                    dirty.services.insert(name)
                }
            };
        }
        for name in before {
            self.host_ports.services.remove(&name);
            // Its endpoint is masked at once, too.
            dirty.hand_written.insert(name.clone());
            dirty.services.insert(name);
        }
    }

    /// Node objects count from now on, or no longer: pods that name no node were everywhere, and are nowhere.
    pub(super) fn settle_homeless(&mut self, own_node: &str, dirty: &mut Dirty) {
        for (namespace, name) in self.host_ports.homeless.clone() {
            self.settle_host_ports(&namespace, &name, own_node, dirty);
        }
    }
}

/// What stands for a pod's host ports: one Service for each `hostIP`, since the same number may lead elsewhere on another address.
fn services(pod: &Pod) -> BTreeMap<ServiceName, Service> {
    let mut services = BTreeMap::new();
    if pod.host_network || pod.finished || pod.addresses.is_empty() {
        return services;
    }
    for port in &pod.ports {
        let Some(host_port) = port.host_port else { continue };
        let name = match port.host_ip {
            Some(ip) => format!("{PREFIX}{}/{ip}", pod.meta.name),
            None => format!("{PREFIX}{}", pod.meta.name),
        };
        let name = ServiceName { namespace: pod.meta.namespace.clone(), name };
        let service = services.entry(name).or_insert_with_key(|name| service(&name.name, port, pod));
        if service.ports.iter().all(|known| (known.port, known.protocol) != (host_port, port.protocol)) {
            service.ports.push(service_port(port, host_port));
        }
    }
    services
}

/// Without ports yet.
fn service(name: &str, port: &ContainerPort, pod: &Pod) -> Service {
    let families: BTreeSet<Family> = pod.addresses.iter().copied().map(Family::of).collect();
    let meta = Meta { name: name.to_owned(), annotations: BTreeMap::new(), terminating: false, ..pod.meta.clone() };
    Service {
        meta,
        service_type: ServiceType::ClusterIp,
        cluster_ip: ClusterIp::Headless,
        ports: Vec::new(),
        selector: None,
        ip_family_policy: None,
        ip_families: families.into_iter().map(IpFamily::from).collect(),
        external_ips: port.host_ip.into_iter().collect(),
        load_balancer_ip: None,
        load_balancer_class: None,
        health_check_node_port: None,
        load_balancer_ips: Vec::new(),
        load_balancer_source_ranges: Vec::new(),
        internal_traffic_policy: Locality::Cluster,
        external_traffic_policy: Locality::Cluster,
        traffic_distribution: None,
        topology_aware: false,
        other_proxy: false,
        affinity: None,
        publish_not_ready: false,
        options: ServiceOptions::default(),
    }
}

/// Goes by its number; where TCP is not meant, the name says so, since one number may lead to several protocols.
fn service_port(port: &ContainerPort, host_port: u16) -> ServicePort {
    let name = match port.protocol {
        Protocol::Tcp => String::new(),
        Protocol::Udp => format!("{host_port}-udp"),
        Protocol::Sctp => format!("{host_port}-sctp"),
    };
    let target_port = TargetPort::Number(port.port);
    ServicePort { name, protocol: port.protocol, port: host_port, target_port, node_port: None, app_protocol: None }
}

/// The addresses of this node that lead to the pod: `hostIP`, or those where node ports listen.
pub(super) fn addresses(service: &Service, settings: &Settings) -> Vec<IpAddr> {
    if service.external_ips.is_empty() { settings.node_port_addresses.clone() } else { service.external_ips.clone() }
}

/// Nothing is allocated: it is served in the families that both the pod and the node have here.
pub(super) fn allocation(service: &Service, settings: &Settings) -> Allocation {
    let here: BTreeSet<Family> = addresses(service, settings).into_iter().map(Family::of).collect();
    let families = service.ip_families.iter().copied().filter(|family| here.contains(&Family::from(*family)));
    Allocation { families: families.collect(), ..Allocation::default() }
}

/// That nobody can reach the pod's host ports, if that is so.
pub(super) fn unreachable(service: &Service, allocation: &Allocation) -> Option<Diagnostic> {
    let message = "not served: the node has no address of the pod's family to listen at".to_owned();
    let remedy = Some("give --node-ip or --node-port-addresses an address of that family".to_owned());
    allocation.families.is_empty().then(|| Diagnostic { remedy, ..about(service, FIELD, Severity::Warning, message) })
}

/// The endpoint of a host port: the pod, whatever its state.
pub(super) fn resolve(index: &Index, settings: &Settings, pod: &str, wanted: &Wanted<'_>) -> Resolved {
    let found = || {
        let known = index.namespace(&wanted.service.meta.namespace)?;
        let entry = known.pods.get(pod)?;
        let ip = entry.pod.addresses.iter().copied().find(|ip| wanted.family.holds(*ip))?;
        let TargetPort::Number(port) = wanted.port.target_port else { return None };
        let own = &settings.node;
        let zone = index.nodes.get(&own.name).and_then(|node| node.zone.as_deref()).or(own.zone.as_deref());
        Some(ResolvedEndpoint {
            address: SocketAddr::new(ip, port),
            conditions: Conditions { ready: true, serving: true, terminating: false },
            weight: 1,
            local: true,
            node: entry.node.clone(),
            zone: zone.filter(|_| entry.node.is_some()).map(Arc::from),
            node_hints: Vec::new(),
            zone_hints: Vec::new(),
            labels: known.classes.get(&entry.class).map(|class| Arc::clone(&class.labels)).unwrap_or_default(),
            group: None,
            ready_since_ms: 0,
        })
    };
    Resolved { endpoints: found().into_iter().collect(), ..Resolved::default() }
}

/// What no name of a Service begins with: they have no slash.
const PREFIX: &str = "pod/";

pub(super) const FIELD: &str = "spec.containers[].ports[].hostPort";
