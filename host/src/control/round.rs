//! One rebuild, from what is dirty to a table: Services are admitted, their ports and addresses settled, the touched ports planned.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::frontends::{self, Claim};
use super::index::Dirty;
use super::port::{Outcome, PortState, Surroundings};
use super::stages::Session;
use super::{Applied, Controller, Family, PortKey, ServiceName, Update, health_checks, host_ports, pool, renew};
use crate::objects::model::{Diagnostic, Service};
use crate::objects::update::{Allocated, update};
use crate::policy::contract::Planner;
use crate::table::{Frontend, Origins, ServiceId, Table};

/// What a rebuild gathers.
struct Round<'a> {
    session: Session<'a>,
    keep_going: &'a mut dyn FnMut() -> bool,
    table: Table,
    now_ms: u64,
    /// The table differs from the last in something.
    touched: bool,
    changed: Vec<ServiceId>,
    removed: Vec<ServiceId>,
    arisen: Vec<Diagnostic>,
    /// Services whose health checks may say something else.
    checked: BTreeSet<ServiceName>,
}

pub(super) fn run(controller: &mut Controller, planner: &mut dyn Planner, now_ms: u64, keep_going: &mut dyn FnMut() -> bool) -> Update {
    let dirty = std::mem::take(&mut controller.dirty);
    let catalogue = controller.catalogue.clone();
    let retired = std::mem::take(&mut controller.ids.retired);
    controller.ids.free.extend(retired);
    let mut table = Table::clone(&controller.table);
    table.generation += 1;
    let mut round = Round {
        session: Session { planner, catalogue: &catalogue, faults: Vec::new() },
        keep_going,
        table,
        now_ms,
        touched: false,
        changed: Vec::new(),
        removed: Vec::new(),
        arisen: Vec::new(),
        checked: BTreeSet::new(),
    };
    let ranged = controller.settle_origins(&dirty, &mut round);
    let mut settled = controller.settle_services(&dirty, &mut round);
    settled.extend(ranged);
    settled.extend(controller.settle_slices(&dirty, &mut round.arisen));
    controller.plan_ports(dirty, settled, &mut round);
    round.touched |= controller.settle_health_checks(&round.checked, &mut round.table);
    if round.touched {
        controller.table = Arc::new(round.table);
    }
    Update {
        table: Arc::clone(&controller.table),
        changed: round.changed,
        removed: round.removed,
        diagnostics: round.arisen,
        faults: round.session.faults,
    }
}

impl Controller {
    /// Who is this node, and who is a pod. Returns the ports that may answer other clients, now that the node is where it is.
    fn settle_origins(&mut self, dirty: &Dirty, round: &mut Round<'_>) -> BTreeSet<ServiceId> {
        if !dirty.origins {
            return BTreeSet::new();
        }
        let object = self.index.nodes.get(&self.settings.node.name);
        let own = self.settings.node_addresses.iter();
        let addresses: BTreeSet<_> = own.chain(object.iter().flat_map(|object| &object.addresses)).copied().collect();
        let node: Arc<[IpAddr]> = addresses.into_iter().collect();
        let moved = node != round.table.origins.node;
        round.table.origins = Origins { pods: self.index.pod_addresses.clone(), pod_ranges: self.settings.pod_ranges.clone().into(), node };
        round.table.service_ranges = self.settings.service_ranges.clone().into();
        round.touched = true;
        let ranged = self.ports.values().filter(|port| moved && !port.service.load_balancer_source_ranges.is_empty());
        ranged.map(|port| port.id).collect()
    }

    /// Admits Services, and settles their ports and addresses. Returns the ports to plan.
    fn settle_services(&mut self, dirty: &Dirty, round: &mut Round<'_>) -> BTreeSet<ServiceId> {
        let mut to_plan = BTreeSet::new();
        if dirty.services.is_empty() {
            return to_plan;
        }
        let mut claims: BTreeMap<ServiceName, Vec<Claim>> = BTreeMap::new();
        let is_gone = |name: &&ServiceName| dirty.deleted.contains(name) || self.index.service(name).is_none();
        let gone: Vec<_> = dirty.services.iter().filter(is_gone).cloned().collect();
        for name in gone {
            self.allocator.release(&name);
            self.pool.release(&name);
            self.refused.remove(&name);
            self.remove_service(&name, &mut claims, round);
        }
        for name in self.admit(&dirty.services, round) {
            self.settle_ports(&name, &mut to_plan, round);
            if let Some(applied) = self.services.get(&name) {
                claims.insert(name.clone(), frontends::claims(&name, &applied.service, &applied.allocation, &self.settings));
            }
            round.checked.insert(name);
        }
        self.settle_frontends(claims, round);
        to_plan
    }

