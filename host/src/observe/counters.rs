//! Counters of one worker: plain numbers, touched by that worker alone. A connection holds on to the series that it counts into, so
//! it need not look them up again, and a series outlives its Service until its last connection is done.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::record::{ConnectError, Outcome};
use super::shadow::{Comparison, ShadowKey};
use super::snapshot::{EndpointSnapshot, FRONTEND_KINDS, FallbackKey, ServiceKey, ServiceSnapshot, Snapshot, Tally};
use crate::policy::contract::{Fault, StageKind};
use crate::route::{By, Decision, Shadowed};
use crate::table::{Endpoint, FrontendKind, Port, ServiceId, Table};

/// The counters of one worker.
#[derive(Default)]
pub struct Counters {
    totals: Rc<RefCell<Tally>>,
    accept_errors: RefCell<BTreeMap<&'static str, u64>>,
    accept_pauses: Cell<u64>,
    outcomes_untold: Cell<u64>,
    datagrams_lost: RefCell<BTreeMap<&'static str, u64>>,
    refusals: RefCell<BTreeMap<&'static str, u64>>,
    fallbacks: RefCell<BTreeMap<FallbackKey, u64>>,
    services: RefCell<HashMap<ServiceId, Rc<Service>>>,
    /// Services that are gone and still have connections.
    departed: RefCell<Vec<Rc<Service>>>,
    /// Of the Service ports that somebody is tried on.
    shadows: RefCell<HashMap<ServiceId, Comparison>>,
    /// Services whose endpoints may have left since the last sweep.
    changed: RefCell<HashSet<ServiceId>>,
}

struct Service {
    key: ServiceKey,
    tally: RefCell<Tally>,
    frontends: Cell<[u64; FRONTEND_KINDS.len()]>,
    endpoints: RefCell<HashMap<u64, Rc<EndpointSeries>>>,
    /// Endpoints that are gone and still have connections.
    departed: RefCell<Vec<Rc<EndpointSeries>>>,
}

struct EndpointSeries {
    key: Arc<str>,
    counts: RefCell<EndpointSnapshot>,
}

/// What one connection counts into, from accept to its end.
pub struct ConnectionCounter {
    totals: Rc<RefCell<Tally>>,
    service: Option<Rc<Service>>,
    endpoint: Option<Rc<EndpointSeries>>,
}

impl Counters {
    /// A connection to a Service port was accepted.
    pub fn accepted(&self, port: &Port, kind: FrontendKind) -> ConnectionCounter {
        let service = Rc::clone(self.services.borrow_mut().entry(port.id).or_insert_with(|| Rc::new(Service::new(port))));
        let mut frontends = service.frontends.get();
        if let Some(at) = FRONTEND_KINDS.iter().position(|known| *known == kind) {
            frontends[at] += 1;
        }
        service.frontends.set(frontends);
        self.open(Some(service))
    }

    /// A connection was accepted on an address that the table no longer knows.
    pub fn accepted_unknown(&self) -> ConnectionCounter {
        self.open(None)
    }

    /// How many connections are open.
    pub fn active(&self) -> u64 {
        self.totals.borrow().active
    }

    /// A connection was decided: counts each stage that was not decided by the version in force.
    pub fn decided(&self, port: &Port, decision: &Decision) {
        self.stage_decided(StageKind::Selector, &port.selector.name, &decision.selector);
        self.stage_decided(StageKind::TrafficPolicy, &port.traffic_policy.name, &decision.traffic_policy);
        self.retried(port, decision);
        if let Some(shadowed) = &decision.shadow {
            self.shadowed(port, decision, shadowed);
        }
    }

    fn shadowed(&self, port: &Port, decision: &Decision, shadowed: &Shadowed) {
        if let Some(comparison) = self.shadows.borrow_mut().get_mut(&port.id) {
            comparison.count(decision.set, shadowed);
        }
        if let (true, Err(fault), Some(shadow)) = (shadowed.canary, &shadowed.candidate, &port.shadow) {
            self.fell_back(StageKind::Balancer, &shadow.name, fault, "in-force");
        }
    }

    /// Another endpoint was decided on: only the balancer was asked.
    pub fn retried(&self, port: &Port, decision: &Decision) {
        self.stage_decided(StageKind::Balancer, &port.balancer.name, &decision.balancer);
    }

