//! Policy projects: in each language, from `policy new` to a component that a host takes.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pointsman_tests::Manifests;
use pointsman_tests::engine::{binary, pointsman};
use pointsman_tests::manifest::{Pod, Service};
use pointsman_tests::process::run;
use serde_json::Value;
use tempfile::TempDir;

/// Where `.ci/run` installs componentize-js and componentize-py, and where Rust projects share what they compile.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/policy-tools")
}

/// A toolchain may be missing, except where all are required.
fn skipped(what: &str) -> bool {
    let reason = format!("skipped: no toolchain for {what} here (.ci/run installs them)");
    assert!(std::env::var_os("POINTSMAN_REQUIRE_TOOLCHAINS").is_none(), "{reason}");
    eprintln!("{reason}");
    true
}

fn has_target(target: &str) -> bool {
    run(Command::new("rustc").args(["--print", "sysroot"]))
        .is_ok_and(|sysroot| Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib").is_dir())
}

/// A project. Those in Rust have names of their own, since they share a target folder, and paths that stay, so that cargo finds what it
/// compiled before.
struct Project {
    folder: PathBuf,
    name: &'static str,
    _temporary: TempDir,
}

impl Project {
    fn new(language: &str, name: &'static str, options: &[&str]) -> Result<Self> {
        let temporary = tempfile::tempdir()?;
        let mut folder = temporary.path().to_owned();
        if language == "rust" {
            folder = tools().join("projects");
            std::fs::create_dir_all(&folder)?;
            if folder.join(name).exists() {
                std::fs::remove_dir_all(folder.join(name))?;
            }
        }
        run(Command::new(binary()?).current_dir(&folder).args(["policy", "new", language, name]).args(options))?;
        Ok(Self { folder, name, _temporary: temporary })
    }

    fn path(&self) -> PathBuf {
        self.folder.join(self.name)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env("CARGO_TARGET_DIR", std::path::absolute(tools().join("rust"))?);
        Ok(command)
    }

    fn component(&self) -> String {
        self.path().join(format!("{}.wasm", self.name)).display().to_string()
    }

    fn policy(&self, arguments: &[&str]) -> Result<Output> {
        Ok(self.command(binary()?)?.arg("policy").args(arguments).output()?)
    }

    /// Runs its tests as data, as many as there are, and shows how long that took.
    fn test(&self, tests: usize) -> Result<()> {
        let began = Instant::now();
        // A busy machine is no fault of the policy's.
        let output = self.policy(&["test", "--format", "json", "--policy-deadline", "10s"])?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_str(&said)?;
        let hold = report["cases"].as_array().into_iter().flatten().filter(|case| case["verdict"] == "holds").count();
        ensure!(hold == tests, "{hold} of {tests} hold: {report:#}");
        eprintln!("tested in {:.1} s", began.elapsed().as_secs_f64());
        Ok(())
    }

    /// What a decision costs is in the report of `policy cost`.
    fn cost(&self, options: &[&str]) -> Result<()> {
        let component = self.component();
        let output = self.policy(&[&["cost", &component, "--endpoints", "10,100", "--no-times", "--format", "json"], options].concat())?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_str(&said)?;
        for case in report["cases"].as_array().context("no cases")? {
            let metrics = case["metrics"].as_array().context("no metrics")?;
            let fuel = metrics.iter().find(|metric| metric["name"] == "fuel-max").context("no fuel")?;
            let fuel = fuel["values"][0]["mean"].as_f64().unwrap_or_default();
            ensure!(fuel > 0.0, "{case}");
            eprintln!("{}: at most {fuel} fuel a decision", case["name"]);
        }
        Ok(())
    }

    /// Builds it; returns what the command said.
    fn build(&self) -> Result<String> {
        run(self.command(binary()?)?.args(["policy", "build"]))
    }

    /// Brings a tool into its folder, unless that is missing.
    fn with(self, tool: &str) -> Result<Option<Self>> {
        let tool = tools().join(tool);
        if !tool.exists() {
            return Ok(None);
        }
        symlink(tool.canonicalize()?, self.path().join(tool.file_name().context("no name")?))?;
        Ok(Some(self))
    }

    /// Cargo in the project, with `pointsman` on the PATH, as its runner is configured.
    fn cargo(&self, arguments: &[&str]) -> Result<Output> {
        let beside = binary()?.parent().context("no folder")?.to_owned();
        let path = std::env::join_paths([beside].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())))?;
        Ok(self.command("cargo")?.env("PATH", path).args(arguments).output()?)
    }
}

/// Takes no folder that holds something, no name of a built-in policy and no language that there is no template in.
#[test]
fn new_is_careful() -> Result<()> {
    let project = Project::new("c", "mine", &[])?;
    for (arguments, word) in [
        (["new", "rust", "mine"], "not empty"),
        (["new", "rust", "maglev"], "built-in"),
        (["new", "rust", "pointsman-sdk"], "choose another"),
        (["new", "rust", "My Policy"], "a-z"),
        (["new", "cobol", "other"], "python"),
    ] {
        let output = Command::new(binary()?).current_dir(&project.folder).arg("policy").args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2) && said.contains(word), "{arguments:?}: {said}");
    }
    ensure!(std::fs::read_dir(&project.folder)?.count() == 1, "something was written");
    Ok(())
}

