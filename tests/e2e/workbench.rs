//! The workbench's commands: exit status, reports, and that a seed reproduces them to the byte.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use pointsman_tests::engine::binary;
use serde_json::Value;

/// Exit status, standard output, standard error.
struct Said {
    status: Option<i32>,
    out: String,
    err: String,
}

fn root() -> Result<PathBuf> {
    Ok(PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().context("the repository")?.to_owned())
}

fn policy(arguments: &[&str]) -> Result<Said> {
    let output = Command::new(binary()?).current_dir(root()?).arg("policy").args(arguments).output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Said { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) })
}

fn report(arguments: &[&str], status: i32) -> Result<Value> {
    let said = policy(&[arguments, &["--format", "json"]].concat())?;
    ensure!(said.status == Some(status), "{arguments:?} ended with {:?}: {}{}", said.status, said.out, said.err);
    let report: Value = serde_json::from_str(&said.out).with_context(|| said.out.clone())?;
    ensure!(report["schema"] == "pointsman.dev/report/v1", "{report}");
    Ok(report)
}

fn cases<'a>(report: &'a Value, verdict: &str) -> Vec<&'a Value> {
    report["cases"].as_array().into_iter().flatten().filter(|case| case["verdict"] == verdict).collect()
}

#[test]
fn the_tests_in_the_documentation_hold() -> Result<()> {
    for (name, tests) in [("round-robin", 4), ("maglev", 4), ("prefer-local", 2)] {
        let file = format!("docs/tests/{name}.yaml");
        let report = report(&["test", "--policy", name, &file], 0)?;
        ensure!(report["verdict"] == "holds" && cases(&report, "holds").len() == tests, "{name}: {report:#}");
    }
    Ok(())
}

/// `random` keeps no client where it is: the test says what it saw, and how to see it again.
#[test]
fn a_test_that_does_not_hold_says_what_was_seen() -> Result<()> {
    let report = report(&["test", "--policy", "random", "docs/tests/maglev.yaml", "--run", "^remov(ing|es)", "--seed", "3"], 1)?;
    let failed = cases(&report, "fails");
    ensure!(report["verdict"] == "fails" && failed.len() == 1 && report["seed"] == 3, "{report:#}");
    let findings = failed[0]["findings"].to_string();
    ensure!(findings.contains("disruption: 0.2 ± 0.02 is expected, 0.801 was seen"), "{findings}");
    ensure!(findings.contains("again: --run 'removing an endpoint moves its own clients, and hardly any other' --seed 3"), "{findings}");
    Ok(())
}

/// Whoever reads a report may go away: what the command found is said by its exit status all the same.
#[test]
fn a_reader_that_went_away_changes_no_verdict() -> Result<()> {
    for (arguments, status) in [
        (&["policy", "test", "--policy", "random", "docs/tests/maglev.yaml"][..], 1),
        (&["policy", "test", "--policy", "round-robin", "docs/tests/round-robin.yaml"], 0),
        (&["policy", "inspect", "round-robin"], 0),
        (&["check", "-f", "/does/not/exist"], 1),
        (&["completions", "bash"], 0),
    ] {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let output = Command::new(binary()?).current_dir(root()?).args(arguments).stdout(writer).stderr(Stdio::piped()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(status) && said.is_empty(), "{arguments:?} ended with {}: {said}", output.status);
    }
    Ok(())
}

/// As in the design of test files, word for word; each test by a balancer that promises it.
const EXAMPLE: &str = "\
endpoints: [ {key: a:80, weight: 5}, {key: b:80}, {key: c:80, ready: false} ]
tests:
  - name: never an endpoint that is not ready
    connections: {count: 10000, clients: uniform, seed: 7}
    expect: {never: [c:80], no-opinion: 0, faults: 0}
  - name: five to one
    connections: {count: 60000}
    expect: {share: {a:80: 0.8333 ± 0.01}}
  - name: the first seven
    picks: 7
    expect: {sequence: [a:80, a:80, b:80, a:80, a:80, a:80, a:80]}     # whatever the policy promises
  - name: removing b moves only b's clients
    churn: [{remove: b:80}]
    expect: {collateral: 0}
