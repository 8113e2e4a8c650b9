//! Each client to the endpoint whose point on a ring of hashes comes next after the client's own, as nginx's `hash $remote_addr
//! consistent` sends it: the same points, the same hash of the client's address, the same endpoint where one cannot be reached. The
//! suite puts the same clients to an nginx and compares. (The ring is that of Cache::Memcached::Fast, after ketama.)
//!
//! nginx knows a server by the name that its configuration gives it: for the two to agree that must be `address:port`, which an
//! endpoint's key is. The client's hash is the checksum of its address as text, which takes no secret: who chooses addresses can
//! choose an endpoint, as with nginx.
//!
//! An endpoint has 160 points for each unit of weight whatever the others have, so exactly the clients of one that leaves move, and
//! exactly the clients of one that comes. From a total weight of 1,639 on that would be more than a plan holds: then 262,144 points are
//! shared by weight, which nginx would not do, and their number hangs on the total.

mod crc32;
mod ring;

use std::fmt::Write as _;
use std::net::IpAddr;

use crc32::Crc32;
use pointsman_sdk::order::eligible;
use pointsman_sdk::prelude::*;
use pointsman_sdk::settings::only;
use ring::Ring;

/// The policy `ketama`.
#[derive(Debug)]
pub struct Ketama;

impl Balancer for Ketama {
    type Plan = Ring;

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&mut self, port: &ServicePort, members: &[Endpoint]) -> Result<Ring, String> {
        only(&port.settings, &[])?;
        let members = eligible(members);
        if members.len() > ENDPOINTS {
            return Err(format!("{} endpoints; ketama takes at most {ENDPOINTS}", members.len()));
        }
        Ok(Ring::of(&members))
    }

    fn pick(&mut self, plan: &mut Ring, connection: &Connection, _load: &impl Load) -> Option<Slot> {
        plan.at(hash(connection), connection.attempt)
    }
}

/// The checksum of the client's address as text.
fn hash(connection: &Connection) -> u32 {
    let mut sum = Crc32::new();
    match connection.client() {
        // By hand: the formatting of the standard library takes ten times as many instructions.
        IpAddr::V4(client) => {
            for (n, octet) in client.octets().into_iter().enumerate() {
                let digits = [b'0' + octet / 100, b'0' + octet / 10 % 10, b'0' + octet % 10];
                let leading = usize::from(octet < 100) + usize::from(octet < 10);
                sum = if n > 0 { sum.and(b".") } else { sum }.and(&digits[leading..]);
            }
        }
        // Summing cannot fail.
        IpAddr::V6(client) => drop(write!(sum, "{client}")),
    }
    sum.value()
}

/// A point's owner is an index in 16 bits.
const ENDPOINTS: usize = 1 << 16;

pointsman_sdk::export_balancer!(Ketama);

#[cfg(test)]
mod tests;