/// What is missing is named with the command that brings it, and nothing is installed behind the user's back.
#[test]
fn a_missing_tool_is_named() -> Result<()> {
    for (language, remedy) in [("c", "apt-get install clang-19"), ("js", "install Node.js"), ("python", "pip install"), ("rust", "rustup")]
    {
        let project = Project::new(language, "nothing", &[])?;
        let mut command = project.command(binary()?)?;
        let output = command.args(["policy", "build"]).env("PATH", "/nonexistent").env_remove("CARGO").env_remove("RUSTC").output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2) && said.contains(remedy), "{language}: {said}");
    }
    Ok(())
}

/// Rust: a component that a host takes, and its own tests in the sandbox, each told apart.
#[test]
fn rust_builds_and_its_tests_run_in_the_sandbox() -> Result<()> {
    let project = Project::new("rust", "tested", &[])?;
    let began = Instant::now();
    let said = project.build()?;
    eprintln!("built in {:.1} s: {said}", began.elapsed().as_secs_f64());
    let report = pointsman(["policy", "inspect", &project.component()])?;
    ensure!(report.contains("fit to serve") && report.contains("stage      balancer"), "{report}");
    project.test(5)?;
    project.cost(&[])?;

    let target = ["wasm32-wasip2", "wasm32-unknown-unknown"].into_iter().find(|target| has_target(target));
    let Some(target) = target else {
        skipped("tests in Wasm");
        return Ok(());
    };
    let test = ["test", "--lib", "--target", target];
    let output = project.cargo(&test)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && said.contains("test result: ok"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    if target == "wasm32-wasip2" {
        ensure!(said.contains("running 4 tests in the sandbox") && said.contains("4 passed; 0 failed"), "{said}");
    }

    // A test that fails, one that does not end, and one that looks for a world outside.
    let source = project.path().join("src/lib.rs");
    let more = "#[cfg(test)]\nmod more {\n    #[test]\n    fn wrong() {\n        assert_eq!(1 + 1, 3);\n    }\n    #[test]\n    fn endless() {\n        \
                let mut n = 0_u64;\n        while std::hint::black_box(n) < u64::MAX {\n            n += 1;\n        }\n    }\n    #[test]\n    \
                fn alone() {\n        assert!(std::fs::read_dir(\"/\").is_err());\n    }\n}\n";
    std::fs::write(&source, std::fs::read_to_string(&source)? + more)?;
    let output = project.cargo(&test)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!output.status.success(), "{said}");
    if target == "wasm32-wasip2" {
        for word in ["more::alone ... ok", "more::wrong ... FAILED", "more::endless ... FAILED", "left: 2", "--policy-planner-fuel"] {
            ensure!(said.contains(word), "no {word:?} in {said}");
        }
        ensure!(said.contains("5 passed; 2 failed; 0 ignored"), "{said}");
    }
    Ok(())
}

