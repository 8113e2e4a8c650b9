//! −log₂ of a fraction, in integers: every language and every machine gets the same bits, which `f64::ln` does not promise, so
//! that replays are exact and workers on different machines agree.

/// −log₂(x / 2⁶⁴) in 2⁻³², right to about 2⁻²⁰ of 1; x = 0 counts as 1, and the result is never 0, so a score is never infinite.
///
/// Where x is uniform this is an exponential variable, up to a factor. What is done with the float afterwards (division, addition,
/// comparison) is the same everywhere by IEEE 754.
pub(crate) fn neg_log2(x: u64) -> f64 {
    let x = x.max(1);
    let zeros = x.leading_zeros();
    let mantissa = (x << zeros) << 1;
    let (index, rest) = ((mantissa >> 56) as usize, (mantissa >> 24) & 0xffff_ffff);
    let (low, high) = (LOG2[index], LOG2[index + 1]);
    let log = low + (((high - low) * rest) >> 32);
    // At most 64 · 2³², so exact in a float.
    let result = ((u64::from(zeros) + 1) << 32) - log;
    result.max(1) as f64
}

/// log₂(1 + i / 256), in 2⁻³².
const LOG2: [u64; 257] = {
    let mut table = [0; 257];
    let mut i = 0;
    while i < 257 {
        table[i] = log2(256 + i as u64);
        i += 1;
    }
    table
};

/// log₂(n / 256), in 2⁻³², for n in 256..=512: squaring yields one binary digit after another.
const fn log2(n: u64) -> u64 {
    if n == 512 {
        return 1 << 32;
    }
    // In 2⁻⁶², below 2⁶³.
    let mut x = n << 54;
    let mut digits = 0;
    let mut i = 0;
    while i < 32 {
        let square = ((x as u128 * x as u128) >> 62) as u64;
        let digit = square >> 63;
        x = square >> digit;
        digits = (digits << 1) | digit;
        i += 1;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_sdk::hash::mix;

    #[test]
    fn near_the_real_one() {
        for n in 0..100_000 {
            let x = mix(n) >> (n % 60);
            let real = 64.0 - (x.max(1) as f64).log2();
            let error = (neg_log2(x) / 2f64.powi(32) - real).abs();
            assert!(error < 3e-6 && error < real.max(1e-9) * 1e-2, "{x}: off by {error} from {real}");
        }
    }

    #[test]
    fn the_ends() {
        assert_eq!(neg_log2(1), 64.0 * 2f64.powi(32));
        assert_eq!((neg_log2(0), neg_log2(u64::MAX)), (neg_log2(1), 1.0));
        assert_eq!(neg_log2(1 << 63), 2f64.powi(32));
    }

    #[test]
    fn never_grows() {
        let mut last = f64::INFINITY;
        for x in (0..1_000_000u64).map(|n| n << 44) {
            assert!(neg_log2(x) <= last);
            last = neg_log2(x);
        }
    }
}
