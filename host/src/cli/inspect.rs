//! `pointsman policy inspect`: what a component is, and whether it is fit to serve. The checks are the engine's own, self-test included.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::ColorChoice;
use pointsman_guests::BUILT_IN;
use serde::Serialize;

use super::args::{OutputFormat, SandboxArgs};
use super::{color, out};
use crate::policy::compile::Compiler;
use crate::policy::inspect::{Inspection, Measure, check_size, inspect};
use crate::policy::registry::try_out;
use crate::policy::{Cost, Grants, Limits, Refusal, Runtime, Sandbox};

/// Show what a component is, what it needs, and whether it is fit to serve.
///
/// Measures the component before it is compiled, compiles it as the engine would, and puts it through the engine's self-test. Ends with 0 if
/// it is fit, with 1 if it would be refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  pointsman policy inspect my-balancer.wasm\n  pointsman policy inspect round-robin -o json")]
pub struct Args {
    /// A file, or the name of a built-in policy
    #[arg(value_name = "FILE|NAME")]
    pub component: String,
    /// Judge it as if it were granted WASI (`run --grant-wasi NAME`)
    #[arg(long)]
    pub grant_wasi: bool,
    /// Judge it as one that brings a language runtime along (`run --large-policy NAME`)
    #[arg(long)]
    pub large: bool,
    /// How the report is written
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
    /// The limits that it is judged by: those of the host that it is meant for.
    #[command(flatten)]
    pub sandbox: SandboxArgs,
}

/// Exit status 0 when the component is fit to serve, 1 when it would be refused.
///
/// # Errors
/// The component cannot be read.
pub fn run(args: Args, color: ColorChoice) -> anyhow::Result<ExitCode> {
    let normal = args.sandbox.limits();
    let grants = Grants { wasi: args.grant_wasi, runtime: if args.large { Runtime::Large } else { Runtime::Normal } };
    let limits = if args.large { normal.large() } else { normal.clone() };
    let (name, bytes) = read(&args.component, &limits)?;
    let report = bytes.map_or_else(|refusal| Report::refused(&name, &refusal), |bytes| Report::new(&name, &bytes, &normal, grants));
    let text = match args.output {
        OutputFormat::Json => serde_json::to_string_pretty(&report)? + "\n",
        OutputFormat::Text => report.text(color::wanted(color, &io::stdout())),
    };
    out::print(&text)?;
    Ok(if report.refused.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The policy's name and its bytes, unless there are too many to look at.
pub(super) fn read(component: &str, limits: &Limits) -> anyhow::Result<(String, Result<Vec<u8>, Refusal>)> {
    if let Some(built_in) = BUILT_IN.iter().find(|built_in| built_in.name == component) {
        return Ok((component.to_owned(), Ok(built_in.bytes.to_vec())));
    }
    let path = Path::new(component);
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let names: Vec<&str> = BUILT_IN.iter().map(|built_in| built_in.name).collect();
            bail!("{component} is neither a file nor a built-in policy ({})", names.join(", "));
        }
        Err(error) => return Err(error).context(component.to_owned()),
    };
    if let Err(refusal) = check_size(file.metadata().context(component.to_owned())?.len(), limits) {
        return Ok((name, Err(refusal)));
    }
    let mut bytes = Vec::new();
    file.take(limits.component_bytes as u64 + 1).read_to_end(&mut bytes).context(component.to_owned())?;
    Ok((name, Ok(bytes)))
}

fn red(text: &str, colored: bool) -> String {
    if colored { format!("\x1b[31m{text}\x1b[0m") } else { text.to_owned() }
}

/// What is said of a component.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    name: String,
    stage: Option<&'static str>,
    version: Option<String>,
    summary: Option<String>,
    learns: bool,
    #[serde(flatten)]
    inspection: Option<Inspection>,
    /// Each measured value beside its limit.
    limits: Vec<Row>,
    cost: Option<Cost>,
    /// Why it would be refused.
    refused: Option<String>,
}

