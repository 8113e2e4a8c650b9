#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use super::*;
use pointsman_sdk::native::{NativeBalancer, connection, endpoint, endpoints, port, setting};

fn ring(members: &[Endpoint]) -> Ring {
    Ring::of(&eligible(members))
}

fn counts(ring: &Ring) -> BTreeMap<Slot, u32> {
    let mut counts = BTreeMap::new();
    ring.points().iter().for_each(|(_, slot)| *counts.entry(*slot).or_default() += 1);
    counts
}

fn without(members: &[Endpoint], slot: Slot) -> Vec<Endpoint> {
    members.iter().filter(|endpoint| endpoint.slot != slot).cloned().collect()
}

fn from(client: &str) -> Connection {
    let client = match client.parse().unwrap() {
        IpAddr::V4(client) => client.to_ipv6_mapped(),
        IpAddr::V6(client) => client,
    };
    let bits = Ipv6Addr::to_bits(client);
    Connection { client_hi: (bits >> 64) as u64, client_lo: bits as u64, ..connection(0, 0) }
}

/// What an nginx 1.22.1 with `hash $remote_addr consistent; server 127.0.0.1:9001; … server 127.0.0.1:9003 weight=2; …` did.
/// `tests/nginx.rs` asks one about thousands of clients.
#[test]
fn nginx_sends_these_clients_to_these_servers() {
    let servers = [("127.0.0.1:9001", 1), ("127.0.0.1:9002", 1), ("127.0.0.1:9003", 2), ("127.0.0.1:9004", 1)];
    let members: Vec<Endpoint> = servers.iter().zip(9001..).map(|((key, weight), slot)| endpoint(slot, key, *weight)).collect();
    let mut balancer = NativeBalancer::<Ketama>::new(&[], 0).unwrap();
    balancer.plan(&port(0), 0, &members).unwrap();
    for (client, server) in [
        ("10.0.0.1", 9003),
        ("10.0.0.2", 9001),
        ("10.0.0.3", 9003),
        ("10.0.0.4", 9001),
        ("10.0.0.5", 9003),
        ("192.0.2.1", 9004),
        ("198.51.100.7", 9002),
        ("203.0.113.255", 9003),
        ("127.0.0.1", 9003),
        ("2001:db8::1", 9003),
        ("2001:db8:0:1::", 9003),
        ("fe80::1", 9001),
    ] {
        assert_eq!(balancer.pick(&from(client), 0, &Idle), Some(server), "{client}");
    }
}

#[test]
fn a_client_is_hashed_as_its_address_is_written() {
    for text in ["0.0.0.0", "1.20.100.209", "10.0.0.99", "255.255.255.255", "2001:db8::1", "::1", "2001:db8:0:1::"] {
        assert_eq!(hash(&from(text)), Crc32::new().and(text.as_bytes()).value(), "{text}");
    }
}

#[test]
fn a_point_is_the_checksum_of_host_port_and_the_point_before() {
    let ring = ring(&[endpoint(0, "10.0.0.1:80", 1)]);
    let first = Crc32::new().and(b"10.0.0.1\x0080\0\0\0\0").value();
    let second = Crc32::new().and(b"10.0.0.1\x0080").and(&first.to_le_bytes()).value();
    let points: Vec<u32> = ring.points().iter().map(|(point, _)| *point).collect();
    assert!(points.len() == 160 && points.is_sorted());
    assert!(points.contains(&first) && points.contains(&second));
    let v6 = self::ring(&[endpoint(0, "[2001:db8::1]:80", 1)]);
    assert!(v6.points().contains(&(Crc32::new().and(b"[2001:db8::1]\x0080\0\0\0\0").value(), 0)), "the last colon is the port's");
}

#[test]
fn nobody_moves_but_those_who_must() {
    for weights in [vec![1; 10], vec![1, 5, 2, 2, 1], vec![1; 1000]] {
        let members = endpoints(&weights);
        let before = ring(&members);
        for gone in [0, 3] {
            let after = ring(&without(&members, gone));
            for n in 0..50_000 {
                let hash = connection(0, n).client_hash as u32;
                let (one, other) = (before.at(hash, 0), after.at(hash, 0));
                // A point that coincides with another's is the first one's alone, so one that leaves uncovers it.
                assert!(one == other || one == Some(gone), "{n} moved from {one:?} to {other:?} as {gone} left");
            }
        }
        let mut heavier = members.clone();
        heavier[1].weight += 1;
        let after = ring(&heavier);
        assert!((0..50_000).map(|n| connection(0, n).client_hash as u32).all(|hash| {
            let other = after.at(hash, 0);
            before.at(hash, 0) == other || other == Some(1)
        }));
    }
}

