#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use pointsman_sdk::native::{NativeBalancer, connection, endpoints, port};

const CLIENTS: u64 = 100_000;

fn balancer(members: &[Endpoint]) -> NativeBalancer<Rendezvous> {
    let mut balancer = NativeBalancer::new(&[], 0).unwrap();
    balancer.plan(&port(0), 0, members).unwrap();
    balancer
}

/// Where each client goes.
fn picks(members: &[Endpoint]) -> Vec<Slot> {
    let mut it = balancer(members);
    (0..CLIENTS).map(|n| it.pick(&connection(0, n), 0, &Idle).unwrap()).collect()
}

fn without(members: &[Endpoint], slot: Slot) -> Vec<Endpoint> {
    members.iter().filter(|endpoint| endpoint.slot != slot).cloned().collect()
}

/// Direct with one weight, with several, with too many; and a table because of the number.
fn scenes() -> [Vec<Endpoint>; 4] {
    let many: Vec<u32> = (0..1500).map(|n| 1 + n % 4).collect();
    [endpoints(&[1; 10]), endpoints(&[1, 5, 2, 2, 1]), endpoints(&(1..300).collect::<Vec<_>>()), endpoints(&many)]
}

fn is_table(members: &[Endpoint]) -> bool {
    Rendezvous.plan(&port(0), members).unwrap().table.at(0).is_some()
}

#[test]
fn the_scenes_are_what_they_are_for() {
    assert_eq!(scenes().map(|members| is_table(&members)), [false, false, true, true]);
}

#[test]
fn nobody_moves_but_those_who_must() {
    for members in scenes() {
        let before = picks(&members);
        // Removing: only the clients of the one that left. Adding is the same, read backwards.
        for gone in [0, 3] {
            let after = picks(&without(&members, gone));
            assert!(before.iter().zip(&after).all(|(a, b)| a == b || *a == gone), "{} endpoints", members.len());
            assert!(before.contains(&gone) && !after.contains(&gone));
        }
        // A greater weight draws clients to it, and moves no others.
        let mut heavier = members.clone();
        heavier[1].weight += 1;
        if is_table(&heavier) == is_table(&members) {
            let after = picks(&heavier);
            assert!(before.iter().zip(&after).all(|(a, b)| a == b || *b == 1));
        }
    }
}

#[test]
fn shares_follow_the_weights() {
    for weights in [vec![1; 10], vec![1, 5, 2, 2, 0, 1], vec![1, 1000]] {
        let total: u32 = weights.iter().sum();
        let mut counts = vec![0f64; weights.len()];
        picks(&endpoints(&weights)).iter().for_each(|slot| counts[*slot as usize] += 1.0);
        let chi_square: f64 = counts
            .iter()
            .zip(&weights)
            .filter(|(_, weight)| **weight > 0)
            .map(|(count, weight)| {
                let expected = CLIENTS as f64 * f64::from(*weight) / f64::from(total);
                (count - expected).powi(2) / expected
            })
            .sum();
        assert!(chi_square < 27.9, "up to nine degrees of freedom, p = 0.001: {chi_square} of {counts:?}");
        assert!(counts.iter().zip(&weights).all(|(count, weight)| *weight > 0 || *count == 0.0));
    }
}

#[test]
fn a_tables_shares_follow_the_weights() {
    // By class of weight: 375 endpoints of each.
    let members = &scenes()[3];
    let mut counts = [0f64; 4];
    picks(members).iter().for_each(|slot| counts[*slot as usize % 4] += 1.0);
    for (count, weight) in counts.iter().zip([0.1, 0.2, 0.3, 0.4]) {
        assert!((count / CLIENTS as f64 - weight).abs() < 0.01, "{counts:?}");
    }
}

#[test]
fn the_order_of_listing_and_the_scale_of_weights_do_not_matter() {
    for members in scenes() {
        let before = picks(&members);
        let mut other = members;
        other.reverse();
        other.iter_mut().for_each(|endpoint| endpoint.weight *= 8);
        assert_eq!(picks(&other), before);
    }
}

#[test]
fn a_retry_asks_another() {
    let mut it = balancer(&endpoints(&[1; 10]));
    let again = |n| Connection { attempt: 1, ..connection(0, n) };
    let same = (0..1000).filter(|n| it.pick(&connection(0, *n), 0, &Idle) == it.pick(&again(*n), 0, &Idle)).count();
    assert!((50..200).contains(&same), "a tenth of the clients by chance: {same}");
}

#[test]
fn nobody_to_pick_and_too_many() {
    assert_eq!(balancer(&[]).pick(&connection(0, 0), 0, &Idle), None);
    assert_eq!(balancer(&endpoints(&[0, 0])).pick(&connection(0, 0), 0, &Idle), None);
    let error = Rendezvous.plan(&port(0), &endpoints(&vec![1; ENDPOINTS + 1])).unwrap_err();
    assert!(error.contains("65536"), "{error}");
}
