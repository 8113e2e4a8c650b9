//! Nodes as Kubernetes has them: each with an engine in `anyip` mode and with pods in network namespaces of their own, whose packets
//! it routes; a switch between the nodes; a client outside. Everything has addresses of both families.

mod pod;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use self::pod::Pod;
use crate::engine::{Launch, pointsman};
use crate::http::{self, Answer};
use crate::manifest::Service;
use crate::netns::{self, Namespace};
use crate::{Engine, Manifests, poll};

/// What pods serve over TCP and UDP: their name, and the client that they see. `PROXY_PORT` expects a header of the PROXY protocol, and
/// answers with the client that is named there.
pub const PORT: u16 = 8080;
/// See [`PORT`].
pub const PROXY_PORT: u16 = 8081;

/// Where cluster IPs come from.
pub const SERVICE_RANGES: [&str; 2] = ["10.97.0.0/16", "fd00:97::/112"];
/// Where load-balancer addresses come from; the client has no route to them.
pub const POOLS: [&str; 2] = ["192.168.7.0/24", "fd07::/112"];

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One connection, one answer.
    Tcp,
    /// One datagram, one answer.
    Udp,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// All ways to reach a Service.
pub const PATHS: [(Protocol, Family); 4] =
    [(Protocol::Tcp, Family::V4), (Protocol::Tcp, Family::V6), (Protocol::Udp, Family::V4), (Protocol::Udp, Family::V6)];

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// The client outside.
    Client,
    /// The node of this number itself.
    Node(usize),
    /// The pod of this name.
    Pod(&'static str),
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The pod that answered.
    pub pod: String,
    /// Whom it saw.
    pub saw: SocketAddr,
    /// Who asked.
    pub client: SocketAddr,
}

/// The running thing. Engines end first, namespaces last.
#[derive(Debug)]
pub struct Cluster {
    engines: BTreeMap<usize, Engine>,
    pods: BTreeMap<String, Pod>,
    manifests: Manifests,
    client: Namespace,
    nodes: Vec<Namespace>,
    _switch: Namespace,
}

impl Cluster {
    /// Nodes without pods and engines.
    pub fn new(nodes: usize) -> Result<Self> {
        let nodes = (1..=nodes).map(|number| router(&format!("n{number}"))).collect::<Result<Vec<_>>>()?;
        let client = router("client")?;
        let addresses: Vec<String> = (0..nodes.len()).map(|node| format!("{}/24", node_ip(node, Family::V4))).collect();
        let client_address = format!("{}/24", client_ip(Family::V4));
        let mut members: Vec<_> = nodes.iter().zip(addresses.iter().map(String::as_str)).collect();
        members.push((&client, &client_address));
        let switch = netns::switch(&members)?;
        client.address("eth0", client_ip(Family::V6), 64)?;
        for (here, namespace) in nodes.iter().enumerate() {
            namespace.address("eth0", node_ip(here, Family::V6), 64)?;
            for there in (0..nodes.len()).filter(|there| *there != here) {
                for (family, prefix) in [(Family::V4, 24), (Family::V6, 64)] {
                    namespace.route(&format!("{}/{prefix} via {}", pod_ip(there, 0, family), node_ip(there, family)))?;
                }
            }
        }
        Ok(Self { engines: BTreeMap::new(), pods: BTreeMap::new(), manifests: Manifests::new()?, client, nodes, _switch: switch })
    }

    /// A running pod on a node, and its manifest. One of this name that runs already is replaced: pods do not move, their names do.
    pub fn pod(&mut self, node: usize, name: &str, labels: &str) -> Result<()> {
        self.pods.remove(name);
        let taken = |number: &u8| self.pods.values().any(|pod| pod.ip(Family::V4) == pod_ip(node, *number, Family::V4));
        let number = (1..=u8::MAX).find(|number| !taken(number)).context("no address left")?;
        let ips = [Family::V4, Family::V6].map(|family| pod_ip(node, number, family));
        let pod = Pod::start(&self.nodes[node], node_ip(node, Family::V4), name, ips)?;
        self.pods.insert(name.to_owned(), pod);
        self.manifests.write(&format!("pod-{name}.yaml"), &pod::manifest(name, labels, &node_name(node), ips)).map(drop)
    }

    /// Adds or replaces a Service, with addresses of both families.
    pub fn service(&self, name: &str, service: &Service) -> Result<()> {
        let service = service.clone().spec("ipFamilyPolicy", "RequireDualStack");
        self.manifests.write(&format!("service-{name}.yaml"), &service.yaml()).map(drop)
    }

    /// Starts an engine on a node that has none.
    pub fn start(&mut self, node: usize) -> Result<()> {
        let launch = Launch::bare(self.manifests.path(), &node_name(node), &node_ip(node, Family::V4).to_string(), "anyip")?;
        // A UDP flow is in the decision log when it has ended.
        let launch = launch.arguments(["--node-ip", &node_ip(node, Family::V6).to_string(), "--udp-idle-timeout", "1s"]);
        self.engines.insert(node, launch.arguments(ranges()).inside(&self.nodes[node]).start()?);
        Ok(())
    }

    /// Starts an engine on every node.
    pub fn start_all(&mut self) -> Result<()> {
        (0..self.nodes.len()).try_for_each(|node| self.start(node))
    }

    /// Takes an engine out, which its caller ends.
    pub fn take(&mut self, node: usize) -> Result<Engine> {
        self.engines.remove(&node).context("no engine runs there")
    }

    /// The engine of a node.
    pub fn engine(&self, node: usize) -> Result<&Engine> {
        self.engines.get(&node).context("no engine runs there")
    }

