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
    /// A table of `size` entries, a prime, for endpoints whose weight is not 0.
    pub(crate) fn of(mut members: Vec<&Endpoint>, size: u32) -> Self {
        // By key, so that the table does not depend on who listed the endpoints.
        members.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let weights: Vec<u32> = members.iter().map(|endpoint| endpoint.weight).collect();
        let mut walks: Vec<Walk> = members.iter().map(|endpoint| Walk::of(endpoint, size)).collect();
        let mut entries = vec![None; if members.is_empty() { 0 } else { size as usize }];
        let mut turns = Turns::of(&weights);
        for _ in 0..entries.len() {
            let Some(index) = turns.next() else { break };
            let free = walks[index].find(|entry| entries[*entry as usize].is_none());
            if let Some(entry) = free {
                entries[entry as usize] = Some(index as u16);
            }
        }
        Self { slots: members.iter().map(|endpoint| endpoint.slot).collect(), entries: entries.into_iter().flatten().collect() }
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

impl Iterator for Walk {
    type Item = u32;

    /// Without end; the caller looks for a free entry, and there is one.
    fn next(&mut self) -> Option<u32> {
        let entry = self.next;
        let next = entry + self.skip;
        self.next = if next >= self.size { next - self.size } else { next };
        Some(entry)
    }
}

/// Whose turn it is to take an entry. In Envoy's words: in every iteration, in order, an endpoint is passed over while `iteration ·
/// weight < target`; else it takes an entry, and its target grows by the largest weight. A heap of who is due when gives the same
/// turns without visiting those that are passed over: with one heavy endpoint among thousands that would be nearly all.
pub(crate) enum Turns {
    Even { len: usize, next: usize },
    Heap { due: BinaryHeap<Reverse<(u64, usize)>>, taken: Vec<u64>, weights: Vec<u64>, largest: u64 },
}

impl Turns {
    pub(crate) fn of(weights: &[u32]) -> Self {
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Self::Even { len: weights.len(), next: 0 };
        }
        let weights: Vec<u64> = weights.iter().map(|weight| u64::from(*weight)).collect();
        let largest = weights.iter().copied().max().unwrap_or(1);
        let due = (0..weights.len()).map(|index| Reverse((1, index))).collect();
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
                let Reverse((iteration, index)) = *top;
                taken[index] += 1;
                // The next iteration that is not passed over, and at least one on.
                let next = (taken[index] * *largest).div_ceil(weights[index]).max(iteration + 1);
                *top = Reverse((next, index));
                Some(index)
            }
        }
    }
}
