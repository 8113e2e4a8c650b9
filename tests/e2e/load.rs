//! Tens of thousands of connections: none lost, shared as each balancer's law says, every one in the log with its stages.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use pointsman_guests::Component;
use pointsman_tests::engine::Launch;
use pointsman_tests::load::{Flow, Tally};
use pointsman_tests::manifest::{Pod, Service};
use pointsman_tests::range::client;
use pointsman_tests::{Backend, Manifests, Range, accounts, load};
use serde_json::Value;

use crate::site::Site;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// For each built-in balancer.
const CONNECTIONS: u64 = 30_000;

/// Addresses that they come from.
const CLIENTS: u64 = 3_000;

/// Five standard deviations of a share of 30,000 draws with one chance in three: a fair draw is out of it once in two million runs.
const FIVE_SIGMA: u64 = 408;

/// The same of 3,000.
const FIVE_SIGMA_OF_CLIENTS: u64 = 130;

/// The same, where the hash cuts a ring at 160 points for each endpoint: a third of it is off by 6.5 %, besides.
const FIVE_SIGMA_OF_A_RING: u64 = 416;

/// Sends 30,000 connections through a balancer, some at once, and holds client, log and metrics to one another.
fn thirty_thousand(balancer: &str, at_once: u64) -> Result<(Tally, Vec<Value>)> {
    let site = Site::named_as(&format!("load_{balancer}"), &NAMES, |service| service.annotation("balancer", balancer), |launch| launch)?;
    let tally = load::side_by_side(site.address()?, at_once, CONNECTIONS, |n| Some(client((n % CLIENTS) as u32)));
    println!("{balancer}: {tally:?}");
    tally.none_lost(CONNECTIONS)?;
    accounts::balance(&site.engine, CONNECTIONS)?;
    let decisions = site.engine.decisions()?;
    for decision in &decisions {
        let stage = &decision["stages"][2];
        ensure!(stage["policy"] == balancer && stage["choice"] == decision["endpoint"], "not decided by {balancer}: {decision}");
    }
    for (name, backend) in NAMES.iter().zip(&site.backends) {
        let logged = decisions.iter().filter(|decision| decision["endpoint"] == backend.address().to_string().as_str()).count() as u64;
        ensure!(logged == tally.of(name), "{name} answered {} connections, the log says {logged}", tally.of(name));
    }
    Ok((tally, decisions))
}

fn shares_within(tally: &Tally, tolerance: u64) -> Result<()> {
    for name in NAMES {
        let off = tally.of(name).abs_diff(CONNECTIONS / 3);
        ensure!(off <= tolerance, "{name} is {off} off a third, {tolerance} are allowed: {tally:?}");
    }
    Ok(())
}

/// A consistent hash: a client always meets the same endpoint, and the clients are spread evenly.
fn sticks_to_clients(decisions: &[Value], tolerance: u64) -> Result<()> {
    let mut homes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for decision in decisions {
        let client: SocketAddr = decision["client"].as_str().context("no client")?.parse()?;
        homes.entry(client.ip().to_string()).or_default().insert(decision["endpoint"].to_string());
    }
    ensure!(homes.len() as u64 == CLIENTS, "{} clients in the log", homes.len());
    let mut shares: BTreeMap<&String, u64> = BTreeMap::new();
    for (client, endpoints) in &homes {
        ensure!(endpoints.len() == 1, "{client} met {endpoints:?}");
        for endpoint in endpoints {
            *shares.entry(endpoint).or_default() += 1;
        }
    }
    for share in shares.values() {
        ensure!(share.abs_diff(CLIENTS / 3) <= tolerance, "clients by endpoint: {shares:?}");
    }
    Ok(())
}

#[test]
fn round_robin_is_exact() -> Result<()> {
    shares_within(&thirty_thousand("round-robin", 16)?.0, 1)
}

#[test]
fn random_is_fair() -> Result<()> {
    shares_within(&thirty_thousand("random", 16)?.0, FIVE_SIGMA)
}

/// One at a time: with several, the backend that the scheduler has just passed over is loaded more, and rightly chosen less.
#[test]
fn two_choices_is_fair_under_equal_load() -> Result<()> {
    shares_within(&thirty_thousand("two-choices", 1)?.0, FIVE_SIGMA)
}

#[test]
fn least_connections_is_fair_under_equal_load() -> Result<()> {
    shares_within(&thirty_thousand("least-connections", 1)?.0, FIVE_SIGMA)
}

