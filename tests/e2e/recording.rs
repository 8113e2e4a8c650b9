//! Decisions recorded by a serving host, and looked at afterwards: replayed, exported, compared.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use pointsman_guests::Component;
use pointsman_tests::engine::{Launch, binary, pointsman};
use pointsman_tests::load::{self, Flow};
use pointsman_tests::range::client;
use pointsman_tests::{Range, poll};
use serde_json::Value;

use crate::site::Site;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A recording, in a folder of its own.
struct Recorded {
    file: PathBuf,
    folder: tempfile::TempDir,
}

impl Recorded {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        Ok(Self { file: folder.path().join("day.rec"), folder })
    }

    fn flags(&self) -> [String; 2] {
        ["--record".into(), self.file.display().to_string()]
    }

    fn component(&self, name: &str) -> Result<PathBuf> {
        let file = self.folder.path().join(format!("{name}.wasm"));
        std::fs::write(&file, Component::named(name).with_context(|| format!("no component `{name}`"))?.bytes)?;
        Ok(file)
    }
}

/// `pointsman policy …`, whatever it ends with.
fn policy(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(binary()?).arg("policy").args(arguments).output()?)
}

/// The report of a replay or a comparison, and its exit status.
fn report(command: &str, recording: &Path, more: &[&str]) -> Result<(Value, Option<i32>)> {
    let output = policy(&[&[command, &recording.display().to_string(), "-o", "json"], more].concat())?;
    let report = serde_json::from_slice(&output.stdout);
    let report = report.with_context(|| format!("{:?}: {}", output.status, String::from_utf8_lossy(&output.stderr)))?;
    Ok((report, output.status.code()))
}

/// The values of a metric, in the order of the subjects.
fn values(report: &Value, name: &str) -> Result<Vec<f64>> {
    let metrics = report["metrics"].as_array().context("no metrics")?;
    let metric = metrics.iter().find(|metric| metric["name"] == name).with_context(|| format!("no {name} in {report}"))?;
    let values = metric["values"].as_array().context("no values")?;
    values.iter().map(|value| value["mean"].as_f64().context("no mean")).collect()
}

fn ended(mut site: Site) -> Result<Vec<String>> {
    site.engine.signal(Signal::SIGTERM)?;
    let status = site.engine.wait()?;
    ensure!(status.success(), "the engine ended with {status}");
    Ok(site.engine.log())
}

/// Waits until connections are decided by another component than this.
fn other_than(site: &Site, digest: &Value) -> Result<Value> {
    poll::until(&format!("a decision by another balancer than {digest}"), || {
        let before = site.engine.metrics()?.sum("pointsman_connections_total", &[]) as usize;
        load::ask(site.address()?, None)?;
        let decisions = site.engine.decisions_at_least(before + 1)?;
        let now = decisions.last().context("no decision")?["stages"][2]["digest"].clone();
        if &now == digest { bail!("{now}") } else { Ok(Some(now)) }
    })
}

