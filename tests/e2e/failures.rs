//! Endpoints that fail, and machines that run out.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use pointsman_tests::engine::Launch;
use pointsman_tests::process::run;
use pointsman_tests::range::client;
use pointsman_tests::{Backend, Range, accounts, load, poll};
use socket2::{Domain, Socket, Type};

use crate::site::{Site, WEB};

/// An endpoint that refuses costs no connection: another is picked, before any byte of the client's is lost, and the log names both.
#[test]
fn another_endpoint_is_picked_when_one_refuses() -> Result<()> {
    let range = Range::claim("another_endpoint_is_picked")?;
    let dead = range.dead_address(5)?;
    let backend = Backend::echo(range.backend_ip(0))?;
    let site = Site::of(range, vec![backend], &[dead], |service| service, |launch| launch)?;
    let address = site.address()?;
    for n in 0..40 {
        let mut stream = load::connect(address, None)?;
        // At once: these bytes are on their way while the first endpoint refuses.
        let sent = format!("request {n}");
        stream.write_all(sent.as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer == sent, "connection {n}: {answer:?} came back");
    }
    let decisions = site.engine.decisions_at_least(40)?;
    let refused = |decision: &&serde_json::Value| {
        let attempts = decision["attempts"].as_array();
        attempts.is_some_and(|attempts| attempts.iter().any(|a| a["endpoint"] == dead.to_string().as_str() && a["result"] == "refused"))
    };
    let count = decisions.iter().filter(refused).count();
    ensure!((1..=40).contains(&count), "the refusing endpoint is named in {count} of 40 decisions");
    let counted = site.engine.metrics()?.sum("pointsman_connect_failures_total", &[("reason", "refused")]);
    ensure!(counted == count as f64, "the metrics count {counted} refusals, the log {count}");
    accounts::balance(&site.engine, 40)
}

/// Three of four refuse: at most three further tries find the fourth.
#[test]
fn three_refusing_endpoints_are_survived() -> Result<()> {
    let range = Range::claim("three_refusing_endpoints")?;
    let dead = (1..4).map(|n| range.dead_address(n)).collect::<Result<Vec<_>>>()?;
    let backend = Backend::named(range.backend_ip(0), "alive")?;
    let site = Site::of(range, vec![backend], &dead, |service| service.annotation("balancer", "random"), |launch| launch)?;
    load::in_a_row(site.address()?, 50).none_lost(50)?;
    accounts::balance(&site.engine, 50)
}

/// When no endpoint can be reached, the client learns it by a reset or an end, soon; the log says so and the books balance.
#[test]
fn nobody_reachable_is_told_to_the_client() -> Result<()> {
    let range = Range::claim("nobody_reachable")?;
    let dead = [range.dead_address(0)?, range.dead_address(1)?];
    let site = Site::of(range, vec![], &dead, |service| service, |launch| launch)?;
    let error = load::ask(site.address()?, None).err().map(|error| error.kind());
    ensure!(matches!(error, Some(ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof)), "the client saw {error:?}");
    let decision = &site.engine.decisions_at_least(1)?[0];
    ensure!(decision["outcome"] == "connect-failed", "{decision}");
    ensure!(decision["attempts"].as_array().map(Vec::len) == Some(2), "both endpoints were to be tried: {decision}");
    accounts::balance(&site.engine, 1)
}

/// An endpoint that answers nothing at all (its queue is full) is given up after the connect timeout, and another takes over.
#[test]
fn a_silent_endpoint_is_given_up_after_the_connect_timeout() -> Result<()> {
    let range = Range::claim("a_silent_endpoint")?;
    let silent = Silent::listen((range.backend_ip(5), 0).into())?;
    let backend = Backend::named(range.backend_ip(0), "alive")?;
    let timeout = |launch: Launch<'static>| launch.arguments(["--connect-timeout", "500ms"]);
    let site = Site::of(range, vec![backend], &[silent.address], |service| service, timeout)?;
    load::in_a_row(site.address()?, 4).none_lost(4)?;
    let decisions = site.engine.decisions_at_least(4)?;
    let given_up = |decision: &serde_json::Value| decision["attempts"].to_string().contains("timed-out");
    ensure!(decisions.iter().any(given_up), "no attempt timed out: {decisions:?}");
    for decision in decisions.iter().filter(|decision| given_up(decision)) {
        ensure!(decision["duration_ms"].as_u64() >= Some(500), "given up before the timeout: {decision}");
    }
    accounts::balance(&site.engine, 4)
}

