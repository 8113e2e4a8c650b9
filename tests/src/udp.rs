//! UDP: backends inside the test, and clients. Every client's socket is a flow of its own.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::load::Tally;

/// A running backend: answers each datagram with its name and the datagram. Nobody listens there once it is dropped.
#[derive(Debug)]
pub struct UdpBackend {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    received: AtomicU64,
    stopping: AtomicBool,
}

impl UdpBackend {
    /// On a free port of this address.
    pub fn named(ip: impl Into<IpAddr>, name: &str) -> Result<Self> {
        Self::named_at((ip.into(), 0).into(), name)
    }

    /// On this very address.
    pub fn named_at(address: SocketAddr, name: &str) -> Result<Self> {
        let socket = UdpSocket::bind(address)?;
        socket.set_read_timeout(Some(LOOK_UP))?;
        let (address, shared, name) = (socket.local_addr()?, Arc::new(Shared::default()), name.to_owned());
        let theirs = Arc::clone(&shared);
        let server = std::thread::spawn(move || answer(&socket, &name, &theirs));
        Ok(Self { address, shared, server: Some(server) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many datagrams it has received.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }
}

impl Drop for UdpBackend {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

fn answer(socket: &UdpSocket, name: &str, shared: &Shared) {
    let mut buffer = vec![0; MAX_BYTES];
    while !shared.stopping.load(Ordering::Relaxed) {
        // Most errors are the end of the timeout; the rest concern one datagram.
        let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
        shared.received.fetch_add(1, Ordering::Relaxed);
        let _ = socket.send_to(&[name.as_bytes(), b" ", &buffer[..length]].concat(), client);
    }
}

/// A client with one source port. It hears only the address that it asks, and of refusals.
#[derive(Debug)]
pub struct Client(UdpSocket);

impl Client {
    /// From any address and port.
    pub fn new(server: SocketAddr) -> Result<Self> {
        let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        Self::from((any, 0).into(), server)
    }

    /// From an address of one's own choice.
    pub fn from(source: SocketAddr, server: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind(source)?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self(socket))
    }

    /// Its own address.
    pub fn address(&self) -> Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Waits so long for an answer.
    pub fn patience(&self, patience: Duration) -> Result<()> {
        self.0.set_read_timeout(Some(patience))
    }

    /// Sends a datagram and returns the name of the backend that answered it.
    pub fn ask(&self, datagram: &str) -> Result<String> {
        self.0.send(datagram.as_bytes())?;
        let mut buffer = vec![0; MAX_BYTES];
        let length = self.0.recv(&mut buffer)?;
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        match answer.split_once(' ') {
            Some((name, echo)) if echo == datagram => Ok(name.to_owned()),
            _ => Err(Error::new(ErrorKind::InvalidData, format!("asked {datagram:?}, was told {answer:?}"))),
        }
    }
}

/// `count` clients, one after the other, each with one datagram; they are handed back, so that no port is used twice meanwhile.
pub fn in_a_row(server: SocketAddr, count: u64) -> Result<(Tally, Vec<Client>)> {
    let (mut tally, mut clients) = (Tally::default(), Vec::new());
    for n in 0..count {
        let client = Client::new(server)?;
        match client.ask(&format!("flow {n}")) {
            Ok(name) => *tally.by_name.entry(name).or_default() += 1,
            Err(error) => *tally.failures.entry(error.to_string()).or_default() += 1,
        }
        clients.push(client);
    }
    Ok((tally, clients))
}

/// An address at which nothing listens.
pub fn dead_address(ip: impl Into<IpAddr>) -> Result<SocketAddr> {
    UdpSocket::bind((ip.into(), 0))?.local_addr()
}

/// The longest datagram.
const MAX_BYTES: usize = 65_536;

/// How often a backend looks whether it is to end.
const LOOK_UP: Duration = Duration::from_millis(20);

/// Far beyond what any answer takes.
const TIMEOUT: Duration = Duration::from_secs(20);
