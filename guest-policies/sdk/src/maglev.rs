//! Maglev's table (Eisenbud et al., NSDI 2016), as Envoy fills it: the same hashes, the same order, the same way of placing weights.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use crate::hash::xxh64;
use crate::packed::Packed;
use crate::types::{Endpoint, Setting, Slot};

/// For each entry, an index into the endpoints that it was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    slots: Packed<Slot>,
    entries: Packed<u16>,
}

impl Table {
    /// A table of this size for endpoints in order, whose weight is not 0.
    ///
    /// # Errors
    /// There are more endpoints than entries, or than an entry can name.
    pub fn of(members: &[&Endpoint], size: TableSize) -> Result<Self, String> {
        let size = size.entries(members.len());
        if members.len() > size.min(ENDPOINTS) as usize {
            return Err(format!("{} endpoints do not fit a table of {size}; Maglev takes at most {ENDPOINTS}", members.len()));
        }
        let weights: Vec<u32> = members.iter().map(|endpoint| endpoint.weight).collect();
        let mut walks: Vec<Walk> = members.iter().map(|endpoint| Walk::of(endpoint, size)).collect();
        let mut entries = vec![FREE; if members.is_empty() { 0 } else { size as usize }];
        let mut turns = Turns::of(&weights);
        for _ in 0..entries.len() {
            let Some(index) = turns.next() else { break };
            walks[index].take(&mut entries, index as u16);
        }
        Ok(Self { slots: members.iter().map(|endpoint| endpoint.slot).collect(), entries: entries.into_iter().collect() })
    }

    /// Whose entry a hash falls on, as an index into the endpoints.
    #[inline]
    pub fn index(&self, hash: u64) -> Option<usize> {
        let entry = hash.checked_rem(self.entries.len() as u64)?;
        self.entries.at(entry as usize).map(usize::from)
    }

    /// The slots of the endpoints, by the same index.
    pub fn slots(&self) -> &Packed<Slot> {
        &self.slots
    }

    /// Whose entry a hash falls on.
    #[inline]
    pub fn at(&self, hash: u64) -> Option<Slot> {
        self.slots.at(self.index(hash)?)
    }

    /// All entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = Slot> {
        self.entries.iter().filter_map(|index| self.slots.at(index.into()))
    }
}

/// A client's hash for an attempt: another entry for another attempt, as Envoy does it.
#[inline]
pub fn hash_of_attempt(hash: u64, attempt: u32) -> u64 {
    if attempt == 0 { hash } else { hash ^ (u64::MAX - u64::from(attempt) + 1) }
}

/// How many entries a table has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSize(Option<u32>);

impl TableSize {
    /// So many, a prime up to 131,071.
    pub fn exactly(entries: u32) -> Option<Self> {
        ((2..=LARGEST).contains(&entries) && is_prime(entries)).then_some(Self(Some(entries)))
    }

    /// What the setting `table-size` says; the same as before where there is none.
    ///
    /// # Errors
    /// A sentence for whoever wrote it.
    pub fn with(self, settings: &[Setting]) -> Result<Self, String> {
        let Some(value) = settings.iter().find(|setting| setting.key == TABLE_SIZE).map(|setting| &setting.value) else { return Ok(self) };
        let size = value.parse().ok().and_then(Self::exactly);
        size.ok_or_else(|| format!("{TABLE_SIZE} is `{value}`; it must be a prime up to {LARGEST}, such as 65537"))
    }

    /// Where nothing is said, the smallest of Maglev's primes that is at least 100 times the endpoints.
    fn entries(self, endpoints: usize) -> u32 {
        let fitting = || PRIMES.into_iter().find(|prime| *prime as usize >= 100 * endpoints);
        self.0.or_else(fitting).unwrap_or(LARGEST)
    }
}

/// The setting that [`TableSize`] reads.
pub const TABLE_SIZE: &str = "table-size";

fn is_prime(n: u32) -> bool {
    (2..).take_while(|divisor| divisor * divisor <= n).all(|divisor| n % divisor != 0)
}

/// Maglev's primes: each the largest below a power of two.
const PRIMES: [u32; 10] = [251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, LARGEST];

/// A table of so many entries is 262 kB a candidate set, and filling it takes 60 M fuel, or 130 M where weights
/// differ: 20 to 30 ms (measured).
const LARGEST: u32 = 131_071;

/// An entry is an index in 16 bits, of which one value means that the entry is free.
const ENDPOINTS: u32 = 0xffff;

/// An endpoint's preferences: all entries of the table, because its size is prime, from `offset` on by `skip`.
struct Walk {
    next: u32,
    skip: u32,
    size: u32,
}

