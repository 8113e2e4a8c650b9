//! Manifests in, objects and diagnostics out.
#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod hostile;
mod manifests;
mod mistakes;
mod options;
mod places;
mod pods;
mod reviews;
mod services;
mod slices;
mod updates;
mod values;
mod write;

use std::path::Path;

use super::*;

pub(super) fn parsed(text: &str) -> Parsed {
    parse(Path::new("a.yaml"), text)
}

/// The one object of a text without mistakes.
pub(super) fn object(text: &str) -> Object {
    let mut parsed = parsed(text);
    assert_eq!(shown(&parsed.diagnostics), [""; 0], "{text}");
    assert_eq!(parsed.objects.len(), 1, "{text}");
    parsed.objects.remove(0)
}

/// A Service `web` with this under `spec`, indented by two.
pub(super) fn service_text(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n{spec}")
}

/// Diagnostics without the file's name and the object.
pub(super) fn shown(diagnostics: &[Diagnostic]) -> Vec<String> {
    let text = |diagnostic: &Diagnostic| {
        let mut diagnostic = diagnostic.clone();
        diagnostic.file = diagnostic.file.map(|_| "a".to_owned());
        diagnostic.object = None;
        diagnostic.to_string()
    };
    diagnostics.iter().map(text).collect()
}

/// `spec.type: what is wrong`, with `warning: ` before warnings; the remedies and places are other tests' business.
pub(super) fn findings(text: &str) -> Vec<String> {
    let parsed = parsed(text);
    let wrong = parsed.diagnostics.iter().any(Diagnostic::is_error);
    assert_eq!(parsed.objects.is_empty(), wrong, "an object with errors is not applied, one with warnings is:\n{text}");
    let finding = |diagnostic: &Diagnostic| {
        let severity = if diagnostic.is_error() { "" } else { "warning: " };
        format!("{severity}{}: {}", diagnostic.field.as_deref().unwrap_or_default(), diagnostic.message)
    };
    parsed.diagnostics.iter().map(finding).collect()
}

/// Every text of a table is told exactly this.
#[track_caller]
pub(super) fn check(table: &[(&str, &[&str])], text: impl Fn(&str) -> String) {
    for (given, expected) in table {
        assert_eq!(findings(&text(given)), *expected, "{given}");
    }
}
