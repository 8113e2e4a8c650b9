//! One policy version on one worker: its instance or the wait for the next one, its breaker, its counters.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Seat;
use crate::policy::backoff::Backoff;
use crate::policy::breaker::{Admission, Breaker, BreakerState};
use crate::policy::contract::{Connection, Fault, Outcome, Place, StageKind};
use crate::policy::counters::PolicyCounters;
use crate::policy::instance::Instance;
use crate::policy::loaded::LoadedPolicy;
use crate::policy::tape::Tape;
use crate::table::{Port, ServiceId, SetPlans, Stage, Table, VersionId};

pub(super) struct Installed {
    policy: Arc<LoadedPolicy>,
    seat: Seat,
    seed: u64,
    instance: Option<Instance>,
    backoff: Backoff,
    breaker: Breaker,
    counters: PolicyCounters,
    /// Fuel of the last call.
    spent: u64,
    /// Services whose plan made `adopt` fault: not replayed until the plan changes, so that one Service's plan cannot take the policy
    /// from all others.
    unadopted: BTreeSet<ServiceId>,
    /// The latest time that anyone told.
    now_ms: u64,
}

impl Installed {
    pub(super) fn new(
        policy: Arc<LoadedPolicy>,
        seat: Seat,
        seed: u64,
        table: &Arc<Table>,
        now_ms: u64,
        mut tape: Option<&mut Tape>,
    ) -> Self {
        if let Some(tape) = tape.as_deref_mut() {
            tape.version(policy.version(), policy.stage(), policy.grants());
        }
        let counters = PolicyCounters::new(Arc::clone(policy.version()), policy.stage());
        let counters = PolicyCounters { candidate: seat == Seat::Candidate, ..counters };
        let breaker = Breaker::new(policy.limits().core_share_percent);
        let backoff = Backoff::new(seed);
        let mut installed =
            Self { policy, seat, seed, instance: None, backoff, breaker, counters, spent: 0, unadopted: BTreeSet::new(), now_ms };
        installed.build(table, tape);
        installed
    }

    fn version(&self) -> VersionId {
        self.policy.version().id
    }

    /// Whether a port names it here.
    pub(super) fn balances(&self, port: &Port) -> bool {
        self.set_plans(port).is_some()
    }

    /// Fuel of the last call.
    #[inline]
    pub(super) fn fuel(&self) -> u64 {
        self.spent
    }

    pub(super) fn learns(&self) -> bool {
        self.policy.learns()
    }

    #[inline]
    pub(super) fn admit(&mut self, connection: &Connection) -> Admission {
        self.now_ms = connection.now_ms;
        if self.instance.is_none() || (!self.unadopted.is_empty() && self.unadopted.contains(&connection.service)) {
            return Admission::Skip;
        }
        self.breaker.admit(connection.now_ms)
    }

    /// Why `admit` said no.
    pub(super) fn not_asked(&mut self) -> Fault {
        let why = if self.instance.is_none() {
            "being rebuilt"
        } else if self.breaker.state() == BreakerState::Open {
            "its breaker is open"
        } else {
            "it failed on this Service's plan"
        };
        let fault = Fault::NotAsked(why);
        self.counters.fault(&fault);
        fault
    }

    #[inline]
    pub(super) fn call<R>(&mut self, call: impl FnOnce(&mut Instance) -> Result<R, Fault>) -> Result<R, Fault> {
        let Some(instance) = &mut self.instance else { return Err(Fault::NotAsked("being rebuilt")) };
        let answer = call(instance);
        self.spent = instance.last_fuel();
        self.counters.spent(self.spent);
        answer
    }

    /// The tape has ended.
    pub(super) fn off_tape(&mut self) {
        if let Some(instance) = &mut self.instance {
            instance.note_loads(false);
        }
    }

    /// What `load` answered in the last call, for a tape.
    #[cold]
    pub(super) fn take_loads(&mut self) -> Vec<u32> {
        self.instance.as_mut().map(Instance::take_loads).unwrap_or_default()
    }

