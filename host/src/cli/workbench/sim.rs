//! `pointsman policy sim`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{anyhow, bail};

use super::{CandidateArgs, Progress, ReportArgs, finish, read, sandbox};
use crate::workbench::component::Candidate;
use crate::workbench::located;
use crate::workbench::sim::{Scenario, Wanted, simulate};
use crate::workbench::subject::Subject;

/// What `policy sim` is told.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  pointsman policy sim two-choices -f docs/scenarios/slow-endpoint.yaml --vs round-robin --html report.html"
)]
pub struct Args {
    /// The scenario
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Another policy in the same scenario, with the same luck: a file or a built-in name, without settings; may be repeated
    #[arg(long, value_name = "FILE|NAME")]
    vs: Vec<String>,
    /// How many runs, each with a seed of its own that follows from --seed; a difference is told from 16 on
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    seeds: u32,
    #[command(flatten)]
    output: ReportArgs,
    #[command(flatten)]
    candidate: CandidateArgs,
}

/// # Errors
/// The scenario cannot be read, or a policy cannot be loaded.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let shown = args.file.display();
    let text = located::text(&args.file)?;
    let scenario = match Scenario::read(&args.file, &text) {
        Ok(scenario) => scenario,
        Err(mistakes) => {
            let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            bail!("{shown} is not a scenario\n{}", mistakes.join("\n"));
        }
    };
    let limits = args.candidate.limits();
    let sandbox = sandbox(args.candidate.sandbox.limits())?;
    let load = |component: &str| {
        let (name, bytes) = read(component, &limits)?;
        Candidate::load(&sandbox, &name, &bytes, args.candidate.runtime())
    };
    let candidates =
        std::iter::once(&args.candidate.component).chain(&args.vs).map(|name| load(name)).collect::<anyhow::Result<Vec<_>>>()?;
    let subjects: Vec<_> = candidates.iter().map(Candidate::subject).collect();
    // Settings are the candidate's, also where a swap brings it.
    let settings = &args.candidate.settings;
    let settings_of = |component: &str| if component == args.candidate.component { settings.as_slice() } else { &[] };
    for (component, candidate) in std::iter::once(&args.candidate.component).chain(&args.vs).zip(&candidates) {
        candidate.balancer(settings_of(component), 1, args.candidate.seed)?;
    }
    let mut successors = BTreeMap::new();
    for (n, name) in scenario.swaps() {
        let successor = load(name).and_then(|candidate| {
            candidate.balancer(settings_of(name), 1, args.candidate.seed)?;
            Ok(candidate)
        });
        let remedy = "name a built-in balancer, or a component's file";
        let successor = successor.map_err(|error| {
            let mistake = Scenario::mistake(&args.file, &text, &format!("events[{n}].swap"), format!("{error:#}"), remedy);
            anyhow!("{shown} is not a scenario\n{mistake}")
        })?;
        successors.insert(name.to_owned(), successor);
    }
    let mut factory = |wanted: Wanted<'_>, workers: usize, seed: u64| -> Result<Box<dyn Subject>, String> {
        let balancer = match wanted {
            Wanted::Tried(which) => candidates[which].balancer(if which == 0 { settings } else { &[] }, workers, seed),
            Wanted::Named(name) => match successors.get(name) {
                Some(successor) => successor.balancer(settings_of(name), workers, seed),
                None => Err(anyhow!("{name} was not loaded")),
            },
        };
        balancer.map(|balancer| Box::new(balancer) as Box<dyn Subject>).map_err(|error| format!("{error:#}"))
    };
    let mut progress = Progress::new("runs");
    let report = simulate(&scenario, &subjects, &mut factory, args.seeds, args.candidate.seed, &mut |done, of| progress.at(done, of))?;
    drop(progress);
    finish(report, &args.output)
}