    fn stage_decided(&self, stage: StageKind, policy: &Arc<str>, by: &By) {
        let (by, fault) = match by {
            By::Current | By::Canary | By::NotAsked(_) => return,
            By::StandIn(fault) => ("stand-in", fault),
            By::Fallback(fault) => ("native", fault),
        };
        self.fell_back(stage, policy, fault, by);
    }

    fn fell_back(&self, stage: StageKind, policy: &Arc<str>, fault: &Fault, by: &'static str) {
        let key = FallbackKey { policy: Arc::clone(policy), stage, reason: fault.class(), by };
        *self.fallbacks.borrow_mut().entry(key).or_default() += 1;
    }

    /// `accept` failed.
    pub fn accept_failed(&self, reason: &'static str) {
        *self.accept_errors.borrow_mut().entry(reason).or_default() += 1;
    }

    /// A listener stopped accepting for a while.
    pub fn accept_paused(&self) {
        self.accept_pauses.set(self.accept_pauses.get() + 1);
    }

    /// Datagrams went nowhere.
    pub fn datagrams_lost(&self, reason: &'static str, count: u64) {
        *self.datagrams_lost.borrow_mut().entry(reason).or_default() += count;
    }

    /// A refusal was due to a UDP client, and this became of it.
    pub fn refusal(&self, result: &'static str) {
        *self.refusals.borrow_mut().entry(result).or_default() += 1;
    }

    /// An outcome had to be left out of a report.
    pub fn outcome_untold(&self) {
        self.outcomes_untold.set(self.outcomes_untold.get() + 1);
    }

    /// A new table is in force: Services left it, and others may have lost endpoints.
    pub fn table_changed(&self, table: &Table, removed: &[ServiceId], changed: &[ServiceId]) {
        let mut shadows = self.shadows.borrow_mut();
        shadows.retain(|id, _| !removed.contains(id));
        for id in changed {
            let before = shadows.remove(id);
            shadows.extend(table.port(*id).and_then(|port| Comparison::of(port, before)).map(|comparison| (*id, comparison)));
        }
        drop(shadows);
        let mut services = self.services.borrow_mut();
        self.departed.borrow_mut().extend(removed.iter().filter_map(|id| services.remove(id)));
        self.changed.borrow_mut().extend(changed.iter().filter(|id| services.contains_key(id)));
    }

    /// Lets go of what has left the table and has no connection any more. Not on the way of a connection.
    pub fn sweep(&self, table: &Table) {
        self.departed.borrow_mut().retain(|service| Rc::strong_count(service) > 1);
        let services = self.services.borrow();
        for id in self.changed.borrow_mut().drain() {
            if let (Some(service), Some(port)) = (services.get(&id), table.port(id)) {
                service.part_from_missing(port);
            }
        }
        for service in services.values() {
            service.departed.borrow_mut().retain(|endpoint| Rc::strong_count(endpoint) > 1);
        }
    }

    /// The counts now, with names.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            totals: *self.totals.borrow(),
            accept_errors: self.accept_errors.borrow().clone(),
            accept_pauses: self.accept_pauses.get(),
            outcomes_untold: self.outcomes_untold.get(),
            datagrams_lost: self.datagrams_lost.borrow().clone(),
            refusals: self.refusals.borrow().clone(),
            fallbacks: self.fallbacks.borrow().clone(),
            ..Snapshot::default()
        };
        for comparison in self.shadows.borrow().values() {
            snapshot.shadows.entry(comparison.key().clone()).or_default().merge(&comparison.snapshot());
        }
        for service in self.services.borrow().values().chain(self.departed.borrow().iter()) {
            snapshot.services.entry(service.key.clone()).or_default().merge(&service.snapshot());
        }
        snapshot
    }

    /// Faults of the balancers that are tried, by Service. Costs little.
    pub fn candidate_faults(&self) -> BTreeMap<ShadowKey, u64> {
        let mut faults = BTreeMap::new();
        for comparison in self.shadows.borrow().values() {
            *faults.entry(comparison.key().clone()).or_default() += comparison.faulted();
        }
        faults
    }

    fn open(&self, service: Option<Rc<Service>>) -> ConnectionCounter {
        let counter = ConnectionCounter { totals: Rc::clone(&self.totals), service, endpoint: None };
        counter.tally(|tally| {
            tally.accepted += 1;
            tally.active += 1;
        });
        counter
    }
}

