#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::estimate::t_95;
use super::gamma::{ln_gamma, upper_regularised};
use super::*;
use crate::workbench::report::Estimate;

fn near(value: f64, expected: f64, within: f64) -> bool {
    (value - expected).abs() <= within
}

#[test]
fn balance_of_loads_by_hand() {
    let even = Balance::of(&[3.0; 4]).unwrap();
    assert_eq!(even, Balance { imbalance: 1.0, min_to_mean: 1.0, cv: 0.0, jain: 1.0 });
    let one = Balance::of(&[8.0, 0.0, 0.0, 0.0]).unwrap();
    assert_eq!((one.imbalance, one.min_to_mean, one.jain), (4.0, 0.0, 0.25));
    assert!(near(one.cv, 3f64.sqrt(), 1e-12), "variance 12, mean 2");
    // Mean 2, deviations 1, 0, 1.
    let spread = Balance::of(&[1.0, 2.0, 3.0]).unwrap();
    assert!(near(spread.cv, (2.0f64 / 3.0).sqrt() / 2.0, 1e-12) && near(spread.jain, 36.0 / 42.0, 1e-12));
    assert_eq!((Balance::of(&[]), Balance::of(&[0.0, 0.0])), (None, None));
}

#[test]
fn the_gap_is_max_less_mean_and_by_weight() {
    let gap = |connections: &[f64], weights: &[f64]| gap(connections.iter().copied().zip(weights.iter().copied()));
    assert_eq!(gap(&[7.0, 1.0, 1.0], &[1.0; 3]), Some(4.0));
    assert_eq!(gap(&[4.0, 2.0, 2.0], &[2.0, 1.0, 1.0]), Some(0.0), "in proportion to the weights");
    assert_eq!(gap(&[4.0, 0.0], &[1.0, 3.0]), Some(6.0), "4 by weight where 1 is the mean, of weights that are 2 on average");
    assert_eq!((gap(&[5.0], &[0.0]), gap(&[], &[])), (None, None));
}

#[test]
fn the_weight_error_is_the_worst_share() {
    assert_eq!(weight_error(&[60, 40], &[50.0, 50.0]), Some(10.0));
    assert_eq!(weight_error(&[5, 1, 1], &[5.0, 1.0, 1.0]), Some(0.0));
    assert_eq!(weight_error(&[], &[]), None);
}

/// Abramowitz & Stegun: table 6.1 (Γ at 1.5), factorials, and the critical values of chi-square (table 26.8).
#[test]
fn gamma_and_chi_square_match_the_tables() {
    for (x, gamma) in [(1.0, 1.0), (2.0, 1.0), (5.0, 24.0), (0.5, std::f64::consts::PI.sqrt()), (1.5, 0.886_226_925_5), (11.0, 3_628_800.0)]
    {
        assert!(near(ln_gamma(x).exp() / gamma, 1.0, 1e-9), "Γ({x})");
    }
    for (degrees, statistic, p) in [
        (1.0, 3.841_46, 0.05),
        (1.0, 0.454_937, 0.5),
        (1.0, 10.827_6, 0.001),
        (2.0, 9.210_34, 0.01),
        (5.0, 1.145_48, 0.95),
        (10.0, 18.307_0, 0.05),
        (30.0, 50.892_2, 0.01),
        (100.0, 124.342, 0.05),
        (100.0, 67.327_6, 0.995),
    ] {
        let found = upper_regularised(degrees / 2.0, statistic / 2.0);
        assert!(near(found, p, p * 1e-4), "{degrees} degrees of freedom above {statistic}: {found}, not {p}");
    }
    // Two degrees of freedom have a closed form, also far out and with many of them around the mean.
    assert!(near(upper_regularised(1.0, 300.0) / (-300f64).exp(), 1.0, 1e-9));
    assert!(near(upper_regularised(5e5, 5e5), 0.5, 1e-3));
    assert_eq!((upper_regularised(3.0, 0.0), chi_square_p(&[3], &[3.0])), (1.0, None));
    assert!(near(chi_square_p(&[60, 40], &[50.0, 50.0]).unwrap(), 0.045_5, 1e-4), "z = 2");
    assert_eq!(chi_square_p(&[50, 50, 9], &[50.0, 50.0, 0.0]), Some(1.0), "who expects nothing is not counted");
}

