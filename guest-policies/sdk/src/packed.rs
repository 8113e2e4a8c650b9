//! Columns of numbers for plans: kept as the bytes that they arrive as, so that a worker adopts 10,000 of them with one copy
//! instead of 10,000 decoding steps, and reads one with one load.

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A column of `u16`, `u32` or `u64` in a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed<T> {
    bytes: Vec<u8>,
    number: PhantomData<T>,
}

/// A number that `Packed` can hold.
pub trait Number: Copy {
    /// Its width in bytes.
    const WIDTH: usize;
    /// Appends it, little-endian.
    fn write(self, bytes: &mut Vec<u8>);
    /// Reads it from `WIDTH` bytes; `None` from fewer.
    fn read(bytes: &[u8]) -> Option<Self>;
}

impl<T: Number> Packed<T> {
    /// How many numbers.
    pub fn len(&self) -> usize {
        self.bytes.len() / T::WIDTH
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number at `index`, if there are so many.
    #[inline]
    pub fn at(&self, index: usize) -> Option<T> {
        T::read(self.bytes.get(index * T::WIDTH..)?)
    }

    /// Those from `start` on and before `end`, in order; fewer if there are not so many.
    pub fn range(&self, start: usize, end: usize) -> impl Iterator<Item = T> + '_ {
        let bytes = self.bytes.get(start * T::WIDTH..end * T::WIDTH).unwrap_or_default();
        bytes.chunks_exact(T::WIDTH).filter_map(T::read)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.bytes.chunks_exact(T::WIDTH).filter_map(T::read)
    }
}

impl<T: Number> FromIterator<T> for Packed<T> {
    fn from_iter<I: IntoIterator<Item = T>>(numbers: I) -> Self {
        let numbers = numbers.into_iter();
        let mut bytes = Vec::with_capacity(numbers.size_hint().0 * T::WIDTH);
        numbers.for_each(|number| number.write(&mut bytes));
        Self { bytes, number: PhantomData }
    }
}

impl<T> Default for Packed<T> {
    fn default() -> Self {
        Self { bytes: Vec::new(), number: PhantomData }
    }
}

impl<T> Serialize for Packed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes)
    }
}

impl<'de, T> Deserialize<'de> for Packed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = deserializer.deserialize_byte_buf(Bytes)?;
        Ok(Self { bytes, number: PhantomData })
    }
}

struct Bytes;

impl serde::de::Visitor<'_> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bytes")
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Number for $number {
            const WIDTH: usize = size_of::<Self>();

            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            #[inline]
            fn read(bytes: &[u8]) -> Option<Self> {
                bytes.first_chunk().copied().map(Self::from_le_bytes)
            }
        }
    )*};
}
numbers!(u16, u32, u64);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn numbers_come_back_through_the_codec() {
        let column: Packed<u32> = [1, u32::MAX, 0].into_iter().collect();
        let bytes = crate::codec::encode(&column).unwrap();
        assert_eq!(bytes.len(), 1 + 8 + 12, "a version, a length, and the numbers as they are");
        let back: Packed<u32> = crate::codec::decode(&bytes).unwrap();
        assert_eq!(back.iter().collect::<Vec<_>>(), [1, u32::MAX, 0]);
        assert_eq!((back.at(1), back.at(3)), (Some(u32::MAX), None));
    }

    #[test]
    fn a_torn_column_loses_its_last_number_only() {
        let column = Packed::<u64> { bytes: vec![1; 12], number: PhantomData };
        assert_eq!((column.len(), column.at(0).is_some(), column.at(1)), (1, true, None));
    }
}
