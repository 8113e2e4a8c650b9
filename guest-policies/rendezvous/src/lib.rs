//! Each client to the endpoint that scores highest for it (highest random weight; Thaler & Ravishankar 1998). When an endpoint
//! leaves, its clients move, and no others; when one comes, clients move to it, and to no other. Shares follow the weights.
//!
//! A pick looks at every endpoint. From 1,001 endpoints or 33 different weights on that would cost more than a pick may, so the
//! planner makes a table of 65,536 entries instead, of which each client has one: the same laws, and a share is then a whole number
//! of entries, so that among 10,000 endpoints it is uneven (6.5 ± 2.6 entries each). Passing that boundary moves most clients, once.

mod direct;
mod log2;
mod table;

use direct::Direct;
use pointsman_sdk::hash::mix;
use pointsman_sdk::order::eligible;
use pointsman_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use table::Table;

/// The policy `rendezvous`.
#[derive(Debug)]
pub struct Rendezvous;

/// A candidate set: one of the two, and the other is empty.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Scored at every pick.
    direct: Direct,
    /// Scored by the planner.
    table: Table,
}

impl Balancer for Rendezvous {
    type Plan = Plan;

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&mut self, _port: &ServicePort, members: &[Endpoint]) -> Result<Plan, String> {
        let mut members = eligible(members);
        // By weight, so that a score need be weighted only once a weight; within one, by key as before.
        members.sort_by_key(|endpoint| endpoint.weight);
        let weights = members.chunk_by(|a, b| a.weight == b.weight).count();
        match members.len() {
            0..=DIRECT if weights <= WEIGHTS => Ok(Plan { direct: Direct::of(&members), ..Plan::default() }),
            0..=ENDPOINTS => Ok(Plan { table: Table::of(&members), ..Plan::default() }),
            many => Err(format!("{many} endpoints; rendezvous takes at most {ENDPOINTS}")),
        }
    }

    fn pick(&mut self, plan: &mut Plan, connection: &Connection, _load: &impl Load) -> Option<Slot> {
        // Another attempt is another client.
        let client = match connection.attempt {
            0 => connection.client_hash,
            attempt => mix(connection.client_hash ^ u64::from(attempt)),
        };
        plan.direct.best(client).or_else(|| plan.table.at(client))
    }
}

/// A pick takes 33 fuel an endpoint and 320 a weight (measured), and may take 50,000.
const DIRECT: usize = 1000;

/// See `DIRECT`.
const WEIGHTS: usize = 32;

/// An entry of a table is an index in 16 bits.
const ENDPOINTS: usize = 0xffff;

pointsman_sdk::export_balancer!(Rendezvous);

#[cfg(test)]
mod tests;
