//! What every command of the workbench says: one schema, of which text, JUnit and HTML are views.

pub mod html;
pub mod json;
pub mod junit;
mod shown;
pub mod text;

use serde::{Deserialize, Serialize};

/// The schema's name and version; a reader refuses any other.
pub const SCHEMA: &str = "pointsman.dev/report/v1";

/// One report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// `SCHEMA`.
    pub schema: String,
    /// What was done.
    pub kind: Kind,
    /// What was tried; in a comparison, two or more.
    pub subjects: Vec<Subject>,
    /// Reproduces the report to the byte.
    pub seed: Option<u64>,
    /// The whole: every case holds.
    pub verdict: Verdict,
    /// What was checked, in order.
    pub cases: Vec<Case>,
    /// What was measured.
    pub metrics: Vec<Metric>,
    /// What can be drawn.
    pub plots: Vec<Plot>,
    /// What a reader must know to read it well: that a replay was approximate, say.
    pub notes: Vec<String>,
}

/// The command, or the mode of `run`, that a report comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `policy test`
    Test,
    /// `policy check`
    Check,
    /// `policy cost`
    Cost,
    /// `policy sim`
    Sim,
    /// `policy fuzz`
    Fuzz,
    /// `policy replay`
    Replay,
    /// `policy diff`
    Diff,
    /// A shadow of `run`.
    Shadow,
    /// A canary of `run`.
    Canary,
}

/// A policy that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Subject {
    /// Its name: the file's, or a built-in's.
    pub name: String,
    /// `sha256:…`; none for plain Rust.
    pub digest: Option<String>,
}

/// Whether something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Exit status 0.
    Holds,
    /// Exit status 1.
    Fails,
    /// Not tried, with the reason among the findings; does not fail the whole.
    Skipped,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Case {
    /// The test's, law's or target's name.
    pub name: String,
    /// Whether it holds.
    pub verdict: Verdict,
    /// What was found, a line each: for a failure what was expected, what was seen, and how to see it again.
    pub findings: Vec<String>,
    /// What was measured for this case.
    pub metrics: Vec<Metric>,
}

/// One measured number, for each subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Metric {
    /// As in docs: `imbalance`, `collateral`, `fuel-p99`.
    pub name: String,
    /// `%`, `ms`, `fuel`, `bytes`; empty for plain numbers.
    pub unit: String,
    /// In the order of the report's subjects (or one alone).
    pub values: Vec<Estimate>,
    /// In a comparison: whether the interval of another value does not touch the first's. None where nothing is compared, or too little
    /// was tried to say.
    pub differs: Option<bool>,
}

/// A mean over seeds with its 95 % confidence interval; for what was measured once, all three are equal and `samples` is 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// How many seeds.
    pub samples: u32,
}

/// Lines over one axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plot {
    /// Above it.
    pub title: String,
    /// Under the x axis, with unit.
    pub x: String,
    /// Beside the y axis, with unit.
    pub y: String,
    /// Whether both axes are logarithmic.
    pub logarithmic: bool,
    /// The lines.
    pub lines: Vec<Line>,
}

/// One line of a plot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Line {
    /// In the legend.
    pub label: String,
    /// x and y, by x.
    pub points: Vec<(f64, f64)>,
}

/// The x axis of ranked lines.
pub const RANKED: &str = "endpoints, busiest first (%)";
/// Points of a ranked line, less one.
pub const RANKS: usize = 100;

impl Line {
    /// Values of endpoints, the largest first, over the part of the endpoints that has more.
    pub fn ranked(label: String, mut values: Vec<f64>) -> Self {
        values.sort_by(|a, b| b.total_cmp(a));
        let points = values.len().min(RANKS + 1);
        let point = |n: usize| {
            let part = n as f64 / (points - 1).max(1) as f64;
            Some((part * 100.0, *values.get((part * (values.len() - 1) as f64).round() as usize)?))
        };
        Self { label, points: (0..points).filter_map(point).collect() }
    }
}

impl Estimate {
    /// Of a number that was measured once, or counted.
    pub fn exact(value: f64) -> Self {
        Self { mean: value, low: value, high: value, samples: 1 }
    }
}

#[cfg(test)]
mod tests;
