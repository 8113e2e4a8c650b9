//! C: clang with Debian's wasi-libc, as a reactor; then the encoder, which adds the types of the contract. Of the C library, what needs no
//! system is there: memory, strings, sorting, arithmetic.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::{Made, ask, encode, on_path, run, world};
use crate::policy::contract::StageKind;

/// Where Debian's wasi-libc has its headers, below the system's root.
const HEADERS: &str = "/usr/include/wasm32-wasi";

/// Versions of clang that are looked for, the newest first, after the one without a number.
const VERSIONS: std::ops::RangeInclusive<u32> = 16..=25;

pub(super) fn component(folder: &Path, stage: StageKind) -> anyhow::Result<Made> {
    let clang = clang(folder)?;
    let output = tempfile::Builder::new().suffix(".wasm").tempfile()?;
    let mut command = Command::new(clang);
    command.current_dir(folder);
    command.args(["--target=wasm32-wasi", "--sysroot=/usr", "-mexec-model=reactor", "-std=c17", "-O2", "-Wall", "-Wextra"]);
    command.arg("-Wl,--strip-all").args(sources(folder)?).arg("-o").arg(output.path());
    if !run(&mut command)? {
        return Ok(Err("clang could not build it".to_owned()));
    }
    let mut module = std::fs::read(output.path())?;
    let contract = folder.join("wit/policy.wit");
    encode::with_types(&mut module, &contract, &world(stage)).with_context(|| format!("cannot use {}", contract.display()))?;
    Ok(encode::component(&module))
}

/// Every C file of the folder and of `bindings/`.
fn sources(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    for part in ["", "bindings"] {
        let listed = folder.join(part);
        let entries = std::fs::read_dir(&listed).with_context(|| format!("cannot list {}", listed.display()))?;
        for entry in entries {
            let name = PathBuf::from(entry?.file_name());
            if name.extension().is_some_and(|extension| extension == "c") {
                sources.push(Path::new(part).join(name));
            }
        }
    }
    sources.sort();
    Ok(sources)
}

/// A clang that has its own runtime for Wasm.
fn clang(folder: &Path) -> anyhow::Result<PathBuf> {
    let names = std::iter::once("clang".to_owned()).chain(VERSIONS.rev().map(|version| format!("clang-{version}")));
    let runtime = |clang: &PathBuf| {
        let file = ask(clang, &["--target=wasm32-wasi", "-print-libgcc-file-name"], folder);
        file.is_some_and(|file| Path::new(&file).is_file())
    };
    match names.filter_map(|name| on_path(&name)).find(runtime) {
        Some(clang) if Path::new(HEADERS).is_dir() => Ok(clang),
        _ => bail!(
            "there is no clang here that compiles to WebAssembly with a C library. On Debian, as root:\n\
             \n    apt-get install clang-19 lld-19 libclang-rt-19-dev-wasm32 wasi-libc\n"
        ),
    }
}
