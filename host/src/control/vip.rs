//! Where a frontend address is bound when nothing may be added to the machine (`--vip-mode loopback`): 10.97.72.1 becomes
//! 127.97.72.1. The machine's own addresses are bound as they are. The mapping is a function of the set of addresses, and what an
//! address was given it keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// The map of `loopback` mode.
#[derive(Clone, Debug, Default)]
pub struct Loopback {
    own: Vec<IpNet>,
    bound: BTreeMap<IpAddr, Ipv4Addr>,
    taken: BTreeMap<Ipv4Addr, IpAddr>,
}

/// What is worth telling about an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// `loopback` mode has no IPv6.
    #[error("{0} is not served: loopback mode has no IPv6; use --vip-mode anyip")]
    Ipv6(IpAddr),
    /// The address that it would have been bound at is another's, or must not be used.
    #[error("{address} is bound at {bound}: {wanted} {why}")]
    Neighbour {
        /// The frontend's address.
        address: IpAddr,
        /// What its last three octets would have given.
        wanted: Ipv4Addr,
        /// What it was given.
        bound: Ipv4Addr,
        /// Why not what it would have been given.
        why: String,
    },
    /// Every loopback address is in use.
    #[error("{0} is not served: no loopback address is left")]
    Exhausted(IpAddr),
}

impl Loopback {
    /// With the machine's own addresses; 127.0.0.0/8 is always among them.
    pub fn new(own: impl IntoIterator<Item = IpNet>) -> Self {
        Self { own: own.into_iter().collect(), ..Self::default() }
    }

    /// Maps these addresses, and forgets all others. The machine's own come first, then those that are mapped already, then the new
    /// ones in order, so that hosts with the same frontends print the same map.
    pub fn assign(&mut self, addresses: &BTreeSet<IpAddr>) -> Vec<Notice> {
        self.bound.retain(|address, _| addresses.contains(address));
        self.taken.retain(|_, address| addresses.contains(address));
        let mut notices = Vec::new();
        let mut moved = BTreeSet::new();
        for address in addresses {
            match address {
                IpAddr::V4(v4) if self.is_own(*address) => {
                    self.bound.insert(*address, *v4);
                    moved.extend(self.taken.insert(*v4, *address).filter(|other| other != address));
                }
                IpAddr::V4(_) => {}
                IpAddr::V6(_) => notices.push(Notice::Ipv6(*address)),
            }
        }
        for address in moved {
            self.bound.remove(&address);
        }
        for address in addresses {
            if let IpAddr::V4(v4) = address
                && !self.bound.contains_key(address)
            {
                notices.extend(self.give(*v4));
            }
        }
        notices
    }

    /// Where an address is bound; `None`: it is not served.
    pub fn bound(&self, address: IpAddr) -> Option<IpAddr> {
        self.bound.get(&address).copied().map(IpAddr::V4)
    }

    /// Every address and where it is bound, for printing.
    pub fn map(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + '_ {
        self.bound.iter().map(|(address, bound)| (*address, IpAddr::V4(*bound)))
    }

    fn is_own(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.own.iter().any(|net| net.contains(&address))
    }

    fn give(&mut self, address: Ipv4Addr) -> Option<Notice> {
        let [_, b, c, d] = address.octets();
        let wanted = Ipv4Addr::new(127, b, c, d);
        let why = match self.taken.get(&wanted) {
            Some(other) => format!("is {other}'s"),
            None => "is left to the machine".to_owned(),
        };
        let start = wanted.to_bits();
        let end = Ipv4Addr::new(127, 255, 255, 255).to_bits();
        let mut neighbours = (start..end).chain(FIRST.to_bits()..start).map(Ipv4Addr::from_bits);
        let Some(bound) = neighbours.find(|at| *at >= FIRST && !self.taken.contains_key(at)) else {
            return Some(Notice::Exhausted(address.into()));
        };
        self.bound.insert(address.into(), bound);
        self.taken.insert(bound, address.into());
        (bound != wanted).then(|| Notice::Neighbour { address: address.into(), wanted, bound, why })
    }
}

