//! The Endpoints object (kubernetes-semantics 2.10), and the canonical form of subsets (endpoints `RepackSubsets`): each port stands in
//! one subset, with every address that has it; ports with the same addresses share a subset.

use std::collections::BTreeMap;

use super::meta::endpoints_labels;
use super::pods::{PortsKey, address, hostname, ports_key};
use crate::control::endpoints::target_port;
use crate::control::index::PodEntry;
use crate::objects::model::{
    ClusterIp, EndpointAddress, EndpointPort, EndpointSubset, Endpoints, IpFamily, Labels, Meta, Protocol, Service,
};

/// More addresses than this an Endpoints object does not hold (pkg/controller/endpoint `maxCapacity`).
const MAX_ADDRESSES: usize = 1000;
/// Says that there are more.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const TRUNCATED: &str = "truncated";

/// An address by its place in a list, and whether it is ready.
type Placed = (usize, bool);

/// The Endpoints object of a Service with a selector. Unlike its slices, it leaves out terminating pods, unless not-ready addresses
/// are published, and does not ask whether a pod's node is there.
pub(super) fn endpoints(service: &Service, primary: IpFamily, pods: &[&PodEntry]) -> Endpoints {
    let listed = |entry: &&&PodEntry| !entry.pod.finished && (service.publish_not_ready || !entry.pod.meta.terminating);
    let mut addresses: Vec<_> = pods.iter().filter(listed).filter_map(|entry| Some((address(&entry.pod, primary)?, *entry))).collect();
    addresses.sort_by_cached_key(|(ip, entry)| (ip.to_string(), &entry.pod.meta.name));
    // By the port's place in the Service, and its number; none where there is no port.
    let mut by_port: BTreeMap<Option<(usize, u16)>, Vec<Placed>> = BTreeMap::new();
    for (at, (_, entry)) in addresses.iter().enumerate() {
        let placed = (at, service.publish_not_ready || entry.ready());
        // A headless Service may have no ports; its addresses count all the same.
        if service.ports.is_empty() && service.cluster_ip == ClusterIp::Headless {
            by_port.entry(None).or_default().push(placed);
        }
        for (nth, port) in service.ports.iter().enumerate() {
            let Some(number) = target_port(port, entry) else { continue };
            by_port.entry(Some((nth, number))).or_default().push(placed);
        }
    }
    let key = |(nth, number): (usize, u16)| {
        let port = &service.ports[nth];
        (port.name.clone(), port.protocol, number, port.app_protocol.clone())
    };
    let by_port: BTreeMap<Option<PortKey>, _> = by_port.into_iter().map(|(port, addresses)| (port.map(key), addresses)).collect();
    let mut packed = by_addresses(by_port);
    let mut annotations = Labels::new();
    if truncate(&mut packed) {
        annotations.insert(OVER_CAPACITY.to_owned(), TRUNCATED.to_owned());
    }
    let shown = |(at, ready): &Placed| {
        let (ip, entry) = addresses[*at];
        let (node, hostname) = (entry.pod.node.clone(), hostname(&entry.pod, service).map(str::to_owned));
        EndpointAddress { ip, ready: *ready, node, hostname, pod: Some(entry.pod.meta.name.clone()) }
    };
    let subsets = packed.into_iter().map(|packed| packed.subset(shown)).collect();
    let meta = Meta {
        namespace: service.meta.namespace.clone(),
        name: service.meta.name.clone(),
        labels: endpoints_labels(service),
        annotations,
        ..Meta::default()
    };
    Endpoints { meta, subsets }
}

/// Subsets in canonical form. An address that is both ready and not ready is not ready.
pub(super) fn repack(subsets: &[EndpointSubset]) -> Vec<EndpointSubset> {
    let mut known: BTreeMap<(String, Option<&str>), &EndpointAddress> = BTreeMap::new();
    for entry in subsets.iter().flat_map(|subset| &subset.addresses) {
        known.entry(identity(entry)).or_insert(entry);
    }
    let places: BTreeMap<_, usize> = known.keys().cloned().zip(0..).collect();
    let mut by_port: BTreeMap<Option<PortKey>, BTreeMap<usize, bool>> = BTreeMap::new();
    for subset in subsets {
        let ports = ports_key(&subset.ports).into_iter().map(Some);
        let ports: Vec<Option<PortKey>> = if subset.ports.is_empty() { vec![None] } else { ports.collect() };
        for port in ports {
            let addresses = by_port.entry(port).or_default();
            for entry in &subset.addresses {
                *addresses.entry(places[&identity(entry)]).or_insert(true) &= entry.ready;
            }
        }
    }
    let entries: Vec<&EndpointAddress> = known.into_values().collect();
    let shown = |(at, ready): &Placed| EndpointAddress { ready: *ready, ..entries[*at].clone() };
    let by_port = by_port.into_iter().map(|(port, addresses)| (port, addresses.into_iter().collect())).collect();
    by_addresses(by_port).into_iter().map(|packed| packed.subset(shown)).collect()
}

/// Two pods may share an address; the address as text, for that is how Kubernetes sorts them.
fn identity(entry: &EndpointAddress) -> (String, Option<&str>) {
    (entry.ip.to_string(), entry.pod.as_deref())
}

type PortKey = (String, Protocol, u16, Option<String>);

/// A subset before its addresses are written out.
#[derive(Debug)]
struct Packed {
    ports: PortsKey,
    ready: Vec<Placed>,
    not_ready: Vec<Placed>,
}

impl Packed {
    fn subset(self, shown: impl Fn(&Placed) -> EndpointAddress) -> EndpointSubset {
        let port = |(name, protocol, port, app_protocol)| EndpointPort { name, protocol, port, app_protocol };
        EndpointSubset {
            addresses: self.ready.iter().chain(&self.not_ready).map(shown).collect(),
            ports: self.ports.into_iter().map(port).collect(),
        }
    }
}

/// Ports with the same addresses together, in the order of the first of them.
fn by_addresses(by_port: BTreeMap<Option<PortKey>, Vec<Placed>>) -> Vec<Packed> {
    let mut shared: BTreeMap<Vec<Placed>, PortsKey> = BTreeMap::new();
    for (port, addresses) in by_port {
        shared.entry(addresses).or_default().extend(port);
    }
    let mut packed: Vec<Packed> = shared
        .into_iter()
        .map(|(addresses, ports)| {
            let (ready, not_ready) = addresses.into_iter().partition(|(_, ready)| *ready);
            Packed { ports, ready, not_ready }
        })
        .collect();
    packed.sort_by(|a, b| a.ports.cmp(&b.ports));
    packed
}

/// Cuts off what is too much, ready addresses last, each subset in proportion. True if something was cut.
fn truncate(subsets: &mut [Packed]) -> bool {
    let ready: usize = subsets.iter().map(|subset| subset.ready.len()).sum();
    let not_ready: usize = subsets.iter().map(|subset| subset.not_ready.len()).sum();
    if ready + not_ready <= MAX_ADDRESSES {
        return false;
    }
    let cuts_ready = ready > MAX_ADDRESSES;
    let (room, total) = if cuts_ready { (MAX_ADDRESSES, ready) } else { (MAX_ADDRESSES - ready, not_ready) };
    let mut left = room;
    for subset in subsets {
        if cuts_ready {
            subset.not_ready.clear();
        }
        let list = if cuts_ready { &mut subset.ready } else { &mut subset.not_ready };
        // Rounded up, so the last subset may come short.
        list.truncate((list.len() * room).div_ceil(total).min(left));
        left -= list.len();
    }
    true
}
