//! When connections come.

use super::random::Stream;
use super::scenario::{Arrivals, Bursty};

/// The times of connections, one after the other.
pub(super) struct Process<'a> {
    arrivals: &'a Arrivals,
    stream: Stream,
    now: u64,
    /// Nobody comes later.
    end: u64,
    burst: Phase,
    /// In a trace.
    position: usize,
}

/// Where a bursty process stands.
struct Phase {
    bursting: bool,
    until: u64,
}

impl<'a> Process<'a> {
    pub(super) fn new(arrivals: &'a Arrivals, mut stream: Stream, end: u64) -> Self {
        let until = match arrivals {
            Arrivals::Bursty(bursty) => (bursty.calm_for.nanos as f64 * stream.exponential()) as u64,
            Arrivals::Poisson(_) | Arrivals::Trace(_) => 0,
        };
        Self { arrivals, stream, now: 0, end, burst: Phase { bursting: false, until }, position: 0 }
    }

    /// The next, in nanoseconds, with its number; none is left when a trace or the time has ended.
    pub(super) fn next(&mut self) -> Option<(u64, usize)> {
        self.position += 1;
        let arrivals = self.arrivals;
        self.now = match arrivals {
            Arrivals::Poisson(poisson) => self.now.saturating_add(self.after(poisson.per_second)),
            Arrivals::Bursty(bursty) => self.bursty(bursty)?,
            Arrivals::Trace(trace) => trace.get(self.position - 1)?.at.nanos,
        };
        Some((self.now, self.position - 1))
    }

    fn after(&mut self, per_second: f64) -> u64 {
        (self.stream.exponential() / per_second * 1e9) as u64
    }

    /// What would come after the rate has changed is drawn anew, which an exponential time does not notice.
    fn bursty(&mut self, bursty: &Bursty) -> Option<u64> {
        let mut now = self.now;
        while now <= self.end {
            let (rate, next_phase) = match self.burst.bursting {
                true => (bursty.burst_per_second, bursty.calm_for),
                false => (bursty.calm_per_second, bursty.burst_for),
            };
            let at = now.saturating_add(self.after(rate));
            if at <= self.burst.until {
                return Some(at);
            }
            now = self.burst.until;
            let lasts = (next_phase.nanos as f64 * self.stream.exponential()) as u64;
            self.burst = Phase { bursting: !self.burst.bursting, until: now.saturating_add(lasts.max(1)) };
        }
        None
    }
}
