//! One Service port between rebuilds: the three stages planned in order, each from what the one before it left, and the table's entry
//! made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::endpoints::{self, Wanted};
use super::index::{ClassId, Index};
use super::loads::Loads;
use super::plans::{self, Cut, Kept, Selection, SetPlans};
use super::rollback::Rollbacks;
use super::shadow::{self, Comparison};
use super::slices::{Hints, Slices};
use super::source_ranges::source_ranges;
use super::stages::{Role, Session, StageState};
use super::{Family, PortKey, Settings};
use crate::objects::model::{Conditions, Diagnostic, Service, ServicePort};
use crate::policy::contract::{self, Fault, Node, Planner, StageKind};
use crate::policy::fallback;
use crate::table::{CandidateSet, Endpoint, Fallback, Port, PortOptions, PortRecord, ServiceId, Shadow, Slot, Subset, VersionId};

/// A Service port's state.
pub(super) struct PortState {
    pub(super) id: ServiceId,
    pub(super) key: PortKey,
    pub(super) service: Arc<Service>,
    /// Its place in `service.ports`.
    pub(super) at: usize,
    /// The Service's load-balancer addresses, whoever gave them.
    pub(super) load_balancer_ips: Vec<IpAddr>,
    pub(super) selector: StageState<Selection>,
    pub(super) traffic_policy: StageState<Cut>,
    pub(super) balancer: StageState<SetPlans>,
    /// The balancer that is tried beside that, where the Service names one.
    pub(super) shadow: StageState<SetPlans>,
    comparison: Option<Comparison>,
    /// The classes of pods that back it, with their groups.
    pub(super) classes: BTreeMap<ClassId, Option<u32>>,
    /// What is wrong with it now.
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) entry: Option<Arc<Port>>,
}

/// What planning reads besides the port.
pub(super) struct Surroundings<'a> {
    pub(super) index: &'a Index,
    pub(super) slices: &'a Slices,
    pub(super) settings: &'a Settings,
    pub(super) rollbacks: &'a Rollbacks,
    pub(super) node: &'a Node,
    pub(super) now_ms: u64,
    /// Of the table being built.
    pub(super) generation: u64,
}

/// What became of a port's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is as it was.
    Unchanged,
    /// The entry differs, in nothing that a policy sees.
    Refreshed,
    /// There are plans to adopt.
    Replanned,
}

impl PortState {
    pub(super) fn new(id: ServiceId, key: PortKey, service: Arc<Service>, at: usize) -> Self {
        Self {
            id,
            key,
            service,
            at,
            load_balancer_ips: Vec::new(),
            selector: StageState::default(),
            traffic_policy: StageState::default(),
            balancer: StageState::default(),
            shadow: StageState::default(),
            comparison: None,
            classes: BTreeMap::new(),
            diagnostics: Vec::new(),
            entry: None,
        }
    }

    /// Whether another try might plan what could not be planned.
    pub(super) fn faulted(&self) -> bool {
        self.selector.faulted || self.traffic_policy.faulted || self.balancer.faulted || self.shadow.faulted
    }

    /// Nothing that was planned may be used again: policies were told something new about the host.
    pub(super) fn forget_plans(&mut self) {
        self.selector.forget();
        self.traffic_policy.forget();
        self.balancer.forget();
        self.shadow.forget();
    }

    /// Whether another version of the selector is in force, or stands in, than the entry says.
    pub(super) fn selector_moved(&self) -> bool {
        let now = self.selector.stage(|selection| Arc::clone(&selection.data));
        self.entry.as_ref().is_none_or(|entry| !plans::same_stage(&entry.selector, &now))
    }

    /// Asks the selector stage which pods back the port: only of labels that it has not been asked about. True if the answer differs from
    /// the last. `tidy` also drops labels that no pod has any more.
    pub(super) fn select(&mut self, session: &mut Session<'_>, index: &Index, tidy: bool, diagnostics: &mut Vec<Diagnostic>) -> bool {
        let service = Arc::clone(&self.service);
        let namespace = index.namespace(&service.meta.namespace).filter(|_| service.selector.is_some());
        let next_class = index.next_class();
        let base = self.record();
        let choice = self.selector.choose(Role::Stage(StageKind::Selector), session.catalogue, &service, &base, diagnostics);
        let attempt = |planner: &mut dyn Planner, version: VersionId, record: &PortRecord, memo: Option<Selection>| {
            let mut selection = match memo {
                Some(selection) => selection,
                None => plans::plan_selector(planner, version, record)?,
            };
            if let Some(namespace) = namespace {
                plans::classify(planner, version, record.id, namespace, &mut selection)?;
                if tidy {
                    selection.classes.retain(|class, _| namespace.classes.contains_key(class));
                }
            }
            selection.seen = next_class;
            Ok(selection)
        };
        let same = |a: &Selection, b: &Selection| a.groups == b.groups && a.classes == b.classes;
        self.selector.plan(choice, session, &service, diagnostics, attempt, same);
        let classes = match &self.selector.current {
            Some(selection) => selection.output.classes.clone(),
            None => plans::natively_selected(namespace, service.selector.as_ref()),
        };
        let differs = classes != self.classes;
        self.classes = classes;
        differs
    }

