//! `pointsman policy test`: tests as data.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use regex::Regex;

use super::{Progress, ReportArgs, finish, limits_of, read, report, sandbox};
use crate::cli::args::SandboxArgs;
use crate::policy::contract::StageKind;
use crate::policy::inspect::digest;
use crate::policy::registry::{Registry, RegistryOptions};
use crate::policy::{Runtime, Sandbox};
use crate::workbench::located;
use crate::workbench::project::manifest::{self, Manifest};
use crate::workbench::report::{Kind, Subject as Named};
use crate::workbench::testfile::{self, Subject, TestFile};

/// What `policy test` is told.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  pointsman policy test --policy my-balancer.wasm tests/\n  pointsman policy test --policy maglev tests/maglev.yaml --run moves"
)]
pub struct Args {
    /// Test files, and folders of them (of a project: its `tests/`)
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    paths: Vec<PathBuf>,
    /// The policy under test: a file, or the name of a built-in one [default: the project's]
    #[arg(long, value_name = "FILE|NAME")]
    policy: Option<String>,
    /// It may bring a language runtime along (`run --large-policy NAME`); a project says so itself
    #[arg(long, requires = "policy")]
    large: bool,
    /// Only tests whose name this regular expression finds something in
    #[arg(long, value_name = "RE")]
    run: Option<Regex>,
    /// Instead of the seeds that the tests name
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    output: ReportArgs,
    #[command(flatten)]
    sandbox: SandboxArgs,
}

/// # Errors
/// A file cannot be read or understood; the policy cannot be loaded.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let files = args.paths.iter().map(|path| test_files(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let files: Vec<(PathBuf, TestFile)> = files.into_iter().flatten().map(parsed).collect::<anyhow::Result<_>>()?;
    let (component, runtime) = match &args.policy {
        Some(policy) => (policy.clone(), if args.large { Runtime::Large } else { Runtime::Normal }),
        None => component_of(&args.paths)?,
    };
    let limits = args.sandbox.limits();
    let (name, bytes) = read(&component, &limits_of(runtime, limits.clone()))?;
    let (registry, stage) = registry(sandbox(limits)?, &name, &bytes, runtime)?;
    let wanted = |name: &str| args.run.as_ref().is_none_or(|run| run.is_match(name));
    let tests: Vec<_> = files
        .iter()
        .flat_map(|(path, file)| file.tests.iter().filter(|test| wanted(&test.name)).map(move |test| (path, file, test)))
        .collect();
    if tests.is_empty() {
        bail!("--run {:?} is in no test's name", args.run.as_ref().map_or("", Regex::as_str));
    }
    let seeds: BTreeSet<u64> = tests.iter().map(|(.., test)| testfile::seed(test, args.seed)).collect();
    // One for all, if there is one: else each test names its own.
    let seed = seeds.first().copied().filter(|_| seeds.len() == 1);
    let mut report = report(Kind::Test, vec![Named { name: name.clone(), digest: Some(digest(&bytes)) }], seed);
    let mut progress = Progress::new("tests");
    for (at, (path, file, test)) in tests.iter().enumerate() {
        progress.at(at as u64, tests.len() as u64);
        let seed = testfile::seed(test, args.seed);
        let case = testfile::run(file, test, Subject { name: &name, stage }, &registry, seed);
        let mut case = case.with_context(|| format!("{}: {:?}", path.display(), test.name))?;
        if files.len() > 1 {
            case.name = format!("{}: {}", path.display(), case.name);
        }
        report.cases.push(case);
    }
    drop(progress);
    finish(report, &args.output)
}

/// A registry with the policy under test in force, and its stage.
fn registry(sandbox: Arc<Sandbox>, name: &str, bytes: &[u8], runtime: Runtime) -> anyhow::Result<(Arc<Registry>, StageKind)> {
    let large = if runtime == Runtime::Large { BTreeSet::from([name.to_owned()]) } else { BTreeSet::new() };
    let registry = Registry::new(sandbox, RegistryOptions { large, ..RegistryOptions::default() });
    let built_in = registry.list().into_iter().find(|policy| *policy.name == *name && *policy.digest == digest(bytes));
    let stage = match built_in {
        Some(policy) => policy.stage,
        None => registry.swap(name, bytes).with_context(|| format!("{name} would be refused"))?.stage,
    };
    Ok((registry, stage))
}

/// A file is itself; a folder stands for its `tests/*.yaml`, or for its own `*.yaml` where it has no such folder. A project's manifest is no test.
fn test_files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let inner = path.join("tests");
    let folder = if inner.is_dir() { inner } else { path.to_owned() };
    let shown = folder.display().to_string();
    let entries = std::fs::read_dir(&folder).with_context(|| shown.clone())?;
    let mut files = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().with_context(|| shown.clone())?;
    files.retain(|file| !file.ends_with(manifest::FILE));
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") && file.is_file());
    files.sort();
    if files.is_empty() {
        bail!("{shown} has no test files (*.yaml): write one, as docs/testing.md has it");
    }
    Ok(files)
}

fn parsed(path: PathBuf) -> anyhow::Result<(PathBuf, TestFile)> {
    let text = located::text(&path)?;
    let file = testfile::parse(&path, &text)?;
    Ok((path, file))
}

/// The component of the project in the first folder, and what it needs.
fn component_of(paths: &[PathBuf]) -> anyhow::Result<(String, Runtime)> {
    let mut folders = paths.iter().filter(|path| path.is_dir());
    let Some(folder) = folders.next() else { bail!("which policy? Name it with --policy, or give a project's folder") };
    if let Some(other) = folders.find(|path| path.join(manifest::FILE).is_file()) {
        bail!("{} and {} are two projects: test one at a time, or name the policy with --policy", folder.display(), other.display());
    }
    let manifest = Manifest::read(folder).context("which policy? Name it with --policy, or give a project's folder")?;
    let component = folder.join(format!("{}.wasm", manifest.name));
    if !component.is_file() {
        bail!("{} is not there: build it with `pointsman policy build {}`", component.display(), folder.display());
    }
    Ok((component.display().to_string(), manifest.runtime))
}
