//! The connection record: what a policy may know of a client.

use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher13;

use crate::policy::contract::Connection;
use crate::table::{FrontendKind, Origin, Origins, ServiceId};

/// The key of `client-hash`. Hosts with the same key agree on every client; without a secret, clients could aim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKey(u64, u64);

impl HashKey {
    /// The public key, for hosts without `--hash-secret`.
    pub const PUBLIC: Self = Self(0x706f_696e_7473_6d61, 0x6e2d_7075_626c_6963);

    /// From an operator's secret.
    pub fn from_secret(secret: &str) -> Self {
        let half = |seed| xxhash_rust::xxh64::xxh64(secret.as_bytes(), seed);
        Self(half(1), half(2))
    }

    /// The keyed hash of an address, without its port; IPv4 as v6-mapped, so that both spellings agree.
    pub fn hash(self, client: IpAddr) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.0, self.1);
        hasher.write(&bits(client).to_be_bytes());
        hasher.finish()
    }
}

/// Where a client is that dialled this address. Who comes from the very address that it dials is this node: the kernel gives a
/// connection to an address of its own that same address as its source, and where Services' addresses are added to the machine, theirs
/// are its own. Kubernetes says the same: its rules ask whether the source is a local address.
pub fn origin(origins: &Origins, client: IpAddr, dialled: IpAddr) -> Origin {
    if client == dialled { Origin::Node } else { origins.of(client) }
}

/// The record of a new connection.
pub fn connection(
    service: ServiceId,
    client: SocketAddr,
    frontend: FrontendKind,
    origin: Origin,
    key: HashKey,
    now_ms: u64,
    random: u64,
) -> Connection {
    let address = bits(client.ip());
    Connection {
        service,
        client_hi: (address >> 64) as u64,
        client_lo: address as u64,
        client_port: client.port(),
        client_hash: key.hash(client.ip()),
        frontend,
        origin,
        attempt: 0,
        now_ms,
        random,
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}
