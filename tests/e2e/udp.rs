//! UDP Services: each client port is a flow, with an endpoint of its own until that leaves or nobody speaks for a while.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pointsman_tests::engine::Launch;
use pointsman_tests::manifest::{Service, endpoints_of};
use pointsman_tests::netns::Namespace;
use pointsman_tests::process::run;
use pointsman_tests::range::client;
use pointsman_tests::udp::{Client, UdpBackend, dead_address, in_a_row};
use pointsman_tests::{Backend, Engine, Manifests, Range, accounts, load, peers, poll};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::nodes::available;

/// Service `default/echo`, UDP port 5353. The engine goes first when dropped.
struct Site {
    engine: Engine,
    manifests: Manifests,
    backends: Vec<UdpBackend>,
    _range: Range,
}

const ECHO: &str = "default/echo:5353";

impl Site {
    /// Backends that say these names.
    fn start(test: &str, names: &[&str], service: impl FnOnce(Service) -> Service) -> Result<Self> {
        let range = Range::claim(test)?;
        let backends = names.iter().zip(0..).map(|(name, n)| UdpBackend::named(range.backend_ip(n), name));
        let backends = backends.collect::<std::io::Result<Vec<_>>>()?;
        Self::of(range, backends, &[], service, &[])
    }

    fn of(
        range: Range,
        backends: Vec<UdpBackend>,
        others: &[SocketAddr],
        service: impl FnOnce(Service) -> Service,
        arguments: &[&str],
    ) -> Result<Self> {
        let service = service(Service::new("echo").cluster_ip(range.cluster_ip(10)).port("{port: 5353, protocol: UDP}"));
        let addresses: Vec<_> = backends.iter().map(UdpBackend::address).chain(others.iter().copied()).collect();
        let manifests = Manifests::with("service.yaml", &service.yaml())?;
        manifests.write("endpoints.yaml", &endpoints_of("echo", &[("", "UDP", &addresses)]))?;
        let engine = Launch::new(&range, manifests.path())?.arguments(arguments).start()?;
        Ok(Self { engine, manifests, backends, _range: range })
    }

    fn address(&self) -> Result<SocketAddr> {
        self.engine.frontend(ECHO, "cluster-ip")
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.backends.iter().map(UdpBackend::address).collect()
    }

    /// Writes the Endpoints anew and waits until a table knows of it.
    fn endpoints(&self, addresses: &[SocketAddr]) -> Result<()> {
        let before = self.engine.generation()?;
        self.manifests.write("endpoints.yaml", &endpoints_of("echo", &[("", "UDP", addresses)]))?;
        poll::until("the next table", || Ok((self.engine.generation()? > before).then_some(())))
    }

    /// Takes the endpoints away, so that every flow ends and is logged; then holds the engine to its accounts.
    fn settle(&self, flows: u64) -> Result<Vec<Value>> {
        self.manifests.remove("endpoints.yaml")?;
        self.engine.frontend_gone(ECHO, "cluster-ip")?;
        accounts::balance_of_services(&self.engine, flows)
    }
}

/// Each client port is a flow: they go around exactly, at the cluster IP as at the node port, and all datagrams of one stay together.
#[test]
fn flows_go_around_and_their_datagrams_stay_together() -> Result<()> {
    let site = Site::start("udp_flows_go_around", &["a", "b", "c"], |service| service.spec("type", "NodePort"))?;
    for kind in ["cluster-ip", "node-port"] {
        let (tally, clients) = in_a_row(site.engine.frontend(ECHO, kind)?, 30)?;
        tally.none_lost(30)?;
        ensure!(tally.by_name.values().all(|count| *count == 10), "30 flows over three: {tally:?}");
        for (n, client) in clients.iter().enumerate() {
            let names = (0..3).map(|_| client.ask("again")).collect::<std::io::Result<BTreeSet<_>>>()?;
            ensure!(names.len() == 1, "flow {n} went to {names:?}");
        }
    }
    let metrics = site.engine.metrics()?;
    let of_echo = [("namespace", "default"), ("service", "echo"), ("port", "5353")];
    ensure!(metrics.sum("pointsman_active_connections", &of_echo) == 60.0, "60 flows are live");
    for direction in ["in", "out"] {
        let labels = [&of_echo[..], &[("direction", direction)]].concat();
        let datagrams = metrics.sum("pointsman_datagrams_total", &labels);
        ensure!(datagrams == 240.0, "60 flows of 4 datagrams each; {direction}: {datagrams}");
    }
    let received: Vec<u64> = site.backends.iter().map(UdpBackend::received).collect();
    ensure!(received == [80; 3], "the backends received {received:?}");

    let decisions = site.settle(60)?;
    for address in site.addresses() {
        for kind in ["cluster-ip", "node-port"] {
            let fits = |d: &&Value| d["endpoint"] == address.to_string().as_str() && d["frontend"] == kind;
            let count = decisions.iter().filter(fits).count();
            ensure!(count == 10, "the log has {count} flows of the {kind} for {address}");
        }
    }
    let odd = decisions.iter().find(|d| d["protocol"] != "udp" || d["outcome"] != "endpoint-left");
    ensure!(odd.is_none(), "UDP flows whose endpoint was taken away: {odd:?}");
    ensure!(site.engine.metrics()?.sum("pointsman_active_connections", &of_echo) == 0.0, "no flow is live any more");
    Ok(())
}