    /// The names of the Services that are in force anew. Those that were refused before try again: what they want may be free now.
    fn admit(&mut self, dirty: &BTreeSet<ServiceName>, round: &mut Round<'_>) -> BTreeSet<ServiceName> {
        let names = dirty.iter().chain(self.refused.keys());
        let (pods, names): (BTreeSet<_>, BTreeSet<_>) = names.cloned().partition(|name| name.pod().is_some());
        let mut admitted = self.admit_pods(pods);
        let wanted = self.next_versions(names, round);
        let outcomes = self.allocator.admit(&wanted.iter().map(|(name, service)| (name.clone(), service.as_ref())).collect());
        let mut wishes = BTreeMap::new();
        for (name, outcome) in outcomes {
            let Some(service) = wanted.get(&name) else { continue };
            match outcome {
                Ok(allocation) => {
                    self.refused.remove(&name);
                    match pool::wish(service, &allocation) {
                        Some(wish) => {
                            wishes.insert(name.clone(), wish);
                        }
                        None => self.pool.release(&name),
                    }
                    let applied = self.services.entry(name.clone()).or_insert_with(|| Applied::new(Arc::clone(service)));
                    applied.service = Arc::clone(service);
                    applied.allocation = allocation;
                    applied.wanting.clear();
                    self.slices.pend(&name);
                    admitted.insert(name);
                }
                Err(problems) => renew(self.refused.entry(name).or_default(), problems, &mut round.arisen),
            }
        }
        admitted.extend(self.settle_pool(wishes));
        admitted
    }

    /// What is asked of these Services now. A version that may not follow the one in force is refused here, before it can ask for
    /// addresses.
    fn next_versions(&mut self, names: BTreeSet<ServiceName>, round: &mut Round<'_>) -> BTreeMap<ServiceName, Arc<Service>> {
        let mut wanted = BTreeMap::new();
        for name in names {
            let Some(asked) = self.index.services.get(&name) else { continue };
            match self.services.get(&name).map_or_else(|| Ok(Arc::clone(asked)), |applied| applied.next(asked)) {
                Ok(service) => drop(wanted.insert(name, service)),
                Err(problems) => renew(self.refused.entry(name).or_default(), problems, &mut round.arisen),
            }
        }
        wanted
    }

    /// Pods ask for nothing that is allocated.
    fn admit_pods(&mut self, names: BTreeSet<ServiceName>) -> BTreeSet<ServiceName> {
        let mut admitted = BTreeSet::new();
        for name in names {
            let Some(service) = self.index.service(&name).map(Arc::clone) else { continue };
            let applied = self.services.entry(name.clone()).or_insert_with(|| Applied::new(Arc::clone(&service)));
            applied.allocation = host_ports::allocation(&service, &self.settings);
            applied.wanting = host_ports::unreachable(&service, &applied.allocation).into_iter().collect();
            applied.service = service;
            admitted.insert(name);
        }
        admitted
    }

    /// Hands out load-balancer addresses. Returns those whose addresses may have changed.
    fn settle_pool(&mut self, wishes: BTreeMap<ServiceName, pool::Wish>) -> BTreeSet<ServiceName> {
        let mut settled = BTreeSet::new();
        for (name, given) in self.pool.settle(wishes) {
            let Some(applied) = self.services.get_mut(&name) else { continue };
            let place = |owner: &ServiceName| self.allocator.place_of(owner).to_owned();
            applied.wanting = given.lack.iter().map(|lack| self.pool.diagnostic(&applied.service, lack, place)).collect();
            applied.allocation.load_balancer_ips = given.ips;
            settled.insert(name);
        }
        settled
    }

    fn remove_service(&mut self, name: &ServiceName, claims: &mut BTreeMap<ServiceName, Vec<Claim>>, round: &mut Round<'_>) {
        let Some(applied) = self.services.remove(name) else { return };
        self.rollbacks.forget(name);
        if let Some(number) = applied.health_check {
            health_checks::forget(&mut round.table, name, number);
        }
        self.frontends.stop_waiting(name, &applied.missed);
        for key in applied.frontends.keys() {
            round.table.frontends.remove(key);
            let waiting = self.frontends.release(name, key);
            self.invite(waiting, claims);
        }
        round.touched = true;
        for id in applied.ports.into_values() {
            self.remove_port(id, round);
        }
    }

