//! Opening listening sockets.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::anyip;

/// Connections that the kernel holds for a listener while its worker is busy; `net.core.somaxconn` may cut it.
pub(super) const BACKLOG: i32 = 4096;

/// A peer that is gone without a word is found out after two minutes of silence: asked after one, and then each quarter.
pub(super) const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);

/// Opens one listening socket for each of `count` workers, all on the same address (its real port, where 0 was asked). `ours` says
/// that this process may still be listening there; otherwise a stranger's listener is looked for first, with which `SO_REUSEPORT`
/// would share connections silently.
pub(super) fn listen(address: SocketAddr, count: usize, ours: bool) -> Result<(SocketAddr, Vec<TcpListener>), String> {
    let explain = |error| explain(address, &error);
    if !ours && address.port() != 0 {
        socket(address, false).map_err(explain)?;
    }
    let mut at = address;
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let listener = open(at).map_err(explain)?;
        at = listener.local_addr().map_err(explain)?;
        sockets.push(listener);
    }
    Ok((at, sockets))
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, true)?;
    // Accepted sockets inherit it, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    // Accepted sockets inherit both.
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
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

fn explain(address: SocketAddr, error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => format!(
            "something else listens on {address}, or on port {port} of every address; `ss -ltnp 'sport = :{port}'` tells what",
            port = address.port()
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

    #[test]
    fn a_group_shares_the_port_that_the_kernel_chose() {
        let (at, sockets) = listen(ANY_PORT.parse().unwrap(), 3, false).unwrap();
        assert_ne!(at.port(), 0);
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == at));
    }

    #[test]
    fn a_stranger_is_found_even_when_it_would_share() {
        let (at, stranger) = listen(ANY_PORT.parse().unwrap(), 1, false).unwrap();
        let refused = listen(at, 2, false).unwrap_err();
        assert!(refused.contains(&format!("something else listens on {at}")), "{refused}");
        assert!(listen(at, 2, true).is_ok(), "our own is no stranger");
        drop(stranger);
    }

    #[test]
    fn a_stranger_on_every_address_is_found() {
        let stranger = TcpListener::bind("0.0.0.0:0").unwrap();
        let at = SocketAddr::from(([127, 7, 7, 7], stranger.local_addr().unwrap().port()));
        assert!(listen(at, 1, false).unwrap_err().contains("every address"));
    }

    #[test]
    fn a_foreign_address_is_named() {
        let refused = listen("192.0.2.1:80".parse().unwrap(), 1, false).unwrap_err();
        assert!(refused.contains("192.0.2.1 is not an address of this machine"), "{refused}");
    }

    #[test]
    fn accepted_sockets_inherit_nodelay() {
        let (at, sockets) = listen(ANY_PORT.parse().unwrap(), 1, false).unwrap();
        let _client = std::net::TcpStream::connect(at).unwrap();
        sockets[0].set_nonblocking(false).unwrap();
        assert!(sockets[0].accept().unwrap().0.nodelay().unwrap());
    }
}
