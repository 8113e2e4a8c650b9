//! The steps of planning a Service port, as functions: asking a policy, checking what it returned, cutting endpoints into candidate sets.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use super::endpoints::ResolvedEndpoint;
use super::index::{ClassId, Namespace, records};
use super::loads::Loads;
use super::port::Outcome;
use super::stages::Output;
use crate::objects::model::Labels;
use crate::policy::contract::{self, Fault, Partition, Planner};
use crate::table::{
    Canary, CandidateSet, Endpoint, MAX_CANDIDATE_SETS, Port, PortRecord, ServiceId, Shadow, Slot, Stage, Subset, VersionId,
};

/// A selector may name this many groups: with "any group", and the four subsets that the native traffic policy makes at most, they fit
/// the limit on candidate sets whatever the traffic policy does.
const MAX_GROUPS: usize = MAX_CANDIDATE_SETS / 4 - 1;

/// What a selector made of the port and its namespace's pods.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) groups: Arc<[String]>,
    pub(super) data: Arc<[u8]>,
    pub(super) classes: BTreeMap<ClassId, Option<u32>>,
    /// Every class below has been put to it.
    pub(super) seen: ClassId,
}

/// What a traffic policy made of the endpoints.
#[derive(Debug)]
pub(super) struct Cut {
    /// With ascending members.
    pub(super) subsets: Vec<Subset>,
    pub(super) data: Arc<[u8]>,
}

/// What a balancer made of candidate sets, by their members: sets of equal members share a plan.
pub(super) type SetPlans = HashMap<Arc<[Slot]>, Arc<[u8]>>;

impl Output for Selection {}

impl Output for Cut {}

impl Output for SetPlans {
    /// Nobody is asked to balance nothing.
    fn was_asked_for(&self) -> bool {
        !self.is_empty()
    }
}

/// Which slots hold the same endpoint, in the same state, as in the generation before.
pub(super) struct Kept {
    slots: Vec<bool>,
    /// Every one, and none has gone.
    pub(super) all: bool,
}

impl Kept {
    pub(super) fn between(before: &[Endpoint], now: &[Endpoint]) -> Self {
        let slots: Vec<bool> =
            now.iter().enumerate().map(|(slot, endpoint)| before.get(slot).is_some_and(|b| equal(b, endpoint))).collect();
        let all = before.len() == now.len() && slots.iter().all(|kept| *kept);
        Self { slots, all }
    }

    fn has(&self, members: &[Slot]) -> bool {
        members.iter().all(|slot| self.slots[*slot as usize])
    }
}

/// Has a selector name its groups.
pub(super) fn plan_selector(planner: &mut dyn Planner, version: VersionId, record: &PortRecord) -> Result<Selection, Fault> {
    let grouping = planner.plan_selector(version, record)?;
    if grouping.groups.len() > MAX_GROUPS {
        return Err(Fault::OutOfRange(format!("{} groups, where {MAX_GROUPS} are allowed", grouping.groups.len())));
    }
    Ok(Selection { groups: grouping.groups.into(), data: grouping.data.into(), classes: BTreeMap::new(), seen: 0 })
}

/// Puts every class of pods to a selector that it has not been asked about.
pub(super) fn classify(
    planner: &mut dyn Planner,
    version: VersionId,
    service: ServiceId,
    namespace: &Namespace,
    selection: &mut Selection,
) -> Result<(), Fault> {
    for (id, class) in namespace.classes.range(selection.seen..) {
        let Some(group) = planner.classify(version, service, &class.records)? else { continue };
        if group as usize >= selection.groups.len() {
            return Err(Fault::OutOfRange(format!("group {group} of {}", selection.groups.len())));
        }
        selection.classes.insert(*id, Some(group));
    }
    Ok(())
}

/// Where no selector could plan: what its labels say, as in Kubernetes.
pub(super) fn natively_selected(namespace: Option<&Namespace>, selector: Option<&Labels>) -> BTreeMap<ClassId, Option<u32>> {
    let (Some(namespace), Some(selector)) = (namespace, selector) else { return BTreeMap::new() };
    let matches = |labels: &Labels| selector.iter().all(|(key, value)| labels.get(key) == Some(value));
    namespace.classes.iter().filter(|(_, class)| matches(&class.labels)).map(|(id, _)| (*id, None)).collect()
}

