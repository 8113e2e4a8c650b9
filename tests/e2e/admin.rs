//! The admin port: what it tells, and what it bears.

use std::io::{Read, Write};

use anyhow::{Result, ensure};
use pointsman_tests::{http, load};

use crate::site::Site;

/// After 30 connections, the metrics name the Service, its endpoints and the policies, with the right counts.
#[test]
fn metrics_count_connections_and_decisions() -> Result<()> {
    let site = Site::named("metrics_count", &["a", "b", "c"])?;
    load::in_a_row(site.address()?, 30).none_lost(30)?;
    pointsman_tests::accounts::balance(&site.engine, 30)?;
    let metrics = site.engine.metrics()?;
    let web = [("namespace", "default"), ("service", "web"), ("port", "8080")];
    let forwarded = metrics.sum("pointsman_connections_total", &[web[0], web[1], web[2], ("verdict", "forward")]);
    ensure!(forwarded == 30.0, "{forwarded} forwarded");
    let endpoints = metrics.by("endpoint", "pointsman_endpoint_connections_total", &web);
    ensure!(endpoints.len() == 3 && endpoints.values().all(|count| *count == 10.0), "{endpoints:?}");
    let expected = site.backend_addresses().iter().map(ToString::to_string).collect::<std::collections::BTreeSet<_>>();
    ensure!(endpoints.keys().cloned().collect::<std::collections::BTreeSet<_>>() == expected, "{endpoints:?}");
    for (stage, policy) in [("selector", "label-selector"), ("traffic-policy", "kubernetes"), ("balancer", "round-robin")] {
        let decisions = metrics.sum("pointsman_policy_decisions_total", &[("policy", policy), ("stage", stage)]);
        ensure!(decisions == 30.0, "{policy} made {decisions} decisions");
        for name in ["pointsman_policy_fuel_total", "pointsman_policy_memory_bytes"] {
            ensure!(metrics.sum(name, &[("policy", policy)]) > 0.0, "{name} of {policy} is nothing");
        }
        ensure!(metrics.has("pointsman_policy_breaker_state", &[("policy", policy)]), "no breaker state of {policy}");
    }
    let out = metrics.sum("pointsman_bytes_total", &[web[1], ("direction", "out")]);
    ensure!(out == 30.0, "each of 30 answers was one byte, {out} are counted");
    Ok(())
}

#[test]
fn health_and_readiness_answer() -> Result<()> {
    let site = Site::named("health_and_readiness", &["a"])?;
    for path in ["/healthz", "/readyz"] {
        ensure!(site.engine.get(path)?.status == 200, "{path}");
    }
    ensure!(site.engine.get("/nonesuch")?.status == 404, "an unknown path");
    ensure!(site.engine.post("/metrics", b"x")?.status == 405, "POST where only GET is");
    let bound = site.engine.get("/bound")?.json()?;
    ensure!(bound["admin"] == site.engine.admin().to_string().as_str(), "/bound names another admin port: {bound}");
    Ok(())
}

/// Garbage, half requests and long heads on the admin port harm neither it nor the traffic.
#[test]
fn garbage_on_the_admin_port_harms_nothing() -> Result<()> {
    let mut site = Site::named("garbage_on_the_admin_port", &["a"])?;
    let admin = site.engine.admin();
    let flow = load::Flow::start(site.address()?, 300);
    let noise: Vec<u8> = (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X-H: y\r\n".repeat(5_000));
    let attacks: [&[u8]; 8] = [
        &noise,
        b"\r\n\r\n\r\n",
        long.as_bytes(),
        many.as_bytes(),
        b"POST /policies/x/swap HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /policies/x/swap HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
        b"GET /policies/../../etc/passwd HTTP/1.0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    let mut half_open = Vec::new();
    for attack in attacks {
        let mut stream = load::connect(admin, None)?;
        // It may hang up in the middle of any of them.
        let _ = stream.write_all(attack);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(std::time::Duration::from_secs(3)))?;
        let _ = stream.read_to_end(&mut Vec::new());
        let mut unfinished = load::connect(admin, None)?;
        unfinished.write_all(b"GET /metrics HT")?;
        half_open.push(unfinished);
    }
    ensure!(http::get(admin, "/healthz")?.status == 200, "the admin port does not answer any more");
    site.engine.still_runs()?;
    let tally = flow.stop();
    ensure!(tally.failures.is_empty(), "{tally:?}");
    Ok(())
}

/// An address that is open to a network needs a token (nothing listens there: it refuses to start).
#[test]
fn an_admin_port_beyond_loopback_needs_a_token() -> Result<()> {
    let manifests = pointsman_tests::Manifests::new()?;
    let folder = manifests.path().display().to_string();
    let Err(error) = pointsman_tests::engine::pointsman(["run", "-f", &folder, "--vip-mode", "loopback", "--admin", "0.0.0.0:0"]) else {
        anyhow::bail!("it ran on 0.0.0.0 without a token");
    };
    ensure!(error.to_string().contains("token"), "{error}");
    Ok(())
}
