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
    let names = frames.iter().filter_map(|frame| frame.func_name()).map(demangled);
    let mut own = names.filter(|name| !FOREIGN.iter().any(|start| name.trim_start_matches('<').starts_with(start)));
    own.next().map(|name| format!("in {name}, ")).unwrap_or_default()
}

/// A Rust path, of a symbol in the older of rustc's two manglings (`_ZN`, each part with its length before it, a hash, `E`); any other as
/// it is.
fn demangled(symbol: &str) -> String {
    let Some(mut rest) = symbol.strip_prefix("_ZN") else { return symbol.to_owned() };
    let mut parts = Vec::new();
    while let Some(digits) = rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0) {
        let (length, after) = rest.split_at(digits);
        let Some((part, after)) = length.parse().ok().and_then(|length| after.split_at_checked(length)) else { break };
        parts.push(part);
        rest = after;
    }
    // The last is the hash.
    parts.pop();
    parts.join("::").replace("$LT$", "<").replace("$GT$", ">").replace("..", "::").replace("$u7b$$u7b$", "{").replace("$u7d$$u7d$", "}")
}

/// Where functions come from that are not the author's.
const FOREIGN: [&str; 7] = ["std", "core", "alloc", "test::", "__rust", "rust_", "abort"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_become_paths() {
        assert_eq!(demangled("_ZN1r4more7endless17h6c90c9d4b1e2fb8dE"), "r::more::endless");
        assert_eq!(demangled("_ZN4core3ops8function6FnOnce9call_once17h0123456789abcdefE"), "core::ops::function::FnOnce::call_once");
        assert_eq!(demangled("__rust_start_panic"), "__rust_start_panic");
        assert_eq!(demangled("_ZN99x"), "", "cut off");
    }
}
