//! Clients' addresses under `externalTrafficPolicy: Local` (row 3.6), and what is done to the machine's network for them: pods that
//! move, ports that clash, and engines that end or are killed.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use pointsman_tests::cluster::{Cluster, Family, PATHS, PORT, Protocol, Who, node_ip};
use pointsman_tests::manifest::Service;
use pointsman_tests::netns::Namespace;
use pointsman_tests::poll;
use socket2::{Domain, Socket, Type};

use crate::nodes::available;

const NODE_PORT: u16 = 31002;
const HEALTH: u16 = 31092;

fn local_service() -> Service {
    let service = Service::new("web").spec("type", "LoadBalancer").selector("app", "web").spec("externalTrafficPolicy", "Local");
    let service =
        service.spec("healthCheckNodePort", HEALTH).port(format!("{{name: tcp, port: 80, targetPort: {PORT}, nodePort: {NODE_PORT}}}"));
    service.port(format!("{{name: udp, protocol: UDP, port: 80, targetPort: {PORT}, nodePort: {NODE_PORT}}}"))
}

/// Which pods answer the client through this node within so long; each of them sees the client itself.
fn reached(cluster: &Cluster, node: usize, protocol: Protocol, family: Family, patience: Duration) -> Result<BTreeSet<String>> {
    let mut pods = BTreeSet::new();
    for _ in 0..2 {
        let heard = cluster.ask_within(patience, Who::Client, protocol, (node_ip(node, family), NODE_PORT).into())?;
        let Ok(heard) = heard else { continue };
        ensure!(heard.saw == heard.client, "not the client's own address and port: {heard:?}");
        pods.insert(heard.pod);
    }
    Ok(pods)
}

/// Long enough for every answer that comes at all.
const SILENCE: Duration = Duration::from_millis(500);

/// On three nodes: a pod moves from the first to the third, and `Local` goes with it; so does what load balancers are told.
#[test]
fn local_follows_a_pod_that_moves() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let mut cluster = Cluster::new(3)?;
    cluster.pod(0, "mover", "app: web")?;
    cluster.pod(1, "stayer", "app: web")?;
    cluster.service("web", &local_service())?;
    cluster.start_all()?;
    let is = |cluster: &Cluster, expected: [&[&str]; 3]| -> Result<()> {
        for (node, expected) in expected.into_iter().enumerate() {
            poll::until(&format!("node {} to have {expected:?}", node + 1), || {
                let answer = cluster.get((node_ip(node, Family::V4), HEALTH).into(), "/")?;
                let said = answer.json()?["localEndpoints"].clone();
                if said == expected.len() { Ok(Some(())) } else { bail!("its health-check port says {said}") }
            })?;
            for (protocol, family) in PATHS {
                let patience = if expected.is_empty() { SILENCE } else { PATIENCE };
                let pods = reached(cluster, node, protocol, family, patience)?;
                ensure!(pods.iter().eq(expected), "node {} reached {pods:?} over {protocol:?} {family:?}", node + 1);
            }
        }
        Ok(())
    };
    is(&cluster, [&["mover"], &["stayer"], &[]])?;
    cluster.pod(2, "mover", "app: web")?;
    is(&cluster, [&[], &["stayer"], &["mover"]])?;
    // Not only silent: the node without a pod has decided so.
    let dropped = cluster.decision_that(0, "dropped", |decision| decision["verdict"] == "drop")?;
    ensure!(dropped["stages"][1]["choice"] == "drop", "{dropped}");
    // A policy may send a client elsewhere all the same. The answer has to come back this way, so that pod sees the node.
    cluster.service("web", &local_service().annotation("traffic-policy", "prefer-local"))?;
    for (protocol, family) in PATHS {
        let to = (node_ip(0, family), NODE_PORT).into();
        let heard = poll::until("the first node to reach another's pod", || {
            Ok(Some(cluster.ask_within(SILENCE, Who::Client, protocol, to)??))
        })?;
        ensure!(heard.saw.ip() == node_ip(0, family), "{protocol:?} {family:?}: {heard:?}");
        let decision = cluster.decision(0, heard.client)?;
        ensure!(decision["source"] == "node" && decision["attempts"].is_null(), "{decision}");
    }
    Ok(())
}

/// What an engine could leave behind in a network.
fn traces(node: &Namespace) -> Result<String> {
    let mut text = node.run("nft", ["list", "ruleset"])?;
    for family in ["-4", "-6"] {
        text += &node.run("ip", [family, "rule"])?;
        text += &node.run("ip", [family, "route", "show", "table", "all"])?;
    }
    Ok(text)
}

