//! For CI systems: JUnit XML, in the form that Jenkins, GitLab and GitHub's reporters read
//! (<https://github.com/testmoapp/junitxml>). A case is a test; metrics are properties, of the suite or of their case.

use super::shown::{command, estimate};
use super::{Case, Metric, Report, Verdict};

/// A `testsuites` document with one suite.
pub fn render(report: &Report) -> String {
    let count = |verdict| report.cases.iter().filter(|case| case.verdict == verdict).count();
    let counts =
        format!(r#"tests="{}" failures="{}" errors="0" skipped="{}""#, report.cases.len(), count(Verdict::Fails), count(Verdict::Skipped));
    let subjects: Vec<&str> = report.subjects.iter().map(|subject| subject.name.as_str()).collect();
    let class = escaped(&subjects.join(" vs "));
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    out.push_str(&format!("<testsuites {counts}>\n  <testsuite name=\"{}\" {counts}>\n", command(report.kind)));
    properties(&mut out, report);
    report.cases.iter().for_each(|case| test_case(&mut out, case, &class));
    if !report.notes.is_empty() {
        out.push_str(&format!("    <system-out>{}</system-out>\n", escaped(&report.notes.join("\n"))));
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

fn properties(out: &mut String, report: &Report) {
    let seed = report.seed.map(|seed| ("seed".to_owned(), seed.to_string()));
    let subjects = report
        .subjects
        .iter()
        .map(|subject| ("subject".to_owned(), format!("{} {}", subject.name, subject.digest.as_deref().unwrap_or(""))));
    let metrics = report.metrics.iter().map(property);
    listed(out, "    ", &seed.into_iter().chain(subjects).chain(metrics).collect::<Vec<_>>());
}

fn listed(out: &mut String, indent: &str, properties: &[(String, String)]) {
    if properties.is_empty() {
        return;
    }
    out.push_str(&format!("{indent}<properties>\n"));
    for (name, value) in properties {
        out.push_str(&format!("{indent}  <property name=\"{}\" value=\"{}\"/>\n", escaped(name), escaped(value.trim_end())));
    }
    out.push_str(&format!("{indent}</properties>\n"));
}

fn property(metric: &Metric) -> (String, String) {
    let values: Vec<String> = metric.values.iter().map(estimate).collect();
    let unit = if metric.unit.is_empty() { String::new() } else { format!(" {}", metric.unit) };
    let differs = if metric.differs == Some(true) { " (differs)" } else { "" };
    (metric.name.clone(), format!("{}{unit}{differs}", values.join(" vs ")))
}

fn test_case(out: &mut String, case: &Case, class: &str) {
    let findings = case.findings.join("\n");
    let first = escaped(case.findings.first().map_or("", String::as_str));
    let mut inner = String::new();
    listed(&mut inner, "      ", &case.metrics.iter().map(property).collect::<Vec<_>>());
    inner.push_str(&match case.verdict {
        Verdict::Fails => format!("      <failure message=\"{first}\">{}</failure>\n", escaped(&findings)),
        Verdict::Skipped => format!("      <skipped message=\"{first}\"/>\n"),
        Verdict::Holds if findings.is_empty() => String::new(),
        Verdict::Holds => format!("      <system-out>{}</system-out>\n", escaped(&findings)),
    });
    out.push_str(&format!("    <testcase name=\"{}\" classname=\"{class}\"", escaped(&case.name)));
    out.push_str(&if inner.is_empty() { "/>\n".to_owned() } else { format!(">\n{inner}    </testcase>\n") });
}

/// Text, or an attribute's value. Characters that XML 1.0 has no place for are replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
