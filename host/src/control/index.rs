//! The objects, indexed so that a change finds what it touches: pods by namespace and by their labels (a *class*: pods that no selector
//! can tell apart), pods by node, hand-written endpoints by Service.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::ServiceName;
use super::host_ports::HostPorts;
use super::slices::{Mirrored, Selectors};
use crate::objects::model::{EndpointSlice, Labels, Node, Object, ObjectKey, Pod, Service};
use crate::policy::contract::Label;
use crate::store::Change;
use crate::table::{Map, ServiceId};

/// A set of pods with equal labels in one namespace. Numbers grow and are never used again.
pub(super) type ClassId = u64;

/// What the changes since the last rebuild touched.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// Services that came, went or changed themselves.
    pub(super) services: BTreeSet<ServiceName>,
    /// Those of them that were deleted, though they may be there again: what comes then is new, whatever its name.
    pub(super) deleted: BTreeSet<ServiceName>,
    /// Services whose hand-written endpoints changed.
    pub(super) hand_written: BTreeSet<ServiceName>,
    /// Ports some of whose pods changed.
    pub(super) ports: BTreeSet<ServiceId>,
    /// Services whose selectors name pods that changed, whatever their policies make of it.
    pub(super) selected: BTreeSet<ServiceName>,
    /// Namespaces with labels that no selector has seen yet.
    pub(super) namespaces: BTreeSet<String>,
    /// Nodes that came, went or moved to another zone.
    pub(super) nodes: BTreeSet<String>,
    /// What nodes can bear changed: their CPU, readiness or zone.
    pub(super) capacity: bool,
    /// Everything: what this host is, or whether Node objects count, changed.
    pub(super) all: bool,
    /// The addresses of pods or of the node changed.
    pub(super) origins: bool,
}

impl Dirty {
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty()
            && self.hand_written.is_empty()
            && self.ports.is_empty()
            && self.selected.is_empty()
            && self.namespaces.is_empty()
            && self.nodes.is_empty()
            && !self.capacity
            && !self.all
            && !self.origins
    }

    /// Something about pods of this class, or the class itself, changed.
    fn touch(&mut self, namespace: &str, class: &Class) {
        self.ports.extend(&class.ports);
        self.selected.extend(class.services.iter().map(|service| ServiceName { namespace: namespace.to_owned(), name: service.clone() }));
    }
}

/// Every object that matters.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) services: BTreeMap<ServiceName, Arc<Service>>,
    pub(super) nodes: BTreeMap<String, Arc<Node>>,
    /// Addresses of pods that have not finished.
    pub(super) pod_addresses: Map<IpAddr, ()>,
    namespaces: HashMap<String, Namespace>,
    /// How many pods share an address: on the host's network, several do.
    address_users: HashMap<IpAddr, u32>,
    /// Namespace and name of the pods on a node.
    on_node: HashMap<String, BTreeSet<(String, String)>>,
    next_class: ClassId,
    pub(super) host_ports: HostPorts,
}

/// What a namespace holds.
#[derive(Debug, Default)]
pub(super) struct Namespace {
    pub(super) pods: BTreeMap<String, PodEntry>,
    pub(super) classes: BTreeMap<ClassId, Class>,
    by_labels: HashMap<Arc<Labels>, ClassId>,
    /// By Service, then by their own names.
    pub(super) slices: BTreeMap<String, BTreeMap<String, Arc<EndpointSlice>>>,
    /// The Service that a slice was filed under.
    slice_owners: HashMap<String, String>,
    /// Hand-written Endpoints, as they are mirrored.
    pub(super) endpoints: BTreeMap<String, Mirrored>,
    /// By Service: which of its hand-written endpoints are ready, where somebody asks them.
    pub(super) probed: BTreeMap<String, BTreeMap<SocketAddr, bool>>,
    /// Which Services' selectors match which classes.
    selectors: Selectors,
    /// Ports of this namespace's Services with a selector.
    pub(super) selecting: BTreeSet<ServiceId>,
}

/// A pod and what is known beyond the object.
#[derive(Debug)]
pub(super) struct PodEntry {
    pub(super) pod: Arc<Pod>,
    pub(super) class: ClassId,
    pub(super) node: Option<Arc<str>>,
    /// What a probe says, where one is made: it comes before what the manifest says.
    probed: Option<bool>,
    /// When it last became ready; 0: never.
    pub(super) ready_since_ms: u64,
}

impl PodEntry {
    /// Whether the pod's containers are ready.
    pub(super) fn ready(&self) -> bool {
        self.probed.unwrap_or(self.pod.ready)
    }
}

