//! A balancer tried beside the one in force: compared on every connection, in charge of a share of the clients, and rolled back when it
//! fails, with no connection the worse for it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use pointsman_guests::Component;
use pointsman_tests::engine::binary;
use pointsman_tests::load::Tally;
use pointsman_tests::range::client;
use pointsman_tests::{accounts, load, poll};
use serde_json::Value;

use crate::site::Site;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// A site that knows the balancer `first`, which picks the first endpoint by key, or fails as its setting `fault` says.
fn site(test: &str, service: impl FnOnce(pointsman_tests::manifest::Service) -> pointsman_tests::manifest::Service) -> Result<Site> {
    let site = Site::named(&format!("shadow_{test}"), &NAMES)?;
    let bytes = Component::named("faulty-balancer").context("no component `faulty-balancer`")?.bytes;
    std::fs::write(site.engine.policy_dir().join("first.wasm"), bytes)?;
    poll::until("the policy `first` to be known", || site.engine.digest("balancer", "first").map(Some))?;
    site.service(service)?;
    poll::until("somebody to be tried", || Ok(tried(&site)?["candidate"].is_string().then_some(())))?;
    Ok(site)
}

/// What `/shadow` says of the Service.
fn tried(site: &Site) -> Result<Value> {
    let list = site.engine.get("/shadow")?.json()?;
    Ok(list["shadows"].as_array().and_then(|shadows| shadows.first()).cloned().unwrap_or_default())
}

fn report(site: &Site) -> Result<Value> {
    site.engine.get("/shadow/default/web")?.json()
}

/// The values of a metric of a report: the balancer in force, then the candidate.
fn values(report: &Value, name: &str) -> Result<Vec<f64>> {
    let metrics = report["metrics"].as_array().context("a report without metrics")?;
    let metric = metrics.iter().find(|metric| metric["name"] == name).with_context(|| format!("no {name} in {report}"))?;
    let values = metric["values"].as_array().context("no values")?;
    values.iter().map(|value| value["mean"].as_f64().context("no mean")).collect()
}

fn command(site: &Site, arguments: &[&str]) -> Result<Output> {
    let admin = site.engine.admin().to_string();
    Ok(Command::new(binary()?).args(["policy", "shadow", "--admin", &admin]).args(arguments).output()?)
}

/// `count` connections, from `clients` clients in turn.
fn connect(site: &Site, count: u64, clients: u32) -> Result<Tally> {
    let tally = load::side_by_side(site.address()?, 4, count, |n| Some(client((n % u64::from(clients)) as u32)));
    tally.none_lost(count)?;
    Ok(tally)
}

/// The addresses of the clients that the candidate decided for; a client that was decided for by both is an error.
fn canaries(decisions: &[Value]) -> Result<BTreeSet<String>> {
    let mut by_client: BTreeMap<String, bool> = BTreeMap::new();
    for decision in decisions {
        let client = decision["client"].as_str().and_then(|text| text.rsplit_once(':')).context("no client")?.0;
        let canary = decision["stages"][2]["by"] == "canary";
        let known = *by_client.entry(client.to_owned()).or_insert(canary);
        ensure!(known == canary, "{client} did not stay on its side");
    }
    Ok(by_client.into_iter().filter(|(_, canary)| *canary).map(|(client, _)| client).collect())
}

