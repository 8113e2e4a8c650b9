//! Round robin by weight, evenly spread: nginx's smooth weighted round robin. Of weights {5, 1, 1} come a a b a c a a, not
//! a a a a a b c; every window of one period gives each endpoint exactly its weight.
//!
//! The planner writes one period down, so that a pick is one load, whatever the number of endpoints. Where a period would be too
//! long, a worker keeps a heap of deadlines instead (earliest deadline first): the same counts in each period, evenly spread too,
//! at O(log n).
//!
//! Each worker starts somewhere else, by its seed. A new plan goes on where the old one stood: an endpoint that comes or goes
//! must not send the next connections to the first of the list again.

mod heap;
mod period;

use heap::Heap;
use period::Period;
use pointsman_sdk::hash::mix;
use pointsman_sdk::order::eligible;
use pointsman_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// The policy `round-robin`.
#[derive(Debug)]
pub struct RoundRobin {
    seed: u64,
}

/// A candidate set, as a worker goes round it: one of the two, and the other is empty.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    period: Period,
    heap: Heap,
}

impl Balancer for RoundRobin {
    type Plan = Plan;

    fn configure(place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self { seed: if let Place::Worker(seed) = place { seed } else { 0 } })
    }

    fn plan(&mut self, _port: &ServicePort, members: &[Endpoint]) -> Result<Plan, String> {
        let members = eligible(members);
        let divisor = members.iter().fold(0, |divisor, endpoint| gcd(divisor, endpoint.weight)).max(1);
        let weights: Vec<u32> = members.iter().map(|endpoint| endpoint.weight / divisor).collect();
        let period = weights.iter().map(|weight| u64::from(*weight)).sum::<u64>();
        let short = period <= PERIOD && period * members.len() as u64 <= PERIOD_WORK;
        let even = period == members.len() as u64;
        Ok(if short || even {
            Plan { period: Period::of(&members, &weights), ..Plan::default() }
        } else {
            Plan { heap: Heap::of(&members, &weights), ..Plan::default() }
        })
    }

    fn adopt(&mut self, mut plan: Plan, previous: Option<Plan>) -> Plan {
        plan.start(previous.as_ref().map_or(self.first(), Plan::phase));
        if let Some(previous) = previous {
            plan.period.follow(&previous.period);
        }
        plan
    }

    fn pick(&mut self, plan: &mut Plan, _connection: &Connection, _load: &impl Load) -> Option<Slot> {
        plan.period.next().or_else(|| plan.heap.next())
    }
}

impl Plan {
    /// How far into its period it stands, in 2⁻³².
    fn phase(&self) -> u32 {
        self.period.phase().unwrap_or_else(|| self.heap.phase())
    }

    /// Starts so far into its period.
    fn start(&mut self, phase: u32) {
        self.period.start(phase);
        self.heap.start(phase);
    }
}

impl RoundRobin {
    /// Where this worker starts, in 2⁻³² of a period.
    fn first(&self) -> u32 {
        (mix(self.seed) >> 32) as u32
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The longest period that is written down: 16 kB of slots a candidate set.
const PERIOD: u64 = 4096;

/// Writing a period down takes as many steps as it is long, times the endpoints; at 8 instructions a step this is
/// half of what handing 10,000 endpoints over costs anyway.
const PERIOD_WORK: u64 = 2 << 20;

pointsman_sdk::export_balancer!(RoundRobin);

#[cfg(test)]
mod tests;
