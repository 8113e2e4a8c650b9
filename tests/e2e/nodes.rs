//! J5: two nodes, each an engine in a network namespace, with pods behind them and a client outside.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use pointsman_tests::engine::Launch;
use pointsman_tests::load::{self, Tally};
use pointsman_tests::manifest::{Pod, Service};
use pointsman_tests::netns::{self, Namespace};
use pointsman_tests::{Backend, Engine, Manifests, poll};
use serde_json::Value;

use crate::streams::proxy_header;

/// Engines first, namespaces last.
struct Cluster {
    engines: Vec<Engine>,
    _backends: Vec<Backend>,
    manifests: Manifests,
    client: Namespace,
    nodes: [Namespace; 2],
    _switch: Namespace,
}

const NODES: [&str; 2] = ["node01", "node02"];
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 9);
const NODE_PORT: u16 = 31398;
const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 97, 72, 1);
const POD_PORT: u16 = 8080;

fn node_ip(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 60, 0, 1 + node as u8)
}

fn pod_ip(node: usize, pod: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 61, 1 + node as u8, pod)
}

/// Skips, and says why, where namespaces can't be made.
pub(crate) fn available() -> bool {
    let reason = Namespace::unavailable();
    if let Some(reason) = &reason {
        assert!(std::env::var_os("POINTSMAN_REQUIRE_NETNS").is_none(), "{reason}");
        println!("SKIPPED: {reason}");
    }
    reason.is_none()
}

impl Cluster {
    /// `pods`: how many each node has; a pod answers with its name and the client that it sees.
    fn start(pods: [u8; 2], proxy: bool, service: impl Fn(Service) -> Service) -> Result<Self> {
        let nodes = [Namespace::new("n1")?, Namespace::new("n2")?];
        let client = Namespace::new("client")?;
        let addresses = [0, 1].map(|node| format!("{}/24", node_ip(node)));
        let switch = netns::switch(&[(&nodes[0], &addresses[0]), (&nodes[1], &addresses[1]), (&client, &format!("{CLIENT}/24"))])?;
        let base = Service::new("web").spec("type", "NodePort").cluster_ip(CLUSTER_IP).selector("app", "web");
        let base = if proxy { base.annotation("proxy-protocol", "v2") } else { base };
        let base = base.port(format!("{{name: http, port: 80, targetPort: {POD_PORT}, nodePort: {NODE_PORT}}}"));
        let manifests = Manifests::with("service.yaml", &service(base).yaml())?;
        let mut backends = Vec::new();
        for (node, count) in pods.into_iter().enumerate() {
            let other = 1 - node;
            nodes[node].run("ip", ["route", "add", &format!("{}/24", pod_ip(other, 0)), "via", &node_ip(other).to_string()])?;
            for pod in 1..=count {
                let (ip, name) = (pod_ip(node, pod), format!("p{}{pod}", node + 1));
                nodes[node].run("ip", ["addr", "add", &format!("{ip}/32"), "dev", "lo"])?;
                backends.push(nodes[node].enter(|| backend(ip, &name, proxy))?);
                manifests.write(&format!("{name}.yaml"), &Pod::new(&name, "app: web", ip).node(NODES[node]).yaml())?;
            }
        }
        let engines = [0, 1].map(|node| {
            let launch = Launch::bare(manifests.path(), NODES[node], &node_ip(node).to_string(), "anyip")?;
            launch.arguments(["--service-cidr", "10.97.0.0/16"]).inside(&nodes[node]).start()
        });
        let engines = engines.into_iter().collect::<Result<_>>()?;
        Ok(Self { engines, _backends: backends, manifests, client, nodes, _switch: switch })
    }

    /// Connections from the client outside to a node's port.
    fn dial_node_port(&self, node: usize, count: u64) -> Result<Tally> {
        self.client.enter(|| Ok(load::in_a_row((node_ip(node), NODE_PORT).into(), count)))
    }

