//! A Service's objects: what they are to be, and what has to be written for it (endpointslice `reconciler.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::draft::Draft;
use super::hints::{Distribution, distribute};
use super::meta::{Names, slice_labels};
use super::mirror::Mirrored;
use super::packing::pack;
use super::pods::{PortsKey, groups, ports_key};
use super::subsets;
use super::topology::{Capacity, add_hints};
use crate::control::about;
use crate::control::endpoints::Nodes;
use crate::control::index::PodEntry;
use crate::objects::model::{Diagnostic, EndpointPort, EndpointSlice, Endpoints, IpFamily, Meta, Object, ObjectKey, Service, Severity};
use crate::objects::{MANAGED_BY, MIRRORING_CONTROLLER};

/// What a Service's objects are made of.
pub(super) struct Scene<'a> {
    pub(super) service: &'a Service,
    /// The primary first.
    pub(super) families: &'a [IpFamily],
    /// The pods that its selector names, by name; `None`: it has none.
    pub(super) pods: Option<Vec<&'a PodEntry>>,
    pub(super) mirrored: Option<&'a Mirrored>,
    pub(super) nodes: Nodes<'a>,
    pub(super) capacity: &'a Capacity,
    /// Names of slices that others have.
    pub(super) taken: &'a dyn Fn(&str) -> bool,
}

/// What was made of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    /// By family, then by their ports.
    pub(super) slices: Vec<Arc<EndpointSlice>>,
    pub(super) endpoints: Option<Arc<Endpoints>>,
}

/// One write, as an API server would be asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Write {
    Create(Object),
    Update(Object),
    Delete(ObjectKey),
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) made: Made,
    pub(super) writes: Vec<Write>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl Made {
    /// What to write where the Service is gone.
    pub(super) fn deletions(&self) -> Vec<Write> {
        let slices = self.slices.iter().cloned().map(Object::EndpointSlice);
        let endpoints = self.endpoints.iter().cloned().map(Object::Endpoints);
        slices.chain(endpoints).map(|object| Write::Delete(object.key())).collect()
    }
}

/// Makes a Service's objects anew. What is as it was is neither written nor copied.
pub(super) fn reconcile(scene: &Scene<'_>, before: &Made) -> Outcome {
    let used: BTreeSet<String> = before.slices.iter().map(|slice| slice.meta.name.clone()).collect();
    let meta = &scene.service.meta;
    let mut round = Round { names: Names::new(&meta.namespace, &meta.name, used, scene.taken), slices: Vec::new(), writes: Vec::new() };
    let mut diagnostics = Vec::new();
    let (mirrored, mut own): (Vec<_>, Vec<_>) = before.slices.iter().cloned().partition(|slice| is_mirrored(slice));
    match (&scene.pods, scene.mirrored) {
        (Some(pods), _) => {
            for family in scene.families {
                let existing = own.extract_if(.., |slice| slice.family == Some(*family)).collect();
                let outcome = of_pods(scene, *family, pods, existing);
                diagnostics.extend(outcome.disabled.map(|why| hints_disabled(scene.service, *family, &why)));
                round.finish(outcome.drafts, outcome.deleted);
            }
            round.finish(Vec::new(), mirrored);
        }
        (None, Some(written)) => {
            let (drafts, deleted) = written.drafts(mirrored);
            round.finish(drafts, deleted);
        }
        (None, None) => round.finish(Vec::new(), mirrored),
    }
    // Of families that the Service has no more, or of pods that it selects no more. Upstream leaves the latter behind for ever.
    round.finish(Vec::new(), own);
    let wanted = scene.pods.as_ref().zip(scene.families.first());
    let wanted = wanted.map(|(pods, primary)| subsets::endpoints(scene.service, *primary, pods));
    let endpoints = round.endpoints(wanted, before.endpoints.as_ref());
    Outcome { made: Made { slices: round.slices, endpoints }, writes: round.writes, diagnostics }
}

fn is_mirrored(slice: &EndpointSlice) -> bool {
    slice.meta.labels.get(MANAGED_BY).is_some_and(|manager| manager == MIRRORING_CONTROLLER)
}

/// A family's slices.
struct OfPods {
    drafts: Vec<Draft>,
    deleted: Vec<Arc<EndpointSlice>>,
    /// Why there are no topology hints, where they are asked for.
    disabled: Option<String>,
}

