//! Many datagrams with one system call: `recvmmsg` and `sendmmsg` over buffers that are made once.
//!
//! nix wraps both calls, but of `sendmmsg` it tells how many were sent only through an iterator over addresses that the call never
//! wrote.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_uint};

/// The largest datagram there is: UDP's length field has 16 bits.
pub const MAX_DATAGRAM_BYTES: usize = 65_535;

/// From one buffer to the next: one cache line more than 64 KiB, so that the first bytes of all of them don't fall into the same set
/// of the cache.
const STRIDE_BYTES: usize = 64 * 1024 + 64;

/// A fixed number of datagrams (by default none), each with room for the largest.
pub struct Batch {
    bytes: Box<[u8]>,
    /// Filled in before every call, for the slots that it uses.
    headers: Box<[libc::mmsghdr]>,
    pieces: Box<[libc::iovec]>,
    slots: Box<[Slot]>,
}

#[derive(Clone, Copy)]
struct Slot {
    length: usize,
    /// Where it came from, or goes to. Laid out for IPv6; an IPv4 address lies where `sockaddr_in` has it, in the flow label's place.
    peer: libc::sockaddr_in6,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Batch {
    /// Room for `count` datagrams; memory is used as far as datagrams are long.
    #[expect(unsafe_code, reason = "C structures have no safe constructor that holds on every C library")]
    pub fn new(count: usize) -> Self {
        // SAFETY: all three are plain C structures of integers and pointers, for which zeroes are valid.
        let (header, piece, peer) = unsafe { std::mem::zeroed::<(libc::mmsghdr, libc::iovec, libc::sockaddr_in6)>() };
        Self {
            bytes: vec![0; STRIDE_BYTES * count].into_boxed_slice(),
            headers: vec![header; count].into_boxed_slice(),
            pieces: vec![piece; count].into_boxed_slice(),
            slots: vec![Slot { length: 0, peer }; count].into_boxed_slice(),
        }
    }

    /// How many it has room for.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// The datagram in a slot.
    pub fn datagram(&self, slot: usize) -> &[u8] {
        let start = slot * STRIDE_BYTES;
        &self.bytes[start..start + self.slots[slot].length]
    }

    /// Puts a datagram into a slot, as if it had come from there. What is longer than any datagram is cut.
    pub fn fill(&mut self, slot: usize, datagram: &[u8], from: SocketAddr) {
        let length = datagram.len().min(MAX_DATAGRAM_BYTES);
        let start = slot * STRIDE_BYTES;
        self.bytes[start..start + length].copy_from_slice(&datagram[..length]);
        self.slots[slot].length = length;
        self.address(slot, from);
    }

    /// Where the datagram in a slot came from, or goes to; `None`: nowhere yet.
    pub fn peer(&self, slot: usize) -> Option<SocketAddr> {
        let peer = &self.slots[slot].peer;
        let port = u16::from_be(peer.sin6_port);
        match c_int::from(peer.sin6_family) {
            libc::AF_INET => Some(SocketAddr::new(Ipv4Addr::from(peer.sin6_flowinfo.to_ne_bytes()).into(), port)),
            libc::AF_INET6 => {
                let ip = Ipv6Addr::from(peer.sin6_addr.s6_addr);
                Some(SocketAddrV6::new(ip, port, peer.sin6_flowinfo, peer.sin6_scope_id).into())
            }
            _ => None,
        }
    }

    /// Says where the datagram in a slot is to go.
    pub fn address(&mut self, slot: usize, to: SocketAddr) {
        let peer = &mut self.slots[slot].peer;
        peer.sin6_port = to.port().to_be();
        match to {
            SocketAddr::V4(to) => {
                peer.sin6_family = libc::AF_INET as libc::sa_family_t;
                peer.sin6_flowinfo = u32::from_ne_bytes(to.ip().octets());
            }
            SocketAddr::V6(to) => {
                peer.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                peer.sin6_flowinfo = to.flowinfo();
                peer.sin6_addr.s6_addr = to.ip().octets();
                peer.sin6_scope_id = to.scope_id();
            }
        }
    }

    /// Receives what there is into the slots of `into`, with its senders, without waiting. Returns how many; fewer than there is room for:
    /// nothing more was there.
    ///
    /// # Errors
    /// As `recvmmsg`: `WouldBlock` when there is nothing.
    pub fn receive_from(&mut self, socket: BorrowedFd<'_>, into: Range<usize>) -> io::Result<usize> {
        self.take_in(socket, into, Names::Room)
    }

    /// The same on a connected socket: the slots' peers stay what they are.
    ///
    /// # Errors
    /// As `recvmmsg`: `WouldBlock` when there is nothing; or what an earlier datagram met on its way.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, into: Range<usize>) -> io::Result<usize> {
        self.take_in(socket, into, Names::None)
    }

