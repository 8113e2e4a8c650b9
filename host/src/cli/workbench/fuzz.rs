//! `pointsman policy fuzz`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::{CandidateArgs, Progress, ReportArgs, finish, report};
use crate::cli::values;
use crate::policy::contract::StageKind;
use crate::workbench::fuzz::{Tried, Wanted, fuzz};
use crate::workbench::report::Kind;

/// What `policy fuzz` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  pointsman policy fuzz my-balancer.wasm --time 60s")]
pub struct Args {
    /// How long to look
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::duration)]
    time: Duration,
    /// At most so many inputs: what a run without findings says is then the same every time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    inputs: Option<u64>,
    /// Also where a client is answered otherwise although no endpoint changed
    #[arg(long)]
    affinity: bool,
    #[command(flatten)]
    output: ReportArgs,
    #[command(flatten)]
    candidate: CandidateArgs,
}

/// # Errors
/// The component cannot be loaded.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let candidate = args.candidate.load()?;
    let (settings, seed) = (&args.candidate.settings, args.candidate.seed);
    let made = |policy| {
        anyhow::Ok(match candidate.stage() {
            StageKind::Balancer => Tried::Balancer(Box::new(candidate.balancer(settings, 1, seed)?)),
            StageKind::TrafficPolicy => Tried::TrafficPolicy(Box::new(candidate.traffic_policy(settings, policy)?)),
            StageKind::Selector => Tried::Selector(Box::new(candidate.selector(settings)?)),
        })
    };
    let mut make = |policy| made(policy).map_err(|error| format!("{error:#}"));
    let mut report = report(Kind::Fuzz, vec![candidate.subject()], Some(seed));
    let began = Instant::now();
    let mut progress = Progress::new("seconds");
    let mut keep_going = |tried: u64| {
        progress.at(began.elapsed().as_secs(), args.time.as_secs());
        began.elapsed() < args.time && args.inputs.is_none_or(|inputs| tried < inputs)
    };
    let case = fuzz(&mut make, Wanted { affinity: args.affinity }, seed, &mut keep_going).map_err(|why| anyhow!(why))?;
    drop(progress);
    report.cases.push(case);
    finish(report, &args.output)
}
