//! Which endpoints a Service port has (kubernetes-semantics 1.3, 2.1, 2.2, 2.7, 2.11): the pods that the selector stage named, and
//! those written by hand.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::index::{ClassId, Index, Namespace, PodEntry};
use super::slices::Hints;
use super::{Family, ServiceName, Settings, about, host_ports};
use crate::objects::model::{Conditions, Diagnostic, EndpointPort, EndpointSlice, Labels, Service, ServicePort, Severity, TargetPort};
use crate::objects::{MANAGED_BY, MIRRORING_CONTROLLER, SERVICE_NAME, SLICE_CONTROLLER};
use crate::table::Endpoint;

/// An endpoint before it has a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResolvedEndpoint {
    /// Where to connect to.
    pub(super) address: SocketAddr,
    /// Ready, serving, terminating.
    pub(super) conditions: Conditions,
    /// 0: never picked.
    pub(super) weight: u32,
    /// On the node that this host serves.
    pub(super) local: bool,
    /// The node's name.
    pub(super) node: Option<Arc<str>>,
    /// Its zone.
    pub(super) zone: Option<Arc<str>>,
    /// `hints.forNodes`: as written in a slice, or as the slices made of pods say.
    pub(super) node_hints: Vec<String>,
    /// `hints.forZones`, likewise.
    pub(super) zone_hints: Vec<String>,
    /// The pod's labels.
    pub(super) labels: Arc<Labels>,
    /// The selector's group.
    pub(super) group: Option<u32>,
    /// When it last became ready.
    pub(super) ready_since_ms: u64,
}

/// What a Service port's endpoints are resolved from.
pub(super) struct Wanted<'a> {
    pub(super) service: &'a Service,
    pub(super) port: &'a ServicePort,
    pub(super) family: Family,
    /// The classes that back it, with their groups.
    pub(super) classes: &'a BTreeMap<ClassId, Option<u32>>,
    /// Its endpoints until now, by address: hand-written endpoints have no history of their own.
    pub(super) before: &'a [Endpoint],
    /// What its pods are given.
    pub(super) hints: Hints<'a>,
}

/// Endpoints in the order of their addresses, and what kept others out.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    pub(super) endpoints: Vec<ResolvedEndpoint>,
    pub(super) tally: Tally,
}

/// What was looked at: for the message when nothing is left.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pods: usize,
    finished: usize,
    without_address: usize,
    without_port: usize,
    on_unknown_node: BTreeSet<String>,
    written: usize,
    written_ports: BTreeSet<String>,
}

/// The endpoints of a Service port.
pub(super) fn resolve(index: &Index, settings: &Settings, wanted: &Wanted<'_>, now_ms: u64) -> Resolved {
    if let Some(pod) = ServiceName::of(&wanted.service.meta).pod() {
        return host_ports::resolve(index, settings, pod, wanted);
    }
    let Some(namespace) = index.namespace(&wanted.service.meta.namespace) else { return Resolved::default() };
    let nodes = Nodes { index, settings };
    let probed = wanted.service.options.probe.as_ref().and_then(|_| namespace.probed.get(&wanted.service.meta.name));
    let mut resolution = Resolution { nodes, probed, wanted, now_ms, found: BTreeMap::new(), tally: Tally::default() };
    resolution.pods(namespace);
    resolution.slices(namespace);
    resolution.endpoints(namespace);
    Resolved { endpoints: resolution.found.into_values().map(|(_, endpoint)| endpoint).collect(), tally: resolution.tally }
}

/// What is known of nodes, by their names.
#[derive(Clone, Copy)]
pub(super) struct Nodes<'a> {
    pub(super) index: &'a Index,
    pub(super) settings: &'a Settings,
}

impl<'a> Nodes<'a> {
    /// Without Node objects, every node that a pod names exists; with some, those do, and this host's own.
    pub(super) fn exists(&self, name: &str) -> bool {
        self.index.nodes.is_empty() || self.index.nodes.contains_key(name) || name == self.settings.node.name
    }

    /// What its Node object says, else, for this host's own, what the host was told.
    pub(super) fn zone(&self, node: Option<&str>) -> Option<&'a str> {
        let node = node?;
        let known = self.index.nodes.get(node).and_then(|node| node.zone.as_deref());
        let own = (node == self.settings.node.name).then_some(self.settings.node.zone.as_deref()).flatten();
        known.or(own)
    }
}

