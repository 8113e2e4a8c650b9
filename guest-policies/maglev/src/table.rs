//! The table, and how it is filled.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pointsman_sdk::hash::xxh64;
use pointsman_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// For each entry, an index into `slots`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    slots: Packed<Slot>,
    entries: Packed<u16>,
}

impl Table {
    /// A table of `size` entries, a prime, for endpoints in order, whose weight is not 0; there are fewer than `FREE` of them.
    pub(crate) fn of(members: &[&Endpoint], size: u32) -> Self {
        let weights: Vec<u32> = members.iter().map(|endpoint| endpoint.weight).collect();
        let mut walks: Vec<Walk> = members.iter().map(|endpoint| Walk::of(endpoint, size)).collect();
        let mut entries = vec![FREE; if members.is_empty() { 0 } else { size as usize }];
        let mut turns = Turns::of(&weights);
        for _ in 0..entries.len() {
            let Some(index) = turns.next() else { break };
            walks[index].take(&mut entries, index as u16);
        }
        Self { slots: members.iter().map(|endpoint| endpoint.slot).collect(), entries: entries.into_iter().collect() }
    }

    pub(crate) fn at(&self, hash: u64) -> Option<Slot> {
        let entry = hash.checked_rem(self.entries.len() as u64)?;
        self.slots.at(usize::from(self.entries.at(entry as usize)?))
    }

    #[cfg(test)]
    pub(crate) fn entries(&self) -> Vec<Slot> {
        self.entries.iter().filter_map(|index| self.slots.at(index.into())).collect()
    }
}

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
pub(crate) enum Turns {
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
    pub(crate) fn of(weights: &[u32]) -> Self {
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Self::Even { len: weights.len(), next: 0 };
        }
        let weights: Vec<u64> = weights.iter().map(|weight| u64::from(*weight)).collect();
        let largest = weights.iter().copied().max().unwrap_or(1);
        let due = (0..weights.len() as u64).map(|index| Reverse((1 << 16) | index)).collect();
        Self::Heap { due, taken: vec![0; weights.len()], weights, largest }
    }

    pub(crate) fn next(&mut self) -> Option<usize> {
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