/// A listener whose queue is full and that never accepts: the kernel drops further SYNs.
struct Silent {
    address: SocketAddr,
    _listener: Socket,
    _queued: Vec<TcpStream>,
}

impl Silent {
    fn listen(address: SocketAddr) -> Result<Self> {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        listener.bind(&address.into())?;
        listener.listen(0)?;
        let Some(address) = listener.local_addr()?.as_socket() else { bail!("no address") };
        // Fills the queue; the first connect that stays unanswered shows that it is full.
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            queued.push(stream);
            ensure!(queued.len() < 64, "the queue of {address} does not fill");
        }
        Ok(Self { address, _listener: listener, _queued: queued })
    }
}

/// sessionAffinity ClientIP: a client stays with its endpoint, whatever the balancer; clients differ; a dead endpoint loses its pins.
#[test]
fn a_client_stays_with_its_endpoint_until_that_fails() -> Result<()> {
    let mut site = Site::named_as(
        "a_client_stays",
        &["a", "b", "c"],
        |service| service.spec("sessionAffinity", "ClientIP").annotation("balancer", "random"),
        |launch| launch,
    )?;
    let address = site.address()?;
    let mut homes = Vec::new();
    for n in 0..30 {
        let tally = load::side_by_side(address, 1, 10, |_| Some(client(n)));
        ensure!(tally.failures.is_empty() && tally.by_name.len() == 1, "client {n}: {tally:?}");
        homes.extend(tally.by_name.into_keys());
    }
    let distinct: std::collections::BTreeSet<_> = homes.iter().collect();
    ensure!(distinct.len() == 3, "30 clients went to {distinct:?} only");
    let pinned = site.engine.decisions_at_least(300)?;
    let told = pinned.iter().filter(|decision| decision["stages"][2]["not_asked"].is_string()).count();
    ensure!(told == 270, "the log says of {told} decisions that the balancer was not asked for an affinity, of 270");

    let gone = site.backends.remove(0);
    let lost: Vec<u32> = (0..30).filter(|n| homes[*n as usize] == "a").collect();
    drop(gone);
    for n in lost {
        let tally = load::side_by_side(address, 1, 5, |_| Some(client(n)));
        ensure!(
            tally.failures.is_empty() && tally.by_name.len() == 1 && tally.of("a") == 0,
            "client {n} after its endpoint died: {tally:?}"
        );
    }
    Ok(())
}

/// Few file descriptors: as many connections as fit them are served, the others wait in the queue and are served later; none is lost.
#[test]
fn few_descriptors_make_connections_wait() -> Result<()> {
    let range = Range::claim("few_descriptors")?;
    let backend = Backend::echo(range.backend_ip(0))?;
    let few = |launch: Launch<'static>| launch.under(["prlimit", "--nofile=128:128"]).arguments(["--max-connections", "1000"]);
    let mut site = Site::of(range, vec![backend], &[], |service| service, few)?;
    let mut held = hold(site.address()?, 100)?;
    let served = served_within(&mut held, Duration::from_secs(2))?;
    ensure!((5..64).contains(&served), "{served} of 100 were served at a time with 128 descriptors");
    site.engine.still_runs()?;
    let mut total = 0;
    poll::until("all of them to be served, as others end", || {
        served_within(&mut held, Duration::ZERO)?;
        let before = held.len();
        held.retain(|(_, served)| !served);
        total += before - held.len();
        Ok(held.is_empty().then_some(()))
    })?;
    ensure!(total == 100, "{total} of 100");
    accounts::balance(&site.engine, 100)
}

