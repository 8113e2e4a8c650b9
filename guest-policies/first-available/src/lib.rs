//! The first endpoint by key that has room, then the next: connections gather at few endpoints, and the last ones stay idle, so that
//! they can be taken away (HAProxy's `first`, IPVS's `ovf`).
//!
//! The setting `max-connections` (of the Service, or of the host for all Services) is how many live connections an endpoint of weight 1
//! takes; one of weight 3 takes three times as many. When nobody has room, the least loaded for its weight is picked: a balancer does
//! not refuse.
//!
//! Asking the host for counters takes time, so a pick looks again at 64 at most of those that it found full before, in turn, and at
//! 64 others. While 64 or fewer are full, no pick errs. Else room that has become free is noticed some picks later; and a fresh plan,
//! which knows of none that is full, takes a pick for each 64 of them, and meanwhile the least loaded of those looked at.

mod full;

use full::Full;
use pointsman_sdk::load::each;
use pointsman_sdk::order::eligible;
use pointsman_sdk::prelude::*;
use pointsman_sdk::settings::only;
use serde::{Deserialize, Serialize};

/// The policy `first-available`.
#[derive(Debug)]
pub struct FirstAvailable {
    max_connections: u32,
}

/// A candidate set, by key.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    slots: Packed<Slot>,
    weights: Packed<u32>,
    max_connections: u32,
    /// On a worker: which had no room when they were last looked at.
    #[serde(skip)]
    full: Full,
}

impl Balancer for FirstAvailable {
    type Plan = Plan;

    fn configure(_place: Place, _node: &Node, settings: &[Setting]) -> Result<Self, String> {
        let setting = settings.iter().find(|setting| setting.key == MAX_CONNECTIONS);
        Ok(Self { max_connections: setting.map(|setting| max_connections(&setting.value)).transpose()?.unwrap_or(DEFAULT) })
    }

    fn plan(&mut self, port: &ServicePort, members: &[Endpoint]) -> Result<Plan, String> {
        only(&port.settings, &[MAX_CONNECTIONS])?;
        let max_connections = port.setting(MAX_CONNECTIONS).map(max_connections).transpose()?.unwrap_or(self.max_connections);
        let members = eligible(members);
        let slots = members.iter().map(|endpoint| endpoint.slot).collect();
        let weights = members.iter().map(|endpoint| endpoint.weight).collect();
        Ok(Plan { slots, weights, max_connections, full: Full::default() })
    }

    fn adopt(&mut self, plan: Plan, _previous: Option<Plan>) -> Plan {
        Plan { full: Full::of(plan.slots.len()), ..plan }
    }

    fn pick(&mut self, plan: &mut Plan, connection: &Connection, load: &impl Load) -> Option<Slot> {
        let mut least = None;
        let full = plan.full.next(EXAMINED);
        let slots = full.iter().filter_map(|index| plan.slots.at(*index));
        for (index, active) in full.iter().zip(each(load, connection.service, slots)) {
            let seen = plan.seen(*index, active)?;
            plan.full.set(*index, !seen.has_room(plan.max_connections));
            least = Some(seen.lesser(least));
        }
        // Another attempt passes over those with room that were tried.
        let mut passed = 0;
        let mut from = 0;
        for _ in 0..EXAMINED {
            let Some(index) = plan.full.first_not(from) else { break };
            let active = load.active(connection.service, plan.slots.at(index)?);
            let seen = plan.seen(index, active)?;
            if seen.has_room(plan.max_connections) {
                if passed == connection.attempt {
                    return Some(seen.slot);
                }
                passed += 1;
            } else {
                plan.full.set(index, true);
            }
            least = Some(seen.lesser(least));
            from = index + 1;
        }
        least.map(|seen| seen.slot)
    }
}

impl Plan {
    fn seen(&self, index: usize, active: u32) -> Option<Seen> {
        Some(Seen { slot: self.slots.at(index)?, weight: self.weights.at(index)?, active })
    }
}

/// An endpoint as it was just seen.
#[derive(Clone, Copy)]
struct Seen {
    slot: Slot,
    weight: u32,
    active: u32,
}

impl Seen {
    fn has_room(&self, max_connections: u32) -> bool {
        u64::from(self.active) < u64::from(max_connections) * u64::from(self.weight)
    }

    /// Which of the two is less loaded for its weight; the other one on a tie.
    fn lesser(self, other: Option<Self>) -> Self {
        match other {
            // active / weight, without the division.
            Some(other) if u64::from(other.active) * u64::from(self.weight) <= u64::from(self.active) * u64::from(other.weight) => other,
            _ => self,
        }
    }
}

fn max_connections(value: &str) -> Result<u32, String> {
    let number = value.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{MAX_CONNECTIONS} is `{value}`; it must be a whole number from 1 to {}", u32::MAX))
}

const MAX_CONNECTIONS: &str = "max-connections";

/// Where nothing is said.
const DEFAULT: u32 = 100;

/// At most so many are looked at of those that were full, and of the others.
const EXAMINED: usize = 64;

pointsman_sdk::export_balancer!(FirstAvailable);

#[cfg(test)]
mod tests;
