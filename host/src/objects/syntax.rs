//! The syntax of names, labels, ports and addresses: Kubernetes' rules (apimachinery `validation`), as checks that say what is wrong.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use jiff::SignedDuration;

use super::model::Protocol;

/// The longest DNS label (RFC 1035).
const MAX_LABEL: usize = 63;
/// The longest DNS subdomain.
const MAX_SUBDOMAIN: usize = 253;
/// The longest service name of RFC 6335.
const MAX_PORT_NAME: usize = 15;

/// `my-name`, `123-abc`: RFC 1123.
pub(super) fn dns_1123_label(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > MAX_LABEL {
        return Err(format!("\"{text}\" must have 1 to {MAX_LABEL} characters"));
    }
    if text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') && !text.starts_with('-') && !text.ends_with('-') {
        return Ok(());
    }
    Err(format!("\"{text}\" must consist of lower-case letters, digits and '-', and begin and end with a letter or digit"))
}

/// As [`dns_1123_label`], beginning with a letter: RFC 1035, what a Service is named.
pub(super) fn dns_1035_label(text: &str) -> Result<(), String> {
    dns_1123_label(text)?;
    if text.starts_with(|c: char| c.is_ascii_digit()) { Err(format!("\"{text}\" must begin with a letter")) } else { Ok(()) }
}

/// Labels joined by dots.
pub(super) fn dns_1123_subdomain(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > MAX_SUBDOMAIN {
        return Err(format!("\"{text}\" must have 1 to {MAX_SUBDOMAIN} characters"));
    }
    text.split('.').try_for_each(dns_1123_label)
}

/// `[prefix/]name`: keys of labels and annotations.
pub(super) fn qualified_name(text: &str) -> Result<(), String> {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    if let Some(prefix) = prefix {
        dns_1123_subdomain(prefix).map_err(|error| format!("the prefix of \"{text}\" is not a domain name: {error}"))?;
    }
    if name.is_empty() { Err(format!("\"{text}\" has no name")) } else { label_value(name) }
}

/// A label's value; may be empty.
pub(super) fn label_value(text: &str) -> Result<(), String> {
    if text.len() > MAX_LABEL {
        return Err(format!("\"{text}\" is longer than {MAX_LABEL} characters"));
    }
    let ends_well = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.chars().all(allowed) && ends_well(text.chars().next()) && ends_well(text.chars().last()) {
        return Ok(());
    }
    Err(format!("\"{text}\" must consist of letters, digits, '-', '_' and '.', and begin and end with a letter or digit"))
}

/// A container port's name: RFC 6335.
pub(super) fn port_name(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > MAX_PORT_NAME {
        return Err(format!("\"{text}\" must have 1 to {MAX_PORT_NAME} characters"));
    }
    let well_formed = dns_1123_label(text).is_ok() && !text.contains("--") && text.bytes().any(|b| b.is_ascii_lowercase());
    if well_formed {
        return Ok(());
    }
    Err(format!("\"{text}\" must be lower-case letters, digits and single '-' between them, with at least one letter"))
}

/// 1 to 65535.
pub(super) fn port(number: i32) -> Result<u16, String> {
    u16::try_from(number).ok().filter(|port| *port > 0).ok_or_else(|| format!("{number} is not a port: 1 to 65535"))
}

pub(super) fn protocol(text: Option<&str>) -> Result<Protocol, String> {
    match text {
        None | Some("TCP") => Ok(Protocol::Tcp),
        Some("UDP") => Ok(Protocol::Udp),
        Some("SCTP") => Ok(Protocol::Sctp),
        Some(other) if ["TCP", "UDP", "SCTP"].contains(&other.to_uppercase().as_str()) => {
            Err(format!("\"{other}\" must be written {}", other.to_uppercase()))
        }
        Some(other) => Err(format!("\"{other}\" is not one of TCP, UDP, SCTP")),
    }
}

/// Any address. One of IPv4 in IPv6 clothes is refused, as Kubernetes 1.36 does: readers disagree about its family.
pub(super) fn ip(text: &str) -> Result<IpAddr, String> {
    let ip = text.parse().map_err(|_| format!("\"{text}\" is not an IP address"))?;
    match ip {
        IpAddr::V6(mapped) => match mapped.to_ipv4_mapped() {
            Some(v4) => Err(format!("\"{text}\" is an IPv4 address in IPv6 form: write {v4}")),
            None => Ok(ip),
        },
        IpAddr::V4(_) => Ok(ip),
    }
}

/// `10.0.0.0/8`; blanks around it are tolerated, as Kubernetes does.
pub(super) fn range(text: &str) -> Result<IpNet, String> {
    text.trim().parse().map_err(|_| format!("\"{text}\" is not a range such as 10.0.0.0/8"))
}

/// `db.example.org`, with or without the dot at its end: at least two labels (apimachinery `IsFullyQualifiedDomainName`).
pub(super) fn domain_name(text: &str) -> Result<(), String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    dns_1123_subdomain(name)?;
    if name.contains('.') { Ok(()) } else { Err(format!("\"{text}\" must have two labels at least, such as db.example")) }
}

/// The name of a header of an HTTP request.
pub(super) fn http_header_name(text: &str) -> Result<(), String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Ok(());
    }
    Err(format!("\"{text}\" is not a header's name: letters, digits and '-'"))
}

/// The value of a header: no line of its own, so that it cannot become another header.
pub(super) fn http_header_value(text: &str) -> Result<(), String> {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err("a header's value is one line without control characters".to_owned());
    }
    Ok(())
}

/// An address that traffic may go to. Kubernetes refuses loopback addresses as well; here they serve local backends.
pub(super) fn reachable_ip(text: &str) -> Result<IpAddr, String> {
    let ip = ip(text)?;
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_multicast(),
    };
    if ip.is_unspecified() || link_local {
        return Err(format!("{ip} is not an address that traffic can be sent to"));
    }
    Ok(ip)
}

/// `30m`, `90s`, `1h30m`, `500ms`: more than nothing.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    let wrong = || format!("\"{text}\" is not a time with its unit, such as 90s, 30m or 1h30m");
    duration.filter(|duration| !duration.is_zero()).ok_or_else(wrong)
}
