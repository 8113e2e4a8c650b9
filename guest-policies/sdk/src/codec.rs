//! Plans as bytes. The only module that knows the encoding: one version byte, then bincode with fixed-width little-endian
//! integers, so that the size of a plan follows from its lengths and a worker decodes without branching on every number.
//!
//! Errors are fixed sentences: printing bincode's would put 50 kB of number formatting into every component.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A plan as bytes.
///
/// # Errors
/// What the plan's own `Serialize` says.
pub fn encode<P: Serialize>(plan: &P) -> Result<Vec<u8>, String> {
    let body = bincode::serde::encode_to_vec(plan, CONFIG).map_err(|_| "the plan cannot be encoded")?;
    let mut bytes = Vec::with_capacity(1 + body.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// A plan from bytes.
///
/// # Errors
/// The bytes are of another version, of another shape, too many, or more than the plan.
pub fn decode<P: DeserializeOwned>(bytes: &[u8]) -> Result<P, &'static str> {
    let Some((&VERSION, body)) = bytes.split_first() else {
        return Err("bytes are not a plan of this version");
    };
    let (plan, read) = bincode::serde::decode_from_slice(body, CONFIG).map_err(|_| "bytes are not such a plan")?;
    if read == body.len() { Ok(plan) } else { Err("more bytes than the plan") }
}

/// Grows when the encoding changes, so that bytes of another build are refused rather than misread.
const VERSION: u8 = 1;

/// What a planner call may return (16 MiB): a length inside the bytes that claims more is a lie.
const LIMIT: usize = 16 << 20;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<LIMIT>> =
    bincode::config::standard().with_fixed_int_encoding().with_limit::<LIMIT>();

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn a_plan_comes_back() {
        let plan = (vec![1u32, 2, 3], Some("x".to_owned()));
        assert_eq!(decode::<(Vec<u32>, Option<String>)>(&encode(&plan).unwrap()).unwrap(), plan);
    }

    #[test]
    fn what_is_not_a_plan_is_refused() {
        let good = encode(&vec![1u32, 2, 3]).unwrap();
        assert!(decode::<Vec<u32>>(&[]).is_err());
        assert!(decode::<Vec<u32>>(&good[..good.len() - 1]).is_err(), "cut short");
        assert!(decode::<Vec<u32>>(&[good.as_slice(), &[0]].concat()).is_err(), "one byte too many");
        let mut other = good.clone();
        other[0] = 2;
        assert!(decode::<Vec<u32>>(&other).is_err(), "another version");
        let mut liar = good;
        liar[1..9].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode::<Vec<u32>>(&liar).is_err(), "a length that nothing stands behind");
    }
}
