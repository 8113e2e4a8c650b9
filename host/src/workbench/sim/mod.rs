//! The simulator: connections, endpoints and what happens to them as discrete events in virtual time, under seeds. Load is closed-loop:
//! what an endpoint has to do follows from where the policy sends connections.
//!
//! No clock, no socket and no chance but the seeds': the same seed gives the same report to the byte.

mod agenda;
mod arrivals;
mod churn;
mod observe;
mod random;
mod result;
mod run;
mod scenario;
mod views;
mod world;

use super::report;
use super::subject::Subject;
use observe::Summary;
use random::{Popularity, Stream};
use run::{MIN_PAUSE_NANOS, Run};

pub use observe::{METRICS, SimMetric};
pub use scenario::*;

/// The subject that a run needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// One of those that are tried, by its position.
    Tried(usize),
    /// The one with this name, which takes over in the middle of a run.
    Named(&'a str),
}

/// Makes the subject that a run needs, fresh, with so many workers, whose seeds follow from this one.
pub type Factory<'a> = dyn FnMut(Wanted<'_>, usize, u64) -> Result<Box<dyn Subject>, String> + 'a;

/// Why a simulation could not be run.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// There is no such policy, or it does not start, or it refuses its endpoints.
    #[error("{name}, seed {seed}: {why}")]
    Subject {
        /// The subject's name.
        name: String,
        /// The run's own seed.
        seed: u64,
        /// In its words, or the host's.
        why: String,
    },
}

/// Runs a scenario with each subject under each of `seeds` seeds, which follow from `seed`, and says what came of it. `progress` is
/// told how many runs are done, of how many.
///
/// # Errors
/// A subject that cannot be had, or that refuses the endpoints that it starts with.
pub fn simulate(
    scenario: &Scenario,
    subjects: &[report::Subject],
    factory: &mut Factory<'_>,
    seeds: u32,
    seed: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<report::Report, SimError> {
    let popularity = Popularity::new(&scenario.clients);
    let total = u64::from(seeds) * subjects.len() as u64;
    let mut runs: Vec<Vec<Summary>> = subjects.iter().map(|_| Vec::new()).collect();
    let (mut stream, mut done) = (Stream::new(seed, "runs"), 0);
    progress(done, total);
    for _ in 0..seeds {
        // Every subject meets the same luck.
        let seed = stream.bits();
        for (which, subject) in subjects.iter().enumerate() {
            let summary = one(scenario, &popularity, which, factory, seed);
            let summary = summary.map_err(|why| SimError::Subject { name: subject.name.clone(), seed, why })?;
            runs[which].push(summary);
            done += 1;
            progress(done, total);
        }
    }
    Ok(result::report(scenario, subjects, &runs, seeds, seed))
}

fn one(scenario: &Scenario, popularity: &Popularity, which: usize, factory: &mut Factory<'_>, seed: u64) -> Result<Summary, String> {
    let workers = scenario.workers as usize;
    let mut seeds = Stream::new(seed, "instances");
    let subject = factory(Wanted::Tried(which), workers, seeds.bits())?;
    let mut successors = |name: &str| factory(Wanted::Named(name), workers, seeds.bits());
    let observed = Run::new(scenario, popularity, subject, &mut successors, seed).run(seed)?;
    Ok(observed.summary(&result::WAIT_PARTS))
}

#[cfg(test)]
mod tests;