    /// Those who waited for an address claim all of theirs again.
    fn invite(&self, waiting: BTreeSet<ServiceName>, claims: &mut BTreeMap<ServiceName, Vec<Claim>>) {
        for name in waiting {
            if let Some(applied) = self.services.get(&name) {
                let all = || frontends::claims(&name, &applied.service, &applied.allocation, &self.settings);
                claims.entry(name.clone()).or_insert_with(all);
            }
        }
    }

    /// The Service's ports, in each family: old ones keep their ids.
    fn settle_ports(&mut self, name: &ServiceName, to_plan: &mut BTreeSet<ServiceId>, round: &mut Round<'_>) {
        let Some(applied) = self.services.get_mut(name) else { return };
        let service = Arc::clone(&applied.service);
        let families: BTreeSet<Family> = frontends::families(name, &service, &applied.allocation);
        let load_balancer_ips = frontends::load_balancer_ips(&service, &applied.allocation).to_vec();
        let ports = service.ports.iter().enumerate();
        let wanted: BTreeMap<PortKey, usize> =
            ports.flat_map(|(at, port)| families.iter().map(move |family| (PortKey::new(name, port, *family), at))).collect();
        let mut before = std::mem::take(&mut applied.ports);
        for (key, at) in wanted {
            let id = match before.remove(&key) {
                Some(id) => id,
                None => self.ids.draw(),
            };
            applied.ports.insert(key.clone(), id);
            let state = self.ports.entry(id).or_insert_with(|| PortState::new(id, key, Arc::clone(&service), at));
            state.service = Arc::clone(&service);
            state.at = at;
            state.load_balancer_ips.clone_from(&load_balancer_ips);
            let selecting = &mut self.index.namespace_mut(&name.namespace).selecting;
            if service.selector.is_some() {
                selecting.insert(id)
            } else {
                selecting.remove(&id)
            };
            to_plan.insert(id);
        }
        for id in before.into_values() {
            self.remove_port(id, round);
        }
    }

    fn remove_port(&mut self, id: ServiceId, round: &mut Round<'_>) {
        let Some(state) = self.ports.remove(&id) else { return };
        let namespace = &state.key.service.namespace;
        let classes: Vec<_> = state.classes.keys().copied().collect();
        self.index.relink(namespace, id, &classes, &[]);
        self.index.namespace_mut(namespace).selecting.remove(&id);
        self.ids.retired.push(id);
        round.session.planner.forget(id);
        if (id as usize) < round.table.ports.len() {
            round.table.ports.set(id as usize, None);
        }
        round.removed.push(id);
        round.touched = true;
    }

    /// Gives up what is no longer claimed, then claims.
    fn settle_frontends(&mut self, mut claims: BTreeMap<ServiceName, Vec<Claim>>, round: &mut Round<'_>) {
        let settled: Vec<ServiceName> = claims.keys().cloned().collect();
        for name in settled {
            let Some(applied) = self.services.get_mut(&name) else { continue };
            let wanted: BTreeSet<_> = claims[&name].iter().map(|claim| claim.key).collect();
            let missed = std::mem::take(&mut applied.missed);
            let given_up: Vec<_> = applied.frontends.keys().filter(|key| !wanted.contains(key)).copied().collect();
            self.frontends.stop_waiting(&name, &missed);
            for key in given_up {
                if let Some(applied) = self.services.get_mut(&name) {
                    applied.frontends.remove(&key);
                }
                round.table.frontends.remove(&key);
                round.touched = true;
                let waiting = self.frontends.release(&name, &key);
                self.invite(waiting, &mut claims);
            }
        }
        let mut problems: BTreeMap<&ServiceName, Vec<Diagnostic>> = BTreeMap::new();
        for (name, claim) in frontends::in_order(&claims) {
            let problems = problems.entry(name).or_default();
            let Some(applied) = self.services.get_mut(name) else { continue };
            match self.frontends.claim(name, &applied.service, claim) {
                Ok(()) => answer(applied, claim, round),
                Err(problem) => {
                    applied.missed.insert(claim.key);
                    problems.push(*problem);
                }
            }
        }
        for name in claims.keys() {
            let Some(applied) = self.services.get_mut(name) else { continue };
            let mut now = problems.remove(name).unwrap_or_default();
            now.extend(applied.wanting.iter().cloned());
            now.extend(frontends::foreign_addresses(name, &applied.service, &applied.allocation));
            renew(&mut applied.diagnostics, now, &mut round.arisen);
        }
    }

