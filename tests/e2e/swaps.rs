//! J7: policies replaced under traffic, by file, by annotation and by command; and what broken components do, which is nothing.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use pointsman_guests::Component;
use pointsman_tests::engine::{Launch, pointsman};
use pointsman_tests::load::Flow;
use pointsman_tests::manifest::Service;
use pointsman_tests::range::client;
use pointsman_tests::{accounts, load, poll};
use serde_json::Value;

use crate::site::Site;

const NAMES: [&str; 3] = ["a", "b", "c"];

fn component(name: &str) -> Result<&'static [u8]> {
    Ok(Component::named(name).with_context(|| format!("no component `{name}`"))?.bytes)
}

/// A site whose balancer is `live`, a file of its policy folder.
fn live(test: &str, policy: &str) -> Result<Site> {
    let bytes = component(policy)?;
    let range = pointsman_tests::Range::claim(test)?;
    let backends = NAMES.iter().zip(0..).map(|(name, n)| pointsman_tests::Backend::named(range.backend_ip(n), name));
    let backends = backends.collect::<Result<Vec<_>>>()?;
    let manifests = pointsman_tests::Manifests::new()?;
    let addresses: Vec<_> = backends.iter().map(pointsman_tests::Backend::address).collect();
    let service = Service::new("web").cluster_ip(range.cluster_ip(10)).port("{port: 8080}").annotation("balancer", "live");
    manifests.write("service.yaml", &service.yaml())?;
    manifests.write("endpoints.yaml", &pointsman_tests::manifest::endpoints("web", &addresses))?;
    let engine = Launch::new(&range, manifests.path())?.policy("live", bytes)?.start()?;
    Ok(Site { engine, manifests, backends, range })
}

/// What the balancer's stage of the newest decision says.
fn newest_balancer(site: &Site) -> Result<Value> {
    load::ask(site.address()?, None)?;
    let before = site.engine.metrics()?.sum("pointsman_connections_total", &[]) as usize;
    let decisions = site.engine.decisions_at_least(before)?;
    decisions.last().map(|decision| decision["stages"][2].clone()).context("no decision")
}

/// Waits until decisions are made by another component than this.
fn other_than(site: &Site, digest: &Value) -> Result<Value> {
    poll::until(&format!("a decision by another component than {digest}"), || {
        let stage = newest_balancer(site)?;
        if &stage["digest"] == digest { bail!("{stage}") } else { Ok(Some(stage)) }
    })
}

/// By file: renamed into the folder in one step, and written slowly in many; both under traffic, none failing.
#[test]
fn by_file() -> Result<()> {
    let site = live("swaps_by_file", "round-robin")?;
    let before = newest_balancer(&site)?["digest"].clone();
    let flow = Flow::start(site.address()?, 200);
    flow.pass(50)?;

    let folder = site.engine.policy_dir();
    // On the same file system, where the watcher does not look.
    let draft = folder.with_file_name("draft");
    std::fs::write(&draft, component("random")?)?;
    std::fs::rename(&draft, folder.join("live.wasm"))?;
    let renamed = other_than(&site, &before)?;
    ensure!(renamed["policy"] == "live", "{renamed}");

    write_slowly(&folder.join("live.wasm"), component("maglev")?)?;
    let written = other_than(&site, &renamed["digest"])?;
    ensure!(written["digest"] != before, "the slow write brought the first component back: {written}");
    flow.pass(50)?;
    let tally = flow.stop();
    ensure!(tally.failures.is_empty(), "{tally:?}");
    // Maglev by what it does: a client keeps its endpoint.
    let tally = load::side_by_side(site.address()?, 1, 30, |_| Some(client(5)));
    ensure!(tally.by_name.len() == 1, "{tally:?}");
    Ok(())
}

/// In pieces, with pauses in which a careless reader would see a part.
fn write_slowly(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(path)?;
    for piece in bytes.chunks(bytes.len().div_ceil(8)) {
        file.write_all(piece)?;
        file.flush()?;
        std::thread::sleep(std::time::Duration::from_millis(60));
    }
    Ok(())
}