    /// Connections from a node to the cluster IP.
    fn dial_cluster_ip(&self, node: usize, count: u64) -> Result<Tally> {
        self.nodes[node].enter(|| Ok(load::in_a_row((CLUSTER_IP, 80).into(), count)))
    }

    fn decision(&self, node: usize) -> Result<Value> {
        let decisions = self.engines[node].decisions_at_least(1)?;
        Ok(decisions[decisions.len() - 1].clone())
    }
}

fn backend(ip: Ipv4Addr, name: &str, proxy: bool) -> Result<Backend> {
    let name = name.to_owned();
    Backend::threaded(TcpListener::bind((ip, POD_PORT))?, move |mut stream| {
        let client = if proxy { proxy_header(&mut stream)?.0 } else { stream.peer_addr()? };
        write!(stream, "{name} {}", client.ip())
    })
}

/// The pods that answered, and the clients that they saw.
fn seen(tally: &Tally) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    ensure!(tally.failures.is_empty(), "{tally:?}");
    let words = tally.by_name.keys().filter_map(|answer| answer.split_once(' '));
    Ok(words.map(|(pod, client)| (pod.to_owned(), client.to_owned())).unzip())
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// Cluster: either node reaches either pod, and the pod sees the node's address, not the client's.
#[test]
fn cluster_reaches_pods_on_both_nodes() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let cluster = Cluster::start([1, 1], false, |service| service)?;
    for node in [0, 1] {
        let (pods, clients) = seen(&cluster.dial_node_port(node, 10)?)?;
        ensure!(pods == set(["p11", "p21"]), "through {}: {pods:?}", NODES[node]);
        ensure!(!clients.contains(&CLIENT.to_string()), "the pods see the client itself: {clients:?}");
    }
    // Only one pod left, on the other node: still reached.
    cluster.manifests.remove("p11.yaml")?;
    poll::until("only p21 in the rotation of node01", || {
        let (pods, clients) = seen(&cluster.dial_node_port(0, 4)?)?;
        let node = set([&node_ip(0).to_string()]);
        if pods == set(["p21"]) && clients == node { Ok(Some(())) } else { bail!("{pods:?} see {clients:?}") }
    })
}

/// Local: each node serves its own pods only, several share, and the pod learns the client's address (by PROXY protocol).
#[test]
fn local_serves_own_pods_and_tells_the_client() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let cluster = Cluster::start([2, 1], true, |service| service.spec("externalTrafficPolicy", "Local"))?;
    let tally = cluster.dial_node_port(0, 10)?;
    let (pods, clients) = seen(&tally)?;
    ensure!(pods == set(["p11", "p12"]), "node01 reached {pods:?}");
    ensure!(tally.by_name.values().all(|count| *count == 5), "the local pods do not share evenly: {tally:?}");
    ensure!(clients == set([&CLIENT.to_string()]), "the pods were told of {clients:?}");
    let (pods, clients) = seen(&cluster.dial_node_port(1, 10)?)?;
    ensure!(pods == set(["p21"]) && clients == set([&CLIENT.to_string()]), "node02 reached {pods:?} for {clients:?}");
    // The cluster IP is not concerned: externalTrafficPolicy is about clients from outside.
    let (pods, _) = seen(&cluster.dial_cluster_ip(1, 12)?)?;
    ensure!(pods == set(["p11", "p12", "p21"]), "the cluster IP on node02 reached {pods:?}");
    Ok(())
}

/// Local, on a node without a pod: dropped, never forwarded elsewhere; and served as soon as a pod is there.
#[test]
fn local_drops_on_a_node_without_pods() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let cluster = Cluster::start([1, 0], true, |service| service.spec("externalTrafficPolicy", "Local"))?;
    seen(&cluster.dial_node_port(0, 3)?)?;
    let answer = cluster.client.enter(|| {
        let address: SocketAddr = (node_ip(1), NODE_PORT).into();
        let stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2));
        Ok(stream.and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.read(&mut [0; 64])
        }))
    })?;
    ensure!(!matches!(answer, Ok(1..)), "a node without pods answered {answer:?}");
    let decision = cluster.decision(1)?;
    ensure!(decision["verdict"] == "drop" && decision["endpoint"].is_null(), "{decision}");
    let told = decision["stages"][2]["not_asked"].is_string();
    ensure!(told, "the log does not say why the balancer was not asked: {decision}");
    Ok(())
}