    /// Plans every touched port.
    fn plan_ports(&mut self, dirty: Dirty, settled: BTreeSet<ServiceId>, round: &mut Round<'_>) {
        let mut to_plan = settled;
        to_plan.extend(&dirty.ports);
        let (on_nodes, written_for) = self.index.touched_by_nodes(&dirty.nodes);
        to_plan.extend(on_nodes);
        let written_for = dirty.hand_written.iter().chain(&written_for);
        to_plan.extend(written_for.filter_map(|name| self.services.get(name)).flat_map(|applied| applied.ports.values()));
        if dirty.all {
            to_plan.extend(self.ports.keys());
        }
        // New labels concern every selector of their namespace, though few will want them.
        let selecting = dirty.namespaces.iter().filter_map(|name| self.index.namespace(name)).flat_map(|known| &known.selecting);
        let to_ask: BTreeSet<ServiceId> = selecting.copied().chain(to_plan.iter().copied()).collect();
        let mut to_ask = to_ask.into_iter();
        for id in to_ask.by_ref() {
            self.plan_port(id, to_plan.contains(&id), round);
            if !(round.keep_going)() {
                break;
            }
        }
        self.dirty.ports.extend(to_ask);
    }

    fn plan_port(&mut self, id: ServiceId, touched: bool, round: &mut Round<'_>) {
        let Some(state) = self.ports.get_mut(&id) else { return };
        let mut diagnostics = Vec::new();
        let before: Vec<_> = state.classes.keys().copied().collect();
        let others = state.select(&mut round.session, &self.index, touched, &mut diagnostics);
        if others {
            let gone: Vec<_> = before.iter().filter(|class| !state.classes.contains_key(class)).copied().collect();
            let came: Vec<_> = state.classes.keys().filter(|class| before.binary_search(class).is_err()).copied().collect();
            self.index.relink(&state.key.service.namespace, id, &gone, &came);
        }
        // A selector that fails over new labels changes the stage, even where the pods stay the same.
        if !touched && !others && !state.selector_moved() {
            return;
        }
        let around = Surroundings {
            index: &self.index,
            slices: &self.slices,
            settings: &self.settings,
            rollbacks: &self.rollbacks,
            node: &self.node,
            now_ms: round.now_ms,
            generation: round.table.generation,
        };
        let outcome = state.plan(&mut round.session, &around, &mut self.loads, &mut diagnostics);
        renew(&mut state.diagnostics, diagnostics, &mut round.arisen);
        self.rollbacks.tidy(&state.key.service, &state.service.options, state.candidate());
        if outcome == Outcome::Unchanged {
            return;
        }
        round.checked.insert(state.key.service.clone());
        while round.table.ports.len() <= id as usize {
            round.table.ports.push_back(None);
        }
        round.table.ports.set(id as usize, state.entry.clone());
        round.touched = true;
        if outcome == Outcome::Replanned {
            round.changed.push(id);
        }
    }
}

impl Applied {
    /// The Service as it follows the one in force, with what it keeps of it; or why it may not (kubernetes-semantics 1.7, 1.20).
    fn next(&self, asked: &Arc<Service>) -> Result<Arc<Service>, Vec<Diagnostic>> {
        let numbers = self.service.ports.iter().zip(&self.allocation.node_ports);
        let node_ports: Vec<(&str, u16)> = numbers.filter_map(|(port, number)| Some((port.name.as_str(), (*number)?))).collect();
        let given = Allocated {
            cluster_ips: &self.allocation.cluster_ips,
            node_ports: &node_ports,
            health_check_node_port: self.allocation.health_check_node_port,
        };
        update(&self.service, &given, asked).map(Arc::new)
    }

    fn new(service: Arc<Service>) -> Self {
        Self {
            service,
            allocation: super::Allocation::default(),
            ports: BTreeMap::new(),
            frontends: BTreeMap::new(),
            missed: BTreeSet::new(),
            health_check: None,
            wanting: Vec::new(),
            diagnostics: Vec::new(),
        }
    }
}

/// The Service answers on an address.
fn answer(applied: &mut Applied, claim: &Claim, round: &mut Round<'_>) {
    let Some(id) = applied.ports.get(&claim.port).copied() else { return };
    if applied.frontends.insert(claim.key, (claim.kind, id)) != Some((claim.kind, id)) {
        round.table.frontends.insert(claim.key, Frontend { kind: claim.kind, service: id });
        round.touched = true;
    }
}