/// By annotation: the Service names another policy, its connections are decided by that, and the digest in the log changes.
#[test]
fn by_annotation() -> Result<()> {
    let site = Site::named("swaps_by_annotation", &NAMES)?;
    let first = newest_balancer(&site)?;
    ensure!(first["policy"] == "round-robin", "the default is {first}");
    let flow = Flow::start(site.address()?, 200);
    flow.pass(50)?;
    site.service(|service| service.annotation("balancer", "maglev"))?;
    let second = other_than(&site, &first["digest"])?;
    ensure!(second["policy"] == "maglev", "{second}");
    site.service(|service| service)?;
    let third = other_than(&site, &second["digest"])?;
    ensure!(third["digest"] == first["digest"], "back without the annotation, but {third}");
    let tally = flow.stop();
    ensure!(tally.failures.is_empty(), "{tally:?}");
    Ok(())
}

/// Through the admin port by command, and back; `rollback` is of use twice.
#[test]
fn by_command_and_back() -> Result<()> {
    let site = live("swaps_by_command", "round-robin")?;
    let first = newest_balancer(&site)?["digest"].clone();
    let file = tempfile::Builder::new().suffix(".wasm").tempfile()?;
    std::fs::write(file.path(), component("random")?)?;
    let admin = site.engine.admin().to_string();
    let flow = Flow::start(site.address()?, 200);
    flow.pass(50)?;
    let swapped = pointsman(["policy", "swap", "live", &file.path().display().to_string(), "--admin", &admin]);
    ensure!(swapped?.contains("sha256:"), "the command does not say what is in force now");
    let second = newest_balancer(&site)?["digest"].clone();
    ensure!(second != first, "after the command returned, decisions are still made by {first}");
    pointsman(["policy", "rollback", "live", "--admin", &admin])?;
    let third = newest_balancer(&site)?["digest"].clone();
    ensure!(third == first, "rolled back to {third}, not {first}");
    let tally = flow.stop();
    ensure!(tally.failures.is_empty(), "{tally:?}");
    Ok(())
}

/// A component that cannot be right is refused, the reason is in the answer and names what is wrong, and the old one goes on.
#[test]
fn what_cannot_be_right_is_refused_with_a_reason() -> Result<()> {
    let site = live("swaps_refused", "round-robin")?;
    let digest = site.engine.digest("balancer", "live")?;
    let good = component("random")?;
    let core_module = b"\0asm\x01\0\0\0".to_vec();
    let empty_component = b"\0asm\x0d\0\x01\0".to_vec();
    let mut huge = empty_component.clone();
    huge.resize(100 << 20, 0);
    let cases: [(&str, Vec<u8>, &[&str]); 10] = [
        ("nothing at all", Vec::new(), &[]),
        ("text", b"apiVersion: v1".to_vec(), &["wasm", "component"]),
        ("cut short", good[..good.len() / 2].to_vec(), &[]),
        ("a core module", core_module, &["component"]),
        ("a component that exports nothing", empty_component, &["export", "lifecycle"]),
        ("100 MB", huge, &["2 MiB", "2097152", "large", "limit", "bytes"]),
        ("a policy of another stage", component("label-selector")?.to_vec(), &["selector", "balancer"]),
        ("one whose every pick traps", component("always-trap")?.to_vec(), &["trap"]),
        ("one whose every pick never ends", component("always-loop")?.to_vec(), &["fuel", "deadline"]),
        ("one that imports WASI", component("wasi-curious")?.to_vec(), &["wasi"]),
    ];
    let flow = Flow::start(site.address()?, 200);
    for (what, bytes, words) in cases {
        let answer = site.engine.post("/policies/live/swap", &bytes).with_context(|| format!("swapping in {what}"))?;
        ensure!((400..500).contains(&answer.status), "{what}: {} {}", answer.status, answer.body);
        let body = answer.body.to_lowercase();
        ensure!(words.is_empty() || words.iter().any(|word| body.contains(&word.to_lowercase())), "{what}: the reason is unclear: {body}");
        ensure!(site.engine.digest("balancer", "live")? == digest, "{what} is in force");
    }
    let tally = flow.stop();
    ensure!(tally.failures.is_empty(), "{tally:?}");
    Ok(())
}

