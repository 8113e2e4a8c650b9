//! When a policy is no longer asked. A state machine without a clock: time comes in. One for each policy version and worker.

use std::collections::VecDeque;

/// Whether a policy may be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// It is asked.
    #[default]
    Closed,
    /// It is asked, but its answers are not used: a hundred must be good first.
    HalfOpen,
    /// It is not asked.
    Open,
}

impl BreakerState {
    /// As in `/policies`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

/// What to do with a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Ask, and use the answer.
    Ask,
    /// Ask, and don't use the answer.
    Shadow,
    /// Don't ask.
    Skip,
}

/// Counts faults and time, and opens.
#[derive(Debug)]
pub(super) struct Breaker {
    state: BreakerState,
    /// When the latest faults were, at most `FAULTS + 1` of them.
    faults: VecDeque<u64>,
    /// Decisions and faults of the block of `BLOCK` decisions that is being counted.
    decisions: u32,
    block_faults: u32,
    /// Open: when it turns half-open.
    until_ms: u64,
    /// How long it stays open next time.
    pause_ms: u64,
    /// Half-open: decisions that still have to be good.
    shadows_left: u32,
    /// Time that the policy took in the window that began then.
    busy_ns: u64,
    busy_since_ms: u64,
    core_share_percent: u32,
    opened: u64,
}

/// More than this many faults in `FAULT_WINDOW_MS` open it.
const FAULTS: usize = 5;
const FAULT_WINDOW_MS: u64 = 10_000;
/// One in a hundred of a block of decisions opens it too.
const BLOCK: u32 = 1_000;
const BLOCK_FAULTS: u32 = 10;
/// Good decisions in shadow that close it.
const SHADOWS: u32 = 100;
/// Open this long at first, then twice as long each time, up to the maximum; a block without a fault brings it back to the first.
const PAUSE_MS: u64 = 10_000;
const PAUSE_MAX_MS: u64 = 300_000;
/// The share of a core is judged over this long: the time is sampled, and a shorter window would judge the sampling.
const BUSY_WINDOW_MS: u64 = 5_000;

