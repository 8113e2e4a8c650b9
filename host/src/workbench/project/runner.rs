//! `pointsman policy run-tests`: what cargo runs a test binary for Wasm with, so that an author's `#[test]`s meet the sandbox: its engine,
//! its fuel, its memory, and a world without clock, chance, files or network.
//!
//! A binary for `wasm32-wasip2` is a component that is told by arguments what to do: it lists its tests, and each is run in an instance of
//! its own. A binary for `wasm32-unknown-unknown` cannot be told anything, nor say anything: its tests run in one instance, and the first
//! that fails ends them.

use std::fmt;
use std::io::Write;

use anyhow::Context;

use crate::policy::Sandbox;

mod harness;
mod module;
mod world;

/// Runs a test binary with the arguments of libtest; writes a report as libtest does. False: a test failed.
///
/// # Errors
/// The binary cannot be run, or the report cannot be written.
pub fn run(sandbox: &Sandbox, binary: &[u8], arguments: &[String], out: &mut dyn Write) -> anyhow::Result<bool> {
    if binary.get(..8) == Some(MODULE) {
        return module::run(sandbox, binary, out);
    }
    let harness = harness::Harness::new(sandbox, binary).map_err(plain).context(UNFIT)?;
    let Some(names) = harness.list(arguments)? else {
        let ran = harness.program(arguments)?;
        out.write_all(ran.output.as_bytes())?;
        writeln!(out, "program ... {} ({} fuel)", ran.verdict, ran.fuel)?;
        return Ok(!matches!(ran.verdict, Verdict::Failed(_)));
    };
    report(&harness, &names, arguments, out)
}

const UNFIT: &str = "the test binary does not run in the sandbox";

/// The preamble of a core module.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// Each test in turn.
fn report(harness: &harness::Harness<'_>, names: &[String], arguments: &[String], out: &mut dyn Write) -> anyhow::Result<bool> {
    writeln!(out, "\nrunning {} {} in the sandbox", names.len(), if names.len() == 1 { "test" } else { "tests" })?;
    let (mut passed, mut ignored, mut failures) = (0, 0, Vec::new());
    for name in names {
        let ran = harness.test(name, arguments)?;
        writeln!(out, "test {name} ... {} ({} fuel)", ran.verdict.word(), ran.fuel)?;
        if arguments.iter().any(|argument| argument == "--nocapture" || argument == "--no-capture") {
            out.write_all(ran.output.as_bytes())?;
        }
        match ran.verdict {
            Verdict::Passed => passed += 1,
            Verdict::Ignored => ignored += 1,
            Verdict::Failed(why) => failures.push((name, why, ran.output)),
        }
    }
    for (name, why, output) in &failures {
        writeln!(out, "\n---- {name}: {why}\n{}", output.trim_end())?;
    }
    let verdict = if failures.is_empty() { "ok" } else { "FAILED" };
    writeln!(out, "\ntest result: {verdict}. {passed} passed; {} failed; {ignored} ignored\n", failures.len())?;
    Ok(failures.is_empty())
}

/// What became of an instance.
struct Ran {
    verdict: Verdict,
    /// What it wrote.
    output: String,
    fuel: u64,
}

/// How a test ended.
enum Verdict {
    Passed,
    Ignored,
    Failed(String),
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Ignored => "ignored",
            Self::Failed(_) => "FAILED",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) => write!(f, "{}: {why}", self.word()),
            _ => f.write_str(self.word()),
        }
    }
}

/// Wasmtime's errors are a kind of their own.
fn plain(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

/// How a call failed, for the author.
fn failure(error: &wasmtime::Error, fuel: u64) -> String {
    match error.downcast_ref::<wasmtime::Trap>() {
        Some(wasmtime::Trap::OutOfFuel) => {
            format!("it used up its fuel of {fuel}: do less, or give the runner `--policy-planner-fuel N` in .cargo/config.toml")
        }
        Some(wasmtime::Trap::UnreachableCodeReached) => "it panicked".to_owned(),
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    }
}