/// Pods with equal labels.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) labels: Arc<Labels>,
    /// The same, as policies see them.
    pub(super) records: Vec<Label>,
    /// By name.
    pub(super) pods: BTreeSet<String>,
    /// The ports that its pods back.
    pub(super) ports: BTreeSet<ServiceId>,
    /// The Services whose selectors match.
    services: BTreeSet<String>,
}

impl Index {
    /// A Service, or what stands for a pod's host ports.
    pub(super) fn service(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.services.get(name).or_else(|| self.host_ports.service(name))
    }

    pub(super) fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)
    }

    pub(super) fn namespace_mut(&mut self, name: &str) -> &mut Namespace {
        self.namespaces.entry(name.to_owned()).or_default()
    }

    /// Takes a change in and notes what it touches. `own_node` is the name of the node that this host serves.
    pub(super) fn apply(&mut self, change: Change, own_node: &str, now_ms: u64, dirty: &mut Dirty) {
        match change {
            Change::Put(Object::Service(service)) => {
                let name = ServiceName::of(&service.meta);
                if self.services.get(&name) != Some(&service) {
                    self.services.insert(name.clone(), service);
                    dirty.services.insert(name);
                }
            }
            Change::Put(Object::Pod(pod)) => {
                let (namespace, name) = (pod.meta.namespace.clone(), pod.meta.name.clone());
                if self.put_pod(pod, now_ms, dirty) {
                    self.settle_host_ports(&namespace, &name, own_node, dirty);
                }
            }
            Change::Put(Object::Node(node)) => {
                let name = node.meta.name.clone();
                self.change_node(&name, Some(node), own_node, dirty);
            }
            Change::Put(Object::Endpoints(endpoints)) => {
                let name = ServiceName::of(&endpoints.meta);
                self.namespace_mut(&name.namespace).endpoints.insert(name.name.clone(), Mirrored::of(endpoints));
                self.rewritten(name, dirty);
            }
            Change::Put(Object::EndpointSlice(slice)) => self.put_slice(slice, dirty),
            Change::Put(Object::Namespace(_)) => {}
            Change::Delete(key) => self.delete(&key, own_node, dirty),
        }
    }

    fn delete(&mut self, key: &ObjectKey, own_node: &str, dirty: &mut Dirty) {
        use crate::objects::model::Kind;
        let name = ServiceName { namespace: key.namespace.clone(), name: key.name.clone() };
        match key.kind {
            Kind::Service => {
                self.services.remove(&name);
                self.namespace_mut(&name.namespace).probed.remove(&name.name);
                dirty.deleted.insert(name.clone());
                dirty.services.insert(name);
            }
            Kind::Pod => {
                self.remove_pod(&key.namespace, &key.name, dirty);
                self.settle_host_ports(&key.namespace, &key.name, own_node, dirty);
            }
            Kind::Node => self.change_node(&key.name, None, own_node, dirty),
            Kind::Endpoints => {
                self.namespace_mut(&key.namespace).endpoints.remove(&key.name);
                self.rewritten(name, dirty);
            }
            Kind::EndpointSlice => self.remove_slice(&key.namespace, &key.name, dirty),
            Kind::Namespace => {}
        }
    }

    /// False if nothing that matters changed.
    fn put_pod(&mut self, pod: Arc<Pod>, now_ms: u64, dirty: &mut Dirty) -> bool {
        let (namespace, name) = (pod.meta.namespace.clone(), pod.meta.name.clone());
        let before = self.namespaces.get(&namespace).and_then(|known| known.pods.get(&name));
        if before.is_some_and(|before| same_backend(&before.pod, &pod)) {
            return false;
        }
        let (was_ready, since) = before.map_or((false, 0), |before| (before.ready(), before.ready_since_ms));
        let probed = before.and_then(|before| before.probed);
        let ready_since_ms = if probed.unwrap_or(pod.ready) && !was_ready { now_ms } else { since };
        // The new class first, so that a class whose only pod stays in it is not forgotten in between.
        let class = self.class_of(&namespace, &pod.meta.labels, &name, dirty);
        let kept = before_class(&self.namespaces, &namespace, &name) == Some(class);
        self.forget_pod(&namespace, &name, kept, dirty);
        for address in pod.addresses.iter().filter(|_| !pod.finished) {
            let users = self.address_users.entry(*address).or_default();
            *users += 1;
            if *users == 1 {
                self.pod_addresses.insert(*address, ());
                dirty.origins = true;
            }
        }
        let node = pod.node.as_deref().map(Arc::from);
        if let Some(node) = &pod.node {
            self.on_node.entry(node.clone()).or_default().insert((namespace.clone(), name.clone()));
        }
        let known = self.namespace_mut(&namespace);
        if let Some(class) = known.classes.get(&class) {
            dirty.touch(&namespace, class);
        }
        known.pods.insert(name, PodEntry { pod, class, node, probed, ready_since_ms });
        true
    }

    fn remove_pod(&mut self, namespace: &str, name: &str, dirty: &mut Dirty) {
        self.forget_pod(namespace, name, false, dirty);
    }

    /// The class of these labels, with the pod in it.
    fn class_of(&mut self, namespace: &str, labels: &Labels, pod: &str, dirty: &mut Dirty) -> ClassId {
        let next = self.next_class;
        let known = self.namespace_mut(namespace);
        let id = known.by_labels.get(labels).copied().unwrap_or(next);
        if id == next {
            let labels = Arc::new(labels.clone());
            known.by_labels.insert(Arc::clone(&labels), id);
            let records = records(&labels);
            let services = known.selectors.add_class(id, &labels);
            known.classes.insert(id, Class { labels, records, pods: BTreeSet::new(), ports: BTreeSet::new(), services });
            dirty.namespaces.insert(namespace.to_owned());
            self.next_class += 1;
        }
        if let Some(class) = self.namespace_mut(namespace).classes.get_mut(&id) {
            class.pods.insert(pod.to_owned());
        }
        id
    }

    /// Takes a pod out of every index; out of its class, unless it is to stay in it.
    fn forget_pod(&mut self, namespace: &str, name: &str, keep_class: bool, dirty: &mut Dirty) {
        let Some(known) = self.namespaces.get_mut(namespace) else { return };
        let Some(entry) = known.pods.remove(name) else { return };
        if let Some(class) = known.classes.get_mut(&entry.class) {
            dirty.touch(namespace, class);
            if !keep_class {
                class.pods.remove(name);
            }
            if class.pods.is_empty()
                && let Some(class) = known.classes.remove(&entry.class)
            {
                known.by_labels.remove(&class.labels);
                known.selectors.remove_class(entry.class, &class.labels);
            }
        }
        for address in entry.pod.addresses.iter().filter(|_| !entry.pod.finished) {
            let Some(users) = self.address_users.get_mut(address) else { continue };
            *users -= 1;
            if *users == 0 {
                self.address_users.remove(address);
                self.pod_addresses.remove(address);
                dirty.origins = true;
            }
        }
        if let Some(node) = &entry.pod.node
            && let Some(pods) = self.on_node.get_mut(node)
        {
            pods.remove(&(namespace.to_owned(), name.to_owned()));
            if pods.is_empty() {
                self.on_node.remove(node);
            }
        }
    }

    fn change_node(&mut self, name: &str, node: Option<Arc<Node>>, own_node: &str, dirty: &mut Dirty) {
        let before = match node {
            Some(node) => self.nodes.insert(name.to_owned(), node),
            None => self.nodes.remove(name),
        };
        let now = self.nodes.get(name);
        if name == own_node {
            dirty.all |= before.as_ref().map(|node| (&node.zone, &node.meta.labels)) != now.map(|node| (&node.zone, &node.meta.labels));
            dirty.origins |= before.as_ref().map(|node| &node.addresses) != now.map(|node| &node.addresses);
        }
        let zone = |node: &Arc<Node>| node.zone.clone();
        if before.as_ref().map(zone) != now.map(zone) {
            dirty.nodes.insert(name.to_owned());
        }
        let capacity = |node: &Arc<Node>| (node.zone.clone(), node.ready, node.cpu_millis, node.control_plane);
        dirty.capacity |= before.as_ref().map(capacity) != now.map(capacity);
        // Without Node objects every node that a pod names exists; with the first one, only those do.
        let (count, came) = (self.nodes.len(), before.is_none() && now.is_some());
        if (came && count == 1) || (before.is_some() && count == 0) {
            dirty.all = true;
            self.settle_homeless(own_node, dirty);
        }
    }

    /// The ports with pods on a node, and the Services whose hand-written endpoints name it.
    pub(super) fn touched_by_nodes(&self, nodes: &BTreeSet<String>) -> (BTreeSet<ServiceId>, BTreeSet<ServiceName>) {
        let ports = self.classes_on(nodes).flat_map(|(_, class)| class.ports.iter().copied()).collect();
        let mut services = BTreeSet::new();
        if nodes.is_empty() {
            return (ports, services);
        }
        let named = |node: &Option<String>| node.as_ref().is_some_and(|node| nodes.contains(node));
        for (namespace, known) in &self.namespaces {
            let of = |name: &String| ServiceName { namespace: namespace.clone(), name: name.clone() };
            let endpoints = known.endpoints.iter();
            let endpoints =
                endpoints.filter(|(_, written)| written.subsets().iter().flat_map(|subset| &subset.addresses).any(|a| named(&a.node)));
            services.extend(endpoints.map(|(name, _)| of(name)));
            let slices = known.slices.iter();
            let slices = slices.filter(|(_, slices)| slices.values().flat_map(|slice| &slice.endpoints).any(|e| named(&e.node)));
            services.extend(slices.map(|(name, _)| of(name)));
        }
        (ports, services)
    }

    /// The classes that have pods on one of the nodes, with their namespaces; the same one several times.
    fn classes_on<'a>(&'a self, nodes: &'a BTreeSet<String>) -> impl Iterator<Item = (&'a String, &'a Class)> {
        let pods = nodes.iter().filter_map(|node| self.on_node.get(node)).flatten();
        pods.filter_map(|(namespace, pod)| {
            let known = self.namespaces.get(namespace)?;
            Some((namespace, known.classes.get(&known.pods.get(pod)?.class)?))
        })
    }

    /// The Services whose selectors name pods on one of the nodes.
    pub(super) fn selecting_on(&self, nodes: &BTreeSet<String>) -> BTreeSet<ServiceName> {
        let services = self.classes_on(nodes).flat_map(|(namespace, class)| class.services.iter().map(move |name| (namespace, name)));
        services.map(|(namespace, name)| ServiceName { namespace: namespace.clone(), name: name.clone() }).collect()
    }

    fn put_slice(&mut self, slice: Arc<EndpointSlice>, dirty: &mut Dirty) {
        let (namespace, name) = (slice.meta.namespace.clone(), slice.meta.name.clone());
        let before = self.unfile_slice(&namespace, &name);
        let now = slice.service.clone();
        if let Some(service) = &now {
            let known = self.namespace_mut(&namespace);
            known.slice_owners.insert(name.clone(), service.clone());
            known.slices.entry(service.clone()).or_default().insert(name, slice);
        }
        for service in before.into_iter().chain(now) {
            self.rewritten(ServiceName { namespace: namespace.clone(), name: service }, dirty);
        }
    }

    fn remove_slice(&mut self, namespace: &str, name: &str, dirty: &mut Dirty) {
        if let Some(service) = self.unfile_slice(namespace, name) {
            self.rewritten(ServiceName { namespace: namespace.to_owned(), name: service }, dirty);
        }
    }

    /// Takes a slice out, and names the Service that it was filed under.
    fn unfile_slice(&mut self, namespace: &str, name: &str) -> Option<String> {
        let known = self.namespace_mut(namespace);
        let service = known.slice_owners.remove(name)?;
        if let Some(slices) = known.slices.get_mut(&service) {
            slices.remove(name);
            if slices.is_empty() {
                known.slices.remove(&service);
            }
        }
        Some(service)
    }

    /// The Service's hand-written endpoints changed: what probes said of those that are gone is forgotten.
    fn rewritten(&mut self, service: ServiceName, dirty: &mut Dirty) {
        let known = self.namespace_mut(&service.namespace);
        if let Some(mut probed) = known.probed.remove(&service.name) {
            let written = known.written(&service.name);
            probed.retain(|address, _| written.contains(address));
            if !probed.is_empty() {
                known.probed.insert(service.name.clone(), probed);
            }
        }
        dirty.hand_written.insert(service);
    }

    /// What a probe says of a pod; `None`: none is made any more. False if there is no such pod.
    pub(super) fn probe_pod(&mut self, namespace: &str, pod: &str, ready: Option<bool>, now_ms: u64, dirty: &mut Dirty) -> bool {
        let Some(known) = self.namespaces.get_mut(namespace) else { return false };
        let Some(entry) = known.pods.get_mut(pod) else { return false };
        let before = entry.ready();
        entry.probed = ready;
        if entry.ready() == before {
            return true;
        }
        if entry.ready() {
            entry.ready_since_ms = now_ms;
        }
        if let Some(class) = known.classes.get(&entry.class) {
            dirty.touch(namespace, class);
        }
        true
    }

    /// What a probe says of a hand-written endpoint; `None`: none is made any more. False if there is no such endpoint.
    pub(super) fn probe_endpoint(&mut self, service: &ServiceName, address: SocketAddr, ready: Option<bool>, dirty: &mut Dirty) -> bool {
        let Some(known) = self.namespaces.get_mut(&service.namespace) else { return false };
        if !known.written(&service.name).contains(&address) {
            return false;
        }
        let probed = known.probed.entry(service.name.clone()).or_default();
        let before = match ready {
            Some(ready) => probed.insert(address, ready),
            None => probed.remove(&address),
        };
        if probed.is_empty() {
            known.probed.remove(&service.name);
        }
        if before != ready {
            dirty.hand_written.insert(service.clone());
        }
        true
    }

    /// The Service's selector is this now; `None`: it has none.
    pub(super) fn select(&mut self, service: &ServiceName, selector: Option<&Labels>) {
        let Some(known) = self.namespaces.get_mut(&service.namespace) else { return };
        for class in known.selectors.candidates(&service.name) {
            if let Some(class) = known.classes.get_mut(&class) {
                class.services.remove(&service.name);
            }
        }
        known.selectors.set(&service.name, selector);
        for class in known.selectors.candidates(&service.name) {
            if let Some(class) = known.classes.get_mut(&class)
                && selector.is_some_and(|selector| selects(selector, &class.labels))
            {
                class.services.insert(service.name.clone());
            }
        }
    }

    /// The pods that the Service's selector names, by name.
    pub(super) fn selected(&self, service: &ServiceName) -> Vec<&PodEntry> {
        let Some(known) = self.namespaces.get(&service.namespace) else { return Vec::new() };
        let classes = known.selectors.candidates(&service.name).into_iter().filter_map(|class| known.classes.get(&class));
        let classes = classes.filter(|class| class.services.contains(&service.name));
        let mut pods: Vec<_> = classes.flat_map(|class| &class.pods).filter_map(|name| known.pods.get(name)).collect();
        pods.sort_unstable_by(|a, b| a.pod.meta.name.cmp(&b.pod.meta.name));
        pods
    }

    /// The pods of these classes no longer back the port, and those of the others do.
    pub(super) fn relink(&mut self, namespace: &str, port: ServiceId, gone: &[ClassId], came: &[ClassId]) {
        let Some(known) = self.namespaces.get_mut(namespace) else { return };
        for class in gone {
            if let Some(class) = known.classes.get_mut(class) {
                class.ports.remove(&port);
            }
        }
        for class in came {
            if let Some(class) = known.classes.get_mut(class) {
                class.ports.insert(port);
            }
        }
    }

    /// One past the newest class.
    pub(super) fn next_class(&self) -> ClassId {
        self.next_class
    }
}

