//! Lines over two axes, as SVG.

use super::escaped;
use crate::workbench::report::shown::number;
use crate::workbench::report::{Line, Plot};

/// The drawing, in its own units; the page scales it.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// Around the axes: room for ticks on the left and below, for the y axis' title above.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 52.0;
/// Of a decade: nearer than this is the same.
const EXACT: f64 = 1e-6;
/// About as many ticks on an axis.
const TICKS: f64 = 6.0;
/// Colours; lines beyond have one again, with other dashes.
const COLOURS: usize = 6;
/// The first line is whole.
const DASHES: [&str; 7] = ["", "9 4", "2 3", "9 3 2 3", "14 4", "5 3 5 3 1 3", "1 2 6 2"];

/// The class of a line by its position.
pub(super) fn class(n: usize) -> String {
    format!("s{}", n % COLOURS)
}

/// A line as the plots draw it, for legends.
pub(super) fn swatch(n: usize) -> String {
    format!(
        "<svg class=\"swatch\" viewBox=\"0 0 34 10\" aria-hidden=\"true\"><path class=\"line {}\"{} d=\"M0 5H34\"/></svg>",
        class(n),
        dashes(n)
    )
}

fn dashes(n: usize) -> String {
    match DASHES[n % DASHES.len()] {
        "" => String::new(),
        dashes => format!(" stroke-dasharray=\"{dashes}\""),
    }
}

/// A plot with its caption and legend.
pub(super) fn figure(plot: &Plot) -> String {
    let caption = escaped(&plot.title);
    let drawable: Vec<Vec<(f64, f64)>> = plot.lines.iter().map(|line| drawable(line, plot.logarithmic)).collect();
    let all = || drawable.iter().flatten().copied();
    if all().next().is_none() {
        return format!("<figure><figcaption>{caption}</figcaption><p class=\"note\">nothing to draw</p></figure>\n");
    }
    let x = Axis::over(all().map(|(x, _)| x), plot.logarithmic, false);
    let y = Axis::over(all().map(|(_, y)| y), plot.logarithmic, true);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH:.0} {HEIGHT:.0}\" role=\"img\" aria-label=\"{}\">",
        escaped(&format!("{}: {} by {}. {}", plot.title, plot.y, plot.x, in_words(plot, &drawable)))
    );
    svg.push_str(&frame(plot, &x, &y));
    for (n, points) in drawable.iter().enumerate().filter(|(_, points)| !points.is_empty()) {
        svg.push_str(&line(n, points, &x, &y));
    }
    svg.push_str("</svg>");
    let legend: String = plot.lines.iter().enumerate().map(|(n, line)| format!("<li>{}{}</li>", swatch(n), escaped(&line.label))).collect();
    format!("<figure><figcaption>{caption}</figcaption>{svg}<ul class=\"legend\">{legend}</ul></figure>\n")
}

/// Points that have a place on the axes.
fn drawable(line: &Line, logarithmic: bool) -> Vec<(f64, f64)> {
    let placed = |value: f64| value.is_finite() && (!logarithmic || value > 0.0);
    line.points.iter().copied().filter(|(x, y)| placed(*x) && placed(*y)).collect()
}

/// For who cannot see it: where each line begins and ends, and its highest point.
fn in_words(plot: &Plot, drawable: &[Vec<(f64, f64)>]) -> String {
    let words = plot.lines.iter().zip(drawable).filter_map(|(line, points)| {
        let ((_, first), (_, last)) = (points.first()?, points.last()?);
        let most = points.iter().map(|(_, y)| *y).fold(f64::NEG_INFINITY, f64::max);
        Some(format!("{} goes from {} to {}, at most {}", line.label, number(*first), number(*last), number(most)))
    });
    words.collect::<Vec<_>>().join("; ")
}

fn frame(plot: &Plot, x: &Axis, y: &Axis) -> String {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let mut svg = String::new();
    for tick in &y.ticks {
        let at = bottom - y.at(*tick) * (bottom - TOP);
        svg.push_str(&format!("<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>"));
        svg.push_str(&format!(
            "<text class=\"tick\" x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            at + 4.5,
            number(*tick)
        ));
    }
    for tick in &x.ticks {
        let at = LEFT + x.at(*tick) * (right - LEFT);
        svg.push_str(&format!("<path class=\"axis\" d=\"M{at:.1} {bottom}v5\"/>"));
        svg.push_str(&format!(
            "<text class=\"tick\" x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            bottom + 19.0,
            number(*tick)
        ));
    }
    svg.push_str(&format!("<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>"));
    let middle = (LEFT + right) / 2.0;
    svg.push_str(&format!(
        "<text class=\"title\" x=\"{middle:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
        HEIGHT - 10.0,
        escaped(&plot.x)
    ));
    svg.push_str(&format!("<text class=\"title\" x=\"8\" y=\"16\">{}</text>", escaped(&plot.y)));
    svg
}

fn line(n: usize, points: &[(f64, f64)], x: &Axis, y: &Axis) -> String {
    let place = |(px, py): &(f64, f64)| {
        let left = LEFT + x.at(*px) * (WIDTH - RIGHT - LEFT);
        let top = HEIGHT - BOTTOM - y.at(*py) * (HEIGHT - BOTTOM - TOP);
        (left, top)
    };
    if let [only] = points {
        let (left, top) = place(only);
        return format!("<circle class=\"{}\" cx=\"{left:.1}\" cy=\"{top:.1}\" r=\"4\"/>", class(n));
    }
    let path: Vec<String> = points.iter().map(place).map(|(left, top)| format!("{left:.1} {top:.1}")).collect();
    format!("<path class=\"line {}\"{} d=\"M{}\"/>", class(n), dashes(n), path.join("L"))
}

