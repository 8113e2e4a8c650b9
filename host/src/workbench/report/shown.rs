//! How numbers and foreign text look in every view.

use super::{Estimate, Kind, Report, Subject, Verdict};

/// Four significant digits, and whole numbers below a million as they are.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || size == 0.0 {
        return if value == 0.0 { "0".to_owned() } else { value.to_string() };
    }
    if value.fract() == 0.0 && size < 1e6 {
        return format!("{value:.0}");
    }
    if !(1e-3..1e6).contains(&size) {
        let text = format!("{value:.3e}");
        return match text.split_once('e') {
            Some((digits, exponent)) => format!("{}e{exponent}", trimmed(digits)),
            None => text,
        };
    }
    let digits = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
    trimmed(&format!("{value:.digits$}")).to_owned()
}

fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// `1.021 ± 0.003`; a number alone where nothing varies.
pub(super) fn estimate(value: &Estimate) -> String {
    let half = (value.high - value.low) / 2.0;
    if half == 0.0 { number(value.mean) } else { format!("{} ± {}", number(value.mean), two_digits(half)) }
}

/// An uncertainty is not known to more.
fn two_digits(value: f64) -> String {
    match value.abs() {
        size if (1e-3..100.0).contains(&size) => {
            let digits = (1 - size.log10().floor() as i32).clamp(0, 5) as usize;
            trimmed(&format!("{value:.digits$}")).to_owned()
        }
        size if (100.0..1e6).contains(&size) => format!("{value:.0}"),
        _ => format!("{value:.1e}"),
    }
}

/// Text of a guest's or a file's, in which nothing moves a cursor, changes a colour or turns the direction of writing.
pub(super) fn clean(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let shown = |c: char| if c.is_control() || turns(c) { c.escape_unicode().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// As the command is called.
pub(super) fn command(kind: Kind) -> &'static str {
    match kind {
        Kind::Test => "policy test",
        Kind::Check => "policy check",
        Kind::Cost => "policy cost",
        Kind::Sim => "policy sim",
        Kind::Fuzz => "policy fuzz",
        Kind::Replay => "policy replay",
        Kind::Diff => "policy diff",
        Kind::Shadow => "shadow",
        Kind::Canary => "canary",
    }
}

/// In a sentence.
pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::Fails => "fails",
        Verdict::Skipped => "skipped",
    }
}

/// What stands above the values of each subject. A metric of one value in a report of several subjects is about them all.
pub(super) fn columns(report: &Report, values: usize) -> Vec<String> {
    let name = |subject: &Subject| clean(&subject.name);
    match report.subjects.len() {
        subjects if subjects == values => report.subjects.iter().map(name).collect(),
        _ if values == 1 => vec!["value".to_owned()],
        _ => (1..=values).map(|n| format!("value {n}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_four_digits() {
        for (value, expected) in [
            (0.0, "0"),
            (5.0, "5"),
            (123_456.0, "123456"),
            (1_234_567.0, "1.235e6"),
            (1.0 / 3.0, "0.3333"),
            (99.999, "100"),
            (0.001_234_56, "0.001235"),
            (0.000_123, "1.23e-4"),
            (-12.345_6, "-12.35"),
            (1e-300, "1e-300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn estimates_show_their_uncertainty() {
        let of = |mean: f64, half: f64| estimate(&Estimate { mean, low: mean - half, high: mean + half, samples: 9 });
        let shown = [of(1.5, 0.0), of(1.0208, 0.003_21), of(20_000.5, 250.4), of(5.0, 12.34), of(0.5, 3.26e-4)];
        assert_eq!(shown, ["1.5", "1.021 ± 0.0032", "20000 ± 250", "5 ± 12", "0.5 ± 3.3e-4"]);
    }

    #[test]
    fn foreign_text_cannot_write_on_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\nc\u{202e}d é 漢"), "a\\u{1b}[31mb\\u{a}c\\u{202e}d é 漢");
    }
}
