//! What a number must be: `0.8333 ± 0.01`, `≤ 500`, `≥ 3`, or the number itself.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A closed interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    low: f64,
    high: f64,
}

impl Bound {
    /// This number and no other.
    pub const fn exactly(value: f64) -> Self {
        Self { low: value, high: value }
    }

    /// Whether the value is in it. What is computed may be off by rounding.
    pub fn holds(&self, value: f64) -> bool {
        value >= self.low - ROUNDING && value <= self.high + ROUNDING
    }

    fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        let after = |signs: [&str; 2]| signs.into_iter().find_map(|sign| text.trim().strip_prefix(sign));
        let bound = if let Some(rest) = after(["≤", "<="]) {
            number(rest).map(|high| Self { low: f64::NEG_INFINITY, high })
        } else if let Some(rest) = after(["≥", ">="]) {
            number(rest).map(|low| Self { low, high: f64::INFINITY })
        } else if let Some((middle, width)) = text.split_once('±').or_else(|| text.split_once("+-")) {
            let interval = |middle: f64, width: f64| Self { low: middle - width, high: middle + width };
            number(middle).zip(number(width).filter(|width| *width >= 0.0)).map(|(middle, width)| interval(middle, width))
        } else {
            number(text).map(Self::exactly)
        };
        bound.ok_or_else(|| format!("{text:?} is no number; write 0.5, \"0.5 ± 0.01\", \"≤ 0.5\" or \"≥ 0.5\""))
    }
}

const ROUNDING: f64 = 1e-9;

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.low, self.high) {
            (low, high) if low == high => write!(f, "{low}"),
            (f64::NEG_INFINITY, high) => write!(f, "≤ {high}"),
            (low, f64::INFINITY) => write!(f, "≥ {low}"),
            (low, high) => {
                let digits = |value: f64| format!("{value:.6}").trim_end_matches('0').trim_end_matches('.').to_owned();
                write!(f, "{} ± {}", digits((low + high) / 2.0), digits((high - low) / 2.0))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BoundVisitor)
    }
}

struct BoundVisitor;

impl Visitor<'_> for BoundVisitor {
    type Value = Bound;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, \"0.5 ± 0.01\", \"≤ 0.5\" or \"≥ 0.5\"")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Bound, E> {
        Ok(Bound::exactly(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Bound, E> {
        Ok(Bound::exactly(value as f64))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Bound, E> {
        Ok(Bound::exactly(value as f64))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bound, E> {
        Bound::parse(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end at once")]

    use super::*;

    #[test]
    fn what_is_written_is_what_holds() {
        for (text, inside, outside, shown) in [
            ("0.5", 0.5, 0.51, "0.5"),
            ("0.8333 ± 0.01", 0.84, 0.85, "0.8333 ± 0.01"),
            ("3 +- 1", 2.0, 1.9, "3 ± 1"),
            ("≤ 500", 500.0, 501.0, "≤ 500"),
            ("<= 500", 0.0, 501.0, "≤ 500"),
            (">= 2", 2.0, 1.0, "≥ 2"),
        ] {
            let bound = Bound::parse(text).unwrap();
            assert!(bound.holds(inside) && !bound.holds(outside), "{text}");
            assert_eq!(bound.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_number_is_refused_with_a_way_out() {
        for text in ["", "many", "1 ± -1", "≤", "nan", "inf"] {
            assert!(Bound::parse(text).unwrap_err().contains("write 0.5"), "{text}");
        }
    }
}
