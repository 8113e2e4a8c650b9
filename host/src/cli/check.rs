//! `pointsman check`: what is wrong with manifests, and what to do about it.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use clap::ColorChoice;
use serde::Serialize;

use super::args::{CheckArgs, OutputFormat};
use super::{color, out, setup};
use crate::objects::{Diagnostic, Severity};

/// Exit status 0 when there is no error, 1 when there is one.
///
/// # Errors
/// The check could not be made.
pub fn run(args: CheckArgs, color: ColorChoice) -> anyhow::Result<ExitCode> {
    let (mut core, refused) = setup::offline_core(&args.cluster, &args.policies)?;
    let (objects, mut diagnostics) = core.check();
    diagnostics.extend(refused.into_iter().map(about_policy));
    let report =
        Report { objects, errors: count(&diagnostics, Severity::Error), warnings: count(&diagnostics, Severity::Warning), diagnostics };
    out::print(&match args.output {
        OutputFormat::Json => serde_json::to_string_pretty(&report)? + "\n",
        OutputFormat::Text => report.text(color::wanted(color, &io::stdout())),
    })?;
    Ok(if report.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// Objects without errors.
    objects: usize,
    errors: usize,
    warnings: usize,
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    fn text(&self, color: bool) -> String {
        let mut text = String::new();
        for diagnostic in &self.diagnostics {
            let (severity, summary) = (diagnostic.severity, diagnostic.summary());
            let _ = match (color, severity) {
                (false, _) => writeln!(text, "{severity}: {summary}"),
                (true, Severity::Error) => writeln!(text, "{RED}{severity}{PLAIN}: {summary}"),
                (true, Severity::Warning) => writeln!(text, "{YELLOW}{severity}{PLAIN}: {summary}"),
            };
            if let Some(remedy) = &diagnostic.remedy {
                let _ = writeln!(text, "  help: {remedy}");
            }
        }
        let counted = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let (objects, errors) = (counted(self.objects, "object"), counted(self.errors, "error"));
        let _ = writeln!(text, "{objects}, {errors}, {}", counted(self.warnings, "warning"));
        text
    }
}

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const PLAIN: &str = "\x1b[0m";

fn count(diagnostics: &[Diagnostic], severity: Severity) -> usize {
    diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count()
}

fn about_policy(message: String) -> Diagnostic {
    Diagnostic { severity: Severity::Error, file: None, line: None, column: None, object: None, field: None, message, remedy: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity, remedy: Option<&str>) -> Diagnostic {
        Diagnostic {
            severity,
            file: Some("services/web.yaml".to_owned()),
            line: Some(12),
            column: Some(7),
            object: Some("Service default/web".to_owned()),
            field: Some("spec.ports[1].nodePort".to_owned()),
            message: "8080 is outside 30000-32767".to_owned(),
            remedy: remedy.map(str::to_owned),
        }
    }

    #[test]
    fn a_report_reads_like_a_compilers() {
        let diagnostics = vec![finding(Severity::Error, Some("choose one inside")), finding(Severity::Warning, None)];
        let report = Report { objects: 3, errors: 1, warnings: 1, diagnostics };
        let line = "services/web.yaml:12:7: Service default/web: spec.ports[1].nodePort: 8080 is outside 30000-32767";
        assert_eq!(
            report.text(false),
            format!("error: {line}\n  help: choose one inside\nwarning: {line}\n3 objects, 1 error, 1 warning\n")
        );
        assert!(report.text(true).starts_with("\x1b[1;31merror\x1b[0m: services"));
    }

    #[test]
    fn nothing_wrong_is_said_too() {
        let report = Report { objects: 1, errors: 0, warnings: 0, diagnostics: vec![] };
        assert_eq!(report.text(true), "1 object, 0 errors, 0 warnings\n");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json, serde_json::json!({"objects": 1, "errors": 0, "warnings": 0, "diagnostics": []}));
    }
}