/// Endpoints with the identity that they had: key, hash and load cell.
pub(super) fn with_identity(resolved: Vec<ResolvedEndpoint>, known: &[Endpoint], loads: &mut Loads) -> Vec<Endpoint> {
    let identity = |address| match known.binary_search_by_key(&address, |known| known.address) {
        Ok(at) => (Arc::clone(&known[at].key), known[at].hash, Arc::clone(&known[at].load)),
        Err(_) => {
            let key = address.to_string();
            let hash = xxh64(key.as_bytes(), 0);
            (key.into(), hash, loads.of(address))
        }
    };
    let mut identity = identity;
    let endpoints = resolved.into_iter().map(|endpoint| {
        let (key, hash, load) = identity(endpoint.address);
        Endpoint {
            address: endpoint.address,
            key,
            hash,
            conditions: endpoint.conditions,
            weight: endpoint.weight,
            local: endpoint.local,
            node: endpoint.node,
            zone: endpoint.zone,
            node_hints: endpoint.node_hints,
            zone_hints: endpoint.zone_hints,
            labels: endpoint.labels,
            group: endpoint.group,
            ready_since_ms: endpoint.ready_since_ms,
            load,
        }
    });
    endpoints.collect()
}

/// An endpoint as policies see it.
pub(super) fn record_of(slot: Slot, endpoint: &Endpoint) -> contract::Endpoint {
    contract::Endpoint {
        slot,
        key: endpoint.key.to_string(),
        hash: endpoint.hash,
        conditions: endpoint.conditions,
        weight: endpoint.weight,
        local: endpoint.local,
        node: endpoint.node.as_deref().map(str::to_owned),
        zone: endpoint.zone.as_deref().map(str::to_owned),
        node_hints: endpoint.node_hints.clone(),
        zone_hints: endpoint.zone_hints.clone(),
        labels: records(&endpoint.labels),
        group: endpoint.group,
        ready_since_ms: endpoint.ready_since_ms,
    }
}

/// A partition with ascending members.
pub(super) fn in_slot_order(mut partition: Partition) -> Partition {
    for subset in &mut partition.subsets {
        subset.members.sort_unstable();
    }
    partition
}

/// What a traffic policy returned, if it keeps to the contract: slots that exist, none twice in a subset, and together with the native
/// subsets no more candidate sets than allowed.
pub(super) fn checked(partition: Partition, endpoints: &[Endpoint], native: &Partition, groups: usize) -> Result<Cut, Fault> {
    if partition.subsets.len() > MAX_CANDIDATE_SETS {
        return Err(Fault::OutOfRange(format!("{} subsets, where {MAX_CANDIDATE_SETS} are allowed", partition.subsets.len())));
    }
    let partition = in_slot_order(partition);
    for subset in &partition.subsets {
        if let Some(slot) = subset.members.last().filter(|slot| **slot as usize >= endpoints.len()) {
            return Err(Fault::OutOfRange(format!("slot {slot} of {} in subset {}", endpoints.len(), subset.name)));
        }
        if let Some(twice) = subset.members.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Fault::OutOfRange(format!("slot {} twice in subset {}", twice[0], subset.name)));
        }
    }
    let (all, _) = merged(&partition.subsets, &native.subsets);
    let sets = candidate_sets(endpoints, groups, &all).len();
    if sets > MAX_CANDIDATE_SETS {
        return Err(Fault::OutOfRange(format!("subsets that make {sets} candidate sets, where {MAX_CANDIDATE_SETS} are allowed")));
    }
    Ok(Cut { subsets: partition.subsets, data: partition.data.into() })
}

/// The policy's subsets, then the native ones that are not among them; and where each native one is.
pub(super) fn merged(own: &[Subset], native: &[Subset]) -> (Vec<Subset>, Vec<u32>) {
    let mut subsets = own.to_vec();
    let mut at = Vec::with_capacity(native.len());
    for subset in native {
        let known = subsets.iter().position(|known| known.members == subset.members);
        at.push(known.unwrap_or(subsets.len()) as u32);
        if known.is_none() {
            subsets.push(subset.clone());
        }
    }
    (subsets, at)
}