    /// Counts a decision; its answer is passed on, unless it was asked in shadow.
    #[inline]
    pub(super) fn settle<R>(&mut self, answer: Result<R, Fault>, admission: Admission, now_ms: u64) -> Result<R, Fault> {
        match answer {
            Ok(_) if admission == Admission::Shadow => {
                self.breaker.good();
                self.counters.shadowed += 1;
                Err(Fault::NotAsked("its breaker is half-open"))
            }
            Ok(answer) => {
                self.breaker.good();
                self.counters.answered += 1;
                Ok(answer)
            }
            Err(fault) => {
                self.failed(&fault, now_ms);
                Err(fault)
            }
        }
    }

    pub(super) fn busy(&mut self, now_ms: u64, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counters.busy_ns = self.counters.busy_ns.saturating_add(nanos);
        if self.breaker.busy(now_ms, nanos) {
            let share = self.policy.limits().core_share_percent;
            tracing::warn!(policy = %self.policy.version().name, "took more than {share} % of a core; it is not asked for a while");
        }
    }

    /// The caller found the answer out of range, or that there was none.
    pub(super) fn blame(&mut self, fault: &Fault) {
        if matches!(fault, Fault::NoOpinion | Fault::NotAsked(_)) {
            self.counters.fault(fault);
        } else {
            self.failed(fault, self.now_ms);
        }
        // It was counted as answered when it answered.
        self.counters.answered = self.counters.answered.saturating_sub(1);
    }

    pub(super) fn adopt(&mut self, table: &Arc<Table>, changed: &[ServiceId], now_ms: u64, mut tape: Option<&mut Tape>) {
        self.now_ms = now_ms;
        for service in changed {
            self.unadopted.remove(service);
        }
        let Some(instance) = &mut self.instance else { return };
        instance.set_table(table);
        for service in changed {
            // A port that is gone, or that names another policy now, is not to be remembered.
            let named = table.port(*service).is_some_and(|port| self.adopt_port(port, tape.as_deref_mut()));
            if !named {
                self.forget(*service, tape.as_deref_mut());
            }
        }
    }

    pub(super) fn forget(&mut self, service: ServiceId, tape: Option<&mut Tape>) {
        self.unadopted.remove(&service);
        let version = self.version();
        let Some(instance) = &mut self.instance else { return };
        let forgotten = instance.forget(service);
        if let Some(tape) = tape {
            tape.forget(version, service, &instance.take_loads(), &forgotten);
        }
        if let Err(fault) = forgotten {
            self.failed(&fault, self.now_ms);
        }
    }

    pub(super) fn report(&mut self, now_ms: u64, outcomes: &[Outcome], tape: Option<&mut Tape>) {
        self.now_ms = now_ms;
        if self.breaker.state() == BreakerState::Open {
            return;
        }
        let version = self.version();
        let Some(instance) = &mut self.instance else { return };
        let reported = instance.report(now_ms, outcomes);
        if let Some(tape) = tape {
            tape.report(version, now_ms, outcomes, &instance.take_loads(), &reported);
        }
        if let Err(fault) = reported {
            self.failed(&fault, now_ms);
        }
    }

    pub(super) fn mend(&mut self, table: &Arc<Table>, now_ms: u64, tape: Option<&mut Tape>) {
        self.now_ms = now_ms;
        if self.instance.is_none() && now_ms >= self.backoff.until_ms() {
            self.counters.rebuilt += 1;
            self.build(table, tape);
        }
    }

    pub(super) fn rebuild(&mut self, table: &Arc<Table>, now_ms: u64, tape: Option<&mut Tape>) {
        self.now_ms = now_ms;
        self.build(table, tape);
    }

    pub(super) fn counters(&self) -> PolicyCounters {
        let mut counters = self.counters.clone();
        counters.breaker = self.breaker.state();
        counters.breaker_opened = self.breaker.opened();
        (counters.log_lines, counters.log_dropped) = self.policy.log_counts();
        if let Some(instance) = &self.instance {
            counters.memory_peak_bytes = counters.memory_peak_bytes.max(instance.memory_peak());
        }
        counters
    }

