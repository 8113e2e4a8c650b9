//! When who is asked, and what the answers make of it: the kubelet's prober worker (pkg/kubelet/prober/worker.go) for many targets, without
//! a clock or sockets. Time and a seed come in; attempts to make and flips go out.
//!
//! As the kubelet does: a target is not ready until it was found so; the first attempt comes `initialDelaySeconds` after the target
//! appeared; one attempt a period, the next at once where one took longer; a result counts when it came often enough in a row; an
//! attempt that failed for a reason of our own counts as not made. Unlike it: a first attempt is never delayed by chance. The kubelet
//! spreads its first attempts over a period after it was started; here those who were there from the start are asked at once (the cap
//! bounds how many at a time), and their second attempts are spread over the second half of the period.

use std::collections::{BTreeMap, BTreeSet};

use imbl::ordmap::DiffItem;

use super::readiness::{Life, Watched};
use super::targets::{ProbeKey, Target};

/// Names an attempt; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(u64);

/// A question to ask now.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Names it in [`Schedule::finished`].
    pub id: AttemptId,
    /// Whom to ask what.
    pub target: Target,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It is ready.
    Success,
    /// It is not, or did not answer in time.
    Failure,
    /// It could not be asked for a reason of our own: counts as not asked.
    Unknown,
}

impl Verdict {
    /// For metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Unknown => "unknown",
        }
    }
}

/// What became of an attempt, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it means.
    pub verdict: Verdict,
    /// `GET http://10.244.1.2:8080/readyz: status 503`.
    pub message: String,
}

/// A target turned out to be ready or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// Which one.
    pub key: ProbeKey,
    /// Which life of it ([`Life::id`]).
    pub life: u64,
    /// What it is now.
    pub ready: bool,
    /// Why, for people.
    pub reason: String,
}

/// All targets, and what is due when.
#[derive(Debug)]
pub struct Schedule {
    watched: Watched,
    entries: BTreeMap<ProbeKey, Entry>,
    /// By time, then by who has waited longest: nobody can be overtaken for ever.
    due: BTreeSet<(u64, u64, ProbeKey)>,
    in_flight: BTreeMap<AttemptId, ProbeKey>,
    max_in_flight: usize,
    attempts: u64,
    turns: u64,
    /// When somebody who was due last found all places taken.
    full_at_ms: Option<u64>,
    held: u64,
    random: fastrand::Rng,
}

#[derive(Debug)]
struct Entry {
    life: Life,
    since_ms: u64,
    /// What was established; `None`: nothing yet, which counts as not ready.
    ready: Option<bool>,
    /// The last result, and how often it came in a row.
    last: Option<bool>,
    run: u32,
    next: Next,
    /// Its second attempt comes early by chance.
    spread: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// In the queue, with this time and turn.
    Due(u64, u64),
    /// Being asked; to be asked again at this time, or when the answer is there.
    Asking(AttemptId, u64),
}