/// internalTrafficPolicy Local is about the cluster IP alone.
#[test]
fn internal_local_confines_the_cluster_ip() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let cluster = Cluster::start([1, 1], false, |service| service.spec("internalTrafficPolicy", "Local"))?;
    for (node, pod) in [(0, "p11"), (1, "p21")] {
        let (pods, _) = seen(&cluster.dial_cluster_ip(node, 6)?)?;
        ensure!(pods == set([pod]), "the cluster IP on {} reached {pods:?}", NODES[node]);
    }
    let (pods, _) = seen(&cluster.dial_node_port(0, 10)?)?;
    ensure!(pods == set(["p11", "p21"]), "the node port of node01 reached {pods:?}");
    Ok(())
}

/// `anyip` binds the cluster IPs themselves, and takes its route away when it ends.
#[test]
fn anyip_leaves_no_route_behind() -> Result<()> {
    use nix::sys::signal::Signal;
    if !available() {
        return Ok(());
    }
    let mut cluster = Cluster::start([1, 0], false, |service| service)?;
    let routes = |cluster: &Cluster| cluster.nodes[0].run("ip", ["route", "show", "table", "local"]);
    let during = routes(&cluster)?;
    ensure!(during.contains("10.97.0.0/16"), "no route for the cluster IPs: {during}");
    let (pods, _) = seen(&cluster.dial_cluster_ip(0, 4)?)?;
    ensure!(pods == set(["p11"]), "{pods:?}");
    cluster.engines[0].signal(Signal::SIGTERM)?;
    let status = cluster.engines[0].wait()?;
    ensure!(status.success(), "the engine ended with {status}");
    let after = routes(&cluster)?;
    ensure!(!after.contains("10.97."), "a route stays behind: {after}");
    Ok(())
}

/// An endpoint that the network swallows without a word (a firewall drops it): given up after the connect timeout.
#[test]
fn a_blackholed_endpoint_is_given_up() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let cluster = Cluster::start([1, 1], false, |service| service.annotation("balancer", "random"))?;
    cluster.nodes[1].run("nft", ["add", "table", "ip", "hole"])?;
    cluster.nodes[1].run("nft", ["add", "chain", "ip", "hole", "in", "{ type filter hook input priority 0; }"])?;
    cluster.nodes[1].run("nft", ["add", "rule", "ip", "hole", "in", "ip", "daddr", &pod_ip(1, 1).to_string(), "drop"])?;
    let tally = cluster.dial_node_port(0, 6)?;
    let (pods, _) = seen(&tally)?;
    ensure!(pods == set(["p11"]), "{pods:?}");
    let decisions = cluster.engines[0].decisions_at_least(6)?;
    let given_up = decisions.iter().filter(|decision| decision["attempts"].to_string().contains("timed-out")).count();
    println!("{given_up} of 6 connections met the hole first");
    Ok(())
}

/// `prefer-local`: its own pods as long as there are any, else anywhere; nothing is dropped.
#[test]
fn prefer_local_goes_elsewhere_only_when_it_must() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let cluster = Cluster::start([1, 1], false, |service| service.annotation("traffic-policy", "prefer-local"))?;
    let (pods, _) = seen(&cluster.dial_node_port(0, 6)?)?;
    ensure!(pods == set(["p11"]), "node01 reached {pods:?}");
    cluster.manifests.remove("p11.yaml")?;
    poll::until("node01 to reach the other node's pod", || {
        let (pods, _) = seen(&cluster.dial_node_port(0, 4)?)?;
        if pods == set(["p21"]) { Ok(Some(())) } else { bail!("{pods:?}") }
    })
}

