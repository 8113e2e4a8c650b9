//! One period, written down.

use pointsman_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// The picks of one period, in order.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Period {
    slots: Packed<u32>,
    /// By position, the lower half of the endpoint's hash: slots die with the generation, this does not. Two endpoints that share it
    /// would at worst make a new plan start at the wrong one of them.
    tags: Packed<u32>,
    #[serde(skip)]
    cursor: usize,
}

impl Period {
    /// nginx's smooth weighted round robin, run once around: each pick adds to every endpoint its weight, takes the one that has
    /// most (the first, on a tie), and takes the sum of all weights from it.
    pub(crate) fn of(members: &[&Endpoint], weights: &[u32]) -> Self {
        let total: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
        let mut order = Vec::with_capacity(total as usize);
        if total == members.len() as i64 {
            order.extend(0..members.len());
        } else {
            let mut current = vec![0i64; members.len()];
            for _ in 0..total {
                let mut best = 0;
                for (index, weight) in weights.iter().enumerate() {
                    current[index] += i64::from(*weight);
                    if current[index] > current[best] {
                        best = index;
                    }
                }
                current[best] -= total;
                order.push(best);
            }
        }
        Self {
            slots: order.iter().map(|&index| members[index].slot).collect(),
            tags: order.iter().map(|&index| members[index].hash as u32).collect(),
            cursor: 0,
        }
    }

    pub(crate) fn next(&mut self) -> Option<Slot> {
        let slot = self.slots.at(self.cursor)?;
        self.cursor = if self.cursor + 1 == self.slots.len() { 0 } else { self.cursor + 1 };
        Some(slot)
    }

    /// How far it has gone, in 2⁻³² of the period; `None` of an empty one.
    pub(crate) fn phase(&self) -> Option<u32> {
        ((self.cursor as u64) << 32).checked_div(self.slots.len() as u64).map(|phase| phase as u32)
    }

    /// Starts `phase` · 2⁻³² into the period.
    pub(crate) fn start(&mut self, phase: u32) {
        self.cursor = ((u64::from(phase) * self.slots.len() as u64) >> 32) as usize;
    }

    /// Goes on where `previous` stood: at the endpoint that was next there and is still here. The same period goes on at the same
    /// place; of a changed one, the turn of that endpoint that is nearest to where this one stands.
    pub(crate) fn follow(&mut self, previous: &Self) {
        if self.tags == previous.tags {
            self.cursor = previous.cursor;
            return;
        }
        let mut known: Vec<u32> = self.tags.iter().collect();
        known.sort_unstable();
        let mut turns = previous.tags.iter().skip(previous.cursor).chain(previous.tags.iter().take(previous.cursor));
        let Some(next) = turns.find(|tag| known.binary_search(tag).is_ok()) else { return };
        let here = self.cursor;
        let turns = self.tags.iter().zip(0..).filter(|(tag, _)| *tag == next);
        self.cursor = turns.map(|(_, position)| position).min_by_key(|position: &usize| position.abs_diff(here)).unwrap_or(here);
    }
}
