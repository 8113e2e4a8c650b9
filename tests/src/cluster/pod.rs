//! A pod: a network namespace behind its node, and servers in it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

use super::{Family, PORT, PROXY_PORT};
use crate::Backend;
use crate::netns::Namespace;

/// Servers end first, then the namespace.
#[derive(Debug)]
pub(super) struct Pod {
    _streams: [Backend; 2],
    _datagrams: Datagrams,
    ips: [IpAddr; 2],
    namespace: Namespace,
}

impl Pod {
    /// Behind this node, which forwards all that it sends: the node's links to its pods have no addresses of their own, so what the node
    /// sends to a pod comes from the node's address.
    pub(super) fn start(node: &Namespace, node_ip: IpAddr, name: &str, ips: [IpAddr; 2]) -> Result<Self> {
        let namespace = super::router(name)?;
        let link = format!("veth-{name}");
        node.cable(&link, &namespace, "eth0")?;
        node.address(&link, GATEWAY, 64)?;
        for (ip, prefix) in ips.into_iter().zip([32, 128]) {
            namespace.address("eth0", ip, prefix)?;
            node.route(&format!("{ip}/{prefix} dev {link}"))?;
        }
        namespace.route(&format!("{node_ip}/32 dev eth0"))?;
        namespace.route(&format!("default via {node_ip}"))?;
        namespace.route(&format!("default via {GATEWAY} dev eth0"))?;
        let (streams, datagrams) = namespace.enter(|| Ok(([streams(PORT, name)?, streams(PROXY_PORT, name)?], Datagrams::start(name)?)))?;
        Ok(Self { _streams: streams, _datagrams: datagrams, ips, namespace })
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    pub(super) fn ip(&self, family: Family) -> IpAddr {
        self.ips[usize::from(family == Family::V6)]
    }
}

/// The manifest of such a pod.
pub(super) fn manifest(name: &str, labels: &str, node: &str, [v4, v6]: [IpAddr; 2]) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels: {{{labels}}}\nspec:\n  nodeName: {node}\n  containers:\n  - name: main\n    \
         image: example\nstatus:\n  phase: Running\n  podIP: {v4}\n  podIPs:\n  - ip: {v4}\n  - ip: \"{v6}\"\n  conditions:\n  - {{type: Ready, \
         status: \"True\"}}\n"
    )
}

/// Of IPv6, on each of the node's links to a pod.
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

fn streams(port: u16, name: &str) -> Result<Backend> {
    let name = name.to_owned();
    Backend::threaded(TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?, move |mut stream| {
        let client = if port == PROXY_PORT { proxied_client(&mut stream)? } else { stream.peer_addr()? };
        write!(stream, "{name} {}", canonical(client))
    })
}

/// Answers datagrams until it is dropped.
#[derive(Debug)]
struct Datagrams {
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Datagrams {
    fn start(name: &str) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT))?;
        socket.set_read_timeout(Some(LOOK_UP))?;
        let (stop, name) = (Arc::new(AtomicBool::new(false)), name.to_owned());
        let stopped = Arc::clone(&stop);
        let server = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // Most errors are the end of the timeout; the rest concern one datagram.
                let Ok((_, client)) = socket.recv_from(&mut [0; 256]) else { continue };
                let _ = socket.send_to(format!("{name} {}", canonical(client)).as_bytes(), client);
            }
        });
        Ok(Self { stop, server: Some(server) })
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// How often a server looks whether it is to end.
const LOOK_UP: Duration = Duration::from_millis(20);

fn canonical(client: SocketAddr) -> SocketAddr {
    SocketAddr::new(client.ip().to_canonical(), client.port())
}

/// The client that a header of the PROXY protocol names (its specification, section 2.2).
fn proxied_client(stream: &mut TcpStream) -> io::Result<SocketAddr> {
    let mut head = [0; 16];
    stream.read_exact(&mut head)?;
    let mut body = vec![0; usize::from(u16::from_be_bytes([head[14], head[15]]))];
    stream.read_exact(&mut body)?;
    let invalid = || io::Error::new(ErrorKind::InvalidData, format!("not a header of version 2 for TCP: {head:?}"));
    if &head[..13] != b"\r\n\r\n\0\r\nQUIT\n\x21" {
        return Err(invalid());
    }
    // Source and destination, then their ports.
    let (ip, port): (IpAddr, _) = match (head[13], &body[..]) {
        (0x11, [a, b, c, d, _, _, _, _, e, f, ..]) => (Ipv4Addr::new(*a, *b, *c, *d).into(), [*e, *f]),
        (0x21, body) if body.len() >= 36 => {
            let source: [u8; 16] = body[..16].try_into().map_err(|_| invalid())?;
            (Ipv6Addr::from(source).into(), [body[32], body[33]])
        }
        _ => return Err(invalid()),
    };
    Ok(SocketAddr::new(ip, u16::from_be_bytes(port)))
}