/// The limit shrinks while the engine runs: it is out of descriptors before it expects to be. It keeps what it has, spins not, and
/// serves again when some are free.
#[test]
fn running_out_of_descriptors_is_survived() -> Result<()> {
    let range = Range::claim("out_of_descriptors")?;
    let backend = Backend::echo(range.backend_ip(0))?;
    let mut site = Site::of(range, vec![backend], &[], |service| service, |launch| launch)?;
    let address = site.address()?;
    let id = site.engine.id();
    let in_use = std::fs::read_dir(format!("/proc/{id}/fd"))?.count();
    let limit = in_use + 31;
    run(Command::new("prlimit").args(["--pid", &id.to_string(), &format!("--nofile={limit}:{limit}")]))?;
    let mut held = hold(address, 60)?;
    let served = served_within(&mut held, Duration::from_secs(2))?;
    ensure!((5..=30).contains(&served), "{served} of 60 were served with 31 descriptors left");
    let ticks = cpu_ticks(id)?;
    let started = Instant::now();
    poll::until("two seconds of being out of descriptors", || Ok((started.elapsed().as_secs() >= 2).then_some(())))?;
    let spent = cpu_ticks(id)? - ticks;
    ensure!(spent < 100, "the engine spun: {spent} ticks of 10 ms in two seconds");
    site.engine.still_runs()?;

    drop(held);
    poll::until("a connection served after descriptors became free", || {
        let mut stream = load::connect(address, None)?;
        stream.write_all(b"again")?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.read_exact(&mut [0; 5])?;
        Ok(Some(()))
    })?;
    ensure!(site.engine.get("/readyz")?.status == 200, "not ready afterwards");
    site.engine.frontend(WEB, "cluster-ip").map(drop)
}

/// Connections that have sent one byte, and whether it has come back.
fn hold(address: SocketAddr, count: usize) -> Result<Vec<(TcpStream, bool)>> {
    let one = |_| {
        let mut stream = load::connect(address, None)?;
        stream.write_all(b"x")?;
        stream.set_nonblocking(true)?;
        Ok((stream, false))
    };
    (0..count).map(one).collect()
}

/// Looks again and again for that long, at least once; returns how many have been served by then.
fn served_within(held: &mut [(TcpStream, bool)], time: Duration) -> Result<usize> {
    let started = Instant::now();
    poll::until("echoes", || {
        for (stream, served) in held.iter_mut().filter(|(_, served)| !served) {
            *served = matches!(stream.read(&mut [0; 1]), Ok(1));
        }
        Ok((started.elapsed() >= time).then(|| held.iter().filter(|(_, served)| *served).count()))
    })
}

fn cpu_ticks(id: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let Some((_, fields)) = stat.rsplit_once(')') else { bail!("not a stat line: {stat}") };
    let fields: Vec<&str> = fields.split_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

/// `--max-connections`: those within it are served, one beyond is not until there is room, and the engine is none the worse.
#[test]
fn the_connection_limit_holds() -> Result<()> {
    let range = Range::claim("the_connection_limit")?;
    let backend = Backend::echo(range.backend_ip(0))?;
    let limited = |launch: Launch<'static>| launch.arguments(["--max-connections", "8"]);
    let site = Site::of(range, vec![backend], &[], |service| service, limited)?;
    let address = site.address()?;
    let exchange = |stream: &mut TcpStream, patience: u64| {
        stream.set_read_timeout(Some(Duration::from_millis(patience)))?;
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0; 1])
    };
    let mut held = Vec::new();
    for n in 0..8 {
        let mut stream = load::connect(address, None)?;
        exchange(&mut stream, 10_000).map_err(|error| anyhow::anyhow!("connection {n} of 8: {error}"))?;
        held.push(stream);
    }
    let mut beyond = load::connect(address, None)?;
    ensure!(exchange(&mut beyond, 500).is_err(), "a ninth connection was served with a limit of eight");
    let accepted = site.backends[0].accepted();
    ensure!(accepted == 8, "the backend saw {accepted} connections with a limit of eight");
    held.pop();
    drop(beyond);
    poll::until("a connection served after another ended", || {
        exchange(&mut load::connect(address, None)?, 2_000)?;
        Ok(Some(()))
    })
}

