//! One worker's tape, played to replicas of its instances.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use super::{ReplayError, Tally};
use crate::policy::LoadedPolicy;
use crate::policy::contract::{Connection, Fault, Outcome, Setting};
use crate::policy::replica::Replica;
use crate::policy::tape::frame::{Answer, Failure, Frame, Verdict};
use crate::workbench::recording::{Recording, Stamped, Unreadable, connection};

pub(super) struct Worker<'a> {
    index: u16,
    recording: &'a Recording,
    policies: &'a BTreeMap<u32, Arc<LoadedPolicy>>,
    tallies: &'a mut BTreeMap<u32, Tally>,
    instances: BTreeMap<u32, Replica>,
    /// What `load` answers in the next call.
    loads: Vec<u32>,
    connection: Option<Connection>,
    /// Frames that are missing.
    lost: u64,
    /// Calls that ended by a deadline, and so by the machine's doing.
    overdue: u64,
    /// Plans of late, by number: a version that comes back brings its own again.
    plans: BTreeMap<u32, Arc<[u8]>>,
}

/// Plans that are kept in memory.
const KEPT_PLANS: usize = 64;

impl<'a> Worker<'a> {
    pub(super) fn new(
        index: u16,
        recording: &'a Recording,
        policies: &'a BTreeMap<u32, Arc<LoadedPolicy>>,
        tallies: &'a mut BTreeMap<u32, Tally>,
    ) -> Self {
        Self {
            index,
            recording,
            policies,
            tallies,
            instances: BTreeMap::new(),
            loads: Vec::new(),
            connection: None,
            lost: 0,
            overdue: 0,
            plans: BTreeMap::new(),
        }
    }

    /// Frames that are marked as missing.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Calls that were left out because they ended by a deadline.
    pub(super) fn overdue(&self) -> u64 {
        self.overdue
    }