/// Two workers, churn, another policy by annotation, a swap of a component by file, a signal: not one answer differs afterwards.
#[test]
fn a_day_is_replayed_without_a_difference() -> Result<()> {
    let recorded = Recorded::new()?;
    let range = Range::claim("recording_day")?;
    let backends = NAMES.iter().zip(0..).map(|(name, n)| pointsman_tests::Backend::named(range.backend_ip(n), name));
    let backends = backends.collect::<Result<Vec<_>>>()?;
    let dead = range.dead_address(9)?;
    let launch = |launch: Launch<'static>| launch.workers(2).arguments(recorded.flags());
    let site = Site::of(range, backends, &[dead], |service| service.annotation("balancer", "least-connections"), launch)?;
    let flow = Flow::start(site.address()?, 300);
    flow.pass(200)?;
    let first = other_than(&site, &Value::Null)?;
    let all = site.backend_addresses();
    site.endpoints(&all[1..])?;
    flow.pass(100)?;
    site.endpoints(&all)?;
    flow.pass(100)?;

    std::fs::write(site.engine.policy_dir().join("live.wasm"), Component::named("learner").context("no learner")?.bytes)?;
    poll::until("the policy to be known", || site.engine.digest("balancer", "live").map(Some))?;
    site.service(|service| service.annotation("balancer", "live"))?;
    let second = other_than(&site, &first)?;
    flow.pass(100)?;
    std::fs::write(site.engine.policy_dir().join("live.wasm"), Component::named("round-robin").context("no round-robin")?.bytes)?;
    other_than(&site, &second)?;
    flow.pass(100)?;
    let tally = flow.stop();
    ensure!(tally.failures.is_empty(), "{tally:?}");
    let accepted = site.engine.metrics()?.sum("pointsman_connections_total", &[]);
    ensure!(site.engine.metrics()?.sum("pointsman_recording_dropped_total", &[]) == 0.0, "frames were lost");
    ended(site)?;

    let error = policy(&["replay", &recorded.file.display().to_string()])?;
    let said = String::from_utf8_lossy(&error.stderr).into_owned();
    let digest = second.as_str().context("no digest")?;
    ensure!(error.status.code() == Some(2) && said.contains(digest), "the missing component is not named: {said}");

    let learner = recorded.component("learner")?.display().to_string();
    let (report, status) = report("replay", &recorded.file, &[&learner])?;
    ensure!(status == Some(0) && report["verdict"] == "holds" && report["kind"] == "replay", "{status:?}: {report}");
    ensure!(values(&report, "differences")? == [0.0] && values(&report, "left-out")? == [0.0], "{report}");
    ensure!(report["notes"] == serde_json::json!(["exact: everything that the policies saw is in the recording"]), "{}", report["notes"]);
    ensure!(values(&report, "decisions")?[0] >= 3.0 * accepted, "{accepted} connections, three stages each: {report}");
    for name in ["least-connections", "live", "kubernetes", "label-selector"] {
        let subjects = report["subjects"].as_array().context("no subjects")?;
        ensure!(subjects.iter().any(|subject| subject["name"] == name), "{name} is not among {subjects:?}");
    }

    // Every connection is in it, with its end.
    let lines = pointsman(["policy", "replay", &recorded.file.display().to_string(), "--export", "jsonl"])?;
    let lines: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let of = |frame: &str| lines.iter().filter(|line| line["frame"] == frame).count() as f64;
    let new = lines.iter().filter(|line| line["frame"] == "fate" && line["again"].is_null()).count() as f64;
    ensure!(new == accepted && of("ended") == accepted, "{accepted} accepted, {new} in it, {} ended", of("ended"));
    Ok(())
}

/// One connection in ten: it says that it is not exact.
#[test]
fn a_sample_says_that_it_is_approximate() -> Result<()> {
    let recorded = Recorded::new()?;
    let site = Site::named_as(
        "recording_sample",
        &NAMES,
        |service| service,
        |launch| launch.arguments(recorded.flags()).arguments(["--record-sample", "1/10"]),
    )?;
    load::in_a_row(site.address()?, 300).none_lost(300)?;
    ended(site)?;
    let (report, _) = report("replay", &recorded.file, &[])?;
    let note = report["notes"][0].as_str().context("no note")?;
    ensure!(note.starts_with("approximate, because one connection in 10 is in it"), "{note}");
    let decisions = values(&report, "decisions")?[0];
    ensure!((30.0..=180.0).contains(&decisions), "a tenth of 900, and not {decisions}");
    Ok(())
}

/// A path that cannot be written stops the start; a disk that is full stops the recording, and no connection.
#[test]
fn a_disk_that_is_full_ends_the_recording_and_nothing_else() -> Result<()> {
    let recorded = Recorded::new()?;
    let range = Range::claim("recording_path")?;
    let manifests = pointsman_tests::Manifests::new()?;
    let nowhere = recorded.folder.path().join("no/such/folder/day.rec").display().to_string();
    let run =
        ["run", "-f", &manifests.path().display().to_string(), "--admin", "127.0.0.1:0", "--vip-mode", "loopback", "--record", &nowhere];
    let output = Command::new(binary()?).args(run).args(["--service-cidr", &range.service_cidr()]).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("--record") && said.contains(&nowhere) && said.contains("No such file"), "{said}");
    drop(range);

    // A pipe whose reader goes away takes no more, as a full disk takes no more.
    let pipe = recorded.folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU)?;
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::io::Read::read_exact(&mut std::fs::File::open(pipe)?, &mut [0; 8])
    });
    let flags = ["--record".to_owned(), pipe.display().to_string()];
    let site = Site::named_as("recording_full", &NAMES, |service| service, |launch| launch.arguments(flags))?;
    reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    load::side_by_side(site.address()?, 4, 400, |_| None).none_lost(400)?;
    poll::until("the loss to be counted", || {
        let lost = site.engine.metrics()?.sum("pointsman_recording_dropped_total", &[]);
        load::ask(site.address()?, None)?;
        Ok((lost > 0.0).then_some(()))
    })?;
    load::in_a_row(site.address()?, 20).none_lost(20)?;
    let log = ended(site)?;
    ensure!(log.iter().any(|line| line.contains("the recording cannot be written and ends here")), "{log:?}");
    Ok(())
}

