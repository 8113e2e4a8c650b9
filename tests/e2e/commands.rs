//! The other commands: route, check, policy inspect, backend, completions, help.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use pointsman_tests::engine::{binary, pointsman};
use pointsman_tests::manifest::{Pod, Service};
use pointsman_tests::process::Process;
use pointsman_tests::{Manifests, http, load};
use serde_json::Value;

use crate::site::Site;

fn route(manifests: &Manifests, arguments: &[&str]) -> Result<Value> {
    let folder = manifests.path().display().to_string();
    let output = Command::new(binary()?).args(["route", "-f", &folder, "-o", "json"]).args(arguments).output()?;
    // 0: here is the answer, also when it is "nowhere"; 2: there is none.
    let status = output.status.code();
    let answer: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{status:?}, not JSON: {}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat())))?;
    ensure!(status == Some(0), "status {status:?} for {answer}");
    Ok(answer)
}

fn two_pods() -> Result<Manifests> {
    let service = Service::new("web").spec("type", "NodePort").spec("clusterIP", "10.97.72.1").selector("app", "web");
    let service = service.spec("externalTrafficPolicy", "Local").port("{name: http, port: 80, targetPort: 8080, nodePort: 31398}");
    let pods = [("p1", "10.244.1.5", "node01"), ("p2", "10.244.2.5", "node02")];
    let pods = pods.map(|(name, ip, node)| Pod::new(name, "app: web", ip).node(node).yaml());
    let stranger = Pod::new("p3", "app: other", "10.244.1.6").node("node01").yaml();
    Manifests::with("all.yaml", &(service.yaml() + &pods.concat() + &stranger))
}

/// Stage by stage: what was kept, what was removed and why, and what Kubernetes does with the client's address.
#[test]
fn route_explains_a_decision() -> Result<()> {
    let manifests = two_pods()?;
    let node = ["--node-name", "node01", "--node-ip", "192.0.2.1"];
    let outside = route(&manifests, &[&node[..], &["--client", "198.51.100.7", "--to", "192.0.2.1:31398"]].concat())?;
    ensure!(outside["verdict"] == "forward" && outside["frontend"] == "node-port", "{outside}");
    ensure!(outside["service"] == "default/web:http" && outside["endpoint"] == "10.244.1.5:8080", "{outside}");
    ensure!(outside["candidates"] == serde_json::json!(["10.244.1.5:8080"]) && outside["source"] == "kept", "{outside}");
    let stages = outside["stages"].as_array().context("no stages")?;
    let names: Vec<_> = stages.iter().filter_map(|stage| stage["stage"].as_str()).collect();
    ensure!(names == ["selector", "traffic-policy", "balancer"], "{names:?}");
    let removed = &stages[1]["removed"][0];
    ensure!(removed["endpoint"] == "10.244.2.5:8080" && removed["why"].is_string(), "{}", stages[1]);

    let inside = route(&manifests, &[&node[..], &["--client", "10.244.1.6", "--origin", "pod", "--to", "10.97.72.1:80/tcp"]].concat())?;
    ensure!(inside["frontend"] == "cluster-ip" && inside["candidates"].as_array().map(Vec::len) == Some(2), "{inside}");

    let lonely = ["--node-name", "node03", "--node-ip", "192.0.2.3", "--client", "198.51.100.7", "--to", "192.0.2.3:31398"];
    ensure!(route(&manifests, &lonely)?["verdict"] == "drop", "a node without local pods drops (kubernetes-semantics 0.1)");
    let nothing = route(&manifests, &[&node[..], &["--client", "198.51.100.7", "--to", "10.97.72.1:81"]].concat());
    ensure!(nothing.is_ok_and(|answer| answer["verdict"] == "reject"), "a port that the Service at this cluster IP does not have");
    for (address, verdict) in [("10.97.72.2:80", "drop"), ("192.0.2.77:80", "not-a-service")] {
        let nothing = route(&manifests, &[&node[..], &["--client", "198.51.100.7", "--to", address]].concat());
        ensure!(nothing.is_ok_and(|answer| answer["verdict"] == verdict), "{address} is no Service's (kubernetes-semantics 3.9)");
    }
    Ok(())
}

/// Nothing anywhere: reject, whatever the policy.
#[test]
fn route_rejects_without_endpoints() -> Result<()> {
    let manifests = two_pods()?;
    manifests.write("all.yaml", &Service::new("web").spec("clusterIP", "10.97.72.1").selector("app", "web").port("{port: 80}").yaml())?;
    let answer = route(&manifests, &["--client", "198.51.100.7", "--to", "10.97.72.1:80"])?;
    ensure!(answer["verdict"] == "reject", "{answer}");
    Ok(())
}