/// External and load-balancer addresses are no part of the cluster's range: `anyip` routes each of them by itself.
#[test]
fn anyip_serves_external_addresses() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let external = Ipv4Addr::new(192, 168, 2, 6);
    let cluster = Cluster::start([1, 0], false, |service| service.spec("externalIPs", format!("[{external}]")))?;
    cluster.client.run("ip", ["route", "add", &format!("{external}/32"), "via", &node_ip(0).to_string()])?;
    let tally = cluster.client.enter(|| Ok(load::in_a_row((external, 80).into(), 4)))?;
    let (pods, _) = seen(&tally)?;
    ensure!(pods == set(["p11"]), "{pods:?}");
    Ok(())
}

/// An external address that its Service gives up stays this machine's while a connection lives on it, and what a host that was killed
/// left behind is the next one's to remove.
#[test]
fn anyip_keeps_an_address_while_it_is_used() -> Result<()> {
    use nix::sys::signal::Signal;
    if !available() {
        return Ok(());
    }
    let external = Ipv4Addr::new(192, 168, 2, 6);
    let mut cluster = Cluster::start([0, 0], false, |service| service.spec("externalIPs", format!("[{external}]")))?;
    let ip = pod_ip(0, 1);
    cluster.nodes[0].run("ip", ["addr", "add", &format!("{ip}/32"), "dev", "lo"])?;
    let _echo = cluster.nodes[0].enter(|| {
        Backend::threaded(TcpListener::bind((ip, POD_PORT))?, |mut stream| {
            let mut byte = [0];
            while stream.read(&mut byte)? > 0 {
                stream.write_all(&byte)?;
            }
            Ok(())
        })
    })?;
    cluster.manifests.write("echo.yaml", &Pod::new("echo", "app: web", ip).node(NODES[0]).yaml())?;
    cluster.client.run("ip", ["route", "add", &format!("{external}/32"), "via", &node_ip(0).to_string()])?;
    cluster.engines[0].frontend("default/web:http", "external-ip")?;
    let mut connection = cluster.client.enter(|| Ok(std::net::TcpStream::connect((external, 80))?))?;
    connection.set_read_timeout(Some(Duration::from_secs(20)))?;
    let echoed = |connection: &mut std::net::TcpStream| -> Result<()> {
        let mut byte = [0];
        connection.write_all(b"x")?;
        connection.read_exact(&mut byte)?;
        Ok(())
    };
    echoed(&mut connection)?;
    let routes = |cluster: &Cluster| cluster.nodes[0].run("ip", ["route", "show", "table", "local", "proto", "112"]);

    cluster.manifests.remove("service.yaml")?;
    cluster.engines[0].frontend_gone("default/web:http", "external-ip")?;
    echoed(&mut connection)?;
    ensure!(routes(&cluster)?.contains("192.168.2.6"), "the connection lost its address: {}", routes(&cluster)?);
    drop(connection);
    poll::until("the route of 192.168.2.6 to go with its last connection", || {
        Ok((!routes(&cluster)?.contains("192.168.2.6")).then_some(()))
    })?;

    cluster.engines[0].signal(Signal::SIGKILL)?;
    cluster.engines[0].wait()?;
    ensure!(routes(&cluster)?.contains("10.97.0.0/16"), "a killed host cannot clean up: {}", routes(&cluster)?);
    let launch = Launch::bare(cluster.manifests.path(), NODES[0], &node_ip(0).to_string(), "anyip")?;
    let mut next = launch.arguments(["--service-cidr", "10.97.0.0/16"]).inside(&cluster.nodes[0]).start()?;
    next.signal(Signal::SIGTERM)?;
    ensure!(next.wait()?.success(), "the next host failed");
    ensure!(!routes(&cluster)?.contains("10.97."), "left behind: {}", routes(&cluster)?);
    Ok(())
}