    /// A fresh instance, with the plans of the table. A plan on which it faults is left out of the next attempt.
    fn build(&mut self, table: &Arc<Table>, mut tape: Option<&mut Tape>) {
        self.keep_peak();
        let (node, settings) = (self.policy.node(), self.policy.settings());
        let made = self.policy.instantiate_with(Place::Worker(self.seed), &node, settings);
        if let Some(tape) = tape.as_deref_mut() {
            tape.instance(self.version(), self.seed, &node, settings, made.as_ref().err());
        }
        match made {
            Ok(mut instance) => {
                instance.note_loads(tape.is_some());
                instance.set_table(table);
                self.instance = Some(instance);
            }
            Err(fault) => {
                self.failed(&fault, self.now_ms);
                return;
            }
        }
        for port in table.ports.iter().flatten() {
            if self.instance.is_some() && !self.unadopted.contains(&port.id) {
                self.adopt_port(port, tape.as_deref_mut());
            }
        }
    }

    /// Hands the port's plan over, if the port names this version; else returns false.
    fn adopt_port(&mut self, port: &Port, mut tape: Option<&mut Tape>) -> bool {
        let version = self.version();
        let set_plans = self.set_plans(port);
        let Some(instance) = &mut self.instance else { return true };
        let mut adopt = |set: Option<u32>, plan: &Arc<[u8]>| {
            let adopted = match set {
                None => instance.adopt(port.id, plan),
                Some(set) => instance.adopt_set(port.id, set, plan),
            };
            if let Some(tape) = tape.as_deref_mut() {
                tape.adopt(version, port.id, set, plan, &instance.take_loads(), &adopted);
            }
            adopted
        };
        let adopted = match self.policy.stage() {
            StageKind::Selector => plan_of(&port.selector, version).map(|plan| adopt(None, plan)),
            StageKind::TrafficPolicy => plan_of(&port.traffic_policy, version).map(|plan| adopt(None, plan)),
            StageKind::Balancer => set_plans.map(|plans| {
                let mut plans = plans.iter().enumerate();
                plans.try_for_each(|(set, plan)| adopt(Some(set as u32), plan))
            }),
        };
        if let Some(Err(fault)) = &adopted {
            tracing::warn!(policy = %self.policy.version().name, service = %port, "its worker failed on its plan: {fault}");
            self.unadopted.insert(port.id);
            self.failed(fault, self.now_ms);
        }
        adopted.is_some()
    }

    /// A balancer's plans for a port that names it here.
    fn set_plans<'p>(&self, port: &'p Port) -> Option<&'p SetPlans> {
        match self.seat {
            Seat::InForce => plan_of(&port.balancer, self.version()),
            Seat::Candidate => {
                let planned = port.shadow.as_ref()?.planned.as_ref()?;
                (planned.version.id == self.version()).then_some(&planned.plan)
            }
        }
    }

    /// Counts a fault; an instance that it left unusable is dropped.
    #[cold]
    fn failed(&mut self, fault: &Fault, now_ms: u64) {
        self.counters.fault(fault);
        if matches!(fault, Fault::NotAsked(_) | Fault::NoOpinion) {
            return;
        }
        self.breaker.fault(now_ms);
        if self.instance.as_ref().is_none_or(Instance::is_dead) {
            self.keep_peak();
            self.instance = None;
            self.backoff.wait(now_ms);
        }
    }

    fn keep_peak(&mut self) {
        if let Some(instance) = &self.instance {
            self.counters.memory_peak_bytes = self.counters.memory_peak_bytes.max(instance.memory_peak());
        }
    }
}

fn plan_of<P>(stage: &Stage<P>, version: VersionId) -> Option<&P> {
    stage.planned().find(|planned| planned.version.id == version).map(|planned| &planned.plan)
}
