//! `pointsman.dev/drain`: what becomes of established connections whose endpoint leaves or is no longer ready.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};
use pointsman_tests::engine::Launch;
use pointsman_tests::manifest::{Service, endpoints_with};
use pointsman_tests::{Backend, Manifests, Range, accounts, load, poll};
use serde_json::Value;

/// A Service each: its name, and what its annotation says.
const SERVICES: [(&str, Option<&str>); 4] = [("unsaid", None), ("keep", Some("keep")), ("reset", Some("reset")), ("second", Some("1"))];

/// Greets with its name, then echoes.
fn greeter(range: &Range, n: u8, name: &'static [u8; 3]) -> Result<Backend> {
    Backend::threaded(TcpListener::bind((range.backend_ip(n), 0))?, move |mut stream| {
        stream.write_all(name)?;
        let mut reader = stream.try_clone()?;
        std::io::copy(&mut reader, &mut stream).map(drop)
    })
}

fn greeted(address: SocketAddr) -> Result<(TcpStream, [u8; 3])> {
    let (mut stream, mut name) = (load::connect(address, None)?, [0; 3]);
    stream.read_exact(&mut name)?;
    Ok((stream, name))
}

fn echoes(stream: &mut TcpStream, text: &[u8]) -> Result<()> {
    let mut echo = vec![0; text.len()];
    stream.write_all(text)?;
    stream.read_exact(&mut echo)?;
    ensure!(echo == text, "{echo:?} came back");
    Ok(())
}

/// One connection a Service, all to the same endpoint; then `change` says what is written of the old and the new one. One table brings
/// it to all four, so that their times compare.
fn drained(test: &str, change: impl Fn(&str, SocketAddr, SocketAddr) -> String) -> Result<()> {
    let range = Range::claim(test)?;
    let (old, new) = (greeter(&range, 0, b"old")?, greeter(&range, 1, b"new")?);
    let manifests = Manifests::new()?;
    for (n, (name, drain)) in (10..).zip(SERVICES) {
        let service = Service::new(name).cluster_ip(range.cluster_ip(n)).port("{port: 8080}");
        let service = drain.into_iter().fold(service, |service, drain| service.annotation("drain", drain));
        manifests.write(&format!("{name}.yaml"), &service.yaml())?;
    }
    let all = |text: &dyn Fn(&str) -> String| SERVICES.iter().map(|(name, _)| text(name)).collect::<String>();
    manifests.write("endpoints.yaml", &all(&|name| endpoints_with(name, "", &[old.address()], &[])))?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    let addresses = SERVICES.iter().map(|(name, _)| engine.frontend(&format!("default/{name}:8080"), "cluster-ip"));
    let addresses = addresses.collect::<Result<Vec<_>>>()?;
    let mut established = Vec::new();
    for address in &addresses {
        let (mut stream, name) = greeted(*address)?;
        ensure!(&name == b"old", "{name:?} greeted");
        echoes(&mut stream, b"before")?;
        established.push(stream);
    }
    manifests.write("endpoints.yaml", &all(&|name| change(name, old.address(), new.address())))?;

    for n in [2, 3] {
        let error = established[n].read(&mut [0]).map_err(|error| error.kind());
        ensure!(error == Err(ErrorKind::ConnectionReset), "{}: reading gave {error:?}", SERVICES[n].0);
    }
    let mut made = 4;
    for address in &addresses {
        poll::until("the new one in place of the old", || {
            made += 1;
            Ok((&greeted(*address)?.1 == b"new").then_some(()))
        })?;
    }
    for stream in &mut established[..2] {
        echoes(stream, b"long after")?;
    }
    drop(established);

    let decisions = accounts::balance_of_services(&engine, made)?;
    let of = |name: &str| -> Result<&Value> {
        let fits = |d: &&Value| d["service"] == format!("default/{name}:8080") && d["endpoint"] == old.address().to_string();
        decisions.iter().find(fits).with_context(|| format!("{name} is not in {decisions:?}"))
    };
    for (name, outcome) in [("unsaid", "closed"), ("keep", "closed"), ("reset", "endpoint-left"), ("second", "endpoint-left")] {
        ensure!(of(name)?["outcome"] == outcome, "{name}: {}", of(name)?);
        let ended = engine.metrics()?.sum("pointsman_connections_closed_total", &[("service", name), ("outcome", "endpoint-left")]);
        ensure!(ended == f64::from(u8::from(outcome == "endpoint-left")), "{name}: the metrics say that {ended} ended so");
    }
    // The one that has a second began after the one that is reset at once.
    let lived = |name: &str| of(name)?["duration_ms"].as_u64().context("no duration");
    let (at_once, later) = (lived("reset")?, lived("second")?);
    ensure!((at_once + 700..at_once + 10_000).contains(&later), "reset at once after {at_once} ms, after a second after {later} ms");
    Ok(())
}

#[test]
fn connections_of_an_endpoint_that_left_end_as_their_service_says() -> Result<()> {
    drained("drain_of_an_endpoint_that_left", |name, _, new| endpoints_with(name, "", &[new], &[]))
}

#[test]
fn connections_of_an_endpoint_that_is_not_ready_end_as_their_service_says() -> Result<()> {
    drained("drain_of_an_endpoint_not_ready", |name, old, new| endpoints_with(name, "", &[new], &[old]))
}

/// The Service itself goes: the same holds.
#[test]
fn connections_of_a_service_that_is_gone_end_as_it_said() -> Result<()> {
    let range = Range::claim("drain_of_a_service_that_is_gone")?;
    let old = greeter(&range, 0, b"old")?;
    let manifests = Manifests::new()?;
    for (n, name) in [(10, "keep"), (11, "reset")] {
        let service = Service::new(name).cluster_ip(range.cluster_ip(n)).annotation("drain", name).port("{port: 8080}");
        manifests.write(&format!("{name}.yaml"), &(service.yaml() + &endpoints_with(name, "", &[old.address()], &[])))?;
    }
    let engine = Launch::new(&range, manifests.path())?.start()?;
    let (mut kept, _) = greeted(engine.frontend("default/keep:8080", "cluster-ip")?)?;
    let (mut reset, _) = greeted(engine.frontend("default/reset:8080", "cluster-ip")?)?;
    for name in ["keep", "reset"] {
        manifests.remove(&format!("{name}.yaml"))?;
        engine.frontend_gone(&format!("default/{name}:8080"), "cluster-ip")?;
    }
    let error = reset.read(&mut [0]).map_err(|error| error.kind());
    ensure!(error == Err(ErrorKind::ConnectionReset), "reading gave {error:?}");
    echoes(&mut kept, b"long after")?;
    drop(kept);
    let decisions = engine.decisions_at_least(2)?;
    let outcomes: Vec<_> = decisions.iter().filter_map(|decision| decision["outcome"].as_str()).collect();
    ensure!(outcomes == ["endpoint-left", "closed"], "{decisions:?}");
    Ok(())
}
