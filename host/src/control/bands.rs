//! The ranges that cluster IPs and node ports are drawn from: a static band below, left to those who ask for a number by name, and a
//! dynamic band above (kubernetes-semantics 1.8 and 1.10). Which number an owner gets is a function of its name alone while that
//! number is free, so that hosts which read the same files agree without talking.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use xxhash_rust::xxh64::xxh64;

/// Numbered positions `0..len`, the first `offset` of which form the static band.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bands {
    len: u64,
    offset: u64,
}

impl Bands {
    /// The positions of the dynamic band, in the order in which the owner of this name tries them, then those of the static band.
    pub(super) fn order(self, name: &str) -> impl Iterator<Item = u64> + use<> {
        let hash = xxh64(name.as_bytes(), 0);
        around(self.offset, self.len, hash).chain(around(0, self.offset, hash))
    }
}

/// `from..to`, once around from a place that the hash gives.
fn around(from: u64, to: u64, hash: u64) -> impl Iterator<Item = u64> {
    let start = from + hash.checked_rem(to - from).unwrap_or_default();
    (start..to).chain(from..start)
}

/// A range of cluster IPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IpRange {
    /// As configured.
    pub(super) net: IpNet,
    first: u128,
    /// How it is divided.
    pub(super) bands: Bands,
}

impl IpRange {
    pub(super) fn new(net: IpNet) -> Self {
        let host_bits = u32::from(net.max_prefix_len() - net.prefix_len());
        // More than 2³² Services is nobody's problem, and u64 positions stay simple.
        let size = 1_u64 << host_bits.min(32);
        // The network's own address and the last one are never given out, unless there is no other.
        let (skipped, len) = if size > 2 { (1, size - 2) } else { (0, size) };
        // calculateRangeOffset of pkg/registry/core/service/ipallocator.
        let offset = if size <= 16 { 0 } else { (size / 16).clamp(16, 256) };
        Self { net, first: to_number(net.network()) + skipped, bands: Bands { len, offset } }
    }

    /// A pool of load-balancer addresses: all are drawn alike. The network's own address and the broadcast address of an IPv4 range are no
    /// host's; ranges of one or two addresses have neither (RFC 3021), nor has IPv6.
    pub(super) fn pool(net: IpNet) -> Self {
        let size = 1_u64 << u32::from(net.max_prefix_len() - net.prefix_len()).min(32);
        let (skipped, len) = if matches!(net, IpNet::V4(_)) && size > 2 { (1, size - 2) } else { (0, size) };
        Self { net, first: to_number(net.network()) + skipped, bands: Bands { len, offset: 0 } }
    }

    /// Whether a Service may have this address.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        let inside = self.net.contains(&ip);
        inside && to_number(ip).checked_sub(self.first).is_some_and(|at| at < u128::from(self.bands.len))
    }

    pub(super) fn address(&self, position: u64) -> IpAddr {
        let number = self.first + u128::from(position);
        match self.net {
            IpNet::V4(_) => IpAddr::V4((number as u32).into()),
            IpNet::V6(_) => IpAddr::V6(number.into()),
        }
    }
}

fn to_number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The range of node ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PortRange {
    /// As configured.
    pub(super) range: RangeInclusive<u16>,
    /// How it is divided.
    pub(super) bands: Bands,
}

impl PortRange {
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        let size = range.len() as u64;
        // calculateRangeOffset of pkg/registry/core/service/portallocator.
        let offset = if size <= 16 { 0 } else { (size / 32).clamp(16, 128) };
        Self { range, bands: Bands { len: size, offset } }
    }

    pub(super) fn port(&self, position: u64) -> u16 {
        self.range.start() + position as u16
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_bands_are_those_of_kubernetes() {
        // (CIDR, first dynamic address, last address): KEP-3070's own examples, and the edges.
        let vectors = [
            ("10.96.0.0/24", "10.96.0.17", "10.96.0.254"),
            ("10.96.0.0/20", "10.96.1.1", "10.96.15.254"),
            ("10.96.0.0/16", "10.96.1.1", "10.96.255.254"),
            ("10.96.0.0/12", "10.96.1.1", "10.111.255.254"),
            ("10.96.0.0/28", "10.96.0.1", "10.96.0.14"),
            ("10.96.0.0/27", "10.96.0.17", "10.96.0.30"),
        ];
        for (net, first, last) in vectors {
            let range = IpRange::new(net.parse().unwrap());
            assert_eq!(range.address(range.bands.offset).to_string(), first, "{net}");
            assert_eq!(range.address(range.bands.len - 1).to_string(), last, "{net}");
            assert!(range.contains(last.parse().unwrap()));
            assert!(!range.contains(range.net.network()), "{net}: the network's own address");
            assert!(!range.contains(range.net.broadcast()), "{net}: the last address");
        }
        let ports = PortRange::new(30000..=32767);
        assert_eq!(ports.port(ports.bands.offset), 30086);
        assert_eq!(ports.port(ports.bands.len - 1), 32767);
    }

    #[test]
    fn a_pool_gives_every_address_that_a_host_can_have() {
        let vectors = [
            ("203.0.113.0/24", "203.0.113.1", "203.0.113.254"),
            ("203.0.113.8/30", "203.0.113.9", "203.0.113.10"),
            ("203.0.113.8/31", "203.0.113.8", "203.0.113.9"),
            ("203.0.113.8/32", "203.0.113.8", "203.0.113.8"),
            ("2001:db8::/126", "2001:db8::", "2001:db8::3"),
            ("2001:db8::7/128", "2001:db8::7", "2001:db8::7"),
        ];
        for (net, first, last) in vectors {
            let range = IpRange::pool(net.parse().unwrap());
            let given: BTreeSet<String> = range.bands.order("default/web").map(|at| range.address(at).to_string()).collect();
            assert_eq!(given.len() as u64, range.bands.len, "{net}");
            for end in [first, last] {
                assert!(given.contains(end), "{net}: {end}");
                assert!(range.contains(end.parse().unwrap()), "{net}: {end}");
            }
            let range = IpRange::pool("203.0.113.0/24".parse().unwrap());
            assert!(!range.contains(range.net.network()) && !range.contains(range.net.broadcast()));
        }
    }

    #[test]
    fn an_order_visits_every_position_once_and_the_dynamic_band_first() {
        for (len, offset) in [(14, 0), (30, 16), (254, 16), (2768, 86)] {
            let bands = Bands { len, offset };
            let order: Vec<u64> = bands.order("default/web").collect();
            assert_eq!(order.iter().copied().collect::<BTreeSet<_>>().len() as u64, len);
            assert_eq!(order.len() as u64, len);
            assert!(order[..(len - offset) as usize].iter().all(|at| *at >= offset));
        }
    }

    #[test]
    fn ipv6_ranges_are_counted_from_their_first_address() {
        let range = IpRange::new("fd00:10:96::/112".parse().unwrap());
        assert_eq!(range.address(0).to_string(), "fd00:10:96::1");
        assert_eq!(range.address(range.bands.offset).to_string(), "fd00:10:96::101");
        assert!(!range.contains("10.96.0.1".parse().unwrap()));
    }
}
