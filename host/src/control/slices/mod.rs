//! EndpointSlices and Endpoints as Kubernetes' controllers would write them (kubernetes-semantics 2.1 to 2.14): what readers of the
//! objects see. The table takes its endpoints straight from the pods; of these it takes the hints alone.
//!
//! A Service is reconciled when it, its pods, its hand-written Endpoints or its nodes changed, at the cost of its pods; nothing is
//! written that has not changed.

mod draft;
mod hints;
mod meta;
mod mirror;
mod packing;
mod pods;
mod reconcile;
mod selectors;
mod subsets;
mod topology;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

pub(super) use hints::Hints;
pub(super) use mirror::Mirrored;
pub(super) use selectors::Selectors;

use self::reconcile::{Made, Scene, Write};
use self::topology::Capacity;
use super::endpoints::Nodes;
use super::index::Dirty;
use super::{Controller, Family, PortKey, ServiceName, renew};
use crate::objects::model::{Diagnostic, EndpointSlice, Endpoints, IpFamily, Labels, Service, ServiceType};
use crate::table::ServiceId;

/// How often objects were written, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Objects that are new.
    pub created: u64,
    /// Objects that are different.
    pub updated: u64,
    /// Objects that are gone.
    pub deleted: u64,
}

/// What was made of every Service.
#[derive(Debug, Default)]
pub(super) struct Slices {
    services: BTreeMap<ServiceName, Reconciled>,
    /// Admitted since the last time.
    pending: BTreeSet<ServiceName>,
    capacity: Capacity,
    writes: Writes,
}

/// What was made of a Service.
#[derive(Debug, Default)]
struct Reconciled {
    /// As the index knows it.
    selector: Option<Labels>,
    topology_aware: bool,
    made: Made,
    diagnostics: Vec<Diagnostic>,
}

impl Slices {
    /// The Service is in force anew.
    pub(super) fn pend(&mut self, name: &ServiceName) {
        self.pending.insert(name.clone());
    }

    /// Why Services have no topology hints that ask for them.
    pub(super) fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.services.values().flat_map(|service| &service.diagnostics)
    }

    /// The hints of a Service port's pods.
    pub(super) fn hints(&self, key: &PortKey, service: &Service) -> Hints<'_> {
        let slices = self.services.get(&key.service).map_or(&[][..], |service| &service.made.slices);
        Hints::of_pods(service, slices.iter().filter(|slice| slice.family == Some(ip_family(key.family))))
    }
}

fn ip_family(family: Family) -> IpFamily {
    match family {
        Family::V4 => IpFamily::V4,
        Family::V6 => IpFamily::V6,
    }
}

