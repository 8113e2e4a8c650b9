//! J5 as Kubernetes has it: two nodes with pods of their own, each in a network of its own, and a client outside; TCP and UDP, IPv4 and
//! IPv6. The expectations are rows 3.5 to 3.8 and 3.15 of the reference.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pointsman_tests::cluster::{Cluster, Family, Heard, PATHS, PORT, PROXY_PORT, Protocol, Who, node_ip};
use pointsman_tests::manifest::Service;

use crate::nodes::available;

/// What is dialled.
#[derive(Clone, Copy, Debug)]
enum To {
    NodePort(u16),
    /// The cluster IPs that end in this number.
    ClusterIp(u8),
    /// A load-balancer address of the Service `kept`.
    LoadBalancer,
}

/// Whom the pod sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sees {
    Client,
    Node,
}

/// Who dials what on which node, and which pods may answer.
#[derive(Clone, Copy, Debug)]
struct Case {
    who: Who,
    node: usize,
    to: To,
    pods: &'static [&'static str],
    sees: Sees,
    /// What the decision log says of that.
    source: &'static str,
    /// What `pointsman route` says: what Kubernetes does, which rewrites packets. For a pod that is another thing than what a proxy does.
    in_kubernetes: &'static str,
}

const OPEN: To = To::NodePort(31001);
const KEPT: To = To::NodePort(31002);
const TOLD: To = To::NodePort(31003);
const LONE: To = To::NodePort(31005);
const NEAR: To = To::ClusterIp(4);
const LONE_NEAR: To = To::ClusterIp(5);

const ALL: &[&str] = &["p11", "p12", "p21"];
const ON_1: &[&str] = &["p11", "p12"];
const ON_2: &[&str] = &["p21"];

const fn case(who: Who, node: usize, to: To, pods: &'static [&'static str], sees: Sees, source: &'static str) -> Case {
    Case { who, node, to, pods, sees, source, in_kubernetes: source }
}

const CASES: [Case; 13] = [
    // Cluster: every pod, and the pod sees the node (3.7).
    case(Who::Client, 0, OPEN, ALL, Sees::Node, "node"),
    case(Who::Client, 1, OPEN, ALL, Sees::Node, "node"),
    // Local: the node's own pods, and the pod sees the client (3.6).
    case(Who::Client, 0, KEPT, ON_1, Sees::Client, "kept"),
    case(Who::Client, 1, KEPT, ON_2, Sees::Client, "kept"),
    case(Who::Client, 0, To::LoadBalancer, ON_1, Sees::Client, "kept"),
    case(Who::Client, 0, TOLD, ON_1, Sees::Client, "proxy-protocol"),
    // The short-circuit: for pods and for the node itself, Local does not hold.
    Case { in_kubernetes: "kept", ..case(Who::Pod("p21"), 1, KEPT, ALL, Sees::Node, "node") },
    Case { in_kubernetes: "kept", ..case(Who::Pod("p21"), 1, LONE, &["p11"], Sees::Node, "node") },
    case(Who::Node(1), 1, KEPT, ALL, Sees::Node, "node"),
    case(Who::Node(1), 1, LONE, &["p11"], Sees::Node, "node"),
    // internalTrafficPolicy Local (3.5).
    case(Who::Node(0), 0, NEAR, ON_1, Sees::Node, "node"),
    case(Who::Node(1), 1, NEAR, ON_2, Sees::Node, "node"),
    Case { in_kubernetes: "kept", ..case(Who::Pod("p12"), 0, LONE_NEAR, &["p11"], Sees::Node, "node") },
];

