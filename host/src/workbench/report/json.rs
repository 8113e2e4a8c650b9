//! The report itself.

use super::Report;

/// Indented, with its fields in the schema's order: what a diff shows is what changed.
pub fn render(report: &Report) -> String {
    // Strings, numbers and lists always serialise; a number that is none is written as null.
    let mut text = serde_json::to_string_pretty(report).unwrap_or_default();
    text.push('\n');
    text
}
