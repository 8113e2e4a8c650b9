//! Rust: cargo for `wasm32-unknown-unknown`, rustup's or Debian's; then the encoder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde::Deserialize;

use super::{Made, ask, encode, on_path};

/// What components are compiled for.
const TARGET: &str = "wasm32-unknown-unknown";

/// A way to compile for [`TARGET`].
struct Toolchain {
    cargo: OsString,
    arguments: &'static [&'static str],
    environment: Vec<(&'static str, OsString)>,
}

pub(super) fn component(folder: &Path) -> anyhow::Result<Made> {
    let toolchain = toolchain(folder)?;
    let mut command = Command::new(&toolchain.cargo);
    command.current_dir(folder).envs(toolchain.environment);
    command.args(["build", "--release", "--lib", "--target", TARGET, "--message-format", "json-render-diagnostics"]);
    command.args(toolchain.arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot run {}", toolchain.cargo.display()))?;
    if !output.status.success() {
        return Ok(Err("cargo could not build it".to_owned()));
    }
    let manifest = folder.join("Cargo.toml").canonicalize()?;
    let Some(module) = module(&String::from_utf8_lossy(&output.stdout), &manifest) else {
        return Ok(Err("cargo built no library for Wasm: Cargo.toml needs `crate-type = [\"cdylib\", \"rlib\"]` under `[lib]`".to_owned()));
    };
    let module = std::fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
    Ok(encode::component(&module))
}

/// What cargo says of what it has made, in part.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// The Wasm module of the package with this manifest, among cargo's messages.
fn module(messages: &str, manifest: &Path) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let mut files = messages.filter(|message| message.reason == "compiler-artifact" && message.manifest_path == manifest);
    files.find_map(|message| message.filenames.into_iter().find(|file| file.extension().is_some_and(|extension| extension == "wasm")))
}

/// The toolchain of the PATH if it has the target, else Debian's, which brings the standard library as source.
fn toolchain(folder: &Path) -> anyhow::Result<Toolchain> {
    let path = |name: &str| std::env::var_os(name.to_uppercase()).unwrap_or_else(|| name.into());
    let (cargo, rustc) = (path("cargo"), path("rustc"));
    if let Some(sysroot) = ask(&rustc, &["--print", "sysroot"], folder)
        && Path::new(&sysroot).join("lib/rustlib").join(TARGET).join("lib").is_dir()
    {
        return Ok(Toolchain { cargo, arguments: &[], environment: Vec::new() });
    }
    if let Some(toolchain) = debian(folder) {
        return Ok(toolchain);
    }
    bail!(
        "there is no Rust here that compiles to WebAssembly. Either command mends that:\n\
         \n    rustup target add {TARGET}\
         \n    apt-get install rustc-web cargo-web rust-web-src lld        (Debian, as root)\n"
    )
}

/// Debian's `rustc-web`, `cargo-web` and `rust-web-src`: cargo builds the standard library too, which is a nightly flag that
/// `RUSTC_BOOTSTRAP` allows. Debian's rustc asks for a linker `rust-lld`; its own is `lld`.
fn debian(folder: &Path) -> Option<Toolchain> {
    let (rustc, cargo) = ("/usr/bin/rustc", "/usr/bin/cargo");
    let sysroot = PathBuf::from(ask(rustc, &["--print", "sysroot"], folder)?);
    if !Path::new(cargo).is_file() || !sysroot.join("lib/rustlib/src/rust/library/Cargo.lock").is_file() {
        return None;
    }
    let linker = ["rust-lld", "wasm-ld"].into_iter().find_map(on_path).or_else(rustups_linker)?;
    let environment =
        vec![("RUSTC", rustc.into()), ("RUSTC_BOOTSTRAP", "1".into()), ("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker.into())];
    Some(Toolchain { cargo: cargo.into(), arguments: &["-Zbuild-std=std,panic_abort"], environment })
}

/// The linker of a toolchain by rustup, which lacks the target.
fn rustups_linker() -> Option<PathBuf> {
    let libraries = ask("rustc", &["--print", "target-libdir"], Path::new("/"))?;
    let linker = Path::new(&libraries).parent()?.join("bin/rust-lld");
    linker.is_file().then_some(linker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_that_of_the_project() {
        let artifact = |manifest: &str, files: &str| {
            format!(r#"{{"reason":"compiler-artifact","manifest_path":"{manifest}","target":{{"kind":["cdylib"]}},"filenames":[{files}]}}"#)
        };
        let messages = [
            artifact("/p/sdk/Cargo.toml", r#""/p/target/sdk.wasm""#),
            artifact("/p/Cargo.toml", r#""/p/target/libp.rlib","/p/target/p.wasm""#),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
            "not JSON".to_owned(),
        ]
        .join("\n");
        assert_eq!(module(&messages, Path::new("/p/Cargo.toml")), Some("/p/target/p.wasm".into()));
        assert_eq!(module(&messages, Path::new("/q/Cargo.toml")), None);
    }
}