    /// The namespace of a node.
    pub fn node(&self, node: usize) -> &Namespace {
        &self.nodes[node]
    }

    /// The namespace of the client outside.
    pub fn client(&self) -> &Namespace {
        &self.client
    }

    /// One connection, or one datagram, from a fresh port.
    pub fn ask(&self, who: Who, protocol: Protocol, to: SocketAddr) -> Result<io::Result<Heard>> {
        self.ask_within(PATIENCE, who, protocol, to)
    }

    /// The same for answers that are not expected.
    pub fn ask_within(&self, patience: Duration, who: Who, protocol: Protocol, to: SocketAddr) -> Result<io::Result<Heard>> {
        self.place(who)?.enter(|| Ok(ask(patience, protocol, to)))
    }

    /// A `GET` from the client outside.
    pub fn get(&self, address: SocketAddr, path: &str) -> Result<Answer> {
        self.client.enter(|| http::get(address, path))
    }

    /// What a node's decision log says of the connection from this client, as soon as it is there.
    pub fn decision(&self, node: usize, client: SocketAddr) -> Result<Value> {
        let client = client.to_string();
        self.decision_that(node, &format!("about {client}"), |decision| decision["client"] == client.as_str())
    }

    /// The last line of a node's decision log that fits, as soon as there is one.
    pub fn decision_that(&self, node: usize, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let engine = self.engine(node)?;
        poll::until(&format!("a decision {what}"), || {
            let decisions = engine.decisions()?;
            match decisions.iter().rfind(|decision| fits(decision)) {
                Some(decision) => Ok(Some(decision.clone())),
                None => bail!("the last of {} is {:?}", decisions.len(), decisions.last()),
            }
        })
    }

    /// What `pointsman route` says of a connection to this node.
    pub fn route(&self, node: usize, client: SocketAddr, protocol: Protocol, to: SocketAddr) -> Result<Value> {
        let protocol = if protocol == Protocol::Tcp { "tcp" } else { "udp" };
        let (folder, to, client) = (self.manifests.path().display().to_string(), format!("{to}/{protocol}"), client.to_string());
        let mut words: Vec<String> = ["route", "-o", "json", "-f", &folder, "--to", &to, "--client", &client].map(str::to_owned).into();
        let ips = [Family::V4, Family::V6].map(|family| node_ip(node, family).to_string());
        words.extend(["--node-name", &node_name(node), "--node-ip", &ips[0], "--node-ip", &ips[1]].map(str::to_owned));
        words.extend(ranges().map(str::to_owned));
        Ok(serde_json::from_str(&pointsman(words)?)?)
    }

    fn place(&self, who: Who) -> Result<&Namespace> {
        match who {
            Who::Client => Ok(&self.client),
            Who::Node(node) => Ok(&self.nodes[node]),
            Who::Pod(name) => Ok(self.pods.get(name).with_context(|| format!("no pod {name}"))?.namespace()),
        }
    }
}

/// `node01`, `node02`, …
pub fn node_name(node: usize) -> String {
    format!("node{:02}", node + 1)
}

/// A node's address.
pub fn node_ip(node: usize, family: Family) -> IpAddr {
    address(family, 60, 0, node as u8 + 1)
}

/// The client's address.
pub fn client_ip(family: Family) -> IpAddr {
    address(family, 60, 0, 9)
}

fn pod_ip(node: usize, number: u8, family: Family) -> IpAddr {
    address(family, 61, node as u8 + 1, number)
}

/// 10.60.1.2, or fd60:0:0:1::2.
fn address(family: Family, net: u8, subnet: u8, number: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, net, subnet, number).into(),
        Family::V6 => {
            // The digits of the IPv4 one, so that they are known again.
            let net = 0xfd00 | u16::from(net / 10) << 4 | u16::from(net % 10);
            Ipv6Addr::new(net, 0, 0, subnet.into(), 0, 0, 0, number.into()).into()
        }
    }
}

fn ranges() -> impl Iterator<Item = &'static str> {
    let of = |flag, ranges: [&'static str; 2]| ranges.into_iter().flat_map(move |range| [flag, range]);
    of("--service-cidr", SERVICE_RANGES).chain(of("--load-balancer-pool", POOLS))
}

/// A namespace that forwards packets, and whose addresses can be used at once.
fn router(purpose: &str) -> Result<Namespace> {
    let namespace = Namespace::new(purpose)?;
    for key in ["ipv6.conf.all.accept_dad", "ipv6.conf.default.accept_dad"] {
        namespace.sysctl(key, "0")?;
    }
    for key in ["ipv4.ip_forward", "ipv6.conf.all.forwarding"] {
        namespace.sysctl(key, "1")?;
    }
    Ok(namespace)
}

fn ask(patience: Duration, protocol: Protocol, to: SocketAddr) -> io::Result<Heard> {
    let (client, text) = match protocol {
        Protocol::Tcp => {
            let mut stream = TcpStream::connect_timeout(&to, patience)?;
            stream.set_read_timeout(Some(patience))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            (stream.local_addr()?, text)
        }
        Protocol::Udp => {
            let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(patience))?;
            socket.send(b"who?")?;
            let mut bytes = [0; 256];
            let length = socket.recv(&mut bytes)?;
            (socket.local_addr()?, String::from_utf8_lossy(&bytes[..length]).into_owned())
        }
    };
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("{to} answered {text:?}"));
    let (pod, saw) = text.split_once(' ').ok_or_else(invalid)?;
    Ok(Heard { pod: pod.to_owned(), saw: saw.parse().map_err(|_| invalid())?, client })
}

/// Far longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(5);
