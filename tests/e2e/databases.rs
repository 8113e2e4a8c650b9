//! J1: a stable address for something outside the cluster, with the real servers and clients.

use std::process::Command;

use anyhow::{Result, ensure};
use pointsman_tests::engine::Launch;
use pointsman_tests::manifest::{Service, endpoints, endpoints_with};
use pointsman_tests::process::run;
use pointsman_tests::{Manifests, Range, load, peers, poll};

/// A Service without selector refuses while nothing backs it, and answers as soon as Endpoints of its name appear; three spread evenly.
#[test]
fn nginx_answers_once_endpoints_appear() -> Result<()> {
    let range = Range::claim("nginx_answers_once_endpoints_appear")?;
    let service = Service::new("external-web").cluster_ip(range.cluster_ip(10)).port("{port: 6666, targetPort: 80}");
    let manifests = Manifests::with("service.yaml", &service.yaml())?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    let address = (Range::mapped(range.cluster_ip(10)), 6666).into();
    let refused = load::connect(address, None).map(drop).map_err(|error| error.kind());
    ensure!(refused == Err(std::io::ErrorKind::ConnectionRefused), "nothing backs it yet, but connecting gave {refused:?}");

    let servers = [(0, "one"), (1, "two"), (2, "three")].map(|(n, name)| peers::nginx(range.backend_ip(n), name));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    manifests.write("endpoints.yaml", &endpoints("external-web", &[servers[0].address()]))?;
    ensure!(engine.frontend("default/external-web:6666", "cluster-ip")? == address, "bound elsewhere: {:?}", engine.bound()?);
    ensure!(curl(&format!("http://{address}/"))? == "one", "curl through the ClusterIP");

    let all: Vec<_> = servers.iter().map(peers::Peer::address).collect();
    manifests.write("endpoints.yaml", &endpoints("external-web", &all))?;
    poll::until("all three in the rotation", || {
        let answers = (0..3).map(|_| curl(&format!("http://{address}/"))).collect::<Result<std::collections::BTreeSet<_>>>()?;
        Ok((answers.len() == 3).then_some(()))
    })?;
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..30 {
        *counts.entry(curl(&format!("http://{address}/"))?).or_insert(0) += 1;
    }
    ensure!(counts.values().all(|count| *count == 10), "30 requests over three: {counts:?}");
    Ok(())
}

/// MariaDB by `mariadb -h <clusterIP> -P3366`: with two addresses, one of them dead, a user still connects, every time; and the dead
/// one can be moved to `notReadyAddresses` by hand.
#[test]
fn mariadb_connects_although_one_of_two_is_dead() -> Result<()> {
    let range = Range::claim("mariadb_connects_although_one_of_two_is_dead")?;
    let database = peers::mariadb(range.backend_ip(0), "alive")?;
    let dead = range.dead_address(1)?;
    let service = Service::new("mysql-external").cluster_ip(range.cluster_ip(10)).port("{port: 3366, targetPort: 3306}");
    let manifests = Manifests::with("service.yaml", &service.yaml())?;
    manifests.write("endpoints.yaml", &endpoints("mysql-external", &[database.address(), dead]))?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    let address = engine.frontend("default/mysql-external:3366", "cluster-ip")?;
    let whoami = || {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "-h", &address.ip().to_string(), "-P", &address.port().to_string()]);
        run(client.args(["-uapp", "-papp", "--connect-timeout=15", "-N", "-B", "-e", "SELECT name FROM whoami.name"]))
    };
    for _ in 0..10 {
        let name = whoami()?;
        ensure!(name.trim() == "alive", "the database answered {name:?}");
    }
    let decisions = engine.decisions_at_least(10)?;
    let retried: Vec<_> = decisions.iter().filter(|decision| decision["attempts"].as_array().is_some_and(|a| !a.is_empty())).collect();
    ensure!(!retried.is_empty(), "the dead address was never tried, so nothing was shown: {decisions:?}");
    for decision in &retried {
        ensure!(decision["attempts"].to_string().contains(&dead.to_string()), "the failed attempt is not named: {decision}");
        ensure!(decision["endpoint"] == database.address().to_string().as_str(), "{decision}");
    }

    let generation = engine.generation()?;
    manifests.write("endpoints.yaml", &endpoints_with("mysql-external", "", &[database.address()], &[dead]))?;
    poll::until("the new table", || Ok((engine.generation()? > generation).then_some(())))?;
    let before = engine.decisions()?.len();
    for _ in 0..4 {
        whoami()?;
    }
    let decisions = engine.decisions_at_least(before + 4)?;
    let failed = decisions[before..].iter().find(|decision| decision["attempts"].as_array().is_some_and(|a| !a.is_empty()));
    ensure!(failed.is_none(), "an address in notReadyAddresses was tried: {failed:?}");
    Ok(())
}

/// Redis keeps its connection through the engine: a write on one connection is read on another.
#[test]
fn redis_reads_what_was_written() -> Result<()> {
    let range = Range::claim("redis_reads_what_was_written")?;
    let redis = peers::redis(range.backend_ip(0))?;
    let service = Service::new("cache").cluster_ip(range.cluster_ip(10)).port("{port: 6379}");
    let manifests = Manifests::with("all.yaml", &(service.yaml() + &endpoints("cache", &[redis.address()])))?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    let address = engine.frontend("default/cache:6379", "cluster-ip")?;
    let client = |arguments: &[&str]| {
        let mut command = Command::new("redis-cli");
        command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
        run(command.args(arguments))
    };
    let large = "x".repeat(100_000);
    ensure!(client(&["SET", "key", &large])?.trim() == "OK", "SET");
    ensure!(client(&["GET", "key"])?.trim() == large, "GET of 100,000 bytes");
    let many = client(&["-r", "1000", "INCR", "counter"])?;
    ensure!(many.lines().last() == Some("1000"), "1,000 commands on one connection ended with {:?}", many.lines().last());
    pointsman_tests::accounts::balance(&engine, 3)
}

fn curl(url: &str) -> Result<String> {
    run(Command::new("curl").args(["-sS", "--fail", "--max-time", "15", url]))
}