/// The examples of the other stages, and what is said of source that does not compile.
#[test]
fn rust_has_every_stage_and_shows_cargos_errors() -> Result<()> {
    let project = Project::new("rust", "staged", &["--stage", "selector"])?;
    let source = project.path().join("src/lib.rs");
    project.build()?;
    let report = pointsman(["policy", "inspect", &project.component()])?;
    ensure!(report.contains("fit to serve") && report.contains("stage      selector"), "{report}");
    project.test(2)?;

    // In the same folder, for what is compiled already. The manifest and the source must agree.
    let other = Project::new("rust", "other", &["--stage", "traffic-policy"])?;
    let take = |file: &str| -> Result<()> {
        let text = std::fs::read_to_string(other.path().join(file))?.replace("name: other", "name: staged");
        Ok(std::fs::write(project.path().join(file), text)?)
    };
    take("src/lib.rs")?;
    take("tests/zone-first.yaml")?;
    let output = project.policy(&["build"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    let both = "policy.yaml: stage: it says selector, and what was built is a traffic-policy: write `stage: traffic-policy`";
    ensure!(output.status.code() == Some(1) && said.contains(both), "{said}");
    take("policy.yaml")?;
    project.build()?;
    std::fs::remove_file(project.path().join("tests/audience.yaml"))?;
    project.test(3)?;
    let report = pointsman(["policy", "inspect", &project.component()])?;
    ensure!(report.contains("fit to serve") && report.contains("stage      traffic-policy"), "{report}");

    std::fs::write(&source, "fn broken() -> u32 { \"text\" }\n")?;
    let output = project.policy(&["build"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains("src/lib.rs:1") && said.contains("mismatched types"), "{said}");
    Ok(())
}

/// Which endpoints 2,000 connections get from a component of the example, decided with the same random numbers.
fn counts(project: &Project, options: &[&str]) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    std::fs::copy(project.component(), folder.path().join("mine.wasm"))?;
    let service = Service::new("web").spec("clusterIP", "10.97.72.1").selector("app", "web").port("{port: 80}");
    let service = service.annotation("balancer", "mine").annotation("balancer.canary-share", "25%");
    let pods = [(1, 1, "stable"), (2, 3, "stable"), (10, 7, "stable"), (3, 1, "canary"), (4, 2, "canary"), (5, 0, "canary")].map(
        |(n, weight, track)| {
            Pod::new(&format!("p{n}"), &format!("app: web, track: {track}"), format!("10.244.0.{n}")).weight(weight).yaml()
        },
    );
    let manifests = Manifests::with("all.yaml", &(service.yaml() + &pods.concat()))?;
    let (files, policies) = (manifests.path().display().to_string(), folder.path().display().to_string());
    let mut arguments = vec!["route", "-f", &files, "--policy-dir", &policies, "-o", "json", "--seed", "7", "--connections", "2000"];
    // One connection right after the other is more than a share of a core; and a busy machine must not answer in a policy's place.
    arguments.extend(["--client", "198.51.100.7", "--to", "10.97.72.1:80", "--policy-core-share", "100", "--policy-deadline", "10s"]);
    arguments.extend(options);
    let answer: Value = serde_json::from_str(&pointsman(arguments)?)?;
    let counts = answer["counts"].clone();
    ensure!(counts.as_object().is_some_and(|counts| !counts.is_empty() && !counts.contains_key("10.244.0.5:80")), "{answer}");
    let fallbacks = answer["stages"].as_array().into_iter().flatten().filter(|stage| stage["fallback"].is_string()).count();
    ensure!(fallbacks == 0, "the host had to decide: {answer}");
    Ok(counts)
}

/// The example in C is fit to serve and decides as the one in Rust does.
#[test]
fn c_decides_as_rust_does() -> Result<()> {
    let project = Project::new("c", "mine", &[])?;
    if !Path::new("/usr/include/wasm32-wasi").is_dir() && skipped("C") {
        return Ok(());
    }
    let said = project.build()?;
    let report = pointsman(["policy", "inspect", &project.component()])?;
    ensure!(report.contains("fit to serve") && !report.contains("wasi:"), "{said}{report}");
    project.test(5)?;
    project.cost(&[])?;
    let rust = Project::new("rust", "twin", &[])?;
    rust.build()?;
    ensure!(counts(&project, &[])? == counts(&rust, &[])?, "the examples in C and in Rust differ");

    let source = project.path().join("policy.c");
    let noisy = std::fs::read_to_string(&source)?.replace("#include <stdlib.h>", "#include <stdio.h>\n#include <stdlib.h>");
    let noisy = noisy.replace("  (void)place, (void)err;", "  (void)place, (void)err;\n  puts(\"hello\");");
    std::fs::write(&source, noisy)?;
    let output = project.policy(&["build"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains("a policy does not have"), "{said}");
    Ok(())
}

/// Builds the example and compares it with the one in C: refused without the grant, with what to do; by grant, the same decisions. `None`
/// where a toolchain is missing.
fn decides_as_c_does(language: &str, tool: &str) -> Result<Option<Project>> {
    let project = Project::new(language, "mine", &[])?.with(tool)?;
    let (Some(project), true) = (project, Path::new("/usr/include/wasm32-wasi").is_dir()) else {
        skipped(language);
        return Ok(None);
    };
    let c = Project::new("c", "mine", &[])?;
    c.build()?;
    let began = Instant::now();
    let said = project.build()?;
    eprintln!("built in {:.1} s: {said}", began.elapsed().as_secs_f64());
    ensure!(said.contains("--large-policy mine"), "{said}");
    let output = project.policy(&["inspect", "mine.wasm"])?;
    let report = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(1) && report.contains("--large-policy NAME"), "{report}");
    let (of_it, of_c) = (counts(&project, &["--large-policy", "mine"])?, counts(&c, &[])?);
    ensure!(of_it == of_c, "the examples in C and in {language} differ: {of_c} and {of_it}");
    project.test(5)?;
    project.cost(&["--large"])?;
    Ok(Some(project))
}

#[test]
fn javascript_decides_as_c_does() -> Result<()> {
    decides_as_c_does("js", "node_modules").map(drop)
}

/// And `inspect --large` shows what is over the normal limits.
#[test]
fn python_decides_as_c_does() -> Result<()> {
    let Some(python) = decides_as_c_does("python", ".venv")? else { return Ok(()) };
    let report = pointsman(["policy", "inspect", "--large", &python.component()])?;
    ensure!(report.contains("fit to serve") && report.contains("over the normal") && !report.contains("wasi:"), "{report}");
    Ok(())
}
