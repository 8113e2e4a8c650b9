//! Comparisons: what another balancer would have made of the connections of a recording.
//!
//! In an *open loop* it is asked about each connection as it came, with the loads as they were: what would differ, decision by decision. In a
//! *closed loop* each side has loads of its own, which its own picks bring about; a connection lives as long as it did, wherever it goes. The
//! two answer different questions, and a report is of one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::components::Missing;
use super::recording::{Recording, Stamped, Unreadable, connection};
use super::replay::{doubts, ending};
use super::report::{Case, Kind, Report, SCHEMA, Subject, Verdict};
use crate::policy::contract::{Connection, Fault, Node, StageKind};
use crate::policy::tape::frame::{Fate, Frame};
use crate::policy::{Grants, LoadedPolicy, Runtime, Sandbox, replica};
use crate::table::VersionId;

use self::measures::{Measures, comparison, plots};
use self::side::Side;
use self::timeline::Timeline;
use self::world::{Loads, World};

mod measures;
mod side;
mod timeline;
mod world;

/// What is compared.
pub struct Comparison<'a> {
    /// None: what was recorded.
    pub a: Option<Candidate<'a>>,
    /// What is tried.
    pub b: Candidate<'a>,
    /// See the module.
    pub closed_loop: bool,
}

/// A component.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// For the report.
    pub name: &'a str,
    /// The component.
    pub bytes: &'a [u8],
    /// Whether it may bring a language runtime along.
    pub runtime: Runtime,
}

/// Why a comparison could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// The recording.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A component.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// It fills another stage.
    #[error("{name} is a {stage}: only balancers can be compared on recorded connections")]
    NoBalancer {
        /// Its name.
        name: String,
        /// Its stage.
        stage: &'static str,
    },
    /// It cannot begin.
    #[error("{name} cannot plan {port}: {fault}")]
    NoPlan {
        /// Its name.
        name: String,
        /// The Service port.
        port: String,
        /// Why.
        fault: Fault,
    },
    /// Nothing to compare.
    #[error("there is no connection in the recording that a balancer was asked about")]
    Nothing,
}

/// Compares. `sandbox` and `progress` as for a replay.
///
/// # Errors
/// The recording is damaged, a component is no balancer or cannot plan what was recorded.
pub fn diff(
    recording: &Recording,
    sandbox: &Arc<Sandbox>,
    comparison: &Comparison<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, DiffError> {
    let a = comparison.a.as_ref().map(|candidate| load(sandbox, candidate, 0)).transpose()?;
    let b = load(sandbox, &comparison.b, 1)?;
    let recorded = Loads::default();
    let loads = || if comparison.closed_loop { Loads::default() } else { recorded.clone() };
    let sides = [a.map(|policy| Side::new(policy, loads())), Some(Side::new(b, loads()))];
    let mut diff = Diff {
        world: World::new(recording),
        sides,
        live: Live { loads: recorded, endpoints: BTreeMap::new(), measures: Measures::default() },
        closed_loop: comparison.closed_loop,
        asked: BTreeMap::new(),
        lost: 0,
    };
    for step in Timeline::new(recording) {
        let (worker, stamped) = step?;
        progress(stamped.offset, recording.bytes());
        diff.step(worker, &stamped)?;
    }
    diff.report(recording, comparison)
}

fn load(sandbox: &Arc<Sandbox>, candidate: &Candidate<'_>, id: u32) -> Result<Arc<LoadedPolicy>, DiffError> {
    let name = candidate.name.to_owned();
    let grants = Grants { runtime: candidate.runtime, ..Grants::default() };
    let policy = replica::load(sandbox, &name, candidate.bytes, VersionId(id), grants).map_err(|why| Missing::Refused {
        name: name.clone(),
        digest: crate::policy::inspect::digest(candidate.bytes),
        why,
    })?;
    if policy.stage() != StageKind::Balancer {
        return Err(DiffError::NoBalancer { name, stage: policy.stage().name() });
    }
    Ok(policy)
}

/// A connection on its worker.
type Id = (u16, u64);

struct Diff<'a> {
    world: World<'a>,
    sides: [Option<Side>; 2],
    live: Live,
    closed_loop: bool,
    /// What each worker's policies were asked last, until its fate is known.
    asked: BTreeMap<u16, Asked>,
    /// Frames that are marked as missing.
    lost: u64,
}

/// The recorded side.
struct Live {
    loads: Loads,
    /// Where each open connection went.
    endpoints: BTreeMap<Id, (world::Held, Arc<str>)>,
    measures: Measures,
}

/// A connection, and the candidate set that the balancer was asked about.
struct Asked {
    connection: Connection,
    set: Option<u32>,
}

