//! The values of a metric as bars on one scale: what differs is seen at once.

use super::plot::class;
use crate::workbench::report::Estimate;

/// Pixels of the drawing, and of one bar's line.
const WIDTH: f64 = 160.0;
const LINE: f64 = 9.0;
/// Room for the caps of bars that reach the end.
const MARGIN: f64 = 4.0;

/// A small drawing. Values that are no numbers are left out.
pub(super) fn bars(values: &[Estimate]) -> String {
    let finite: Vec<(usize, &Estimate)> =
        values.iter().enumerate().filter(|(_, value)| value.low.is_finite() && value.high.is_finite()).collect();
    let low = finite.iter().map(|(_, value)| value.low).fold(f64::INFINITY, f64::min);
    let high = finite.iter().map(|(_, value)| value.high).fold(f64::NEG_INFINITY, f64::max);
    // What never varies has nothing to compare.
    if high <= low || finite.is_empty() {
        return String::new();
    }
    let at = |value: f64| MARGIN + (value - low) / (high - low) * (WIDTH - 2.0 * MARGIN);
    let height = LINE * finite.len() as f64 + 1.0;
    let mut svg = format!("<svg width=\"{WIDTH:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" aria-hidden=\"true\">");
    for (row, (n, value)) in finite.into_iter().enumerate() {
        let y = LINE * (row as f64 + 0.5) + 0.5;
        let (left, right, mean, class) = (at(value.low), at(value.high), at(value.mean), class(n));
        svg.push_str(&format!(
            "<path class=\"line {class}\" d=\"M{left:.1} {y:.1}H{right:.1}M{left:.1} {:.1}v5M{right:.1} {:.1}v5\"/>\
             <circle class=\"{class}\" cx=\"{mean:.1}\" cy=\"{y:.1}\" r=\"3\"/>",
            y - 2.5,
            y - 2.5
        ));
    }
    svg.push_str("</svg>");
    svg
}
