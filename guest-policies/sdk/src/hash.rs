//! The documented hash of the contract, and what spreads its bits.

/// xxh64, as `Endpoint::hash` (seed 0) and Envoy use it.
pub fn xxh64(bytes: &[u8], seed: u64) -> u64 {
    xxhash_rust::xxh64::xxh64(bytes, seed)
}

/// Spreads every bit of `x` over the whole word (the finaliser of SplitMix64, Steele et al. 2014).
#[inline]
pub const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A number below `n` from 32 random bits, without division; the bias is at most n / 2³².
#[inline]
pub const fn below(bits: u32, n: u32) -> u32 {
    ((bits as u64 * n as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_values_of_xxh64() {
        assert_eq!(xxh64(b"", 0), 0xEF46_DB37_51D8_E999);
        assert_eq!(xxh64(b"a", 0), 0xD24E_C4F1_A98C_6E5B);
    }

    #[test]
    fn below_covers_its_range() {
        assert_eq!((below(0, 3), below(u32::MAX, 3), below(u32::MAX, 1), below(7, 0)), (0, 2, 0, 0));
    }
}