impl Diff<'_> {
    fn step(&mut self, worker: u16, stamped: &Stamped) -> Result<(), DiffError> {
        match &stamped.frame {
            Frame::Instance { node, .. } => self.world.node(worker, &node.node()),
            Frame::Service { service, port, .. } => {
                let seen = self.world.service(worker, *service, *port)?;
                let (node, seed) = (self.world.node_of(worker), self.world.seed_of(worker));
                for side in self.sides.iter_mut().flatten() {
                    side.service(worker, (&node, seed), *service, *port, seen.as_deref())?;
                }
            }
            Frame::Connection(of) => {
                self.asked.insert(worker, Asked { connection: connection(of, stamped.now_ms), set: None });
            }
            Frame::Pick { set, .. } => {
                if let Some(asked) = self.asked.get_mut(&worker) {
                    asked.set = Some(*set);
                }
            }
            Frame::Fate { again, fate } => {
                if let Some(number) = stamped.connection() {
                    self.fate((worker, number), again.is_some(), *fate);
                }
            }
            Frame::Ended { .. } => {
                if let Some(number) = stamped.connection() {
                    let id = (worker, number);
                    self.live.endpoints.remove(&id);
                    self.sides.iter_mut().flatten().for_each(|side| side.ended(id));
                }
            }
            Frame::Lost { frames, .. } => {
                self.asked.remove(&worker);
                self.lost = self.lost.saturating_add(*frames);
            }
            _ => {}
        }
        Ok(())
    }

    /// A connection went somewhere.
    fn fate(&mut self, id: Id, again: bool, fate: Fate) {
        let worker = id.0;
        let Some(asked) = self.asked.remove(&worker) else { return };
        let (Fate::Forward(slot) | Fate::Pinned(slot)) = fate else {
            self.live.endpoints.remove(&id);
            return;
        };
        let Some(seen) = self.world.seen(worker, asked.connection.service) else { return };
        let Some(key) = seen.key(slot) else { return };
        let failed = if again { self.live.endpoints.remove(&id).map(|(_, key)| key) } else { None };
        let compared = asked.set.filter(|_| !again && matches!(fate, Fate::Forward(_))).and_then(|set| Some((set, seen.members(set)?)));
        // Asked before the loads change: as the recorded policy was.
        for side in self.sides.iter_mut().flatten() {
            match (&failed, compared) {
                (Some(failed), _) => side.retry(id, &asked.connection, asked.set, failed),
                (None, Some((set, _))) => side.pick(id, &asked.connection, set),
                (None, None) => side.follow(id, &asked.connection, &key),
            }
        }
        if let Some(among) = compared {
            self.live.measures.picked(&asked.connection, &seen, among, &key);
            for side in self.sides.iter_mut().flatten() {
                side.measure(id, &asked.connection, &seen, among);
            }
            self.compare(id, &asked.connection, &key);
        }
        let held = self.live.loads.enter(&key);
        self.live.endpoints.insert(id, (held, Arc::clone(&key)));
        if self.closed_loop {
            self.sides.iter_mut().flatten().for_each(|side| side.enter(id));
            if let Some((_, members)) = compared {
                let now_ms = asked.connection.now_ms;
                let members: Vec<_> = members.iter().filter_map(|slot| Some((seen.key(*slot)?, seen.weight(*slot)))).collect();
                self.live.measures.in_flight(&members, &self.live.loads, now_ms);
                self.sides.iter_mut().flatten().for_each(|side| side.in_flight(&members, now_ms));
            }
        }
    }

    /// Whether the two sides go to the same endpoint.
    fn compare(&mut self, id: Id, connection: &Connection, recorded: &Arc<str>) {
        let [a, Some(b)] = &mut self.sides else { return };
        let of_a = match a {
            Some(a) => a.endpoint(id),
            None => Some(Arc::clone(recorded)),
        };
        b.differs(connection, of_a != b.endpoint(id));
    }

    fn report(self, recording: &Recording, compared: &Comparison<'_>) -> Result<Report, DiffError> {
        let [a, Some(b)] = self.sides else { return Err(DiffError::Nothing) };
        if b.measures().connections == 0 {
            return Err(DiffError::Nothing);
        }
        let subject_a = match &a {
            Some(side) => side.subject(),
            None => Subject { name: "recorded".to_owned(), digest: None },
        };
        let loop_name = if compared.closed_loop { "closed loop" } else { "open loop" };
        let mut notes = vec![if compared.closed_loop {
            format!("{loop_name}: each side has the loads that its own picks bring about; a connection lives as long as it was recorded to")
        } else {
            format!("{loop_name}: each connection as it was recorded, with the loads of then; what would differ, decision by decision")
        }];
        let reads_load = |side: &&Side| side.reads_load();
        if !compared.closed_loop {
            for side in a.iter().chain([&b]).filter(reads_load) {
                notes.push(format!(
                    "{} reads `load`, and here it reads what the recorded balancer brought about: its balance is told by --closed-loop",
                    side.subject().name
                ));
            }
        }
        let lost = self.lost.max(recording.lost());
        let lost = (lost > 0).then(|| format!("{lost} frames were lost: the disk could not keep up"));
        notes.extend(doubts(recording).into_iter().chain(lost).map(|doubt| format!("approximate, because {doubt}")));
        notes.extend(ending(recording, "compared"));
        let faults: Vec<String> = a.iter().chain([&b]).flat_map(Side::faults).collect();
        let verdict = if faults.is_empty() { Verdict::Holds } else { Verdict::Fails };
        let measures_a = a.as_ref().map_or(&self.live.measures, Side::measures);
        let case = Case { name: format!("no faults, {loop_name}"), verdict, findings: faults, metrics: Vec::new() };
        let subjects = vec![subject_a, b.subject()];
        let plots = plots(&subjects, measures_a, b.measures());
        Ok(Report {
            schema: SCHEMA.to_owned(),
            kind: Kind::Diff,
            subjects,
            seed: None,
            verdict,
            cases: vec![case],
            metrics: comparison(measures_a, b.measures(), b.moved(), compared.closed_loop),
            plots,
            notes,
        })
    }
}

/// Where a worker's candidates stand.
type Placed<'a> = (&'a Node, u64);

#[cfg(test)]
mod tests;
