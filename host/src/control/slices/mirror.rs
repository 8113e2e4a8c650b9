//! Hand-written Endpoints as slices (kubernetes-semantics 2.11; pkg/controller/endpointslicemirroring): one slice for each canonical
//! subset and family.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::draft::Draft;
use super::meta::mirrored_labels;
use super::pods::{PortsKey, ports_key};
use super::subsets::repack;
use crate::objects::model::{Conditions, EndpointSlice, EndpointSubset, Endpoints, IpFamily, Labels, Meta, SliceEndpoint};

/// Of a subset, so many addresses are mirrored (kube-controller-manager `--mirroring-max-endpoints-per-subset`).
const MAX_MIRRORED: usize = 1000;

const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that are not mirrored.
const OWN_ANNOTATIONS: [&str; 2] = ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];

/// Hand-written Endpoints, and what is mirrored of them.
#[derive(Debug)]
pub(in crate::control) struct Mirrored {
    object: Arc<Endpoints>,
    subsets: Vec<EndpointSubset>,
}

impl Mirrored {
    /// Of Endpoints that are to be mirrored, the canonical subsets, cut to what is allowed; of others nothing.
    pub(in crate::control) fn of(object: Arc<Endpoints>) -> Self {
        let skipped = object.meta.labels.get(SKIP_MIRROR).is_some_and(|value| value == "true");
        let mirrors = !skipped && !object.meta.annotations.contains_key(LEADER);
        let mut subsets = if mirrors { repack(&object.subsets) } else { Vec::new() };
        for subset in &mut subsets {
            subset.addresses.truncate(MAX_MIRRORED);
        }
        Self { object, subsets }
    }

    /// What is mirrored: ready addresses before those that are not.
    pub(in crate::control) fn subsets(&self) -> &[EndpointSubset] {
        &self.subsets
    }

    /// The slices, of which those that exist keep their names.
    pub(super) fn drafts(&self, existing: Vec<Arc<EndpointSlice>>) -> (Vec<Draft>, Vec<Arc<EndpointSlice>>) {
        let key = |slice: &EndpointSlice| (slice.family, ports_key(&slice.ports));
        let mut known: BTreeMap<(Option<IpFamily>, PortsKey), Vec<Arc<EndpointSlice>>> = BTreeMap::new();
        for slice in existing {
            known.entry(key(&slice)).or_default().push(slice);
        }
        let mut drafts = Vec::new();
        for wanted in self.slices() {
            let before = known.get_mut(&key(&wanted)).filter(|slices| !slices.is_empty()).map(|slices| slices.remove(0));
            drafts.push(match before {
                Some(before) => {
                    let name = before.meta.name.clone();
                    let now = EndpointSlice { meta: Meta { name, ..wanted.meta }, ..wanted };
                    if now == *before { Draft::Kept(before) } else { Draft::Changed { before, now } }
                }
                None => Draft::New(wanted),
            });
        }
        (drafts, known.into_values().flatten().collect())
    }

    /// Without names.
    fn slices(&self) -> impl Iterator<Item = EndpointSlice> {
        let written = &self.object.meta;
        let mut annotations: Labels = written.annotations.clone();
        annotations.retain(|key, _| !OWN_ANNOTATIONS.contains(&key.as_str()));
        let meta = Meta { namespace: written.namespace.clone(), labels: mirrored_labels(&self.object), annotations, ..Meta::default() };
        let each = self.subsets.iter().flat_map(|subset| [(subset, IpFamily::V4), (subset, IpFamily::V6)]);
        each.filter_map(move |(subset, family)| {
            let entries = subset.addresses.iter().filter(|entry| entry.ip.is_ipv4() == (family == IpFamily::V4));
            let endpoints: Vec<SliceEndpoint> = entries
                .map(|entry| SliceEndpoint {
                    ip: entry.ip,
                    conditions: Conditions { ready: entry.ready, serving: entry.ready, terminating: false },
                    node: entry.node.clone(),
                    zone: None,
                    hostname: entry.hostname.clone(),
                    zone_hints: Vec::new(),
                    node_hints: Vec::new(),
                    weight: None,
                    pod: entry.pod.clone(),
                })
                .collect();
            let slice = EndpointSlice {
                meta: meta.clone(),
                service: Some(written.name.clone()),
                family: Some(family),
                endpoints,
                ports: subset.ports.clone(),
            };
            Some(slice).filter(|slice| !slice.endpoints.is_empty())
        })
    }
}