    /// Sends the datagrams in `slots` to where the socket is connected. Returns how many went; fewer: the next call says why.
    ///
    /// # Errors
    /// Of the first datagram: what sending it met, or what an earlier one had met on its way.
    pub fn send(&mut self, socket: BorrowedFd<'_>, slots: Range<usize>) -> io::Result<usize> {
        self.transmit(socket, slots, Names::None)
    }

    /// Sends the datagrams in `slots`, each to its address. Returns how many went; fewer: the next call says why.
    ///
    /// # Errors
    /// Of the first datagram: what sending it met.
    pub fn send_to_peers(&mut self, socket: BorrowedFd<'_>, slots: Range<usize>) -> io::Result<usize> {
        self.transmit(socket, slots, Names::Peers)
    }

    #[expect(unsafe_code, reason = "no kept crate offers this call without allocating or with its result")]
    fn take_in(&mut self, socket: BorrowedFd<'_>, into: Range<usize>, names: Names) -> io::Result<usize> {
        let count = self.prepare(&into, |_| MAX_DATAGRAM_BYTES, names);
        let first = self.headers[into.clone()].as_mut_ptr();
        // SAFETY: the `count` headers from `first` were just made to point to buffers and addresses of ours that live as long as `self`, at
        // the lengths that they have; nothing else reads or writes them while `self` is borrowed.
        let result = unsafe { libc::recvmmsg(socket.as_raw_fd(), first, count, libc::MSG_DONTWAIT as _, std::ptr::null_mut()) };
        let received = usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
        for slot in into.take(received) {
            self.slots[slot].length = (self.headers[slot].msg_len as usize).min(MAX_DATAGRAM_BYTES);
        }
        Ok(received)
    }