/// The same by file: the event names the file and the reason.
#[test]
fn a_broken_file_is_an_event_and_nothing_else() -> Result<()> {
    let site = live("swaps_broken_file", "round-robin")?;
    let digest = site.engine.digest("balancer", "live")?;
    let good = component("random")?;
    std::fs::write(site.engine.policy_dir().join("live.wasm"), &good[..good.len() / 2])?;
    let event = site.engine.event("live.wasm refused", |event| event["severity"] == "error" && event.to_string().contains("live"))?;
    ensure!(event["message"].is_string(), "{event}");
    ensure!(site.engine.digest("balancer", "live")? == digest, "a cut file is in force");
    load::in_a_row(site.address()?, 9).none_lost(9)?;
    // A built-in's name is reserved.
    std::fs::write(site.engine.policy_dir().join("maglev.wasm"), good)?;
    site.engine.event("maglev.wasm refused", |event| event.to_string().contains("maglev"))?;
    Ok(())
}

/// Unknown names are told so, with what there is.
#[test]
fn an_unknown_policy_is_told_so() -> Result<()> {
    let site = Site::named("swaps_unknown", &NAMES)?;
    let answer = site.engine.post("/policies/nonesuch/rollback", b"")?;
    ensure!(answer.status == 404, "{} {}", answer.status, answer.body);
    site.service(|service| service.annotation("balancer", "round-robbin"))?;
    let event = site.engine.event("about the unknown balancer", |event| event.to_string().contains("round-robbin"))?;
    ensure!(event.to_string().contains("balancer"), "{event}");
    load::in_a_row(site.address()?, 9).none_lost(9)
}

/// A balancer that fails on every connection, in every way that one can: no connection fails, the fallback is counted by its reason,
/// no worker stalls beyond what fuel allows, and the breaker stops asking.
fn survived(fault: &str) -> Result<()> {
    survived_until_mended(fault).map(drop)
}

/// What one decision may use, unless `--policy-fuel` says otherwise.
const HOT_FUEL: f64 = 50_000.0;

/// A site that knows a faulty policy, which no Service asks for yet.
fn faulty(test: &str, policy: &str) -> Result<Site> {
    let site = Site::named(&format!("swaps_{test}"), &NAMES)?;
    std::fs::write(site.engine.policy_dir().join("faulty.wasm"), component(policy)?)?;
    let stage = policy.trim_start_matches("faulty-");
    poll::until("the faulty policy to be known", || site.engine.digest(stage, "faulty").map(Some))?;
    Ok(site)
}

fn survived_until_mended(fault: &str) -> Result<Site> {
    let site = faulty(fault, "faulty-balancer")?;
    let flow = Flow::start(site.address()?, 500);
    flow.pass(100)?;
    site.service(|service| service.annotation("balancer", "faulty").annotation("balancer.fault", fault))?;
    let fallbacks = || anyhow::Ok(site.engine.metrics()?.sum("pointsman_policy_fallbacks_total", &[("policy", "faulty")]));
    poll::until("fallbacks of the faulty policy to be counted", || Ok((fallbacks()? > 0.0).then_some(())))?;
    flow.pass(1_000)?;
    let tally = flow.stop();
    ensure!(tally.failures.is_empty(), "{fault}: {tally:?}");
    ensure!(tally.by_name.len() == 3, "{fault}: the fallback is random among the candidates, but {tally:?}");
    let reasons = site.engine.metrics()?.by("reason", "pointsman_policy_fallbacks_total", &[("policy", "faulty")]);
    println!("{fault}: fallbacks {reasons:?}, the longest connection took {:?}", tally.longest);
    // However it fails, it never held up its worker for longer than its fuel.
    let most = site.engine.metrics()?.sum("pointsman_policy_fuel_max", &[("policy", "faulty")]);
    ensure!(most <= HOT_FUEL && (fault != "loop" || most == HOT_FUEL), "{fault}: one decision used {most} units of fuel");
    accounts::balance(&site.engine, tally.answered())?;
    let decisions = site.engine.decisions()?;
    let explained = decisions.iter().find_map(|decision| decision["stages"][2]["fallback"].as_str());
    ensure!(explained.is_some(), "{fault}: no decision says why the fallback decided");
    // It is mended by taking the setting away: the policy works again once its breaker has closed.
    site.service(|service| service)?;
    poll::until("decisions by a healthy policy", || {
        let stage = newest_balancer(&site)?;
        if stage["policy"] == "round-robin" && stage["fallback"].is_null() { Ok(Some(())) } else { bail!("{stage}") }
    })?;
    Ok(site)
}

