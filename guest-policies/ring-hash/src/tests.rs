#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use pointsman_sdk::native::{NativeBalancer, connection, endpoint, endpoints, port, setting};

/// `127.0.0.1:90`, `127.0.0.1:91`, …
fn envoys(weights: &[u32]) -> Vec<Endpoint> {
    weights.iter().zip(0..).map(|(weight, n)| endpoint(n, &format!("127.0.0.1:{}", 90 + n), *weight)).collect()
}

fn ring(members: &[Endpoint], minimum: u32, maximum: u32) -> Ring {
    Ring::of(&eligible(members), Size { minimum, maximum })
}

fn counts(ring: &Ring, slots: usize) -> Vec<u32> {
    let mut counts = vec![0; slots];
    ring.points().iter().for_each(|(_, slot)| counts[*slot as usize] += 1);
    counts
}

fn without(members: &[Endpoint], slot: Slot) -> Vec<Endpoint> {
    members.iter().filter(|endpoint| endpoint.slot != slot).cloned().collect()
}

/// Envoy, `test/extensions/load_balancing_policies/ring_hash/ring_hash_lb_test.cc`.
#[test]
fn envoys_ring() {
    let ring = ring(&envoys(&[1; 6]), 12, LARGEST);
    let expected = [
        (833_437_586_790_550_860, 4),
        (928_266_305_478_181_108, 2),
        (1_033_482_794_131_418_490, 0),
        (3_551_244_743_356_806_947, 5),
        (3_851_675_632_748_031_481, 3),
        (5_583_722_120_771_150_861, 1),
        (6_311_230_543_546_372_928, 1),
        (7_700_377_290_971_790_572, 3),
        (13_144_177_310_400_110_813, 5),
        (13_444_792_449_719_432_967, 2),
        (15_516_499_411_664_133_160, 4),
        (16_117_243_373_044_804_889, 0),
    ];
    assert_eq!(ring.points(), expected);
    for (hash, slot) in [(0, 4), (3_551_244_743_356_806_947, 5), (3_551_244_743_356_806_948, 3), (u64::MAX, 4)] {
        assert_eq!(ring.at(hash, 0), Some(slot));
    }
}

/// The same file: six points for weights 1, 2, 3.
#[test]
fn envoys_ring_by_weight() {
    let expected = [
        (928_266_305_478_181_108, 2),
        (4_443_673_547_860_492_590, 2),
        (5_583_722_120_771_150_861, 1),
        (6_311_230_543_546_372_928, 1),
        (13_444_792_449_719_432_967, 2),
        (16_117_243_373_044_804_889, 0),
    ];
    assert_eq!(ring(&envoys(&[1, 2, 3]), 6, LARGEST).points(), expected);
}

#[test]
fn another_attempt_is_for_the_points_that_follow() {
    let ring = ring(&envoys(&[1; 6]), 12, LARGEST);
    let from = |hash| [0, 1, 2, 3, 12].map(|attempt| ring.at(hash, attempt).unwrap());
    assert_eq!(from(0), [4, 2, 0, 5, 4]);
    assert_eq!(from(u64::MAX), [4, 2, 0, 5, 4], "beyond the end the ring begins again");
    assert_eq!(from(15_516_499_411_664_133_160), [4, 0, 4, 2, 4]);
    assert_eq!(ring.at(0, u32::MAX), Some(5), "any number: 4294967295 is 3 of 12");
}

#[test]
fn the_lightest_has_a_whole_number_of_points_and_the_others_in_proportion() {
    for (weights, minimum, maximum, expected) in [
        (&[1, 1, 1][..], 1024, LARGEST, &[342, 342, 342][..]),
        (&[1, 2, 3], 1024, LARGEST, &[171, 342, 513]),
        (&[2, 4, 6], 1024, LARGEST, &[171, 342, 513]),
        (&[1, 0, 1], 10, LARGEST, &[5, 0, 5]),
        // Two thirds of 5 and one third: 4 and 1, as 3.33 and 1.67 are rounded up one after the other.
        (&[2, 1], 5, 5, &[4, 1]),
        // Room for fewer points than the lightest needs.
        (&[1, 1000], 1024, 100, &[1, 99]),
        (&[7; 4], 1, LARGEST, &[1, 1, 1, 1]),
    ] {
        assert_eq!(counts(&ring(&endpoints(weights), minimum, maximum), weights.len()), expected, "{weights:?} of {minimum} to {maximum}");
    }
    let unequal = ring(&endpoints(&[1, u32::MAX]), 1024, LARGEST);
    assert_eq!(counts(&unequal, 2), [1, LARGEST - 1]);
}

#[test]
fn the_order_of_listing_does_not_matter() {
    let mut listed = endpoints(&[1, 2, 3, 1, 1]);
    let one = ring(&listed, 1024, LARGEST);
    listed.rotate_left(2);
    listed.swap(0, 1);
    assert_eq!(ring(&listed, 1024, LARGEST), one);
}

/// 600 endpoints or 599 have two points each in a ring of at least 1,024, and 100 or 99 of the smallest ring one.
#[test]
fn exactly_those_who_must_move_while_the_number_of_points_stays() {
    for (count, minimum) in [(600, 1024), (100, 1), (2000, 1024)] {
        let members = endpoints(&vec![1; count]);
        let before = ring(&members, minimum, LARGEST);
        for gone in [0, count as Slot / 2, count as Slot - 1] {
            let after = ring(&without(&members, gone), minimum, LARGEST);
            for n in 0..20_000 {
                let hash = connection(0, n).client_hash;
                let (one, other) = (before.at(hash, 0), after.at(hash, 0));
                assert!(one == other || one == Some(gone), "client {n} moved from {one:?} to {other:?} as {gone} left");
            }
        }
    }
}