/// A measured value beside its limit.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    #[serde(flatten)]
    measure: Measure,
    /// The limit of policies that were granted nothing, where the value is over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    over_normal: Option<u64>,
}

impl Row {
    fn new(measure: Measure, normal: u64) -> Self {
        Self { over_normal: (measure.limit > normal && measure.measured > normal).then_some(normal), measure }
    }
}

impl Report {
    fn refused(name: &str, refusal: &Refusal) -> Self {
        Self {
            name: name.to_owned(),
            stage: None,
            version: None,
            summary: None,
            learns: false,
            inspection: None,
            limits: Vec::new(),
            cost: None,
            refused: Some(refusal.to_string()),
        }
    }

    fn new(name: &str, bytes: &[u8], normal: &Limits, grants: Grants) -> Self {
        let limits = if grants.runtime == Runtime::Large { normal.large() } else { normal.clone() };
        let inspection = match inspect(bytes, &limits) {
            Ok(inspection) => inspection,
            Err(refusal) => return Self::refused(name, &refusal),
        };
        let mut report = Self { refused: None, ..Self::refused(name, &Refusal::CoreModule) };
        let measures = inspection.measures(&limits).into_iter().zip(inspection.measures(normal));
        report.limits.extend(measures.map(|(measure, normal)| Row::new(measure, normal.limit)));
        let shape = inspection.shape(&limits, grants.wasi);
        report.inspection = Some(inspection);
        if let Ok(shape) = shape {
            report.stage = Some(shape.stage.name());
            report.learns = shape.learns;
        }
        let tried = shape.and_then(|_| {
            let sandbox = Sandbox::new(normal.clone(), Compiler::of_this_program())?;
            try_out(&sandbox, name, bytes, grants)
        });
        match tried {
            Ok((policy, cost)) => {
                let description = policy.description();
                report.version = Some(description.version.clone());
                report.summary = Some(description.summary.clone());
                let fuel = Measure { what: "most fuel of a decision", measured: cost.fuel_max, limit: limits.hot_fuel };
                let (measured, limit) = (cost.memory_peak_bytes, limits.memory_bytes as u64);
                let memory = Measure { what: "most memory in bytes", measured, limit };
                report.limits.extend([Row::new(fuel, normal.hot_fuel), Row::new(memory, normal.memory_bytes as u64)]);
                report.cost = Some(cost);
            }
            Err(refusal) => report.refused = Some(refusal.to_string()),
        }
        report
    }

    fn text(&self, colored: bool) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: &str| {
            let _ = writeln!(text, "{key:<10} {value}");
        };
        line("policy", &self.name);
        let learns = if self.learns { ", told what became of its picks" } else { "" };
        self.stage.into_iter().for_each(|stage| line("stage", &format!("{stage}{learns}")));
        self.version.iter().for_each(|version| line("version", version));
        self.summary.iter().for_each(|summary| line("summary", summary));
        if let Some(inspection) = &self.inspection {
            line("digest", &inspection.digest);
            line("exports", &inspection.exports.join("\n           "));
            line("imports", &if inspection.imports.is_empty() { "none".into() } else { inspection.imports.join("\n           ") });
        }
        if let Some(cost) = &self.cost {
            let Cost { decisions, fuel_p50, fuel_p99, .. } = cost;
            line("self-test", &format!("{decisions} decisions; fuel: half below {fuel_p50}, 99 % below {fuel_p99}"));
        }
        if !self.limits.is_empty() {
            let _ = writeln!(text, "{:<34} {:>12} {:>12}", "measured", "value", "limit");
        }
        for Row { measure: Measure { what, measured, limit }, over_normal } in &self.limits {
            let over = if measured > limit { "  over" } else { "" };
            let beside = over_normal.map(|normal| red(&format!("  over the normal {normal}"), colored)).unwrap_or_default();
            let _ = writeln!(text, "  {what:<32} {measured:>12} {limit:>12}{over}{beside}");
        }
        let _ = match &self.refused {
            None => writeln!(text, "fit to serve"),
            Some(why) => writeln!(text, "would be refused: {why}"),
        };
        text
    }
}