/// Under load that nobody controls their shares follow it, but they lose as little as the others.
#[test]
fn load_aware_balancers_lose_nothing_under_concurrency() -> Result<()> {
    thirty_thousand("two-choices", 16)?;
    thirty_thousand("least-connections", 16)?;
    thirty_thousand("peak-ewma", 16)?;
    thirty_thousand("bounded-maglev", 16).map(drop)
}

#[test]
fn maglev_keeps_clients_at_their_endpoint() -> Result<()> {
    sticks_to_clients(&thirty_thousand("maglev", 16)?.1, FIVE_SIGMA_OF_CLIENTS)
}

#[test]
fn rendezvous_keeps_clients_at_their_endpoint() -> Result<()> {
    sticks_to_clients(&thirty_thousand("rendezvous", 16)?.1, FIVE_SIGMA_OF_CLIENTS)
}

#[test]
fn ring_hash_keeps_clients_at_their_endpoint() -> Result<()> {
    sticks_to_clients(&thirty_thousand("ring-hash", 16)?.1, FIVE_SIGMA_OF_A_RING)
}

#[test]
fn ketama_keeps_clients_at_their_endpoint() -> Result<()> {
    sticks_to_clients(&thirty_thousand("ketama", 16)?.1, FIVE_SIGMA_OF_A_RING)
}

/// Room for a hundred, and 16 at once: nobody but the first is needed.
#[test]
fn first_available_needs_one() -> Result<()> {
    let (tally, _) = thirty_thousand("first-available", 16)?;
    ensure!(NAMES.iter().any(|name| tally.of(name) == CONNECTIONS), "{tally:?}");
    Ok(())
}

/// Every built-in balancer is in one of the tests above: a new one needs its law.
#[test]
fn every_built_in_balancer_has_its_law_here() {
    let balancers = pointsman_guests::BUILT_IN.iter().filter(|component| component.stage == pointsman_guests::Stage::Balancer);
    let names: BTreeSet<&str> = balancers.map(|component| component.name).collect();
    let tested = [
        "bounded-maglev",
        "first-available",
        "ketama",
        "least-connections",
        "maglev",
        "peak-ewma",
        "random",
        "rendezvous",
        "ring-hash",
        "round-robin",
        "two-choices",
    ];
    assert_eq!(names, BTreeSet::from(tested));
}

/// 3,000 connections, one after the other, over three ready endpoints with one worker: 1,000 ± 1 each.
#[test]
fn round_robin_gives_a_thousand_each() -> Result<()> {
    let site = Site::named("round_robin_gives_a_thousand_each", &NAMES)?;
    let tally = load::in_a_row(site.address()?, 3_000);
    tally.none_lost(3_000)?;
    for name in NAMES {
        ensure!(tally.of(name).abs_diff(1_000) <= 1, "{tally:?}");
    }
    accounts::balance(&site.engine, 3_000)
}

/// Weights of pods, five to one to one: 700 connections are 500, 100 and 100.
#[test]
fn round_robin_follows_weights() -> Result<()> {
    let range = Range::claim("round_robin_follows_weights")?;
    let service = Service::new("web").cluster_ip(range.cluster_ip(10)).selector("app", "web").port("{port: 8080, targetPort: http}");
    let manifests = Manifests::with("service.yaml", &service.yaml())?;
    let mut backends = Vec::new();
    for ((n, name), weight) in (0..).zip(NAMES).zip([5, 1, 1]) {
        let backend = Backend::named(range.backend_ip(n), name)?;
        let pod = Pod::new(name, "app: web", backend.address().ip()).port("http", backend.address().port()).weight(weight);
        manifests.write(&format!("{name}.yaml"), &pod.yaml())?;
        backends.push(backend);
    }
    let engine = Launch::new(&range, manifests.path())?.start()?;
    let tally = load::in_a_row(engine.frontend("default/web:8080", "cluster-ip")?, 700);
    ensure!(NAMES.map(|name| tally.of(name)) == [500, 100, 100], "{tally:?}");
    Ok(())
}

/// Held connections count: 300 of them are a hundred each, and what the busiest has more than the idlest is at most one.
#[test]
fn least_connections_levels_held_connections() -> Result<()> {
    levels("least-connections", 1)
}

/// Two choices: the gap stays bounded whatever the number of connections (Berenbrink et al. 2000); 12 is generous for three endpoints.
#[test]
fn two_choices_levels_held_connections() -> Result<()> {
    levels("two-choices", 12)
}