/// Another program has the address already: that frontend is reported with the reason, the others are served.
#[test]
fn a_taken_port_is_reported_and_the_rest_served() -> Result<()> {
    use pointsman_tests::manifest::{Service, endpoints};
    let range = Range::claim("a_taken_port")?;
    let backend = Backend::named(range.backend_ip(0), "web")?;
    let stranger = TcpListener::bind((Range::mapped(range.cluster_ip(10)), 8080))?;
    let text = Service::new("web").cluster_ip(range.cluster_ip(10)).port("{port: 8080}").yaml()
        + &endpoints("web", &[backend.address()])
        + &Service::new("other").cluster_ip(range.cluster_ip(11)).port("{port: 8080}").yaml()
        + &endpoints("other", &[backend.address()]);
    let manifests = pointsman_tests::Manifests::with("all.yaml", &text)?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    load::in_a_row(engine.frontend("default/other:8080", "cluster-ip")?, 3).none_lost(3)?;
    let bound = engine.get("/bound")?.json()?;
    let not_served = bound["not_served"].as_array().cloned().unwrap_or_default();
    ensure!(not_served.iter().any(|line| line["service"] == WEB && line["why"].is_string()), "/bound says {bound}");
    // The stranger leaves: the engine takes the address without being told.
    drop(stranger);
    let address = engine.frontend(WEB, "cluster-ip")?;
    load::in_a_row(address, 3).none_lost(3)
}

/// Endpoints come and go, all of them alive: a connection that was on its way to one that left is not lost, and in the end only those
/// that are listed are reached.
#[test]
fn endpoints_that_come_and_go_cost_nothing() -> Result<()> {
    let site = Site::named("endpoints_come_and_go", &["a", "b", "c"])?;
    let all = site.backend_addresses();
    let flow = load::Flow::start(site.address()?, 500);
    flow.pass(50)?;
    for n in 0..60 {
        site.endpoints(&[all[n % 3], all[(n + 1) % 3]])?;
        flow.pass(10)?;
    }
    site.endpoints(&all[2..])?;
    let settled = |decision: &serde_json::Value| decision["stages"][2]["choice"] == all[2].to_string().as_str();
    poll::until("ten decisions in a row for the only endpoint left", || {
        let decisions = site.engine.decisions()?;
        Ok((decisions.len() > 10 && decisions.iter().rev().take(10).all(settled)).then_some(()))
    })?;
    let before = site.backends[2].accepted();
    flow.pass(100)?;
    let tally = flow.stop();
    ensure!(tally.failures.is_empty(), "{tally:?}");
    ensure!(site.backends[2].accepted() > before, "the last endpoint stands still");
    accounts::balance_of_services(&site.engine, tally.answered()).map(drop)
}

/// The only endpoint is exchanged for another in one step: at no moment is there nobody, so no connection may meet a closed door.
#[test]
fn exchanging_every_endpoint_at_once_costs_nothing() -> Result<()> {
    let site = Site::named("exchanging_every_endpoint", &["a", "b"])?;
    let all = site.backend_addresses();
    site.endpoints(&all[..1])?;
    let flow = load::Flow::start(site.address()?, 1_000);
    flow.pass(50)?;
    for n in 0..40 {
        site.endpoints(&all[(n + 1) % 2..][..1])?;
        flow.pass(40)?;
    }
    let tally = flow.stop();
    ensure!(tally.failures.is_empty(), "{tally:?}");
    ensure!(tally.of("a") > 0 && tally.of("b") > 0, "nothing was exchanged: {tally:?}");
    accounts::balance_of_services(&site.engine, tally.answered()).map(drop)
}
