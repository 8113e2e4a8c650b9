//! A storm: endpoints leave and return 1,000 times a second for a minute, under load. Nobody may be sent to an endpoint that left more
//! than a moment ago, and what the storm cost in memory is given back.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pointsman_tests::process::Process;

use super::{median_and_most, pointsman, resident_kib};

const SERVICES: usize = 50;
const BACKENDS: usize = 10;
/// Backends of a Service that stay whatever happens, so that there is always somebody.
const STEADY: usize = 2;
const PER_SECOND: u32 = 1_000;
const LASTS: Duration = Duration::from_secs(60);
const CLIENTS: usize = 4;
/// An endpoint whose departure was written so long before a client began to connect must not be met.
const ALLOWED: Duration = Duration::from_millis(100);
/// Memory counts as given back when it is within this of what it was after the first seconds.
const MEMORY_KIB: u64 = 8 << 10;

/// When each endpoint of a Service last left, while it is away.
type Away = Arc<Mutex<HashMap<(usize, usize), Instant>>>;

#[derive(Default)]
struct Found {
    connections: AtomicU64,
    failed: AtomicU64,
    /// Milliseconds since the departure, of connections that met an endpoint that was away.
    stale: Mutex<Vec<f64>>,
}

/// Measures, prints what it found, and fails if it does not hold.
pub(super) fn run() -> Result<()> {
    let backends = (0..BACKENDS).map(backend).collect::<Result<Vec<_>>>()?;
    let folder = tempfile::Builder::new().prefix("pointsman-storm-").tempdir()?;
    let port = TcpListener::bind((Ipv4Addr::new(127, 198, 9, 9), 0))?.local_addr()?.port();
    for service in 0..SERVICES {
        write(folder.path(), service, &backends, &[])?;
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{service}}}\nspec: {{clusterIP: 10.96.4.{}, ports: [{{port: {port}}}]}}\n",
            service + 1
        );
        std::fs::write(folder.path().join(format!("service-{service}.yaml")), text)?;
    }
    let mut process = Process::start("pointsman", pointsman().args(["--workers", "2", "-f"]).arg(folder.path()))?;
    process.wait_for_line("`serving: …`", |line| line.contains("serving: ").then_some(()))?;

    let (stop, away, found) = (Arc::new(AtomicBool::new(false)), Away::default(), Arc::new(Found::default()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (stop, away, found) = (Arc::clone(&stop), Arc::clone(&away), Arc::clone(&found));
            thread::spawn(move || connect(client, port, &stop, &away, &found))
        })
        .collect();
    let began = Instant::now();
    let mut early_kib = 0;
    let mut changes = 0_u32;
    let mut left: Vec<Vec<usize>> = vec![Vec::new(); SERVICES];
    while began.elapsed() < LASTS {
        // Every Service in turn; each change takes one endpoint away or brings it back.
        let service = changes as usize % SERVICES;
        let backend = STEADY + (changes as usize / SERVICES * 7 + service) % (BACKENDS - STEADY);
        match left[service].iter().position(|gone| *gone == backend) {
            Some(at) => drop(left[service].remove(at)),
            None => left[service].push(backend),
        }
        away_now(&away, service, backend, &left[service], || write(folder.path(), service, &backends, &left[service]))?;
        changes += 1;
        if early_kib == 0 && began.elapsed() > LASTS / 6 {
            early_kib = resident_kib(&process)?;
        }
        thread::sleep((began + Duration::from_secs(1) * changes / PER_SECOND).saturating_duration_since(Instant::now()));
    }
    stop.store(true, Ordering::Relaxed);
    let stormed = began.elapsed();
    for client in clients {
        client.join().ok().context("a client panicked")?;
    }
    let end_kib = resident_kib(&process)?;
    report(&found, changes, stormed, early_kib, end_kib)
}

