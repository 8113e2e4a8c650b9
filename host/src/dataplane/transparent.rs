//! Keeping the client's address towards an endpoint, as `externalTrafficPolicy: Local` does (kubernetes-semantics 3.6): a socket that is
//! bound to an address of somebody else (IP_TRANSPARENT), and what makes the kernel hand the endpoint's answers to it: an nftables rule
//! that marks packets of such sockets, a routing rule for the mark, and a local route for that. Needs CAP_NET_ADMIN, `nft`, and endpoints
//! whose answers come back through this machine's network: those of its own pods do, those of its own processes do not.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, RouteMessageBuilder, new_connection};
use socket2::{Socket, Type};
use tokio::task::JoinHandle;

use super::anyip::{LOOPBACK_INDEX, PROTOCOL};
use crate::observe::{ConnectionRecord, Source};
use crate::table::{Endpoint, FrontendKind, Locality, Origin, Port, Protocol, Slot};

/// The mark, the routing table and the rule's priority: "pm" in ASCII, which nobody else is known to use.
const MARK: u32 = 0x706d;

/// Of nftables, of this program alone: replaced where a host that was killed left it.
const RULES: &str = "\
table inet pointsman
delete table inet pointsman
table inet pointsman {
    chain answers {
        type filter hook prerouting priority mangle; policy accept;
        socket transparent 1 meta mark set 0x706d
    }
}
";

/// What was added to the machine's network.
pub struct Transparent {
    handle: Handle,
    netlink: JoinHandle<()>,
}

impl Transparent {
    /// Adds the rules and routes. Needs a tokio runtime.
    ///
    /// # Errors
    /// What is missing: the `nft` command, a capability, a kernel module.
    pub async fn install() -> Result<Self, String> {
        nft(RULES)?;
        let (connection, handle, _) = new_connection().map_err(|error| format!("opening netlink: {error}"))?;
        let installed = Self { handle, netlink: tokio::spawn(connection) };
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            if let Err(error) = installed.route(family).await {
                installed.remove().await;
                return Err(format!("routing marked packets to this machine: {error}"));
            }
        }
        Ok(installed)
    }

    async fn route(&self, family: AddressFamily) -> Result<(), rtnetlink::Error> {
        unless_there(self.handle.route().add(local(family)).execute().await)?;
        let mut rule = self.handle.rule().add();
        *rule.message_mut() = for_mark(family);
        unless_there(rule.execute().await)
    }

    /// Takes all of it away again.
    pub async fn remove(self) {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let gone = self.handle.rule().del(for_mark(family)).execute().await;
            let gone = gone.and(self.handle.route().del(local(family)).execute().await);
            if let Err(error) = gone {
                tracing::warn!("cannot remove the route for marked packets (`ip rule`, table {MARK}): {error}");
            }
        }
        if let Err(error) = nft("delete table inet pointsman\n") {
            tracing::warn!("cannot remove the nftables table `inet pointsman`: {error}");
        }
        self.netlink.abort();
    }
}

/// Whether Kubernetes keeps the client's address for such a connection, and it is this host's to keep it.
fn applies(port: &Port, frontend: FrontendKind, origin: Origin) -> bool {
    let external = matches!(frontend, FrontendKind::NodePort | FrontendKind::ExternalIp | FrontendKind::LoadBalancer);
    let told = port.options.proxy_protocol && port.record.protocol != Protocol::Udp;
    external && origin == Origin::Outside && port.record.external_traffic_policy == Locality::Local && !told
}

/// The client, where a connection's next endpoint is to see it; notes in the record whom it sees. `set_up` says whether the machine's
/// network is.
pub(super) fn seen_by(endpoint: Slot, set_up: &AtomicBool, record: &mut ConnectionRecord) -> Option<SocketAddr> {
    let port = &record.port;
    let keeps = set_up.load(Ordering::Relaxed)
        && applies(port, record.kind, record.origin)
        && port.endpoints.get(endpoint as usize).is_some_and(answers_here);
    record.source = match port.options.proxy_protocol && port.record.protocol != Protocol::Udp {
        true => Source::ProxyProtocol,
        false if keeps => Source::Kept,
        false => Source::Node,
    };
    keeps.then_some(record.client)
}

/// Whether any connection to this Service port might.
pub fn wanted(port: &Port) -> bool {
    applies(port, FrontendKind::NodePort, Origin::Outside)
}

/// Whether what an endpoint sends to a client comes by this machine, and through the rule. From another node, where policies may send
/// connections too, it goes another way.
fn answers_here(endpoint: &Endpoint) -> bool {
    endpoint.local && !is_own(endpoint.address.ip())
}

