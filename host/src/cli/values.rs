//! How values on the command line are written.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::policy::contract::Setting;
use crate::table::Protocol;

/// `IP` or `IP:PORT`; IPv6 with a port stands in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// The address.
    pub ip: IpAddr,
    /// The port, if it matters.
    pub port: Option<u16>,
}

impl FromStr for ClientAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { ip: address.ip(), port: Some(address.port()) });
        }
        match text.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(ip) => Ok(Self { ip, port: None }),
            Err(_) => Err("expected an address like 10.244.1.9, 10.244.1.9:40000 or [fd00::1]:40000".to_owned()),
        }
    }
}

/// `IP:PORT`, `IP:PORT/tcp` or `IP:PORT/udp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Address and port.
    pub address: SocketAddr,
    /// The protocol: TCP unless it says otherwise.
    pub protocol: Protocol,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => return Err(format!("the protocol {other:?} is not known: tcp or udp")),
        };
        match address.parse() {
            Ok(address) => Ok(Self { address, protocol }),
            Err(_) => Err("expected an address and a port, like 10.97.72.1:80, 10.97.72.1:53/udp or [fd00::1]:80".to_owned()),
        }
    }
}

/// `KEY=VALUE`.
pub(super) fn setting(text: &str) -> Result<Setting, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(Setting { key: key.to_owned(), value: value.to_owned() }),
        _ => Err("expected KEY=VALUE, like table-size=65537".to_owned()),
    }
}

/// `30000-32767`.
pub(super) fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let range = text.split_once('-').and_then(|(first, last)| Some(first.trim().parse().ok()?..=last.trim().parse().ok()?));
    match range {
        Some(range) if !range.is_empty() && *range.start() > 0 => Ok(range),
        _ => Err("expected two ports, the lower one first, like 30000-32767".to_owned()),
    }
}

/// `500ms`, `30s`, `1m30s`, `2h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let above_zero = duration_or_none(text).ok().filter(|duration| !duration.is_zero());
    above_zero.ok_or_else(|| "expected a time above zero with its unit, like 500ms, 30s, 1m30s or 2h".to_owned())
}

/// The same, and `0s`.
pub(super) fn duration_or_none(text: &str) -> Result<Duration, String> {
    let duration = text.parse::<jiff::SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    duration.ok_or_else(|| "expected a time with its unit, like 0s, 500ms, 30s, 1m30s or 2h".to_owned())
}

/// `65536`, `64KiB`, `16MiB`, `1GiB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|at: char| !at.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(SIZE_EXPECTED.to_owned()),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| SIZE_EXPECTED.to_owned())
}

const SIZE_EXPECTED: &str = "expected a size above zero, in bytes or with its unit, like 65536, 64KiB, 16MiB or 1GiB";

/// `50000` or `50_000`.
pub(super) fn count(text: &str) -> Result<u64, String> {
    let number = text.replace('_', "").parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "expected a whole number above zero, like 50000 or 50_000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_a_port_or_none() {
        let parse = |text: &str| text.parse::<ClientAddress>().map(|client| (client.ip.to_string(), client.port));
        assert_eq!(parse("10.0.0.1"), Ok(("10.0.0.1".to_owned(), None)));
        assert_eq!(parse("10.0.0.1:7"), Ok(("10.0.0.1".to_owned(), Some(7))));
        assert_eq!(parse("fd00::1"), Ok(("fd00::1".to_owned(), None)));
        assert_eq!(parse("[fd00::1]:7"), Ok(("fd00::1".to_owned(), Some(7))));
        assert!(parse("web").is_err());
        assert!(parse("10.0.0.1:99999").is_err());
    }

    #[test]
    fn targets_are_tcp_unless_they_say_otherwise() {
        let parse = |text: &str| text.parse::<Target>().map(|target| (target.address.to_string(), target.protocol));
        assert_eq!(parse("10.0.0.1:80"), Ok(("10.0.0.1:80".to_owned(), Protocol::Tcp)));
        assert_eq!(parse("10.0.0.1:53/UDP"), Ok(("10.0.0.1:53".to_owned(), Protocol::Udp)));
        assert_eq!(parse("[fd00::1]:80/tcp"), Ok(("[fd00::1]:80".to_owned(), Protocol::Tcp)));
        assert!(parse("10.0.0.1").is_err());
        assert!(parse("10.0.0.1:80/sctp").is_err());
    }

    #[test]
    fn ranges_times_sizes_and_counts_have_bounds() {
        assert_eq!(port_range("30000-32767"), Ok(30000..=32767));
        assert_eq!(port_range("5-5"), Ok(5..=5));
        for wrong in ["5-4", "0-9", "1-70000", "30000", ""] {
            assert!(port_range(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "5", "0s", "-1s", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration_or_none("0s"), Ok(Duration::ZERO));
        assert!(duration_or_none("-1s").is_err());
        assert_eq!((size("16MiB"), size("7"), size("1GiB")), (Ok(16 << 20), Ok(7), Ok(1 << 30)));
        for wrong in ["", "0", "1MB", "MiB", "-1", "99999999999GiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(count("50_000"), Ok(50_000));
        assert!(count("0").is_err());
    }
}