/// Whoever takes datagrams from anywhere sees that the answer comes from the address that it asked, although the host has many.
#[test]
fn answers_come_from_the_address_that_was_asked() -> Result<()> {
    let site = Site::start("udp_answers_come_from", &["a"], |service| service.spec("type", "NodePort"))?;
    for kind in ["cluster-ip", "node-port"] {
        let asked = site.engine.frontend(ECHO, kind)?;
        let socket = UdpSocket::bind((client(7), 0))?;
        socket.set_read_timeout(Some(poll::PATIENCE))?;
        socket.send_to(b"who", asked)?;
        let mut buffer = [0; 64];
        let (length, from) = socket.recv_from(&mut buffer)?;
        ensure!((&buffer[..length], from) == (b"a who".as_slice(), asked), "asked {asked}, {from} answered");
    }
    Ok(())
}

/// TCP and UDP under one number are two ports of a Service, each with its own endpoints; one node port number serves both
/// (kubernetes-semantics 1.2, 1.11).
#[test]
fn tcp_and_udp_share_a_port_number() -> Result<()> {
    let range = Range::claim("tcp_and_udp_share_a_port")?;
    let (tcp, udp) = (Backend::named(range.backend_ip(0), "tcp")?, UdpBackend::named(range.backend_ip(1), "udp")?);
    let service = Service::new("dns").spec("type", "NodePort").cluster_ip(range.cluster_ip(10));
    let service = service.port("{name: dns, port: 5353, protocol: UDP}").port("{name: dns-tcp, port: 5353}");
    let ends = endpoints_of("dns", &[("dns", "UDP", &[udp.address()]), ("dns-tcp", "TCP", &[tcp.address()])]);
    let manifests = Manifests::with("all.yaml", &(service.yaml() + &ends))?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    let mut node_ports = BTreeSet::new();
    for kind in ["cluster-ip", "node-port"] {
        let (datagrams, streams) = (engine.frontend("default/dns:dns", kind)?, engine.frontend("default/dns:dns-tcp", kind)?);
        ensure!(datagrams.ip() == streams.ip(), "{kind}: {datagrams} and {streams}");
        ensure!(Client::new(datagrams)?.ask("who")? == "udp", "{kind} over UDP");
        ensure!(load::ask(streams, None)? == "tcp", "{kind} over TCP");
        node_ports.extend([datagrams.port(), streams.port()]);
    }
    ensure!(node_ports.len() == 2 && node_ports.contains(&5353), "one number for the cluster IP, one for the node: {node_ports:?}");
    Ok(())
}

/// A resolver with a constant source port, whose server is replaced: what it sends next reaches the new one, every time.
#[test]
fn the_next_datagram_reaches_the_endpoint_that_replaced_the_old() -> Result<()> {
    let site = Site::start("udp_the_next_datagram", &["a", "b"], |service| service)?;
    let (all, names) = (site.addresses(), ["a", "b"]);
    site.endpoints(&all[..1])?;
    let client = Client::from((client(1), 0).into(), site.address()?)?;
    for n in 0..20 {
        let answered = client.ask(&format!("datagram {n}"))?;
        ensure!(answered == names[n % 2], "after {n} replacements {answered} answered");
        site.endpoints(&all[(n + 1) % 2..][..1])?;
    }
    ensure!(client.ask("the last")? == "a", "after twenty replacements");
    let decisions = site.settle(21)?;
    let source = client.address()?.to_string();
    let odd = decisions.iter().find(|d| d["outcome"] != "endpoint-left" || d["client"] != source.as_str());
    ensure!(odd.is_none(), "each flow ended with its endpoint: {odd:?}");
    let lost = site.engine.metrics()?.sum("pointsman_datagrams_lost_total", &[]);
    ensure!(lost == 0.0, "{lost} datagrams were lost");
    Ok(())
}

