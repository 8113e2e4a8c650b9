//! Which of the machine's addresses serve node ports (`--node-port-addresses`, kubernetes-semantics 3.11).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// What `--node-port-addresses` says: `CIDR,…` (an address is the range of itself), `primary` or `all`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The own addresses in these ranges. A family without a range has all of its addresses, as with kube-proxy
    /// (`pkg/proxy/util/nodeport_addresses.go`).
    Ranges(Vec<IpNet>),
    /// The first own address of each family, as kube-proxy's nftables mode does by default.
    Primary,
    /// Every own address, as kube-proxy's iptables mode does by default.
    #[default]
    All,
}

/// What is not `CIDR,…`, `primary` or `all`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no CIDR: give CIDR,… (such as 192.0.2.0/24,2001:db8::/64), or primary, or all; primary and all stand alone")]
pub struct NotAddresses(String);

impl FromStr for NodePortAddresses {
    type Err = NotAddresses;

    fn from_str(text: &str) -> Result<Self, NotAddresses> {
        match text.trim() {
            "primary" => Ok(Self::Primary),
            "all" => Ok(Self::All),
            ranges => {
                let address = |part: &str| part.parse().map(|ip: IpAddr| IpNet::from(ip));
                let range = |part: &str| {
                    let part = part.trim();
                    part.parse().or_else(|_| address(part)).map_err(|_| NotAddresses(part.to_owned()))
                };
                ranges.split(',').map(range).collect::<Result<_, _>>().map(Self::Ranges)
            }
        }
    }
}

/// The addresses where node ports are to listen, of the machine's own in their order, each once.
///
/// IPv6's loopback never serves node ports (kube-proxy has no way to, and IPv4's only in iptables mode), nor does an IPv6 link-local
/// address, which says nothing without its interface.
pub fn node_port_addresses(spec: &NodePortAddresses, own: &[IpAddr]) -> Vec<IpAddr> {
    let mut seen = BTreeSet::new();
    let own: Vec<IpAddr> = own.iter().copied().filter(|ip| serves(*ip) && seen.insert(*ip)).collect();
    match spec {
        NodePortAddresses::All => own,
        NodePortAddresses::Primary => {
            let first = |v4: bool| own.iter().position(|ip| ip.is_ipv4() == v4 && is_reachable(*ip));
            let mut places: Vec<usize> = [first(true), first(false)].into_iter().flatten().collect();
            places.sort_unstable();
            places.into_iter().map(|at| own[at]).collect()
        }
        NodePortAddresses::Ranges(ranges) => {
            let has_range = |v4: bool| ranges.iter().any(|range| range.addr().is_ipv4() == v4);
            let (v4, v6) = (has_range(true), has_range(false));
            let restricted = |ip: IpAddr| if ip.is_ipv4() { v4 } else { v6 };
            own.into_iter().filter(|ip| !restricted(*ip) || ranges.iter().any(|range| range.contains(ip))).collect()
        }
    }
}

fn serves(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

/// From other machines.
fn is_reachable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(_) => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const OWN: [&str; 9] =
        ["127.0.0.1", "::1", "169.254.7.7", "fe80::1", "192.0.2.1", "2001:db8::1", "198.51.100.1", "192.0.2.1", "2001:db8:1::1"];

    fn given(spec: &str, own: &[&str]) -> Vec<String> {
        let own: Vec<IpAddr> = own.iter().map(|ip| ip.parse().unwrap()).collect();
        node_port_addresses(&spec.parse().unwrap(), &own).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn which_of_the_own_addresses() {
        let every = ["127.0.0.1", "169.254.7.7", "192.0.2.1", "2001:db8::1", "198.51.100.1", "2001:db8:1::1"];
        let rows: &[(&str, &[&str])] = &[
            ("all", &every),
            (" all ", &every),
            ("0.0.0.0/0,::/0", &every),
            ("primary", &["192.0.2.1", "2001:db8::1"]),
            ("192.0.2.0/24,2001:db8:1::/48", &["192.0.2.1", "2001:db8:1::1"]),
            ("192.0.2.0/24, 198.51.100.1/32 ,::/0", &["192.0.2.1", "2001:db8::1", "198.51.100.1", "2001:db8:1::1"]),
            ("127.0.0.0/8,2001:db8:2::/48", &["127.0.0.1"]),
            // kube-proxy fills in the whole of a family that is not named.
            ("203.0.113.0/24", &["2001:db8::1", "2001:db8:1::1"]),
            ("2001:db8::/64", &["127.0.0.1", "169.254.7.7", "192.0.2.1", "2001:db8::1", "198.51.100.1"]),
            ("::1/128,203.0.113.0/24", &[]),
        ];
        for (spec, expected) in rows {
            assert_eq!(given(spec, &OWN), *expected, "{spec}");
        }
    }

    #[test]
    fn primary_follows_the_order_of_the_machine() {
        assert_eq!(given("primary", &["2001:db8::1", "192.0.2.9", "192.0.2.1"]), ["2001:db8::1", "192.0.2.9"]);
        assert_eq!(given("primary", &["127.0.0.1", "192.0.2.9"]), ["192.0.2.9"]);
        assert_eq!(given("primary", &["127.0.0.1", "::1", "169.254.1.1", "fe80::1"]), Vec::<String>::new());
        assert_eq!(given("all", &[]), Vec::<String>::new());
    }

    #[test]
    fn what_is_neither_is_refused_with_what_is() {
        for (text, part) in
            [("", ""), ("primary,192.0.2.0/24", "primary"), ("192.0.2.0/24,", ""), ("192.0.2.256", "192.0.2.256"), ("every", "every")]
        {
            let error = text.parse::<NodePortAddresses>().unwrap_err();
            assert_eq!(error, NotAddresses(part.to_owned()), "{text}");
            assert!(error.to_string().starts_with(&format!("{part:?} is no CIDR: give CIDR,…")), "{error}");
        }
        assert_eq!(NodePortAddresses::default(), NodePortAddresses::All);
    }
}
