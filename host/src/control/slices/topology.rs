//! Hints by the zones' capacity (kubernetes-semantics 2.13; KEP-2433, `endpointslice/topologycache`): each zone is to have as large a
//! share of a Service's ready endpoints as it has of the nodes' CPU. Endpoints are for their own zone; what a zone has too many of is
//! for a zone that has too few. What was given and still fits stays as it is.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::hints::{Distribution, distribute};
use crate::objects::model::{EndpointSlice, Node, SliceEndpoint};

/// How much more than its share an endpoint may be given to bear (topologycache `overloadThreshold`).
const OVERLOAD_THRESHOLD: f64 = 0.2;
/// A zone neither gives nor is given less than half an endpoint (topologycache `getGivingAndReceivingZones`).
const LEAST_MOVED: f64 = 0.5;

/// What the nodes can bear, by zone.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Capacity {
    /// Each zone's share of all CPU; two zones or more.
    Shares(BTreeMap<String, f64>),
    /// A node that counts has no zone, or no CPU.
    Incomplete(String),
    /// Fewer than two zones have ready nodes.
    TooFewZones(usize),
}

impl Default for Capacity {
    fn default() -> Self {
        Self::TooFewZones(0)
    }
}

impl Capacity {
    /// Of all ready nodes that are not the control plane's.
    pub(super) fn of<'a>(nodes: impl Iterator<Item = &'a Node>) -> Self {
        let (mut by_zone, mut total) = (BTreeMap::<&str, u64>::new(), 0_u64);
        for node in nodes.filter(|node| node.ready && !node.control_plane) {
            let zone = node.zone.as_deref().filter(|zone| !zone.is_empty());
            let (Some(zone), Some(millis @ 1..)) = (zone, node.cpu_millis) else {
                return Self::Incomplete(node.meta.name.clone());
            };
            let known = by_zone.entry(zone).or_default();
            *known = known.saturating_add(millis);
            total = total.saturating_add(millis);
        }
        if by_zone.len() < 2 {
            return Self::TooFewZones(by_zone.len());
        }
        Self::Shares(by_zone.into_iter().map(|(zone, millis)| (zone.to_owned(), millis as f64 / total as f64)).collect())
    }
}

/// How many endpoints a zone may have.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Allocation {
    minimum: usize,
    maximum: usize,
    desired: f64,
}

/// Gives the ready endpoints zone hints, or says why there can be none and takes away what there is.
pub(super) fn add_hints(drafts: &mut [Draft], capacity: &Capacity) -> Result<(), String> {
    let outcome = hint(drafts, capacity);
    if outcome.is_err() {
        distribute(drafts, Distribution::Anywhere);
    }
    outcome
}

fn hint(drafts: &mut [Draft], capacity: &Capacity) -> Result<(), String> {
    let ready = drafts.iter().map(|draft| ready(draft.slice()).count()).sum();
    let allocations = allocations(capacity, ready)?;
    let mut hinted: BTreeMap<String, usize> = BTreeMap::new();
    let mut to_hint = Vec::new();
    for draft in drafts {
        match Some(&*draft).filter(|draft| !draft.is_written()).and_then(|draft| still_right(draft.slice(), &hinted, &allocations)) {
            Some(zones) => zones.into_iter().for_each(|(zone, count)| *hinted.entry(zone.to_owned()).or_default() += count),
            None => to_hint.push(draft),
        }
    }
    // New slices before those that were there, as upstream.
    to_hint.sort_by_key(|draft| !matches!(draft, Draft::New(_)));
    let mut slices: Vec<&mut EndpointSlice> = to_hint.into_iter().map(Draft::edit).collect();
    for endpoint in slices.iter_mut().flat_map(|slice| &mut slice.endpoints) {
        endpoint.zone_hints.clear();
        endpoint.node_hints.clear();
        if !endpoint.conditions.ready {
            continue;
        }
        let Some(zone) = endpoint.zone.clone().filter(|zone| !zone.is_empty()) else {
            return Err(format!("the node of the ready endpoint {} has no zone", endpoint.ip));
        };
        *hinted.entry(zone.clone()).or_default() += 1;
        endpoint.zone_hints.push(zone);
    }
    let (giving, receiving) = surplus(&allocations, &hinted);
    let endpoints = slices.into_iter().flat_map(|slice| &mut slice.endpoints).filter(|endpoint| endpoint.conditions.ready);
    redistribute(endpoints, giving, receiving);
    Ok(())
}

fn ready(slice: &EndpointSlice) -> impl Iterator<Item = &SliceEndpoint> {
    slice.endpoints.iter().filter(|endpoint| endpoint.conditions.ready)
}

