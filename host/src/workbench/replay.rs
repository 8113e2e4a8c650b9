//! Replays: the policies of a recording see again what they saw, and every answer is compared with the one that they gave.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::components::{Components, Missing};
use super::recording::{Recording, Unreadable};
use super::report::{Case, Estimate, Kind, Metric, Report, SCHEMA, Subject, Verdict};
use crate::policy::{LoadedPolicy, Sandbox};

mod worker;

/// Why a replay could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The recording.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A component.
    #[error(transparent)]
    Missing(#[from] Missing),
}

/// What a replay counted for one version, or for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally {
    /// Answers to connections that were compared.
    decisions: u64,
    /// Other calls that were compared by how they ended.
    calls: u64,
    /// Those that ended in another way.
    differences: u64,
    /// Calls that could not be made again.
    left_out: u64,
    fuel: u64,
    /// The first few differences.
    findings: Vec<String>,
}

/// Differences of which a report gives the details, for each version.
const MAX_FINDINGS: usize = 10;

/// Replays a recording. `sandbox` must have the limits of the recording: see [`super::components::limits`]. `progress` is told how much is
/// done, of how much.
///
/// # Errors
/// It is damaged, or a component is not to be had.
pub fn replay(
    recording: &Recording,
    sandbox: &Arc<Sandbox>,
    components: &Components,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, ReplayError> {
    let policies = components.load_all(recording, sandbox)?;
    let mut tallies: BTreeMap<u32, Tally> = policies.keys().map(|version| (*version, Tally::default())).collect();
    let mut doubts = doubts(recording);
    let (mut lost, mut overdue) = (0_u64, 0);
    let workers = recording.header.workers.len() as u16;
    for index in 0..workers {
        let mut worker = worker::Worker::new(index, recording, &policies, &mut tallies);
        for stamped in recording.frames(index) {
            let stamped = stamped?;
            // Each worker's frames are spread over the whole file.
            progress(u64::from(index) * recording.bytes() + stamped.offset, u64::from(workers) * recording.bytes());
            worker.step(&stamped)?;
        }
        doubts.extend(worker.doubts());
        lost = lost.saturating_add(worker.lost());
        overdue += worker.overdue();
    }
    if let Some(unmarked) = recording.lost().checked_sub(lost).filter(|unmarked| *unmarked > 0) {
        doubts.push(format!("{unmarked} frames were lost at its end: the disk could not keep up"));
    }
    let left_out: u64 = tallies.values().map(|tally| tally.left_out).sum();
    if left_out > overdue {
        doubts.push(format!("{} calls could not be made again: their instances or connections are not in it", left_out - overdue));
    }
    Ok(report(recording, &policies, tallies, doubts))
}

/// Why a replay of this recording is not exact, as far as its outside tells.
pub(super) fn doubts(recording: &Recording) -> Vec<String> {
    let header = &recording.header;
    let mut doubts = Vec::new();
    if header.sample > 1 {
        doubts.push(format!("one connection in {} is in it: what a policy learned from the others is not", header.sample));
    }
    if let Some(worker) = header.workers.iter().position(|worker| !worker.fresh) {
        doubts.push(format!("it begins in the middle of the life of worker {worker}: what its policies saw before is not in it"));
    }
    if header.hashed_clients {
        doubts.push("clients are pseudonyms: a policy that reads their addresses, and not their hashes, is told others".to_owned());
    }
    doubts
}

fn report(
    recording: &Recording,
    policies: &BTreeMap<u32, Arc<LoadedPolicy>>,
    tallies: BTreeMap<u32, Tally>,
    doubts: Vec<String>,
) -> Report {
    let mut whole = Tally::default();
    let mut subjects = Vec::new();
    let mut cases = Vec::new();
    for (version, tally) in tallies {
        let Some(policy) = policies.get(&version) else { continue };
        let name = policy.version().name.to_string();
        subjects.push(Subject { name: name.clone(), digest: Some(policy.version().digest.to_string()) });
        whole.add(&tally);
        cases.push(tally.case(format!("{} {name}", policy.stage().name())));
    }
    let mut notes = Vec::new();
    if doubts.is_empty() {
        notes.push("exact: everything that the policies saw is in the recording".to_owned());
    } else {
        notes.extend(doubts.into_iter().map(|doubt| format!("approximate, because {doubt}")));
    }
    notes.extend(ending(recording, "replayed"));
    let verdict = if cases.iter().any(|case| case.verdict == Verdict::Fails) { Verdict::Fails } else { Verdict::Holds };
    let metrics = whole.metrics();
    Report { schema: SCHEMA.to_owned(), kind: Kind::Replay, subjects, seed: None, verdict, cases, metrics, plots: Vec::new(), notes }
}

/// What is to be said of a recording that is shorter than the life of its host.
pub(super) fn ending(recording: &Recording, used: &str) -> Option<String> {
    match &recording.ending {
        super::recording::Ending::End(end) if end.full => {
            Some(format!("the recording reached its limit of bytes: it was {used} as far as it goes"))
        }
        super::recording::Ending::End(_) => None,
        super::recording::Ending::CutOff(offset) => {
            Some(format!("the recording was cut off after byte {offset}: it was {used} as far as it goes"))
        }
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.decisions += other.decisions;
        self.calls += other.calls;
        self.differences += other.differences;
        self.left_out += other.left_out;
        self.fuel += other.fuel;
    }

    fn differs(&mut self, finding: impl FnOnce() -> String) {
        self.differences += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding());
        }
    }

    fn metrics(&self) -> Vec<Metric> {
        let metric = |name: &str, unit: &str, value: u64| Metric {
            name: name.to_owned(),
            unit: unit.to_owned(),
            values: vec![Estimate::exact(value as f64)],
            differs: None,
        };
        vec![
            metric("decisions", "", self.decisions),
            metric("calls", "", self.calls),
            metric("differences", "", self.differences),
            metric("left-out", "", self.left_out),
            metric("fuel", "fuel", self.fuel),
        ]
    }

    fn case(self, name: String) -> Case {
        let metrics = self.metrics();
        let verdict = match self {
            Self { differences: 1.., .. } => Verdict::Fails,
            Self { decisions: 0, calls: 0, .. } => Verdict::Skipped,
            _ => Verdict::Holds,
        };
        let mut findings = self.findings;
        if let Some(more) = self.differences.checked_sub(findings.len() as u64).filter(|more| *more > 0) {
            let mut line = String::new();
            let _ = write!(line, "and {more} more");
            findings.push(line);
        }
        if verdict == Verdict::Skipped {
            findings.push("it was asked nothing".to_owned());
        }
        Case { name, verdict, findings, metrics }
    }
}

#[cfg(test)]
mod tests;