fn levels(balancer: &str, gap: u64) -> Result<()> {
    let range = Range::claim(&format!("levels_{balancer}"))?;
    let backends = (0..3).map(|n| Backend::echo(range.backend_ip(n))).collect::<Result<Vec<_>>>()?;
    let site = Site::of(range, backends, &[], |service| service.annotation("balancer", balancer), |launch| launch)?;
    let address = site.address()?;
    let mut held = Vec::new();
    for n in 0..300 {
        let mut stream = load::connect(address, None)?;
        // An answer shows that the pick is counted before the next one is made.
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0; 1])?;
        held.push(stream);
        let counts: Vec<u64> = site.backends.iter().map(Backend::accepted).collect();
        let (least, most) = (counts.iter().min(), counts.iter().max());
        ensure!(most.zip(least).is_some_and(|(most, least)| most - least <= gap), "after {n}: {counts:?}");
    }
    let active = site.engine.metrics()?.by("endpoint", "pointsman_endpoint_active", &[("service", "web")]);
    ensure!(active.len() == 3 && active.values().sum::<f64>() == 300.0, "active by endpoint: {active:?}");
    drop(held);
    accounts::balance(&site.engine, 300)
}

/// Four workers share one port: none lost, and each is fair by itself.
#[test]
fn several_workers_lose_nothing() -> Result<()> {
    let site = Site::named_as("several_workers", &NAMES, |service| service, |launch| launch.workers(4))?;
    let tally = load::side_by_side(site.address()?, 16, 12_000, |_| None);
    tally.none_lost(12_000)?;
    accounts::balance(&site.engine, 12_000)?;
    let mut workers: BTreeMap<u64, BTreeMap<String, u64>> = BTreeMap::new();
    for decision in site.engine.decisions()? {
        let worker = decision["worker"].as_u64().context("no worker")?;
        *workers.entry(worker).or_default().entry(decision["endpoint"].to_string()).or_default() += 1;
    }
    ensure!(workers.len() == 4, "the kernel spread 12,000 connections over {} of 4 workers", workers.len());
    for (worker, counts) in &workers {
        let (least, most) = (counts.values().min(), counts.values().max());
        ensure!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "worker {worker}: {counts:?}");
    }
    Ok(())
}

/// While 2,000 connections a second flow, a policy is replaced a hundred times: none fails, every decision names exactly one digest.
#[test]
fn a_hundred_swaps_lose_nothing() -> Result<()> {
    let components = ["round-robin", "random"].map(|name| Component::named(name).context("not built in"));
    let [first, second] = components;
    let (first, second) = (first?.bytes, second?.bytes);
    let range = Range::claim("a_hundred_swaps")?;
    let backends = NAMES.iter().zip(0..).map(|(name, n)| Backend::named(range.backend_ip(n), name)).collect::<Result<Vec<_>>>()?;
    let manifests = Manifests::new()?;
    let addresses: Vec<SocketAddr> = backends.iter().map(Backend::address).collect();
    let service = Service::new("web").cluster_ip(range.cluster_ip(10)).port("{port: 8080}").annotation("balancer", "live");
    manifests.write("all.yaml", &(service.yaml() + &pointsman_tests::manifest::endpoints("web", &addresses)))?;
    let engine = Launch::new(&range, manifests.path())?.policy("live", first)?.start()?;
    let flow = Flow::start(engine.frontend("default/web:8080", "cluster-ip")?, 2_000);
    flow.pass(200)?;
    let mut digests = BTreeSet::from([engine.digest("balancer", "live")?]);
    for n in 0..100 {
        let component = if n % 2 == 0 { second } else { first };
        let answer = engine.post("/policies/live/swap", component)?;
        ensure!(answer.status == 200, "swap {n}: {} {}", answer.status, answer.body);
        digests.insert(engine.digest("balancer", "live")?);
        flow.pass(20)?;
    }
    let tally = flow.stop();
    // The flow slows down rather than lie about its rate; so that it stays a flow, a swap must meet twenty connections at least.
    ensure!(tally.answered() >= 2_200, "{} connections met a hundred swaps", tally.answered());
    ensure!(tally.failures.is_empty(), "{:?} of {} failed", tally.failures, tally.answered());
    ensure!(digests.len() == 2, "two components, but {digests:?}");
    accounts::balance(&engine, tally.answered())?;
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for decision in engine.decisions()? {
        let stage = &decision["stages"][2];
        ensure!(stage["choice"].is_string(), "a swap made a connection go without its policy: {decision}");
        *seen.entry(stage["digest"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    println!("decisions by digest: {seen:?}");
    ensure!(seen.keys().cloned().collect::<BTreeSet<_>>() == digests, "decisions name {seen:?}, in force were {digests:?}");
    Ok(())
}