/// Row 1.3: a named port is looked for by name and protocol, pod by pod.
pub(super) fn target_port(port: &ServicePort, entry: &PodEntry) -> Option<u16> {
    match &port.target_port {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => {
            let mut ports = entry.pod.ports.iter();
            let named = ports.find(|known| known.name.as_ref() == Some(name) && known.protocol == port.protocol);
            named.map(|port| port.port)
        }
    }
}

/// Row 2.2, with 1.23.
pub(super) fn conditions(service: &Service, entry: &PodEntry) -> Conditions {
    let (serving, terminating) = (entry.ready(), entry.pod.meta.terminating);
    Conditions { ready: service.publish_not_ready || (serving && !terminating), serving, terminating }
}

struct Resolution<'a> {
    nodes: Nodes<'a>,
    /// What probes say of hand-written endpoints.
    probed: Option<&'a BTreeMap<SocketAddr, bool>>,
    wanted: &'a Wanted<'a>,
    now_ms: u64,
    /// With the pod that each is of; none of those written by hand.
    found: BTreeMap<SocketAddr, (Option<&'a str>, ResolvedEndpoint)>,
    tally: Tally,
}

impl<'a> Resolution<'a> {
    fn pods(&mut self, namespace: &'a Namespace) {
        for (class, group) in self.wanted.classes {
            let Some(class) = namespace.classes.get(class) else { continue };
            for entry in class.pods.iter().filter_map(|name| namespace.pods.get(name)) {
                self.tally.pods += 1;
                self.pod(entry, &class.labels, *group);
            }
        }
    }

    fn pod(&mut self, entry: &'a PodEntry, labels: &Arc<Labels>, group: Option<u32>) {
        let (pod, service) = (&entry.pod, self.wanted.service);
        if pod.finished {
            self.tally.finished += 1;
            return;
        }
        let Some(ip) = pod.addresses.iter().copied().find(|ip| self.wanted.family.holds(*ip)) else {
            self.tally.without_address += 1;
            return;
        };
        let Some(port) = target_port(self.wanted.port, entry) else {
            self.tally.without_port += 1;
            return;
        };
        // Row 2.6: a pod on a node that is not there is left out, unless not-ready addresses are published too (1.23).
        if let Some(node) = &pod.node
            && !service.publish_not_ready
            && !self.nodes.exists(node)
        {
            self.tally.on_unknown_node.insert(node.clone());
            return;
        }
        let (conditions, zone) = (conditions(service, entry), self.nodes.zone(pod.node.as_deref()));
        let (zone_hints, node_hints) = self.wanted.hints.of(&pod.meta.name, conditions, zone, pod.node.as_deref());
        self.add(
            Some(&pod.meta.name),
            ResolvedEndpoint {
                address: SocketAddr::new(ip, port),
                conditions,
                weight: pod.weight.unwrap_or(1),
                local: self.is_local(pod.node.as_deref(), ip),
                node: entry.node.clone(),
                zone: zone.map(Arc::from),
                node_hints,
                zone_hints,
                labels: Arc::clone(labels),
                group,
                ready_since_ms: entry.ready_since_ms,
            },
        );
    }

    fn slices(&mut self, namespace: &Namespace) {
        let service = self.wanted.service;
        let (selects, mirrors) = (service.selector.is_some(), namespace.endpoints.contains_key(&service.meta.name));
        for slice in namespace.slices.get(&service.meta.name).into_iter().flat_map(BTreeMap::values) {
            // What Kubernetes' own controllers made of pods and of Endpoints is made of them here too: a dump of a cluster must not
            // count them twice, or what they would have removed by now. Slices of any other manager count (row 2.9).
            let remade = match slice.meta.labels.get(MANAGED_BY).map(String::as_str) {
                Some(SLICE_CONTROLLER) => selects,
                Some(MIRRORING_CONTROLLER) => selects || mirrors,
                _ => false,
            };
            if !remade {
                self.slice(slice);
            }
        }
    }