/// How many of 20,000 clients move that need not, where one of so many leaves: no more than the new points' share of the ring. Sums of
/// fractions that are no fractions of a float now and then give an endpoint a point more, and the next one less: in Envoy too.
#[test]
fn where_the_ring_is_filled_up_the_new_points_take_their_share_and_no_more() {
    for (count, grows) in [(10, true), (94, true), (100, false), (200, false), (512, true)] {
        let members = endpoints(&vec![1; count]);
        let (before, after) = (ring(&members, 1024, LARGEST), ring(&without(&members, 3), 1024, LARGEST));
        let (had, has) = (counts(&before, count), counts(&after, count));
        let new: u32 = had.iter().zip(&has).map(|(had, has)| has.saturating_sub(*had)).sum();
        let share = f64::from(new) / f64::from(has.iter().sum::<u32>());
        let moved = (0..20_000).map(|n| connection(0, n).client_hash).filter(|hash| {
            let (one, other) = (before.at(*hash, 0), after.at(*hash, 0));
            one != other && one != Some(3)
        });
        let moved = moved.count() as f64 / 20_000.0;
        println!(
            "one of {count} leaves: {} points each, then {}; {:.1} % of the clients move that need not",
            had[1],
            has[1],
            100.0 * moved
        );
        assert_eq!((share > 0.01, moved > 0.01), (grows, grows), "{count}: {moved}, {share}");
        assert!(moved <= share + 0.01, "{count}: {moved}, {share}");
    }
}

#[test]
fn larger_rings_are_more_even() {
    let imbalance = |count: usize, per_endpoint: u32| {
        let members = endpoints(&vec![1; count]);
        let ring = ring(&members, count as u32 * per_endpoint, LARGEST);
        let points = ring.points();
        let mut shares = vec![0.0; count];
        let mut last = points.last().unwrap().0;
        for (point, slot) in points {
            shares[slot as usize] += point.wrapping_sub(last) as f64 / 2f64.powi(64) * count as f64;
            last = point;
        }
        shares.into_iter().fold(0.0, f64::max)
    };
    for (count, per_endpoint, most) in [(10, 10, 2.0), (10, 103, 1.3), (10, 1024, 1.1), (100, 11, 2.0), (100, 100, 1.4), (100, 1024, 1.12)]
    {
        let imbalance = imbalance(count, per_endpoint);
        println!("{count} endpoints of {per_endpoint} points: the fullest has {imbalance:.2} of the mean");
        assert!(imbalance < most, "{count} endpoints of {per_endpoint} points: {imbalance}");
    }
}

#[test]
fn the_settings() {
    let mut balancer = NativeBalancer::<RingHash>::new(&[], 0).unwrap();
    let set =
        |settings: &[(&str, &str)]| ServicePort { settings: settings.iter().map(|(key, value)| setting(key, value)).collect(), ..port(0) };
    let members = endpoints(&[1; 8]);
    let mut plan = |settings: &[(&str, &str)]| balancer.plan(&set(settings), 0, &members);
    let bytes = |points: usize| 1 + 8 + 8 * points + 8 + 4 * points;
    assert_eq!(plan(&[]).unwrap().len(), bytes(1024));
    assert_eq!(plan(&[("minimum-ring-size", "4096")]).unwrap().len(), bytes(4096));
    assert_eq!(plan(&[("minimum-ring-size", "9"), ("maximum-ring-size", "9")]).unwrap().len(), bytes(9));
    for wrong in ["0", "-7", "many", "131073", "7 ", ""] {
        for key in ["minimum-ring-size", "maximum-ring-size"] {
            let expected = format!("{key} is `{wrong}`; it must be a whole number from 1 to 131072");
            assert_eq!(plan(&[(key, wrong)]).unwrap_err(), expected);
        }
    }
    let refused = plan(&[("maximum-ring-size", "1000")]).unwrap_err();
    assert_eq!(refused, "minimum-ring-size is 1024, more than maximum-ring-size, which is 1000");
    let refused = plan(&[("minimum-ring-size", "7"), ("maximum-ring-size", "7")]).unwrap_err();
    assert_eq!(refused, "8 endpoints do not fit a ring of 7 points; maximum-ring-size may be up to 131072");
    let refused = plan(&[("ring-size", "7")]).unwrap_err();
    assert_eq!(refused, "there is no setting `ring-size`; there is minimum-ring-size, maximum-ring-size");

    assert!(NativeBalancer::<RingHash>::new(&[setting("minimum-ring-size", "0")], 0).is_err());
    let mut host_wide = NativeBalancer::<RingHash>::new(&[setting("minimum-ring-size", "8")], 0).unwrap();
    assert_eq!(host_wide.plan(&port(0), 0, &members).unwrap().len(), bytes(8), "holds for a Service that says nothing");
    assert_eq!(host_wide.plan(&set(&[("minimum-ring-size", "16")]), 0, &members).unwrap().len(), bytes(16), "a Service's own comes first");
}

#[test]
fn workers_agree_and_nobody_is_nobody() {
    let members = endpoints(&[1; 5]);
    let mut workers = [1, 2].map(|seed| {
        let mut balancer = NativeBalancer::<RingHash>::new(&[], seed).unwrap();
        balancer.plan(&port(0), 0, &members).unwrap();
        balancer
    });
    for n in 0..100 {
        let [one, other] = workers.each_mut().map(|worker| worker.pick(&connection(0, n), 0, &Idle));
        assert!(one == other && one.is_some());
    }
    workers[0].plan(&port(0), 1, &endpoints(&[0, 0])).unwrap();
    assert_eq!(workers[0].pick(&connection(0, 0), 1, &Idle), None);
}