/// Many connections with a seed: the shares are the balancer's, and the same again with the same seed.
#[test]
fn route_counts_many_connections_and_repeats_with_a_seed() -> Result<()> {
    let manifests = two_pods()?;
    let ask = |seed: &str| {
        let answer = route(&manifests, &["--client", "10.244.1.6", "--to", "10.97.72.1:80", "--connections", "1000", "--seed", seed])?;
        Ok::<_, anyhow::Error>(answer["counts"].clone())
    };
    let counts = ask("7")?;
    ensure!(counts == serde_json::json!({"10.244.1.5:8080": 500, "10.244.2.5:8080": 500}), "round robin: {counts}");
    let random =
        Service::new("web").spec("clusterIP", "10.97.72.1").selector("app", "web").port("{port: 80}").annotation("balancer", "random");
    let pods = [("p1", "10.244.1.5"), ("p2", "10.244.2.5")].map(|(name, ip)| Pod::new(name, "app: web", ip).yaml());
    manifests.write("all.yaml", &(random.yaml() + &pods.concat()))?;
    let (first, again, other) = (ask("7")?, ask("7")?, ask("8")?);
    ensure!(first == again, "the same seed gave {first} and {again}");
    ensure!(first != other, "two seeds gave the same {first}: probably no chance at all");
    Ok(())
}

/// `route` says of an address what `run` then does.
#[test]
fn route_and_run_agree() -> Result<()> {
    let site = Site::named_as(
        "route_and_run_agree",
        &["a", "b", "c", "d", "e"],
        |service| service.annotation("balancer", "maglev"),
        |launch| launch,
    )?;
    let address = site.address()?;
    for n in 0..10 {
        let client = pointsman_tests::range::client(n * 7919);
        load::ask(address, Some(client))?;
        let decision = site.engine.decisions_at_least(n as usize + 1)?[n as usize].clone();
        let (to, cidr) = (format!("{}:8080", site.range.cluster_ip(10)), site.range.service_cidr());
        let said = route(&site.manifests, &["--client", &client.to_string(), "--to", &to, "--service-cidr", &cidr])?;
        ensure!(said["endpoint"] == decision["endpoint"], "{client}: route says {}, run chose {}", said["endpoint"], decision["endpoint"]);
        for (explained, logged) in said["stages"].as_array().into_iter().flatten().zip(decision["stages"].as_array().into_iter().flatten())
        {
            ensure!(explained["policy"] == logged["policy"], "{explained} and {logged}");
        }
    }
    Ok(())
}

/// A built-in by its name, and a file: stage, digest, imports, sizes.
#[test]
fn policy_inspect_describes_components() -> Result<()> {
    let built_in = pointsman(["policy", "inspect", "round-robin"])?;
    for word in ["round-robin", "balancer", "sha256:"] {
        ensure!(built_in.contains(word), "no {word:?} in {built_in}");
    }
    let file = tempfile::Builder::new().suffix(".wasm").tempfile()?;
    let component = pointsman_guests::Component::named("round-robin").context("not built in")?;
    std::fs::write(file.path(), component.bytes)?;
    let path = file.path().display().to_string();
    let digest = |text: &str| text.split_whitespace().find(|word| word.starts_with("sha256:")).map(str::to_owned);
    ensure!(digest(&pointsman(["policy", "inspect", &path])?) == digest(&built_in), "the file and the built-in have other digests");
    std::fs::write(file.path(), b"not a component")?;
    ensure!(pointsman(["policy", "inspect", &path]).is_err(), "text was taken for a component");
    Ok(())
}

/// The demo's backend: its name, its address and the client's; and a readiness that can be failed and mended.
#[test]
fn backend_answers_and_can_be_failed() -> Result<()> {
    let mut command = Command::new(binary()?);
    let mut backend = Process::start("backend", command.args(["backend", "--listen", "127.0.0.1:0", "--name", "red"]))?;
    let address = backend.wait_for_line("`listening on http://…`", |line| {
        line.split_once("listening on http://")?.1.split_whitespace().next()?.trim_end_matches('/').parse().ok()
    })?;
    let answer = http::get(address, "/")?.json()?;
    ensure!(answer["name"] == "red" && answer["address"] == address.to_string().as_str(), "{answer}");
    ensure!(answer["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1")), "{answer}");
    for (post, status) in [(None, 200), (Some("readyz=FAIL"), 500), (Some("readyz=OK"), 200)] {
        if let Some(body) = post {
            let posted = http::post(address, "/readyz", body.as_bytes())?;
            ensure!((200..300).contains(&posted.status), "posting {body}: {}", posted.status);
        }
        let ready = http::get(address, "/readyz")?.status;
        ensure!(ready == status, "after {post:?}, /readyz answers {ready}");
    }
    Ok(())
}

/// The log, which is no terminal here, is coloured where that was asked for.
#[test]
fn colours_are_as_they_were_asked_for() -> Result<()> {
    for (choice, coloured) in [("always", true), ("auto", false), ("never", false)] {
        // It ends after its first line.
        let arguments = ["run", "--color", choice, "-f", "nothing", "--node-port-addresses", "nonsense"];
        let output = Command::new(binary()?).args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(said.contains("virtual addresses") && said.contains("\x1b[") == coloured, "{choice}: {said}");
    }
    Ok(())
}

#[test]
fn help_and_completions_are_there() -> Result<()> {
    let help = pointsman(["--help"])?;
    for command in ["run", "route", "check", "policy", "backend"] {
        ensure!(help.contains(command), "no {command} in {help}");
        let own = pointsman([command, "--help"])?;
        ensure!(own.lines().count() > 5, "{command} --help teaches nothing: {own}");
    }
    for shell in ["bash", "zsh", "fish"] {
        ensure!(pointsman(["completions", shell])?.contains("pointsman"), "completions for {shell}");
    }
    ensure!(pointsman(["--version"])?.starts_with("pointsman "), "--version");
    Ok(())
}
