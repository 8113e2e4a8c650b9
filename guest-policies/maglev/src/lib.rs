//! Each client to the endpoint that a Maglev table gives its address (Eisenbud et al., NSDI 2016): one load a pick, an even
//! table, and few clients move when an endpoint comes or goes. Tables are Envoy's to the entry: the same hashes, the same order,
//! the same way of placing weights.
//!
//! The setting `table-size` (of the Service, or of the host for all Services) is a prime up to 131,071. Without it, the smallest
//! of Maglev's primes that is at least 100 times the endpoints: then nearly all clients move when their number passes the
//! hundredth of a prime, so set it where that matters. From 1,311 endpoints on the table is less than 100 times as long.

mod table;

use pointsman_sdk::order::eligible;
use pointsman_sdk::prelude::*;
use table::Table;

/// The policy `maglev`.
#[derive(Debug)]
pub struct Maglev {
    table_size: Option<u32>,
}

impl Balancer for Maglev {
    type Plan = Table;

    fn configure(_place: Place, _node: &Node, settings: &[Setting]) -> Result<Self, String> {
        let setting = settings.iter().find(|setting| setting.key == TABLE_SIZE);
        Ok(Self { table_size: setting.map(|setting| table_size(&setting.value)).transpose()? })
    }

    fn plan(&mut self, port: &ServicePort, members: &[Endpoint]) -> Result<Table, String> {
        let set = port.setting(TABLE_SIZE).map(table_size).transpose()?.or(self.table_size);
        let members = eligible(members);
        let size = set.unwrap_or_else(|| default_size(members.len()));
        if members.len() > size.min(ENDPOINTS) as usize {
            return Err(format!("{} endpoints do not fit a table of {size}; Maglev takes at most {ENDPOINTS}", members.len()));
        }
        Ok(Table::of(&members, size))
    }

    fn pick(&mut self, plan: &mut Table, connection: &Connection, _load: &impl Load) -> Option<Slot> {
        let hash = connection.client_hash;
        // Another entry for another attempt, as Envoy does it.
        let attempt = u64::from(connection.attempt);
        plan.at(if attempt == 0 { hash } else { hash ^ (u64::MAX - attempt + 1) })
    }
}

fn default_size(endpoints: usize) -> u32 {
    PRIMES.into_iter().find(|prime| *prime as usize >= 100 * endpoints).unwrap_or(LARGEST)
}

fn table_size(value: &str) -> Result<u32, String> {
    let size = value.parse().ok().filter(|size| (2..=LARGEST).contains(size) && is_prime(*size));
    size.ok_or_else(|| format!("{TABLE_SIZE} is `{value}`; it must be a prime up to {LARGEST}, such as 65537"))
}

fn is_prime(n: u32) -> bool {
    (2..).take_while(|divisor| divisor * divisor <= n).all(|divisor| n % divisor != 0)
}

const TABLE_SIZE: &str = "table-size";

/// Maglev's primes: each the largest below a power of two.
const PRIMES: [u32; 10] = [251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, LARGEST];

/// A table of so many entries is 262 kB a candidate set, and filling it takes 60 M fuel, or 130 M where weights
/// differ: 20 to 30 ms (measured).
const LARGEST: u32 = 131_071;

/// An entry is an index in 16 bits, of which one value means that the entry is free.
const ENDPOINTS: u32 = 0xffff;

pointsman_sdk::export_balancer!(Maglev);

#[cfg(test)]
mod tests;