/// Each of the things that were added, once and only once.
fn installed(traces: &str) -> Result<()> {
    let routed = ["local default dev lo table 28781", "10.97.0.0/16", "fd00:97::/112"];
    for (what, count) in [("table inet pointsman {", 1), ("fwmark 0x706d", 2), (routed[0], 2), (routed[1], 1), (routed[2], 1)] {
        let found = traces.lines().filter(|line| line.contains(what)).count();
        ensure!(found == count, "{found} × {what:?} in\n{traces}");
    }
    Ok(())
}

/// An engine that ends takes everything with it; one that is killed cannot, but the next one works on it, and takes it away at its end.
#[test]
fn the_network_is_left_as_it_was() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let mut cluster = Cluster::new(1)?;
    cluster.pod(0, "pod", "app: web")?;
    cluster.service("web", &local_service())?;
    let before = traces(cluster.node(0))?;
    for signal in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGTERM] {
        cluster.start(0)?;
        installed(&traces(cluster.node(0))?)?;
        for (protocol, family) in PATHS {
            let pods = reached(&cluster, 0, protocol, family, PATIENCE)?;
            ensure!(pods.len() == 1, "nothing came back over {protocol:?} {family:?}");
        }
        let mut engine = cluster.take(0)?;
        engine.signal(signal)?;
        let status = engine.wait()?;
        let after = traces(cluster.node(0))?;
        match signal {
            Signal::SIGKILL => installed(&after).context("a killed host cannot clean up")?,
            _ => {
                ensure!(status.success(), "{status}");
                ensure!(after == before, "before:\n{before}\nafter:\n{after}");
            }
        }
    }
    Ok(())
}

/// One port of a client, towards two addresses of a Service, is one port towards its only pod: the second is given another.
#[test]
fn a_clients_port_may_be_taken() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let mut cluster = Cluster::new(1)?;
    cluster.pod(0, "pod", "app: web")?;
    let externals: [IpAddr; 2] = [Ipv4Addr::new(192, 168, 2, 6).into(), Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 6).into()];
    cluster.service("web", &local_service().spec("externalIPs", format!("[{}, \"{}\"]", externals[0], externals[1])))?;
    cluster.start(0)?;
    for (family, external) in [Family::V4, Family::V6].into_iter().zip(externals) {
        let node = node_ip(0, family);
        cluster.client().route(&format!("{external} via {node}"))?;
        let to: [SocketAddr; 2] = [(node, NODE_PORT).into(), (external, 80).into()];
        let answers = cluster.client().enter(|| Ok([streams_of_one_port(to)?, datagrams_of_one_port(to)?]))?;
        for [first, second] in answers {
            ensure!(first.0 == first.1, "the first has its own port: {first:?}");
            ensure!(second.0.ip() == second.1.ip() && second.0 != second.1, "the second another: {second:?}");
            let decision = cluster.decision_that(0, "of the second", |decision| decision["frontend"] == "external-ip")?;
            ensure!(decision["source"] == "kept" && decision["attempts"].is_null(), "{decision}");
        }
    }
    Ok(())
}

/// For each of two connections that live side by side, the client's address and the one that the pod saw.
fn streams_of_one_port(to: [SocketAddr; 2]) -> Result<[(SocketAddr, SocketAddr); 2]> {
    let any = |port| SocketAddr::new(if to[0].is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }, port);
    let connect = |port, to: SocketAddr| -> Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&any(port).into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket.into())
    };
    let first = connect(0, to[0])?;
    let second = connect(first.local_addr()?.port(), to[1])?;
    let answer = |mut stream: &TcpStream| {
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok::<_, anyhow::Error>((stream.local_addr()?, saw(&text)?))
    };
    Ok([answer(&first)?, answer(&second)?])
}

/// The same for the flows of one socket.
fn datagrams_of_one_port(to: [SocketAddr; 2]) -> Result<[(SocketAddr, SocketAddr); 2]> {
    let any: IpAddr = if to[0].is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let ask = |to: SocketAddr| {
        socket.send_to(b"who?", to)?;
        let mut bytes = [0; 256];
        let (length, from) = socket.recv_from(&mut bytes)?;
        ensure!(from == to, "{from} answered for {to}");
        let saw = saw(&String::from_utf8_lossy(&bytes[..length]))?;
        // The socket has no address of its own: whichever the pod saw.
        Ok((SocketAddr::new(saw.ip(), socket.local_addr()?.port()), saw))
    };
    Ok([ask(to[0])?, ask(to[1])?])
}

fn saw(answer: &str) -> Result<SocketAddr> {
    Ok(answer.split_once(' ').with_context(|| format!("{answer:?}"))?.1.parse()?)
}

/// Far longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(5);
