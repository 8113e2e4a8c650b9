//! J4: readiness, as probes find it, by the admin port and files.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use pointsman_tests::engine::{Launch, binary};
use pointsman_tests::load::Tally;
use pointsman_tests::manifest::{Pod, Service, endpoints};
use pointsman_tests::process::Process;
use pointsman_tests::{Backend, Engine, Manifests, Range, accounts, http, load, poll};
use serde_json::Value;

/// `pointsman backend`: the pod's program, whose `/readyz` can be made to fail.
struct Program {
    address: SocketAddr,
    _process: Process,
}

impl Program {
    fn start(ip: impl Into<IpAddr>, name: &str) -> Result<Self> {
        let mut command = Command::new(binary()?);
        command.args(["backend", "--listen", &SocketAddr::new(ip.into(), 0).to_string(), "--name", name]);
        let mut process = Process::start("pointsman backend", &mut command)?;
        let address = process.wait_for_line("where it listens", |line| line.strip_prefix("listening on http://")?.parse().ok())?;
        Ok(Self { address, _process: process })
    }

    fn set(&self, readyz: &str) -> Result<()> {
        let answer = http::post(self.address, "/readyz", format!("readyz={readyz}").as_bytes())?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    }
}

const WEB: &str = "default/web:8080";

fn web(range: &Range) -> Service {
    Service::new("web").cluster_ip(range.cluster_ip(10)).selector("app", "web").port("{port: 8080, targetPort: http}")
}

/// Who answers `count` requests, each on a connection of its own.
fn answers(address: SocketAddr, count: u64) -> Result<Tally> {
    let mut tally = Tally::default();
    for _ in 0..count {
        let name = http::get(address, "/")?.json()?["name"].as_str().context("no name")?.to_owned();
        *tally.by_name.entry(name).or_default() += 1;
    }
    Ok(tally)
}

/// Waits until exactly these answer, in equal shares.
fn rotation(address: SocketAddr, expected: &[&str]) -> Result<()> {
    let expected: BTreeSet<&str> = expected.iter().copied().collect();
    poll::until(&format!("a rotation over {expected:?}"), || {
        let tally = answers(address, expected.len() as u64 * 4)?;
        let even = tally.by_name.values().all(|count| *count == 4);
        if even && tally.by_name.keys().map(String::as_str).eq(expected.iter().copied()) { Ok(Some(())) } else { bail!("{tally:?}") }
    })
}

/// The addresses of Endpoints `web` in this field, and those that its slices call so.
fn listed(engine: &Engine, ready: bool) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let of_web = |kind: &str| -> Result<Vec<Value>> {
        let list = engine.get(&format!("/objects/{kind}"))?.json()?;
        let items = list["items"].as_array().context("no items")?.clone();
        let name = |item: &Value| item["metadata"]["labels"]["kubernetes.io/service-name"] == "web" || item["metadata"]["name"] == "web";
        Ok(items.into_iter().filter(name).collect())
    };
    let texts = |values: &mut dyn Iterator<Item = &Value>| values.filter_map(Value::as_str).map(str::to_owned).collect();
    let field = if ready { "addresses" } else { "notReadyAddresses" };
    let (ends, slices) = (of_web("endpoints")?, of_web("endpointslices")?);
    let subsets = ends.iter().flat_map(|item| item["subsets"].as_array().into_iter().flatten());
    let in_endpoints = texts(&mut subsets.flat_map(|subset| subset[field].as_array().into_iter().flatten()).map(|address| &address["ip"]));
    let members = slices.iter().flat_map(|item| item["endpoints"].as_array().into_iter().flatten());
    let in_slices = texts(&mut members.filter(|end| end["conditions"]["ready"] == ready).map(|end| &end["addresses"][0]));
    Ok((in_endpoints, in_slices))
}

/// Waits until Endpoints and slices say so of exactly these addresses.
fn until_listed(engine: &Engine, ready: bool, addresses: &[IpAddr]) -> Result<()> {
    let wanted: BTreeSet<String> = addresses.iter().map(IpAddr::to_string).collect();
    let state = if ready { "ready" } else { "not ready" };
    poll::until(&format!("{wanted:?} to be listed as {state}"), || {
        let (ends, slices) = listed(engine, ready)?;
        if ends == wanted && slices == wanted { Ok(Some(())) } else { bail!("Endpoints: {ends:?}, slices: {slices:?}") }
    })
}

fn probes(engine: &Engine, kind: &str, result: &str) -> Result<f64> {
    Ok(engine.metrics()?.sum("pointsman_probes_total", &[("kind", kind), ("result", result)]))
}

fn said(engine: &Engine, parts: &[&str]) -> Result<Value> {
    engine.event(&format!("{parts:?}"), |event| {
        let message = event["message"].as_str().unwrap_or_default();
        parts.iter().all(|part| message.contains(part))
    })
}

