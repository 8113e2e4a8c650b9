//! The ring, and how it is made.

use std::fmt::Write as _;

use pointsman_sdk::hash::xxh64;
use pointsman_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// Points in ascending order, and whose they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    points: Packed<u64>,
    slots: Packed<Slot>,
}

impl Ring {
    /// A ring for endpoints in order, whose weight is not 0.
    pub(crate) fn of(members: &[&Endpoint], size: Size) -> Self {
        let mut points: Vec<(u64, Slot)> = Vec::new();
        let mut text = String::new();
        for (endpoint, count) in members.iter().zip(size.shares(members)) {
            text.clone_from(&endpoint.key);
            text.push('_');
            let prefix = text.len();
            for n in 0..count {
                text.truncate(prefix);
                // Writing to a string cannot fail.
                let _ = write!(text, "{n}");
                points.push((xxh64(text.as_bytes(), 0), endpoint.slot));
            }
        }
        // Points that coincide, which no two of a ring that fits here are likely to, stay in the order of the keys.
        points.sort_by_key(|(point, _)| *point);
        Self { points: points.iter().map(|(point, _)| *point).collect(), slots: points.iter().map(|(_, slot)| *slot).collect() }
    }

    /// The endpoint of the first point that is not below `hash`; `further` points on, for another attempt.
    pub(crate) fn at(&self, hash: u64, further: u32) -> Option<Slot> {
        let (mut low, mut high) = (0, self.points.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.points.at(middle)? < hash { low = middle + 1 } else { high = middle }
        }
        // Beyond the last point the ring begins again.
        let first = if low == self.points.len() { 0 } else { low as u64 };
        let point = (first + u64::from(further)).checked_rem(self.points.len() as u64)?;
        self.slots.at(point as usize)
    }

    #[cfg(test)]
    pub(crate) fn points(&self) -> Vec<(u64, Slot)> {
        self.points.iter().zip(self.slots.iter()).collect()
    }
}

/// How many points a ring has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// At least so many.
    pub(crate) minimum: u32,
    /// About so many at most: an endpoint's share is rounded up.
    pub(crate) maximum: u32,
}

impl Size {
    /// Envoy's count for each endpoint: the lightest has a whole number of points, such that the ring is not smaller than `minimum`;
    /// the others have as many times more as they weigh more, where fractions are carried along from one to the next. The operations
    /// are Envoy's, one by one, so that the fractions are too.
    fn shares(self, members: &[&Endpoint]) -> impl Iterator<Item = u32> {
        let total = members.iter().map(|endpoint| f64::from(endpoint.weight)).sum::<f64>();
        let shares: Vec<f64> = members.iter().map(|endpoint| f64::from(endpoint.weight) / total).collect();
        let lightest = shares.iter().copied().fold(1.0, f64::min);
        let scale = ((lightest * f64::from(self.minimum)).ceil() / lightest).min(f64::from(self.maximum));
        let (mut current, mut target) = (0.0, 0.0);
        shares.into_iter().map(move |share| {
            target += scale * share;
            let mut count = 0;
            while current < target {
                current += 1.0;
                count += 1;
            }
            count
        })
    }
}