/// From the least to the most that is drawn, at round numbers.
struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Vec<f64>,
}

impl Axis {
    /// `grounded`: begins at 0 where that is not far off, so that heights can be compared, and ends at a round number.
    fn over(values: impl Iterator<Item = f64>, logarithmic: bool, grounded: bool) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if logarithmic { Self::decades(low, high) } else { Self::linear(low, high, grounded) }
    }

    fn linear(low: f64, high: f64, grounded: bool) -> Self {
        // Where values differ by less than a third of what they are, 0 would flatten them.
        let near = if grounded { high / 3.0 } else { high * 0.95 };
        let from = if low > 0.0 && high - low > near { 0.0 } else { low };
        // A line of one height has room above and below.
        let (from, to) = if high > from { (from, high) } else { (from - from.abs().max(1.0) / 2.0, from + from.abs().max(1.0) / 2.0) };
        let step = round_step((to - from) / TICKS);
        let (first, last) = ((from / step).floor(), (to / step).ceil());
        // A horizontal axis ends where its values do.
        let (low, high) = if grounded { (first * step, last * step) } else { (from, to) };
        let count = (last - first) as usize;
        let ticks = (0..=count).map(|n| (first + n as f64) * step).map(|tick| if tick.abs() < step * 1e-9 { 0.0 } else { tick });
        let slack = (high - low) * 1e-9;
        Self { low, high, logarithmic: false, ticks: ticks.filter(|tick| *tick >= low - slack && *tick <= high + slack).collect() }
    }

    fn decades(low: f64, high: f64) -> Self {
        // 10,000 may come as 10,000.000000001, and needs no decade more.
        let (mut first, mut last) = ((low.log10() + EXACT).floor() as i32, (high.log10() - EXACT).ceil() as i32);
        if first >= last {
            (first, last) = (first.min(last) - 1, first.max(last) + 1);
        }
        let every = ((f64::from(last - first) / TICKS).ceil() as i32).max(1);
        let decades = (first..=last).step_by(every as usize);
        // Few decades have room between them.
        let within: &[f64] = if last - first <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let ticks = decades.flat_map(|decade| within.iter().map(move |digit| digit * 10f64.powi(decade)));
        let (low, high) = (10f64.powi(first), 10f64.powi(last));
        Self { low, high, logarithmic: true, ticks: ticks.filter(|tick| *tick <= high * 1.000_001).collect() }
    }

    /// 0 at the low end, 1 at the high end.
    fn at(&self, value: f64) -> f64 {
        if self.logarithmic {
            (value / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }
}

/// The next of 1, 2, 5, 10, 20, …
fn round_step(step: f64) -> f64 {
    let decade = 10f64.powi(step.log10().floor() as i32);
    [1.0, 2.0, 5.0].into_iter().map(|digit| digit * decade).find(|round| *round >= step).unwrap_or(10.0 * decade)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(low: f64, high: f64, logarithmic: bool, grounded: bool) -> (f64, f64, Vec<String>) {
        let axis = Axis::over([low, high].into_iter(), logarithmic, grounded);
        (axis.low, axis.high, axis.ticks.iter().map(|tick| number(*tick)).collect())
    }

    #[test]
    fn axes_have_round_ticks() {
        assert_eq!(axis(0.3, 9.7, false, true), (0.0, 10.0, ["0", "2", "4", "6", "8", "10"].map(String::from).to_vec()));
        assert_eq!(axis(99.2, 99.9, false, true).2, ["99.2", "99.4", "99.6", "99.8", "100"]);
        assert_eq!(axis(0.1, 60.0, false, false), (0.0, 60.0, ["0", "10", "20", "30", "40", "50", "60"].map(String::from).to_vec()));
        assert_eq!(axis(-1.0, 1.0, false, true).2, ["-1", "-0.5", "0", "0.5", "1"]);
        assert_eq!(axis(2.0, 10_000.0, true, false), (1.0, 10_000.0, ["1", "10", "100", "1000", "10000"].map(String::from).to_vec()));
        assert_eq!(axis(1.0, 1.0 / (1.0 - 0.9999), true, false).1, 10_000.0);
        assert_eq!(axis(1.0, 10.0, true, true).2, ["1", "2", "5", "10"]);
    }

    #[test]
    fn one_height_is_drawn_in_the_middle() {
        for (value, logarithmic) in [(0.0, false), (100.0, false), (-3.0, false), (10.0, true)] {
            let axis = Axis::over([value].into_iter(), logarithmic, true);
            assert!((0.2..0.8).contains(&axis.at(value)) && axis.ticks.len() > 1, "{value}");
        }
    }

    #[test]
    fn extremes_do_not_break_an_axis() {
        for (low, high) in [(0.0, 1e-300), (-1e300, 1e300), (1e15, 1e15 + 1.0), (f64::MIN_POSITIVE, 1.0)] {
            let ticks = Axis::over([low, high].into_iter(), false, true).ticks.len();
            assert!((1..=20).contains(&ticks), "{low} to {high}: {ticks} ticks");
        }
        assert!(Axis::over([1e-300, 1e300].into_iter(), true, true).ticks.len() < 20);
    }
}
