//! Times, as people write them.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// Nanoseconds, written as `500ms`, `30s`, `1m30s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// How many.
    pub nanos: u64,
}

/// Milliseconds forward, or back: `1h`, `-5s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// How many.
    pub millis: i64,
}

impl Time {
    /// Whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self { nanos: seconds * 1_000_000_000 }
    }

    /// Whole milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self { nanos: millis * 1_000_000 }
    }

    /// In seconds.
    pub fn as_seconds(self) -> f64 {
        self.nanos as f64 / 1e9
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let span = deserializer.deserialize_str(Text)?;
        let nanos = u64::try_from(span.as_nanos()).map_err(|_| D::Error::custom(WANTED))?;
        Ok(Self { nanos })
    }
}

impl<'de> Deserialize<'de> for Jump {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let span = deserializer.deserialize_str(Text)?;
        let millis = i64::try_from(span.as_millis()).map_err(|_| D::Error::custom(WANTED))?;
        Ok(Self { millis })
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = jiff::SignedDuration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(WANTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        text.parse().map_err(|_| E::custom(format!("`{}` is no {WANTED}", text.escape_debug())))
    }
}

const WANTED: &str = "time with its unit, like 500ms, 30s or 1m30s";
