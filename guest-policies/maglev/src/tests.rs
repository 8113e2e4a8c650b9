#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use pointsman_sdk::native::{NativeBalancer, connection, endpoint, endpoints, port, setting};

/// `127.0.0.1:90`, `127.0.0.1:91`, …
fn envoys(weights: &[u32]) -> Vec<Endpoint> {
    weights.iter().zip(0..).map(|(weight, n)| endpoint(n, &format!("127.0.0.1:{}", 90 + n), *weight)).collect()
}

fn table(members: &[Endpoint], size: u32) -> Vec<Slot> {
    Table::of(&eligible(members), TableSize::exactly(size).unwrap()).unwrap().entries().collect()
}

fn counts(table: &[Slot], slots: usize) -> Vec<u32> {
    let mut counts = vec![0; slots];
    table.iter().for_each(|slot| counts[*slot as usize] += 1);
    counts
}

#[test]
fn envoys_tables() {
    assert_eq!(table(&envoys(&[1; 6]), 7), [2, 4, 0, 1, 5, 0, 3]);
    assert_eq!(table(&envoys(&[1, 2]), 17), [1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1]);
    assert_eq!(counts(&table(&envoys(&[1, 2]), 65537), 2), [21_846, 43_691]);
}

/// Cilium's test has these counts for these weights; they are the nearest whole numbers to 1,021 entries by weight.
#[test]
fn ciliums_shares() {
    assert_eq!(counts(&table(&endpoints(&[2, 13, 111, 10]), 1021), 4), [16, 98, 832, 75]);
}

#[test]
fn equal_weights_differ_by_one_entry_at_most() {
    for n in [1, 3, 10, 400] {
        let counts = counts(&table(&endpoints(&vec![1; n]), 65537), n);
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
    }
}

#[test]
fn weights_are_kept_and_their_scale_does_not_matter() {
    let total = 136.0;
    let counts = counts(&table(&endpoints(&[2, 13, 111, 10]), 65537), 4);
    for (count, weight) in counts.iter().zip([2.0, 13.0, 111.0, 10.0]) {
        let share = f64::from(*count) / 65537.0;
        assert!((share - weight / total).abs() < 0.002, "{counts:?}");
    }
    assert_eq!(table(&endpoints(&[20, 130, 1110, 100]), 1021), table(&endpoints(&[2, 13, 111, 10]), 1021));
}

#[test]
fn the_order_of_listing_does_not_matter() {
    let mut listed = endpoints(&[1, 2, 3, 1, 1]);
    let one = table(&listed, 1021);
    listed.rotate_left(2);
    listed.swap(0, 1);
    assert_eq!(table(&listed, 1021), one);
}

#[test]
fn few_entries_move_that_need_not() {
    for (n, size, bound) in [(10, 65537, 0.01), (100, 65537, 0.01), (500, 65537, 0.01), (1000, 65537, 0.01), (100, 16381, 0.015)] {
        let members = endpoints(&vec![1; n]);
        let before = table(&members, size);
        for gone in [0, n / 2, n - 1] {
            let left: Vec<Endpoint> = members.iter().filter(|endpoint| endpoint.slot != gone as Slot).cloned().collect();
            let after = table(&left, size);
            let collateral = before.iter().zip(&after).filter(|(a, b)| a != b && **a != gone as Slot).count();
            assert!(collateral as f64 / f64::from(size) <= bound, "{n} endpoints, {size} entries: {collateral} moved");
        }
    }
}

#[test]
fn the_setting() {
    let mut balancer = NativeBalancer::<Maglev>::new(&[], 0).unwrap();
    let set = |value: &str| ServicePort { settings: vec![setting("table-size", value)], ..port(0) };
    let members = endpoints(&[1; 8]);
    assert!(balancer.plan(&set("1021"), 0, &members).unwrap().len() > 2042);
    for wrong in ["65536", "0", "1", "-7", "many", "131101", "7 "] {
        let error = balancer.plan(&set(wrong), 0, &members).unwrap_err();
        assert!(error.contains("table-size") && error.contains(wrong), "{error}");
    }
    assert!(balancer.plan(&set("7"), 0, &members).unwrap_err().contains("8 endpoints"));
    let misspelt = ServicePort { settings: vec![setting("table-sise", "7")], ..port(0) };
    assert_eq!(balancer.plan(&misspelt, 0, &members).unwrap_err(), "there is no setting `table-sise`; there is table-size");
    assert!(NativeBalancer::<Maglev>::new(&[setting("table-size", "9")], 0).is_err());
    let mut host_wide = NativeBalancer::<Maglev>::new(&[setting("table-size", "7")], 0).unwrap();
    assert!(host_wide.plan(&port(0), 0, &members).is_err(), "holds for a Service that says nothing");
    assert!(host_wide.plan(&set("1021"), 0, &members).is_ok(), "a Service's own comes first");
}

#[test]
fn a_client_keeps_its_endpoint_and_a_retry_asks_another() {
    let mut balancer = NativeBalancer::<Maglev>::new(&[], 0).unwrap();
    balancer.plan(&port(0), 0, &endpoints(&[1; 10])).unwrap();
    let mut same = 0;
    for n in 0..1000 {
        let first = connection(0, n);
        let pick = balancer.pick(&first, 0, &Idle);
        assert_eq!(balancer.pick(&Connection { random: 1, now_ms: 0, ..first }, 0, &Idle), pick);
        same += u32::from(balancer.pick(&Connection { attempt: 1, ..first }, 0, &Idle) == pick);
    }
    assert!((50..200).contains(&same), "a tenth of the clients by chance: {same}");
}

#[test]
fn workers_agree_and_nobody_is_nobody() {
    let members = endpoints(&[1; 5]);
    let mut workers = [1, 2].map(|seed| {
        let mut balancer = NativeBalancer::<Maglev>::new(&[], seed).unwrap();
        balancer.plan(&port(0), 0, &members).unwrap();
        balancer
    });
    for n in 0..100 {
        let [one, other] = workers.each_mut().map(|worker| worker.pick(&connection(0, n), 0, &Idle));
        assert_eq!(one, other);
    }
    workers[0].plan(&port(0), 1, &endpoints(&[0, 0])).unwrap();
    assert_eq!(workers[0].pick(&connection(0, 0), 1, &Idle), None);
}
