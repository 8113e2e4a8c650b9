//! A test binary for `wasm32-wasip2`: a command with libtest in it.

use anyhow::bail;
use wasmtime::component::{Component, Linker, Val};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::sync::CommandPre;

use super::world::World;
use super::{Ran, Verdict, failure, plain};
use crate::policy::Sandbox;
use crate::policy::inspect::{CONTRACT_VERSION, PACKAGE};

pub(super) struct Harness<'a> {
    sandbox: &'a Sandbox,
    command: CommandPre<World>,
}

/// What a program calls itself.
const NAME: &str = "tests";

impl<'a> Harness<'a> {
    pub(super) fn new(sandbox: &'a Sandbox, binary: &[u8]) -> wasmtime::Result<Self> {
        let engine = sandbox.engine();
        let component = Component::from_binary(engine, binary)?;
        let mut linker = Linker::new(engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
        contract(&mut linker)?;
        Ok(Self { sandbox, command: CommandPre::new(linker.instantiate_pre(&component)?)? })
    }

    /// The names of the tests that these arguments choose; `None`: it is no harness.
    pub(super) fn list(&self, arguments: &[String]) -> anyhow::Result<Option<Vec<String>>> {
        let arguments = arguments.iter().map(String::as_str).filter(|argument| !matches!(*argument, "-q" | "--quiet"));
        let (ran, stdout) = self.run(&[NAME, "--list"].into_iter().chain(arguments).collect::<Vec<_>>())?;
        if let Verdict::Failed(why) = ran.verdict {
            bail!("its tests cannot be listed: {why}\n{}", ran.output.trim_end());
        }
        Ok(names(&stdout))
    }

    /// Runs one test.
    pub(super) fn test(&self, name: &str, arguments: &[String]) -> anyhow::Result<Ran> {
        // A panic ends the instance, so nothing would show what libtest had captured.
        let mut call = vec![NAME, "--exact", name, "--nocapture", "--test-threads=1"];
        call.extend(arguments.iter().map(String::as_str).filter(|argument| matches!(*argument, "--ignored" | "--include-ignored")));
        let (mut ran, stdout) = self.run(&call)?;
        if matches!(ran.verdict, Verdict::Passed) && stdout.contains("; 1 ignored;") {
            ran.verdict = Verdict::Ignored;
        }
        Ok(ran)
    }

    /// Runs it as a program.
    pub(super) fn program(&self, arguments: &[String]) -> anyhow::Result<Ran> {
        let call: Vec<&str> = [NAME].into_iter().chain(arguments.iter().map(String::as_str)).collect();
        Ok(self.run(&call)?.0)
    }

    /// What became of it, and its standard output as it was.
    fn run(&self, arguments: &[&str]) -> anyhow::Result<(Ran, String)> {
        let limits = self.sandbox.limits();
        let (mut store, output) = World::store(self.sandbox.engine(), limits, arguments).map_err(plain)?;
        let answer = self.command.instantiate(&mut store).and_then(|command| command.wasi_cli_run().call_run(&mut store));
        let verdict = match answer {
            Ok(Ok(())) => Verdict::Passed,
            Ok(Err(())) => Verdict::Failed("it failed".to_owned()),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(0)) => Verdict::Passed,
                Some(I32Exit(status)) => Verdict::Failed(format!("it ended with status {status}")),
                None => Verdict::Failed(failure(&error, limits.planner_fuel)),
            },
        };
        let fuel = limits.planner_fuel.saturating_sub(store.get_fuel().map_err(plain)?);
        let stdout = output.stdout();
        let text = output.stderr() + own(&stdout) + &store.data().log;
        Ok((Ran { verdict, output: text, fuel }, stdout))
    }
}

/// The imports of the contract. A test hands its own loads to a policy, so these have nobody connected.
fn contract(linker: &mut Linker<World>) -> wasmtime::Result<()> {
    let name = |interface: &str| format!("{PACKAGE}/{interface}@{CONTRACT_VERSION}");
    let mut load = linker.instance(&name("load"))?;
    load.func_wrap("active", |_, _: (u32, u32)| Ok((0_u32,)))?;
    load.func_wrap("active-pair", |_, _: (u32, u32, u32)| Ok(((0_u32, 0_u32),)))?;
    linker.instance(&name("log"))?.func_new("log", |mut store, _, words, _| {
        if let [Val::Enum(level), Val::String(line)] = words {
            store.data_mut().log(level, line);
        }
        Ok(())
    })
}

/// The names in what `--list` prints: `name: test`, a line each, then how many there are.
fn names(listing: &str) -> Option<Vec<String>> {
    let last = listing.lines().last()?;
    if !(last.contains("test") && last.contains("benchmark")) {
        return None;
    }
    Some(listing.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

/// What a test wrote, without what libtest writes around it: `test NAME ... ` before, the verdict and a summary after.
fn own(stdout: &str) -> &str {
    let Some((_, from)) = stdout.strip_prefix("\nrunning 1 test\n").and_then(|rest| rest.split_once(" ... ")) else { return stdout };
    let Some((own, _)) = from.rsplit_once("\n\ntest result: ") else { return from };
    ["ok", "ignored", "FAILED"].iter().find_map(|verdict| own.strip_suffix(verdict)).unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_has_the_names_of_the_tests() {
        let listing = "tests::one: test\ntests::two: test\nfast: benchmark\n\n2 tests, 1 benchmark\n";
        assert_eq!(names(listing), Some(vec!["tests::one".to_owned(), "tests::two".to_owned()]));
        assert_eq!(names("0 tests, 0 benchmarks\n"), Some(Vec::new()));
        assert_eq!(names("hello\n"), None);
        assert_eq!(names(""), None);
    }

    #[test]
    fn what_a_test_writes_is_kept() {
        assert_eq!(own("\nrunning 1 test\ntest a ... mine\ntoo\nok\n\ntest result: ok. 1 passed\n\n"), "mine\ntoo\n");
        assert_eq!(own("\nrunning 1 test\ntest a ... ok\n\ntest result: ok. 1 passed\n\n"), "");
        assert_eq!(own("\nrunning 1 test\ntest a ... mine"), "mine", "it was ended");
        assert_eq!(own("a program's"), "a program's");
    }
}
