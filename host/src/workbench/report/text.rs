//! For a terminal: aligned, no wider than it is, and without colour.

use super::shown::{clean, columns, command, estimate, verdict};
use super::{Case, Kind, Metric, Report, Verdict};

/// Less than this is not enough for a table.
const MIN_WIDTH: usize = 40;

/// Text for a terminal that is so many columns wide.
pub fn render(report: &Report, width: usize) -> String {
    let mut text = Text { out: String::new(), width: width.max(MIN_WIDTH) };
    text.head(report);
    if !report.cases.is_empty() {
        text.line("");
        report.cases.iter().for_each(|case| text.case(report, case));
        if report.kind == Kind::Cost {
            text.line("");
            text.side_by_side(&report.cases);
        }
    }
    if !report.metrics.is_empty() {
        text.line("");
        text.metrics(report, &report.metrics, 0);
    }
    if !report.notes.is_empty() {
        text.line("");
        report.notes.iter().for_each(|note| text.wrapped("note: ", &clean(note)));
    }
    text.out
}

struct Text {
    out: String,
    width: usize,
}

impl Text {
    fn line(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }

    /// Breaks between words; what follows the first line is indented as far as the text on it.
    fn wrapped(&mut self, before: &str, text: &str) {
        let indent = length(before);
        let room = self.width.saturating_sub(indent).max(MIN_WIDTH / 2);
        let (mut lines, mut line) = (Vec::new(), String::new());
        for word in text.split(' ') {
            if !line.is_empty() && length(&line) + 1 + length(word) > room {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
        for (n, line) in lines.iter().enumerate() {
            let lead = if n == 0 { before.to_owned() } else { " ".repeat(indent) };
            self.line(&format!("{lead}{line}"));
        }
    }

    fn head(&mut self, report: &Report) {
        let seed = report.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
        let seeds = report.metrics.iter().flat_map(|metric| &metric.values).map(|value| value.samples).max().unwrap_or(1);
        let seeds = if seeds > 1 { format!(", {seeds} runs, ± is a 95 % interval") } else { String::new() };
        self.line(&format!("{}: {}{seed}{seeds}", command(report.kind), verdict(report.verdict)));
        for subject in &report.subjects {
            let digest = subject.digest.as_deref().map(|digest| format!("  {}", clean(digest))).unwrap_or_default();
            self.line(&format!("  {}{digest}", clean(&subject.name)));
        }
    }

    fn case(&mut self, report: &Report, case: &Case) {
        let mark = match case.verdict {
            Verdict::Holds => "ok    ",
            Verdict::Fails => "FAILS ",
            Verdict::Skipped => "skip  ",
        };
        let measured: Vec<String> = match report.kind {
            Kind::Check | Kind::Replay => case.metrics.iter().map(|metric| format!("{} {}", label(metric), shown(metric))).collect(),
            _ => Vec::new(),
        };
        let measured = if measured.is_empty() { String::new() } else { format!(": {}", measured.join(", ")) };
        self.wrapped(mark, &(clean(&case.name) + &measured));
        case.findings.iter().for_each(|finding| self.wrapped("      - ", &clean(finding)));
        if case.verdict == Verdict::Fails && report.kind != Kind::Cost && measured.is_empty() && !case.metrics.is_empty() {
            self.metrics(report, &case.metrics, 6);
        }
    }

    /// The metrics of all cases, a column each.
    fn side_by_side(&mut self, cases: &[Case]) {
        let names: Vec<String> = cases.iter().map(|case| clean(&case.name)).collect();
        let mut rows = vec![row("", &names, None)];
        let widest = cases.iter().max_by_key(|case| case.metrics.len());
        for metric in widest.into_iter().flat_map(|case| &case.metrics) {
            let value = |case: &Case| case.metrics.iter().find(|other| other.name == metric.name).map_or("-".to_owned(), shown);
            rows.push(row(&label(metric), &cases.iter().map(value).collect::<Vec<_>>(), None));
        }
        let width = |n: usize| rows.iter().map(|row| row.get(n).map_or(0, |cell| length(cell))).max().unwrap_or(0);
        let widths: Vec<usize> = (0..cases.len() + 2).map(width).collect();
        rows.iter().for_each(|row| self.line(&aligned(row, &widths)));
    }

    /// A table for each run of metrics with the same columns; where it is too wide, a line for each value.
    fn metrics(&mut self, report: &Report, metrics: &[Metric], indent: usize) {
        for group in metrics.chunk_by(|a, b| a.values.len() == b.values.len()) {
            let values = group.first().map_or(0, |metric| metric.values.len());
            let columns = columns(report, values);
            let mut rows = vec![row("", &columns, None)];
            rows.extend(group.iter().map(|metric| {
                let values: Vec<String> = metric.values.iter().map(estimate).collect();
                row(&label(metric), &values, metric.differs)
            }));
            let widths: Vec<usize> =
                (0..values + 2).map(|n| rows.iter().map(|row| row.get(n).map_or(0, |cell| length(cell))).max().unwrap_or(0)).collect();
            if indent + widths.iter().sum::<usize>() + 2 * widths.len() <= self.width + 2 {
                rows.iter().for_each(|row| self.line(&format!("{}{}", " ".repeat(indent), aligned(row, &widths))));
            } else {
                group.iter().for_each(|metric| self.stacked(&columns, metric, indent));
            }
        }
    }

    fn stacked(&mut self, columns: &[String], metric: &Metric, indent: usize) {
        let differs = if metric.differs == Some(true) { "  differs" } else { "" };
        self.line(&format!("{}{}{differs}", " ".repeat(indent), label(metric)));
        for (column, value) in columns.iter().zip(&metric.values) {
            let lead = " ".repeat(indent + 2);
            let room = self.width.saturating_sub(indent + 6 + length(&estimate(value)));
            let column: String = column.chars().take(room.max(8)).collect();
            self.line(&format!("{lead}{}  {column}", estimate(value)));
        }
    }
}

/// What was measured of one subject.
fn shown(metric: &Metric) -> String {
    metric.values.first().map(estimate).unwrap_or_default()
}

fn label(metric: &Metric) -> String {
    if metric.unit.is_empty() { clean(&metric.name) } else { format!("{} ({})", clean(&metric.name), clean(&metric.unit)) }
}

fn row(label: &str, values: &[String], differs: Option<bool>) -> Vec<String> {
    let differs = if differs == Some(true) { "differs" } else { "" };
    std::iter::once(label).chain(values.iter().map(String::as_str)).chain([differs]).map(str::to_owned).collect()
}

/// The label to the left, the others to the right.
fn aligned(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).enumerate().map(|(n, (cell, width))| {
        let space = " ".repeat(width.saturating_sub(length(cell)));
        if n == 0 { format!("{cell}{space}") } else { format!("{space}{cell}") }
    });
    cells.collect::<Vec<_>>().join("  ")
}

fn length(text: &str) -> usize {
    text.chars().count()
}
