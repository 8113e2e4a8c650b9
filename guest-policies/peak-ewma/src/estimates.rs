//! How long endpoints take to connect to.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::decay::{added, decayed};

/// What is known of an endpoint: a peak counts at once, what is less only by and by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// In microseconds, when it was last changed; `UNSEEN` before the first look at it.
    rtt: u32,
    changed_ms: u64,
    /// When it was last looked at.
    used_ms: u64,
}

impl Estimate {
    fn new(rtt: u32, now_ms: u64) -> Self {
        Self { rtt, changed_ms: now_ms, used_ms: now_ms }
    }

    /// What is only expected begins to fade when it is first looked at.
    fn begin(&mut self, now_ms: u64) {
        if self.changed_ms == UNSEEN {
            self.changed_ms = now_ms;
        }
    }

    /// The estimate now: without samples it decays, so that who was slow is tried again.
    pub(crate) fn at(&self, now_ms: u64) -> u32 {
        decayed(self.rtt, now_ms.saturating_sub(self.changed_ms))
    }

    /// A connection took so long.
    pub(crate) fn observe(&mut self, sample: u32, now_ms: u64) {
        self.begin(now_ms);
        let elapsed = now_ms.saturating_sub(self.changed_ms);
        self.rtt = if sample > self.rtt { sample } else { decayed(self.rtt, elapsed) + added(sample, elapsed) };
        self.changed_ms = self.changed_ms.max(now_ms);
        self.used_ms = self.changed_ms;
    }
}

/// Estimates by the endpoint's hash: of all Services together, as it is the endpoint that is slow.
#[derive(Debug)]
pub(crate) struct Estimates {
    known: HashMap<u64, Estimate, BuildHasherDefault<AsItIs>>,
    /// How many there may be before those that nobody looks at are dropped.
    room: usize,
    /// The last time that was told.
    now_ms: u64,
}

impl Estimates {
    pub(crate) fn new() -> Self {
        Self { known: HashMap::default(), room: ROOM, now_ms: 0 }
    }

    /// An endpoint is in use from now on; one that nothing is known of is thought to take `initial`. Room is made for it here, as a decision
    /// has no fuel for that: a map of thousands is copied when it grows.
    pub(crate) fn expect(&mut self, endpoint: u64, initial: u32) {
        if !self.known.contains_key(&endpoint) {
            self.insert(endpoint, Estimate { rtt: initial, changed_ms: UNSEEN, used_ms: self.now_ms });
        }
    }

    /// So many endpoints are to be expected: growing by and by would copy the map again and again.
    pub(crate) fn make_room(&mut self, endpoints: usize) {
        self.known.reserve(endpoints.saturating_sub(self.known.len()));
        self.room = self.room.max(2 * endpoints).min(MOST);
    }

    /// That of an endpoint now; `initial`, where it is not known.
    pub(crate) fn of(&mut self, endpoint: u64, initial: u32, now_ms: u64) -> u32 {
        self.now_ms = now_ms;
        match self.known.get_mut(&endpoint) {
            Some(estimate) => {
                estimate.begin(now_ms);
                estimate.used_ms = now_ms;
                estimate.at(now_ms)
            }
            None => initial,
        }
    }

    /// A connection to an endpoint took so long.
    pub(crate) fn observe(&mut self, endpoint: u64, sample: u32, now_ms: u64) {
        self.now_ms = now_ms;
        match self.known.get_mut(&endpoint) {
            Some(estimate) => estimate.observe(sample, now_ms),
            None => self.insert(endpoint, Estimate::new(sample, now_ms)),
        }
    }

    fn insert(&mut self, endpoint: u64, estimate: Estimate) {
        if self.known.len() >= self.room {
            let now_ms = estimate.used_ms;
            self.known.retain(|_, known| now_ms.saturating_sub(known.used_ms) < UNUSED_MS);
            if self.known.len() >= MOST {
                self.known.clear();
            }
            self.room = (self.known.len() * 2).clamp(ROOM, MOST);
        }
        self.known.insert(endpoint, estimate);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

/// A hash is its own hash.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// No time.
const UNSEEN: u64 = u64::MAX;

/// An endpoint that was not drawn for so long has gone, or the Service is all but idle.
const UNUSED_MS: u64 = 600_000;

/// So many are kept without a look at their age.
const ROOM: usize = 1024;

/// And so many at most: 3 MB. Beyond, all are forgotten, and learnt again from who is in use.
const MOST: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decay::TAU_MS;
    use pointsman_sdk::hash::mix;

    #[test]
    fn a_peak_counts_at_once_and_what_is_less_by_and_by() {
        let mut estimate = Estimate::new(10_000, 0);
        estimate.observe(50_000, 5);
        assert_eq!(estimate.at(5), 50_000);
        estimate.observe(1_000, 5);
        assert_eq!(estimate.at(5), 50_000, "in the same moment nothing has decayed");
        estimate.observe(1_000, 5 + TAU_MS);
        // 50,000 / e + 1,000 · (1 − 1 / e) = 19,026.1
        assert!(estimate.at(5 + TAU_MS).abs_diff(19_026) <= 1, "{estimate:?}");
        estimate.observe(1_000, 5 + 31 * TAU_MS);
        assert!(estimate.at(5 + 31 * TAU_MS).abs_diff(1_000) <= 1, "{estimate:?}");
    }

    /// The law, with floats: never less than a peak of before, decayed.
    #[test]
    fn never_below_a_decayed_peak() {
        for seed in 0..50 {
            let mut estimate = Estimate::new(10_000, 0);
            let mut samples = vec![(10_000f64, 0u64)];
            let mut now = 0;
            for n in 0..100 {
                let random = mix(seed * 1000 + n);
                now += random % 3000;
                let sample = (random >> 32) as u32 % [2_000, 1_000_000][(random >> 20) as usize % 2];
                let peak = sample > estimate.rtt;
                estimate.observe(sample, now);
                if peak {
                    samples.push((f64::from(sample), now));
                }
                for later in [0, 1, 777, 20_000] {
                    let floor = samples.iter().map(|(peak, at)| peak * (-((now + later - at) as f64) / TAU_MS as f64).exp());
                    let floor = floor.fold(0.0, f64::max);
                    assert!(f64::from(estimate.at(now + later)) >= floor - 1e-6, "{estimate:?} after {later} ms: {floor}");
                }
            }
        }
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        let mut estimate = Estimate::new(10_000, 5_000);
        estimate.observe(2_000, 0);
        assert_eq!((estimate.at(0), estimate.at(5_000)), (10_000, 10_000));
    }

    #[test]
    fn what_nobody_looks_at_is_forgotten() {
        let mut estimates = Estimates::new();
        for n in 0..100_000u64 {
            // One endpoint after the other, each for a while, and one that stays.
            estimates.observe(mix(n / 10), 1_000, n * 1_000);
            assert_ne!(estimates.of(u64::MAX, 7_000, n * 1_000), 0);
            assert!(estimates.len() <= 2 * ROOM, "{n}: {}", estimates.len());
        }
        let mut estimates = Estimates::new();
        (0..200_000u64).for_each(|n| estimates.observe(mix(n), 1_000, 0));
        assert!(estimates.len() <= MOST, "not even where all are new");
    }
}