/// Table 26.10 again, past the rows that are written down.
#[test]
fn students_t() {
    for (degrees, t) in [(1, 12.706), (15, 2.131), (30, 2.042), (31, 2.040), (40, 2.021), (60, 2.000), (120, 1.980), (1_000_000, 1.960)] {
        assert!(near(t_95(degrees), t, 6e-4), "{degrees}: {}", t_95(degrees));
    }
    assert_eq!(t_95(0), f64::INFINITY);
}

#[test]
fn an_estimate_is_a_mean_with_its_interval() {
    let found = estimate(&[1.0, 2.0, 3.0, 4.0]).unwrap();
    // s = 1.290994, t(3) = 3.182.
    let half = 3.182 * 1.290_994 / 2.0;
    assert!(
        found.mean == 2.5 && found.samples == 4 && near(found.low, 2.5 - half, 1e-5) && near(found.high, 2.5 + half, 1e-5),
        "{found:?}"
    );
    assert_eq!(estimate(&[0.1; 32]).unwrap(), Estimate { mean: 0.1, low: 0.1, high: 0.1, samples: 32 });
    assert_eq!((estimate(&[7.0]), estimate(&[])), (Some(Estimate::exact(7.0)), None));
}

#[test]
fn a_difference_needs_intervals_that_do_not_touch_and_seeds() {
    let of = |low: f64, high: f64, samples| Estimate { mean: (low + high) / 2.0, low, high, samples };
    for (one, other, expected) in [
        (of(1.0, 2.0, 16), of(2.1, 3.0, 16), Some(true)),
        (of(2.1, 3.0, 16), of(1.0, 2.0, 16), Some(true)),
        (of(1.0, 2.0, 16), of(2.0, 3.0, 16), Some(false)),
        (of(1.0, 4.0, 16), of(2.0, 3.0, 16), Some(false)),
        (of(1.0, 2.0, 15), of(2.1, 3.0, 16), None),
    ] {
        assert_eq!(differs(&[one, other]), expected, "{one:?} {other:?}");
    }
    assert_eq!(differs(&[of(1.0, 2.0, 16)]), None);
    let (first, apart) = (of(1.0, 2.0, 16), of(3.0, 4.0, 16));
    assert_eq!(differs(&[first, first, apart]), Some(true), "a twin of the first hides nothing");
    assert_eq!(differs(&[first, apart, apart]), Some(true));
    assert_eq!(
        differs(&[first, of(1.5, 4.0, 16), of(2.0, 3.0, 16)]),
        Some(false),
        "and how the others differ from each other is not asked"
    );
}

#[test]
fn quantiles_are_nearest_ranks() {
    let values: Vec<u64> = (1..=100).rev().collect();
    for (part, expected) in [(0.0, 1), (0.01, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)] {
        assert_eq!(quantile(&mut values.clone(), part), Some(expected), "{part}");
    }
    assert_eq!((quantile(&mut [], 0.5), quantile(&mut [7], 0.99)), (None, Some(7)));
}

#[test]
fn disruption_tells_need_from_collateral() {
    // b left, d is new: a→a kept, a→c collateral, a→d to the new one, b→c must, b→nobody must, c→nobody collateral, nobody→a no key.
    let before = [Some('a'), Some('a'), Some('a'), Some('b'), Some('b'), Some('c'), None];
    let after = [Some('a'), Some('c'), Some('d'), Some('c'), None, None, Some('a')];
    let found = Disruption::between(&before, &after, |e| "abc".contains(*e), |e| "acd".contains(*e));
    assert_eq!(found, Disruption { keys: 6, moved: 5, minimal: 3, collateral: 2 });
    assert_eq!(found.moved, found.minimal + found.collateral);
    assert_eq!((found.disruption(), found.minimal_part(), found.collateral_part()), (Some(5.0 / 6.0), Some(0.5), Some(2.0 / 6.0)));
    assert_eq!(Disruption::default().disruption(), None);
}