    /// Plans the stages after the selector and makes the entry anew.
    pub(super) fn plan(
        &mut self,
        session: &mut Session<'_>,
        around: &Surroundings<'_>,
        loads: &mut Loads,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Outcome {
        let service = Arc::clone(&self.service);
        let before = self.entry.take();
        let known: &[Endpoint] = before.as_ref().map_or(&[], |entry| &entry.endpoints);
        let hints = around.slices.hints(&self.key, &service);
        let wanted = Wanted { hints, ..self.wanted(known, &self.classes) };
        let resolved = endpoints::resolve(around.index, around.settings, &wanted, around.now_ms);
        diagnostics.extend(endpoints::nobody(&service, self.at, &resolved));
        let made: Arc<[Endpoint]> = plans::with_identity(resolved.endpoints, known, loads).into();
        let records: Vec<contract::Endpoint> =
            made.iter().enumerate().map(|(slot, endpoint)| plans::record_of(slot as Slot, endpoint)).collect();
        let kept = Kept::between(known, &made);

        let base = self.record();
        let groups = self.selector.current.as_ref().map_or_else(Arc::default, |memo| Arc::clone(&memo.output.groups));
        let group_count = if base.selector.is_some() && groups.len() > 1 { groups.len() } else { 0 };
        let native = plans::in_slot_order(fallback::partition(around.node, &base, &records));

        let choice = self.traffic_policy.choose(Role::Stage(StageKind::TrafficPolicy), session.catalogue, &service, &base, diagnostics);
        let attempt = |planner: &mut dyn Planner, version: VersionId, record: &PortRecord, memo: Option<Cut>| match memo {
            Some(cut) if kept.all => Ok(cut),
            _ => {
                let partition = planner.plan_traffic_policy(version, record, &records)?;
                plans::checked(partition, &made, &native, group_count)
            }
        };
        let same =
            |a: &Cut, b: &Cut| a.subsets.len() == b.subsets.len() && a.subsets.iter().zip(&b.subsets).all(|(a, b)| a.members == b.members);
        self.traffic_policy.plan(choice, session, &service, diagnostics, attempt, same);
        let own: &[Subset] = self.traffic_policy.current.as_ref().map_or(&[], |memo| &memo.output.subsets);
        let (subsets, native_at) = plans::merged(own, &native.subsets);
        let sets: Arc<[CandidateSet]> = plans::candidate_sets(&made, group_count, &subsets).into();

        let choice = self.balancer.choose(Role::Stage(StageKind::Balancer), session.catalogue, &service, &base, diagnostics);
        let attempt = |planner: &mut dyn Planner, version: VersionId, record: &PortRecord, memo: Option<SetPlans>| {
            plans::plan_sets(planner, version, record, &sets, &records, &kept, memo.unwrap_or_default())
        };
        self.balancer.plan(choice, session, &service, diagnostics, attempt, |_, _| true);
        let shadow = self.plan_shadow(session, around, &base, &sets, diagnostics, attempt);

        let entry = Port {
            id: self.id,
            generation: around.generation,
            record: Arc::new(base),
            options: options(&service, self.source_ranges(around)),
            endpoints: made,
            masked: Arc::default(),
            groups,
            subsets: subsets.into(),
            selector: self.selector.stage(|selection| Arc::clone(&selection.data)),
            traffic_policy: self.traffic_policy.stage(|cut| Arc::clone(&cut.data)),
            balancer: self.balancer.stage(|plans| sets.iter().map(|set| plans.get(&set.members).cloned().unwrap_or_default()).collect()),
            shadow,
            sets,
            fallback: Fallback { plan: native.data.into(), subsets: native_at.into() },
        };
        let outcome = before.as_ref().map_or(Outcome::Replanned, |before| plans::difference(before, &entry, kept.all));
        self.entry = match outcome {
            Outcome::Unchanged => before,
            Outcome::Refreshed | Outcome::Replanned => Some(Arc::new(entry)),
        };
        outcome
    }

    /// Has the balancer that is tried plan what the one in force planned. None where nobody is tried.
    fn plan_shadow(
        &mut self,
        session: &mut Session<'_>,
        around: &Surroundings<'_>,
        base: &PortRecord,
        sets: &[CandidateSet],
        diagnostics: &mut Vec<Diagnostic>,
        attempt: impl FnMut(&mut dyn Planner, VersionId, &PortRecord, Option<SetPlans>) -> Result<SetPlans, Fault>,
    ) -> Option<Box<Shadow>> {
        let service = Arc::clone(&self.service);
        if service.options.shadow.policy.is_none() {
            self.shadow = StageState::default();
            self.comparison = None;
            return None;
        }
        let choice = self.shadow.choose(Role::Shadow, session.catalogue, &service, base, diagnostics);
        self.shadow.plan(choice, session, &service, diagnostics, attempt, |_, _| true);
        let (compared, since) = shadow::comparison(&self.balancer, &self.shadow, self.comparison.take(), around.generation);
        self.comparison = Some((compared, since));
        let rolled_back = around.rollbacks.stands(&self.key.service, &service.options, self.candidate());
        Some(Box::new(shadow::entry(&self.shadow, sets, &self.key.service, &service.options, since, rolled_back)))
    }

    /// The version that is tried.
    pub(super) fn candidate(&self) -> Option<VersionId> {
        self.shadow.planner().map(|(version, _)| version)
    }

    /// The slots of the entry that have left since it was made: gone, or neither ready nor serving any more. No policy is asked; labels
    /// that the selector has not seen get the benefit of the doubt.
    pub(super) fn left(&self, index: &Index, settings: &Settings, now_ms: u64) -> BTreeSet<Slot> {
        let Some(entry) = &self.entry else { return BTreeSet::new() };
        let mut classes = self.classes.clone();
        if let (Some(namespace), Some(memo)) = (index.namespace(&self.service.meta.namespace), &self.selector.current) {
            classes.extend(namespace.classes.range(memo.output.seen..).map(|(class, _)| (*class, None)));
        }
        let now = endpoints::resolve(index, settings, &self.wanted(&entry.endpoints, &classes), now_ms).endpoints;
        let usable = |conditions: Conditions| conditions.ready || conditions.serving;
        let left = entry.endpoints.iter().enumerate().filter(|(_, endpoint)| {
            match now.binary_search_by_key(&endpoint.address, |now| now.address) {
                Ok(at) => usable(endpoint.conditions) && !usable(now[at].conditions),
                Err(_) => true,
            }
        });
        left.map(|(slot, _)| slot as Slot).chain(entry.masked.iter().copied()).collect()
    }

    fn source_ranges(&self, around: &Surroundings<'_>) -> Vec<IpNet> {
        let object = around.index.nodes.get(&around.settings.node.name);
        let node = around.settings.node_addresses.iter().chain(object.iter().flat_map(|object| &object.addresses));
        let node: Vec<IpAddr> = node.copied().collect();
        source_ranges(&self.service.load_balancer_source_ranges, self.key.family == Family::V4, &node, &self.load_balancer_ips)
    }

    fn wanted<'a>(&'a self, before: &'a [Endpoint], classes: &'a BTreeMap<ClassId, Option<u32>>) -> Wanted<'a> {
        Wanted { service: &self.service, port: self.port(), family: self.key.family, classes, before, hints: Hints::None }
    }

    fn port(&self) -> &ServicePort {
        &self.service.ports[self.at]
    }

    /// What policies are told about it, without settings.
    fn record(&self) -> PortRecord {
        let (service, port) = (&self.service, self.port());
        PortRecord {
            id: self.id,
            namespace: service.meta.namespace.clone(),
            name: service.meta.name.clone(),
            port_name: port.name.clone(),
            port: port.port,
            protocol: port.protocol,
            labels: super::index::records(&service.meta.labels),
            selector: service.selector.as_ref().map(super::index::records),
            internal_traffic_policy: service.internal_traffic_policy,
            external_traffic_policy: service.external_traffic_policy,
            traffic_distribution: service.traffic_distribution.clone(),
            settings: Vec::new(),
        }
    }
}

fn options(service: &Service, source_ranges: Vec<IpNet>) -> PortOptions {
    PortOptions {
        affinity: service.affinity,
        max_connection_age: service.options.max_connection_age,
        proxy_protocol: service.options.proxy_protocol,
        refuse_on_failure: service.options.refuse_on_failure,
        source_ranges,
        drain: service.options.drain,
        udp_idle_timeout: service.options.udp_idle_timeout,
    }
}
