//! The objects, indexed so that a change finds what it touches: pods by namespace and by their labels (a *class*: pods that no selector
//! can tell apart), pods by node, hand-written endpoints by Service.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::ServiceName;
use super::host_ports::HostPorts;
use crate::objects::model::{EndpointSlice, Endpoints, Labels, Node, Object, ObjectKey, Pod, Service};
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
    /// Namespaces with labels that no selector has seen yet.
    pub(super) namespaces: BTreeSet<String>,
    /// Nodes that came, went or moved to another zone.
    pub(super) nodes: BTreeSet<String>,
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
            && self.namespaces.is_empty()
            && self.nodes.is_empty()
            && !self.all
            && !self.origins
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
    pub(super) endpoints: BTreeMap<String, Arc<Endpoints>>,
    /// Ports of this namespace's Services with a selector.
    pub(super) selecting: BTreeSet<ServiceId>,
}

/// A pod and what is known beyond the object.
#[derive(Debug)]
pub(super) struct PodEntry {
    pub(super) pod: Arc<Pod>,
    pub(super) class: ClassId,
    pub(super) node: Option<Arc<str>>,
    /// When it last became ready; 0: never.
    pub(super) ready_since_ms: u64,
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
                self.namespace_mut(&name.namespace).endpoints.insert(name.name.clone(), endpoints);
                dirty.hand_written.insert(name);
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
                dirty.hand_written.insert(name);
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
        let (was_ready, since) = before.map_or((false, 0), |before| (before.pod.ready, before.ready_since_ms));
        let ready_since_ms = if pod.ready && !was_ready { now_ms } else { since };
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
            dirty.ports.extend(&class.ports);
        }
        known.pods.insert(name, PodEntry { pod, class, node, ready_since_ms });
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
            known.classes.insert(id, Class { labels, records, pods: BTreeSet::new(), ports: BTreeSet::new() });
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
            dirty.ports.extend(&class.ports);
            if !keep_class {
                class.pods.remove(name);
            }
            if class.pods.is_empty()
                && let Some(class) = known.classes.remove(&entry.class)
            {
                known.by_labels.remove(&class.labels);
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
        // Without Node objects every node that a pod names exists; with the first one, only those do.
        let (count, came) = (self.nodes.len(), before.is_none() && now.is_some());
        if (came && count == 1) || (before.is_some() && count == 0) {
            dirty.all = true;
            self.settle_homeless(own_node, dirty);
        }
    }

    /// The ports with pods on a node, and the Services whose hand-written endpoints name it.
    pub(super) fn touched_by_nodes(&self, nodes: &BTreeSet<String>) -> (BTreeSet<ServiceId>, BTreeSet<ServiceName>) {
        let pods = nodes.iter().filter_map(|node| self.on_node.get(node)).flatten();
        let classes = pods.filter_map(|(namespace, pod)| {
            let known = self.namespaces.get(namespace)?;
            known.classes.get(&known.pods.get(pod)?.class)
        });
        let ports = classes.flat_map(|class| class.ports.iter().copied()).collect();
        let mut services = BTreeSet::new();
        if nodes.is_empty() {
            return (ports, services);
        }
        let named = |node: &Option<String>| node.as_ref().is_some_and(|node| nodes.contains(node));
        for (namespace, known) in &self.namespaces {
            let of = |name: &String| ServiceName { namespace: namespace.clone(), name: name.clone() };
            let endpoints = known.endpoints.iter();
            let endpoints =
                endpoints.filter(|(_, written)| written.subsets.iter().flat_map(|subset| &subset.addresses).any(|a| named(&a.node)));
            services.extend(endpoints.map(|(name, _)| of(name)));
            let slices = known.slices.iter();
            let slices = slices.filter(|(_, slices)| slices.values().flat_map(|slice| &slice.endpoints).any(|e| named(&e.node)));
            services.extend(slices.map(|(name, _)| of(name)));
        }
        (ports, services)
    }

    fn put_slice(&mut self, slice: Arc<EndpointSlice>, dirty: &mut Dirty) {
        let (namespace, name) = (slice.meta.namespace.clone(), slice.meta.name.clone());
        self.remove_slice(&namespace, &name, dirty);
        let Some(service) = slice.service.clone() else { return };
        let known = self.namespace_mut(&namespace);
        known.slice_owners.insert(name.clone(), service.clone());
        known.slices.entry(service.clone()).or_default().insert(name, slice);
        dirty.hand_written.insert(ServiceName { namespace, name: service });
    }

    fn remove_slice(&mut self, namespace: &str, name: &str, dirty: &mut Dirty) {
        let known = self.namespace_mut(namespace);
        let Some(service) = known.slice_owners.remove(name) else { return };
        if let Some(slices) = known.slices.get_mut(&service) {
            slices.remove(name);
            if slices.is_empty() {
                known.slices.remove(&service);
            }
        }
        dirty.hand_written.insert(ServiceName { namespace: namespace.to_owned(), name: service });
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

fn before_class(namespaces: &HashMap<String, Namespace>, namespace: &str, pod: &str) -> Option<ClassId> {
    namespaces.get(namespace)?.pods.get(pod).map(|entry| entry.class)
}

/// Labels as policies see them, sorted by key.
pub(super) fn records(labels: &Labels) -> Vec<Label> {
    labels.iter().map(|(key, value)| Label { key: key.clone(), value: value.clone() }).collect()
}

/// Whether no Service could tell one from the other: annotations and the place in a file do not count.
fn same_backend(a: &Pod, b: &Pod) -> bool {
    let state = |pod: &Pod| (pod.ready, pod.finished, pod.meta.terminating, pod.weight, pod.host_network);
    state(a) == state(b) && a.meta.labels == b.meta.labels && a.node == b.node && a.addresses == b.addresses && a.ports == b.ports
}