/// How many of so many endpoints each zone is to have, or why that cannot be.
fn allocations(capacity: &Capacity, endpoints: usize) -> Result<BTreeMap<&str, Allocation>, String> {
    let shares = match capacity {
        Capacity::Shares(shares) => shares,
        Capacity::Incomplete(node) => return Err(format!("the ready Node {node} has no zone or no allocatable CPU")),
        Capacity::TooFewZones(0) => return Err("no Node outside the control plane is ready".to_owned()),
        Capacity::TooFewZones(_) => return Err("Nodes are ready in one zone only".to_owned()),
    };
    let zones = shares.len();
    if zones > endpoints {
        return Err(format!("there are fewer ready endpoints than zones ({endpoints} endpoints, {zones} zones)"));
    }
    let mut allocations: BTreeMap<&str, Allocation> = BTreeMap::new();
    for (zone, share) in shares {
        let desired = share * endpoints as f64;
        let minimum = (desired * (1.0 / (1.0 + OVERLOAD_THRESHOLD))).ceil() as usize;
        allocations.insert(zone, Allocation { minimum, maximum: 0, desired: desired.max(minimum as f64) });
    }
    let least: usize = allocations.values().map(|allocation| allocation.minimum).sum();
    let Some(spare) = endpoints.checked_sub(least) else {
        let percent = OVERLOAD_THRESHOLD * 100.0;
        return Err(format!("some endpoint would bear over {percent:.0} % more than its share ({endpoints} endpoints, {zones} zones)"));
    };
    for allocation in allocations.values_mut() {
        allocation.maximum = allocation.minimum + spare;
    }
    Ok(allocations)
}

/// What a slice that nobody else changes gives each zone; `None`: it has to be hinted anew, since it lacks a hint, or has one for a zone
/// that is gone, or gives a zone more than leaves the others their least.
fn still_right<'s>(
    slice: &'s EndpointSlice,
    hinted: &BTreeMap<String, usize>,
    allocations: &BTreeMap<&str, Allocation>,
) -> Option<BTreeMap<&'s str, usize>> {
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    for endpoint in ready(slice) {
        if endpoint.zone_hints.is_empty() {
            return None;
        }
        for zone in &endpoint.zone_hints {
            *zones.entry(zone).or_default() += 1;
        }
    }
    let fits = |(zone, count): (&&str, &usize)| {
        let before = hinted.get(*zone).copied().unwrap_or_default();
        allocations.get(zone).is_some_and(|allocation| before + count <= allocation.maximum)
    };
    zones.iter().all(fits).then_some(zones)
}

/// How many endpoints each zone gives away, and how many it is given.
fn surplus(
    allocations: &BTreeMap<&str, Allocation>,
    hinted: &BTreeMap<String, usize>,
) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
    let (mut over, mut under) = (BTreeMap::new(), BTreeMap::new());
    for (zone, allocation) in allocations {
        let difference = hinted.get(*zone).copied().unwrap_or_default() as f64 - allocation.desired;
        if difference > 0.0 {
            over.insert(*zone, difference);
        } else if difference < 0.0 {
            under.insert(*zone, -difference);
        }
    }
    let (mut giving, mut receiving) = (BTreeMap::new(), BTreeMap::new());
    while let (Some((giver, gives)), Some((receiver, receives))) = (most(&mut over), most(&mut under)) {
        if gives.min(*receives) < LEAST_MOVED || gives.max(*receives) < 1.0 {
            break;
        }
        *gives -= 1.0;
        *receives -= 1.0;
        *giving.entry(giver.to_owned()).or_default() += 1;
        *receiving.entry(receiver.to_owned()).or_default() += 1;
    }
    (giving, receiving)
}

/// The zone with the most, and how much; of several the first by name.
fn most<'m, 'z>(zones: &'m mut BTreeMap<&'z str, f64>) -> Option<(&'z str, &'m mut f64)> {
    let (zone, count) = zones.iter_mut().rev().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    Some((zone, count))
}

/// Endpoints of zones that give away are for zones that are given, in order.
fn redistribute<'e>(
    endpoints: impl Iterator<Item = &'e mut SliceEndpoint>,
    mut giving: BTreeMap<String, usize>,
    mut receiving: BTreeMap<String, usize>,
) {
    for endpoint in endpoints {
        let Some(gives) = endpoint.zone.as_ref().and_then(|zone| giving.get_mut(zone)).filter(|gives| **gives > 0) else { continue };
        let Some((receiver, receives)) = receiving.iter_mut().find(|(_, receives)| **receives > 0) else { return };
        *gives -= 1;
        *receives -= 1;
        endpoint.zone_hints = vec![receiver.clone()];
    }
}
