//! Streams, byte by byte: both directions, both ends, in any order.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pointsman_tests::{Backend, Range, accounts, load};
use socket2::SockRef;

use crate::site::Site;

/// A site with one backend that handles each connection like this.
fn one(test: &str, handle: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> Result<Site> {
    let range = Range::claim(test)?;
    let backend = Backend::threaded(TcpListener::bind((range.backend_ip(0), 0))?, handle)?;
    Site::of(range, vec![backend], &[], |service| service, |launch| launch)
}

/// Bytes that say where they stand, so that a lost, doubled or misplaced one shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| ((n * 31) ^ (n >> 8) ^ (n >> 16)) as u8).collect()
}

/// The client ends its side first; the answer, which the backend only then sends, still arrives whole.
#[test]
fn the_client_may_end_its_side_first() -> Result<()> {
    let site = one("the_client_may_end_its_side_first", |mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request)?;
        request.reverse();
        stream.write_all(&request)
    })?;
    let mut stream = load::connect(site.address()?, None)?;
    let sent = pattern(300_000);
    stream.write_all(&sent)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    answer.reverse();
    ensure!(answer == sent, "{} bytes came back of {}", answer.len(), sent.len());
    accounts::balance(&site.engine, 1)
}

/// The backend ends its side first; the client may still send, and the backend receives all of it.
#[test]
fn the_backend_may_end_its_side_first() -> Result<()> {
    let (report, received) = std::sync::mpsc::channel();
    let site = one("the_backend_may_end_its_side_first", move |mut stream| {
        stream.write_all(b"speak")?;
        stream.shutdown(Shutdown::Write)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let _ = report.send(bytes);
        Ok(())
    })?;
    let mut stream = load::connect(site.address()?, None)?;
    let mut greeting = Vec::new();
    stream.read_to_end(&mut greeting)?;
    ensure!(greeting == b"speak", "the client read {greeting:?}");
    let sent = pattern(300_000);
    stream.write_all(&sent)?;
    stream.shutdown(Shutdown::Write)?;
    let bytes = received.recv_timeout(Duration::from_secs(20)).context("the backend never saw the end of the stream")?;
    ensure!(bytes == sent, "the backend received {} bytes of {}", bytes.len(), sent.len());
    accounts::balance(&site.engine, 1)
}

/// A protocol in which the server speaks first needs no byte from the client to be connected.
#[test]
fn a_server_may_speak_first() -> Result<()> {
    let site = Site::named("a_server_may_speak_first", &["220 ready"])?;
    let said = load::ask(site.address()?, None)?;
    ensure!(said == "220 ready", "the client read {said:?}");
    Ok(())
}

/// Writes of one byte each, both ways, arrive exactly and in order.
#[test]
fn single_bytes_arrive_exactly() -> Result<()> {
    let range = Range::claim("single_bytes")?;
    let backend = Backend::echo(range.backend_ip(0))?;
    let site = Site::of(range, vec![backend], &[], |service| service, |launch| launch)?;
    let mut stream = load::connect(site.address()?, None)?;
    stream.set_nodelay(true)?;
    let sent = pattern(5_000);
    let mut reader = stream.try_clone()?;
    let received = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    });
    for byte in &sent {
        stream.write_all(std::slice::from_ref(byte))?;
    }
    stream.shutdown(Shutdown::Write)?;
    let received = received.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    ensure!(received == sent, "{} bytes came back of {}", received.len(), sent.len());
    accounts::balance(&site.engine, 1)
}

/// 64 MiB each way at once: far beyond every buffer on the way, and beyond where copying turns into splicing.
#[test]
fn bulk_arrives_exactly_both_ways_at_once() -> Result<()> {
    let range = Range::claim("bulk_both_ways")?;
    let backend = Backend::echo(range.backend_ip(0))?;
    let site = Site::of(range, vec![backend], &[], |service| service, |launch| launch)?;
    let mut stream = load::connect(site.address()?, None)?;
    let block = pattern(1 << 20);
    let mut reader = stream.try_clone()?;
    let expected = block.clone();
    let checked = std::thread::spawn(move || -> Result<()> {
        let mut received = vec![0; expected.len()];
        for n in 0..64 {
            reader.read_exact(&mut received)?;
            ensure!(received == expected, "block {n} differs");
        }
        ensure!(reader.read(&mut received)? == 0, "more came back than was sent");
        Ok(())
    });
    for _ in 0..64 {
        stream.write_all(&block)?;
    }
    stream.shutdown(Shutdown::Write)?;
    checked.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    accounts::balance(&site.engine, 1)
}

