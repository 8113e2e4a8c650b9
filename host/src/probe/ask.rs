//! Asking once: connections and commands, within the probe's timeout.

mod exec;
mod grpc;
mod http;
mod location;
mod tcp;
mod tls;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::schedule::{Answer, Verdict};
use super::targets::Target;
use crate::objects::ProbeAction;

/// How we name ourselves; `kube-probe/…` is the kubelet's.
const USER_AGENT: &str = concat!("pointsman-probe/", env!("CARGO_PKG_VERSION"));

/// Asks a target once. Dropping the future breaks it off: sockets are closed, a command and what it started are killed.
pub(super) async fn ask(target: &Target) -> Answer {
    let probe = &target.probe;
    let asking = async {
        match &probe.action {
            ProbeAction::Http { tls, host, path, headers, .. } => {
                http::ask(target.address, &http::Request { tls: *tls, host: host.as_deref(), path, headers }).await
            }
            ProbeAction::Tcp { host, .. } => tcp::ask(target.address, host.as_deref()).await,
            ProbeAction::Grpc { service, .. } => grpc::ask(target.address, service, probe.timeout).await,
            ProbeAction::Exec { command } => exec::ask(command).await,
        }
    };
    let late = || Answer::failure(format!("{}: no answer within {:?}", what(target), probe.timeout));
    timeout(probe.timeout, asking).await.unwrap_or_else(|_| late())
}

/// What is asked, for messages.
fn what(target: &Target) -> String {
    let Target { address, probe, .. } = target;
    let at = |host: &Option<String>| named(host.as_deref(), *address);
    match &probe.action {
        ProbeAction::Http { host, path, tls, .. } => {
            format!("GET {}://{}{}", if *tls { "https" } else { "http" }, at(host), http::absolute_path(path))
        }
        ProbeAction::Tcp { host, .. } => format!("connecting to {}", at(host)),
        ProbeAction::Grpc { .. } => format!("grpc health check of {address}"),
        ProbeAction::Exec { command } => exec::shown(command),
    }
}

/// `HOST:PORT`, as in an URL.
fn named(host: Option<&str>, own: SocketAddr) -> String {
    match host {
        None => own.to_string(),
        Some(host) if host.parse::<std::net::Ipv6Addr>().is_ok() => format!("[{host}]:{}", own.port()),
        Some(host) => format!("{host}:{}", own.port()),
    }
}

/// Connects to a host by name, else to the target's own address.
async fn connect(host: Option<&str>, own: SocketAddr) -> io::Result<TcpStream> {
    let Some(host) = host else { return TcpStream::connect(own).await };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = host.parse::<IpAddr>() {
        return TcpStream::connect(SocketAddr::new(ip, own.port())).await;
    }
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    for address in lookup_host((host, own.port())).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

impl Answer {
    fn success(message: String) -> Self {
        Self { verdict: Verdict::Success, message }
    }

    fn failure(message: String) -> Self {
        Self { verdict: Verdict::Failure, message }
    }

    /// An error of the operating system. Where this host ran out of something, it says nothing about the target.
    fn error(what: &str, error: &io::Error) -> Self {
        let out = error.raw_os_error().is_some_and(|code| EXHAUSTED.contains(&Errno::from_raw(code)));
        Self { verdict: if out { Verdict::Unknown } else { Verdict::Failure }, message: format!("{what}: {error}") }
    }
}

/// Descriptors, memory, processes: ours, not the target's.
const EXHAUSTED: [Errno; 5] = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM, Errno::EAGAIN];
