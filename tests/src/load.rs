//! Clients: one connection, many in a row or side by side, and a steady flow while something else happens.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, Protocol, Socket, Type};

/// What became of a number of connections.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many each backend answered, by its name.
    pub by_name: BTreeMap<String, u64>,
    /// How many failed, by the reason.
    pub failures: BTreeMap<String, u64>,
    /// The longest that one took.
    pub longest: Duration,
}

impl Tally {
    /// All that were answered.
    pub fn answered(&self) -> u64 {
        self.by_name.values().sum()
    }

    /// How many one backend answered.
    pub fn of(&self, name: &str) -> u64 {
        self.by_name.get(name).copied().unwrap_or(0)
    }

    /// Fails unless all of `count` connections were answered.
    pub fn none_lost(&self, count: u64) -> Result<()> {
        ensure!(self.failures.is_empty() && self.answered() == count, "of {count} connections: {self:?}");
        Ok(())
    }

    fn add(&mut self, other: Self) {
        for (name, count) in other.by_name {
            *self.by_name.entry(name).or_default() += count;
        }
        for (reason, count) in other.failures {
            *self.failures.entry(reason).or_default() += count;
        }
        self.longest = self.longest.max(other.longest);
    }

    fn ask(&mut self, address: SocketAddr, source: Option<IpAddr>) {
        let started = Instant::now();
        match ask(address, source) {
            Ok(name) => *self.by_name.entry(name).or_default() += 1,
            Err(error) => *self.failures.entry(error.to_string()).or_default() += 1,
        }
        self.longest = self.longest.max(started.elapsed());
    }
}

/// Connects, from an address of one's own choice if there is one, with bounds on every later step.
pub fn connect(address: SocketAddr, source: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(source) = source {
        // The port is chosen when it is known whom it is for; else 28,000 connections use up a source address.
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect_timeout(&address.into(), TIMEOUT)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Connects and returns what the other side says before it ends the stream; nothing at all is an error.
pub fn ask(address: SocketAddr, source: Option<IpAddr>) -> std::io::Result<String> {
    let mut answer = String::new();
    connect(address, source)?.read_to_string(&mut answer)?;
    if answer.is_empty() {
        return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "ended without an answer"));
    }
    Ok(answer)
}

/// `count` connections, one after the other.
pub fn in_a_row(address: SocketAddr, count: u64) -> Tally {
    side_by_side(address, 1, count, |_| None)
}

/// `count` connections from `clients` threads; connection n comes from `source(n)`.
pub fn side_by_side(address: SocketAddr, clients: u64, count: u64, source: impl Fn(u64) -> Option<IpAddr> + Sync) -> Tally {
    let (next, source) = (AtomicU64::new(0), &source);
    let next = &next;
    let work = move || {
        let mut tally = Tally::default();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= count {
                return tally;
            }
            tally.ask(address, source(n));
        }
    };
    let mut whole = Tally::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            match thread.join() {
                Ok(tally) => whole.add(tally),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    whole
}

/// Connections at a steady rate, until stopped.
#[derive(Debug)]
pub struct Flow {
    stop: Arc<AtomicBool>,
    started: Instant,
    count: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Flow {
    /// Starts a flow of `per_second` connections. A machine that can't keep up gets fewer, never a burst.
    pub fn start(address: SocketAddr, per_second: u32) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let interval = Duration::from_secs(1) * FLOW_CLIENTS / per_second;
        let threads = (0..FLOW_CLIENTS).map(|_| {
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            std::thread::spawn(move || {
                let mut tally = Tally::default();
                let mut due = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    tally.ask(address, None);
                    count.fetch_add(1, Ordering::Relaxed);
                    due = (due + interval).max(Instant::now() - interval);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                tally
            })
        });
        let threads = threads.collect();
        Self { stop, started: Instant::now(), count, threads }
    }

    /// How many have been made so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until `more` further connections have been made.
    pub fn pass(&self, more: u64) -> Result<()> {
        let target = self.count() + more;
        crate::poll::until(&format!("{more} more connections"), || Ok((self.count() >= target).then_some(())))
    }

    /// Ends it, says at what rate it went, and returns what became of every connection.
    pub fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut whole = Tally::default();
        for thread in self.threads {
            match thread.join() {
                Ok(tally) => whole.add(tally),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let count = whole.answered() + whole.failures.values().sum::<u64>();
        println!("{count} connections in {seconds:.1} s, {:.0} a second; the longest took {:?}", count as f64 / seconds, whole.longest);
        whole
    }
}

/// Threads of a flow.
const FLOW_CLIENTS: u32 = 8;

/// For each step of a connection: far beyond what any takes, so that only one that hangs meets it.
const TIMEOUT: Duration = Duration::from_secs(20);
