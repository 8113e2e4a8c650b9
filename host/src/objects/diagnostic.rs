//! How a diagnostic reads.

use std::fmt;

use super::model::{Diagnostic, Severity};

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

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}