/// A connection that stays open, to whom it leads, and what it is told.
fn keep_alive(address: SocketAddr) -> Result<(BufReader<std::net::TcpStream>, String)> {
    let mut stream = BufReader::new(load::connect(address, None)?);
    let name = ask_again(&mut stream)?;
    Ok((stream, name))
}

fn ask_again(stream: &mut BufReader<std::net::TcpStream>) -> Result<String> {
    stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")?;
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        ensure!(stream.read_line(&mut line)? > 0, "the connection ended");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let hello: Value = serde_json::from_slice(&body)?;
    Ok(hello["name"].as_str().context("no name")?.to_owned())
}

/// J4: a pod that was never ready is never reached; one that fails three probes in a row leaves, while its connections go on; one
/// success brings it back.
#[test]
fn a_pod_is_reached_only_while_its_probe_succeeds() -> Result<()> {
    let range = Range::claim("a_pod_is_reached_only_while")?;
    let pods = [Program::start(range.backend_ip(0), "p0")?, Program::start(range.backend_ip(1), "p1")?];
    pods[1].set("FAIL")?;
    let manifests = Manifests::with("service.yaml", &web(&range).yaml())?;
    for (n, program) in pods.iter().enumerate() {
        let pod = Pod::new(&format!("p{n}"), "app: web", program.address.ip()).node("n1").port("http", program.address.port());
        let pod = pod.readiness_probe("{httpGet: {path: /readyz, port: http}, periodSeconds: 1, failureThreshold: 3}");
        manifests.write(&format!("pod-{n}.yaml"), &pod.yaml())?;
    }
    let engine = Launch::new(&range, manifests.path())?.start()?;
    let address = engine.frontend(WEB, "cluster-ip")?;
    let ips = [pods[0].address.ip(), pods[1].address.ip()];
    until_listed(&engine, true, &ips[..1])?;
    until_listed(&engine, false, &ips[1..])?;
    poll::until("two probes that failed", || Ok((probes(&engine, "container", "failure")? >= 2.0).then_some(())))?;
    ensure!(answers(address, 6)?.of("p0") == 6, "a pod whose probe never succeeded was reached");
    let early = engine.decisions_at_least(6)?;
    ensure!(!Value::from(early).to_string().contains(&format!("\"endpoint\":\"{}\"", pods[1].address)), "it was connected to");

    pods[1].set("OK")?;
    rotation(address, &["p0", "p1"])?;
    until_listed(&engine, true, &ips)?;
    said(&engine, &["Pod default/p1, container main", ": ready:"])?;

    let (mut established, name) = keep_alive(address)?;
    let leaving = usize::from(name == "p1");
    let other = ["p1", "p0"][leaving];
    let failed_before = probes(&engine, "container", "failure")?;
    let began = Instant::now();
    pods[leaving].set("FAIL")?;
    until_listed(&engine, false, &ips[leaving..=leaving])?;
    let took = began.elapsed();
    ensure!(took.as_millis() >= 1_500, "it left after {took:?}, but three failures a second apart take two seconds");
    ensure!(probes(&engine, "container", "failure")? - failed_before >= 3.0, "it left before the third failure");
    said(&engine, &[&format!("Pod default/{name}, container main"), "not ready", "3 times in a row"])?;
    ensure!(answers(address, 8)?.of(other) == 8, "a pod that is not ready was reached");
    ensure!(ask_again(&mut established)? == name, "the established connection");

    let succeeded_before = probes(&engine, "container", "success")?;
    pods[leaving].set("OK")?;
    rotation(address, &["p0", "p1"])?;
    ensure!(probes(&engine, "container", "success")? > succeeded_before, "it came back without a success");
    ensure!(ask_again(&mut established)? == name, "the established connection, after it came back");
    Ok(())
}

/// tcpSocket: ready when somebody accepts.
#[test]
fn a_pod_is_ready_when_its_port_accepts() -> Result<()> {
    let range = Range::claim("a_pod_is_ready_when_its_port")?;
    let address = range.dead_address(0)?;
    let pod = Pod::new("p0", "app: web", address.ip()).port("http", address.port());
    let pod = pod.readiness_probe("{tcpSocket: {port: http}, periodSeconds: 1}");
    let manifests = Manifests::with("all.yaml", &(web(&range).yaml() + &pod.yaml()))?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    poll::until("a probe that failed", || Ok((probes(&engine, "container", "failure")? >= 1.0).then_some(())))?;
    until_listed(&engine, false, &[address.ip()])?;
    ensure!(engine.bound()?.is_empty(), "nobody is ready, and yet something listens: {:?}", engine.bound()?);
    let backend = Backend::named_on(std::net::TcpListener::bind(address)?, "p0")?;
    load::in_a_row(engine.frontend(WEB, "cluster-ip")?, 4).none_lost(4)?;
    until_listed(&engine, true, &[address.ip()])?;
    drop(backend);
    engine.frontend_gone(WEB, "cluster-ip")?;
    until_listed(&engine, false, &[address.ip()])
}