    #[expect(unsafe_code, reason = "no kept crate offers this call without allocating or with its result")]
    fn transmit(&mut self, socket: BorrowedFd<'_>, slots: Range<usize>, names: Names) -> io::Result<usize> {
        let count = self.prepare(&slots, |slot| slot.length, names);
        let first = self.headers[slots].as_mut_ptr();
        // SAFETY: as in `take_in`; lengths are those of datagrams that were received into these buffers.
        let result = unsafe { libc::sendmmsg(socket.as_raw_fd(), first, count, (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _) };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    /// Points the headers of these slots to their buffers and addresses. Returns how many they are.
    fn prepare(&mut self, slots: &Range<usize>, length: impl Fn(&Slot) -> usize, names: Names) -> c_uint {
        let buffers = self.bytes.chunks_exact_mut(STRIDE_BYTES).zip(&mut self.pieces).zip(&mut self.slots).zip(&mut self.headers);
        for (((buffer, piece), slot), header) in buffers.take(slots.end).skip(slots.start) {
            *piece = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: length(slot).min(MAX_DATAGRAM_BYTES) };
            let header = &mut header.msg_hdr;
            header.msg_iov = piece;
            header.msg_iovlen = 1;
            header.msg_namelen = match names {
                Names::None => 0,
                Names::Room => size_of::<libc::sockaddr_in6>() as libc::socklen_t,
                Names::Peers => name_bytes(&slot.peer),
            };
            header.msg_name = match names {
                Names::None => std::ptr::null_mut(),
                Names::Room | Names::Peers => std::ptr::from_mut(&mut slot.peer).cast(),
            };
        }
        slots.len() as c_uint
    }
}

/// What a header says of the other side.
#[derive(Clone, Copy)]
enum Names {
    /// Nothing: the socket is connected.
    None,
    /// Where the kernel is to write it, with room for either family.
    Room,
    /// Where to send it.
    Peers,
}

fn name_bytes(peer: &libc::sockaddr_in6) -> libc::socklen_t {
    let bytes = match c_int::from(peer.sin6_family) {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        _ => size_of::<libc::sockaddr_in6>(),
    };
    bytes as libc::socklen_t
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    fn pair(address: &str) -> (UdpSocket, UdpSocket) {
        let sockets = (UdpSocket::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
        sockets.0.connect(sockets.1.local_addr().unwrap()).unwrap();
        sockets
    }

    #[test]
    fn datagrams_of_every_length_and_both_families_go_there_and_back() {
        let mut batch = Batch::new(4);
        // One family after the other in the same slots.
        for address in ["127.0.0.1:0", "[::1]:0", "127.0.0.1:0"] {
            let (client, server) = pair(address);
            let sent = [vec![], vec![7; 1], vec![8; 65_507]];
            for datagram in &sent {
                client.send(datagram).unwrap();
            }
            assert_eq!(batch.receive_from(server.as_fd(), 1..4).unwrap(), 3);
            for (slot, datagram) in (1..4).zip(&sent) {
                assert_eq!((batch.datagram(slot), batch.peer(slot)), (&datagram[..], Some(client.local_addr().unwrap())));
            }
            assert_eq!(batch.receive_from(server.as_fd(), 0..4).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            assert_eq!(batch.send_to_peers(server.as_fd(), 1..4).unwrap(), 3);
            let mut received = vec![0; MAX_DATAGRAM_BYTES];
            for datagram in &sent {
                let bytes = client.recv(&mut received).unwrap();
                assert_eq!(&received[..bytes], datagram);
            }
        }
    }

    #[test]
    fn a_connected_socket_leaves_the_peers_as_they_are() {
        let (client, server) = pair("127.0.0.1:0");
        let mut batch = Batch::new(2);
        assert_eq!(batch.peer(0), None);
        let elsewhere: SocketAddr = "[2001:db8::1]:53".parse().unwrap();
        batch.address(0, elsewhere);
        server.send_to(b"hello", client.local_addr().unwrap()).unwrap();
        assert_eq!(batch.receive(client.as_fd(), 0..2).unwrap(), 1);
        assert_eq!((batch.datagram(0), batch.peer(0)), (&b"hello"[..], Some(elsewhere)));
        assert_eq!(batch.send(client.as_fd(), 0..1).unwrap(), 1);
        let mut received = [0; 8];
        assert_eq!(server.recv_from(&mut received).unwrap(), (5, client.local_addr().unwrap()));
    }

    #[test]
    fn a_refusal_is_the_next_calls_error() {
        let (client, server) = pair("127.0.0.1:0");
        let mut batch = Batch::new(1);
        client.send(b"x").unwrap();
        batch.receive_from(server.as_fd(), 0..1).unwrap();
        drop(server);
        batch.fill(0, b"again", client.local_addr().unwrap());
        assert_eq!((batch.datagram(0), batch.peer(0)), (&b"again"[..], client.local_addr().ok()));
        assert_eq!(batch.send(client.as_fd(), 0..1).unwrap(), 1);
        assert_eq!(batch.receive(client.as_fd(), 0..1).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
