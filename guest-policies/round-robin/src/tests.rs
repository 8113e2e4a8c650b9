#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use pointsman_sdk::native::{NativeBalancer, connection, endpoint, endpoints, port};

fn balancer(members: &[Endpoint], seed: u64) -> NativeBalancer<RoundRobin> {
    let mut balancer = NativeBalancer::new(&[], seed).unwrap();
    balancer.plan(&port(0), 0, members).unwrap();
    balancer
}

fn picks(balancer: &mut NativeBalancer<RoundRobin>, count: usize) -> Vec<Slot> {
    (0..count as u64).map(|n| balancer.pick(&connection(0, n), 0, &Idle).unwrap()).collect()
}

fn counts(picks: &[Slot], slots: usize) -> Vec<u32> {
    let mut counts = vec![0; slots];
    picks.iter().for_each(|slot| counts[*slot as usize] += 1);
    counts
}

/// The sequence from its first position, whatever the seed.
fn from_zero(members: &[Endpoint], count: usize) -> Vec<Slot> {
    let mut policy = RoundRobin { seed: 0 };
    let mut plan = policy.plan(&port(0), members).unwrap();
    plan.start(0);
    (0..count as u64).map(|n| policy.pick(&mut plan, &connection(0, n), &Idle).unwrap()).collect()
}

fn is_heap(members: &[Endpoint]) -> bool {
    RoundRobin { seed: 0 }.plan(&port(0), members).unwrap().period.phase().is_none()
}

/// The table of current weights that nginx's commit shows is gone when a period is written down: what is left of it is the order.
#[test]
fn the_vector_of_nginx() {
    assert_eq!(from_zero(&endpoints(&[5, 1, 1]), 14), [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0], "a a b a c a a, and again");
}

#[test]
fn weights_that_share_a_divisor_make_a_shorter_period() {
    assert_eq!(from_zero(&endpoints(&[500, 100, 100]), 7), [0, 0, 1, 0, 2, 0, 0]);
    assert!(!is_heap(&endpoints(&[4_000_000, 2_000_000])));
}

#[test]
fn every_window_of_a_period_gives_each_its_weight() {
    for weights in [vec![1, 1, 1], vec![5, 1, 1], vec![7, 3, 0, 2], vec![1; 100]] {
        let period = weights.iter().sum::<u32>() as usize;
        let all = picks(&mut balancer(&endpoints(&weights), 42), 4 * period);
        for window in all.windows(period) {
            assert_eq!(counts(window, weights.len()), weights);
        }
    }
}

#[test]
fn a_heap_keeps_the_same_law() {
    let weights = [4001, 1009, 7, 0, 1];
    let members = endpoints(&weights);
    assert!(is_heap(&members));
    let period = weights.iter().sum::<u32>() as usize;
    let all = picks(&mut balancer(&members, 42), 3 * period);
    for start in [0, 1, 500, period, 2 * period] {
        assert_eq!(counts(&all[start..start + period], weights.len()), weights);
    }
    let longest_pause = all[..2 * period].split(|slot| *slot == 1).map(<[Slot]>::len).max().unwrap();
    assert!(longest_pause <= 2 * period / 1009, "evenly spread: {longest_pause}");
}

#[test]
fn ten_thousand_equal_endpoints_are_still_one_load_a_pick() {
    let members = endpoints(&vec![3; 10_000]);
    assert!(!is_heap(&members));
    assert_eq!(counts(&picks(&mut balancer(&members, 1), 10_000), 10_000), vec![1; 10_000]);
}

#[test]
fn the_largest_weights_do_not_overflow() {
    let members = endpoints(&[u32::MAX, u32::MAX - 1]);
    let all = picks(&mut balancer(&members, 9), 10_000);
    assert!(counts(&all, 2)[0].abs_diff(5000) <= 1);
}

#[test]
fn nobody_to_pick() {
    for members in [endpoints(&[]), endpoints(&[0, 0])] {
        assert_eq!(balancer(&members, 3).pick(&connection(0, 0), 0, &Idle), None);
    }
}

#[test]
fn the_order_of_listing_does_not_matter() {
    let mut listed = endpoints(&[3, 1, 2]);
    let one = from_zero(&listed, 12);
    listed.reverse();
    assert_eq!(from_zero(&listed, 12), one);
}

#[test]
fn workers_do_not_start_in_step() {
    let starts: Vec<Slot> = (0..64).map(|seed| picks(&mut balancer(&endpoints(&[1; 4]), seed), 1)[0]).collect();
    assert!(counts(&starts, 4).iter().all(|count| *count >= 6), "{starts:?}");
}

#[test]
fn a_new_plan_goes_on_where_the_old_one_stood() {
    let [a, b, c, d] = [endpoint(0, "a", 1), endpoint(1, "b", 1), endpoint(2, "c", 1), endpoint(3, "d", 1)];
    let members = [a.clone(), b.clone(), c.clone()];
    for seed in 0..16 {
        let mut it = balancer(&members, seed);
        let last = picks(&mut it, 5)[4];
        let next = (last + 1) % 3;

        it.plan(&port(0), 0, &members).unwrap();
        assert_eq!(picks(&mut it, 1), [next], "the same members");

        // A newcomer, with everyone in another slot.
        let moved: Vec<Endpoint> = [&d, &c, &b, &a].into_iter().cloned().zip(0..).map(|(e, slot)| Endpoint { slot, ..e }).collect();
        it.plan(&port(0), 0, &moved).unwrap();
        let after = picks(&mut it, 1)[0];
        assert_eq!(moved[after as usize].key, ["a", "b", "c"][(next as usize + 1) % 3], "a newcomer");

        // The one whose turn it is leaves: the turn passes to the next of those that stay.
        let turn = moved.iter().map(|e| e.key.as_str()).collect::<Vec<_>>()[after as usize];
        let due = match turn {
            "a" => "b",
            "b" => "c",
            _ => "d",
        };
        let stay: Vec<Endpoint> = moved.iter().filter(|e| e.key != due).cloned().collect();
        it.plan(&port(0), 0, &stay).unwrap();
        let got = picks(&mut it, 1)[0];
        let expected = match due {
            "b" => "c",
            "c" => "d",
            _ => "a",
        };
        assert_eq!(moved[got as usize].key, expected, "the one that was due left");
    }
}

#[test]
fn changes_in_every_step_starve_nobody() {
    let members = endpoints(&[1; 6]);
    let mut it = balancer(&members[..5], 1);
    let mut all = Vec::new();
    for step in 0..600 {
        it.plan(&port(0), 0, &members[..5 + step % 2]).unwrap();
        all.extend(picks(&mut it, 1));
    }
    let counts = counts(&all, 6);
    assert!(counts[..5].iter().all(|count| (95..=125).contains(count)), "{counts:?}");
}

#[test]
fn a_heap_also_goes_on_where_it_stood() {
    let weights: Vec<u32> = (0..2000).map(|n| 1 + n % 3).collect();
    let members = endpoints(&weights);
    let period = weights.iter().sum::<u32>() as usize;
    assert!(is_heap(&members));
    let (mut still, mut changing) = (balancer(&members, 5), balancer(&members, 5));
    let mut all = Vec::new();
    for _ in 0..8 {
        changing.plan(&port(0), 0, &members).unwrap();
        all.extend(picks(&mut changing, period / 8));
    }
    let straight = counts(&picks(&mut still, period / 8 * 8), 2000);
    let differ = counts(&all, 2000).iter().zip(straight).filter(|(a, b)| **a != *b).count();
    assert!(differ <= 16, "{differ} endpoints were passed over or picked twice");
}