/// An endpoint that refuses (ICMP port unreachable) costs no datagram: another gets it, and the log names both.
#[test]
fn another_endpoint_answers_when_one_refuses() -> Result<()> {
    let range = Range::claim("udp_another_endpoint_answers")?;
    let dead = dead_address(range.backend_ip(5))?;
    let backends = vec![UdpBackend::named(range.backend_ip(0), "a")?, UdpBackend::named(range.backend_ip(1), "b")?];
    let site = Site::of(range, backends, &[dead], |service| service, &[])?;
    let (tally, _clients) = in_a_row(site.address()?, 12)?;
    tally.none_lost(12)?;
    let refused = site.engine.metrics()?.sum("pointsman_connect_failures_total", &[("reason", "refused")]);
    let decisions = site.settle(12)?;
    let attempts = decisions.iter().flat_map(|d| d["attempts"].as_array().into_iter().flatten());
    let tried: Vec<_> = attempts.filter(|a| a["endpoint"] == dead.to_string().as_str() && a["result"] == "refused").collect();
    ensure!((4..=12).contains(&tried.len()), "of 12 flows over three endpoints, {} tried the dead one", tried.len());
    ensure!(refused == tried.len() as f64, "the metrics count {refused} refusals, the log {}", tried.len());
    let living = site.addresses();
    ensure!(decisions.iter().all(|d| living.iter().any(|a| d["endpoint"] == a.to_string().as_str())), "{decisions:?}");
    Ok(())
}

/// With nobody left, the client learns it as from a host without a listener; that takes a raw socket, and without it the client waits.
#[test]
fn a_client_is_told_when_every_endpoint_refuses() -> Result<()> {
    let range = Range::claim("udp_a_client_is_told")?;
    let dead = [dead_address(range.backend_ip(0))?, dead_address(range.backend_ip(1))?];
    let site = Site::of(range, vec![], &dead, |service| service, &[])?;
    let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)));
    let client = Client::new(site.address()?)?;
    let (told, result) = match raw {
        Ok(_) => (ErrorKind::ConnectionRefused, "sent"),
        Err(_) => (ErrorKind::WouldBlock, "not-permitted"),
    };
    if result == "not-permitted" {
        client.patience(Duration::from_secs(1))?;
    }
    let error = client.ask("anybody").map_err(|error| error.kind());
    ensure!(error == Err(told), "the client saw {error:?}");
    let decision = &site.engine.decisions_at_least(1)?[0];
    ensure!(decision["outcome"] == "connect-failed" && !decision["endpoint"].is_string(), "{decision}");
    ensure!(decision["attempts"].as_array().map(Vec::len) == Some(2), "both were to be tried: {decision}");
    let refusals = site.engine.metrics()?.by("result", "pointsman_udp_refusals_total", &[]);
    ensure!(refusals.get(result) == Some(&1.0), "{refusals:?}");
    site.settle(1).map(drop)
}

/// No endpoints: no socket, so the kernel refuses; nothing is decided.
#[test]
fn without_endpoints_the_kernel_refuses() -> Result<()> {
    let site = Site::start("udp_without_endpoints", &["a"], |service| service)?;
    let address = site.address()?;
    ensure!(Client::new(address)?.ask("hello")? == "a", "while there is one");
    site.settle(1)?;
    let refused = Client::new(address)?.ask("anybody").map_err(|error| error.kind());
    ensure!(refused == Err(ErrorKind::ConnectionRefused), "asking gave {refused:?}");
    let bound = site.engine.get("/bound")?.json()?;
    ensure!(bound["not_served"].to_string().contains("no endpoint to forward to"), "/bound says {bound}");
    accounts::balance_of_services(&site.engine, 1).map(drop)
}