    fn slice(&mut self, slice: &EndpointSlice) {
        self.tally.written += slice.endpoints.len();
        for port in self.joined(&slice.ports) {
            for written in slice.endpoints.iter().filter(|written| self.wanted.family.holds(written.ip)) {
                let address = SocketAddr::new(written.ip, port);
                let conditions = self.as_probed(address, written.conditions);
                self.add(
                    None,
                    ResolvedEndpoint {
                        address,
                        conditions,
                        weight: written.weight.unwrap_or(1),
                        local: self.is_local(written.node.as_deref(), written.ip),
                        node: written.node.as_deref().map(Arc::from),
                        zone: written.zone.as_deref().or_else(|| self.nodes.zone(written.node.as_deref())).map(Arc::from),
                        node_hints: written.node_hints.clone(),
                        zone_hints: written.zone_hints.clone(),
                        labels: Arc::default(),
                        group: None,
                        ready_since_ms: self.written_since(address, conditions.ready),
                    },
                );
            }
        }
    }

    /// Row 2.11: the Endpoints object of a Service without a selector counts as if it had been written as a slice.
    fn endpoints(&mut self, namespace: &Namespace) {
        let service = self.wanted.service;
        if service.selector.is_some() {
            return;
        }
        for subset in namespace.endpoints.get(&service.meta.name).into_iter().flat_map(|written| written.subsets()) {
            self.tally.written += subset.addresses.len();
            for port in self.joined(&subset.ports) {
                for entry in subset.addresses.iter().filter(|entry| self.wanted.family.holds(entry.ip)) {
                    let address = SocketAddr::new(entry.ip, port);
                    let conditions = Conditions { ready: entry.ready, serving: entry.ready, terminating: false };
                    let conditions = self.as_probed(address, conditions);
                    self.add(
                        None,
                        ResolvedEndpoint {
                            address,
                            conditions,
                            weight: 1,
                            local: self.is_local(entry.node.as_deref(), entry.ip),
                            node: entry.node.as_deref().map(Arc::from),
                            zone: self.nodes.zone(entry.node.as_deref()).map(Arc::from),
                            node_hints: Vec::new(),
                            zone_hints: Vec::new(),
                            labels: Arc::default(),
                            group: None,
                            ready_since_ms: self.written_since(address, conditions.ready),
                        },
                    );
                }
            }
        }
    }

    /// Where the endpoint is probed, the probe's word stands.
    fn as_probed(&self, address: SocketAddr, written: Conditions) -> Conditions {
        match self.probed.and_then(|probed| probed.get(&address)) {
            Some(ready) => Conditions { ready: *ready && !written.terminating, serving: *ready, ..written },
            None => written,
        }
    }

    /// The numbers of the ports that are the Service port's: joined by name and protocol, never by number.
    fn joined(&mut self, ports: &[EndpointPort]) -> Vec<u16> {
        self.tally.written_ports.extend(ports.iter().map(|port| port.name.clone()));
        let wanted = self.wanted.port;
        let same = ports.iter().filter(|port| port.name == wanted.name && port.protocol == wanted.protocol);
        same.map(|port| port.port).collect()
    }

    /// Row 2.7: an endpoint may be found twice; one that is local wins. Then one that is ready, so that the pod that has an address now
    /// comes before the one that had it; then the first by name.
    fn add(&mut self, pod: Option<&'a str>, endpoint: ResolvedEndpoint) {
        let rank = |endpoint: &ResolvedEndpoint| (endpoint.local, endpoint.conditions.ready);
        let wins = self.found.get(&endpoint.address).is_none_or(|(known_pod, known)| match rank(&endpoint).cmp(&rank(known)) {
            Ordering::Greater => true,
            Ordering::Equal => pod.is_some() && pod < *known_pod,
            Ordering::Less => false,
        });
        if wins {
            self.found.insert(endpoint.address, (pod, endpoint));
        }
    }

    fn is_local(&self, node: Option<&str>, ip: IpAddr) -> bool {
        match node {
            Some(node) => node == self.nodes.settings.node.name,
            None => ip.is_loopback() || self.nodes.settings.node_addresses.contains(&ip),
        }
    }

