//! What may be said of several seeds.

use crate::workbench::report::Estimate;

/// Fewer seeds say nothing about a difference: their intervals are too wide, and too unsure themselves.
pub const MIN_SEEDS: u32 = 16;

/// The mean with its 95 % confidence interval (Student's t). None of nothing; of one number, that number.
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let n = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    // Equal values: their mean may be off by a last bit, which would pass for a deviation.
    if values.iter().all(|value| *value == values[0]) {
        return Some(Estimate { mean: values[0], low: values[0], high: values[0], samples: values.len() as u32 });
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = t_95(values.len() as u32 - 1) * (variance / n).sqrt();
    Some(Estimate { mean, low: mean - half, high: mean + half, samples: values.len() as u32 })
}

/// `differs` of a metric: whether the interval of another value does not touch the first's, which the others are compared with. None where
/// nothing is compared, or where fewer than `MIN_SEEDS` were tried.
pub fn differs(values: &[Estimate]) -> Option<bool> {
    let (first, others) = values.split_first()?;
    let comparable = !others.is_empty() && values.iter().all(|value| value.samples >= MIN_SEEDS);
    comparable.then(|| others.iter().any(|other| other.high < first.low || other.low > first.high))
}

/// The smallest value that at least this part of them does not exceed (nearest rank). Reorders them. None of nothing.
pub fn quantile(values: &mut [u64], part: f64) -> Option<u64> {
    let rank = (part * values.len() as f64).ceil() as usize;
    let last = values.len().checked_sub(1)?;
    Some(*values.select_nth_unstable(rank.saturating_sub(1).min(last)).1)
}

/// The 97.5 % quantile of Student's t distribution, so that 95 % lie within ± it.
pub(super) fn t_95(degrees: u32) -> f64 {
    match (degrees as usize).checked_sub(1).map(|at| T_95.get(at)) {
        None => f64::INFINITY,
        Some(Some(t)) => *t,
        // The two leading terms of its expansion about the normal quantile z (Abramowitz & Stegun 26.7.5): exact to 4 digits from 31 on.
        Some(None) => {
            let (z, n) = (1.959_964, f64::from(degrees));
            z + z * (z * z + 1.0) / (4.0 * n) + z * (5.0 * z.powi(4) + 16.0 * z * z + 3.0) / (96.0 * n * n)
        }
    }
}

/// For 1 to 30 degrees of freedom (Abramowitz & Stegun, table 26.10).
const T_95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093,
    2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];