impl Namespace {
    /// The hand-written endpoints of a Service, at their ports.
    fn written(&self, service: &str) -> HashSet<SocketAddr> {
        let slices = self.slices.get(service).into_iter().flat_map(BTreeMap::values);
        let slices = slices.flat_map(|slice| slice.endpoints.iter().map(move |endpoint| (endpoint.ip, &slice.ports)));
        let subsets = self.endpoints.get(service).into_iter().flat_map(Mirrored::subsets);
        let subsets = subsets.flat_map(|subset| subset.addresses.iter().map(move |entry| (entry.ip, &subset.ports)));
        slices.chain(subsets).flat_map(|(ip, ports)| ports.iter().map(move |port| SocketAddr::new(ip, port.port))).collect()
    }

    /// Whether a slice of this name was written by hand.
    pub(super) fn has_slice(&self, name: &str) -> bool {
        self.slice_owners.contains_key(name)
    }
}

fn before_class(namespaces: &HashMap<String, Namespace>, namespace: &str, pod: &str) -> Option<ClassId> {
    namespaces.get(namespace)?.pods.get(pod).map(|entry| entry.class)
}

/// Labels as policies see them, sorted by key.
pub(super) fn records(labels: &Labels) -> Vec<Label> {
    labels.iter().map(|(key, value)| Label { key: key.clone(), value: value.clone() }).collect()
}

/// Whether a selector matches labels.
pub(super) fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether no Service could tell one from the other: annotations and the place in a file do not count.
fn same_backend(a: &Pod, b: &Pod) -> bool {
    let state = |pod: &Pod| (pod.ready, pod.finished, pod.meta.terminating, pod.weight, pod.host_network);
    let name = |pod: &Pod| (pod.hostname.clone(), pod.subdomain.clone());
    state(a) == state(b)
        && a.meta.labels == b.meta.labels
        && a.node == b.node
        && a.addresses == b.addresses
        && a.ports == b.ports
        && name(a) == name(b)
}
