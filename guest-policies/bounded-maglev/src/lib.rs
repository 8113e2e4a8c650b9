//! Each client to its endpoint in a Maglev table, as `maglev` does, unless that has its fill: consistent hashing with bounded loads
//! (Mirrokni, Thorup and Zadimoghaddam 2016). No endpoint is given a connection beyond ⌈c · (m + 1) · w / W⌉, where m are the live
//! connections of all members, w its weight and W the weight of all; the setting `balance-factor` is c in percent.
//!
//! An endpoint has room while it has *fewer* live connections than that, so that it has no more than that with the new one. (HAProxy
//! counts so too; Envoy allows one more.) With the new connection counted and c ≥ 1, somebody always has room.
//!
//! Who finds its endpoint full draws others from the table by its own hash, one after the other, until one has room (as Envoy, after
//! Chen, Coleman and Shrivastava 2019): the clients of a full endpoint spread over all, where the next in a fixed order would be filled
//! by them, and then the one after it. The draws are the same every time, so a client comes back to the same few endpoints. (One that
//! alone fills 32 endpoints is sent to others, where there is room.)
//!
//! The counters are the host's. Up to 256 endpoints a pick counts them all, or as many as it takes to know that the client's own has
//! room: then the bound is exact for one worker. Other workers may each be about to place a connection that is not counted yet, so with
//! N of them an endpoint may have N − 1 more. Of more than 256 endpoints a pick counts 64, in turn, and keeps the sum: what closed since
//! then still counts, so the bound is that of a total with the connections that closed in the last (endpoints / 64) picks.

mod bound;
mod counts;

use bound::Bound;
use counts::Counts;
use pointsman_sdk::hash::{below, mix};
use pointsman_sdk::load::each;
use pointsman_sdk::maglev::{TABLE_SIZE, Table, TableSize, hash_of_attempt};
use pointsman_sdk::order::eligible;
use pointsman_sdk::prelude::*;
use pointsman_sdk::settings::only;
use serde::{Deserialize, Serialize};

/// The policy `bounded-maglev`.
#[derive(Debug)]
pub struct BoundedMaglev {
    table_size: TableSize,
    factor: u32,
}

/// A candidate set.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    table: Table,
    bound: Bound,
    #[serde(skip)]
    counts: Counts,
}

impl Balancer for BoundedMaglev {
    type Plan = Plan;

    fn configure(_place: Place, _node: &Node, settings: &[Setting]) -> Result<Self, String> {
        Ok(Self { table_size: TableSize::default().with(settings)?, factor: factor(settings)?.unwrap_or(DEFAULT) })
    }

    fn plan(&mut self, port: &ServicePort, members: &[Endpoint]) -> Result<Plan, String> {
        only(&port.settings, &[BALANCE_FACTOR, TABLE_SIZE])?;
        let factor = factor(&port.settings)?.unwrap_or(self.factor);
        let members = eligible(members);
        let table = Table::of(&members, self.table_size.with(&port.settings)?)?;
        Ok(Plan { table, bound: Bound::new(factor, &members), counts: Counts::default() })
    }

    fn adopt(&mut self, plan: Plan, _previous: Option<Plan>) -> Plan {
        Plan { counts: Counts::of(plan.table.slots().len()), ..plan }
    }

    fn pick(&mut self, plan: &mut Plan, connection: &Connection, load: &impl Load) -> Option<Slot> {
        let hash = hash_of_attempt(connection.client_hash, connection.attempt);
        let home = plan.table.index(hash)?;
        let active = load.active(connection.service, plan.table.slots().at(home)?);
        let needed = plan.bound.needed(home, active);
        let total = plan.count(needed, connection, load);
        let index = if total >= needed { home } else { plan.overflow(hash, total, connection, load)? };
        plan.counts.placed(index);
        plan.table.slots().at(index)
    }
}

impl Plan {
    /// The live connections of all and the new one; less, if that is `needed` already.
    fn count(&mut self, needed: u64, connection: &Connection, load: &impl Load) -> u64 {
        let slots = self.table.slots();
        if slots.len() > COUNTED {
            let first = self.counts.turn(REFRESHED);
            let turn = || (first..slots.len()).chain(0..first).take(REFRESHED);
            let of_turn = turn().filter_map(|index| slots.at(index));
            turn().zip(each(load, connection.service, of_turn)).for_each(|(index, active)| self.counts.set(index, active));
            return self.counts.total() + 1;
        }
        let mut total = 1;
        if total >= needed {
            return total;
        }
        for (index, active) in each(load, connection.service, slots.iter()).enumerate() {
            self.counts.set(index, active);
            total += u64::from(active);
            if total >= needed {
                break;
            }
        }
        total
    }

    /// Another endpoint, for who finds its own full.
    fn overflow(&mut self, hash: u64, total: u64, connection: &Connection, load: &impl Load) -> Option<usize> {
        let slots = self.table.slots();
        let has_room = |index: usize, active: u32| self.bound.has_room(index, active, total);
        // Where all that the hash draws are full, it is that of one hot client which filled them: then chance draws.
        for (mut drawn, draws) in [(hash, DRAWS), (connection.random, CHANCES)] {
            for _ in 0..draws {
                drawn = mix(drawn.wrapping_add(NEXT));
                let index = self.table.index(drawn)?;
                let active = load.active(connection.service, slots.at(index)?);
                self.counts.set(index, active);
                if has_room(index, active) {
                    return Some(index);
                }
            }
            if slots.len() <= COUNTED {
                // All were counted, and one of them has room.
                let first = below(drawn as u32, slots.len() as u32) as usize;
                let found = (first..slots.len()).chain(0..first).find(|index| has_room(*index, self.counts.at(*index)));
                return Some(found.unwrap_or(first));
            }
        }
        self.table.index(connection.random)
    }
}

/// In percent.
fn factor(settings: &[Setting]) -> Result<Option<u32>, String> {
    let Some(value) = settings.iter().find(|setting| setting.key == BALANCE_FACTOR).map(|setting| &setting.value) else { return Ok(None) };
    let factor = value.strip_suffix('%').unwrap_or(value).parse().ok().filter(|factor| (LEAST..=MOST).contains(factor));
    factor
        .map(Some)
        .ok_or_else(|| format!("{BALANCE_FACTOR} is `{value}`; it must be a whole percentage from {LEAST} to {MOST}, such as 125"))
}

const BALANCE_FACTOR: &str = "balance-factor";

/// In percent. HAProxy and Envoy recommend 125 to 200, the paper has its example at 125.
const DEFAULT: u32 = 125;

/// With less, nobody would have room sometimes.
const LEAST: u32 = 100;

/// Ten times the average is as good as no bound.
const MOST: u32 = 1000;

/// Of up to so many endpoints all are counted: 128 calls of the host.
const COUNTED: usize = 256;

/// Of more, so many at each pick.
const REFRESHED: usize = 64;

/// At most 1 / c of the endpoints are full, so with c = 1.25 all of these are in less than one of a thousand cases.
const DRAWS: u32 = 32;

/// Where not all were counted, so many more, which with c = 1.25 are all full in one of two billion cases.
const CHANCES: u32 = 96;

/// SplitMix64's increment.
const NEXT: u64 = 0x9e37_79b9_7f4a_7c15;

pointsman_sdk::export_balancer!(BoundedMaglev);

#[cfg(test)]
mod tests;
