//! How many connections an endpoint may have: ⌈c · total · weight / weights of all⌉.

use pointsman_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// The bound of a candidate set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bound {
    /// In percent.
    factor: u32,
    weights: Packed<u32>,
    /// All weights, times 100 for the percent.
    hundred_weights: u64,
}

impl Bound {
    /// For endpoints whose weight is not 0.
    pub(crate) fn new(factor: u32, members: &[&Endpoint]) -> Self {
        // At most 2¹⁶ weights of 32 bits.
        let weights: u64 = members.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
        Self { factor, weights: members.iter().map(|endpoint| endpoint.weight).collect(), hundred_weights: weights * 100 }
    }

    /// Whether an endpoint with so many connections may have another, where with it there are `total`: whether it has fewer than its
    /// share, and so than its share rounded up.
    pub(crate) fn has_room(&self, index: usize, active: u32, total: u64) -> bool {
        self.taken(active) < u128::from(total) * u128::from(self.of_each(index))
    }

    /// The least total for which it may.
    pub(crate) fn needed(&self, index: usize, active: u32) -> u64 {
        let each = u128::from(self.of_each(index)).max(1);
        u64::try_from(self.taken(active) / each + 1).unwrap_or(u64::MAX)
    }

    fn taken(&self, active: u32) -> u128 {
        u128::from(active) * u128::from(self.hundred_weights)
    }

    /// What an endpoint's share grows by with each connection, in the same unit.
    fn of_each(&self, index: usize) -> u64 {
        u64::from(self.factor) * u64::from(self.weights.at(index).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_sdk::native::endpoints;

    /// ⌈c · total · weight / weights⌉.
    fn capacity(factor: u64, weight: u64, weights: u64, total: u64) -> u64 {
        (factor * total * weight).div_ceil(100 * weights)
    }

    #[test]
    fn room_is_to_have_fewer_than_the_share_rounded_up() {
        for (factor, weights) in [(100, vec![1, 1, 1]), (125, vec![1; 7]), (101, vec![5, 1, 2]), (1000, vec![1, 100])] {
            let members = endpoints(&weights);
            let bound = Bound::new(factor, &members.iter().collect::<Vec<_>>());
            let all = weights.iter().map(|weight| u64::from(*weight)).sum();
            for (index, weight) in weights.iter().enumerate() {
                for total in 1..200 {
                    let capacity = capacity(factor.into(), (*weight).into(), all, total);
                    for active in 0..250 {
                        let expected = u64::from(active) < capacity;
                        assert_eq!(bound.has_room(index, active, total), expected, "{factor} % of {weights:?}: {active} of {total}");
                        assert_eq!(total >= bound.needed(index, active), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let members = endpoints(&[u32::MAX; 3]);
        let bound = Bound::new(1000, &members.iter().collect::<Vec<_>>());
        assert!(!bound.has_room(0, u32::MAX, 1) && bound.has_room(0, u32::MAX, u64::MAX));
        assert!(bound.needed(0, u32::MAX) > u64::from(u32::MAX) / 10);
    }
}
