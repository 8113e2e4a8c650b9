//! Telling clients that nobody is there. The kernel does it by itself for a frontend without a socket; for a socket that serves some and
//! not others it takes a packet of our own, and CAP_NET_RAW.

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::icmp;

/// At most so many a second and worker: Linux' own default (`net.ipv4.icmp_msgs_per_sec`). Whoever asks faster knows by then.
const MAX_REFUSALS_PER_SECOND: u32 = 1_000;

/// `IPPROTO_RAW`: the packet brings its own IP header, in either family (`raw(7)`).
const WITH_HEADER: i32 = 255;

/// One worker's raw sockets, opened when the first refusal is due.
#[derive(Default)]
pub(super) struct Refusals {
    v4: Option<Raw>,
    v6: Option<Raw>,
    budget: Budget,
}

enum Raw {
    Open(Socket),
    /// For good: a process does not gain the capability.
    NotPermitted,
}

/// How much may still be sent in this second.
#[derive(Default)]
struct Budget {
    second: u64,
    spent: u32,
}

impl Refusals {
    /// Refuses a datagram that `client` sent to `asked`. Returns what became of it, for the counters.
    pub(super) fn refuse(&mut self, asked: SocketAddr, client: SocketAddr, datagram: &[u8], now_ms: u64) -> &'static str {
        // RFC 1122, 3.2.2: never to an address that is not a single host's.
        if !is_one_host(client.ip()) {
            return "not-a-host";
        }
        if !self.budget.spend(now_ms) {
            return "rate-limited";
        }
        let Some(packet) = icmp::port_unreachable(asked, client, datagram) else { return "failed" };
        let raw = if client.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let socket = match raw {
            Some(Raw::Open(socket)) => socket,
            Some(Raw::NotPermitted) => return "not-permitted",
            None => match open(client) {
                Ok(socket) => match raw.insert(Raw::Open(socket)) {
                    Raw::Open(socket) => socket,
                    Raw::NotPermitted => return "not-permitted",
                },
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    *raw = Some(Raw::NotPermitted);
                    return "not-permitted";
                }
                Err(_) => return "failed",
            },
        };
        let mut to = client;
        // Of a raw socket's address the port is the protocol, or nothing.
        to.set_port(0);
        match socket.send_to(&packet, &to.into()) {
            Ok(_) => "sent",
            Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => "not-permitted",
            Err(_) => "failed",
        }
    }
}

impl Budget {
    fn spend(&mut self, now_ms: u64) -> bool {
        let second = now_ms / 1_000;
        if second != self.second {
            *self = Self { second, spent: 0 };
        }
        self.spent += 1;
        self.spent <= MAX_REFUSALS_PER_SECOND
    }
}

fn open(client: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(client), Type::RAW.nonblocking().cloexec(), Some(Protocol::from(WITH_HEADER)))
}

fn is_one_host(client: IpAddr) -> bool {
    let broadcast = matches!(client, IpAddr::V4(v4) if v4.is_broadcast());
    !(client.is_multicast() || client.is_unspecified() || broadcast)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_second_and_no_more() {
        let mut budget = Budget::default();
        let sent = (0..5_000).filter(|n| budget.spend(10_000 + n / 5)).count();
        assert_eq!(sent, MAX_REFUSALS_PER_SECOND as usize);
        assert!(budget.spend(11_000));
    }

    #[test]
    fn groups_are_not_answered() {
        let mut refusals = Refusals::default();
        for client in ["224.0.0.1:53", "255.255.255.255:53", "0.0.0.0:53", "[ff02::1]:53", "[::]:53"] {
            assert_eq!(refusals.refuse("127.0.0.1:53".parse().unwrap(), client.parse().unwrap(), b"", 0), "not-a-host");
        }
    }
}