    /// Why the replay of this worker is not exact.
    pub(super) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.lost > 0 {
            doubts.push(format!("{} frames of worker {} were lost: the disk could not keep up", self.lost, self.index));
        }
        if self.overdue > 0 {
            let why = "ran past their deadline, which is the machine's doing: they were not made again";
            doubts.push(format!("{} calls on worker {} {why}", self.overdue, self.index));
        }
        doubts
    }

    pub(super) fn step(&mut self, stamped: &Stamped) -> Result<(), ReplayError> {
        if let Some(version) = version_of(&stamped.frame).filter(|version| !self.policies.contains_key(version)) {
            let what = format!("version {version} is referred to, and not in it");
            return Err(Unreadable::Damaged { offset: stamped.offset, what }.into());
        }
        match &stamped.frame {
            Frame::Loads { answers } => {
                self.loads.clone_from(answers);
                return Ok(());
            }
            Frame::Connection(of) => self.connection = Some(connection(of, stamped.now_ms)),
            Frame::Lost { frames, .. } => {
                self.lost = self.lost.saturating_add(*frames);
                self.connection = None;
            }
            Frame::Instance { version, seed, node, settings, failed } => {
                let settings: Vec<Setting> = settings.iter().map(Into::into).collect();
                self.instance(stamped, *version, *failed, |policy| Replica::new(policy, (*seed).into(), &node.node(), &settings));
            }
            Frame::Retire { version } => drop(self.instances.remove(version)),
            Frame::Adopt { version, service, set, plan, failed } => {
                let plan = self.plan(*plan)?;
                self.call(stamped, *version, ("adopt", *failed), |replica| replica.adopt(*service, *set, &plan));
            }
            Frame::Forget { version, service, failed } => {
                self.call(stamped, *version, ("forget", *failed), |replica| replica.forget(*service));
            }
            Frame::Report { version, outcomes, failed, .. } => {
                let outcomes: Vec<Outcome> = outcomes.iter().copied().map(Into::into).collect();
                self.call(stamped, *version, ("report", *failed), |replica| replica.report(stamped.now_ms, &outcomes));
            }
            Frame::Group { version, answer } => {
                self.decide(stamped, *version, *answer, |replica, connection| Answer::of(&replica.choose_group(connection)));
            }
            Frame::Subset { version, group, verdict } => {
                self.decide(stamped, *version, *verdict, |replica, connection| Verdict::of(&replica.choose_subset(connection, *group)));
            }
            Frame::Pick { version, set, answer } => {
                self.decide(stamped, *version, *answer, |replica, connection| Answer::of(&replica.pick(connection, *set)));
            }
            _ => {}
        }
        self.loads.clear();
        Ok(())
    }

    /// Makes an instance. One that could not be made leaves the one before it in its place.
    fn instance(
        &mut self,
        stamped: &Stamped,
        version: u32,
        failed: Option<Failure>,
        make: impl FnOnce(&LoadedPolicy) -> Result<Replica, Fault>,
    ) {
        let place = self.place(stamped);
        let (Some(policy), Some(tally)) = (self.policies.get(&version), self.tallies.get_mut(&version)) else { return };
        if matches!(failed, Some(Failure::Deadline | Failure::HostLimit)) {
            // A host limit that an instance meets at its start may be that of the host's pool.
            tally.left_out += 1;
            return;
        }
        tally.calls += 1;
        let made = make(policy);
        let found = made.as_ref().err().and_then(Failure::of);
        if found != failed {
            tally.differs(|| format!("{place}: start: recorded {}, now {}", ended(failed), ended(found)));
        }
        if let Ok(replica) = made {
            self.instances.insert(version, replica);
        }
    }

    /// A call that answers nothing.
    fn call(
        &mut self,
        stamped: &Stamped,
        version: u32,
        (what, failed): (&str, Option<Failure>),
        call: impl FnOnce(&mut Replica) -> Result<(), Fault>,
    ) {
        let loads = std::mem::take(&mut self.loads);
        if failed == Some(Failure::Deadline) {
            self.leave_out(version);
            return;
        }
        let place = self.place(stamped);
        let Some(tally) = self.tallies.get_mut(&version) else { return };
        let Some(replica) = self.instances.get_mut(&version) else {
            tally.left_out += 1;
            return;
        };
        replica.give_loads(loads);
        let result = call(replica);
        tally.calls += 1;
        tally.fuel += replica.last_fuel();
        let found = result.as_ref().err();
        if found.and_then(Failure::of) != failed || matches!(found, Some(Fault::NotAsked(_))) || !replica.loads_fit() {
            let now = found.map_or_else(|| "done".to_owned(), ToString::to_string);
            let loads = if replica.loads_fit() { "" } else { OTHER_LOADS };
            tally.differs(|| format!("{place}: {what}: recorded {}, now {now}{loads}", ended(failed)));
        }
    }

    /// A decision.
    fn decide<A: Copy + PartialEq + Debug + Overdue>(
        &mut self,
        stamped: &Stamped,
        version: u32,
        recorded: A,
        call: impl FnOnce(&mut Replica, &Connection) -> Option<A>,
    ) {
        let loads = std::mem::take(&mut self.loads);
        if recorded.is_overdue() {
            self.leave_out(version);
            return;
        }
        let place = self.place(stamped);
        let Some(tally) = self.tallies.get_mut(&version) else { return };
        let (Some(replica), Some(connection)) = (self.instances.get_mut(&version), &self.connection) else {
            tally.left_out += 1;
            return;
        };
        replica.give_loads(loads);
        let found = call(replica, connection);
        tally.decisions += 1;
        tally.fuel += replica.last_fuel();
        if found != Some(recorded) || !replica.loads_fit() {
            let loads = if replica.loads_fit() { "" } else { OTHER_LOADS };
            tally.differs(|| {
                let of = format!("client {}, random {:016x}, attempt {}", connection.client(), connection.random, connection.attempt);
                let found = found.map_or_else(|| "nothing: its instance is dead".to_owned(), |found| format!("{found:?}"));
                format!("{place}: {of}: recorded {recorded:?}, now {found}{loads}")
            });
        }
    }

    /// The instance was stopped in the middle of a call, at a place that only that machine knows: it is gone, as it was then.
    fn leave_out(&mut self, version: u32) {
        self.overdue += 1;
        self.instances.remove(&version);
        if let Some(tally) = self.tallies.get_mut(&version) {
            tally.left_out += 1;
        }
    }

    fn plan(&mut self, number: u32) -> Result<Arc<[u8]>, ReplayError> {
        if let Some(plan) = self.plans.get(&number) {
            return Ok(Arc::clone(plan));
        }
        let plan: Arc<[u8]> = self.recording.plan(number)?.into();
        if self.plans.len() >= KEPT_PLANS {
            self.plans.pop_first();
        }
        self.plans.insert(number, Arc::clone(&plan));
        Ok(plan)
    }

    fn place(&self, stamped: &Stamped) -> Place {
        Place { worker: self.index, now_ms: stamped.now_ms, offset: stamped.offset }
    }
}

/// Where a difference was found.
struct Place {
    worker: u16,
    now_ms: u64,
    offset: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "worker {} at {} ms (byte {})", self.worker, self.now_ms, self.offset)
    }
}

const OTHER_LOADS: &str = "; it asked `load` more often, or less";

/// Answers that tell that the deadline ended the call.
trait Overdue {
    fn is_overdue(&self) -> bool;
}

impl Overdue for Answer {
    fn is_overdue(&self) -> bool {
        *self == Self::Failed(Failure::Deadline)
    }
}

impl Overdue for Verdict {
    fn is_overdue(&self) -> bool {
        *self == Self::Failed(Failure::Deadline)
    }
}

/// The version that a frame is about.
fn version_of(frame: &Frame) -> Option<u32> {
    match frame {
        Frame::Instance { version, .. }
        | Frame::Adopt { version, .. }
        | Frame::Forget { version, .. }
        | Frame::Report { version, .. }
        | Frame::Group { version, .. }
        | Frame::Subset { version, .. }
        | Frame::Pick { version, .. } => Some(*version),
        _ => None,
    }
}

fn ended(failed: Option<Failure>) -> String {
    failed.map_or_else(|| "done".to_owned(), |failure| format!("{failure:?}"))
}