fn schedule(weights: &[f64], picks: &[usize]) -> Schedule {
    let mut schedule = Schedule::default();
    schedule.set_members(weights.iter().copied().enumerate());
    picks.iter().for_each(|pick| schedule.pick(*pick));
    schedule
}

#[test]
fn the_schedule_of_smooth_round_robin_is_near_the_ideal() {
    // nginx's {5,1,1} → a a b a c a a: after two picks a leads by 2 − 10/7, after five it lags by 25/7 − 3.
    let smooth = schedule(&[5.0, 1.0, 1.0], &[0, 0, 1, 0, 2, 0, 0]);
    assert!(near(smooth.deviation(), 4.0 / 7.0, 1e-12), "{}", smooth.deviation());
    // Across the period's end: a a + a a.
    assert_eq!(schedule(&[5.0, 1.0, 1.0], &[0, 0, 1, 0, 2, 0, 0, 0, 0, 1]).longest_run(), 4);
    let naive = schedule(&[5.0, 1.0, 1.0], &[0, 0, 0, 0, 0, 1, 2]);
    assert!(near(naive.deviation(), 5.0 - 25.0 / 7.0, 1e-12) && naive.longest_run() == 5);
    let (picks, expected) = naive.counts();
    assert_eq!(picks, [5, 1, 1]);
    assert!(expected.iter().zip([5.0, 1.0, 1.0]).all(|(found, expected)| near(*found, expected, 1e-9)));
    assert!(near(schedule(&[1.0, 1.0], &[0; 10]).deviation(), 5.0, 1e-9), "who is never picked lags");
}

#[test]
fn a_schedule_expects_by_who_took_part() {
    let mut schedule = schedule(&[1.0, 1.0], &[0, 1, 0, 1]);
    schedule.set_members([(1, 1.0), (2, 3.0)].into_iter());
    [1, 2, 2, 2].into_iter().for_each(|pick| schedule.pick(pick));
    let (picks, expected) = schedule.counts();
    assert_eq!(picks, [2, 3, 3]);
    assert!(expected.iter().zip([2.0, 3.0, 3.0]).all(|(found, expected)| near(*found, expected, 1e-9)), "{expected:?}");
    schedule.restart();
    assert_eq!((schedule.deviation(), schedule.longest_run(), schedule.counts().0), (0.0, 0, vec![0; 3]));
    schedule.pick(2);
    assert!(near(schedule.counts().1[2], 0.75, 1e-9), "the members stayed");
}

#[test]
fn a_herd_is_seen_in_the_first_hundred_picks() {
    let mut herd = Herd::default();
    (0..50).for_each(|_| herd.pick(0));
    assert_eq!(herd.shares(), None);
    herd.join(7, 0.25);
    (0..200).for_each(|n| herd.pick(if n < 50 { 7 } else { 0 }));
    assert_eq!(herd.shares(), Some((0.5, 2.0)));
    herd.join(8, 0.5);
    herd.leave(8);
    (0..200).for_each(|_| herd.pick(8));
    assert_eq!(herd.shares(), Some((0.5, 2.0)), "who left early is not counted");
}

#[test]
fn a_burst_is_counted_by_window() {
    let mut burst = Burst::default();
    for (endpoint, now_ms) in [(0, 0), (0, 99), (1, 99), (0, 100), (0, 101), (0, 199), (1, 1000), (1, 1001)] {
        burst.pick(endpoint, now_ms);
    }
    assert_eq!(burst.most(), 3);
}

#[test]
fn oscillation_counts_changes_of_sign() {
    let mut swing = Oscillation::default();
    [1.0, -1.0, 0.0, 2.0, 2.0, -3.0].into_iter().for_each(|error| swing.sample(0, error));
    assert!(near(swing.per_second(0.1).unwrap(), 3.0 / 0.6, 1e-9));
    let mut calm = Oscillation::default();
    (0..10).for_each(|_| calm.sample(3, -1.0));
    assert_eq!((calm.per_second(0.1), Oscillation::default().per_second(0.1)), (Some(0.0), None));
}