    fn written_since(&self, address: SocketAddr, ready: bool) -> u64 {
        let before = self.wanted.before;
        let before = before.binary_search_by_key(&address, |endpoint| endpoint.address).ok().map(|at| &before[at]);
        match before {
            Some(before) if before.conditions.ready || !ready => before.ready_since_ms,
            _ if ready => self.now_ms,
            _ => 0,
        }
    }
}

/// Why connections would find nobody, if that is so.
pub(super) fn nobody(service: &Service, at: usize, resolved: &Resolved) -> Option<Diagnostic> {
    let endpoints = &resolved.endpoints;
    // Where the host probes, each probe's finding is told by itself; before the first, none is ready.
    let probed = service.options.probe.is_some() && !endpoints.is_empty();
    if probed || endpoints.iter().any(|endpoint| endpoint.conditions.ready && endpoint.weight > 0) {
        return None;
    }
    let Lack { field, message, remedy } = if endpoints.iter().any(|endpoint| endpoint.conditions.ready) {
        Lack::of("no endpoint may be picked: every ready one has weight 0".to_owned())
    } else if !endpoints.is_empty() {
        let which = if endpoints.len() == 1 { "it is not" } else { "none is" };
        Lack::of(format!("no ready endpoint: {} known, {which} ready", endpoints.len()))
    } else if let Some(selector) = &service.selector {
        no_pods(service, at, selector, &resolved.tally)
    } else {
        nothing_written(service, at, &resolved.tally)
    };
    Some(Diagnostic { remedy, ..about(service, &field, Severity::Warning, message) })
}

/// Why there are no endpoints, and the field to look at: the same as objects' own review names, so that a mistake is told once.
#[derive(Default)]
struct Lack {
    field: String,
    message: String,
    remedy: Option<String>,
}

impl Lack {
    /// No field of the Service is to blame.
    fn of(message: String) -> Self {
        Self { message, ..Self::default() }
    }
}

fn no_pods(service: &Service, at: usize, selector: &Labels, tally: &Tally) -> Lack {
    let matched = match tally.pods {
        1 => "1 pod matched, and it has".to_owned(),
        pods => format!("{pods} pods matched, and they have"),
    };
    if tally.pods == 0 {
        let selector = selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
        let remedy = format!("compare spec.selector with metadata.labels of the pods in namespace {}", service.meta.namespace);
        let message = format!("no endpoints: selector {selector} matches no pod");
        Lack { field: "spec.selector".to_owned(), message, remedy: Some(remedy) }
    } else if let (TargetPort::Name(name), 1..) = (&service.ports[at].target_port, tally.without_port) {
        let message = format!("no endpoints: {matched} no container port named {name} for the protocol");
        let remedy = Some("name the port in the pods, or give targetPort as a number".to_owned());
        Lack { field: format!("spec.ports[{at}].targetPort"), message, remedy }
    } else if let Some(node) = tally.on_unknown_node.first() {
        let message = format!("no endpoints: {matched} a node without a Node object ({node})");
        Lack { remedy: Some("add the Node objects, or leave out all of them".to_owned()), ..Lack::of(message) }
    } else if tally.without_address > 0 {
        Lack::of(format!("no endpoints: {matched} no address of this family in status.podIPs"))
    } else {
        Lack::of(format!("no endpoints: {matched} finished"))
    }
}

fn nothing_written(service: &Service, at: usize, tally: &Tally) -> Lack {
    if tally.written == 0 {
        let name = &service.meta.name;
        let message = "no endpoints: it has no selector, and no Endpoints or EndpointSlice is written for it".to_owned();
        let remedy = format!("write an Endpoints object named {name}, or an EndpointSlice labelled {SERVICE_NAME}: {name}");
        return Lack { field: "spec.selector".to_owned(), message, remedy: Some(remedy) };
    }
    let shown = |name: &str| if name.is_empty() { "(unnamed)".to_owned() } else { name.to_owned() };
    let names = tally.written_ports.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ");
    let wanted = shown(&service.ports[at].name);
    let message = format!("no endpoints for port {wanted}: those written by hand have ports {names}, of its family and protocol none");
    let remedy = Some("endpoints are joined by port name and protocol, not by number: give both the same name".to_owned());
    Lack { field: format!("spec.ports[{at}].name"), message, remedy }
}
