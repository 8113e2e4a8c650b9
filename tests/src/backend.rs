//! Backends inside the test: each a listener of its own with a handler.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::Result;
use socket2::SockRef;

/// A running backend. Its listener is closed when dropped; connections that it has accepted live on.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: TcpListener,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    accepted: AtomicU64,
    stopping: AtomicBool,
}

impl Backend {
    /// Sends its name to whoever connects, then ends the stream: a protocol in which the server speaks first.
    pub fn named(ip: impl Into<IpAddr>, name: &str) -> Result<Self> {
        Self::named_on(TcpListener::bind((ip.into(), 0))?, name)
    }

    /// The same on a listener that is there already.
    pub fn named_on(listener: TcpListener, name: &str) -> Result<Self> {
        let name = name.to_owned();
        // Handled by the acceptor itself: cheap enough for tens of thousands.
        Self::run(listener, move |mut stream| {
            let _ = stream.write_all(name.as_bytes());
        })
    }

    /// Sends back what it reads, and ends its side when the client has ended the other.
    pub fn echo(ip: impl Into<IpAddr>) -> Result<Self> {
        Self::threaded(TcpListener::bind((ip.into(), 0))?, |mut stream| {
            let mut reader = stream.try_clone()?;
            std::io::copy(&mut reader, &mut stream)?;
            stream.shutdown(Shutdown::Write)
        })
    }

    /// Answers every HTTP request on a connection with its name.
    pub fn http(ip: impl Into<IpAddr>, name: &str) -> Result<Self> {
        let name = name.to_owned();
        Self::threaded(TcpListener::bind((ip.into(), 0))?, move |stream| answer_requests(stream, &name))
    }

    /// Hands each connection to `handle`, on a thread of its own.
    pub fn threaded<H>(listener: TcpListener, handle: H) -> Result<Self>
    where
        H: Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    {
        let handle = Arc::new(handle);
        Self::run(listener, move |stream| {
            let handle = Arc::clone(&handle);
            std::thread::spawn(move || handle(stream));
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    fn run(listener: TcpListener, mut handle: impl FnMut(TcpStream) + Send + 'static) -> Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let (theirs, ours) = (Arc::clone(&shared), listener.try_clone()?);
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if theirs.stopping.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(stream) = stream {
                    theirs.accepted.fetch_add(1, Ordering::Relaxed);
                    handle(stream);
                }
            }
        });
        Ok(Self { address, shared, listener: ours, acceptor: Some(acceptor) })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Ends the listening at once and wakes the acceptor; dialling it would not do from another network namespace.
        let woken = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        if let (Ok(()), Some(acceptor)) = (woken, self.acceptor.take()) {
            let _ = acceptor.join();
        }
    }
}

fn answer_requests(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut length, mut last) = (0, false);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            last |= line.replace(' ', "") == "connection:close";
            if line.is_empty() {
                break;
            }
        }
        std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink())?;
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len())?;
        if last {
            return stream.shutdown(Shutdown::Write);
        }
    }
}
