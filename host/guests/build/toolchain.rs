//! What compiles a guest: rustup's toolchain when it has the Wasm target, else Debian's packages, which bring the standard
//! library as source.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

/// What guests are compiled for.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// The environment variable that forces a toolchain: `rustup` or `debian`.
pub(crate) const FORCE: &str = "POINTSMAN_GUEST_TOOLCHAIN";

/// A way to compile guests.
pub(crate) struct Toolchain {
    /// `rustup` or `debian`.
    pub(crate) name: &'static str,
    /// The cargo to run.
    pub(crate) cargo: PathBuf,
    /// What cargo is told beyond the usual.
    pub(crate) arguments: &'static [&'static str],
    rustc: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

impl Toolchain {
    /// Clears what the outer build says about itself, and says what this one needs.
    pub(crate) fn prepare(&self, command: &mut Command) {
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(is_of_the_outer_build) {
                command.env_remove(name);
            }
        }
        command.env("RUSTC", &self.rustc).envs(self.environment.iter().map(|(name, value)| (name, value)));
    }

    /// For a message.
    pub(crate) fn describe(&self) -> String {
        format!("{} ({} toolchain; {FORCE} chooses)", self.rustc.display(), self.name)
    }
}

/// The forced toolchain, or the first that is there.
pub(crate) fn choose() -> Result<Toolchain> {
    let forced = env::var(FORCE).unwrap_or_default();
    let (found, among) = match forced.as_str() {
        "" => (rustup().or_else(debian), "no toolchain here can"),
        "rustup" => (rustup(), "rustup's toolchain cannot"),
        "debian" => (debian(), "Debian's toolchain cannot"),
        other => bail!("{FORCE} is `{other}`; it may be `rustup` or `debian`"),
    };
    let Some(toolchain) = found else {
        bail!(
            "the policies are compiled to WebAssembly, and {among} do it. Either command mends that:\n\
             \n    rustup target add {TARGET}\
             \n    apt-get install rustc-web cargo-web rust-web-src lld        (Debian, as root)\n"
        );
    };
    Ok(toolchain)
}

/// The toolchain that compiles this build script, if it has the target.
fn rustup() -> Option<Toolchain> {
    let rustc = PathBuf::from(env::var_os("RUSTC")?);
    let library = sysroot(&rustc)?.join("lib/rustlib").join(TARGET).join("lib");
    let cargo = PathBuf::from(env::var_os("CARGO")?);
    library.is_dir().then(|| Toolchain { name: "rustup", cargo, arguments: &[], rustc, environment: Vec::new() })
}

/// Debian's `rustc-web`, `cargo-web` and `rust-web-src`: no compiled library for the target, so cargo builds it too, which is a
/// nightly flag that `RUSTC_BOOTSTRAP` allows. Debian's rustc asks for a linker `rust-lld`; rustup's toolchain has one, and
/// Debian's own is `lld`.
fn debian() -> Option<Toolchain> {
    let (rustc, cargo) = (PathBuf::from("/usr/bin/rustc"), PathBuf::from("/usr/bin/cargo"));
    let sysroot = sysroot(&rustc)?;
    if !cargo.is_file() || !sysroot.join("lib/rustlib/src/rust/library/Cargo.lock").is_file() {
        return None;
    }
    let linker = linker(&sysroot)?;
    Some(Toolchain {
        name: "debian",
        cargo,
        arguments: &["-Zbuild-std=std,panic_abort"],
        rustc,
        environment: vec![("RUSTC_BOOTSTRAP", "1".into()), ("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker.into())],
    })
}

/// A linker for Wasm: of Debian's toolchain, of the one that compiles this script, or on the PATH.
fn linker(sysroot: &Path) -> Option<PathBuf> {
    let host = env::var("HOST").ok()?;
    let outer = env::var_os("RUSTC").map(PathBuf::from).and_then(|rustc| self::sysroot(&rustc));
    let bundled = [Some(sysroot.to_owned()), outer].into_iter().flatten();
    let bundled = bundled.map(|sysroot| sysroot.join("lib/rustlib").join(&host).join("bin/rust-lld"));
    let path = env::var_os("PATH").unwrap_or_default();
    let installed = env::split_paths(&path).flat_map(|folder| ["rust-lld", "wasm-ld"].map(|name| folder.join(name)));
    bundled.chain(installed).find(|linker| linker.is_file())
}

fn sysroot(rustc: &Path) -> Option<PathBuf> {
    let output = Command::new(rustc).args(["--print", "sysroot"]).output().ok()?;
    let sysroot = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim_end());
    (output.status.success() && sysroot.is_dir()).then_some(sysroot)
}

/// Flags, wrappers (clippy's among them), folders and the jobserver of the outer build are not for the inner one. What says
/// where crates come from is for both.
fn is_of_the_outer_build(name: &str) -> bool {
    let shared = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_"];
    let outer = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "MAKEFLAGS", "MFLAGS", "LD_LIBRARY_PATH", "DEP_"];
    let of_the_script = ["TARGET", "HOST", "OUT_DIR", "PROFILE", "OPT_LEVEL", "DEBUG", "NUM_JOBS"];
    !shared.iter().any(|prefix| name.starts_with(prefix))
        && (outer.iter().any(|prefix| name.starts_with(prefix)) || of_the_script.contains(&name))
}