/// Every non-empty group ∩ subset. `groups` is 0 where groups make no difference: then there are only sets of "any group".
pub(super) fn candidate_sets(endpoints: &[Endpoint], groups: usize, subsets: &[Subset]) -> Vec<CandidateSet> {
    let mut sets = Vec::new();
    for (at, subset) in subsets.iter().enumerate().filter(|(_, subset)| !subset.members.is_empty()) {
        sets.push(CandidateSet { group: None, subset: at as u32, members: subset.members.as_slice().into() });
    }
    for group in (0..groups as u32).map(Some) {
        for (at, subset) in subsets.iter().enumerate() {
            let members = subset.members.iter().copied().filter(|slot| endpoints[*slot as usize].group == group);
            let members: Vec<Slot> = members.collect();
            if !members.is_empty() {
                sets.push(CandidateSet { group, subset: at as u32, members: members.into() });
            }
        }
    }
    sets
}

/// Has a balancer plan every set of members that it has not planned in their present state.
pub(super) fn plan_sets(
    planner: &mut dyn Planner,
    version: VersionId,
    port: &PortRecord,
    sets: &[CandidateSet],
    endpoints: &[contract::Endpoint],
    kept: &Kept,
    mut before: SetPlans,
) -> Result<SetPlans, Fault> {
    let mut plans = SetPlans::new();
    for set in sets {
        if plans.contains_key(&set.members) {
            continue;
        }
        let plan = match before.remove(&set.members).filter(|_| kept.has(&set.members)) {
            Some(plan) => plan,
            None if set.members.len() == endpoints.len() => planner.plan_balancer(version, port, endpoints)?.into(),
            None => {
                let members: Vec<_> = set.members.iter().map(|slot| endpoints[*slot as usize].clone()).collect();
                planner.plan_balancer(version, port, &members)?.into()
            }
        };
        plans.insert(Arc::clone(&set.members), plan);
    }
    Ok(plans)
}

/// What tells two entries of a port apart; `kept`: their endpoints do not.
pub(super) fn difference(before: &Port, now: &Port, kept: bool) -> Outcome {
    let same_plans = kept
        && before.groups == now.groups
        && before.subsets == now.subsets
        && before.sets == now.sets
        && same_stage(&before.selector, &now.selector)
        && same_stage(&before.traffic_policy, &now.traffic_policy)
        && same_stage(&before.balancer, &now.balancer)
        && same_shadow(before.shadow.as_deref(), now.shadow.as_deref())
        && before.fallback.plan == now.fallback.plan
        && before.fallback.subsets == now.fallback.subsets;
    if !same_plans {
        Outcome::Replanned
    } else if before.record != now.record || before.options != now.options || canary(before) != canary(now) || !before.masked.is_empty() {
        Outcome::Refreshed
    } else {
        Outcome::Unchanged
    }
}

/// Whether two stages hold the same versions and plans.
pub(super) fn same_stage<P: PartialEq>(a: &Stage<P>, b: &Stage<P>) -> bool {
    a.name == b.name && a.planned().map(|p| (p.version.id, &p.plan)).eq(b.planned().map(|p| (p.version.id, &p.plan)))
}

/// Whether two candidates have the same version, plans and comparison.
fn same_shadow(a: Option<&Shadow>, b: Option<&Shadow>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => {
            let (one, other) = (a.planned.as_ref(), b.planned.as_ref());
            let same = one.map(|planned| (planned.version.id, &planned.plan)) == other.map(|planned| (planned.version.id, &planned.plan));
            a.name == b.name && a.since == b.since && same
        }
        (None, None) => true,
        _ => false,
    }
}

fn canary(port: &Port) -> Option<Canary> {
    port.shadow.as_ref()?.canary
}

/// Whether a policy could not tell one from the other.
fn equal(a: &Endpoint, b: &Endpoint) -> bool {
    let place = |e: &Endpoint| (e.address, e.conditions, e.weight, e.local, e.group, e.ready_since_ms);
    place(a) == place(b)
        && a.node == b.node
        && a.zone == b.zone
        && a.node_hints == b.node_hints
        && a.zone_hints == b.zone_hints
        && (Arc::ptr_eq(&a.labels, &b.labels) || a.labels == b.labels)
}
