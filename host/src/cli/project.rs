//! `pointsman policy new|build|run-tests`: policy projects, from an empty folder to a component.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use pointsman_guests::CONTRACT;

use super::args::SandboxArgs;
use super::out::Out;
use crate::policy::compile::Compiler;
use crate::policy::contract::StageKind;
use crate::policy::{Runtime, Sandbox};
use crate::workbench::project::build::{self, Built, Outcome};
use crate::workbench::project::manifest::Language;
use crate::workbench::project::{new, runner};

/// What `policy new` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  pointsman policy new rust my-canary\n  pointsman policy new rust near --stage traffic-policy\n  \
                        pointsman policy new python my-canary")]
pub struct NewArgs {
    /// What it will be written in: rust, c, js or python
    pub language: Language,
    /// The policy's name, and its folder's
    pub name: String,
    /// What it decides: balancer, traffic-policy or selector
    #[arg(long, value_name = "STAGE", default_value = "balancer", value_parser = stage)]
    pub stage: StageKind,
}

/// What `policy build` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  pointsman policy build my-canary && pointsman policy inspect my-canary/my-canary.wasm")]
pub struct BuildArgs {
    /// The project's folder
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
}

/// What `policy run-tests` is told, by cargo.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo test --target wasm32-wasip2        (in a project of `pointsman policy new rust`)")]
pub struct RunTestsArgs {
    /// The test binary: a component for wasm32-wasip2, or a module for wasm32-unknown-unknown
    pub binary: PathBuf,
    /// What the harness is told, as after `cargo test --`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub arguments: Vec<String>,
    /// Each test has the limits of a planner call.
    #[command(flatten)]
    pub sandbox: SandboxArgs,
}

/// Writes a project.
///
/// # Errors
/// It cannot be written; nothing that was there is touched.
pub(super) fn new(args: &NewArgs) -> anyhow::Result<ExitCode> {
    let NewArgs { language, name, stage } = args;
    let folder = Path::new(name);
    let files = new::write(folder, name, *language, *stage)?;
    let mut out = Out(io::stdout().lock());
    writeln!(out, "{name}/: a {} in {language}", stage.name())?;
    for file in files.iter().filter(|file| !file.starts_with("sdk/")) {
        writeln!(out, "  {file}")?;
    }
    let prepare = match language {
        Language::Rust => "cargo test",
        Language::C => "",
        Language::Js => "npm install",
        Language::Python => "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt",
    };
    writeln!(out, "next:\n  cd {name}")?;
    for command in [prepare, "pointsman policy build", "pointsman policy test"].iter().filter(|command| !command.is_empty()) {
        writeln!(out, "  {command}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds a project. Exit status 1: its source does not build.
///
/// # Errors
/// It could not be tried.
pub(super) fn build(args: &BuildArgs) -> anyhow::Result<ExitCode> {
    let Built { manifest, path, bytes } = match build::build(&args.folder)? {
        Outcome::Built(built) => built,
        Outcome::Refused(why) => {
            writeln!(io::stderr(), "error: {why}")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let mut out = Out(io::stdout().lock());
    let path = path.strip_prefix(".").unwrap_or(&path).display();
    writeln!(out, "{path}: a {} in {}, {bytes} bytes", manifest.stage.name(), manifest.language)?;
    if std::fs::read_to_string(args.folder.join("wit/policy.wit")).is_ok_and(|contract| contract != CONTRACT) {
        writeln!(out, "  wit/policy.wit is not this version's: `pointsman policy inspect` says whether a host takes the component")?;
    }
    if manifest.runtime == Runtime::Large {
        writeln!(out, "  it brings a language runtime: its host is started with `--large-policy {}`", manifest.name)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a test binary in the sandbox. Exit status 1: a test failed.
///
/// # Errors
/// It could not be run.
pub(super) fn run_tests(args: &RunTestsArgs) -> anyhow::Result<ExitCode> {
    let binary = std::fs::read(&args.binary).with_context(|| format!("cannot read {}", args.binary.display()))?;
    let sandbox = Sandbox::new(args.sandbox.limits(), Compiler::InProcess)?;
    let passed = runner::run(&sandbox, &binary, &args.arguments, &mut Out(io::stdout().lock()))?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn stage(text: &str) -> Result<StageKind, String> {
    let stages = [StageKind::Balancer, StageKind::TrafficPolicy, StageKind::Selector];
    let found = stages.into_iter().find(|stage| stage.name() == text);
    found.ok_or_else(|| format!("there is no stage {text:?}: choose {}", stages.map(StageKind::name).join(", ")))
}
