//! How even something is.

use super::gamma::upper_regularised;

/// How evenly loads are spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balance {
    /// `imbalance`: the largest load by the mean. 1 is even; n is everything on one of n.
    pub imbalance: f64,
    /// `min-to-mean`: the smallest load by the mean. 1 is even, 0 is somebody idle.
    pub min_to_mean: f64,
    /// `cv`: the standard deviation by the mean. 0 is even.
    pub cv: f64,
    /// `jain`: `(Σx)² / (n Σx²)` (Jain, Chiu, Hawe 1984). 1 is even, 1/n is everything on one.
    pub jain: f64,
}

impl Balance {
    /// Of loads by weight. None where there is no load at all.
    pub fn of(loads: &[f64]) -> Option<Self> {
        let n = loads.len() as f64;
        let sum: f64 = loads.iter().sum();
        let squares: f64 = loads.iter().map(|x| x * x).sum();
        if sum <= 0.0 {
            return None;
        }
        let mean = sum / n;
        let deviations: f64 = loads.iter().map(|x| (x - mean).powi(2)).sum();
        let (least, most) = loads.iter().fold((f64::INFINITY, 0.0f64), |(least, most), x| (least.min(*x), most.max(*x)));
        Some(Self {
            imbalance: most / mean,
            min_to_mean: least / mean,
            cv: (deviations / n).sqrt() / mean,
            jain: sum * sum / (n * squares),
        })
    }
}

/// `in-flight-gap`: how many connections the most loaded endpoint has above the mean, where weights are equal: max − mean. Where they
/// differ, loads are compared by weight and scaled back by the mean weight. None without endpoints of weight.
pub fn gap(connections_and_weights: impl Iterator<Item = (f64, f64)> + Clone) -> Option<f64> {
    let (mut connections, mut weights, mut endpoints, mut most) = (0.0, 0.0, 0.0, 0.0f64);
    for (active, weight) in connections_and_weights.filter(|(_, weight)| *weight > 0.0) {
        connections += active;
        weights += weight;
        endpoints += 1.0;
        most = most.max(active / weight);
    }
    (weights > 0.0).then(|| (most - connections / weights) * (weights / endpoints))
}

/// `weight-error`: the most by which an endpoint's share of the picks misses what was expected of it, in percent of all picks.
pub fn weight_error(picks: &[u64], expected: &[f64]) -> Option<f64> {
    let total: f64 = expected.iter().sum();
    let misses = picks.iter().zip(expected).map(|(picks, expected)| (*picks as f64 - expected).abs());
    (total > 0.0).then(|| misses.fold(0.0, f64::max) / total * 100.0)
}

/// `chi-square-p`: the chance that picks at random by weight miss what was expected by as much as these (Pearson's test). Below 0.001:
/// not by chance; near 1: more even than chance, as round robin is. None where fewer than two endpoints expect something.
pub fn chi_square_p(picks: &[u64], expected: &[f64]) -> Option<f64> {
    let (mut statistic, mut cells) = (0.0, 0u32);
    for (picks, expected) in picks.iter().zip(expected).filter(|(_, expected)| **expected > 0.0) {
        statistic += (*picks as f64 - expected).powi(2) / expected;
        cells += 1;
    }
    (cells > 1).then(|| upper_regularised(f64::from(cells - 1) / 2.0, statistic / 2.0))
}
