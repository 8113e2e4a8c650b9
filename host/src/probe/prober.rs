//! The shell around `schedule`: a clock, tasks and sockets.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::ask;
use super::counters::Counters;
use super::readiness::Watched;
use super::schedule::{Answer, Attempt, AttemptId, Flip, Schedule, Verdict};
use super::targets::ProbeKey;

/// Attempts under way at a time, in all. Each holds a descriptor (a command two), and one that nobody answers holds it for
/// `timeoutSeconds`: with the default of 1 s, this asks 256 dead targets a second.
pub const MAX_IN_FLIGHT: usize = 256;

/// How the prober is set up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// See [`MAX_IN_FLIGHT`].
    pub max_in_flight: usize,
    /// Where chance comes from.
    pub seed: u64,
}

/// Probes what `targets` says, and tells of flips. Ends when there is nobody left who says or who listens. It only waits: a reader who
/// is slow gets the newest flip of each target.
pub async fn run(mut targets: watch::Receiver<Watched>, flips: mpsc::Sender<Flip>, options: Options, counters: Arc<Counters>) {
    let mut prober = Prober {
        schedule: Schedule::new(options.max_in_flight, options.seed),
        start: Instant::now(),
        asking: JoinSet::new(),
        tasks: HashMap::new(),
        flips: BTreeMap::new(),
        counters,
    };
    prober.watch(targets.borrow_and_update().clone());
    loop {
        let due = prober.start_due();
        tokio::select! {
            changed = targets.changed() => match changed {
                Ok(()) => prober.watch(targets.borrow_and_update().clone()),
                Err(_) => return,
            },
            Some(ended) = prober.asking.join_next_with_id() => prober.ended(ended),
            permit = flips.reserve(), if !prober.flips.is_empty() => {
                let Ok(permit) = permit else { return };
                if let Some((_, flip)) = prober.flips.pop_first() {
                    permit.send(flip);
                }
            }
            () = flips.closed() => return,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
}

struct Prober {
    schedule: Schedule,
    /// The zero of the schedule's clock.
    start: Instant,
    asking: JoinSet<Answer>,
    tasks: HashMap<Id, Asked>,
    /// Flips that nobody has taken yet: at most one a target.
    flips: BTreeMap<ProbeKey, Flip>,
    counters: Arc<Counters>,
}

struct Asked {
    id: AttemptId,
    key: ProbeKey,
    abort: AbortHandle,
}

impl Prober {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn watch(&mut self, targets: Watched) {
        let broken_off = self.schedule.watch(targets, self.now_ms());
        if !broken_off.is_empty() {
            // Few at a time: whoever is asked at the moment a manifest changes.
            for asked in self.tasks.values().filter(|asked| broken_off.contains(&asked.id)) {
                asked.abort.abort();
            }
        }
    }

    /// Starts what is due; tells when the next is.
    fn start_due(&mut self) -> Option<Instant> {
        while let Some(Attempt { id, target }) = self.schedule.next(self.now_ms()) {
            let key = target.key.clone();
            let abort = self.asking.spawn(async move { ask::ask(&target).await });
            self.tasks.insert(abort.id(), Asked { id, key, abort });
        }
        self.counters.now(self.schedule.in_flight(), self.schedule.held());
        let due_ms = self.schedule.next_due_ms()?;
        self.start.checked_add(Duration::from_millis(due_ms))
    }

    fn ended(&mut self, ended: Result<(Id, Answer), JoinError>) {
        let (task, answer) = match ended {
            Ok(ended) => ended,
            Err(error) if error.is_cancelled() => {
                // Broken off: the schedule forgot it before.
                self.tasks.remove(&error.id());
                return;
            }
            // It panicked: it must not stay under way for ever.
            Err(error) => (error.id(), Answer { verdict: Verdict::Unknown, message: error.to_string() }),
        };
        let Some(Asked { id, key, abort: _ }) = self.tasks.remove(&task) else { return };
        self.counters.answered(&key, answer.verdict);
        tracing::debug!("probe: {key}: {:?}: {}", answer.verdict, answer.message);
        if let Some(flip) = self.schedule.finished(id, &answer, self.now_ms()) {
            self.flips.insert(flip.key.clone(), flip);
        }
    }
}