impl Schedule {
    /// At most `max_in_flight` attempts (at least one) are under way at a time.
    pub fn new(max_in_flight: usize, seed: u64) -> Self {
        Self {
            watched: Watched::new(),
            entries: BTreeMap::new(),
            due: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            max_in_flight: max_in_flight.max(1),
            attempts: 0,
            turns: 0,
            full_at_ms: None,
            held: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Makes these all that is probed. The attempts given back are to be broken off: they no longer count, not even as under way.
    pub fn watch(&mut self, wanted: Watched, now_ms: u64) -> Vec<AttemptId> {
        let before = std::mem::replace(&mut self.watched, wanted.clone());
        let at_start = self.attempts == 0 && before.is_empty();
        let mut broken_off = Vec::new();
        for difference in before.diff(&wanted) {
            match difference {
                DiffItem::Add(key, life) => self.add(key, life, at_start, now_ms),
                DiffItem::Update { old, new } if old.1.id == new.1.id => broken_off.extend(self.change(new.0, new.1, now_ms)),
                DiffItem::Update { new: (key, life), .. } => {
                    broken_off.extend(self.forget(key));
                    self.add(key, life, false, now_ms);
                }
                DiffItem::Remove(key, _) => broken_off.extend(self.forget(key)),
            }
        }
        broken_off
    }

    /// The next attempt that is due, if there is a place for it.
    pub fn next(&mut self, now_ms: u64) -> Option<Attempt> {
        let (due_ms, _, key) = self.due.first().filter(|(due_ms, ..)| *due_ms <= now_ms)?.clone();
        if self.in_flight.len() >= self.max_in_flight {
            self.full_at_ms = Some(now_ms);
            return None;
        }
        self.due.pop_first();
        let entry = self.entries.get_mut(&key)?;
        self.held += u64::from(self.full_at_ms.is_some_and(|full_at_ms| full_at_ms >= due_ms));
        self.attempts += 1;
        let id = AttemptId(self.attempts);
        let period = entry.period_ms();
        let wait = if std::mem::take(&mut entry.spread) { self.random.u64(period.div_ceil(2)..=period) } else { period };
        entry.next = Next::Asking(id, now_ms.saturating_add(wait));
        let target = entry.life.target.clone();
        self.in_flight.insert(id, key);
        Some(Attempt { id, target })
    }

    /// When [`Schedule::next`] will have something; `None` when first an attempt must end or a target appear.
    pub fn next_due_ms(&self) -> Option<u64> {
        let (due_ms, ..) = self.due.first()?;
        (self.in_flight.len() < self.max_in_flight).then_some(*due_ms)
    }

    /// An attempt ended. Gives a flip when the target's state is established for the first time or is another than before.
    pub fn finished(&mut self, id: AttemptId, answer: &Answer, now_ms: u64) -> Option<Flip> {
        let key = self.in_flight.remove(&id)?;
        let again_ms = match self.entries.get(&key)?.next {
            Next::Asking(_, again_ms) => again_ms.max(now_ms),
            Next::Due(..) => return None,
        };
        self.queue(&key, again_ms);
        let entry = self.entries.get_mut(&key)?;
        let ready = entry.counts(answer)?;
        entry.ready = Some(ready);
        let reason = if entry.run > 1 { format!("{} times in a row, last: {}", entry.run, answer.message) } else { answer.message.clone() };
        Some(Flip { key, life: entry.life.id, ready, reason })
    }

    /// Attempts under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Attempts that had to wait because too many were under way.
    pub fn held(&self) -> u64 {
        self.held
    }

    fn add(&mut self, key: &ProbeKey, life: &Life, spread: bool, now_ms: u64) {
        let entry = Entry { life: life.clone(), since_ms: now_ms, ready: None, last: None, run: 0, next: Next::Due(now_ms, 0), spread };
        let first_ms = entry.first_ms();
        self.entries.insert(key.clone(), entry);
        self.queue(key, first_ms);
    }

    /// The same target, asked in another way: counts begin anew, and what was established stands until the new probe says otherwise.
    fn change(&mut self, key: &ProbeKey, life: &Life, now_ms: u64) -> Option<AttemptId> {
        let entry = self.entries.get_mut(key)?;
        entry.life = life.clone();
        (entry.last, entry.run) = (None, 0);
        let (due_ms, broken_off) = (entry.first_ms().max(now_ms), self.release(key));
        self.queue(key, due_ms);
        broken_off
    }

    fn forget(&mut self, key: &ProbeKey) -> Option<AttemptId> {
        let broken_off = self.release(key);
        self.entries.remove(key);
        broken_off
    }

    /// Takes a target out of the queue or out of flight.
    fn release(&mut self, key: &ProbeKey) -> Option<AttemptId> {
        match self.entries.get(key)?.next {
            Next::Due(due_ms, turn) => {
                self.due.remove(&(due_ms, turn, key.clone()));
                None
            }
            Next::Asking(id, _) => {
                self.in_flight.remove(&id);
                Some(id)
            }
        }
    }

    fn queue(&mut self, key: &ProbeKey, due_ms: u64) {
        if let Some(entry) = self.entries.get_mut(key) {
            self.turns += 1;
            entry.next = Next::Due(due_ms, self.turns);
            self.due.insert((due_ms, self.turns, key.clone()));
        }
    }
}

impl Entry {
    /// Not before this is it asked for the first time.
    fn first_ms(&self) -> u64 {
        let delay = self.life.target.probe.initial_delay.as_millis();
        self.since_ms.saturating_add(u64::try_from(delay).unwrap_or(u64::MAX))
    }

    /// A period of nothing would be asking without end.
    fn period_ms(&self) -> u64 {
        u64::try_from(self.life.target.probe.period.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Counts a result; gives the state that it establishes, if that is news.
    fn counts(&mut self, answer: &Answer) -> Option<bool> {
        let ready = match answer.verdict {
            Verdict::Success => true,
            Verdict::Failure => false,
            Verdict::Unknown => return None,
        };
        self.run = if self.last == Some(ready) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(ready);
        let probe = &self.life.target.probe;
        let threshold = if ready { probe.success_threshold } else { probe.failure_threshold };
        (self.run >= threshold && self.ready != Some(ready)).then_some(ready)
    }
}
