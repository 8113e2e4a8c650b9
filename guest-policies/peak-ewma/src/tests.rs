#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use pointsman_sdk::native::{NativeBalancer, connection, endpoints, port, setting};

fn balancer(weights: &[u32]) -> NativeBalancer<PeakEwma> {
    let mut balancer = NativeBalancer::new(&[], 0).unwrap();
    balancer.plan(&port(0), 0, &endpoints(weights)).unwrap();
    balancer
}

fn outcome(members: &[Endpoint], slot: Slot, kind: OutcomeKind, millis: u32) -> Outcome {
    Outcome { service: 0, endpoint: members[slot as usize].hash, kind, millis }
}

/// Shares of 10,000 picks at a moment, while counters stand still.
fn shares(it: &mut NativeBalancer<PeakEwma>, active: &[u32], now_ms: u64) -> Vec<f64> {
    let mut shares = vec![0.0; active.len()];
    for n in 0..10_000 {
        let connection = Connection { now_ms, ..connection(0, n) };
        shares[it.pick(&connection, 0, &|_, slot: Slot| active[slot as usize]).unwrap() as usize] += 1e-4;
    }
    shares
}

fn near(shares: &[f64], expected: &[f64]) -> bool {
    shares.iter().zip(expected).all(|(share, expected)| (share - expected).abs() < 0.02)
}

#[test]
fn where_nothing_is_known_it_is_the_less_loaded_of_two() {
    let mut it = balancer(&[1, 1, 1]);
    assert!(near(&shares(&mut it, &[0, 0, 0], 0), &[0.333, 0.333, 0.333]));
    assert!(near(&shares(&mut it, &[1, 0, 0], 0), &[0.0, 0.5, 0.5]), "drawn with one that is idle");
    // Drawn first or second: a pair has both of them in any case.
    assert!(near(&shares(&mut balancer(&[2, 1]), &[1, 0], 0), &[0.667, 0.333]), "2 of 2 and 1 of 1 tie: who was drawn first");
    assert!(near(&shares(&mut balancer(&[3, 0, 1]), &[0, 0, 0], 0), &[1.0, 0.0, 0.0]), "a third of a load each against a whole");
}

#[test]
fn load_is_time_by_connections_for_the_weight() {
    let members = endpoints(&[1, 1]);
    let mut it = balancer(&[1, 1]);
    it.report(0, &[outcome(&members, 0, OutcomeKind::Connected, 20), outcome(&members, 1, OutcomeKind::Connected, 60)]);
    for (active, first) in [([0, 0], 1.0), ([1, 0], 1.0), ([2, 0], 0.5), ([3, 0], 0.0), ([9, 3], 1.0), ([12, 3], 0.0)] {
        let expected = [first, 1.0 - first];
        // 20 · (2 + 1) and 60 · 1 tie, so either is as likely.
        assert!(near(&shares(&mut it, &active, 0), &expected), "{active:?}");
    }
    let mut it = balancer(&[1, 3]);
    it.report(0, &[outcome(&members, 0, OutcomeKind::Connected, 20), outcome(&members, 1, OutcomeKind::Connected, 59)]);
    assert!(near(&shares(&mut it, &[0, 0], 0), &[0.0, 1.0]), "59 / 3 is less than 20 / 1");
}

/// Ten endpoints, one of which comes to take 200 ms where the others take 2 ms; each sample is told at the next tick.
#[test]
fn who_becomes_slow_is_avoided_within_a_few_samples_and_tried_again_later() {
    let members = endpoints(&[1; 10]);
    let mut it = balancer(&[1; 10]);
    let (mut to_slow, mut last, mut after) = (Vec::new(), 0, 0);
    let mut outcomes = Vec::new();
    for n in 0..100_000u64 {
        // A connection every 5 ms, of 20 ms each: some four live at once, which the counters of this test leave out.
        let now_ms = n * 5;
        if n % 20 == 0 {
            it.report(now_ms, &outcomes);
            outcomes.clear();
        }
        let slot = it.pick(&Connection { now_ms, ..connection(0, n) }, 0, &Idle).unwrap();
        let slow = slot == 3 && (50_000..150_000).contains(&now_ms);
        outcomes.push(outcome(&members, slot, OutcomeKind::Connected, if slow { 200 } else { 2 }));
        if slow {
            to_slow.push(now_ms);
            last = now_ms;
        }
        if slot == 3 && now_ms >= 150_000 && after == 0 {
            after = now_ms;
        }
    }
    let first = to_slow[0];
    let soon = to_slow.iter().filter(|at| **at < first + 100).count();
    println!("{} of 20,000 connections to the slow one: {soon} before it was known; last {last}, again at {after} ms", to_slow.len());
    assert!(soon <= 10, "within a tick: {soon}");
    assert!(to_slow.len() <= 30, "a tenth would be 2,000: {}", to_slow.len());
    assert!((150_000..200_000).contains(&after), "tried again once it has decayed from 200 ms to 2 ms, 46 s: {after}");
}