#[test]
fn a_trap_is_survived() -> Result<()> {
    survived("trap")
}

#[test]
fn an_endless_loop_is_survived() -> Result<()> {
    survived("loop")
}

#[test]
fn memory_growth_is_survived() -> Result<()> {
    survived("grow")
}

#[test]
fn a_slot_out_of_range_is_survived() -> Result<()> {
    survived("slot")
}

/// The plan is garbage to the worker that adopts it.
#[test]
fn a_garbage_plan_is_survived() -> Result<()> {
    survived("garbage-plan")
}

#[test]
fn a_trap_while_adopting_is_survived() -> Result<()> {
    survived("adopt-trap")
}

/// The planner fails: nothing of it can be adopted, so the fallback decides, and the reason is an event.
fn planner_survived(fault: &str) -> Result<()> {
    let site = survived_until_mended(fault)?;
    site.engine.event(&format!("about {fault}"), |event| event.to_string().contains("faulty")).map(drop)
}

#[test]
fn a_trap_of_the_planner_is_survived() -> Result<()> {
    planner_survived("plan-trap")
}

#[test]
fn an_endless_loop_of_the_planner_is_survived() -> Result<()> {
    planner_survived("plan-loop")
}

#[test]
fn an_error_of_the_planner_is_survived() -> Result<()> {
    planner_survived("plan-error")
}

#[test]
fn a_plan_that_is_too_big_is_survived() -> Result<()> {
    planner_survived("huge-plan")
}

/// A policy that floods the log is heard a little, and decides all the same.
#[test]
fn a_flood_of_log_lines_is_survived() -> Result<()> {
    let site = faulty("log-flood", "faulty-balancer")?;
    site.service(|service| service.annotation("balancer", "faulty").annotation("balancer.fault", "log-flood"))?;
    poll::until("decisions by the flooding policy", || Ok((newest_balancer(&site)?["policy"] == "faulty").then_some(())))?;
    load::in_a_row(site.address()?, 200).none_lost(200)?;
    let lines = site.engine.log().iter().filter(|line| line.contains("flood")).count();
    ensure!(lines < 1_000, "{lines} lines of a policy's log were let through");
    Ok(())
}

/// Stages before the balancer: a selector or a traffic policy that fails is replaced by what it would be without it.
fn earlier_stage_survived(stage: &str, fault: &str) -> Result<()> {
    let site = faulty(&format!("{stage}_{fault}"), &format!("faulty-{stage}"))?;
    let flow = Flow::start(site.address()?, 200);
    flow.pass(20)?;
    site.service(|service| service.annotation(stage, "faulty").annotation(&format!("{stage}.fault"), fault))?;
    let index = if stage == "selector" { 0 } else { 1 };
    poll::until("a decision that says why the fallback decided", || {
        let decisions = site.engine.decisions()?;
        Ok(decisions.iter().rev().take(50).any(|decision| decision["stages"][index]["fallback"].is_string()).then_some(()))
    })?;
    flow.pass(200)?;
    let tally = flow.stop();
    ensure!(tally.failures.is_empty() && tally.by_name.len() == 3, "{stage} {fault}: {tally:?}");
    accounts::balance(&site.engine, tally.answered())
}

#[test]
fn a_selector_that_traps_is_survived() -> Result<()> {
    earlier_stage_survived("selector", "trap")
}

#[test]
fn a_selector_that_names_no_group_is_survived() -> Result<()> {
    earlier_stage_survived("selector", "group")
}

#[test]
fn a_traffic_policy_that_traps_is_survived() -> Result<()> {
    earlier_stage_survived("traffic-policy", "trap")
}

