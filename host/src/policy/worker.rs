//! A worker's place: one instance of each policy version, next to the connections. Decisions come in, answers that have been checked go out;
//! a policy that fails is dropped, rebuilt off the hot path, and in the end no longer asked.

use std::num::NonZeroU64;
use std::sync::Arc;

use self::installed::Installed;
use super::breaker::Admission;
use super::clock::processor_time;
use super::contract::{Connection, Decider, Fault, Outcome, ServiceId, Slot, Verdict};
use super::counters::PolicyCounters;
use super::instance::Instance;
use super::loaded::LoadedPolicy;
use super::tape::{Ending, Fate, Tape};
use crate::table::{Table, VersionId};

mod installed;

/// The policies of one worker.
pub struct WorkerPolicies {
    seed: u64,
    /// By `VersionId`: a decision finds its policy without hashing.
    policies: Vec<Option<Box<Installed>>>,
    /// Those that are tried beside one in force, in the same way: instances, breakers and counters of their own.
    candidates: Vec<Option<Box<Installed>>>,
    /// By `ServiceId`: how many groups and subsets the current table has.
    bounds: Vec<Bounds>,
    table: Arc<Table>,
    /// Decisions until the next one that is timed.
    untimed: u32,
    random: u64,
    /// Of the last decision.
    fuel: u64,
    /// What the instances in force see goes on it too; what candidates see does not.
    tape: Option<Box<Tape>>,
}

/// Where an instance of a version stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    /// It fills a stage.
    InForce,
    /// It is tried.
    Candidate,
}

#[derive(Clone, Copy, Default)]
struct Bounds {
    groups: u32,
    subsets: u32,
}

/// One decision in this many is timed, on average; the distance varies, so that a policy cannot know which. Timing one takes two system
/// calls, some 0.5 µs. A policy that is to reach its share of a core within its fuel must be called 1,000 times a second.
const TIMED_ONE_IN: u32 = 256;