";

#[test]
fn the_example_of_the_design_is_a_test_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("example.yaml");
    std::fs::write(&file, EXAMPLE)?;
    let file = file.display().to_string();
    let kept = report(&["test", "--policy", "rendezvous", &file, "--run", "never|five|removing"], 0)?;
    ensure!(cases(&kept, "holds").len() == 3 && kept["seed"].is_null(), "one test names its seed, the others do not: {kept:#}");
    // Workers begin at another turn each; with this seed, at the second.
    let turns = report(&["test", "--policy", "round-robin", &file, "--run", "never|five|seven$", "--seed", "2"], 0)?;
    ensure!(cases(&turns, "holds").len() == 3, "{turns:#}");
    Ok(())
}

/// What fuzzing finds ends the command with 1, and is shown.
#[test]
fn fuzzing_finds_planted_faults() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("planted.wasm");
    std::fs::write(&file, pointsman_guests::Component::named("planted").context("no `planted`")?.bytes)?;
    let file = file.display().to_string();
    for (fault, shown) in
        [("seven", "trap, found with input"), ("divide", "trap, found with input"), ("idle", "out-of-range, found with input")]
    {
        let found = report(&["fuzz", &file, "--setting", &format!("fault={fault}"), "--time", "30s"], 1)?;
        let findings = cases(&found, "fails").iter().map(|case| case["findings"].to_string()).collect::<String>();
        ensure!(findings.contains(shown), "{fault}: {findings}");
    }
    Ok(())
}

