//! Chance, from a seed: a stream of its own for each purpose, so that a policy's choices change nobody else's luck. Two policies meet
//! the same arrivals, clients and sizes under the same seed.
//!
//! `ln`, `exp` and `cos` are the platform's: the same seed gives the same bytes on one machine and build, and may differ in a last
//! digit on another.

use pointsman_sdk::hash::{mix, xxh64};

use super::scenario::{Clients, Distribution, Hot, Zipf};

/// SplitMix64 (Steele, Lea, Flood 2014): passes BigCrush, and a state of one word fits every connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream(u64);

impl Stream {
    /// For one purpose under one seed.
    pub(super) fn new(seed: u64, purpose: &str) -> Self {
        Self(mix(seed ^ xxh64(purpose.as_bytes(), 0)))
    }

    /// 64 bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A stream that starts where this one is.
    pub(super) fn branch(&mut self) -> Self {
        Self(self.bits())
    }

    /// At least 0, below 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Below `n`; 0 where `n` is. The bias is at most n / 2⁶⁴.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// With mean 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// With mean 0 and variance 1 (Box & Muller 1958; the second of each pair is not kept, which keeps the state one word).
    fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.unit()).cos()
    }

    /// Nanoseconds.
    pub(super) fn draw(&mut self, distribution: &Distribution) -> u64 {
        match distribution {
            Distribution::Constant(time) => time.nanos,
            Distribution::Exponential(mean) => (mean.nanos as f64 * self.exponential()) as u64,
            // The mean of a lognormal is exp(μ + σ²/2).
            Distribution::Lognormal(shape) => {
                let sigma = shape.sigma;
                (shape.mean.nanos as f64 * (sigma * self.normal() - sigma * sigma / 2.0).exp()) as u64
            }
            Distribution::Bimodal(shape) => if self.unit() < shape.long_share { shape.long } else { shape.short }.nanos,
        }
    }
}

/// Who comes, drawn by popularity.
pub(super) enum Popularity {
    Uniform(u64),
    /// The chance that a client is this one or one before it.
    Cumulative(Vec<f64>),
    /// Client 0 with this chance.
    Hot(u64, f64),
}

impl Popularity {
    pub(super) fn new(clients: &Clients) -> Self {
        match clients {
            Clients::Uniform(count) => Self::Uniform(u64::from(*count)),
            Clients::Hot(Hot { count, share }) => Self::Hot(u64::from(*count), *share),
            Clients::Zipf(Zipf { count, exponent }) => {
                let mut sum = 0.0;
                let mut up_to = |rank: u32| {
                    sum += f64::from(rank).powf(-exponent);
                    sum
                };
                let mut cumulative: Vec<f64> = (1..=*count).map(&mut up_to).collect();
                cumulative.iter_mut().for_each(|chance| *chance /= sum);
                Self::Cumulative(cumulative)
            }
        }
    }

    pub(super) fn draw(&self, stream: &mut Stream) -> u32 {
        match self {
            Self::Uniform(count) => stream.below(*count) as u32,
            Self::Cumulative(chances) => {
                let at = stream.unit();
                (chances.partition_point(|chance| *chance <= at) as u32).min(chances.len().saturating_sub(1) as u32)
            }
            Self::Hot(_, share) if stream.unit() < *share => 0,
            // The others share the rest; where there are none, it is all the first's.
            Self::Hot(count, _) => 1 + stream.below(count.saturating_sub(1)) as u32,
        }
    }
}
