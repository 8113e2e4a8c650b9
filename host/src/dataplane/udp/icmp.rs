//! ICMP "port unreachable", as a host sends it for a datagram that it has no socket for: the only refusal that UDP knows. The whole
//! packet is built here, because it has to come from the address that the client asked, whichever that is.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// An ICMP error should carry as much of the datagram as fits into this (RFC 1812, 4.3.2.3).
const MAX_BYTES_V4: usize = 576;
/// IPv6's smallest MTU, which an ICMPv6 error must not exceed (RFC 4443, 2.4 c).
const MAX_BYTES_V6: usize = 1280;

const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// RFC 792: destination unreachable, port unreachable.
const PORT_UNREACHABLE_V4: [u8; 2] = [3, 3];
/// RFC 4443, 3.1: the same.
const PORT_UNREACHABLE_V6: [u8; 2] = [1, 4];
/// Internetwork control (RFC 1812, 4.3.2.5).
const PRECEDENCE: u8 = 0xc0;
const DO_NOT_FRAGMENT: [u8; 2] = [0x40, 0];
const HOPS: u8 = 64;

/// The IP packet by which `asked` refuses a datagram from `client`; `None` when they are of different families.
pub(super) fn port_unreachable(asked: SocketAddr, client: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
    match (asked, client) {
        (SocketAddr::V4(asked), SocketAddr::V4(client)) => {
            let udp = udp(client.into(), asked.into(), datagram, pseudo_v4(*client.ip(), *asked.ip(), UDP, datagram.len() + 8));
            let mut icmp = error(PORT_UNREACHABLE_V4);
            icmp.extend(header_v4(*client.ip(), *asked.ip(), UDP, 0, udp.len() + datagram.len()));
            quote(&mut icmp, &udp, datagram, MAX_BYTES_V4 - 20);
            let sum = checksum(0, &icmp);
            icmp[2..4].copy_from_slice(&sum);
            let mut packet = header_v4(*asked.ip(), *client.ip(), ICMP, PRECEDENCE, icmp.len()).to_vec();
            packet.append(&mut icmp);
            Some(packet)
        }
        (SocketAddr::V6(asked), SocketAddr::V6(client)) => {
            let udp = udp(client.into(), asked.into(), datagram, pseudo_v6(*client.ip(), *asked.ip(), UDP, datagram.len() + 8));
            let mut icmp = error(PORT_UNREACHABLE_V6);
            icmp.extend(header_v6(*client.ip(), *asked.ip(), UDP, udp.len() + datagram.len()));
            quote(&mut icmp, &udp, datagram, MAX_BYTES_V6 - 40);
            let sum = checksum(pseudo_v6(*asked.ip(), *client.ip(), ICMPV6, icmp.len()), &icmp);
            icmp[2..4].copy_from_slice(&sum);
            let mut packet = header_v6(*asked.ip(), *client.ip(), ICMPV6, icmp.len()).to_vec();
            packet.append(&mut icmp);
            Some(packet)
        }
        _ => None,
    }
}

/// Type and code, no checksum yet, four bytes unused.
fn error([kind, code]: [u8; 2]) -> Vec<u8> {
    vec![kind, code, 0, 0, 0, 0, 0, 0]
}

fn quote(icmp: &mut Vec<u8>, udp: &[u8], datagram: &[u8], most: usize) {
    icmp.extend(udp.iter().chain(datagram).take(most - icmp.len()));
}

fn udp(from: SocketAddr, to: SocketAddr, datagram: &[u8], pseudo: u32) -> [u8; 8] {
    let mut header = [0; 8];
    header[..2].copy_from_slice(&from.port().to_be_bytes());
    header[2..4].copy_from_slice(&to.port().to_be_bytes());
    header[4..6].copy_from_slice(&length(8 + datagram.len()));
    let sum = checksum(pseudo + sum(&header), datagram);
    // Zero would say that there is none (RFC 768).
    header[6..].copy_from_slice(&if sum == [0, 0] { [0xff, 0xff] } else { sum });
    header
}

fn header_v4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, service: u8, payload_bytes: usize) -> [u8; 20] {
    let mut header = [0; 20];
    header[0] = 0x45;
    header[1] = service;
    header[2..4].copy_from_slice(&length(20 + payload_bytes));
    header[6..8].copy_from_slice(&DO_NOT_FRAGMENT);
    header[8] = HOPS;
    header[9] = protocol;
    header[12..16].copy_from_slice(&from.octets());
    header[16..].copy_from_slice(&to.octets());
    let sum = checksum(0, &header);
    header[10..12].copy_from_slice(&sum);
    header
}

fn header_v6(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, payload_bytes: usize) -> [u8; 40] {
    let mut header = [0; 40];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&length(payload_bytes));
    header[6] = protocol;
    header[7] = HOPS;
    header[8..24].copy_from_slice(&from.octets());
    header[24..].copy_from_slice(&to.octets());
    header
}

/// A length field; no datagram is longer than it can say.
fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

/// The sum over the pseudo-header of RFC 768.
fn pseudo_v4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, bytes: usize) -> u32 {
    sum(&from.octets()) + sum(&to.octets()) + u32::from(protocol) + bytes as u32
}

