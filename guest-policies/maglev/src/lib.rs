//! Each client to the endpoint that a Maglev table gives its address (Eisenbud et al., NSDI 2016): one load a pick, an even
//! table, and few clients move when an endpoint comes or goes. Tables are Envoy's to the entry: the same hashes, the same order,
//! the same way of placing weights.
//!
//! The setting `table-size` (of the Service, or of the host for all Services) is a prime up to 131,071. Without it, the smallest
//! of Maglev's primes that is at least 100 times the endpoints: then nearly all clients move when their number passes the
//! hundredth of a prime, so set it where that matters. From 1,311 endpoints on the table is less than 100 times as long.

use pointsman_sdk::maglev::{TABLE_SIZE, Table, TableSize, hash_of_attempt};
use pointsman_sdk::order::eligible;
use pointsman_sdk::prelude::*;
use pointsman_sdk::settings::only;

/// The policy `maglev`.
#[derive(Debug)]
pub struct Maglev {
    table_size: TableSize,
}

impl Balancer for Maglev {
    type Plan = Table;

    fn configure(_place: Place, _node: &Node, settings: &[Setting]) -> Result<Self, String> {
        Ok(Self { table_size: TableSize::default().with(settings)? })
    }

    fn plan(&mut self, port: &ServicePort, members: &[Endpoint]) -> Result<Table, String> {
        only(&port.settings, &[TABLE_SIZE])?;
        Table::of(&eligible(members), self.table_size.with(&port.settings)?)
    }

    fn pick(&mut self, plan: &mut Table, connection: &Connection, _load: &impl Load) -> Option<Slot> {
        plan.at(hash_of_attempt(connection.client_hash, connection.attempt))
    }
}

pointsman_sdk::export_balancer!(Maglev);

#[cfg(test)]
mod tests;
