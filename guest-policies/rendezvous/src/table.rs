//! Scores beforehand, for more endpoints than a pick could look at.

use pointsman_sdk::hash::mix;
use pointsman_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// For each entry, an index into `slots`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Table {
    slots: Packed<Slot>,
    entries: Packed<u16>,
}

impl Table {
    /// Each endpoint sends off arrivals, at the rate of its weight, to entries that its hash draws; an entry belongs to whoever arrives
    /// first. The first arrival of an endpoint at an entry is then geometric with its weight for a rate, the discrete form of the
    /// exponential variable that weighted rendezvous scores by; but all together take as many steps as arrivals until every entry
    /// had one (12 an entry), not entries times endpoints. An endpoint's arrivals depend on no other endpoint, so nobody moves but to
    /// it or from it.
    pub(crate) fn of(members: &[&Endpoint]) -> Self {
        let total: f64 = members.iter().map(|endpoint| f64::from(endpoint.weight)).sum();
        let mut senders: Vec<Sender> = members.iter().map(|endpoint| Sender::of(endpoint)).collect();
        let mut first = vec![(f64::INFINITY, 0u16); ENTRIES];
        let mut until = 0.0;
        let mut step = ARRIVALS * ENTRIES as f64 / total;
        while !senders.is_empty() && first.iter().any(|(time, _)| time.is_infinite()) {
            until += step;
            step = until / 8.0;
            for (sender, index) in senders.iter_mut().zip(0..) {
                while sender.time < until {
                    let at = &mut first[sender.entry()];
                    if sender.time < at.0 {
                        *at = (sender.time, index);
                    }
                    sender.time += sender.pause;
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

/// An endpoint's arrivals: one in each 1 / weight of time, from a moment on that its hash draws, so that endpoints of one weight
/// are not in step.
struct Sender {
    pause: f64,
    time: f64,
    state: u64,
}

impl Sender {
    fn of(endpoint: &Endpoint) -> Self {
        let pause = 1.0 / f64::from(endpoint.weight);
        // 53 bits of the hash, as a fraction.
        let start = (mix(endpoint.hash) >> 11) as f64 / (1u64 << 53) as f64;
        Self { pause, time: start * pause, state: endpoint.hash }
    }

    /// The entry that the next arrival goes to: SplitMix64.
    fn entry(&mut self) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state) as usize & (ENTRIES - 1)
    }
}

/// As many as an index of 16 bits has values: 131 kB a candidate set.
const ENTRIES: usize = 1 << 16;

/// Arrivals an entry before the planner looks whether one had none: ln 65,536 = 11.1, and a little.
const ARRIVALS: f64 = 11.5;
