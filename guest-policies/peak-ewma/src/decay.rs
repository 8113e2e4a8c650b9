//! e^(−Δt / τ) in integers, so that every build decays alike.

/// By what an estimate is multiplied after so many milliseconds, in 2⁻³²: never less than the real number, and more by a few millionths
/// at most.
pub(crate) fn decay(elapsed_ms: u64) -> u64 {
    // e^x = 2^(x · log₂ e). Rounded down, as the result then is rounded up; beyond the cut it is less than 2⁻³² anyway.
    let exponent = elapsed_ms.min(CUT_MS) * LOG2_E / TAU_MS;
    let (whole, fraction) = (exponent >> 32, exponent & 0xffff_ffff);
    let (index, rest) = ((fraction >> 24) as usize, fraction & 0xff_ffff);
    // The chord of a convex curve is above it.
    let (high, low) = (POWERS[index], POWERS[index + 1]);
    let power = high - (((high - low) * rest) >> 24);
    power.div_ceil(1 << whole)
}

/// `value`, decayed for so long; rounded up.
pub(crate) fn decayed(value: u32, elapsed_ms: u64) -> u32 {
    // At most (2³² − 1) · 2³².
    (u64::from(value) * decay(elapsed_ms)).div_ceil(ONE) as u32
}

/// What `value` adds to an estimate that has decayed for so long: what is lacking to one.
pub(crate) fn added(value: u32, elapsed_ms: u64) -> u32 {
    ((u64::from(value) * (ONE - decay(elapsed_ms))) >> 32) as u32
}

/// Finagle's, linkerd's and Envoy's: what was measured ten seconds ago counts 1/e of what is measured now.
pub(crate) const TAU_MS: u64 = 10_000;

/// After 30 τ, e^(−30) is 2⁻⁴³.
const CUT_MS: u64 = 30 * TAU_MS;

const ONE: u64 = 1 << 32;

/// log₂ e in 2⁻³², rounded down.
const LOG2_E: u64 = 6_196_328_018;

/// 2^(−i / 256) in 2⁻³², rounded up.
const POWERS: [u64; 257] = {
    // 2^(−1/2), 2^(−1/4), … 2^(−1/256), in 2⁻⁶².
    let mut roots = [0u64; 8];
    let mut root = 1u128 << 61;
    let mut n = 0;
    while n < 8 {
        root = (root << 62).isqrt();
        roots[n] = root as u64;
        n += 1;
    }
    let mut powers = [ONE; 257];
    let mut i = 1;
    while i < 256 {
        let mut product = 1u128 << 62;
        let mut bit = 0;
        while bit < 8 {
            if i >> (7 - bit) & 1 == 1 {
                product = (product * roots[bit] as u128) >> 62;
            }
            bit += 1;
        }
        // All roundings so far were down, by less than 2⁻³² together.
        powers[i] = (product >> 30) as u64 + 1;
        i += 1;
    }
    powers[256] = ONE / 2;
    powers
};

#[cfg(test)]
mod tests {
    use super::*;

    fn real(elapsed_ms: u64) -> f64 {
        (-(elapsed_ms as f64) / TAU_MS as f64).exp()
    }

    #[test]
    fn near_the_real_one_and_never_below() {
        for elapsed in (0..CUT_MS).step_by(7) {
            let (here, real) = (decay(elapsed) as f64 / ONE as f64, real(elapsed));
            let error = here - real;
            assert!(error >= -1e-15 && error <= 3e-6 * real + 2f64.powi(-32), "{elapsed} ms: {here} is not {real}");
        }
    }

    #[test]
    fn the_ends() {
        assert_eq!((decay(0), decay(u64::MAX)), (ONE, 1));
        assert_eq!((decayed(u32::MAX, 0), added(u32::MAX, 0)), (u32::MAX, 0));
        assert_eq!((decayed(u32::MAX, u64::MAX), decayed(0, 5), added(1000, u64::MAX)), (1, 0, 999));
    }

    #[test]
    fn never_grows() {
        let all: Vec<u64> = (0..CUT_MS + 10).map(decay).collect();
        assert!(all.windows(2).all(|pair| pair[0] >= pair[1]));
    }
}
