//! Draws by weight in constant time: Walker's alias method (Vose, 1991), in integers, so that every build draws alike.

use serde::{Deserialize, Serialize};

use crate::hash::below;
use crate::packed::Packed;

/// Something to draw indices from, each as often as its weight says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weighted {
    len: u32,
    /// One cell an index: in the upper half the share, in 2⁻³², that keeps the index; in the lower half whom the rest goes to.
    /// Empty where all weights are equal.
    cells: Packed<u64>,
}

impl Weighted {
    /// Of weights that are not 0.
    pub fn new(weights: &[u32]) -> Self {
        let len = weights.len() as u32;
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Self { len, cells: Packed::default() };
        }
        let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
        // An average index has `total`; those that have less are filled up from those that have more.
        let mut has: Vec<u128> = weights.iter().map(|weight| u128::from(*weight) * u128::from(len)).collect();
        let (mut poor, mut rich): (Vec<u32>, Vec<u32>) = (0..len).partition(|index| has[*index as usize] < total);
        // Whoever is left at the end has `total`, and keeps itself whatever the coin says.
        let mut cells: Vec<u64> = (0..len).map(|index| cell(u32::MAX, index)).collect();
        while let (Some(taker), Some(&giver)) = (poor.pop(), rich.last()) {
            let own = has[taker as usize];
            cells[taker as usize] = cell(((own << 32) / total) as u32, giver);
            let left = &mut has[giver as usize];
            *left -= total - own;
            if *left < total {
                rich.pop();
                poor.push(giver);
            }
        }
        Self { len, cells: cells.into_iter().collect() }
    }

    /// Whether every index is drawn as often as any other.
    pub fn is_uniform(&self) -> bool {
        self.cells.is_empty()
    }

    /// An index, from 64 random bits. 0 where there is nothing to draw from.
    #[inline]
    pub fn draw(&self, random: u64) -> usize {
        let index = below(random as u32, self.len);
        let coin = (random >> 32) as u32;
        match self.cells.at(index as usize) {
            Some(cell) if coin >= (cell >> 32) as u32 => cell as u32 as usize,
            _ => index as usize,
        }
    }
}

fn cell(keeps: u32, rest: u32) -> u64 {
    (u64::from(keeps) << 32) | u64::from(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::mix;

    /// The exact share of each index, in 2⁻³² of an index, read off the cells.
    fn shares(weighted: &Weighted) -> Vec<f64> {
        let n = f64::from(weighted.len);
        let mut shares = vec![0.0; weighted.len as usize];
        for (index, cell) in weighted.cells.iter().enumerate() {
            let keeps = (cell >> 32) as f64 / 2f64.powi(32);
            shares[index] += keeps / n;
            shares[cell as u32 as usize] += (1.0 - keeps) / n;
        }
        shares
    }

    #[test]
    fn shares_are_the_weights() {
        for weights in [vec![1, 2], vec![5, 1, 1], vec![1, u32::MAX], (1..=1000).collect()] {
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            for (share, weight) in shares(&Weighted::new(&weights)).into_iter().zip(weights) {
                assert!((share - f64::from(weight) / total).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn equal_weights_need_no_cells() {
        let weighted = Weighted::new(&[7; 3]);
        let mut counts = [0u32; 3];
        (0..30_000).for_each(|n| counts[weighted.draw(mix(n))] += 1);
        assert!(weighted.cells.is_empty() && counts.iter().all(|count| count.abs_diff(10_000) < 400), "{counts:?}");
    }

    #[test]
    fn extreme_bits_stay_in_range() {
        for weighted in [Weighted::new(&[1, 2, 3]), Weighted::new(&[1]), Weighted::new(&[])] {
            for random in [0, u64::MAX, u64::from(u32::MAX), u64::MAX << 32] {
                assert!(weighted.draw(random) < weighted.len.max(1) as usize);
            }
        }
    }
}