/// A reader that does not read stops the writer: no byte is lost and memory stays bounded.
#[test]
fn a_slow_reader_loses_nothing() -> Result<()> {
    let length = 32 << 20;
    let site = one("a_slow_reader_loses_nothing", move |mut stream| stream.write_all(&pattern(length)))?;
    let mut stream = load::connect(site.address()?, None)?;
    let resident = |site: &Site| -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", site.engine.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    // The engine has all that it will take once what it has passed on stands still.
    let before = resident(&site)?;
    let mut first = [0];
    stream.read_exact(&mut first)?;
    let grown = resident(&site)?.saturating_sub(before);
    ensure!(grown < 16 << 10, "the engine grew by {grown} kB for a reader that does not read");
    let mut received = first.to_vec();
    stream.read_to_end(&mut received)?;
    ensure!(received == pattern(length), "{} bytes arrived of {length}", received.len());
    Ok(())
}

/// A reset by the client reaches the backend as a reset, not as an orderly end.
#[test]
fn a_reset_by_the_client_reaches_the_backend() -> Result<()> {
    let (report, ended) = std::sync::mpsc::channel();
    let site = one("a_reset_by_the_client", move |mut stream| {
        stream.write_all(b"hello")?;
        let end = stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
        let _ = report.send(end);
        Ok(())
    })?;
    let mut stream = load::connect(site.address()?, None)?;
    stream.read_exact(&mut [0; 5])?;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    drop(stream);
    let end = ended.recv_timeout(Duration::from_secs(20)).context("the backend never noticed")?;
    ensure!(end == Err(ErrorKind::ConnectionReset), "the backend saw {end:?}");
    let decisions = site.engine.decisions_at_least(1)?;
    ensure!(decisions[0]["outcome"] == "reset", "{}", decisions[0]);
    accounts::balance(&site.engine, 1)
}

/// And the other way round.
#[test]
fn a_reset_by_the_backend_reaches_the_client() -> Result<()> {
    let site = one("a_reset_by_the_backend", |mut stream| {
        stream.read_exact(&mut [0; 5])?;
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    })?;
    let mut stream = load::connect(site.address()?, None)?;
    stream.write_all(b"hello")?;
    let end = stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
    ensure!(end == Err(ErrorKind::ConnectionReset), "the client saw {end:?}");
    accounts::balance(&site.engine, 1)
}

/// `pointsman.dev/proxy-protocol: v2` tells the backend who the client is, before any byte of the client's.
#[test]
fn proxy_protocol_tells_the_backend_who_the_client_is() -> Result<()> {
    let range = Range::claim("proxy_protocol")?;
    let listener = TcpListener::bind((range.backend_ip(0), 0))?;
    let backend = Backend::threaded(listener, |mut stream| {
        let (source, destination) = proxy_header(&mut stream)?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest)?;
        write!(stream, "{source} {destination} {}", String::from_utf8_lossy(&rest))
    })?;
    let annotated = |service: pointsman_tests::manifest::Service| service.annotation("proxy-protocol", "v2");
    let site = Site::of(range, vec![backend], &[], annotated, |launch| launch)?;
    let mut stream = load::connect(site.address()?, Some(load_source()))?;
    stream.write_all(b"payload")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let client = stream.local_addr()?;
    let words: Vec<&str> = answer.split(' ').collect();
    ensure!(
        words.len() == 3 && words[0] == client.to_string() && words[2] == "payload",
        "the backend saw {answer:?}, the client is {client}"
    );
    let dialled = (site.range.cluster_ip(10), 8080).into();
    let ends: [SocketAddr; 2] = [site.address()?, dialled];
    ensure!(ends.contains(&words[1].parse()?), "the destination is {}, not one of {ends:?}", words[1]);
    Ok(())
}

fn load_source() -> std::net::IpAddr {
    pointsman_tests::range::client(77)
}

/// Reads a PROXY protocol version 2 header for TCP over IPv4: source and destination (HAProxy's proxy-protocol.txt, 2.2).
pub(crate) fn proxy_header(stream: &mut TcpStream) -> std::io::Result<(SocketAddr, SocketAddr)> {
    let mut head = [0; 16];
    stream.read_exact(&mut head)?;
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    if &head[..12] != signature || head[12] != 0x21 || head[13] != 0x11 {
        return Err(std::io::Error::new(ErrorKind::InvalidData, "not a header of version 2, PROXY, TCP over IPv4"));
    }
    let mut addresses = vec![0; usize::from(u16::from_be_bytes([head[14], head[15]]))];
    stream.read_exact(&mut addresses)?;
    let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = addresses[..] else {
        return Err(std::io::Error::new(ErrorKind::InvalidData, "too short for two IPv4 addresses"));
    };
    let source = SocketAddr::from((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([i, j])));
    Ok((source, SocketAddr::from((Ipv4Addr::new(e, f, g, h), u16::from_be_bytes([k, l])))))
}