impl Walk {
    fn of(endpoint: &Endpoint, size: u32) -> Self {
        let (offset, skip) = (xxh64(endpoint.key.as_bytes(), 0), xxh64(endpoint.key.as_bytes(), 1));
        let size64 = u64::from(size);
        Self { next: (offset % size64) as u32, skip: (skip % (size64 - 1)) as u32 + 1, size }
    }
}

impl Walk {
    /// Takes the first of the preferred entries that is free; there must be one. Most of the planner's work is here: the last entry
    /// of a table is found after as many steps as the table has entries.
    fn take(&mut self, entries: &mut [u16], index: u16) {
        loop {
            let here = self.next as usize;
            let next = self.next + self.skip;
            self.next = if next >= self.size { next - self.size } else { next };
            if entries[here] == FREE {
                entries[here] = index;
                return;
            }
        }
    }
}

/// An entry that nobody took yet.
const FREE: u16 = u16::MAX;

/// Whose turn it is to take an entry. In Envoy's words: in every iteration, in order, an endpoint is passed over while `iteration ·
/// weight < target`; else it takes an entry, and its target grows by the largest weight. A heap of who is due when gives the same
/// turns without visiting those that are passed over: with one heavy endpoint among thousands that would be nearly all.
enum Turns {
    Even {
        len: usize,
        next: usize,
    },
    /// By iteration, then by index, which is in the lower 16 bits.
    Heap {
        due: BinaryHeap<Reverse<u64>>,
        taken: Vec<u64>,
        weights: Vec<u64>,
        largest: u64,
    },
}

impl Turns {
    fn of(weights: &[u32]) -> Self {
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Self::Even { len: weights.len(), next: 0 };
        }
        let weights: Vec<u64> = weights.iter().map(|weight| u64::from(*weight)).collect();
        let largest = weights.iter().copied().max().unwrap_or(1);
        let due = (0..weights.len() as u64).map(|index| Reverse((1 << 16) | index)).collect();
        Self::Heap { due, taken: vec![0; weights.len()], weights, largest }
    }

    fn next(&mut self) -> Option<usize> {
        match self {
            Self::Even { len, next } => {
                let index = *next;
                *next = if index + 1 == *len { 0 } else { index + 1 };
                (index < *len).then_some(index)
            }
            Self::Heap { due, taken, weights, largest } => {
                let mut top = due.peek_mut()?;
                let (iteration, index) = (top.0 >> 16, (top.0 & 0xffff) as usize);
                taken[index] += 1;
                // The next iteration that is not passed over, and at least one on. The heaviest takes one in each, so a table is full
                // after as many iterations as it has entries; what is due later may as well be due a little earlier.
                let next = (taken[index] * *largest).div_ceil(weights[index]).max(iteration + 1).min(1 << 40);
                *top = Reverse((next << 16) | index as u64);
                Some(index)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    /// Envoy's `hash ^= ~0 - attempt + 1`.
    #[test]
    fn an_attempts_hash_is_envoys() {
        let hash = 0x0123_4567_89ab_cdef;
        let expected = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 0xfedc_ba98_7654_3211, 0xfedc_ba98_7654_3212];
        assert_eq!([0, 1, 2, 3].map(|attempt| hash_of_attempt(hash, attempt)), expected);
    }

    #[test]
    fn turns_are_envoys_for_any_weights() {
        for weights in [vec![2, 13, 111, 10], vec![1, 7, 7, 3], vec![1, u32::MAX], vec![5, 5, 4]] {
            let (mut by_heap, largest) = (Turns::of(&weights), u64::from(*weights.iter().max().unwrap()));
            let mut targets = vec![0u64; weights.len()];
            for iteration in 1u64..=2000 {
                for (index, weight) in weights.iter().enumerate() {
                    if iteration * u64::from(*weight) >= targets[index] {
                        targets[index] += largest;
                        assert_eq!(by_heap.next(), Some(index));
                    }
                }
            }
        }
    }

    #[test]
    fn the_default_size_is_the_first_prime_that_is_100_times_the_endpoints() {
        assert_eq!(
            [0, 1, 2, 3, 655, 656, 1310, 1311, 10_000].map(|endpoints| TableSize::default().entries(endpoints)),
            [251, 251, 251, 509, 65521, 131_071, 131_071, 131_071, 131_071]
        );
        assert!(PRIMES.into_iter().all(is_prime) && is_prime(65537) && !is_prime(65536) && !is_prime(1021 * 113));
    }
}
