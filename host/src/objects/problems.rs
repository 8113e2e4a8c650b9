//! Collects what is wrong with one object, and says where.

use std::fmt::Display;

use super::model::{Diagnostic, Severity};
use super::tree::{Field, Mark, Node};
use super::typed::Finding;

/// Where an object stands, and what was found wrong with it.
pub(super) struct Problems<'a> {
    file: &'a str,
    lines_before: u32,
    /// `Service default/web`.
    object: Option<String>,
    found: Vec<Diagnostic>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(file: &'a str, lines_before: u32) -> Self {
        Self { file, lines_before, object: None, found: Vec::new() }
    }

    /// Names the object that what follows is about.
    pub(super) fn about(&mut self, object: String) {
        self.object = Some(object);
    }

    pub(super) fn report(&mut self, severity: Severity, finding: Finding) {
        self.found.push(Diagnostic {
            severity,
            file: Some(self.file.to_owned()),
            line: finding.mark.map(|mark| mark.line + self.lines_before),
            column: finding.mark.map(|mark| mark.column),
            object: self.object.clone(),
            field: Some(finding.field).filter(|field| !field.is_empty()),
            message: finding.message,
            remedy: finding.remedy,
        });
    }

    pub(super) fn has_errors(&self) -> bool {
        self.found.iter().any(Diagnostic::is_error)
    }

    /// What was found, in the order of the file.
    pub(super) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        self.found
    }
}

/// Problems that one object reports: whoever has so many sees the pattern, and finding each one's place takes time.
pub(super) const MAX_PROBLEMS: usize = 100;

/// The tree an object was read from, and the problems with it: what the validators of each kind are given.
pub(super) struct Checks<'a, 'p> {
    pub(super) root: &'a Node,
    pub(super) problems: &'a mut Problems<'p>,
}

impl Checks<'_, '_> {
    /// An error, unless the field was refused before.
    pub(super) fn error(&mut self, field: &Field<'_>, message: impl Display, remedy: impl Into<Option<String>>) {
        self.add(Severity::Error, field, message.to_string(), remedy.into());
    }

    /// A warning, unless the field was refused before.
    pub(super) fn warning(&mut self, field: &Field<'_>, message: impl Display, remedy: impl Into<Option<String>>) {
        self.add(Severity::Warning, field, message.to_string(), remedy.into());
    }

    /// The value, or an error that names the field.
    pub(super) fn accept<T>(&mut self, field: &Field<'_>, result: Result<T, String>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(message) => {
                self.error(field, message, None);
                None
            }
        }
    }

    fn add(&mut self, severity: Severity, field: &Field<'_>, message: String, remedy: Option<String>) {
        if self.problems.found.len() >= MAX_PROBLEMS {
            return;
        }
        let Some(mark) = self.root.locate(field) else { return };
        let mark = Some(mark).filter(|mark| *mark != Mark::default());
        self.problems.report(severity, Finding { mark, field: field.to_string(), message, remedy });
    }
}
