//! `cargo xtask …`: everything that is done with this repository, as commands that need nothing but Rust to begin with.

mod bench;
mod demo;
mod laws;
mod lint;
mod plots;
mod provision;
mod step;
mod test;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::step::Steps;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let mut steps = Steps::default();
    let done = match arguments.split_first().map(|(command, rest)| (command.as_str(), rest)) {
        Some(("demo", [])) => return demo::run(),
        Some(("test", filters)) => test::run(&mut steps, filters),
        Some(("bench", [])) => bench::run(&mut steps, None),
        Some(("bench", [which])) if bench::NAMES.contains(&which.as_str()) => bench::run(&mut steps, Some(which)),
        Some(("laws", [])) => laws::run(&mut steps),
        Some(("plots", [])) => plots::run(&mut steps),
        Some(("lint", [])) => lint::run(&mut steps),
        Some(("ci", [])) => lint::run(&mut steps).and_then(|()| test::run(&mut steps, &[])),
        None | Some(("help" | "--help" | "-h", _)) => {
            println!("{USAGE}");
            return Ok(());
        }
        Some((command, _)) => bail!("`cargo xtask {command}` does not exist, or not with these arguments.\n\n{USAGE}"),
    };
    steps.summary();
    done
}

const USAGE: &str = "\
cargo xtask demo             build, then watch Pointsman route: no privileges, no cluster, half a minute
cargo xtask test [FILTER…]   install what the tests need, build, run all of them (or those whose names match)
cargo xtask lint             formatting, clippy, documentation, licences and sources; warnings are errors
cargo xtask ci               lint, then test
cargo xtask laws             published tables, and the laws of every built-in balancer, with the numbers
cargo xtask plots            draw the plots of docs/policies anew
cargo xtask bench [NAME]     connections: new ones a second beside HAProxy and nginx, in turns, with the ratio
                             services: 10,000 of them, from files to listeners; and one endpoint that changes
                             storm: 1,000 changes a second for a minute, under load
                             workbench: 1,000,000 recorded answers replayed, a rolling restart simulated 32 times";