impl Service {
    fn new(port: &Port) -> Self {
        Self {
            key: ServiceKey::of(port),
            tally: RefCell::default(),
            frontends: Cell::default(),
            endpoints: RefCell::default(),
            departed: RefCell::default(),
        }
    }

    fn endpoint(&self, endpoint: &Endpoint) -> Rc<EndpointSeries> {
        let fresh = || Rc::new(EndpointSeries { key: Arc::clone(&endpoint.key), counts: RefCell::default() });
        Rc::clone(self.endpoints.borrow_mut().entry(endpoint.hash).or_insert_with(fresh))
    }

    fn part_from_missing(&self, port: &Port) {
        let present: HashSet<u64> = port.endpoints.iter().map(|endpoint| endpoint.hash).collect();
        let mut endpoints = self.endpoints.borrow_mut();
        self.departed.borrow_mut().extend(endpoints.extract_if(|hash, _| !present.contains(hash)).map(|(_, endpoint)| endpoint));
    }

    fn snapshot(&self) -> ServiceSnapshot {
        let mut snapshot = ServiceSnapshot { tally: *self.tally.borrow(), frontends: self.frontends.get(), endpoints: BTreeMap::new() };
        for endpoint in self.endpoints.borrow().values().chain(self.departed.borrow().iter()) {
            snapshot.endpoints.entry(Arc::clone(&endpoint.key)).or_default().merge(&endpoint.counts.borrow());
        }
        snapshot
    }
}

impl ConnectionCounter {
    /// An endpoint was picked.
    pub fn picked(&mut self, endpoint: &Endpoint) {
        self.endpoint = self.service.as_ref().map(|service| service.endpoint(endpoint));
        self.endpoint_counts(|counts| counts.active += 1);
    }

    /// It accepted.
    pub fn connected(&self) {
        self.endpoint_counts(|counts| counts.connections += 1);
    }

    /// It could not be reached.
    pub fn connect_failed(&mut self, why: ConnectError) {
        let at = why as usize;
        self.tally(|tally| tally.failures[at] += 1);
        self.endpoint_counts(|counts| {
            counts.failures[at] += 1;
            counts.active -= 1;
        });
        self.endpoint = None;
    }

    /// Bytes were passed on.
    pub fn passed(&self, to_endpoint: u64, to_client: u64) {
        if to_endpoint + to_client == 0 {
            return;
        }
        self.tally(|tally| {
            tally.bytes_in += to_endpoint;
            tally.bytes_out += to_client;
        });
        self.endpoint_counts(|counts| {
            counts.bytes_in += to_endpoint;
            counts.bytes_out += to_client;
        });
    }

    /// Datagrams were passed on to the endpoint, with so many bytes in all.
    pub fn datagrams_in(&self, count: u64, bytes: u64) {
        self.passed(bytes, 0);
        self.tally(|tally| tally.datagrams_in += count);
        self.endpoint_counts(|counts| counts.datagrams_in += count);
    }

    /// Datagrams were passed on to the client, with so many bytes in all.
    pub fn datagrams_out(&self, count: u64, bytes: u64) {
        self.passed(0, bytes);
        self.tally(|tally| tally.datagrams_out += count);
        self.endpoint_counts(|counts| counts.datagrams_out += count);
    }

    /// The connection ended.
    pub fn ended(self, outcome: Outcome) {
        self.tally(|tally| tally.ended(outcome));
        self.endpoint_counts(|counts| counts.active -= 1);
    }

    fn tally(&self, count: impl Fn(&mut Tally)) {
        count(&mut self.totals.borrow_mut());
        if let Some(service) = &self.service {
            count(&mut service.tally.borrow_mut());
        }
    }

    fn endpoint_counts(&self, count: impl FnOnce(&mut EndpointSnapshot)) {
        if let Some(endpoint) = &self.endpoint {
            count(&mut endpoint.counts.borrow_mut());
        }
    }
}

#[cfg(test)]
mod tests;
