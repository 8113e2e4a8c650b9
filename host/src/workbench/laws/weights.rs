//! What balancers promise that go by weight.

use pointsman_sdk::types::Endpoint;

use super::hashing::shares;
use super::lab::{Lab, counts, endpoints, equal, fair, places};
use super::{Found, Law};
use crate::workbench::metrics::Schedule;
use crate::workbench::subject::Answer;

pub(super) const LAWS: &[Law] = &[
    ("shares follow the weights, but for chance", proportional),
    ("weights times a number give the same shares", |lab, found| scaled(lab, found, 0.02)),
    ("twice the connections, twice the counts", doubled),
];

pub(super) const EXACT_LAWS: &[Law] = &[
    ("each period has each endpoint as often as its weight", periods),
    ("an endpoint's turns are spread over the period", smooth),
    ("workers do not start in step", out_of_step),
];

/// Standard deviations that chance may miss by: once in two million.
const Z: f64 = 5.0;
const PICKS: u64 = 60_000;

fn tally(lab: &mut Lab<'_>, endpoints: &[Endpoint]) -> Result<Vec<u64>, String> {
    let mut subject = lab.subject(endpoints)?;
    let connections = lab.connections(PICKS);
    Ok(counts(endpoints, &places(&mut *subject, 0, endpoints, &connections)))
}

fn proportional(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let mut worst = 0.0_f64;
    for weights in [vec![1; 10], vec![5, 1, 1], vec![1, 2, 3, 10], vec![100, 1]] {
        let endpoints = endpoints(&weights);
        let counts = tally(lab, &endpoints)?;
        for (count, expected) in counts.iter().zip(fair(&endpoints, PICKS)) {
            let share = expected / PICKS as f64;
            let deviation = (PICKS as f64 * share * (1.0 - share)).sqrt();
            let z = (*count as f64 - expected).abs() / deviation;
            worst = worst.max(z);
            found.unless(z <= Z, || format!("weights {weights:?} give the shares {}: {z:.0} standard deviations off", shares(&counts)));
        }
    }
    found.measured("worst-z", "", worst);
    Ok(())
}

/// Metamorphic. A share may change by so much.
pub(super) fn scaled(lab: &mut Lab<'_>, found: &mut Found, most: f64) -> Result<(), String> {
    let weights = [3, 1, 2];
    let small = tally(lab, &endpoints(&weights))?;
    let large = tally(lab, &endpoints(&weights.map(|weight| weight * 700)))?;
    let differs = small.iter().zip(&large).any(|(small, large)| small.abs_diff(*large) as f64 > most * PICKS as f64);
    found.unless(!differs, || format!("weights 3, 1, 2 give the shares {}, and 2100, 700, 1400 give {}", shares(&small), shares(&large)));
    Ok(())
}

/// Metamorphic: who comes again is one more of the same.
pub(super) fn doubled(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let endpoints = endpoints(&[3, 1, 2]);
    let connections = lab.connections(PICKS);
    let mut subject = lab.subject(&endpoints)?;
    let once = counts(&endpoints, &places(&mut *subject, 0, &endpoints, &connections));
    let again = counts(&endpoints, &places(&mut *subject, 0, &endpoints, &connections));
    for (once, again) in once.iter().zip(&again) {
        let most = Z * (2.0 * (*once).max(*again) as f64).sqrt();
        found.unless(once.abs_diff(*again) as f64 <= most, || {
            format!("{PICKS} connections put {once} on an endpoint, and the same ones again {again}")
        });
    }
    Ok(())
}

fn periods(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    for weights in [vec![5, 1, 1], vec![1, 1, 1, 1], vec![3, 2, 0, 7], vec![1; 100]] {
        let period: u32 = weights.iter().sum();
        let endpoints = endpoints(&weights);
        let mut subject = lab.subject(&endpoints)?;
        for round in 0..4 {
            let connections = lab.connections(u64::from(period));
            let counts = counts(&endpoints, &places(&mut *subject, 0, &endpoints, &connections));
            let exact = counts.iter().zip(&weights).all(|(count, weight)| *count == u64::from(*weight));
            found.unless(exact, || format!("weights {weights:?}: period {round} has {counts:?}"));
        }
    }
    Ok(())
}

/// Smooth weighted round robin stays within one turn of the ideal for these weights.
const MOST_DEVIATION: f64 = 1.5;

fn smooth(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let (mut worst, mut longest) = (0.0_f64, 0);
    for weights in [vec![5, 1, 1], vec![4, 2, 1], vec![1; 7], vec![10, 10, 1]] {
        let endpoints = endpoints(&weights);
        let mut subject = lab.subject(&endpoints)?;
        let mut schedule = Schedule::default();
        schedule.set_members(weights.iter().enumerate().map(|(at, weight)| (at, f64::from(*weight))));
        let period = weights.iter().sum::<u32>();
        // Measured from where a period begins, for each worker begins at a place of its own.
        let picks: Vec<usize> = lab
            .connections(u64::from(period) * 3)
            .iter()
            .filter_map(|connection| match subject.pick(0, connection) {
                Answer::Slot(slot) => Some(slot as usize),
                _ => None,
            })
            .collect();
        let mut straight = Schedule::default();
        picks.iter().for_each(|pick| straight.pick(*pick));
        longest = longest.max(straight.longest_run());
        let deviation = (0..(period as usize).min(picks.len()))
            .map(|start| {
                schedule.restart();
                picks[start..].iter().take(period as usize).for_each(|pick| schedule.pick(*pick));
                schedule.deviation()
            })
            .fold(f64::INFINITY, f64::min);
        found.unless(deviation <= MOST_DEVIATION, || {
            format!("weights {weights:?}: an endpoint is {deviation:.1} turns ahead of its schedule or behind it")
        });
        if deviation.is_finite() {
            worst = worst.max(deviation);
        }
    }
    found.measured("schedule-deviation", "picks", worst);
    found.measured("max-run", "picks", longest as f64);
    Ok(())
}

/// Or all workers' first connections meet on one endpoint.
fn out_of_step(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let endpoints = equal(16);
    let workers = 32;
    let mut subject = lab.subject_of(workers, 3, &endpoints)?;
    let mut counts = vec![0_u64; endpoints.len()];
    for worker in 0..workers {
        let connection = lab.connection(0);
        if let Answer::Slot(slot) = subject.pick(worker, &connection) {
            counts[slot as usize] += 1;
        }
    }
    let most = counts.iter().copied().max().unwrap_or_default();
    found.measured("first-picks-on-one", "", most as f64);
    // 32 balls in 16 bins: more than 9 in one happens once in some 10,000 times.
    found.unless(most <= 9, || format!("the first picks of {workers} workers: {most} on one of {} endpoints", endpoints.len()));
    Ok(())
}
