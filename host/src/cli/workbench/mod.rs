//! The workbench's commands: what they have in common. Each writes one report, and ends with 0 where all of it holds, with 1 where something
//! does not, with 2 where it could not run.

pub mod check;
pub mod cost;
pub mod fuzz;
pub mod sim;
pub mod test;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::ValueEnum;

use super::args::SandboxArgs;
use super::{inspect, out, values};
use crate::policy::compile::Compiler;
use crate::policy::contract::Setting;
use crate::policy::{Limits, Runtime, Sandbox};
use crate::workbench::component::Candidate;
use crate::workbench::report::{self, Kind, Report, SCHEMA, Subject, Verdict};

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// The whole report
    Json,
    /// For CI servers
    Junit,
}

/// Where the report goes.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// How the report is written to standard output
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
    /// Write it as one HTML page too, with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// The policy that is tried.
#[derive(Debug, clap::Args)]
pub struct CandidateArgs {
    /// A file, or the name of a built-in policy
    #[arg(value_name = "FILE|NAME")]
    pub component: String,
    /// What a Service's annotations would say to it (`pointsman.dev/balancer.KEY: VALUE`); may be repeated
    #[arg(long = "setting", value_name = "KEY=VALUE", value_parser = values::setting)]
    pub settings: Vec<Setting>,
    /// It may bring a language runtime along (`run --large-policy NAME`)
    #[arg(long)]
    pub large: bool,
    /// What everything that is drawn is drawn from: the same seed gives the same report
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// The limits of the host that it is meant for. Last, and so are these arguments of a command: what follows would stand below their heading.
    #[command(flatten)]
    pub sandbox: SandboxArgs,
}

impl CandidateArgs {
    /// Loads it.
    fn load(&self) -> anyhow::Result<Candidate> {
        let (name, bytes) = read(&self.component, &self.limits())?;
        Candidate::load(&sandbox(self.sandbox.limits())?, &name, &bytes, self.runtime())
    }

    fn runtime(&self) -> Runtime {
        if self.large { Runtime::Large } else { Runtime::Normal }
    }

    /// Those that hold for it.
    fn limits(&self) -> Limits {
        limits_of(self.runtime(), self.sandbox.limits())
    }
}

fn limits_of(runtime: Runtime, limits: Limits) -> Limits {
    if runtime == Runtime::Large { limits.large() } else { limits }
}

/// The sandbox that candidates run in; compiling happens in a child, as in an engine.
fn sandbox(limits: Limits) -> anyhow::Result<Arc<Sandbox>> {
    Ok(Sandbox::new(limits, Compiler::of_this_program())?)
}

/// The policy's name and its bytes.
fn read(component: &str, limits: &Limits) -> anyhow::Result<(String, Vec<u8>)> {
    let (name, bytes) = inspect::read(component, limits)?;
    Ok((name, bytes?))
}

/// Columns of a report's text: the same wherever it is written.
const WIDTH: usize = 120;

/// An empty report, whose verdict follows from its cases in `finish`.
fn report(kind: Kind, subjects: Vec<Subject>, seed: Option<u64>) -> Report {
    Report {
        schema: SCHEMA.to_owned(),
        kind,
        subjects,
        seed,
        verdict: Verdict::Holds,
        cases: Vec::new(),
        metrics: Vec::new(),
        plots: Vec::new(),
        notes: Vec::new(),
    }
}

/// Judges the report by its cases, writes it, and says how the command ends.
pub(super) fn finish(mut report: Report, args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let fails = report.verdict == Verdict::Fails || report.cases.iter().any(|case| case.verdict == Verdict::Fails);
    report.verdict = if fails { Verdict::Fails } else { Verdict::Holds };
    let text = match args.format {
        Format::Text => report::text::render(&report, WIDTH),
        Format::Json => report::json::render(&report),
        Format::Junit => report::junit::render(&report),
    };
    // First, so that a file that cannot be written does not take the report with it.
    out::print(&text)?;
    if let Some(file) = &args.html {
        std::fs::write(file, report::html::render(&report)).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Says on a terminal how far a long work is.
pub(super) struct Progress {
    what: &'static str,
    shown: bool,
    /// What was shown last.
    last: Option<u64>,
}

impl Progress {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, shown: io::stderr().is_terminal(), last: None }
    }

    pub(super) fn at(&mut self, done: u64, of: u64) {
        if self.shown && self.last.replace(done) != Some(done) {
            // Nothing is lost when it cannot be shown.
            let _ = write!(io::stderr(), "\r\x1b[K{} {done} of {of}", self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