fn report(found: &Found, changes: u32, stormed: Duration, early_kib: u64, end_kib: u64) -> Result<()> {
    let (connections, failed) = (found.connections.load(Ordering::Relaxed), found.failed.load(Ordering::Relaxed));
    let mut stale = found.stale.lock().map_err(|_| anyhow::anyhow!("a client panicked"))?.clone();
    let late = stale.iter().filter(|ms| **ms > ALLOWED.as_secs_f64() * 1e3).count();
    let (median, most) = median_and_most(&mut stale);
    println!(
        "\n{changes} changes in {:.1} s ({:.0} a second), {connections} connections beside ({:.0} a second), {failed} failed",
        stormed.as_secs_f64(),
        f64::from(changes) / stormed.as_secs_f64(),
        connections as f64 / stormed.as_secs_f64()
    );
    println!(
        "met an endpoint whose departure was written before: {} (median {median:.1} ms before, at most {most:.1} ms); more than {ALLOWED:?} before: {late}",
        stale.len()
    );
    println!("resident: {} MiB after {:?}, {} MiB at the end", early_kib / 1024, LASTS / 6, end_kib / 1024);
    ensure!(late == 0, "{late} connections went to an endpoint that had left more than {ALLOWED:?} before");
    ensure!(failed == 0, "{failed} connections failed");
    ensure!(end_kib <= early_kib + MEMORY_KIB, "memory grew from {early_kib} to {end_kib} KiB");
    Ok(())
}

/// Writes the change, and notes when an endpoint left: once its departure is written. One that returns is back before that is written.
fn away_now(away: &Away, service: usize, backend: usize, left: &[usize], write: impl FnOnce() -> Result<()>) -> Result<()> {
    let lock = || away.lock().map_err(|_| anyhow::anyhow!("a client panicked"));
    if left.contains(&backend) {
        write()?;
        lock()?.insert((service, backend), Instant::now());
    } else {
        lock()?.remove(&(service, backend));
        write()?;
    }
    Ok(())
}

/// Connects again and again, to one Service after the other, and looks who answers.
fn connect(client: usize, port: u16, stop: &AtomicBool, away: &Away, found: &Found) {
    let mut service = client;
    while !stop.load(Ordering::Relaxed) {
        service = (service + 1) % SERVICES;
        let address = SocketAddr::from((Ipv4Addr::new(127, 96, 4, service as u8 + 1), port));
        let gone: HashMap<usize, Instant> = match away.lock() {
            Ok(away) => away.iter().filter(|((of, _), _)| *of == service).map(|((_, backend), at)| (*backend, *at)).collect(),
            Err(_) => return,
        };
        let began = Instant::now();
        let mut name = [0];
        let answered = TcpStream::connect_timeout(&address, Duration::from_secs(5)).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.read_exact(&mut name)
        });
        found.connections.fetch_add(1, Ordering::Relaxed);
        match answered {
            Ok(()) => {
                if let (Some(at), Ok(mut stale)) = (gone.get(&usize::from(name[0])), found.stale.lock()) {
                    stale.push(began.duration_since(*at).as_secs_f64() * 1e3);
                }
            }
            Err(_) => {
                found.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Says its number to whoever connects.
fn backend(number: usize) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::new(127, 198, 1, 1 + number as u8), 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A client that is gone is its own business.
            let _ = (&stream).write_all(&[number as u8]);
        }
    });
    Ok(address)
}

fn write(folder: &Path, service: usize, backends: &[SocketAddr], left: &[usize]) -> Result<()> {
    let mut text = format!("apiVersion: v1\nkind: Endpoints\nmetadata: {{name: s{service}}}\nsubsets:\n");
    for (_, backend) in backends.iter().enumerate().filter(|(at, _)| !left.contains(at)) {
        writeln!(text, "- addresses: [{{ip: {}}}]\n  ports: [{{port: {}}}]", backend.ip(), backend.port())?;
    }
    let (fresh, path): (PathBuf, PathBuf) = (folder.join(format!(".{service}")), folder.join(format!("endpoints-{service}.yaml")));
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, &path).with_context(|| format!("writing {}", path.display()))
}