/// 127.0.0.0/24 is what other programs listen on: never used.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 0);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    fn at(map: &Loopback, address: &str) -> Option<String> {
        map.bound(address.parse().unwrap()).map(|bound| bound.to_string())
    }

    #[test]
    fn the_last_three_octets_are_kept() {
        let mut map = Loopback::default();
        assert_eq!(map.assign(&set(&["10.97.72.1", "203.0.113.7"])), vec![]);
        assert_eq!(at(&map, "10.97.72.1").as_deref(), Some("127.97.72.1"));
        assert_eq!(at(&map, "203.0.113.7").as_deref(), Some("127.0.113.7"));
        assert_eq!(at(&map, "203.0.113.8"), None);
    }

    #[test]
    fn own_addresses_are_bound_as_they_are() {
        let mut map = Loopback::new(["192.0.2.9/32".parse().unwrap()]);
        assert_eq!(map.assign(&set(&["192.0.2.9", "127.0.0.1", "127.5.5.5"])), vec![]);
        for address in ["192.0.2.9", "127.0.0.1", "127.5.5.5"] {
            assert_eq!(at(&map, address).as_deref(), Some(address));
        }
    }

    #[test]
    fn a_collision_is_reported_and_given_a_neighbour() {
        let mut map = Loopback::default();
        let notices = map.assign(&set(&["10.97.72.1", "172.97.72.1"]));
        assert_eq!(at(&map, "172.97.72.1").as_deref(), Some("127.97.72.2"));
        assert_eq!(notices.len(), 1);
        assert_eq!(notices[0].to_string(), "172.97.72.1 is bound at 127.97.72.2: 127.97.72.1 is 10.97.72.1's");
    }

    #[test]
    fn the_lowest_loopback_addresses_are_never_used() {
        let mut map = Loopback::default();
        let notices = map.assign(&set(&["10.0.0.5"]));
        assert_eq!(at(&map, "10.0.0.5").as_deref(), Some("127.0.1.0"));
        assert_eq!(notices[0].to_string(), "10.0.0.5 is bound at 127.0.1.0: 127.0.0.5 is left to the machine");
    }

    #[test]
    fn what_an_address_was_given_it_keeps_until_it_is_gone() {
        let mut map = Loopback::default();
        map.assign(&set(&["172.97.72.1"]));
        map.assign(&set(&["10.97.72.1", "172.97.72.1"]));
        assert_eq!(at(&map, "172.97.72.1").as_deref(), Some("127.97.72.1"));
        assert_eq!(at(&map, "10.97.72.1").as_deref(), Some("127.97.72.2"));
        map.assign(&set(&["10.97.72.1"]));
        assert_eq!(at(&map, "10.97.72.1").as_deref(), Some("127.97.72.2"));
        map.assign(&set(&["10.97.72.1", "172.97.72.2"]));
        assert_eq!(at(&map, "172.97.72.2").as_deref(), Some("127.97.72.3"));
    }

    #[test]
    fn an_own_address_takes_its_place_from_a_mapped_one() {
        let mut map = Loopback::default();
        map.assign(&set(&["10.97.72.1"]));
        let notices = map.assign(&set(&["10.97.72.1", "127.97.72.1"]));
        assert_eq!(at(&map, "127.97.72.1").as_deref(), Some("127.97.72.1"));
        assert_eq!(at(&map, "10.97.72.1").as_deref(), Some("127.97.72.2"));
        assert_eq!(notices.len(), 1);
    }

    #[test]
    fn ipv6_is_reported_and_not_served() {
        let mut map = Loopback::default();
        let notices = map.assign(&set(&["fd00::1"]));
        assert_eq!(notices, vec![Notice::Ipv6("fd00::1".parse().unwrap())]);
        assert_eq!(at(&map, "fd00::1"), None);
    }
}