impl Controller {
    /// The EndpointSlices made of pods and of hand-written Endpoints, by Service. Those written by hand are not among them.
    pub fn endpoint_slices(&self) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.slices.services.values().flat_map(|service| &service.made.slices)
    }

    /// The Endpoints made of pods, by Service. Those written by hand are not among them.
    pub fn endpoints_objects(&self) -> impl Iterator<Item = &Arc<Endpoints>> {
        self.slices.services.values().flat_map(|service| &service.made.endpoints)
    }

    /// How often EndpointSlices and Endpoints were written.
    pub fn object_writes(&self) -> Writes {
        self.slices.writes
    }

    /// What a probe says of a pod, over what its manifest says; `None`: no probe is made any more. To be said after the pod was applied;
    /// it holds until the pod is gone. False if there is no such pod.
    pub fn pod_ready(&mut self, namespace: &str, pod: &str, ready: Option<bool>, now_ms: u64) -> bool {
        self.index.probe_pod(namespace, pod, ready, now_ms, &mut self.dirty)
    }

    /// Whether a pod is ready, by its probes where it has any; `None`: there is no such pod.
    pub fn is_pod_ready(&self, namespace: &str, pod: &str) -> Option<bool> {
        self.index.namespace(namespace)?.pods.get(pod).map(|entry| entry.ready())
    }

    /// What a probe says of an endpoint that is written by hand, over what is written, for a Service with the annotation
    /// `pointsman.dev/probe`; `None`: no probe is made any more. To be said after the endpoint was applied; it holds until the endpoint
    /// or the Service is gone. False if there is no such endpoint.
    pub fn endpoint_ready(&mut self, namespace: &str, service: &str, address: SocketAddr, ready: Option<bool>) -> bool {
        let service = ServiceName { namespace: namespace.to_owned(), name: service.to_owned() };
        self.index.probe_endpoint(&service, address, ready, &mut self.dirty)
    }

    /// Makes the objects of touched Services anew. Returns the ports whose hints may have changed with them.
    pub(super) fn settle_slices(&mut self, dirty: &Dirty, arisen: &mut Vec<Diagnostic>) -> BTreeSet<ServiceId> {
        let mut ports = BTreeSet::new();
        for name in self.touched_slices(dirty) {
            let changed = match self.services.get(&name) {
                Some(_) => self.reconcile(&name, arisen),
                None => self.forget_slices(&name),
            };
            if changed && let Some(applied) = self.services.get(&name).filter(|applied| applied.service.topology_aware) {
                ports.extend(applied.ports.values());
            }
        }
        ports
    }

    fn touched_slices(&mut self, dirty: &Dirty) -> BTreeSet<ServiceName> {
        let mut touched = std::mem::take(&mut self.slices.pending);
        touched.extend(dirty.services.iter().chain(&dirty.selected).chain(&dirty.hand_written).cloned());
        touched.append(&mut self.index.selecting_on(&dirty.nodes));
        if dirty.all {
            touched.extend(self.services.keys().cloned());
        }
        if dirty.capacity {
            let capacity = Capacity::of(self.index.nodes.values().map(Arc::as_ref));
            if capacity != self.slices.capacity {
                self.slices.capacity = capacity;
                let aware = self.slices.services.iter().filter(|(_, service)| service.topology_aware);
                touched.extend(aware.map(|(name, _)| name.clone()));
            }
        }
        touched
    }

    /// True if an object differs from what it was.
    fn reconcile(&mut self, name: &ServiceName, arisen: &mut Vec<Diagnostic>) -> bool {
        let Some(applied) = self.services.get(name) else { return false };
        let service = &applied.service;
        let selector = service.selector.as_ref().filter(|_| !matches!(service.service_type, ServiceType::ExternalName(_)));
        let mut before = self.slices.services.remove(name).unwrap_or_default();
        if before.selector.as_ref() != selector {
            self.index.select(name, selector);
        }
        let namespace = self.index.namespace(&name.namespace);
        let scene = Scene {
            service,
            families: &applied.allocation.families,
            pods: selector.map(|_| self.index.selected(name)),
            mirrored: namespace.and_then(|known| known.endpoints.get(&name.name)),
            nodes: Nodes { index: &self.index, settings: &self.settings },
            capacity: &self.slices.capacity,
            taken: &|slice: &str| namespace.is_some_and(|known| known.has_slice(slice)),
        };
        let outcome = reconcile::reconcile(&scene, &before.made);
        renew(&mut before.diagnostics, outcome.diagnostics, arisen);
        self.slices.count(&outcome.writes);
        let now = Reconciled {
            selector: selector.cloned(),
            topology_aware: service.topology_aware,
            made: outcome.made,
            diagnostics: before.diagnostics,
        };
        self.slices.services.insert(name.clone(), now);
        !outcome.writes.is_empty()
    }

    fn forget_slices(&mut self, name: &ServiceName) -> bool {
        let Some(before) = self.slices.services.remove(name) else { return false };
        if before.selector.is_some() {
            self.index.select(name, None);
        }
        self.slices.count(&before.made.deletions());
        true
    }
}

impl Slices {
    fn count(&mut self, writes: &[Write]) {
        for write in writes {
            *match write {
                Write::Create(_) => &mut self.writes.created,
                Write::Update(_) => &mut self.writes.updated,
                Write::Delete(_) => &mut self.writes.deleted,
            } += 1;
        }
    }
}
