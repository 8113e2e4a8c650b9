//! `pointsman policy check`: the laws of a class.

use std::process::ExitCode;

use anyhow::bail;

use super::{CandidateArgs, Progress, ReportArgs, finish, report};
use crate::policy::contract::{Setting, StageKind};
use crate::workbench::laws::{self, Bounds, COLLATERAL, Class, Lab, MakeSelector, MakeTrafficPolicy, Promise};
use crate::workbench::report::Kind;
use crate::workbench::subject::Subject;

/// What `policy check` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  pointsman policy check my-balancer.wasm --class consistent-hash\n  pointsman policy check maglev")]
pub struct Args {
    /// What it promises; may be repeated [default: what a built-in policy promises, else all]
    #[arg(long = "class", value_name = "CLASS")]
    classes: Vec<Class>,
    /// The most that an endpoint may get, times the mean, for `bounded-load`
    #[arg(long, value_name = "FACTOR", default_value_t = 1.25)]
    factor: f64,
    /// The most of the clients that a change of one endpoint may move without need, for `consistent-hash` [default: what a built-in policy
    /// promises, else 0.025]
    #[arg(long, value_name = "PART")]
    collateral: Option<f64>,
    #[command(flatten)]
    output: ReportArgs,
    #[command(flatten)]
    candidate: CandidateArgs,
}

/// # Errors
/// The component cannot be loaded.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.factor.is_nan() || args.factor < 1.0 {
        bail!("--factor {}: an endpoint must be allowed its share, which is 1", args.factor);
    }
    if let Some(part) = args.collateral.filter(|part| !(0.0..=1.0).contains(part)) {
        bail!("--collateral {part}: it is a part of the clients, from 0 to 1, such as 0.025");
    }
    let candidate = args.candidate.load()?;
    let subject = candidate.subject();
    let promise = laws::of_built_in(&subject.name).unwrap_or(Promise { classes: &[Class::All], collateral: COLLATERAL });
    let classes = if args.classes.is_empty() { promise.classes.to_vec() } else { args.classes.clone() };
    let stage = candidate.stage();
    if let Some(class) = classes.iter().find(|class| class.stage().is_some_and(|own| own != stage)) {
        let those: Vec<String> = Class::of_stage(stage).map(|class| class.to_string()).collect();
        let (name, stage) = (&subject.name, stage.name());
        bail!("--class {class}: {name} is a {stage}, and the classes of a {stage} are {}", those.join(", "));
    }
    let bounds = Bounds { factor: args.factor, collateral: args.collateral.unwrap_or(promise.collateral) };
    let settings = &args.candidate.settings;
    let mut make = |workers, seed| match candidate.balancer(settings, workers, seed) {
        Ok(balancer) => Ok(Box::new(balancer) as Box<dyn Subject>),
        Err(error) => Err(format!("{error:#}")),
    };
    let mut report = report(Kind::Check, vec![subject], Some(args.candidate.seed));
    let mut lab = Lab::new(&mut make, args.candidate.seed, bounds);
    let mut progress = Progress::new("laws");
    report.cases = match stage {
        StageKind::Balancer => laws::check(&classes, &mut lab, &mut |done, of| progress.at(done as u64, of as u64)),
        StageKind::TrafficPolicy => {
            let make: &mut MakeTrafficPolicy<'_> = &mut |policy| Ok(Box::new(candidate.traffic_policy(settings, policy)?));
            // A law says so where it faults.
            report.plots.extend(laws::by_place(make, &mut lab).into_iter().flatten());
            laws::check_traffic_policy(&classes, make, &mut lab)
        }
        StageKind::Selector => {
            let make: &mut MakeSelector<'_> = &mut |laws| Ok(Box::new(candidate.selector(&over(settings, laws))?));
            report.plots.extend(laws::by_group(make, &mut lab).into_iter().flatten());
            laws::check_selector(&classes, make, &mut lab)
        }
    };
    drop(progress);
    let names: Vec<String> = classes.iter().map(ToString::to_string).collect();
    report.notes.push(format!("classes: {}", names.join(", ")));
    finish(report, &args.output)
}

/// What is set, with what a law sets instead.
fn over(settings: &[Setting], laws: &[Setting]) -> Vec<Setting> {
    let kept = settings.iter().filter(|setting| laws.iter().all(|law| law.key != setting.key));
    kept.chain(laws).cloned().collect()
}
