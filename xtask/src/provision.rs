//! What a new machine lacks, installed or named.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::step::{Steps, cargo, root, runs};

/// A command that the tests run, the Debian packages that have it.
const PEERS: [(&str, &str); 14] = [
    ("nginx", "nginx-light"),
    ("mariadbd", "mariadb-server"),
    ("mariadb", "mariadb-client"),
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("dnsmasq", "dnsmasq-base"),
    ("dig", "bind9-dnsutils"),
    ("docker-registry", "docker-registry"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("prlimit", "util-linux"),
    // It finds no letters without a font.
    ("chromium", "chromium fonts-dejavu-core"),
];

/// A file that the benchmark needs, the Debian package that has it.
const RIVALS: [(&str, &str); 4] = [
    ("/usr/sbin/nginx", "nginx-light"),
    ("/usr/lib/nginx/modules/ngx_stream_module.so", "libnginx-mod-stream"),
    ("/usr/sbin/haproxy", "haproxy"),
    ("/usr/bin/wrk", "wrk"),
];

/// The target that policies are built for.
const WASM: &str = "wasm32-unknown-unknown";

/// Newer than any package of it, and pinned so that a build of today is a build of tomorrow.
const CARGO_DENY: &str = "0.20.2";

/// The servers and tools that the end-to-end tests use.
pub(crate) fn peers(steps: &mut Steps) -> Result<()> {
    let missing: Vec<&str> =
        PEERS.iter().filter(|(command, _)| !installed(command)).flat_map(|(_, packages)| packages.split(' ')).collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(steps, "the servers and tools that the tests use", &missing)
}

/// The proxies that Pointsman is measured against, and the load generator.
pub(crate) fn bench(steps: &mut Steps) -> Result<()> {
    let missing: Vec<&str> = RIVALS.iter().filter(|(path, _)| !Path::new(path).exists()).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(steps, "the proxies and the load generator of the benchmark", &missing)
}

/// A toolchain that builds policies: rustup's target, else Debian's.
pub(crate) fn wasm_toolchain(steps: &mut Steps) -> Result<()> {
    let listed = Command::new("rustup").args(["target", "list", "--installed"]).current_dir(root()).output();
    let has_target = listed.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line == WASM));
    let has_debian = DEBIAN_WASM.iter().all(|file| Path::new(file).exists());
    if has_target || has_debian {
        return Ok(());
    }
    if steps.run("add the Wasm target", Command::new("rustup").args(["target", "add", WASM]).current_dir(root())).is_ok() {
        return Ok(());
    }
    install(steps, "Debian's Rust for Wasm, as rustup's server is out of reach", &["rustc-web", "cargo-web", "rust-web-src", "lld"])
}

/// `cargo-deny`: the one on the PATH, else one built into `target/tools`.
pub(crate) fn cargo_deny(steps: &mut Steps) -> Result<PathBuf> {
    if runs(Command::new("cargo-deny").arg("--version")) {
        return Ok(PathBuf::from("cargo-deny"));
    }
    let tools = root().join("target/tools");
    let path = tools.join("bin/cargo-deny");
    if !path.exists() {
        let mut install = cargo();
        install.args(["install", "cargo-deny", "--locked", "--version", CARGO_DENY, "--root"]).arg(tools);
        steps.run("install cargo-deny into target/tools (two to four minutes, once)", &mut install)?;
    }
    Ok(path)
}

fn install(steps: &mut Steps, what: &str, packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !nix::unistd::Uid::effective().is_root() || !installed("apt-get") {
        bail!("this needs {what}. On Debian, as root: apt-get install --no-install-recommends {list}");
    }
    steps.run("update the package lists", Command::new("apt-get").args(["-q", "update"]))?;
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "install", "-y", "--no-install-recommends"]).args(packages);
    // The packages of servers start them; nothing here wants a server on its usual port.
    apt.env("RUNLEVEL", "1");
    steps.run(&format!("install {what}: {list}"), &mut apt)
}

fn installed(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(command)).any(|file| file.is_file())
}

/// What Debian's `rustc-web`, `cargo-web` and `rust-web-src` bring.
const DEBIAN_WASM: [&str; 3] = ["/usr/bin/rustc", "/usr/bin/cargo", "/usr/lib/rustlib/src/rust/library/Cargo.lock"];
