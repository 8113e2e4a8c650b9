//! The incomplete gamma function, for the chi-square distribution.

/// Q(a, x) = Γ(a, x) / Γ(a), for a > 0: the chance that a chi-square variable of 2a degrees of freedom is above 2x. By its series below
/// the mean and its continued fraction above (Abramowitz & Stegun 6.5.29 and 6.5.31, the latter by Lentz's method); 10 digits or more.
pub(super) fn upper_regularised(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let scale = (a * x.ln() - x - ln_gamma(a)).exp();
    let q = if x < a + 1.0 { 1.0 - scale * series(a, x) } else { scale * continued_fraction(a, x) };
    q.clamp(0.0, 1.0)
}

fn series(a: f64, x: f64) -> f64 {
    let (mut term, mut sum) = (1.0 / a, 1.0 / a);
    for n in 1..MAX_TERMS {
        term *= x / (a + f64::from(n));
        sum += term;
        if term < sum * PRECISION {
            break;
        }
    }
    sum
}

fn continued_fraction(a: f64, x: f64) -> f64 {
    let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1.0 / TINY, 1.0 / away_from_zero(b));
    let mut fraction = d;
    for n in 1..MAX_TERMS {
        let n = f64::from(n);
        let numerator = -n * (n - a);
        b += 2.0;
        d = 1.0 / away_from_zero(numerator * d + b);
        c = away_from_zero(b + numerator / c);
        fraction *= c * d;
        if (c * d - 1.0).abs() < PRECISION {
            break;
        }
    }
    fraction
}

/// ln Γ(x) for x > 0: Stirling's series (Abramowitz & Stegun 6.1.41), which is exact to the last digits from 10 on; below, Γ(x + 1) = x Γ(x)
/// leads up there.
pub(super) fn ln_gamma(x: f64) -> f64 {
    if x < 10.0 {
        return ln_gamma(x + 1.0) - x.ln();
    }
    let square = x * x;
    let tail = 1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - (1.0 / 1680.0 - 1.0 / (1188.0 * square)) / square) / square) / square;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + tail / x
}

/// A term that adds less than this part of the sum ends it.
const PRECISION: f64 = 1e-15;
/// Near the mean about 4 √a terms are needed: enough for a million endpoints.
const MAX_TERMS: i32 = 10_000;
const TINY: f64 = 1e-300;
