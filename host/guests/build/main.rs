//! Compiles `guest-policies/` to components and embeds them.
//!
//! Two toolchains can do it (see `toolchain`): rustup's with the target `wasm32-unknown-unknown`, or Debian's packages. The
//! environment variable `POINTSMAN_GUEST_TOOLCHAIN` (`rustup` or `debian`) forces one; left alone, the first that is there is used.
//! Nothing is installed from here: a build that changes the machine is nobody's friend.

mod policies;
mod toolchain;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt::Write as _, fs};

use anyhow::{Context, Result, bail};
use policies::{BUILT_IN, Policy, TEST_ONLY};
use wit_component::ComponentEncoder;

fn main() -> Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?);
    let root = manifest.ancestors().nth(2).context("host/guests has lost its repository")?;
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    watch(root)?;

    // Beside `debug` and `release`, so that both use one build, whichever comes first.
    let target = out.ancestors().nth(4).context("OUT_DIR is too short")?.join("guests");
    let modules = compile(root, &target)?;

    let mut source = String::new();
    for (name, doc, policies) in
        [("BUILT_IN", "Built in.", BUILT_IN), ("TEST_ONLY", "For tests: policies that misbehave, and one that asks for WASI.", TEST_ONLY)]
    {
        writeln!(source, "/// {doc}\npub const {name}: &[Component] = &[")?;
        for policy in policies {
            let path = encode(policy, &modules, &out)?;
            let (name, stage) = (policy.name, policy.stage);
            writeln!(source, "    Component {{ name: {name:?}, stage: Stage::{stage}, bytes: include_bytes!({path:?}) }},")?;
        }
        writeln!(source, "];")?;
    }
    fs::write(out.join("components.rs"), source).context("cannot write components.rs")?;
    fs::write(out.join("sdk.rs"), sdk(&root.join("guest-policies/sdk/src"))?).context("cannot write sdk.rs")
}

/// The sources of the SDK, for projects that bring it along.
fn sdk(folder: &Path) -> Result<String> {
    let mut source = String::from("/// The sources of the SDK: paths below `src`, and texts.\npub const SDK: &[(&str, &str)] = &[\n");
    let mut folders = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    for path in files {
        let below = path.strip_prefix(folder)?;
        writeln!(source, "    ({below:?}, include_str!({path:?})),")?;
    }
    source.push_str("];\n");
    Ok(source)
}

/// Runs cargo in the guest workspace; returns the folder with the modules.
fn compile(root: &Path, target: &Path) -> Result<PathBuf> {
    let toolchain = toolchain::choose()?;
    let target = target.join(toolchain.name);
    let mut command = Command::new(&toolchain.cargo);
    command.current_dir(root.join("guest-policies"));
    toolchain.prepare(&mut command);
    command.args(["build", "--release", "--locked", "--target", toolchain::TARGET, "--target-dir"]).arg(&target);
    command.args(toolchain.arguments);
    for policy in BUILT_IN.iter().chain(TEST_ONLY) {
        command.args(["--package", policy.package]);
    }
    let output = command.output().with_context(|| format!("cannot run {}", toolchain.cargo.display()))?;
    if !output.status.success() {
        bail!("the guest policies do not compile with {}:\n{}", toolchain.describe(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(target.join(toolchain::TARGET).join("release"))
}

/// Wraps a module as a component, and checks it.
fn encode(policy: &Policy, modules: &Path, out: &Path) -> Result<PathBuf> {
    let module = modules.join(format!("{}.wasm", policy.package.replace('-', "_")));
    let bytes = fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&bytes)
        .and_then(|mut encoder| encoder.encode())
        .with_context(|| format!("{} is no component of the contract", module.display()))?;
    let path = out.join(format!("{}.wasm", policy.name));
    fs::write(&path, component).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Everything that a component is made of; not `guest-policies/` itself, where a native build leaves its target folder.
fn watch(root: &Path) -> Result<()> {
    println!("cargo::rerun-if-env-changed={}", toolchain::FORCE);
    for path in ["wit", "host/guests/build"] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    let guests = root.join("guest-policies");
    for entry in fs::read_dir(&guests).with_context(|| format!("cannot list {}", guests.display()))? {
        let path = entry?.path();
        if !path.ends_with("target") {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    Ok(())
}
