//! Opening listening sockets.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::OnceLock;
use std::time::Duration;

use nix::errno::Errno;
use socket2::{Domain, Socket, TcpKeepalive, Type};

use super::anyip;
use crate::table::Protocol;

/// Connections that the kernel holds for a listener while its worker is busy; `net.core.somaxconn` may cut it.
pub(super) const BACKLOG: i32 = 4096;

/// A peer that is gone without a word is found out after two minutes of silence: asked after one, and then each quarter.
pub(super) const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);

/// Datagrams that the kernel holds for a socket while its worker is busy, in bytes of kernel memory (a small datagram takes some 770);
/// `net.core.rmem_max` may cut it. A thousand small ones at once fit, which they do not by default (208 KiB).
pub(super) const RECEIVE_BUFFER_BYTES: usize = 1 << 20;

/// A socket that clients reach.
#[derive(Debug)]
pub(super) enum Listener {
    /// TCP, and SCTP one-to-one, which is used in the same way.
    Streams(TcpListener),
    Datagrams(UdpSocket),
}

/// Opens one listening socket for each of `count` workers, all on the same address (its real port, where 0 was asked). `ours` says
/// that this process may still be listening there; otherwise a stranger's listener is looked for first, with which `SO_REUSEPORT`
/// would share connections silently.
pub(super) fn listen(address: SocketAddr, protocol: Protocol, count: usize, ours: bool) -> Result<(SocketAddr, Vec<Listener>), String> {
    let explain = |error| explain(address, protocol, &error);
    if !ours && address.port() != 0 {
        socket(address, protocol, false).map_err(explain)?;
    }
    let mut at = address;
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let (bound, listener) = open(at, protocol).map_err(explain)?;
        at = bound;
        sockets.push(listener);
    }
    Ok((at, sockets))
}

/// Why SCTP cannot be served, if it cannot. Asked once: each call that fails makes the kernel look for a module.
pub(super) fn sctp_missing() -> Option<&'static str> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let missing = MISSING.get_or_init(|| match Socket::new(Domain::IPV4, Type::STREAM.cloexec(), Some(socket2::Protocol::SCTP)) {
        Ok(_) => None,
        Err(error) => Some(format!(
            "this kernel has no SCTP ({error}); load its module (`modprobe sctp`) and start pointsman again. The Service's other ports are served"
        )),
    });
    missing.as_deref()
}

fn open(address: SocketAddr, protocol: Protocol) -> io::Result<(SocketAddr, Listener)> {
    let socket = socket(address, protocol, true)?;
    let listener = match protocol {
        Protocol::Udp => {
            socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
            Listener::Datagrams(socket.into())
        }
        Protocol::Tcp => {
            // Accepted sockets inherit both, which saves system calls for each.
            socket.set_tcp_nodelay(true)?;
            socket.set_tcp_keepalive(&KEEPALIVE)?;
            socket.listen(BACKLOG)?;
            Listener::Streams(socket.into())
        }
        // It asks silent peers by itself.
        Protocol::Sctp => {
            socket.listen(BACKLOG)?;
            Listener::Streams(socket.into())
        }
    };
    let bound = match &listener {
        Listener::Streams(listener) => listener.local_addr(),
        Listener::Datagrams(socket) => socket.local_addr(),
    };
    Ok((bound?, listener))
}

fn socket(address: SocketAddr, protocol: Protocol, reuse_port: bool) -> io::Result<Socket> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (Type::STREAM, socket2::Protocol::TCP),
        Protocol::Udp => (Type::DGRAM, socket2::Protocol::UDP),
        Protocol::Sctp => (Type::STREAM, socket2::Protocol::SCTP),
    };
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking().cloexec(), Some(number))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // What it passes over, connections that linger after a restart, UDP has not; there it would share the port with a stranger.
    socket.set_reuse_address(protocol != Protocol::Udp)?;
    socket.set_reuse_port(reuse_port)?;
    match (socket.bind(&address.into()), address.ip()) {
        (Err(error), IpAddr::V6(ip)) if error.raw_os_error() == Some(Errno::EADDRNOTAVAIL as i32) && anyip::is_local(ip) => {
            // IPv6 binds only what an interface has, and not what a local route makes this machine's; IPv4 does both.
            socket.set_freebind_v6(true)?;
            socket.bind(&address.into())?;
        }
        (bound, _) => bound?,
    }
    Ok(socket)
}

