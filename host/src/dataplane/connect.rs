//! Connecting to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::sockets::KEEPALIVE;
use super::transparent;
use crate::observe::ConnectError;
use crate::table;

/// Connects, as the `client` if one is given, and sends `preface`, within the limit. Nothing else has been sent when it fails, so another endpoint can be tried.
/// (Begun before it is awaited, so that a connection in waiting does not carry the addresses along.)
pub(super) fn connect(
    protocol: table::Protocol,
    address: SocketAddr,
    client: Option<SocketAddr>,
    preface: &[u8],
    limit: &Duration,
) -> impl Future<Output = Result<TcpStream, ConnectError>> {
    let begun = begin(protocol, address, client);
    async move {
        let stream = match &begun {
            Ok(stream) => stream,
            Err(error) => return Err(classify(error)),
        };
        let attempt = async {
            // The event itself says whether it failed, which saves asking the socket when it did not.
            if stream.ready(Interest::WRITABLE).await?.is_write_closed()
                && let Some(error) = stream.take_error()?
            {
                return Err(error);
            }
            write_all(stream, preface).await
        };
        match tokio::time::timeout(*limit, attempt).await {
            Ok(Ok(())) => begun.map_err(|error| classify(&error)),
            Ok(Err(error)) => Err(classify(&error)),
            Err(_) => Err(ConnectError::TimedOut),
        }
    }
}

fn begin(protocol: table::Protocol, address: SocketAddr, client: Option<SocketAddr>) -> io::Result<TcpStream> {
    match (begin_from(protocol, address, client), client) {
        // The client's port is connected to this endpoint already: it has come with it to another address of the Service.
        (Err(error), Some(client)) if error.raw_os_error() == Some(Errno::EADDRNOTAVAIL as i32) => {
            begin_from(protocol, address, Some(transparent::any_port(client)))
        }
        (begun, _) => begun,
    }
}

fn begin_from(protocol: table::Protocol, address: SocketAddr, client: Option<SocketAddr>) -> io::Result<TcpStream> {
    let sctp = protocol == table::Protocol::Sctp;
    let wire = if sctp { Protocol::SCTP } else { Protocol::TCP };
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(wire))?;
    // SCTP has a heartbeat of its own, and its options others' numbers.
    if !sctp {
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&KEEPALIVE)?;
    }
    if let Some(client) = client {
        transparent::speak_as(&socket, client)?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
        _ => TcpStream::from_std(socket.into()),
    }
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn classify(error: &io::Error) -> ConnectError {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED | Errno::ECONNRESET | Errno::EPIPE) => ConnectError::Refused,
        Some(Errno::ETIMEDOUT) => ConnectError::TimedOut,
        // No descriptor, no memory, no port left for this destination.
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM | Errno::EADDRNOTAVAIL | Errno::EAGAIN) => ConnectError::Local,
        _ => ConnectError::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_apart() {
        let of = |errno: Errno| classify(&io::Error::from_raw_os_error(errno as i32));
        assert_eq!(of(Errno::ECONNREFUSED), ConnectError::Refused);
        assert_eq!(of(Errno::ETIMEDOUT), ConnectError::TimedOut);
        assert_eq!(of(Errno::EADDRNOTAVAIL), ConnectError::Local);
        assert_eq!(of(Errno::EHOSTUNREACH), ConnectError::Unreachable);
    }
}
