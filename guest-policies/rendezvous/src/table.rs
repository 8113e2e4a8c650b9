//! Scores beforehand, for more endpoints than a pick could look at.

use pointsman_sdk::hash::mix;
use pointsman_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::log2::neg_log2;

/// For each entry, an index into `slots`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Table {
    slots: Packed<Slot>,
    entries: Packed<u16>,
}

impl Table {
    /// Each endpoint sends off arrivals, at the rate of its weight, to entries that its hash draws; an entry belongs to whoever arrives
    /// first. The first arrival of an endpoint at an entry is an exponential variable with the weight for a rate, which is the score of
    /// weighted rendezvous; but all scores together take as many steps as arrivals until every entry had one, not entries times
    /// endpoints. An endpoint's arrivals depend on no other endpoint, so nobody moves but to it or from it.
    pub(crate) fn of(members: &[&Endpoint]) -> Self {
        let total: f64 = members.iter().map(|endpoint| f64::from(endpoint.weight)).sum();
        let mut senders: Vec<Sender> = members.iter().map(|endpoint| Sender::of(endpoint)).collect();
        let mut first = vec![(f64::INFINITY, 0u16); ENTRIES];
        let mut until = 0.0;
        let mut step = ARRIVALS * ENTRIES as f64 * UNIT / total;
        while !senders.is_empty() && first.iter().any(|(time, _)| time.is_infinite()) {
            until += step;
            step = until / 8.0;
            for (sender, index) in senders.iter_mut().zip(0..) {
                while sender.time < until {
                    let at = &mut first[(sender.random & (ENTRIES as u64 - 1)) as usize];
                    if sender.time < at.0 {
                        *at = (sender.time, index);
                    }
                    sender.advance();
                }
            }
        }
        let entries = if senders.is_empty() { Packed::default() } else { first.into_iter().map(|(_, index)| index).collect() };
        Self { slots: members.iter().map(|endpoint| endpoint.slot).collect(), entries }
    }

    pub(crate) fn at(&self, client: u64) -> Option<Slot> {
        self.slots.at(usize::from(self.entries.at((client & (ENTRIES as u64 - 1)) as usize)?))
    }
}

/// An endpoint's arrivals: SplitMix64 from its hash on, the upper bits for the time between two, the lower 16 for the entry.
struct Sender {
    weight: f64,
    state: u64,
    random: u64,
    time: f64,
}

impl Sender {
    fn of(endpoint: &Endpoint) -> Self {
        let mut sender = Self { weight: f64::from(endpoint.weight), state: endpoint.hash, random: 0, time: 0.0 };
        sender.advance();
        sender
    }

    fn advance(&mut self) {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random = mix(self.state);
        self.time += neg_log2(self.random | (ENTRIES as u64 - 1)) / self.weight;
    }
}

/// As many as an index of 16 bits has values: 131 kB a candidate set.
const ENTRIES: usize = 1 << 16;

/// Arrivals an entry before the planner looks whether one had none: ln 65,536 = 11.1, and a little.
const ARRIVALS: f64 = 11.5;

/// The mean of `neg_log2`: 1 / ln 2, in 2⁻³².
const UNIT: f64 = std::f64::consts::LOG2_E * 4_294_967_296.0;