/// The sum over the pseudo-header of RFC 8200, 8.1.
fn pseudo_v6(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, bytes: usize) -> u32 {
    sum(&from.octets()) + sum(&to.octets()) + u32::from(protocol) + bytes as u32
}

/// The Internet checksum (RFC 1071) of what was summed before and `bytes`.
fn checksum(before: u32, bytes: &[u8]) -> [u8; 2] {
    let mut sum = before + sum(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// 16-bit words, the last one filled with a zero. 64 KiB of them stay below 2³¹.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |byte| u32::from(*byte))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071, section 3.
    #[test]
    fn the_checksum_of_the_rfc() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0x2_ddf0);
        assert_eq!(checksum(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), [0x22, 0x0d]);
    }

    /// The IPv4 header that textbooks compute: 115 bytes of UDP from 192.168.0.1 to 192.168.0.199.
    #[test]
    fn the_header_of_the_textbooks() {
        let header = header_v4(Ipv4Addr::new(192, 168, 0, 1), Ipv4Addr::new(192, 168, 0, 199), UDP, 0, 95);
        let expected = [0x4500, 0x0073, 0x0000, 0x4000, 0x4011, 0xb861, 0xc0a8, 0x0001, 0xc0a8, 0x00c7_u16];
        assert_eq!(header.to_vec(), expected.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>());
    }

    /// What Linux 6.18 sent for "hi!" from 127.0.0.1:43981 to 127.0.0.2:9.
    #[rustfmt::skip]
    const KERNEL_V4: [u8; 59] = [
        0x45, 0xc0, 0x00, 0x3b, 0x61, 0xfe, 0x00, 0x00, 0x40, 0x01, 0x1a, 0x01, 0x7f, 0x00, 0x00, 0x02, 0x7f, 0x00, 0x00, 0x01,
        0x03, 0x03, 0xc9, 0x91, 0x00, 0x00, 0x00, 0x00, 0x45, 0x00, 0x00, 0x1f, 0x7f, 0x73, 0x40, 0x00, 0x40, 0x11, 0xbd, 0x57,
        0x7f, 0x00, 0x00, 0x01, 0x7f, 0x00, 0x00, 0x02, 0xab, 0xcd, 0x00, 0x09, 0x00, 0x0b, 0xfe, 0x1f, 0x68, 0x69, 0x21,
    ];

    /// The same on ::1, without the outer header.
    #[rustfmt::skip]
    const KERNEL_V6: [u8; 59] = [
        0x01, 0x04, 0x93, 0x69, 0x00, 0x00, 0x00, 0x00, 0x60, 0x0d, 0xc4, 0x57, 0x00, 0x0b, 0x11, 0x40, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0xab, 0xcd, 0x00, 0x09, 0x00, 0x0b, 0x00, 0x1e, 0x68, 0x69, 0x21,
    ];

    fn without(bytes: &[u8], blanked: &[std::ops::Range<usize>]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        blanked.iter().for_each(|range| bytes[range.clone()].fill(0));
        bytes
    }

    #[test]
    fn ipv4_as_the_kernel_sends_it() {
        let packet = port_unreachable("127.0.0.2:9".parse().unwrap(), "127.0.0.1:43981".parse().unwrap(), b"hi!").unwrap();
        // The kernel numbers its packets, and leaves checksums on the loopback unfinished.
        let blanked = [4..8, 10..12, 22..24, 32..34, 38..40, 54..56];
        assert_eq!(without(&packet, &blanked), without(&KERNEL_V4, &blanked));
        for (before, whole) in [(0, &packet[..20]), (0, &packet[20..]), (0, &packet[28..48])] {
            assert_eq!(checksum(before, whole), [0, 0]);
        }
        // 17 + 11 bytes, and the addresses, before the datagram.
        assert_eq!(checksum(0x7f00 + 1 + 0x7f00 + 2 + 17 + 11, &packet[48..]), [0, 0]);
    }

    #[test]
    fn ipv6_as_the_kernel_sends_it() {
        let packet = port_unreachable("[::1]:9".parse().unwrap(), "[::1]:43981".parse().unwrap(), b"hi!").unwrap();
        let header = [&[0x60, 0, 0, 0, 0, 59, ICMPV6, HOPS][..], &Ipv6Addr::LOCALHOST.octets(), &Ipv6Addr::LOCALHOST.octets()].concat();
        assert_eq!(packet[..40], header);
        // The kernel draws a flow label.
        let blanked = [2..4, 9..12, 54..56];
        assert_eq!(without(&packet[40..], &blanked), without(&KERNEL_V6, &blanked));
        assert_eq!(checksum(1 + 1 + 58 + 59, &packet[40..]), [0, 0]);
        assert_eq!(checksum(1 + 1 + 17 + 11, &packet[88..]), [0, 0]);
    }

    #[test]
    fn long_datagrams_are_cut_and_families_not_mixed() {
        let long = vec![7; 65_507];
        let (v4, v6) = ("127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap());
        assert_eq!(port_unreachable(v4, v4, &long).map(|packet| packet.len()), Some(MAX_BYTES_V4));
        assert_eq!(port_unreachable(v6, v6, &long).map(|packet| packet.len()), Some(MAX_BYTES_V6));
        assert_eq!(port_unreachable(v4, v6, &long), None);
    }
}
