//! The page docs/first-balancer.md, run as it is written.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pointsman_tests::engine::binary;
use pointsman_tests::netns::Namespace;

/// What a newcomer may be asked to type.
const MOST_COMMANDS: usize = 10;

/// The blocks marked `sh`.
fn scripts(page: &str) -> Vec<String> {
    let blocks = page.split("```sh\n").skip(1);
    blocks.filter_map(|rest| rest.split_once("```")).map(|(script, _)| script.to_owned()).collect()
}

/// Lines that begin a command: not those of a here-document.
fn commands(script: &str) -> usize {
    let mut inside = false;
    let begins = |line: &&str| {
        let begins = !inside && !line.is_empty();
        inside = if inside { *line != "EOF" } else { line.ends_with("<<'EOF'") };
        begins
    };
    script.lines().filter(begins).count()
}

/// A person looks at what a command started in the background says before typing on: until something listens there.
fn with_waits(script: &str) -> String {
    let wait = |port: &str| format!("for _ in $(seq 100); do (exec 3<>/dev/tcp/{port}) 2>/dev/null && break; sleep 0.1; done\n");
    let line = |line: &str| match line {
        line if line.starts_with("pointsman backend") => format!("{line}\n{}", wait("127.1.0.2/9000")),
        line if line.starts_with("pointsman run") => format!("{line}\n{}", wait("127.97.72.1/8080")),
        line => format!("{line}\n"),
    };
    script.lines().map(line).collect()
}

#[test]
fn the_page_does_what_it_says() -> Result<()> {
    if let Some(reason) = Namespace::unavailable() {
        assert!(std::env::var_os("POINTSMAN_REQUIRE_NETNS").is_none(), "{reason}");
        println!("SKIPPED: {reason}");
        return Ok(());
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().context("the repository")?.to_owned();
    let page = std::fs::read_to_string(root.join("docs/first-balancer.md"))?;
    let scripts = scripts(&page);
    let typed: usize = scripts.iter().map(|script| commands(script)).sum();
    ensure!((5..=MOST_COMMANDS).contains(&typed), "{typed} commands on the page");

    let namespace = Namespace::new("page")?;
    let folder = tempfile::tempdir()?;
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin)?;
    std::os::unix::fs::symlink(binary()?, bin.join("pointsman"))?;
    let path = format!("{}:{}", bin.display(), std::env::var("PATH")?);
    let script = format!("set -euo pipefail\ntrap 'kill $(jobs -p)' EXIT\n{}", with_waits(&scripts.concat()));
    let mut command = namespace.command("timeout");
    command.arg(LONGEST.as_secs().to_string()).args(["bash", "-c", &script]).current_dir(folder.path()).env("PATH", path);
    // There is no network in the namespace: what the build needs has been fetched for the built-in policies.
    let output = command.env("CARGO_NET_OFFLINE", "true").stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{}: {said}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    for promised in
        ["policy test: holds", "policy check: holds", "my-canary.wasm: a balancer in Rust", "is in force", "\"name\":\"canary\""]
    {
        ensure!(said.contains(promised), "the page's commands do not say {promised:?}:\n{said}");
    }
    Ok(())
}

/// A first build takes half a minute on two free cores.
const LONGEST: Duration = Duration::from_secs(400);