fn explain(address: SocketAddr, protocol: Protocol, error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => format!(
            "something else listens on {address}, or on port {port} of every address; `ss -l{letter}np 'sport = :{port}'` tells what",
            port = address.port(),
            letter = match protocol {
                Protocol::Tcp => 't',
                Protocol::Udp => 'u',
                Protocol::Sctp => 'S',
            }
        ),
        Some(Errno::EACCES) => format!(
            "not permitted to listen on port {port}; allow it with `setcap cap_net_bind_service=+ep` on the pointsman binary, or with \
             `sysctl -w net.ipv4.ip_unprivileged_port_start={port}`",
            port = address.port()
        ),
        Some(Errno::EADDRNOTAVAIL) => {
            format!("{} is not an address of this machine; give it one, or run with `--vip-mode loopback` or `anyip`", address.ip())
        }
        Some(Errno::EMFILE | Errno::ENFILE) => {
            format!("no descriptor is left to listen on {address}; raise the limit (`ulimit -n`, or LimitNOFILE= in the systemd unit)")
        }
        _ => format!("cannot listen on {address}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY_PORT: &str = "127.0.0.1:0";

    fn any(protocol: Protocol, count: usize) -> (SocketAddr, Vec<Listener>) {
        listen(ANY_PORT.parse().unwrap(), protocol, count, false).unwrap()
    }

    fn address(listener: &Listener) -> SocketAddr {
        match listener {
            Listener::Streams(listener) => listener.local_addr().unwrap(),
            Listener::Datagrams(socket) => socket.local_addr().unwrap(),
        }
    }

    #[test]
    fn a_group_shares_the_port_that_the_kernel_chose() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let (at, sockets) = any(protocol, 3);
            assert_ne!(at.port(), 0);
            assert!(sockets.iter().all(|socket| address(socket) == at));
        }
    }

    #[test]
    fn a_stranger_is_found_even_when_it_would_share() {
        for (protocol, command) in [(Protocol::Tcp, "ss -ltnp"), (Protocol::Udp, "ss -lunp")] {
            let (at, stranger) = any(protocol, 1);
            let refused = listen(at, protocol, 2, false).unwrap_err();
            assert!(refused.contains(&format!("something else listens on {at}")) && refused.contains(command), "{refused}");
            assert!(listen(at, protocol, 2, true).is_ok(), "our own is no stranger");
            drop(stranger);
        }
    }

    #[test]
    fn a_stranger_on_every_address_is_found() {
        let (streams, datagrams) = (TcpListener::bind("0.0.0.0:0").unwrap(), UdpSocket::bind("0.0.0.0:0").unwrap());
        let ports = [(Protocol::Tcp, streams.local_addr().unwrap().port()), (Protocol::Udp, datagrams.local_addr().unwrap().port())];
        for (protocol, port) in ports {
            let at = SocketAddr::from(([127, 7, 7, 7], port));
            assert!(listen(at, protocol, 1, false).unwrap_err().contains("every address"));
        }
    }

    #[test]
    fn one_port_serves_tcp_and_udp() {
        let (at, _streams) = any(Protocol::Tcp, 1);
        assert_eq!(listen(at, Protocol::Udp, 2, false).unwrap().0, at);
    }

    #[test]
    fn a_foreign_address_is_named() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let refused = listen("192.0.2.1:80".parse().unwrap(), protocol, 1, false).unwrap_err();
            assert!(refused.contains("192.0.2.1 is not an address of this machine"), "{refused}");
        }
    }

    #[test]
    fn accepted_sockets_inherit_nodelay() {
        let (at, sockets) = any(Protocol::Tcp, 1);
        let _client = std::net::TcpStream::connect(at).unwrap();
        let Listener::Streams(listener) = &sockets[0] else { panic!("{sockets:?}") };
        listener.set_nonblocking(false).unwrap();
        assert!(listener.accept().unwrap().0.nodelay().unwrap());
    }

    #[test]
    fn sctp_is_listened_for_where_the_kernel_has_it_and_explained_where_not() {
        match sctp_missing() {
            None => assert_eq!(any(Protocol::Sctp, 2).1.len(), 2),
            Some(why) => assert!(why.starts_with("this kernel has no SCTP") && why.contains("other ports are served"), "{why}"),
        }
    }
}
