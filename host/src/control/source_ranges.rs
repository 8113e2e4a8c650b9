//! Which clients a load balancer's addresses answer (`spec.loadBalancerSourceRanges`, kubernetes-semantics 3.10), settled once for each
//! Service port, so that a connection is asked about nothing but ranges.

use std::net::IpAddr;

use ipnet::IpNet;

/// The ranges for a Service port of the family of `v4`; empty: anyone.
///
/// Ranges of the other family say nothing of this one. A range of everything is no restriction. Where an address of this node is inside
/// a range, the load balancer's own addresses are too: they may be addresses of this machine, and a connection to one of those comes
/// from that very address (kube-proxy, `allowFromNode`).
pub fn source_ranges(asked: &[IpNet], v4: bool, node: &[IpAddr], load_balancer: &[IpAddr]) -> Vec<IpNet> {
    let mut ranges: Vec<IpNet> = asked.iter().copied().filter(|range| range.addr().is_ipv4() == v4).collect();
    if ranges.iter().any(|range| range.prefix_len() == 0) {
        return Vec::new();
    }
    if node.iter().any(|own| ranges.iter().any(|range| range.contains(own))) {
        let balancers = load_balancer.iter().filter(|ip| ip.is_ipv4() == v4);
        ranges.extend(balancers.map(|ip| IpNet::from(*ip)));
    }
    ranges
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn by_family_and_with_the_balancers_own_where_the_node_is_inside() {
        let node = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let balancers = ["203.0.113.5".parse().unwrap(), "2001:db8:5::5".parse().unwrap()];
        let rows: &[(&[&str], &[&str], &[&str])] = &[
            // As asked; for IPv4; for IPv6.
            (&[], &[], &[]),
            (&["198.51.100.0/24"], &["198.51.100.0/24"], &[]),
            (&["2001:db8:7::/48", "198.51.100.0/24"], &["198.51.100.0/24"], &["2001:db8:7::/48"]),
            (&["192.0.2.0/24"], &["192.0.2.0/24", "203.0.113.5/32"], &[]),
            (&["10.0.0.0/8", "192.0.2.1/32"], &["10.0.0.0/8", "192.0.2.1/32", "203.0.113.5/32"], &[]),
            (&["2001:db8::/64"], &[], &["2001:db8::/64", "2001:db8:5::5/128"]),
            (&["10.0.0.0/8", "0.0.0.0/0"], &[], &[]),
            (&["10.0.0.0/8", "::/0"], &["10.0.0.0/8"], &[]),
        ];
        for (asked, v4, v6) in rows {
            let asked: Vec<IpNet> = asked.iter().map(|range| range.parse().unwrap()).collect();
            let given = |family| source_ranges(&asked, family, &node, &balancers).iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(
                (given(true), given(false)),
                (v4.iter().map(ToString::to_string).collect(), v6.iter().map(ToString::to_string).collect()),
                "{asked:?}"
            );
        }
    }
}