impl WorkerPolicies {
    /// A worker without policies. The seed, another on each worker, is passed to `configure` and spreads the rebuilding.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            policies: Vec::new(),
            candidates: Vec::new(),
            bounds: Vec::new(),
            table: Arc::default(),
            untimed: 1,
            random: seed | 1,
            fuel: 0,
            tape: None,
        }
    }

    /// A worker without policies, all of whose instances in force are on this tape from their start.
    pub fn recorded(seed: u64, tape: Tape) -> Self {
        Self { tape: Some(Box::new(tape)), ..Self::new(seed) }
    }

    /// Makes an instance of a version, unless there is one. To be called before a table names the version.
    pub fn install(&mut self, policy: Arc<LoadedPolicy>, now_ms: u64) {
        self.seat(policy, Seat::InForce, now_ms);
    }

    /// Makes an instance of a balancer that is tried, unless there is one. To be called before a table names it so.
    pub fn install_candidate(&mut self, policy: Arc<LoadedPolicy>, now_ms: u64) {
        self.seat(policy, Seat::Candidate, now_ms);
    }

    fn seat(&mut self, policy: Arc<LoadedPolicy>, seat: Seat, now_ms: u64) {
        let at = policy.version().id.0 as usize;
        let seats = self.seats(seat);
        if seats.len() <= at {
            seats.resize_with(at + 1, || None);
        }
        if seats[at].is_none() {
            let seed = self.seed ^ (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let tape = if seat == Seat::InForce { self.tape.as_deref_mut() } else { None };
            let installed = Box::new(Installed::new(policy, seat, seed, &self.table, now_ms, tape));
            self.seats(seat)[at] = Some(installed);
        }
    }

    fn seats(&mut self, seat: Seat) -> &mut Vec<Option<Box<Installed>>> {
        match seat {
            Seat::InForce => &mut self.policies,
            Seat::Candidate => &mut self.candidates,
        }
    }

    /// Every instance, with the tape that it is on.
    fn each(&mut self, mut call: impl FnMut(&mut Installed, Option<&mut Tape>)) {
        for policy in self.policies.iter_mut().flatten() {
            call(policy, self.tape.as_deref_mut());
        }
        for policy in self.candidates.iter_mut().flatten() {
            call(policy, None);
        }
    }

    /// Drops a version that no table names any more.
    pub fn retire(&mut self, version: VersionId) {
        self.leave(version, Seat::InForce);
    }

    /// Drops a version that no table names as a candidate any more.
    pub fn retire_candidate(&mut self, version: VersionId) {
        self.leave(version, Seat::Candidate);
    }

    fn leave(&mut self, version: VersionId, seat: Seat) {
        if let Some(policy) = self.seats(seat).get_mut(version.0 as usize) {
            *policy = None;
            if let Some(tape) = self.tape.as_mut().filter(|_| seat == Seat::InForce) {
                tape.retire(version);
            }
        }
    }

    /// Hands the plans of the changed Service ports to the policies that they name, and the table to `load.active`. To be called before a
    /// connection is decided with the table. A Service port that is gone is forgotten.
    pub fn adopt(&mut self, table: &Arc<Table>, changed: &[ServiceId], now_ms: u64) {
        let before = std::mem::replace(&mut self.table, Arc::clone(table));
        if let Some(tape) = &mut self.tape {
            table_changed(tape, &before, table, now_ms);
        }
        for service in changed {
            let at = *service as usize;
            if self.bounds.len() <= at {
                self.bounds.resize(at + 1, Bounds::default());
            }
            let port = table.port(*service);
            self.bounds[at] =
                port.map_or(Bounds::default(), |port| Bounds { groups: port.groups.len() as u32, subsets: port.subsets.len() as u32 });
        }
        self.each(|policy, tape| policy.adopt(table, changed, now_ms, tape));
    }

    /// The Service port is gone, on all versions.
    pub fn forget(&mut self, service: ServiceId) {
        if let Some(bounds) = self.bounds.get_mut(service as usize) {
            *bounds = Bounds::default();
        }
        self.each(|policy, tape| policy.forget(service, tape));
    }

    /// Rebuilds what faulted and has waited long enough. To be called every 50 to 100 ms, between connections.
    pub fn mend(&mut self, now_ms: u64) {
        let table = Arc::clone(&self.table);
        self.each(|policy, tape| policy.mend(&table, now_ms, tape));
        if let Some(tape) = &mut self.tape {
            tape.flush();
        }
        if self.tape.take_if(|tape| tape.is_over()).is_some() {
            self.policies.iter_mut().flatten().for_each(|policy| policy.off_tape());
        }
    }

    /// Makes every instance anew: the node changed.
    pub fn reconfigure(&mut self, now_ms: u64) {
        let table = Arc::clone(&self.table);
        self.each(|policy, tape| policy.rebuild(&table, now_ms, tape));
    }

    /// Tells the balancers that learn what became of this worker's picks on their Services: also the one that is tried, whoever picked.
    pub fn report(&mut self, now_ms: u64, outcomes: &[Outcome]) {
        let table = Arc::clone(&self.table);
        self.each(|policy, tape| {
            if policy.learns() {
                let picked = |outcome: &&Outcome| table.port(outcome.service).is_some_and(|port| policy.balances(port));
                let theirs: Vec<Outcome> = outcomes.iter().filter(picked).copied().collect();
                if !theirs.is_empty() {
                    policy.report(now_ms, &theirs, tape);
                }
            }
        });
    }

    /// Tells the tape, if there is one, what became of a decision; `again` is what this returned before, for a connection whose endpoint
    /// could not be reached. Returns the connection's number on the tape, by which its end is told.
    #[inline]
    pub fn decided(&mut self, connection: &Connection, fate: Fate, again: Option<NonZeroU64>) -> Option<NonZeroU64> {
        self.tape.as_mut()?.decided(connection, fate, again)
    }

    /// Tells the tape that a connection has ended.
    pub fn ended(&mut self, number: u64, now_ms: u64, ending: Ending) {
        if let Some(tape) = &mut self.tape {
            tape.ended(number, now_ms, ending);
        }
    }

    /// Answers of `load` that wait for a tape.
    #[cfg(test)]
    pub(super) fn noted(&mut self) -> usize {
        self.policies.iter_mut().flatten().map(|policy| policy.take_loads().len()).sum()
    }

    /// What was counted, version by version.
    pub fn counters(&self) -> Vec<PolicyCounters> {
        self.policies.iter().chain(&self.candidates).flatten().map(|policy| policy.counters()).collect()
    }

    /// One decision: the breaker, the call, the check of the answer, the counters. `check` is given the table only when the answer will
    /// not be used: nobody else looks at it then.
    #[inline]
    fn decide<R: Copy>(
        &mut self,
        seat: Seat,
        version: VersionId,
        connection: &Connection,
        call: impl FnOnce(&mut Instance) -> Result<R, Fault>,
        write: impl FnOnce(&mut Tape, &[u32], &Result<R, Fault>),
        check: impl FnOnce(R, Bounds, Option<&Table>) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        self.fuel = 0;
        let seats = if seat == Seat::InForce { &mut self.policies } else { &mut self.candidates };
        let Some(Some(policy)) = seats.get_mut(version.0 as usize) else { return Err(Fault::NotAsked("not installed")) };
        let bounds = self.bounds.get(connection.service as usize).copied().unwrap_or_default();
        let admission = policy.admit(connection);
        if admission == Admission::Skip {
            return Err(policy.not_asked());
        }
        self.untimed -= 1;
        let answer = if self.untimed == 0 {
            self.untimed = next_timed(&mut self.random);
            let started = processor_time();
            let answer = policy.call(call);
            policy.busy(connection.now_ms, processor_time().saturating_sub(started) * TIMED_ONE_IN);
            answer
        } else {
            policy.call(call)
        };
        if let Some(tape) = self.tape.as_mut().filter(|_| seat == Seat::InForce) {
            write(tape, &policy.take_loads(), &answer);
        }
        self.fuel = policy.fuel();
        let unused = (admission == Admission::Shadow).then_some(&*self.table);
        let answer = answer.and_then(|answer| check(answer, bounds, unused));
        policy.settle(answer, admission, connection.now_ms)
    }

    #[inline]
    fn pick_from(&mut self, seat: Seat, version: VersionId, connection: &Connection, set: u32) -> Result<Option<Slot>, Fault> {
        let answer = self.decide(
            seat,
            version,
            connection,
            |i| i.pick(connection, set),
            |tape, loads, answer| tape.pick(version, connection, set, loads, answer),
            |slot, _, unused| match (slot, unused) {
                (Some(slot), Some(table)) if !is_candidate(table, connection.service, set, slot) => {
                    Err(Fault::OutOfRange(format!("slot {slot}")))
                }
                (slot, _) => Ok(slot),
            },
        );
        if matches!(answer, Ok(None)) {
            self.blame_at(seat, version, &Fault::NoOpinion);
        }
        answer
    }

    fn blame_at(&mut self, seat: Seat, version: VersionId, fault: &Fault) {
        if let Some(Some(policy)) = self.seats(seat).get_mut(version.0 as usize) {
            policy.blame(fault);
        }
    }
}