/// sessionAffinity ClientIP holds over all ports of a client's address; clients differ.
#[test]
fn a_client_keeps_its_endpoint_over_all_its_ports() -> Result<()> {
    let affine = |service: Service| service.spec("sessionAffinity", "ClientIP");
    let site = Site::start("udp_a_client_keeps", &["a", "b", "c"], affine)?;
    let (address, mut homes, mut clients) = (site.address()?, BTreeSet::new(), Vec::new());
    for n in 0..3 {
        let mut names = BTreeSet::new();
        for port in 0..8 {
            let client = Client::from((client(n), 0).into(), address)?;
            names.insert(client.ask(&format!("port {port}"))?);
            clients.push(client);
        }
        ensure!(names.len() == 1, "client {n} was sent to {names:?}");
        homes.extend(names);
    }
    ensure!(homes.len() == 3, "three clients in a row went to {homes:?}");
    let decisions = site.settle(24)?;
    let told = decisions.iter().filter(|d| d["stages"][2]["not_asked"] == "session affinity").count();
    ensure!(told == 21, "of 24 flows, {told} did not need the balancer");
    Ok(())
}

/// A flow ends after its idle timeout, and not before; the next datagram from the same port begins another.
#[test]
fn an_idle_flow_ends_and_the_next_datagram_begins_another() -> Result<()> {
    let site = Site::start("udp_an_idle_flow_ends", &["a", "b"], |service| service.annotation("udp-idle-timeout", "1s"))?;
    let client = Client::new(site.address()?)?;
    let first = client.ask("one")?;
    let decision = site.engine.decisions_at_least(1)?.remove(0);
    ensure!(decision["outcome"] == "closed" && decision["verdict"] == "forward", "{decision}");
    ensure!((decision["bytes_in"].as_u64(), decision["bytes_out"].as_u64()) == (Some(3), Some(5)), "`one` and `a one`: {decision}");
    let lived = decision["duration_ms"].as_u64().context("no duration")?;
    ensure!((1_000..10_000).contains(&lived), "it lived for {lived} ms with a timeout of a second");
    let second = client.ask("two")?;
    ensure!(first != second, "the balancer was asked again, so the other one was due: {first}, {second}");
    accounts::balance(&site.engine, 2)
}

/// `--max-udp-flows-per-client`: the client's own flow that was idle longest makes room, and nobody else's.
#[test]
fn a_client_with_too_many_flows_loses_its_own() -> Result<()> {
    let range = Range::claim("udp_a_client_with_too_many")?;
    let backend = UdpBackend::named(range.backend_ip(0), "a")?;
    let site = Site::of(range, vec![backend], &[], |service| service, &["--max-udp-flows-per-client", "2"])?;
    let address = site.address()?;
    let modest = Client::from((client(1), 0).into(), address)?;
    modest.ask("hello")?;
    let greedy = (0..4).map(|_| Client::from((client(2), 0).into(), address)).collect::<std::io::Result<Vec<_>>>()?;
    for client in &greedy {
        client.ask("hello")?;
    }
    let evicted = site.engine.decisions_at_least(2)?;
    let theirs = greedy[..2].iter().map(|client| Ok(client.address()?.to_string())).collect::<Result<BTreeSet<_>>>()?;
    let lost: BTreeSet<_> = evicted.iter().filter(|d| d["outcome"] == "evicted").filter_map(|d| d["client"].as_str()).collect();
    ensure!(lost == theirs.iter().map(String::as_str).collect() && evicted.len() == 2, "{evicted:?}");
    modest.ask("still here")?;
    site.settle(5).map(drop)
}

/// This kernel's lack of SCTP is said once, and the Service's other ports are served.
#[test]
fn an_sctp_port_is_said_not_to_be_served_beside_tcp_and_udp() -> Result<()> {
    let range = Range::claim("sctp_is_said_not_to_be_served")?;
    let (tcp, udp) = (Backend::named(range.backend_ip(0), "tcp")?, UdpBackend::named(range.backend_ip(1), "udp")?);
    let service = Service::new("all").cluster_ip(range.cluster_ip(10)).port("{name: s, port: 5353, protocol: SCTP}");
    let service = service.port("{name: t, port: 5353}").port("{name: u, port: 5353, protocol: UDP}");
    let ends = endpoints_of("all", &[("s", "SCTP", &[tcp.address()]), ("t", "TCP", &[tcp.address()]), ("u", "UDP", &[udp.address()])]);
    let manifests = Manifests::with("all.yaml", &(service.yaml() + &ends))?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    ensure!(load::ask(engine.frontend("default/all:t", "cluster-ip")?, None)? == "tcp", "TCP beside SCTP");
    ensure!(Client::new(engine.frontend("default/all:u", "cluster-ip")?)?.ask("who")? == "udp", "UDP beside SCTP");
    if Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::from(132))).is_ok() {
        return engine.frontend("default/all:s", "cluster-ip").map(drop);
    }
    let bound = engine.get("/bound")?.json()?;
    let not_served = bound["not_served"].as_array().context("/bound has no `not_served`")?;
    let says_so = |line: &Value| line["service"] == "default/all:s" && line["why"].as_str().is_some_and(|why| why.contains("SCTP"));
    ensure!(not_served.len() == 1 && says_so(&not_served[0]), "/bound says {bound}");
    let told = |event: &&Value| event["message"].as_str().is_some_and(|message| message.contains("SCTP"));
    let events: Vec<_> = engine.events()?.into_iter().filter(|event| told(&event)).collect();
    ensure!(events.len() == 1 && events[0]["count"] == 1 && events[0]["severity"] == "warning", "one message: {events:?}");
    Ok(())
}