#[test]
fn a_traffic_policy_that_names_no_subset_is_survived() -> Result<()> {
    earlier_stage_survived("traffic-policy", "subset")
}

#[test]
fn a_traffic_policy_with_impossible_members_is_survived() -> Result<()> {
    earlier_stage_survived("traffic-policy", "members")
}

#[test]
fn a_traffic_policy_with_too_many_subsets_is_survived() -> Result<()> {
    earlier_stage_survived("traffic-policy", "many")
}

/// `pointsman.dev/on-failure: refuse`: then no fallback decides; a connection that the policy cannot decide is refused, and counted so.
#[test]
fn a_service_may_refuse_rather_than_fall_back() -> Result<()> {
    let site = faulty("on_failure_refuse", "faulty-balancer")?;
    let wants = |service: Service| service.annotation("balancer", "faulty").annotation("balancer.fault", "trap");
    site.service(|service| wants(service).annotation("on-failure", "refuse"))?;
    let address = site.address()?;
    poll::until("connections to be refused", || Ok(load::ask(address, None).is_err().then_some(())))?;
    let tally = load::in_a_row(address, 5);
    ensure!(tally.answered() == 0, "{tally:?}");
    let decisions = site.engine.decisions()?;
    let last = decisions.last().context("no decision")?;
    ensure!(last["verdict"] == "reject" && last["endpoint"].is_null(), "{last}");
    Ok(())
}

/// A component that imports WASI runs by grant, in an empty world.
#[test]
fn wasi_is_had_by_grant() -> Result<()> {
    let granted = |launch: Launch<'static>| launch.arguments(["--grant-wasi", "curious"]);
    let site = Site::named_as("wasi_by_grant", &NAMES, |service| service, granted)?;
    std::fs::write(site.engine.policy_dir().join("curious.wasm"), component("wasi-curious")?)?;
    poll::until("the policy to be known", || site.engine.digest("balancer", "curious").map(Some))?;
    site.service(|service| service.annotation("balancer", "curious"))?;
    poll::until("decisions by it", || {
        let stage = newest_balancer(&site)?;
        if stage["policy"] == "curious" && stage["fallback"].is_null() { Ok(Some(())) } else { bail!("{stage}") }
    })?;
    load::in_a_row(site.address()?, 50).none_lost(50)
}

/// A balancer that learns is told what became of its picks: after the first refusals it avoids the dead endpoint.
#[test]
fn outcomes_reach_a_balancer_that_learns() -> Result<()> {
    let range = pointsman_tests::Range::claim("outcomes_reach")?;
    // The learner picks the first by key: the dead one.
    let dead = range.dead_address(0)?;
    let backend = pointsman_tests::Backend::named(range.backend_ip(1), "alive")?;
    let manifests = pointsman_tests::Manifests::new()?;
    // In force from the first connection on: what another balancer met before would be told to this one too.
    let service = Service::new("web").cluster_ip(range.cluster_ip(10)).port("{port: 8080}").annotation("balancer", "learner");
    let text = service.yaml() + &pointsman_tests::manifest::endpoints("web", &[dead, backend.address()]);
    manifests.write("all.yaml", &text)?;
    let engine = Launch::new(&range, manifests.path())?.policy("learner", component("learner")?)?.start()?;
    let site = Site { engine, manifests, backends: vec![backend], range };
    let learned = |decision: &Value| decision["stages"][2]["policy"] == "learner" && decision["attempts"].is_null();
    let mut made = 0;
    poll::until("picks that avoid the dead endpoint", || {
        load::in_a_row(site.address()?, 5).none_lost(5)?;
        made += 5;
        // All of them: of a log that is not written yet, everything is true.
        let decisions = site.engine.decisions_at_least(made)?;
        Ok(decisions.iter().rev().take(5).all(learned).then_some(()))
    })?;
    let tried =
        site.engine.decisions()?.iter().filter(|decision| decision["stages"][2]["policy"] == "learner" && !learned(decision)).count();
    ensure!(tried > 0, "the dead endpoint was never picked, so nothing was learned");
    Ok(())
}