impl Decider for WorkerPolicies {
    fn choose_group(&mut self, version: VersionId, connection: &Connection) -> Result<Option<u32>, Fault> {
        self.decide(
            Seat::InForce,
            version,
            connection,
            |i| i.choose_group(connection),
            |tape, loads, answer| tape.group(version, connection, loads, answer),
            |group, bounds, _| match group {
                Some(group) if group >= bounds.groups => Err(Fault::OutOfRange(format!("group {group} of {}", bounds.groups))),
                group => Ok(group),
            },
        )
    }

    fn choose_subset(&mut self, version: VersionId, connection: &Connection, group: Option<u32>) -> Result<Verdict, Fault> {
        self.decide(
            Seat::InForce,
            version,
            connection,
            |i| i.choose_subset(connection, group),
            |tape, loads, answer| tape.subset(version, connection, group, loads, answer),
            |verdict, bounds, _| match verdict {
                Verdict::Forward(subset) if subset >= bounds.subsets => {
                    Err(Fault::OutOfRange(format!("subset {subset} of {}", bounds.subsets)))
                }
                verdict => Ok(verdict),
            },
        )
    }

    fn pick(&mut self, version: VersionId, connection: &Connection, set: u32) -> Result<Option<Slot>, Fault> {
        self.pick_from(Seat::InForce, version, connection, set)
    }

    fn blame(&mut self, version: VersionId, fault: &Fault) {
        self.blame_at(Seat::InForce, version, fault);
    }

    fn pick_as_candidate(&mut self, version: VersionId, connection: &Connection, set: u32) -> Result<Option<Slot>, Fault> {
        self.pick_from(Seat::Candidate, version, connection, set)
    }

    fn blame_candidate(&mut self, version: VersionId, fault: &Fault) {
        self.blame_at(Seat::Candidate, version, fault);
    }

    fn fuel(&self) -> u64 {
        self.fuel
    }
}

/// What the worker decides by from now on: every port that is another entry than before, planned anew, masked, unmasked or gone.
fn table_changed(tape: &mut Tape, before: &Table, table: &Table, now_ms: u64) {
    let ids = 0..before.ports.len().max(table.ports.len()) as ServiceId;
    for id in ids.filter(|id| table.port(*id).map(Arc::as_ptr) != before.port(*id).map(Arc::as_ptr)) {
        tape.service(now_ms, table.generation, id, table.port(id));
    }
}

/// Whether a balancer may pick this slot.
fn is_candidate(table: &Table, service: ServiceId, set: u32, slot: Slot) -> bool {
    table.port(service).is_some_and(|port| {
        let member = port.sets.get(set as usize).is_some_and(|set| set.members.binary_search(&slot).is_ok());
        member && port.endpoints.get(slot as usize).is_some_and(|endpoint| endpoint.weight > 0)
    })
}

/// A number of decisions around `TIMED_ONE_IN`, from 1 to twice that (xorshift).
fn next_timed(random: &mut u64) -> u32 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    1 + (*random >> 32) as u32 % (2 * TIMED_ONE_IN - 1)
}
