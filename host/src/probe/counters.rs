//! What the prober did, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::schedule::Verdict;
use super::targets::ProbeKey;

/// What kind of target was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// A container of a pod.
    Container,
    /// An endpoint written by hand.
    Endpoint,
}

impl KeyKind {
    /// For metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Endpoint => "endpoint",
        }
    }
}

/// Counters that the prober writes and anybody reads.
#[derive(Debug, Default)]
pub struct Counters {
    attempts: [[AtomicU64; VERDICTS.len()]; KINDS.len()],
    in_flight: AtomicU64,
    held: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts that ended, by kind of target and result; all combinations, in a fixed order.
    pub attempts: Vec<(KeyKind, Verdict, u64)>,
    /// Attempts under way.
    pub in_flight: u64,
    /// Attempts that had to wait, because as many as may be were under way.
    pub held: u64,
}

impl Counters {
    /// Reads them.
    pub fn counts(&self) -> Counts {
        let count = |kind, verdict| self.attempt(kind, verdict).load(Ordering::Relaxed);
        let attempts = KINDS.iter().flat_map(|kind| VERDICTS.iter().map(|verdict| (*kind, *verdict, count(*kind, *verdict))));
        Counts { attempts: attempts.collect(), in_flight: self.in_flight.load(Ordering::Relaxed), held: self.held.load(Ordering::Relaxed) }
    }

    pub(super) fn answered(&self, key: &ProbeKey, verdict: Verdict) {
        let kind = match key {
            ProbeKey::Container { .. } => KeyKind::Container,
            ProbeKey::Endpoint { .. } => KeyKind::Endpoint,
        };
        self.attempt(kind, verdict).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn now(&self, in_flight: usize, held: u64) {
        self.in_flight.store(in_flight as u64, Ordering::Relaxed);
        self.held.store(held, Ordering::Relaxed);
    }

    fn attempt(&self, kind: KeyKind, verdict: Verdict) -> &AtomicU64 {
        &self.attempts[kind as usize][verdict as usize]
    }
}

const KINDS: [KeyKind; 2] = [KeyKind::Container, KeyKind::Endpoint];
const VERDICTS: [Verdict; 3] = [Verdict::Success, Verdict::Failure, Verdict::Unknown];
