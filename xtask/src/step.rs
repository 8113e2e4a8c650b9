//! Running commands one after the other, and saying at the end what each was and how long it took.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The repository.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Whether a command can be run at all.
pub(crate) fn runs(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// What has been done so far.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration, bool)>,
}

impl Steps {
    /// Runs a command with its output shown; fails when it does.
    pub(crate) fn run(&mut self, title: &str, command: &mut Command) -> Result<()> {
        println!("\n==> {title}");
        let started = Instant::now();
        let status = command.status().with_context(|| format!("starting {command:?}"))?;
        self.done.push((title.to_owned(), started.elapsed(), status.success()));
        if !status.success() {
            bail!("{title}: {command:?} ended with {status}");
        }
        Ok(())
    }

    /// The same, and returns what it wrote to its standard output.
    pub(crate) fn output(&mut self, title: &str, command: &mut Command) -> Result<String> {
        println!("\n==> {title}");
        let started = Instant::now();
        let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("starting {command:?}"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        print!("{said}");
        self.done.push((title.to_owned(), started.elapsed(), output.status.success()));
        if !output.status.success() {
            bail!("{title}: {command:?} ended with {}", output.status);
        }
        Ok(said)
    }

    /// One line a step.
    pub(crate) fn summary(&self) {
        println!();
        for (title, took, succeeded) in &self.done {
            println!("{:>7.1} s  {}  {title}", took.as_secs_f64(), if *succeeded { "ok    " } else { "FAILED" });
        }
        let total: Duration = self.done.iter().map(|(_, took, _)| *took).sum();
        println!("{:>7.1} s  in all", total.as_secs_f64());
    }
}
