//! Hints: which nodes and zones an endpoint is for (kubernetes-semantics 1.21, 2.12). They narrow the choice of those who read them, for
//! ready endpoints only.

use std::collections::HashMap;
use std::sync::Arc;

use super::draft::Draft;
use crate::objects::model::{Conditions, EndpointSlice, Service};

/// What a Service asks to be near to its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distribution {
    /// Nothing.
    Anywhere,
    /// `PreferSameZone`, or by its older name `PreferClose`.
    SameZone,
    /// `PreferSameNode`, and then the zone.
    SameNode,
}

impl Distribution {
    /// `spec.trafficDistribution`; the topology annotation comes before it (row 1.21).
    pub(super) fn of(service: &Service) -> Self {
        match service.traffic_distribution.as_deref().filter(|_| !service.topology_aware) {
            Some("PreferClose" | "PreferSameZone") => Self::SameZone,
            Some("PreferSameNode") => Self::SameNode,
            _ => Self::Anywhere,
        }
    }

    /// The zone and the node that an endpoint is for.
    fn hint<'a>(self, conditions: Conditions, zone: Option<&'a str>, node: Option<&'a str>) -> (Option<&'a str>, Option<&'a str>) {
        match self {
            _ if !conditions.ready => (None, None),
            Self::Anywhere => (None, None),
            Self::SameZone => (zone, None),
            Self::SameNode => (zone, node),
        }
    }
}

/// The hints of a Service port's pods in the table.
#[derive(Debug)]
pub(in crate::control) enum Hints<'a> {
    /// There are none.
    None,
    /// Those that `trafficDistribution` asks for.
    Near(Nearness),
    /// Zones, by pod: what the slices say.
    ByPod(HashMap<&'a str, &'a [String]>),
}

/// Each endpoint is for its own zone, and perhaps its own node.
#[derive(Debug)]
pub(in crate::control) struct Nearness(Distribution);

impl<'a> Hints<'a> {
    /// For a Service, of whose slices these are of the port's family.
    pub(super) fn of_pods(service: &Service, slices: impl Iterator<Item = &'a Arc<EndpointSlice>>) -> Self {
        if service.topology_aware {
            let endpoints = slices.flat_map(|slice| &slice.endpoints);
            return Self::ByPod(endpoints.filter_map(|endpoint| Some((endpoint.pod.as_deref()?, &*endpoint.zone_hints))).collect());
        }
        match Distribution::of(service) {
            Distribution::Anywhere => Self::None,
            near => Self::Near(Nearness(near)),
        }
    }

    /// Zone hints and node hints of a pod.
    pub(in crate::control) fn of(
        &self,
        pod: &str,
        conditions: Conditions,
        zone: Option<&str>,
        node: Option<&str>,
    ) -> (Vec<String>, Vec<String>) {
        match self {
            Self::None => (Vec::new(), Vec::new()),
            Self::Near(Nearness(distribution)) => {
                let (zone, node) = distribution.hint(conditions, zone, node);
                (zone.map(str::to_owned).into_iter().collect(), node.map(str::to_owned).into_iter().collect())
            }
            Self::ByPod(zones) => (zones.get(pod).map_or_else(Vec::new, |zones| zones.to_vec()), Vec::new()),
        }
    }
}

/// Gives every endpoint the hints that `trafficDistribution` asks for, and takes all others away.
pub(super) fn distribute(drafts: &mut [Draft], distribution: Distribution) {
    for draft in drafts {
        let right = draft.slice().endpoints.iter().all(|endpoint| {
            let (zone, node) = distribution.hint(endpoint.conditions, endpoint.zone.as_deref(), endpoint.node.as_deref());
            endpoint.zone_hints.iter().map(String::as_str).eq(zone) && endpoint.node_hints.iter().map(String::as_str).eq(node)
        });
        if right {
            continue;
        }
        for endpoint in &mut draft.edit().endpoints {
            let (zone, node) = distribution.hint(endpoint.conditions, endpoint.zone.as_deref(), endpoint.node.as_deref());
            let (zone, node) = (zone.map(str::to_owned), node.map(str::to_owned));
            endpoint.zone_hints = zone.into_iter().collect();
            endpoint.node_hints = node.into_iter().collect();
        }
    }
}