/// What maglev promised to 60 clients, two choices does not keep; and it spreads them better.
#[test]
fn two_choices_instead_of_maglev_loses_affinity_and_gains_balance() -> Result<()> {
    let recorded = Recorded::new()?;
    let site = Site::named_as(
        "recording_diff",
        &NAMES,
        |service| service.annotation("balancer", "maglev"),
        |launch| launch.workers(2).arguments(recorded.flags()),
    )?;
    // Few clients, so that their hashes are far from even.
    load::side_by_side(site.address()?, 6, 600, |n| Some(client((n % 6) as u32))).none_lost(600)?;
    ended(site)?;
    let (open_loop, status) = report("diff", &recorded.file, &["--a", "live", "--b", "two-choices"])?;
    ensure!(status == Some(0) && open_loop["kind"] == "diff", "{status:?}: {open_loop}");
    ensure!(open_loop["notes"][0].as_str().is_some_and(|note| note.starts_with("open loop")), "{}", open_loop["notes"]);
    ensure!(open_loop["notes"].to_string().contains("--closed-loop"), "it reads loads: {}", open_loop["notes"]);
    let affinity = values(&open_loop, "affinity-kept")?;
    ensure!(affinity[0] == 100.0 && affinity[1] < 60.0, "{affinity:?}");
    let (closed, _) = report("diff", &recorded.file, &["--b", "two-choices", "--closed-loop"])?;
    let imbalance = values(&closed, "imbalance")?;
    ensure!(imbalance[1] < imbalance[0], "{imbalance:?}");
    ensure!(values(&closed, "moved-clients")?[0] > 50.0, "{closed}");

    let wasm = recorded.component("maglev")?.display().to_string();
    let (same, _) = report("diff", &recorded.file, &["--b", &wasm])?;
    ensure!(values(&same, "moved-connections")? == [0.0], "{same}");

    let faulty = recorded.component("always-trap")?.display().to_string();
    let (faults, status) = report("diff", &recorded.file, &["--b", &faulty])?;
    ensure!(status == Some(1) && faults["verdict"] == "fails", "{status:?}: {faults}");
    for command in ["replay", "diff --b two-choices"] {
        let progress = on_a_terminal(&format!("{command} {}", recorded.file.display()))?;
        ensure!(progress.contains(" of 100"), "{command}: {progress:?}");
    }
    Ok(())
}

/// What `pointsman policy …` writes where people look at it.
fn on_a_terminal(arguments: &str) -> Result<String> {
    let command = format!("{} policy {arguments}", binary()?.display());
    let output = Command::new("script").args(["--quiet", "--return", "--command", &command, "/dev/null"]).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{arguments}: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Clients can be hashed, but not beside hashes that anybody can undo.
#[test]
fn hashed_clients_need_a_secret_hash() -> Result<()> {
    let recorded = Recorded::new()?;
    let manifests = pointsman_tests::Manifests::new()?;
    let folder = manifests.path().display().to_string();
    let run = ["run", "-f", &folder, "--admin", "127.0.0.1:0", "--record-clients", "hashed"];
    let output = Command::new(binary()?).args(run).args(recorded.flags()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(2) && said.contains("--hash-secret-file"), "{said}");

    let secret = recorded.folder.path().join("secret");
    std::fs::write(&secret, "correct horse battery staple\n")?;
    let flags = ["--record-clients".to_owned(), "hashed".into(), "--hash-secret-file".into(), secret.display().to_string()];
    let site = Site::named_as("recording_hashed", &NAMES, |service| service, |launch| launch.arguments(recorded.flags()).arguments(flags))?;
    load::in_a_row(site.address()?, 50).none_lost(50)?;
    ended(site)?;
    let lines = pointsman(["policy", "replay", &recorded.file.display().to_string(), "--export", "jsonl"])?;
    ensure!(!lines.contains("\"client\":\"127.") && lines.contains("\"client\":\"100:"), "{lines}");
    let (report, status) = report("replay", &recorded.file, &[])?;
    ensure!(status == Some(0), "{report}");
    Ok(())
}
