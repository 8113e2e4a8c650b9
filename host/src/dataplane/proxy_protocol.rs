//! The PROXY protocol, version 2 (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, section 2.2): a header before a
//! connection's first byte, by which an endpoint learns the client's address.

use std::net::{IpAddr, SocketAddr};

/// Begins every header.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const VERSION_AND_COMMAND: u8 = 0x21;
/// TCP over IPv4, TCP over IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The header for a connection from `client` to `dialled`. If their families differ, both are written as IPv6.
pub(super) fn header(client: SocketAddr, dialled: SocketAddr) -> Vec<u8> {
    let mut header = Vec::with_capacity(52);
    header.extend_from_slice(&SIGNATURE);
    header.push(VERSION_AND_COMMAND);
    match (client.ip().to_canonical(), dialled.ip().to_canonical()) {
        (IpAddr::V4(client), IpAddr::V4(dialled)) => {
            header.push(TCP4);
            header.extend_from_slice(&12u16.to_be_bytes());
            header.extend_from_slice(&client.octets());
            header.extend_from_slice(&dialled.octets());
        }
        (client, dialled) => {
            header.push(TCP6);
            header.extend_from_slice(&36u16.to_be_bytes());
            header.extend_from_slice(&sixteen(client));
            header.extend_from_slice(&sixteen(dialled));
        }
    }
    header.extend_from_slice(&client.port().to_be_bytes());
    header.extend_from_slice(&dialled.port().to_be_bytes());
    header
}

fn sixteen(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_as_the_specification_lays_it_out() {
        let header = header("192.168.0.1:56324".parse().unwrap(), "10.97.72.1:443".parse().unwrap());
        let mut expected = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21\x11\x00\x0c".to_vec();
        expected.extend_from_slice(&[192, 168, 0, 1, 10, 97, 72, 1, 0xdc, 0x04, 0x01, 0xbb]);
        assert_eq!(header, expected);
    }

    #[test]
    fn ipv6_and_mixed_families_take_thirty_six_bytes() {
        let six = header("[2001:db8::1]:1".parse().unwrap(), "[2001:db8::2]:2".parse().unwrap());
        assert_eq!((six.len(), &six[12..16]), (52, &[0x21, 0x21, 0, 36][..]));
        assert_eq!(&six[16..18], &[0x20, 0x01]);
        assert_eq!(&six[48..], &[0, 1, 0, 2]);
        let mixed = header("127.0.0.1:1".parse().unwrap(), "[2001:db8::2]:2".parse().unwrap());
        assert_eq!((mixed.len(), &mixed[26..32]), (52, &[0xff, 0xff, 127, 0, 0, 1][..]));
    }
}
