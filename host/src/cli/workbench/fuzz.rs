//! `pointsman policy fuzz`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::{CandidateArgs, Progress, ReportArgs, finish, report};
use crate::cli::values;
use crate::workbench::fuzz::{Wanted, fuzz};
use crate::workbench::report::Kind;
use crate::workbench::subject::Subject;

/// What `policy fuzz` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  pointsman policy fuzz my-balancer.wasm --time 60s")]
pub struct Args {
    #[command(flatten)]
    candidate: CandidateArgs,
    /// How long to look
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::duration)]
    time: Duration,
    /// At most so many inputs: what a run without findings says is then the same every time
    #[arg(long, value_name = "N")]
    inputs: Option<u64>,
    /// Also where a client goes elsewhere although no endpoint changed
    #[arg(long)]
    affinity: bool,
    #[command(flatten)]
    output: ReportArgs,
}

/// # Errors
/// The component cannot be loaded, or is no balancer.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let candidate = args.candidate.load()?;
    candidate.balancer(&args.candidate.settings, 1, args.candidate.seed)?;
    let mut make = || match candidate.balancer(&args.candidate.settings, 1, args.candidate.seed) {
        Ok(balancer) => Ok(Box::new(balancer) as Box<dyn Subject>),
        Err(error) => Err(format!("{error:#}")),
    };
    let mut report = report(Kind::Fuzz, vec![candidate.subject()], Some(args.candidate.seed));
    let began = Instant::now();
    let mut progress = Progress::new("seconds");
    let mut keep_going = |tried: u64| {
        progress.at(began.elapsed().as_secs(), args.time.as_secs());
        began.elapsed() < args.time && args.inputs.is_none_or(|inputs| tried < inputs)
    };
    let case = fuzz(&mut make, Wanted { affinity: args.affinity }, args.candidate.seed, &mut keep_going).map_err(|why| anyhow!(why))?;
    drop(progress);
    report.cases.push(case);
    finish(report, &args.output)
}
