//! The checksum that nginx hashes with: CRC-32 of ISO 3309, as in Ethernet and zip.

use std::fmt;

/// A checksum of the bytes so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crc32(u32);

impl Crc32 {
    /// Of no bytes.
    pub(crate) const fn new() -> Self {
        Self(u32::MAX)
    }

    /// Of the bytes so far and these.
    pub(crate) fn and(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |sum, byte| TABLE[usize::from(sum as u8 ^ byte)] ^ (sum >> 8)))
    }

    /// The checksum.
    pub(crate) const fn value(self) -> u32 {
        !self.0
    }
}

/// What is written is summed: a client's address needs no memory.
impl fmt::Write for Crc32 {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        *self = self.and(text.as_bytes());
        Ok(())
    }
}

/// By the lower eight bits.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut sum = n as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ POLYNOMIAL } else { sum >> 1 };
            bit += 1;
        }
        table[n] = sum;
        n += 1;
    }
    table
};

/// Reversed, as the lowest bit comes first.
const POLYNOMIAL: u32 = 0xedb8_8320;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use std::fmt::Write as _;

    #[test]
    fn the_check_value_in_any_pieces() {
        assert_eq!(Crc32::new().and(b"123456789").value(), 0xcbf4_3926);
        assert_eq!(Crc32::new().and(b"1234").and(b"").and(b"56789").value(), 0xcbf4_3926);
        assert_eq!(Crc32::new().value(), 0);
        let mut written = Crc32::new();
        write!(written, "{}{:04}", 12345, 6789).unwrap();
        assert_eq!(written.value(), 0xcbf4_3926);
    }
}
