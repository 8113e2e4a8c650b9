//! Whether a recording names clients.

use std::hash::Hasher;
use std::net::Ipv6Addr;

use serde::Serialize;
use siphasher::sip::SipHasher13;

use super::frame::Client;

/// What is recorded of clients' addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// The addresses.
    Plain,
    /// A keyed hash instead of each: equal for equal addresses, and of no use without the key.
    Hashed(PseudonymKey),
}

/// The key of pseudonyms.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PseudonymKey(u64, u64);

impl PseudonymKey {
    /// From random bits.
    pub fn new(one: u64, other: u64) -> Self {
        Self(one, other)
    }

    /// From an operator's secret: the same pseudonyms in every recording with the same secret.
    pub fn from_secret(secret: &str) -> Self {
        let half = |seed| xxhash_rust::xxh64::xxh64(secret.as_bytes(), seed);
        // Other seeds than those of `client-hash`: one secret for both must not make them the same.
        Self(half(3), half(4))
    }
}

impl std::fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PseudonymKey(…)")
    }
}

impl Clients {
    /// What is written for an address, given as the contract does: 128 bits, IPv4 v6-mapped.
    pub(super) fn written(&self, hi: u64, lo: u64) -> Client {
        let bits = (u128::from(hi) << 64) | u128::from(lo);
        match self {
            Self::Hashed(PseudonymKey(one, other)) => {
                let mut hasher = SipHasher13::new_with_keys(*one, *other);
                hasher.write(&bits.to_be_bytes());
                Client::Pseudonym(hasher.finish().to_be_bytes())
            }
            Self::Plain => match Ipv6Addr::from_bits(bits).to_ipv4_mapped() {
                Some(v4) => Client::V4(v4.octets()),
                None => Client::V6(bits.to_be_bytes()),
            },
        }
    }
}

/// 100::/64, which is no host's (RFC 6666): a pseudonym's upper half.
const DISCARD_ONLY: u64 = 0x0100 << 48;

impl Client {
    /// The address as the contract has it. A pseudonym becomes an address of 100::/64.
    pub fn bits(self) -> (u64, u64) {
        match self {
            Self::V4(v4) => (0, 0xffff_0000_0000 | u64::from(u32::from_be_bytes(v4))),
            Self::V6(v6) => {
                let bits = u128::from_be_bytes(v6);
                ((bits >> 64) as u64, bits as u64)
            }
            Self::Pseudonym(hash) => (DISCARD_ONLY, u64::from_be_bytes(hash)),
        }
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (hi, lo) = self.bits();
        Ipv6Addr::from_bits((u128::from(hi) << 64) | u128::from(lo)).to_canonical().fmt(f)
    }
}

impl Serialize for Client {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (u64, u64) {
        let bits = match text.parse().unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)) {
            std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            std::net::IpAddr::V6(v6) => v6.to_bits(),
        };
        ((bits >> 64) as u64, bits as u64)
    }

    #[test]
    fn plain_addresses_come_back() {
        for address in ["10.1.2.3", "fd00::1:2", "::1", "::ffff:0:1"] {
            let (hi, lo) = parts(address);
            assert_eq!(Clients::Plain.written(hi, lo).bits(), (hi, lo), "{address}");
        }
        let (hi, lo) = parts("10.1.2.3");
        assert_eq!(Clients::Plain.written(hi, lo), Client::V4([10, 1, 2, 3]));
        assert_eq!(Clients::Plain.written(hi, lo).to_string(), "10.1.2.3");
    }

    #[test]
    fn a_pseudonym_is_the_same_for_the_same_key_and_nobodys_address() {
        let (hi, lo) = parts("10.1.2.3");
        let hashed = |secret| Clients::Hashed(PseudonymKey::from_secret(secret)).written(hi, lo);
        assert_eq!(hashed("a"), hashed("a"));
        assert_ne!(hashed("a"), hashed("b"));
        let (other, _) = (Clients::Hashed(PseudonymKey::from_secret("a")).written(hi, lo + 1), ());
        assert_ne!(hashed("a"), other);
        assert!(hashed("a").to_string().starts_with("100::"), "{}", hashed("a"));
        assert!(!format!("{:?}", PseudonymKey::from_secret("a")).contains(|c: char| c.is_ascii_digit()));
    }
}