/// Commands run only where the host was told to; without that, the pod is as ready as its manifest says, and that is said.
#[test]
fn commands_are_run_only_when_allowed() -> Result<()> {
    let range = Range::claim("commands_are_run_only_when_allowed")?;
    let backend = Backend::named(range.backend_ip(0), "p0")?;
    let (manifests, files) = (Manifests::with("service.yaml", &web(&range).yaml())?, Manifests::new()?);
    let (flag, marker) = (files.path().join("ready"), files.path().join("ran"));
    let command = format!("touch {}; test -e {}", marker.display(), flag.display());
    let pod = Pod::new("p0", "app: web", backend.address().ip()).port("http", backend.address().port());
    let probe = format!("{{exec: {{command: [sh, -c, \"{command}\"]}}, periodSeconds: 1, failureThreshold: 1}}");
    manifests.write("pod.yaml", &pod.readiness_probe(probe).yaml())?;
    {
        let engine = Launch::new(&range, manifests.path())?.start()?;
        let event = said(&engine, &["container main is not probed", "a command on this host"])?;
        ensure!(event["severity"] == "warning" && event["object"] == "Pod default/p0", "{event}");
        ensure!(event["remedy"].as_str().is_some_and(|remedy| remedy.contains("--allow-exec-probes")), "{event}");
        load::in_a_row(engine.frontend(WEB, "cluster-ip")?, 4).none_lost(4)?;
        ensure!(engine.metrics()?.sum("pointsman_probes_total", &[]) == 0.0, "nothing was to be probed");
        ensure!(!marker.exists(), "the command was run");
    }
    let engine = Launch::new(&range, manifests.path())?.arguments(["--allow-exec-probes"]).start()?;
    poll::until("a probe that failed", || Ok((probes(&engine, "container", "failure")? >= 1.0).then_some(())))?;
    until_listed(&engine, false, &[backend.address().ip()])?;
    ensure!(marker.exists() && engine.bound()?.is_empty(), "the command says no, but /bound says {:?}", engine.bound()?);
    files.write("ready", "")?;
    load::in_a_row(engine.frontend(WEB, "cluster-ip")?, 4).none_lost(4)?;
    files.remove("ready")?;
    engine.frontend_gone(WEB, "cluster-ip")
}

/// `pointsman.dev/probe: tcp` on a Service whose Endpoints are written by hand: once it has spoken, the dead one costs no connection an
/// attempt; it joins when it comes alive.
#[test]
fn endpoints_written_by_hand_are_probed_where_their_service_asks() -> Result<()> {
    let range = Range::claim("endpoints_written_by_hand_are_probed")?;
    let (alive, dead) = (Backend::named(range.backend_ip(0), "alive")?, range.dead_address(1)?);
    let service = Service::new("web").cluster_ip(range.cluster_ip(10)).port("{port: 8080}");
    let service = service.annotation("probe", "tcp").annotation("probe.period", "1s");
    let manifests = Manifests::with("all.yaml", &(service.yaml() + &endpoints("web", &[alive.address(), dead])))?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    let address = engine.frontend(WEB, "cluster-ip")?;
    poll::until("the probe to speak of both", || {
        Ok((probes(&engine, "endpoint", "failure")? >= 1.0 && probes(&engine, "endpoint", "success")? >= 1.0).then_some(()))
    })?;
    let tally = load::in_a_row(address, 20);
    ensure!(tally.of("alive") == 20, "{tally:?}");
    let decisions = engine.decisions_at_least(20)?;
    let tried = decisions.iter().find(|decision| decision["attempts"].is_array());
    ensure!(tried.is_none(), "the dead one was tried: {tried:?}");
    ensure!(engine.metrics()?.sum("pointsman_connect_failures_total", &[]) == 0.0, "a connect failed");

    let raised = Backend::named_on(std::net::TcpListener::bind(dead)?, "raised")?;
    let mut made = 20;
    poll::until("both in the rotation", || {
        made += 4;
        let tally = load::in_a_row(address, 4);
        Ok((tally.of("alive") == 2 && tally.of("raised") == 2).then_some(()))
    })?;
    said(&engine, &[&format!("Service default/web, endpoint {dead}"), ": ready:"])?;
    let decisions = accounts::balance(&engine, made).and_then(|()| engine.decisions())?;
    ensure!(decisions.iter().all(|decision| !decision["attempts"].is_array()), "a connect failed on the way");
    ensure!(raised.accepted() > 2, "the raised one was neither probed nor reached");
    Ok(())
}