impl Breaker {
    pub(super) fn new(core_share_percent: u32) -> Self {
        Self {
            state: BreakerState::Closed,
            faults: VecDeque::with_capacity(FAULTS + 1),
            decisions: 0,
            block_faults: 0,
            until_ms: 0,
            pause_ms: PAUSE_MS,
            shadows_left: 0,
            busy_ns: 0,
            busy_since_ms: 0,
            core_share_percent,
            opened: 0,
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        self.state
    }

    /// How often it opened.
    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    #[inline]
    pub(super) fn admit(&mut self, now_ms: u64) -> Admission {
        match self.state {
            BreakerState::Closed => Admission::Ask,
            BreakerState::HalfOpen => Admission::Shadow,
            BreakerState::Open if now_ms < self.until_ms => Admission::Skip,
            BreakerState::Open => {
                self.state = BreakerState::HalfOpen;
                self.shadows_left = SHADOWS;
                Admission::Shadow
            }
        }
    }

    /// A decision that was fit for use.
    #[inline]
    pub(super) fn good(&mut self) {
        if self.state == BreakerState::HalfOpen {
            self.shadows_left = self.shadows_left.saturating_sub(1);
            if self.shadows_left == 0 {
                self.state = BreakerState::Closed;
                self.faults.clear();
                (self.decisions, self.block_faults) = (0, 0);
            }
        }
        self.count();
    }

    /// A fault, of a decision or of anything else that was asked.
    pub(super) fn fault(&mut self, now_ms: u64) {
        self.faults.push_back(now_ms);
        while self.faults.len() > FAULTS + 1 {
            self.faults.pop_front();
        }
        self.block_faults += 1;
        let recent = self.faults.iter().filter(|at| now_ms.saturating_sub(**at) < FAULT_WINDOW_MS).count();
        if recent > FAULTS || self.block_faults >= BLOCK_FAULTS || self.state == BreakerState::HalfOpen {
            self.open(now_ms);
        }
        self.count();
    }

    /// Processor time that the policy took, by measure or by estimate. True when it was too much, and the breaker opened.
    pub(super) fn busy(&mut self, now_ms: u64, nanos: u64) -> bool {
        let elapsed_ms = now_ms.saturating_sub(self.busy_since_ms);
        if elapsed_ms >= BUSY_WINDOW_MS {
            (self.busy_ns, self.busy_since_ms) = (0, now_ms);
        }
        self.busy_ns = self.busy_ns.saturating_add(nanos);
        let allowed_ns = BUSY_WINDOW_MS * 1_000_000 / 100 * u64::from(self.core_share_percent);
        let over = self.busy_ns > allowed_ns && self.state != BreakerState::Open;
        if over {
            self.open(now_ms);
        }
        over
    }

    #[inline]
    fn count(&mut self) {
        self.decisions += 1;
        if self.decisions >= BLOCK {
            if self.block_faults == 0 && self.state == BreakerState::Closed {
                self.pause_ms = PAUSE_MS;
            }
            (self.decisions, self.block_faults) = (0, 0);
        }
    }

    fn open(&mut self, now_ms: u64) {
        if self.state != BreakerState::Open {
            self.opened += 1;
            self.state = BreakerState::Open;
            self.until_ms = now_ms.saturating_add(self.pause_ms);
            self.pause_ms = (self.pause_ms * 2).min(PAUSE_MAX_MS);
            self.busy_ns = 0;
        }
        self.faults.clear();
        (self.decisions, self.block_faults) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(20)
    }

    /// Faults at these times, then the state.
    fn after(faults: &[u64]) -> BreakerState {
        let mut breaker = breaker();
        faults.iter().for_each(|at| breaker.fault(*at));
        breaker.state()
    }

    #[test]
    fn five_faults_in_ten_seconds_are_borne_and_six_are_not() {
        assert_eq!(after(&[0, 1, 2, 3, 4]), BreakerState::Closed);
        assert_eq!(after(&[0, 1, 2, 3, 4, 9_999]), BreakerState::Open);
        assert_eq!(after(&[0, 1, 2, 3, 4, 10_000]), BreakerState::Closed);
    }

    #[test]
    fn one_percent_of_a_thousand_opens_it_however_slow_they_come() {
        let mut breaker = breaker();
        for n in 0..9 {
            breaker.fault(n * 100_000);
            (0..90).for_each(|_| breaker.good());
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.fault(900_000);
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn faults_of_an_earlier_thousand_are_forgotten() {
        let mut breaker = breaker();
        for n in 0..30 {
            breaker.fault(n * 100_000);
            (0..200).for_each(|_| breaker.good());
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn it_closes_after_a_hundred_good_ones_in_shadow() {
        let mut breaker = breaker();
        (0..6).for_each(|_| breaker.fault(0));
        assert_eq!(breaker.admit(9_999), Admission::Skip);
        assert_eq!(breaker.admit(10_000), Admission::Shadow);
        for _ in 0..99 {
            breaker.good();
            assert_eq!(breaker.admit(10_000), Admission::Shadow);
        }
        breaker.good();
        assert_eq!(breaker.admit(10_000), Admission::Ask);
        assert_eq!(breaker.opened(), 1);
    }

    #[test]
    fn a_fault_in_shadow_opens_it_for_twice_as_long() {
        let mut breaker = breaker();
        (0..6).for_each(|_| breaker.fault(0));
        assert_eq!(breaker.admit(10_000), Admission::Shadow);
        breaker.fault(10_000);
        assert_eq!(breaker.admit(29_999), Admission::Skip);
        assert_eq!(breaker.admit(30_000), Admission::Shadow);
        assert_eq!(breaker.opened(), 2);
    }

    #[test]
    fn a_fifth_of_a_core_is_the_limit() {
        let mut breaker = breaker();
        assert!(!breaker.busy(0, 1_000_000_000), "one of five seconds is just allowed");
        assert!(breaker.busy(4_999, 1));
        assert_eq!(breaker.state(), BreakerState::Open);
        let mut slow = Breaker::new(20);
        assert!((0..100).all(|n| !slow.busy(n * 5_000, 900_000_000)), "each window starts from nothing");
    }
}
