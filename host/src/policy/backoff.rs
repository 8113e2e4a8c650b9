//! How long what failed is left alone.

/// 100 ms × 2^k with jitter, at most 30 s; from the start again after a quiet minute.
#[derive(Debug)]
pub(super) struct Backoff {
    exponent: u32,
    until_ms: u64,
    random: u64,
}

const FIRST_MS: u64 = 100;
const LONGEST_MS: u64 = 30_000;
const QUIET_MS: u64 = 60_000;

impl Backoff {
    /// With a seed for its jitter.
    pub(super) fn new(seed: u64) -> Self {
        Self { exponent: 0, until_ms: 0, random: seed | 1 }
    }

    /// Failed again.
    pub(super) fn wait(&mut self, now_ms: u64) {
        if now_ms > self.until_ms.saturating_add(QUIET_MS) {
            self.exponent = 0;
        }
        let full = (FIRST_MS << self.exponent.min(16)).min(LONGEST_MS);
        self.exponent += 1;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // Between half and all of it: workers that failed together don't come back together.
        self.until_ms = now_ms.saturating_add(full / 2 + self.random % (full / 2 + 1));
    }

    /// When the wait ends.
    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute_and_differ_by_seed() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..12)
                .map(|_| {
                    backoff.wait(0);
                    backoff.until_ms
                })
                .collect::<Vec<u64>>()
        };
        for (k, wait) in waits(7).into_iter().enumerate() {
            let full = (100_u64 << k).min(30_000);
            assert!((full / 2..=full).contains(&wait), "wait {k} is {wait}");
        }
        assert_ne!(waits(7), waits(8));
    }

    #[test]
    fn a_quiet_minute_starts_over() {
        let mut backoff = Backoff::new(7);
        (0..10).for_each(|_| backoff.wait(0));
        let late = backoff.until_ms + 60_001;
        backoff.wait(late);
        assert!(backoff.until_ms - late <= 100);
    }
}
