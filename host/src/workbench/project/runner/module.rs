//! A test binary for `wasm32-unknown-unknown`: a module whose `main` runs all tests, and traps where one fails.

use std::io::Write;

use anyhow::Context;
use wasmtime::{Linker, Module, WasmBacktrace};

use super::world::World;
use super::{UNFIT, failure, plain};
use crate::policy::Sandbox;

pub(super) fn run(sandbox: &Sandbox, binary: &[u8], out: &mut dyn Write) -> anyhow::Result<bool> {
    let engine = sandbox.engine();
    let limits = sandbox.limits();
    let module = Module::from_binary(engine, binary).map_err(plain).context(UNFIT)?;
    let (mut store, _) = World::store(engine, limits, &[]).map_err(plain)?;
    let mut linker = Linker::new(engine);
    // A test hands its own loads to a policy, and its log goes nowhere.
    linker.define_unknown_imports_as_default_values(&mut store, &module).map_err(plain)?;
    writeln!(out, "\nrunning all tests in one instance in the sandbox (`--target wasm32-wasip2` runs and names each)")?;
    let answer = linker.instantiate(&mut store, &module).and_then(|instance| {
        let main = instance.get_typed_func::<(i32, i32), i32>(&mut store, "main")?;
        main.call(&mut store, (0, 0))
    });
    let fuel = limits.planner_fuel.saturating_sub(store.get_fuel().map_err(plain)?);
    let why = match answer {
        Ok(0) => None,
        Ok(status) => Some(format!("ended with status {status}")),
        Err(error) => Some(format!("{}{}", place(&error), failure(&error, limits.planner_fuel))),
    };
    match &why {
        None => writeln!(out, "test result: ok ({fuel} fuel)\n")?,
        Some(why) => writeln!(out, "test result: FAILED. {why} ({fuel} fuel)\n")?,
    }
    Ok(why.is_none())
}

/// The function of the author's that was running: the innermost that is neither Rust's own nor libtest's.
fn place(error: &wasmtime::Error) -> String {
    let frames = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::frames).unwrap_or_default();
    let names = frames.iter().filter_map(|frame| frame.func_name());
    let mut own = names.filter(|name| !FOREIGN.iter().any(|start| name.trim_start_matches('<').starts_with(start)));
    own.next().map(|name| format!("in {name}: ")).unwrap_or_default()
}

/// Where functions come from that are not the author's.
const FOREIGN: [&str; 7] = ["std", "core", "alloc", "test::", "__rust", "rust_", "abort"];