#[test]
fn what_cannot_run_ends_with_two_and_a_way_out() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, text: &str| -> Result<String> {
        let file = folder.path().join(name);
        std::fs::write(&file, text)?;
        Ok(file.display().to_string())
    };
    let misspelt = write("a.yaml", "endpoints: [{key: \"a:80\"}]\ntests:\n- name: x\n  conections: {count: 1}\n  expect: {}\n")?;
    let empty = write("b.yaml", "endpoints: []\ntests: []\n")?;
    let nobody = write("c.yaml", "tests:\n- name: x\n  expect: {}\n")?;
    let text = write("d.wasm", "not a component")?;
    let swap = write("e.yaml", "events: [{at: 50s, swap: magleff}]\n")?;
    let stranger = write("f.yaml", "endpoints: [{key: \"a:80\"}]\ntests:\n- name: x\n  unreachable: [\"b:80\"]\n  expect: {}\n")?;
    for (arguments, words) in [
        (vec!["test", "--policy", "maglev", &misspelt], vec!["a.yaml:4", "conections"]),
        (vec!["test", "--policy", "maglev", &empty], vec!["there is no test in it"]),
        (vec!["test", "--policy", "maglev", &nobody], vec!["has no endpoints"]),
        (vec!["test", "--policy", "maglev", &stranger], vec!["f.yaml:4:17: tests[0].unreachable[0]: there is no endpoint b:80", "help: "]),
        (vec!["test", "--policy", "maglev", "docs/tests/maglev.yaml", "--run", "nothing"], vec!["--run \"nothing\" is in no test's name"]),
        (vec!["test", "--policy", "maglev", "docs/tests/maglev.yaml", "--run", "(five"], vec!["regex parse error", "--run <RE>"]),
        (vec!["test", "--policy", "maglev", "/dev/zero"], vec!["/dev/zero is a device"]),
        (vec!["sim", "maglev", "-f", "/dev/zero"], vec!["/dev/zero is a device"]),
        (vec!["check", "magleff"], vec!["neither a file nor a built-in policy"]),
        (vec!["check", &text], vec!["d would be refused", "not a complete WebAssembly component"]),
        (vec!["sim", "maglev", "-f", &empty], vec!["is not a scenario"]),
        (vec!["cost", "maglev", "--endpoints", "1000000000"], vec!["is not in 1..=100000"]),
        (
            vec!["sim", "kubernetes", "-f", "docs/scenarios/steady.yaml"],
            vec!["error: kubernetes is a traffic-policy, and this needs a balancer"],
        ),
        (vec!["cost", "rendezvous", "--policy-adopt-fuel", "1000"], vec!["rendezvous cannot start", "used up its fuel"]),
        (vec!["sim", "maglev", "-f", &swap], vec!["e.yaml:1:26: events[0].swap: magleff is neither a file nor a built-in policy"]),
        (vec!["check", "maglev", "--setting", "table-size"], vec!["expected KEY=VALUE"]),
        (
            vec!["check", "maglev", "--class", "locality"],
            vec!["--class locality: maglev is a balancer", "all, consistent-hash, weighted, round-robin, least-loaded", "fill-in-order"],
        ),
        (vec!["check", "maglev", "--class", "weighted", "--class", "zone"], vec!["--class zone: maglev is a balancer"]),
        (
            vec!["check", "label-selector", "--class", "consistent-hash"],
            vec!["label-selector is a selector, and the classes of a selector are all, match, share"],
        ),
        (vec!["check", "zone-spill", "--class", "share"], vec!["the classes of a traffic-policy are all, locality, zone, service-policy"]),
        (vec!["check", "bounded-maglev", "--factor", "nan"], vec!["--factor NaN", "which is 1"]),
        (vec!["check", "maglev", "--collateral", "nan"], vec!["--collateral NaN", "from 0 to 1"]),
        (vec!["check", "maglev", "--collateral=-1"], vec!["--collateral -1", "from 0 to 1"]),
        (vec!["fuzz", "maglev", "--inputs", "0"], vec!["--inputs", "0 is not in 1.."]),
    ] {
        let said = policy(&arguments)?;
        ensure!(said.status == Some(2), "{arguments:?} ended with {:?}: {}{}", said.status, said.out, said.err);
        for word in words {
            ensure!(said.err.contains(word), "{arguments:?}: no {word:?} in {}", said.err);
        }
    }
    Ok(())
}

#[test]
fn laws_tell_one_class_from_another() -> Result<()> {
    let maglev = report(&["check", "maglev"], 0)?;
    ensure!(cases(&maglev, "holds").len() >= 14, "{maglev:#}");
    let random = report(&["check", "random", "--class", "consistent-hash"], 1)?;
    let broken: Vec<&str> = cases(&random, "fails").iter().filter_map(|case| case["name"].as_str()).collect();
    ensure!(broken.contains(&"the client alone decides") && broken.contains(&"removing an endpoint moves its own clients"), "{broken:?}");
    for name in ["kubernetes", "zone-spill", "label-selector", "canary"] {
        let other = report(&["check", name], 0)?;
        ensure!(cases(&other, "holds").len() >= 4, "{name}: {other:#}");
    }
    let bounded = report(&["check", "bounded-maglev", "--class", "consistent-hash"], 1)?;
    ensure!(cases(&bounded, "fails").iter().any(|case| case["name"] == "the client alone decides"), "it goes by loads too: {bounded:#}");
    let unknown = report(&["check", "maglev", "--setting", "table-sise=7"], 1)?;
    ensure!(cases(&unknown, "fails")[0]["findings"].to_string().contains("there is no setting `table-sise`"), "{unknown:#}");
    let everywhere = report(&["check", "kubernetes", "--class", "locality"], 1)?;
    ensure!(cases(&everywhere, "fails")[0]["name"] == "this node's endpoints alone, while one is ready", "{everywhere:#}");
    Ok(())
}

