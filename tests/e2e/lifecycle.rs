//! Ends: of the engine, and of connections by age.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use pointsman_tests::{Backend, Range, load, poll};

use crate::site::Site;

fn echo(test: &str) -> Result<Site> {
    let range = Range::claim(test)?;
    let backend = Backend::echo(range.backend_ip(0))?;
    Site::of(range, vec![backend], &[], |service| service, |launch| launch)
}

/// SIGTERM: new connections are refused, the stream that is on its way is delivered to the last byte, then it ends by itself, with 0.
#[test]
fn a_drain_delivers_what_is_on_its_way() -> Result<()> {
    let mut site = echo("a_drain")?;
    let address = site.address()?;
    let mut stream = load::connect(address, None)?;
    let client = stream.local_addr()?;
    stream.write_all(b"before")?;
    stream.read_exact(&mut [0; 6])?;
    site.engine.signal(Signal::SIGTERM)?;
    poll::until("new connections to be refused", || {
        let refused = load::connect(address, None).err().map(|error| error.kind());
        Ok((refused == Some(ErrorKind::ConnectionRefused)).then_some(()))
    })?;
    site.engine.still_runs()?;
    let rest = vec![7; 1 << 20];
    let mut reader = stream.try_clone()?;
    let received = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    });
    stream.write_all(&rest)?;
    stream.shutdown(Shutdown::Write)?;
    let received = received.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    ensure!(received == rest, "{} bytes of {} were delivered during the drain", received.len(), rest.len());
    let status = site.engine.wait()?;
    ensure!(status.success(), "the engine ended with {status}");
    // Those that asked whether it still listens may be in the log too.
    let decisions = site.engine.decisions()?;
    let ours = decisions.iter().find(|decision| decision["client"] == client.to_string().as_str());
    ensure!(ours.is_some_and(|decision| decision["outcome"] == "closed"), "the log was not written out: {decisions:?}");
    Ok(())
}

/// With nothing in flight, SIGTERM and SIGINT end it at once, with 0, and leave no listener.
#[test]
fn an_idle_engine_ends_at_once() -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut site = echo("an_idle_engine")?;
        let address = site.address()?;
        let started = Instant::now();
        site.engine.signal(signal)?;
        let status = site.engine.wait()?;
        ensure!(status.success(), "{signal} ended it with {status}");
        ensure!(started.elapsed() < Duration::from_secs(10), "{signal}: it took {:?}", started.elapsed());
        ensure!(load::connect(address, None).is_err(), "something still listens on {address}");
    }
    Ok(())
}

/// A stream that never ends does not hold the engine: at the drain's deadline it is reset, counted as such, and the engine ends with 0.
#[test]
fn a_drain_ends_at_its_deadline() -> Result<()> {
    let range = Range::claim("a_drain_deadline")?;
    let backend = Backend::echo(range.backend_ip(0))?;
    let mut site = Site::of(range, vec![backend], &[], |service| service, |launch| launch.arguments(["--drain-timeout", "1s"]))?;
    let mut stream = load::connect(site.address()?, None)?;
    stream.write_all(b"hello")?;
    stream.read_exact(&mut [0; 5])?;
    site.engine.signal(Signal::SIGTERM)?;
    let status = site.engine.wait()?;
    ensure!(status.success(), "the engine ended with {status}");
    let end = stream.read(&mut [0; 1]).map_err(|error| error.kind());
    ensure!(end == Err(ErrorKind::ConnectionReset), "the client saw {end:?}");
    let decisions = site.engine.decisions()?;
    ensure!(decisions.len() == 1 && decisions[0]["outcome"] == "drained", "{decisions:?}");
    Ok(())
}

/// `pointsman.dev/max-connection-age`: a connection that is busy all along is ended when it is old, so that its client balances anew.
#[test]
fn connections_end_at_their_maximum_age() -> Result<()> {
    let range = Range::claim("maximum_age")?;
    let backend = Backend::echo(range.backend_ip(0))?;
    let site = Site::of(range, vec![backend], &[], |service| service.annotation("max-connection-age", "1s"), |launch| launch)?;
    let mut stream = load::connect(site.address()?, None)?;
    let started = Instant::now();
    let ended = poll::until("the connection to be ended for its age", || {
        let exchanged = stream.write_all(b"x").and_then(|()| stream.read_exact(&mut [0; 1]));
        Ok(exchanged.err())
    })?;
    let lived = started.elapsed();
    ensure!(lived >= Duration::from_millis(900), "ended after {lived:?}: {ended}");
    let decision = &site.engine.decisions_at_least(1)?[0];
    ensure!(decision["outcome"] == "aged", "{decision}");
    Ok(())
}

/// kill -9 and start again: the same addresses answer with the same table, although sockets of the first still linger.
#[test]
fn a_killed_engine_can_be_started_again() -> Result<()> {
    use pointsman_tests::engine::Launch;
    let site = Site::named("a_killed_engine", &["a", "b"])?;
    let address = site.address()?;
    load::in_a_row(address, 20).none_lost(20)?;
    let Site { engine, manifests, backends, range } = site;
    engine.signal(Signal::SIGKILL)?;
    drop(engine);
    let engine = Launch::new(&range, manifests.path())?.start()?;
    let tally = load::in_a_row(engine.frontend(crate::site::WEB, "cluster-ip")?, 20);
    tally.none_lost(20)?;
    ensure!(backends.iter().all(|backend| backend.accepted() == 20), "{tally:?}");
    Ok(())
}