#[test]
fn failures_do_not_attract() {
    let members = endpoints(&[1; 5]);
    for kind in [OutcomeKind::Refused, OutcomeKind::TimedOut] {
        let mut it = balancer(&[1; 5]);
        for slot in 0..5 {
            it.report(0, &[outcome(&members, slot, if slot == 2 { kind } else { OutcomeKind::Connected }, 0)]);
        }
        let shares = shares(&mut it, &[0; 5], 50);
        assert_eq!(shares[2], 0.0, "{kind:?} after 0 ms: {shares:?}");
    }
    let mut it = balancer(&[1; 5]);
    it.report(0, &[OutcomeKind::Closed, OutcomeKind::Reset].map(|kind| outcome(&members, 2, kind, 100_000)));
    assert!(near(&shares(&mut it, &[0; 5], 0), &[0.2; 5]), "how long a connection lived says nothing");
}

#[test]
fn less_than_a_millisecond_is_one_so_that_connections_still_count() {
    let members = endpoints(&[1, 1]);
    let mut it = balancer(&[1, 1]);
    it.report(0, &[outcome(&members, 0, OutcomeKind::Connected, 0), outcome(&members, 1, OutcomeKind::Connected, 1)]);
    assert!(near(&shares(&mut it, &[1, 0], 0), &[0.0, 1.0]));
    assert!(near(&shares(&mut it, &[0, 0], 1_000_000), &[0.5, 0.5]));
}

#[test]
fn connections_that_stay_spread_within_the_known_gap() {
    let mut it = balancer(&[1; 100]);
    let mut active = vec![0; 100];
    for n in 0..10_000 {
        let slot = it.pick(&connection(0, n), 0, &|_, slot: Slot| active[slot as usize]).unwrap();
        active[slot as usize] += 1;
    }
    let most = *active.iter().max().unwrap();
    assert!(most <= 104, "as two choices: {most}");
}

#[test]
fn two_that_differ_are_drawn() {
    for weights in [vec![1, 1], vec![1; 7], vec![1, 2, 3], vec![1, u32::MAX], vec![5, 1, 1, 1]] {
        let plan = PeakEwma::configure(Place::Planner, &Node::default(), &[]).unwrap().plan(&port(0), &endpoints(&weights)).unwrap();
        for n in 0..10_000 {
            let (one, other) = plan.draw(connection(0, n).random);
            assert!(one != other && one < weights.len() && other < weights.len());
        }
        for random in [0, u64::MAX, 1 << 63, u64::from(u32::MAX)] {
            assert!(plan.draw(random).0 != plan.draw(random).1);
        }
    }
}

#[test]
fn the_setting() {
    let set = |value: &str| ServicePort { settings: vec![setting("initial-rtt", value)], ..port(0) };
    let members = endpoints(&[1, 1]);
    let mut it = NativeBalancer::<PeakEwma>::new(&[], 0).unwrap();
    for wrong in ["", "10", "0ms", "1.5ms", "61s", "-1ms", "ms", "s", "10 ms", "5000000s"] {
        let refused = it.plan(&set(wrong), 0, &members).unwrap_err();
        assert_eq!(refused, format!("initial-rtt is `{wrong}`; it must be a whole number of `ms` or `s`, from 1ms to 60s"));
    }
    assert_eq!((time("1ms"), time("60s"), time("10ms")), (Ok(LEAST), Ok(LONGEST), Ok(DEFAULT)));
    let other = ServicePort { settings: vec![setting("rtt", "1s")], ..port(0) };
    assert_eq!(it.plan(&other, 0, &members).unwrap_err(), "there is no setting `rtt`; there is initial-rtt");

    // One is known to take 30 ms: more than what the other is thought to take, or less.
    for (port, expected) in [(port(0), 1), (set("29ms"), 1), (set("31ms"), 0)] {
        let mut it = NativeBalancer::<PeakEwma>::new(&[], 0).unwrap();
        it.plan(&port, 0, &members).unwrap();
        it.report(0, &[outcome(&members, 0, OutcomeKind::Connected, 30)]);
        assert_eq!(it.pick(&connection(0, 0), 0, &Idle), Some(expected));
    }
    assert!(NativeBalancer::<PeakEwma>::new(&[setting("initial-rtt", "x")], 0).is_err());
    let mut host_wide = NativeBalancer::<PeakEwma>::new(&[setting("initial-rtt", "31ms")], 0).unwrap();
    host_wide.plan(&port(0), 0, &members).unwrap();
    host_wide.report(0, &[outcome(&members, 0, OutcomeKind::Connected, 30)]);
    assert_eq!(host_wide.pick(&connection(0, 0), 0, &Idle), Some(0));
}

#[test]
fn one_and_nobody() {
    assert_eq!(balancer(&[0, 7]).pick(&connection(0, 0), 0, &Idle), Some(1));
    assert_eq!(balancer(&[]).pick(&connection(0, 0), 0, &Idle), None);
    assert_eq!(balancer(&[0]).pick(&connection(0, 0), 0, &Idle), None);
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let members = endpoints(&[u32::MAX, u32::MAX - 1]);
    let mut it = balancer(&[u32::MAX, u32::MAX - 1]);
    it.report(u64::MAX, &[0, 1].map(|slot| outcome(&members, slot, OutcomeKind::TimedOut, u32::MAX)));
    assert!(it.pick(&Connection { now_ms: u64::MAX, ..connection(0, 0) }, 0, &|_, _| u32::MAX).is_some());
}
