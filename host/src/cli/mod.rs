//! The `pointsman` command: a file for each subcommand, or for a few that belong together. This one only dispatches.

pub mod args;
pub mod backend;
pub mod check;
mod color;
pub mod compile;
mod completions;
mod config;
mod early;
pub mod inspect;
pub mod oci;
mod out;
mod policy;
pub mod project;
mod recordings;
mod route;
mod run;
mod setup;
pub mod shadow;
mod values;
pub mod workbench;

use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;

use args::{Cli, Command, PolicyCommand};

/// Runs the command line. Exit status 0: it holds or ended in order; 1: it does not hold; 2: it could not run.
pub fn main() -> ExitCode {
    let cli = match config::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match cli.command {
        Command::Run(args) => run::run(*args, cli.color).map(done),
        Command::Route(args) => route::run(*args),
        Command::Check(args) => check::run(*args, cli.color),
        Command::Backend(args) => block_on(backend::run(args)).map(done),
        Command::Policy(PolicyCommand::Test(args)) => workbench::test::run(&args),
        Command::Policy(PolicyCommand::Check(args)) => workbench::check::run(&args),
        Command::Policy(PolicyCommand::Cost(args)) => workbench::cost::run(&args),
        Command::Policy(PolicyCommand::Sim(args)) => workbench::sim::run(&args),
        Command::Policy(PolicyCommand::Fuzz(args)) => workbench::fuzz::run(&args),
        Command::Policy(PolicyCommand::New(args)) => project::new(&args),
        Command::Policy(PolicyCommand::Build(args)) => project::build(&args),
        Command::Policy(PolicyCommand::RunTests(args)) => project::run_tests(&args),
        Command::Policy(PolicyCommand::Inspect(args)) => inspect::run(*args, cli.color),
        Command::Policy(PolicyCommand::Swap(args)) => block_on(policy::swap(args)).map(done),
        Command::Policy(PolicyCommand::Rollback(args)) => block_on(policy::rollback(args)).map(done),
        Command::Policy(PolicyCommand::Shadow(args)) => block_on(shadow::run(args)),
        Command::Policy(PolicyCommand::List(args)) => block_on(policy::list(args)).map(done),
        Command::Policy(PolicyCommand::Push(args)) => block_on(oci::push(args)).map(done),
        Command::Policy(PolicyCommand::Pull(args)) => block_on(oci::pull(args)).map(done),
        Command::Policy(PolicyCommand::Replay(args)) => recordings::replay(&args),
        Command::Policy(PolicyCommand::Diff(args)) => recordings::compare(&args),
        Command::Completions { shell } => out::print(&completions::script(shell)).map(done),
        Command::CompilePolicy => compile::run().map(done),
    }
}

/// One thread is enough for a client, and for a server that shows things to people.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let result = runtime.block_on(future);
    // What still runs off the runtime, a component's check at most, does not hold up the end.
    runtime.shutdown_background();
    result
}
