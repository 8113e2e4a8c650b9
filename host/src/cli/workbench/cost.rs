//! `pointsman policy cost`.

use std::process::ExitCode;

use clap::value_parser;

use super::{CandidateArgs, ReportArgs, finish, report};
use crate::workbench::cost::{Budget, measure};
use crate::workbench::report::Kind;

/// What `policy cost` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  pointsman policy cost maglev\n  pointsman policy cost my.wasm --endpoints 10,1000 --max-fuel 500")]
pub struct Args {
    /// Numbers of endpoints, up to 100,000
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "10,100,1000,10000", value_parser = value_parser!(u32).range(1..=100_000))]
    endpoints: Vec<u32>,
    /// Budget: fuel of a decision [default: the host's limit]
    #[arg(long, value_name = "UNITS")]
    max_fuel: Option<u64>,
    /// Budget: fuel of a plan [default: the host's limit]
    #[arg(long, value_name = "UNITS")]
    max_plan_fuel: Option<u64>,
    /// Leave out times, so that the report is the same in every run
    #[arg(long)]
    no_times: bool,
    #[command(flatten)]
    output: ReportArgs,
    #[command(flatten)]
    candidate: CandidateArgs,
}

/// # Errors
/// The component cannot be loaded.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let candidate = args.candidate.load()?;
    let mut budget = Budget::of(&args.candidate.limits());
    budget.decision = args.max_fuel.unwrap_or(budget.decision);
    budget.plan = args.max_plan_fuel.unwrap_or(budget.plan);
    let mut report = report(Kind::Cost, vec![candidate.subject()], Some(args.candidate.seed));
    let seed = args.candidate.seed;
    let sizes: Vec<usize> = args.endpoints.iter().map(|size| *size as usize).collect();
    let (cases, plot) = measure(&candidate, &args.candidate.settings, &sizes, budget, seed, !args.no_times)?;
    report.cases = cases;
    report.plots.push(plot);
    finish(report, &args.output)
}