/// Whether an endpoint is a process of this machine's own network: its answers never pass the rule.
fn is_own(endpoint: IpAddr) -> bool {
    // Only an address of this machine can be bound by an ordinary socket.
    UdpSocket::bind((endpoint, 0)).is_ok()
}

/// Makes a socket speak as the client, with its port if that is free and this process may have it.
pub(super) fn speak_as(socket: &Socket, client: SocketAddr) -> io::Result<()> {
    match client {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    // Connections to other endpoints may have the port too. Not so flows: two with the same addresses could not be told apart.
    socket.set_reuse_address(socket.r#type()? == Type::STREAM)?;
    match socket.bind(&client.into()) {
        Err(error) if [Errno::EADDRINUSE, Errno::EACCES].map(|errno| Some(errno as i32)).contains(&error.raw_os_error()) => {
            socket.bind(&any_port(client).into())
        }
        bound => bound,
    }
}

/// The client with a port that the kernel chooses.
pub(super) fn any_port(client: SocketAddr) -> SocketAddr {
    SocketAddr::new(client.ip(), 0)
}

fn nft(script: &str) -> Result<(), String> {
    let started = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = started.map_err(|error| format!("`nft`, from the package nftables, cannot be started: {error}"))?;
    // Closed when it goes out of scope: nft reads to the end.
    let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(script.as_bytes()));
    let output = child.wait_with_output().map_err(|error| format!("`nft`: {error}"))?;
    if output.status.success() && written.is_ok() {
        return Ok(());
    }
    Err(format!("`nft` refused the rule: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// `ip route add local default dev lo table 28781`.
fn local(family: AddressFamily) -> RouteMessage {
    if family == AddressFamily::Inet {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(LOOPBACK_INDEX).table_id(MARK).protocol(PROTOCOL);
        route.kind(RouteType::Local).scope(RouteScope::Host).build()
    } else {
        let route = RouteMessageBuilder::<Ipv6Addr>::new().output_interface(LOOPBACK_INDEX).table_id(MARK).protocol(PROTOCOL);
        route.kind(RouteType::Local).scope(RouteScope::Universe).build()
    }
}

/// `ip rule add fwmark 0x706d lookup 28781`.
fn for_mark(family: AddressFamily) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = family;
    rule.header.action = RuleAction::ToTable;
    rule.attributes =
        vec![RuleAttribute::FwMark(MARK), RuleAttribute::Table(MARK), RuleAttribute::Priority(MARK), RuleAttribute::Protocol(PROTOCOL)];
    rule
}

fn unless_there(result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match result {
        Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -(Errno::EEXIST as i32) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]
    use super::*;
    use crate::observe::fixture;
    use crate::table::PortRecord;
    use std::sync::Arc;

    #[test]
    fn the_rule_sets_the_mark_that_is_routed() {
        assert!(RULES.contains(&format!("meta mark set {MARK:#x}")));
    }

    #[test]
    fn only_clients_from_outside_on_external_addresses_under_local() {
        let mut port = fixture::port(0, "web", vec![]);
        assert!(!wanted(&port));
        port.record = Arc::new(PortRecord { external_traffic_policy: Locality::Local, ..PortRecord::clone(&port.record) });
        assert!(wanted(&port));
        assert!(applies(&port, FrontendKind::LoadBalancer, Origin::Outside) && applies(&port, FrontendKind::ExternalIp, Origin::Outside));
        assert!(!applies(&port, FrontendKind::ClusterIp, Origin::Outside), "that is internalTrafficPolicy's");
        assert!(!applies(&port, FrontendKind::NodePort, Origin::Pod) && !applies(&port, FrontendKind::NodePort, Origin::Node));
        port.options.proxy_protocol = true;
        assert!(!wanted(&port), "it is told in another way");
    }

    #[test]
    fn answers_of_other_nodes_and_of_ones_own_processes_do_not_pass_the_rule() {
        let pod = |local, address| Endpoint { local, ..fixture::endpoint(address) };
        assert!(answers_here(&pod(true, "192.0.2.1:80")));
        assert!(!answers_here(&pod(false, "192.0.2.1:80")) && !answers_here(&pod(true, "127.0.0.1:80")));
    }

    #[test]
    fn an_address_is_ones_own_if_it_can_be_bound() {
        assert!(is_own("127.3.4.5".parse().unwrap()));
        assert!(!is_own("192.0.2.1".parse().unwrap()));
    }
}
