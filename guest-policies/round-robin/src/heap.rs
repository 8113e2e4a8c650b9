//! Earliest deadline first, for periods too long to write down.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pointsman_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// In a period of length 1, an endpoint of weight w has its w turns at (k + u) / w, k = 0 … w − 1: evenly spread, and exactly w of
/// them. Its u in [0, 1) comes from its hash, so that endpoints of one weight do not all fall due at once, and so that the time of
/// the last turn says where the heap stands. The heap holds the next turn of each.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Heap {
    slots: Packed<u32>,
    weights: Packed<u32>,
    /// u, in 2⁻³².
    offsets: Packed<u32>,
    #[serde(skip)]
    turns: BinaryHeap<Reverse<Turn>>,
    #[serde(skip)]
    phase: u32,
}

/// A turn of an endpoint. Compares by time: the period, then the time within; then by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    period: u64,
    /// In 2⁻³² of the period.
    time: u32,
    index: u32,
    /// Which of its turns in this period.
    count: u32,
}

impl Heap {
    pub(crate) fn of(members: &[&Endpoint], weights: &[u32]) -> Self {
        Self {
            slots: members.iter().map(|endpoint| endpoint.slot).collect(),
            weights: weights.iter().copied().collect(),
            offsets: members.iter().map(|endpoint| endpoint.hash as u32).collect(),
            ..Self::default()
        }
    }

    /// Makes the heap as it stands just after `phase` · 2⁻³² of the period.
    pub(crate) fn start(&mut self, phase: u32) {
        let turn = |(index, (weight, offset)): (usize, (u32, u32))| {
            let past = (u64::from(phase) + 1) * u64::from(weight);
            let count = (past.saturating_sub(u64::from(offset)).div_ceil(1 << 32)) as u32;
            let (period, count) = if count < weight { (0, count) } else { (1, 0) };
            Reverse(Turn { period, time: time(count, offset, weight), index: index as u32, count })
        };
        self.turns = self.weights.iter().zip(self.offsets.iter()).enumerate().map(turn).collect();
        self.phase = phase;
    }

    pub(crate) fn next(&mut self) -> Option<Slot> {
        let mut top = self.turns.peek_mut()?;
        let turn = top.0;
        let (weight, offset) = (self.weights.at(turn.index as usize)?, self.offsets.at(turn.index as usize)?);
        let (period, count) = if turn.count + 1 < weight { (turn.period, turn.count + 1) } else { (turn.period + 1, 0) };
        *top = Reverse(Turn { period, time: time(count, offset, weight), count, ..turn });
        self.phase = turn.time;
        self.slots.at(turn.index as usize)
    }

    /// How far it has gone, in 2⁻³² of the period.
    pub(crate) fn phase(&self) -> u32 {
        self.phase
    }
}

/// (count + offset) / weight, in 2⁻³²; below 1 because count < weight and offset < 1. A weight of 0 does not get here.
fn time(count: u32, offset: u32, weight: u32) -> u32 {
    (((u64::from(count) << 32) | u64::from(offset)) / u64::from(weight).max(1)) as u32
}