#[test]
fn cost_is_held_against_a_budget() -> Result<()> {
    let sizes = ["--endpoints", "10,1000", "--no-times"];
    let within = report(&[&["cost", "round-robin"], &sizes[..]].concat(), 0)?;
    ensure!(
        cases(&within, "holds").len() == 2 && within["plots"][0]["lines"][0]["points"].as_array().map(Vec::len) == Some(2),
        "{within:#}"
    );
    let metrics = cases(&within, "holds")[0]["metrics"].as_array().context("metrics")?.clone();
    let at = metrics.iter().position(|metric| metric["name"] == "fuel-max").context("fuel-max")?;
    ensure!(metrics[at + 1]["name"] == "fuel-max-budget" && metrics[at + 1]["values"][0]["mean"] == 50_000.0, "{within:#}");
    let over = report(&[&["cost", "round-robin", "--max-fuel", "10"], &sizes[..]].concat(), 1)?;
    ensure!(cases(&over, "fails")[0]["findings"].to_string().contains("the budget is 10"), "{over:#}");
    for (name, counted) in [("kubernetes", 3), ("label-selector", 4)] {
        let report = report(&[&["cost", name], &sizes[..]].concat(), 0)?;
        let lines = report["plots"][0]["lines"].as_array().map(Vec::len);
        ensure!(cases(&report, "holds").len() == 2 && lines == Some(counted), "{name}: {report:#}");
        ensure!(policy(&["fuzz", name, "--inputs", "5"])?.status == Some(0), "{name}");
    }
    Ok(())
}

/// What is beside the candidate has settings of its own, and may not know the candidate's.
#[test]
fn settings_are_the_candidates_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let scenario = folder.path().join("s.yaml");
    std::fs::write(&scenario, "duration: 2s\narrivals: {poisson: {per-second: 100}}\nevents: [{at: 1s, swap: maglev}]\n")?;
    let scenario = scenario.display().to_string();
    let arguments = ["sim", "two-choices", "--vs", "maglev", "--setting", "table-size=1000", "-f", &scenario, "--seeds", "2"];
    let report = report(&arguments, 0)?;
    ensure!(report["subjects"].as_array().map(Vec::len) == Some(2), "{report:#}");
    let told = report["notes"].as_array().context("no notes")?.iter().filter(|note| note.to_string().contains("seeds")).count();
    ensure!(told == 1, "that two runs are too few is said once: {report:#}");
    Ok(())
}

#[test]
fn a_seed_reproduces_a_report_to_the_byte() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let scenario = folder.path().join("s.yaml");
    std::fs::write(&scenario, "duration: 5s\narrivals: {poisson: {per-second: 200}}\nendpoints: [{count: 5}]\n")?;
    let scenario = scenario.display().to_string();
    let impossible = folder.path().join("impossible.yaml");
    let text = std::fs::read_to_string(&scenario)? + "expect: [{metric: imbalance, at-most: 0.5}]\n";
    std::fs::write(&impossible, text)?;
    report(&["sim", "two-choices", "-f", &impossible.display().to_string(), "--seeds", "2"], 1)?;
    for arguments in [
        vec!["test", "--policy", "round-robin", "docs/tests/round-robin.yaml"],
        vec!["check", "two-choices", "--seed", "9"],
        vec!["cost", "maglev", "--endpoints", "10,100", "--no-times"],
        vec!["fuzz", "random", "--inputs", "5"],
        vec!["sim", "two-choices", "--vs", "random", "-f", &scenario, "--seeds", "4"],
    ] {
        for format in ["text", "json", "junit"] {
            let arguments = [&arguments[..], &["--format", format]].concat();
            let (one, other) = (policy(&arguments)?, policy(&arguments)?);
            ensure!(one.status == Some(0), "{arguments:?}: {}{}", one.out, one.err);
            ensure!(one.out == other.out && !one.out.is_empty(), "{arguments:?}:\n{}\n{}", one.out, other.out);
        }
    }
    Ok(())
}
