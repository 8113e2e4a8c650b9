//! Addresses of one's own: every test claims a third and second octet of 127.0.0.0/8, so that tests run side by side although
//! Services have fixed ports.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Result, bail};

/// A claim on 127.x.y.0/24, and on the addresses that `--vip-mode loopback` maps into it. Released when dropped.
#[derive(Debug)]
pub struct Range {
    x: u8,
    y: u8,
    /// Listening is the claim: another process that wants the same range finds the port taken.
    _claim: TcpListener,
}

/// The port whose listener is the claim.
const CLAIM_PORT: u16 = 47_111;

impl Range {
    /// A free range; `name` decides where the search begins, so that a test mostly sees the same addresses.
    pub fn claim(name: &str) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let start = hasher.finish();
        for step in 0..2_000_u64 {
            let n = start.wrapping_add(step);
            // 127.0 and 127.1 are left to people, 127.200 and up to the clients of `client`.
            let (x, y) = (2 + (n % 190) as u8, 1 + ((n / 190) % 250) as u8);
            if let Ok(claim) = TcpListener::bind((Ipv4Addr::new(127, x, y, 253), CLAIM_PORT)) {
                return Ok(Self { x, y, _claim: claim });
            }
        }
        bail!("no free range of 127.0.0.0/8 found for `{name}`")
    }

    /// A cluster IP chosen by hand, 10.x.y.n; `n` in 1..=15 is outside the band that allocation prefers.
    pub fn cluster_ip(&self, n: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.x, self.y, n)
    }

    /// For `--service-cidr`: 10.x.y.0/25.
    pub fn service_cidr(&self) -> String {
        format!("{}/25", self.cluster_ip(0))
    }

    /// An address of neither the cluster nor the machine (an external or a load balancer's), 192.x.y.n; mapped to 127.x.y.n.
    pub fn external_ip(&self, n: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, self.x, self.y, 128 + n)
    }

    /// The node's address.
    pub fn node_ip(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, self.x, self.y, 254)
    }

    /// Where backend `n` (0..=90) listens.
    pub fn backend_ip(&self, n: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.x, self.y, 160 + n)
    }

    /// Where the loopback mode puts an address: the last three octets stay.
    pub fn mapped(ip: Ipv4Addr) -> Ipv4Addr {
        let [_, b, c, d] = ip.octets();
        Ipv4Addr::new(127, b, c, d)
    }

    /// An address at which nothing listens.
    pub fn dead_address(&self, n: u8) -> Result<SocketAddr> {
        Ok(TcpListener::bind((self.backend_ip(n), 0))?.local_addr()?)
    }

    /// `count` addresses of the same port, free on each, for pods of one template.
    pub fn same_port(&self, count: u8) -> Result<Vec<TcpListener>> {
        for _ in 0..50 {
            let first = TcpListener::bind((self.backend_ip(0), 0))?;
            let port = first.local_addr()?.port();
            let rest = (1..count).map(|n| TcpListener::bind((self.backend_ip(n), port)));
            if let Ok(mut listeners) = rest.collect::<std::io::Result<Vec<_>>>() {
                listeners.insert(0, first);
                return Ok(listeners);
            }
        }
        bail!("no port is free on {count} addresses of {}", self.backend_ip(0))
    }
}

/// The address of client `n`: any of 127.200.0.0/13 can be a source, and none of them is ever listened on.
pub fn client(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x7fc8_0001 + n % 500_000))
}