#[test]
fn two_nodes_serve_as_their_traffic_policies_say() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let mut cluster = Cluster::new(2)?;
    cluster.pod(0, "p11", "app: web, lone: here")?;
    cluster.pod(0, "p12", "app: web")?;
    cluster.pod(1, "p21", "app: web")?;
    services(&cluster)?;
    cluster.start_all()?;
    // All of them first: a flow is in the decision log when it has been idle for a while.
    let mut dialled = Vec::new();
    for case in CASES {
        for (protocol, family) in PATHS.into_iter().filter(|(protocol, _)| case.source != "proxy-protocol" || *protocol == Protocol::Tcp) {
            let to = address(&cluster, case.node, case.to, family)?;
            let dial = Dial { case, protocol, family, to };
            dialled.push((dial, dial.check_answers(&cluster).with_context(|| format!("{dial:?}"))?));
        }
    }
    for (dial, client) in dialled {
        dial.check_decision(&cluster, client).with_context(|| format!("{dial:?}"))?;
    }
    for (who, to) in [(Who::Client, LONE), (Who::Pod("p21"), LONE_NEAR)] {
        for (protocol, family) in PATHS {
            drops(&cluster, who, to, protocol, family)
                .with_context(|| format!("{who:?} dials {to:?} of node 2, {protocol:?} {family:?}"))?;
        }
    }
    health_checks(&cluster)
}

fn services(cluster: &Cluster) -> Result<()> {
    let service = |name: &str, kind: &str, label: &str, node_port: u16, target: u16| {
        let (key, value) = label.split_once('=').unwrap_or_default();
        let node_port = if kind == "ClusterIP" { String::new() } else { format!(", nodePort: {node_port}") };
        let service = Service::new(name).spec("type", kind).selector(key, value);
        let service = service.port(format!("{{name: tcp, port: 80, targetPort: {target}{node_port}}}"));
        // The PROXY protocol is for streams.
        if target == PROXY_PORT {
            service
        } else {
            service.port(format!("{{name: udp, protocol: UDP, port: 80, targetPort: {target}{node_port}}}"))
        }
    };
    let cluster_ips = |service: Service, last: u8| {
        service.cluster_ip([10, 97, 72, last].into()).spec("clusterIPs", format!("[10.97.72.{last}, \"fd00:97::{last}\"]"))
    };
    cluster.service("open", &service("open", "NodePort", "app=web", 31001, PORT))?;
    let kept = service("kept", "LoadBalancer", "app=web", 31002, PORT).spec("healthCheckNodePort", 31092);
    cluster.service("kept", &kept.spec("externalTrafficPolicy", "Local"))?;
    let told = service("told", "NodePort", "app=web", 31003, PROXY_PORT).spec("externalTrafficPolicy", "Local");
    cluster.service("told", &told.annotation("proxy-protocol", "v2"))?;
    let near = service("near", "ClusterIP", "app=web", 0, PORT).spec("internalTrafficPolicy", "Local");
    cluster.service("near", &cluster_ips(near, 4))?;
    let lone = service("lone", "LoadBalancer", "lone=here", 31005, PORT).spec("healthCheckNodePort", 31095);
    let lone = lone.spec("externalTrafficPolicy", "Local").spec("internalTrafficPolicy", "Local");
    cluster.service("lone", &cluster_ips(lone, 5))
}

fn address(cluster: &Cluster, node: usize, to: To, family: Family) -> Result<SocketAddr> {
    Ok(match to {
        To::NodePort(port) => (node_ip(node, family), port).into(),
        To::ClusterIp(last) if family == Family::V4 => (IpAddr::from([10, 97, 72, last]), 80).into(),
        To::ClusterIp(last) => format!("[fd00:97::{last}]:80").parse()?,
        To::LoadBalancer => {
            let bound = cluster.engine(node)?.bound()?;
            let fits = |address: SocketAddr| address.is_ipv4() == (family == Family::V4);
            let of_pool =
                bound.iter().find(|line| line.service == "default/kept:tcp" && line.frontend == "load-balancer" && fits(line.address));
            let address = of_pool.with_context(|| format!("no load-balancer address in {bound:?}"))?.address;
            // As a load balancer's network would.
            let via = format!("{} via {}", address.ip(), node_ip(node, family));
            cluster.client().run("ip", ["route", "replace"].into_iter().chain(via.split(' ')))?;
            address
        }
    })
}

/// One way of a case.
#[derive(Clone, Copy, Debug)]
struct Dial {
    case: Case,
    protocol: Protocol,
    family: Family,
    to: SocketAddr,
}