/// Maglev beside round robin: connections go as if it was not there, and the report says what would have been.
#[test]
fn a_shadow_is_compared_and_changes_nothing() -> Result<()> {
    let site = site("compared", |service| service.annotation("balancer-shadow", "maglev"))?;
    let tally = connect(&site, 300, 5)?;
    ensure!(NAMES.iter().all(|name| tally.of(name) == 100), "round robin decides for everybody: {tally:?}");

    let report = report(&site)?;
    ensure!(report["kind"] == "shadow" && report["verdict"] == "holds", "{report}");
    ensure!(report["subjects"][0]["name"] == "round-robin" && report["subjects"][1]["name"] == "maglev", "{report}");
    ensure!(values(&report, "connections")? == [300.0]);
    // Five clients on three endpoints cannot be even: at best two, two and one.
    let imbalance = values(&report, "imbalance")?;
    ensure!(imbalance[0] == 1.0 && imbalance[1] >= 1.19, "{imbalance:?}");
    let moved = values(&report, "moved")?[0];
    ensure!((40.0..95.0).contains(&moved), "two of three would go elsewhere, but {moved} %");
    for name in ["no-opinion", "faulted", "fallback"] {
        ensure!(values(&report, name)? == [0.0, 0.0], "{name}: {report}");
    }
    ensure!(values(&report, "fuel-max")?.iter().all(|fuel| (1.0..50_000.0).contains(fuel)), "{report}");

    // The log agrees with the report, connection by connection.
    let decisions = site.engine.decisions_at_least(300)?;
    let differ = decisions.iter().filter(|decision| decision["stages"][2]["choice"] != decision["stages"][2]["shadow"]["choice"]).count();
    ensure!((differ as f64 * 100.0 / 300.0 - moved).abs() < 0.01, "{differ} of 300 in the log, {moved} % in the report");
    ensure!(decisions.iter().all(|decision| decision["stages"][2]["shadow"]["canary"] == false));
    let metrics = site.engine.metrics()?;
    ensure!(metrics.sum("pointsman_shadow_moved_total", &[("service", "web")]) == differ as f64);
    ensure!(metrics.sum("pointsman_shadow_connections_total", &[("canary", "false")]) == 300.0);
    ensure!(!metrics.has("pointsman_canary_share", &[]), "a shadow is in charge of nobody");

    for (format, within) in [("text", "maglev"), ("html", "<html"), ("junit", "<testsuite")] {
        let view = site.engine.get(&format!("/shadow/default/web?format={format}"))?;
        ensure!(view.status == 200 && view.body.contains(within), "{format}: {} {}", view.status, view.body);
    }
    let told = command(&site, &["default/web"])?;
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    ensure!(told.status.code() == Some(0) && text.contains("moved") && text.contains("maglev"), "{told:?}");
    let list = command(&site, &[])?;
    ensure!(String::from_utf8_lossy(&list.stdout).contains("default/web"), "{list:?}");
    let nobody = command(&site, &["default/other"])?;
    ensure!(nobody.status.code() == Some(2) && String::from_utf8_lossy(&nobody.stderr).contains("balancer-shadow"), "{nobody:?}");
    println!("{text}");

    site.service(|service| service)?;
    poll::until("nobody to be tried", || Ok(tried(&site)?.is_null().then_some(())))?;
    ensure!(site.engine.get("/shadow/default/web")?.status == 404);
    connect(&site, 30, 5)?;
    accounts::balance(&site.engine, 330)
}

/// A fifth of the clients go where the candidate says, and stay there; a greater share adds clients and takes none away.
#[test]
fn a_canary_decides_for_its_share_of_clients() -> Result<()> {
    const CLIENTS: u32 = 1_000;
    let with = |share: &'static str| {
        move |service: pointsman_tests::manifest::Service| {
            service.annotation("balancer-shadow", "first").annotation("balancer-canary", share)
        }
    };
    let site = site("canary", with("20%"))?;
    poll::until("a fifth", || Ok((site.engine.metrics()?.sum("pointsman_canary_share", &[]) == 0.2).then_some(())))?;
    let tally = connect(&site, 2 * u64::from(CLIENTS), CLIENTS)?;
    let decisions = site.engine.decisions_at_least(2 * CLIENTS as usize)?;
    let fifth = canaries(&decisions)?;
    // Four standard deviations of 1,000 draws of a fifth: 51.
    ensure!(fifth.len().abs_diff(200) <= 51, "{} of {CLIENTS} clients", fifth.len());
    let by_log = 2 * fifth.len();
    // Of the backends' own counts: the canaries' connections, and a third of the rest.
    let named = site.backends.iter().map(|backend| (backend.address().to_string(), backend.accepted())).min().context("no backend")?.1;
    let expected = by_log as f64 + (2_000 - by_log) as f64 / 3.0;
    ensure!((named as f64 - expected).abs() <= 100.0, "the first backend had {named}, {expected} were expected: {tally:?}");
    let told = report(&site)?;
    ensure!(told["kind"] == "canary" && told["verdict"] == "holds", "{told}");
    ensure!(values(&told, "canary-share")? == [20.0] && values(&told, "canaries-failed")? == [0.0], "{told}");

    site.service(with("50%"))?;
    poll::until("a half", || Ok((site.engine.metrics()?.sum("pointsman_canary_share", &[]) == 0.5).then_some(())))?;
    connect(&site, u64::from(CLIENTS), CLIENTS)?;
    let decisions = site.engine.decisions_at_least(3 * CLIENTS as usize)?;
    let half = canaries(&decisions[2 * CLIENTS as usize..])?;
    ensure!(half.is_superset(&fifth), "{} of {} left", fifth.difference(&half).count(), fifth.len());
    ensure!(half.len().abs_diff(500) <= 64, "{} of {CLIENTS} clients", half.len());
    accounts::balance(&site.engine, 3 * u64::from(CLIENTS))
}

