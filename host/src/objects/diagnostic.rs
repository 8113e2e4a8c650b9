//! How a diagnostic reads.

use std::fmt;
use std::hash::Hash;

use super::model::{Diagnostic, Location, Meta, Severity};

/// `error: services/web.yaml:12:7: Service default/web: spec.ports[1].nodePort: …`, and on a line of its own what to do.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.summary())?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n  help: {remedy}"),
            None => Ok(()),
        }
    }
}

impl Diagnostic {
    /// About a field of an object, at the field's place, or at the object's where the field's is not known. `object` is the object's
    /// name, as `Service default/web`; a `field` of `""` is the object as a whole.
    pub fn about(object: String, meta: &Meta, field: &str, severity: Severity, message: String) -> Self {
        let location = meta.location.as_ref();
        let place = location.and_then(|at| at.fields.iter().find(|place| *place.field == *field));
        Self {
            severity,
            file: location.map(|at| at.file.display().to_string()),
            line: place.map(|place| place.line).or(location.map(|at| at.line)),
            column: place.map(|place| place.column),
            object: Some(object),
            field: Some(field.to_owned()).filter(|field| !field.is_empty()),
            message,
            remedy: None,
        }
    }

    /// Whether both tell of the same mistake: it may have moved within its file, and the advice may have changed. What is about no
    /// object (text that cannot be read) is told from its like by its place alone.
    pub fn same_finding(&self, other: &Self) -> bool {
        self.finding() == other.finding()
    }

    /// What [`Self::same_finding`] compares.
    pub fn finding(&self) -> impl Eq + Hash + '_ {
        let place = self.object.is_none().then_some((self.line, self.column));
        (self.severity, place, &self.file, &self.object, &self.field, &self.message)
    }

    /// The object and the field that it is about, if it is about one.
    pub fn subject(&self) -> Option<(&str, &str)> {
        Some((self.object.as_deref()?, self.field.as_deref()?))
    }

    /// Whether it keeps an object from being applied.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Place, object, field and message on one line: what a log says beside the severity.
    pub fn summary(&self) -> String {
        let mut summary = String::new();
        if let Some(file) = &self.file {
            summary.push_str(file);
            for number in [self.line, self.line.and(self.column)].into_iter().flatten() {
                summary.push_str(&format!(":{number}"));
            }
            summary.push_str(": ");
        }
        for part in [&self.object, &self.field].into_iter().flatten() {
            summary.push_str(part);
            summary.push_str(": ");
        }
        summary.push_str(&self.message);
        summary
    }
}

/// `web.yaml:12`.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}