#[test]
fn shares_follow_the_weights() {
    for (weights, tolerance) in [(vec![1; 10], 0.35), (vec![1, 5, 2, 2, 0, 1], 0.35), (vec![20; 10], 0.1)] {
        let ring = ring(&endpoints(&weights));
        let total: u32 = weights.iter().sum();
        let mut shares = vec![0.0; weights.len()];
        let points = ring.points();
        let mut last = points.last().unwrap().0;
        for (point, slot) in points {
            shares[slot as usize] += f64::from(point.wrapping_sub(last)) / 2f64.powi(32);
            last = point;
        }
        for (share, weight) in shares.iter().zip(&weights) {
            let expected = f64::from(*weight) / f64::from(total);
            assert!((share - expected).abs() <= tolerance * expected, "{share} is not {expected}, of {weights:?}");
        }
        let most = shares.iter().zip(&weights).map(|(share, weight)| share * f64::from(total) / f64::from(*weight).max(1.0));
        println!("{weights:?}: the fullest has {:.2} of its share", most.fold(0.0, f64::max));
    }
}

#[test]
fn a_ring_that_would_be_too_large_is_shared_by_weight() {
    let exact = ring(&endpoints(&[1638, 0]));
    assert!(counts(&exact)[&0] > 262_000, "160 for each, less those that coincide");
    let unequal = counts(&ring(&endpoints(&[1, u32::MAX])));
    assert!(unequal[&0] == 1 && unequal[&1] > 262_000, "{unequal:?}");
    let many = counts(&ring(&endpoints(&vec![1; 10_000])));
    assert!(many.len() == 10_000 && many.values().all(|count| (24..=26).contains(count)), "262,144 by 10,000, less a few");
    // Whoever has fewer points has the first of those that nginx gives it.
    let few = ring(&endpoints(&[1; 10])).points();
    let fewer: Vec<Endpoint> = endpoints(&[1; 10]).into_iter().chain([endpoint(10, "heavy:80", 10_000)]).collect();
    let shared = ring(&fewer).points();
    assert!(shared.iter().filter(|(_, slot)| *slot < 10).all(|point| few.contains(point)));
}

#[test]
fn another_attempt_is_for_another_endpoint() {
    let ring = ring(&endpoints(&[1; 5]));
    for n in 0..1000 {
        let hash = connection(0, n).client_hash as u32;
        let attempts: Vec<Slot> = (0..3).filter_map(|attempt| ring.at(hash, attempt)).collect();
        let mut distinct = attempts.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(attempts.len() == distinct.len() && !attempts.is_empty(), "{attempts:?}");
    }
    let two = self::ring(&endpoints(&[1, 1]));
    assert_eq!((0..5).map(|n| two.at(n << 29, 2)).collect::<Vec<_>>(), [None; 5], "there is no third");
    assert_eq!(two.at(0, u32::MAX), None);
}

#[test]
fn the_order_of_listing_does_not_matter() {
    let mut listed = endpoints(&[1, 2, 3, 1, 1]);
    let one = ring(&listed);
    listed.rotate_left(2);
    listed.swap(0, 1);
    assert_eq!(ring(&listed), one);
}

#[test]
fn workers_agree_and_nobody_is_nobody() {
    let members = endpoints(&[1; 5]);
    let mut workers = [1, 2].map(|seed| {
        let mut balancer = NativeBalancer::<Ketama>::new(&[], seed).unwrap();
        balancer.plan(&port(0), 0, &members).unwrap();
        balancer
    });
    for n in 0..100 {
        let [one, other] = workers.each_mut().map(|worker| worker.pick(&connection(0, n), 0, &Idle));
        assert!(one == other && one.is_some());
    }
    workers[0].plan(&port(0), 1, &endpoints(&[0, 0])).unwrap();
    assert_eq!(workers[0].pick(&connection(0, 0), 1, &Idle), None);
    let set = ServicePort { settings: vec![setting("points", "40")], ..port(0) };
    assert_eq!(workers[0].plan(&set, 0, &members).unwrap_err(), "there is no setting `points`; this policy has none");
}