fn of_pods(scene: &Scene<'_>, family: IpFamily, pods: &[&PodEntry], existing: Vec<Arc<EndpointSlice>>) -> OfPods {
    let service = scene.service;
    let mut by_ports: BTreeMap<PortsKey, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing {
        by_ports.entry(ports_key(&slice.ports)).or_default().push(slice);
    }
    let meta = Meta { namespace: service.meta.namespace.clone(), labels: slice_labels(service), ..Meta::default() };
    let blank = |ports: Vec<EndpointPort>| EndpointSlice {
        meta: meta.clone(),
        service: Some(service.meta.name.clone()),
        family: Some(family),
        endpoints: Vec::new(),
        ports,
    };
    let (mut drafts, mut deleted) = (Vec::new(), Vec::new());
    for (key, mut group) in groups(service, family, pods, scene.nodes) {
        let ports = std::mem::take(&mut group.ports);
        let packed = pack(by_ports.remove(&key).unwrap_or_default(), group, &blank(ports));
        drafts.extend(packed.drafts);
        deleted.extend(packed.deleted);
    }
    deleted.extend(by_ports.into_values().flatten());
    if drafts.is_empty() {
        // Row 2.4: one that is there already, and has the right labels, is not written again.
        let placeholder = blank(Vec::new());
        let is_placeholder = |slice: &Arc<EndpointSlice>| {
            slice.endpoints.is_empty() && slice.ports.is_empty() && slice.meta.labels == placeholder.meta.labels
        };
        let known = deleted.iter().position(is_placeholder).map(|at| Draft::Kept(deleted.remove(at)));
        drafts.push(known.unwrap_or(Draft::New(placeholder)));
    }
    let disabled = if service.topology_aware {
        add_hints(&mut drafts, scene.capacity).err()
    } else {
        distribute(&mut drafts, Distribution::of(service));
        None
    };
    OfPods { drafts, deleted, disabled }
}

fn hints_disabled(service: &Service, family: IpFamily, why: &str) -> Diagnostic {
    let family = match family {
        IpFamily::V4 => "IPv4",
        IpFamily::V6 => "IPv6",
    };
    let field = "metadata.annotations[service.kubernetes.io/topology-mode]";
    about(service, field, Severity::Warning, format!("TopologyAwareHintsDisabled: {why}, addressType: {family}"))
}

/// What a reconciliation gathers.
struct Round<'a> {
    names: Names<'a>,
    slices: Vec<Arc<EndpointSlice>>,
    writes: Vec<Write>,
}

impl Round<'_> {
    /// Writes what differs. A slice that is to go takes in one that is to come: one write instead of two.
    fn finish(&mut self, drafts: Vec<Draft>, mut deleted: Vec<Arc<EndpointSlice>>) {
        for draft in drafts {
            let (before, now) = match draft {
                Draft::Kept(slice) => {
                    self.slices.push(slice);
                    continue;
                }
                Draft::Changed { before, now } => (Some(before), now),
                Draft::New(now) => (deleted.iter().position(|old| old.family == now.family).map(|at| deleted.remove(at)), now),
            };
            self.write(before, now);
        }
        self.writes.extend(deleted.into_iter().map(|slice| Write::Delete(Object::EndpointSlice(slice).key())));
    }

    fn write(&mut self, before: Option<Arc<EndpointSlice>>, mut now: EndpointSlice) {
        now.meta.name = match &before {
            Some(before) => before.meta.name.clone(),
            None => self.names.draw(now.family),
        };
        let slice = match before {
            Some(before) if *before == now => before,
            Some(_) => {
                let slice = Arc::new(now);
                self.writes.push(Write::Update(Object::EndpointSlice(Arc::clone(&slice))));
                slice
            }
            None => {
                let slice = Arc::new(now);
                self.writes.push(Write::Create(Object::EndpointSlice(Arc::clone(&slice))));
                slice
            }
        };
        self.slices.push(slice);
    }

    fn endpoints(&mut self, wanted: Option<Endpoints>, before: Option<&Arc<Endpoints>>) -> Option<Arc<Endpoints>> {
        let Some(wanted) = wanted else {
            self.writes.extend(before.map(|before| Write::Delete(Object::Endpoints(Arc::clone(before)).key())));
            return None;
        };
        if let Some(before) = before.filter(|before| ***before == wanted) {
            return Some(Arc::clone(before));
        }
        let object = Arc::new(wanted);
        let write = if before.is_some() { Write::Update } else { Write::Create };
        self.writes.push(write(Object::Endpoints(Arc::clone(&object))));
        Some(object)
    }
}
