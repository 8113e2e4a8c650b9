//! Quantities: `4`, `3920m`, `1.5`, `2k`, `1e3`.

/// Digits that any quantity in use has, and more; longer ones cannot be amounts of CPU.
const MAX_DIGITS: usize = 18;

/// A quantity in thousandths, rounded up as Kubernetes does (`Quantity.MilliValue`). Not negative.
pub(super) fn millis(text: &str) -> Result<u64, String> {
    parse(text).ok_or_else(|| format!("\"{text}\" is not an amount such as 4, 3920m or 1.5"))
}

fn parse(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = [whole, fraction].concat();
    if digits.is_empty() || digits.len() > MAX_DIGITS || fraction.contains('.') {
        return None;
    }
    let mantissa: u128 = digits.parse().ok()?;
    let (numerator, exponent) = scale(suffix)?;
    // In thousandths; the fraction's digits count down.
    let exponent = exponent + 3 - i32::try_from(fraction.len()).ok()?;
    let power = 10u128.checked_pow(exponent.unsigned_abs())?;
    let value = mantissa.checked_mul(numerator)?;
    let value = if exponent < 0 { value.div_ceil(power) } else { value.checked_mul(power)? };
    u64::try_from(value).ok()
}

/// What a suffix stands for: a factor, and a power of ten.
fn scale(suffix: &str) -> Option<(u128, i32)> {
    let decimal = match suffix {
        "n" => -9,
        "u" => -6,
        "m" => -3,
        "" => 0,
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "T" => 12,
        "P" => 15,
        "E" => 18,
        _ => return binary(suffix).map(|factor| (factor, 0)).or_else(|| Some((1, exponent(suffix)?))),
    };
    Some((1, decimal))
}

fn binary(suffix: &str) -> Option<u128> {
    let power = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter().position(|known| *known == suffix)?;
    1024u128.checked_pow(u32::try_from(power).ok()? + 1)
}

/// `e3`, `E-2`; what is out of these bounds is no amount.
fn exponent(suffix: &str) -> Option<i32> {
    let digits = suffix.strip_prefix(['e', 'E'])?;
    digits.parse().ok().filter(|exponent| (-18..=18).contains(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_as_kubernetes_reads_them() {
        let cases = [
            ("4", Some(4_000)),
            ("3920m", Some(3_920)),
            ("0.5", Some(500)),
            (".5", Some(500)),
            ("2.", Some(2_000)),
            ("+1", Some(1_000)),
            ("0", Some(0)),
            ("0.0001", Some(1)),
            ("1500001u", Some(1_501)),
            ("2k", Some(2_000_000)),
            ("1Ki", Some(1_024_000)),
            ("1e3", Some(1_000_000)),
            ("5E-1", Some(500)),
            ("", None),
            (".", None),
            ("m", None),
            ("-1", None),
            ("1.2.3", None),
            ("4 cores", None),
            ("1e99", None),
            ("9999999999999999999", None),
            ("999999999999E", None),
        ];
        for (text, expected) in cases {
            assert_eq!(millis(text).ok(), expected, "{text}");
        }
    }
}
