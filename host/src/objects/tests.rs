//! Manifests in, objects and diagnostics out.
#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod hostile;
mod mistakes;
mod places;
mod reviews;
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