/// A candidate that traps costs no connection, is rolled back by itself, stays so while the Service is planned again, and is back when its
/// annotations change.
#[test]
fn a_canary_that_fails_is_rolled_back() -> Result<()> {
    let trapping = |service: pointsman_tests::manifest::Service| {
        service.annotation("balancer-shadow", "first").annotation("balancer-shadow.fault", "trap").annotation("balancer-canary", "50%")
    };
    let site = site("rolled_back", trapping)?;
    let mut made = 0;
    let rolled_back = poll::until("the canary to be rolled back", || {
        made += connect(&site, 100, 50)?.answered();
        let canary = &tried(&site)?["canary"];
        if canary["rolled-back"].is_string() { Ok(Some(canary.clone())) } else { bail!("{canary}") }
    })?;
    ensure!(rolled_back["asked"] == "50%" && rolled_back["in-force"] == "0%", "{rolled_back}");
    let told = |event: &Value| event["severity"] == "warning" && event["message"].as_str().is_some_and(|text| text.contains("rolled back"));
    let event = site.engine.event("about the rollback", told)?;
    ensure!(event["message"].to_string().contains("default/web") && event["message"].to_string().contains("trap "), "{event}");
    let lines = || site.engine.log().iter().filter(|line| line.contains("is rolled back")).count();
    ensure!(lines() == 1 && event["count"] == 1, "told {} times: {event}", lines());
    let rollbacks = || anyhow::Ok(site.engine.metrics()?.sum("pointsman_canary_rollbacks_total", &[("service", "web")]));
    ensure!(rollbacks()? == 1.0);
    let report = command(&site, &["default/web"])?;
    let text = String::from_utf8_lossy(&report.stdout).into_owned();
    ensure!(report.status.code() == Some(1) && text.contains("rolled back"), "{report:?}");
    println!("{text}");

    // Its clients' connections were decided by the one in force, and say why.
    let decisions = site.engine.decisions_at_least(made as usize)?;
    let lost = decisions.iter().filter(|decision| decision["stages"][2]["shadow"]["fault"].to_string().contains("trap")).count();
    ensure!((6..=10).contains(&lost), "{lost} traps");
    let fallbacks = site.engine.metrics()?.sum("pointsman_policy_fallbacks_total", &[("policy", "first"), ("by", "in-force")]);
    ensure!(fallbacks > 0.0 && canaries(&decisions)?.is_empty());

    // Another endpoint, another plan: it stays as it is.
    let generation = site.engine.generation()?;
    site.endpoints(&site.backend_addresses()[..2])?;
    poll::until("the table after it", || Ok((site.engine.generation()? > generation).then_some(())))?;
    made += connect(&site, 100, 50)?.answered();
    ensure!(tried(&site)?["canary"]["in-force"] == "0%" && lines() == 1 && rollbacks()? == 1.0);

    // Without the fault it is something else, and begins anew; its breaker lets it in when it has been well for a while.
    site.service(|service| service.annotation("balancer-shadow", "first").annotation("balancer-canary", "50%"))?;
    poll::until("the canary to be back", || Ok((tried(&site)?["canary"]["in-force"] == "50%").then_some(())))?;
    poll::until("a connection that it decides", || {
        made += connect(&site, 100, 50)?.answered();
        let decisions = site.engine.decisions_at_least(made as usize)?;
        Ok(decisions.iter().any(|decision| decision["stages"][2]["by"] == "canary").then_some(()))
    })?;
    ensure!(tried(&site)?["canary"]["rolled-back"].is_null() && rollbacks()? == 1.0 && lines() == 1);
    accounts::balance_of_services(&site.engine, made).map(drop)
}

/// `route` says what the candidate would do, and whose client this is.
#[test]
fn route_shows_what_the_candidate_says() -> Result<()> {
    let site = site("route", |service| service.annotation("balancer-shadow", "maglev").annotation("balancer-canary", "100%"))?;
    let folder = site.manifests.path().display().to_string();
    let (to, cidr) = (format!("{}:8080", site.range.cluster_ip(10)), site.range.service_cidr());
    let ask = |output: &str| {
        let arguments =
            ["route", "-f", &folder, "--service-cidr", &cidr, "--client", "198.51.100.7", "--to", &to, "-o", output, "--seed", "1"];
        let output = Command::new(binary()?).args(arguments).output()?;
        ensure!(output.status.code() == Some(0), "{output:?}");
        anyhow::Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let answer: Value = serde_json::from_str(&ask("json")?)?;
    let stage = &answer["stages"][2];
    ensure!(stage["policy"] == "maglev" && stage["shadow"]["canary"] == true && stage["shadow"]["share"] == "100%", "{stage}");
    ensure!(stage["shadow"]["choice"] == answer["endpoint"], "{answer}");
    let text = ask("text")?;
    ensure!(text.contains("shadow: maglev ") && text.contains("; the client is a canary, one of 100%"), "{text}");
    site.service(|service| service.annotation("balancer-shadow", "maglev"))?;
    let text = ask("text")?;
    ensure!(text.contains("shadow: maglev ") && !text.contains("canary"), "{text}");
    Ok(())
}