impl Dial {
    /// Six connections: with three pods in rotation, each is met twice. Returns who the client of the last was.
    fn check_answers(&self, cluster: &Cluster) -> Result<SocketAddr> {
        let Self { case, protocol, family, to } = *self;
        let answers = (0..6).map(|_| Ok(cluster.ask(case.who, protocol, to)??)).collect::<Result<Vec<Heard>>>()?;
        let pods: BTreeSet<&str> = answers.iter().map(|heard| heard.pod.as_str()).collect();
        ensure!(pods == case.pods.iter().copied().collect(), "answers from {pods:?}");
        for heard in &answers {
            let expected = if case.sees == Sees::Client { heard.client.ip() } else { node_ip(case.node, family) };
            ensure!(heard.saw.ip() == expected, "{heard:?}");
        }
        Ok(answers[5].client)
    }

    /// What the decision log said of it, and that `pointsman route` says the same.
    fn check_decision(&self, cluster: &Cluster, client: SocketAddr) -> Result<()> {
        let Self { case, protocol, family, to } = *self;
        let decision = cluster.decision(case.node, client)?;
        ensure!(decision["verdict"] == "forward" && decision["source"] == case.source, "{decision}");
        // It costs a process each time, and is told apart by protocol and family alike.
        if (protocol == Protocol::Tcp) != (family == Family::V4) {
            return Ok(());
        }
        let route = cluster.route(case.node, client, protocol, to)?;
        for field in ["verdict", "service", "frontend", "origin"] {
            ensure!(route[field] == decision[field], "`route` says another {field}: {route}, the log {decision}");
        }
        ensure!(route["stages"][1]["choice"] == decision["stages"][1]["choice"], "{route}, {decision}");
        let candidates = route["candidates"].as_array().context("no candidates")?;
        ensure!(candidates.len() == case.pods.len() && candidates.contains(&decision["endpoint"]), "{route}, {decision}");
        // A pod that meets itself would not know the answer for one.
        let endpoint: SocketAddr = route["endpoint"].as_str().context("no endpoint")?.parse()?;
        let expected = if endpoint.ip() == client.ip() { "node" } else { case.in_kubernetes };
        ensure!(route["source"] == expected, "{route}");
        Ok(())
    }
}

/// Nothing here, something elsewhere: dropped, which is not refused.
fn drops(cluster: &Cluster, who: Who, to: To, protocol: Protocol, family: Family) -> Result<()> {
    let to = address(cluster, 1, to, family)?;
    // A reset comes by itself; silence has to be waited for.
    let heard = match protocol {
        Protocol::Tcp => cluster.ask(who, protocol, to)?,
        Protocol::Udp => cluster.ask_within(Duration::from_millis(300), who, protocol, to)?,
    };
    let error = match heard {
        Ok(heard) => anyhow::bail!("{heard:?}"),
        Err(error) => error.kind(),
    };
    // A connection had to be accepted before it was known whose it is: it is reset. A datagram vanishes.
    let expected = if protocol == Protocol::Tcp { std::io::ErrorKind::ConnectionReset } else { std::io::ErrorKind::WouldBlock };
    ensure!(error == expected, "{error:?}");
    let name = if protocol == Protocol::Tcp { "tcp" } else { "udp" };
    let ours = |decision: &serde_json::Value| {
        decision["address"] == to.to_string() && decision["protocol"] == name && decision["origin"] != "node"
    };
    let decision = cluster.decision_that(1, "dropped", |decision| ours(decision) && decision["verdict"] == "drop")?;
    ensure!(decision["source"].is_null() && decision["endpoint"].is_null(), "{decision}");
    let client = decision["client"].as_str().context("no client")?.parse()?;
    let route = cluster.route(1, client, protocol, to)?;
    ensure!(route["verdict"] == "drop" && route["origin"] == decision["origin"] && route["source"].is_null(), "{route}");
    Ok(())
}

/// What a load balancer asks: which nodes have pods of the Service (3.15).
fn health_checks(cluster: &Cluster) -> Result<()> {
    for (node, port, local) in [(0, 31092, 2), (1, 31092, 1), (0, 31095, 1), (1, 31095, 0)] {
        for family in [Family::V4, Family::V6] {
            let answer = cluster.get((node_ip(node, family), port).into(), "/")?;
            let said = answer.json()?;
            let status = if local > 0 { 200 } else { 503 };
            ensure!(answer.status == status && said["localEndpoints"] == local, "{}:{port} says {answer:?}", node_ip(node, family));
        }
    }
    Ok(())
}