/// UDP over IPv6, at the cluster IP and at the node port, in a namespace: loopback mode has no IPv6.
#[test]
fn ipv6_datagrams_go_around_too() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let node = Namespace::new("six")?;
    let backends = ["a", "b"].map(|name| node.enter(|| Ok(UdpBackend::named(Ipv6Addr::LOCALHOST, name)?)));
    let backends = backends.into_iter().collect::<Result<Vec<_>>>()?;
    let service = Service::new("six").spec("type", "NodePort").spec("ipFamilies", "[IPv6]").spec("clusterIP", "\"fd00:97::10\"");
    let service = service.port("{port: 5353, protocol: UDP, nodePort: 31398}");
    let ends = endpoints_of("six", &[("", "UDP", &[backends[0].address(), backends[1].address()])]);
    let manifests = Manifests::with("service.yaml", &service.yaml())?;
    manifests.write("endpoints.yaml", &ends)?;
    let launch = Launch::bare(manifests.path(), "n1", "::1", "anyip")?;
    let engine = launch.arguments(["--service-cidr", "fd00:97::/112"]).inside(&node).start()?;
    for (kind, address) in [("cluster-ip", "[fd00:97::10]:5353"), ("node-port", "[::1]:31398")] {
        let asked = engine.frontend("default/six:5353", kind)?;
        ensure!(asked == address.parse()?, "the {kind} is bound as {asked}");
        let (tally, clients) = node.enter(|| Ok(in_a_row(asked, 8)?))?;
        ensure!(tally.of("a") == 4 && tally.of("b") == 4, "{kind}: {tally:?}");
        clients[0].ask("again")?;
    }
    manifests.remove("endpoints.yaml")?;
    let decisions = accounts::balance_of_services(&engine, 16)?;
    ensure!(decisions.iter().all(|d| d["client"].as_str().is_some_and(|client| client.starts_with('['))), "{decisions:?}");
    Ok(())
}

/// A real server and a real resolver: `dig` over UDP and over TCP, through the same address, sees both servers.
#[test]
fn dig_resolves_over_udp_and_tcp() -> Result<()> {
    let range = Range::claim("dig_resolves")?;
    let servers = [(0, "one"), (1, "two")].map(|(n, name): (u8, &str)| peers::dnsmasq(range.backend_ip(n), name));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    let addresses: Vec<_> = servers.iter().map(peers::Peer::address).collect();
    let service = Service::new("dns").cluster_ip(range.cluster_ip(10)).port("{name: dns, port: 5353, protocol: UDP}");
    let service = service.port("{name: dns-tcp, port: 5353, protocol: TCP}");
    let ends = endpoints_of("dns", &[("dns", "UDP", &addresses), ("dns-tcp", "TCP", &addresses)]);
    let manifests = Manifests::with("service.yaml", &service.yaml())?;
    manifests.write("endpoints.yaml", &ends)?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    engine.frontend("default/dns:dns", "cluster-ip")?;
    let server = format!("@{}", engine.frontend("default/dns:dns-tcp", "cluster-ip")?.ip());
    for option in ["+notcp", "+tcp"] {
        let mut names = Vec::new();
        for _ in 0..4 {
            let dig = ["-p", "5353", "+short", "+tries=1", "+time=10", option, &server, "TXT", "whoami.example"];
            names.push(run(Command::new("dig").args(dig))?.trim().to_owned());
        }
        names.sort();
        ensure!(names == ["\"one\"", "\"one\"", "\"two\"", "\"two\""], "dig {option} was told {names:?}");
    }
    manifests.remove("endpoints.yaml")?;
    let decisions = accounts::balance_of_services(&engine, 8)?;
    let udp = decisions.iter().filter(|d| d["protocol"] == "udp").count();
    ensure!(udp == 4, "of 8 questions the log says that {udp} came over UDP");
    Ok(())
}
