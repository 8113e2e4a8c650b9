//! J9: policies from a registry, a real one: pushed, pulled, named in annotations under traffic; and registries that are down, closed, or
//! not to be trusted.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use pointsman_guests::Component;
use pointsman_tests::engine::{Launch, binary};
use pointsman_tests::load::{self, Flow};
use pointsman_tests::range::client;
use pointsman_tests::registry::{Guard, Registry, TOKENS};
use pointsman_tests::{Range, poll, process};
use serde_json::Value;
use tempfile::TempDir;

use crate::site::{Site, WEB};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// A registry, and somebody at a terminal with a home of their own.
struct Desk {
    registry: Registry,
    range: Range,
    home: TempDir,
}

impl Desk {
    fn new(test: &str, guard: Guard) -> Result<Self> {
        let range = Range::claim(test)?;
        let registry = Registry::start(range.backend_ip(80), guard)?;
        Ok(Self { registry, range, home: tempfile::tempdir()? })
    }

    /// `127.x.y.z:port/REST`.
    fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.registry.address())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.env("HOME", self.home.path()).env_remove("DOCKER_CONFIG").env_remove("XDG_CACHE_HOME").current_dir(self.home.path());
        Ok(command)
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        process::run(self.command()?.args(arguments)).map(|output| output.trim().to_owned())
    }

    /// What a command complains about.
    fn complaint(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command()?.args(arguments).output()?;
        ensure!(output.status.code() == Some(2), "{arguments:?} ended with {}", output.status);
        Ok(String::from_utf8(output.stderr)?)
    }

    /// Pushes a component, and returns the reference with its digest.
    fn push(&self, rest: &str, component: &str) -> Result<String> {
        let file = self.file(&format!("{component}.push"));
        std::fs::write(&file, bytes(component)?)?;
        self.run(&["policy", "push", &self.reference(rest), &file.display().to_string()])
    }

    /// A site whose host may pull from this registry, and has a cache in this home.
    fn site(&self, test: &str, allowed: &str) -> Result<Site> {
        let (home, allowed) = (format!("HOME={}", self.home.path().display()), allowed.to_owned());
        let launch = move |launch: Launch<'static>| launch.under(["env", &home]).arguments(["--allow-policy-registry", &allowed]);
        Site::named_as(test, &NAMES, |service| service, launch)
    }
}

fn bytes(component: &str) -> Result<&'static [u8]> {
    Ok(Component::named(component).with_context(|| format!("no component `{component}`"))?.bytes)
}

/// A manifest as other tools see it.
fn manifest(desk: &Desk, rest: &str) -> Result<Value> {
    let url = format!("http://{}/v2/{rest}", desk.registry.address());
    let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
    Ok(serde_json::from_str(&process::run(Command::new("curl").args(["-sS", "--fail", "--max-time", "10", "-H", accept, &url]))?)?)
}

/// What the balancer's stage of a fresh decision says.
fn balancer(site: &Site) -> Result<Value> {
    load::ask(site.address()?, None)?;
    let before = site.engine.metrics()?.sum("pointsman_connections_total", &[]) as usize;
    let decisions = site.engine.decisions_at_least(before)?;
    decisions.last().map(|decision| decision["stages"][2].clone()).context("no decision")
}

/// Waits until a policy decides, by itself, and says by which component.
fn decided_by(site: &Site, policy: &str) -> Result<String> {
    poll::until(&format!("a decision by {policy}"), || {
        let stage = balancer(site)?;
        let own = stage["policy"] == policy && stage["fallback"].is_null();
        if own { Ok(stage["digest"].as_str().map(str::to_owned)) } else { bail!("{stage}") }
    })
}

fn contains(said: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(said.contains(word), "{word:?} is not in: {said}");
    }
    Ok(())
}

/// The same bytes come back, by tag and by digest; the digest hangs on the component alone; other tools see a Wasm artifact.
#[test]
fn what_was_pushed_is_pulled() -> Result<()> {
    let desk = Desk::new("oci_push_pull", Guard::Nobody)?;
    let pinned = desk.push("team/maglev:1.0", "maglev")?;
    let (tagged, digest) = pinned.split_once('@').context("no digest")?;
    ensure!(tagged == desk.reference("team/maglev:1.0") && digest.starts_with("sha256:"), "{pinned}");
    ensure!(desk.push("team/maglev:1.0", "maglev")? == pinned, "another push of the same is the same");
    ensure!(desk.push("another/name:2", "maglev")?.ends_with(digest), "and so it is under another name");

    let pulled = desk.run(&["policy", "pull", &desk.reference("team/maglev:1.0")])?;
    ensure!(pulled == pinned, "{pulled}");
    ensure!(std::fs::read(desk.file("maglev.wasm"))? == bytes("maglev")?, "other bytes came back");
    let by_digest = desk.reference(&format!("team/maglev@{digest}"));
    let (file, cache) = (desk.file("copy.wasm"), desk.file("fresh"));
    let (file, cache) = (file.display().to_string(), cache.display().to_string());
    desk.run(&["policy", "pull", &by_digest, "-o", &file, "--policy-cache", &cache])?;
    ensure!(std::fs::read(&file)? == bytes("maglev")?, "by digest, other bytes came back");

    let manifest = manifest(&desk, &format!("team/maglev/manifests/{digest}"))?;
    ensure!(manifest["config"]["mediaType"] == "application/vnd.wasm.config.v0+json", "{manifest}");
    ensure!(manifest["layers"][0]["mediaType"] == "application/wasm", "{manifest}");
    let again = desk.complaint(&["policy", "pull", &desk.reference("team/maglev:1.0")])?;
    contains(&again, &["maglev.wasm is there already", "-o maglev.wasm"])
}

/// Every mistake is named, with what to do.
#[test]
fn mistakes_are_named() -> Result<()> {
    let mut desk = Desk::new("oci_mistakes", Guard::Nobody)?;
    desk.push("team/maglev:1.0", "maglev")?;
    let said = desk.complaint(&["policy", "pull", &desk.reference("team/maglev:9.9")])?;
    contains(&said, &["has no", "team/maglev:9.9", "look at the name and the version"])?;
    let said = desk.complaint(&["policy", "pull", &desk.reference("team/nonesuch:1.0")])?;
    contains(&said, &["has no", "team/nonesuch:1.0"])?;
    let said = desk.complaint(&["policy", "pull", "team/maglev:1.0"])?;
    contains(&said, &["does not look like a registry"])?;
    let said = desk.complaint(&["policy", "pull", &desk.reference("team/maglev")])?;
    contains(&said, &["names no version", "add a tag"])?;
    std::fs::write(desk.file("text.wasm"), "no component")?;
    let said = desk.complaint(&["policy", "push", &desk.reference("team/text:1"), "text.wasm"])?;
    contains(&said, &["text.wasm is not pushed", "WebAssembly"])?;
    desk.registry.stop();
    let said = desk.complaint(&["policy", "pull", &desk.reference("team/maglev:1.0")])?;
    contains(&said, &["cannot be reached: Connection refused"])
}

/// A registry that was tampered with, or that lies: what has another digest is not used, and not kept.
#[test]
fn an_altered_component_is_not_used() -> Result<()> {
    let desk = Desk::new("oci_altered", Guard::Nobody)?;
    let pinned = desk.push("team/random:1", "random")?;
    let layer = manifest(&desk, "team/random/manifests/1")?["layers"][0]["digest"].as_str().context("no layer")?.to_owned();
    let blob = desk.registry.blob(layer.trim_start_matches("sha256:"));
    let mut altered = std::fs::read(&blob)?;
    ensure!(altered == bytes("random")?, "the blob is another file");
    let last = altered.last_mut().context("empty")?;
    *last ^= 1;
    std::fs::write(&blob, &altered)?;
    for reference in [&pinned, &desk.reference("team/random:1")] {
        let said = desk.complaint(&["policy", "pull", reference])?;
        contains(&said, &["was altered", &layer, "it is not used"])?;
        ensure!(!desk.file("random.wasm").exists(), "it was written all the same");
    }
    Ok(())
}

/// By digest, what was pulled once needs no registry; and a cache that was tampered with is not believed.
#[test]
fn what_was_pulled_needs_no_registry() -> Result<()> {
    let mut desk = Desk::new("oci_cache", Guard::Nobody)?;
    let pinned = desk.push("team/random:1", "random")?;
    desk.run(&["policy", "pull", &pinned, "-o", "first.wasm"])?;
    desk.registry.stop();
    ensure!(desk.run(&["policy", "pull", &pinned, "-o", "second.wasm"])? == pinned);
    ensure!(std::fs::read(desk.file("second.wasm"))? == bytes("random")?, "other bytes");
    let said = desk.complaint(&["policy", "pull", &desk.reference("team/random:1"), "-o", "third.wasm"])?;
    contains(&said, &["cannot be reached"])?;
    let kept = desk.file(".cache/pointsman/registry/sha256");
    for file in std::fs::read_dir(kept)? {
        std::fs::write(file?.path(), "something else")?;
    }
    let said = desk.complaint(&["policy", "pull", &pinned, "-o", "fourth.wasm"])?;
    contains(&said, &["cannot be reached"])
}

/// A registry that knows its users: by the command line, and as `docker login` leaves it.
#[test]
fn a_registry_that_wants_a_password_gets_it() -> Result<()> {
    let desk = Desk::new("oci_password", Guard::Password)?;
    std::fs::write(desk.file("maglev.wasm"), bytes("maglev")?)?;
    for (name, password) in [("good", "wonder\n"), ("bad", "guess")] {
        std::fs::write(desk.file(name), password)?;
    }
    let reference = desk.reference("team/maglev:1");
    let push = ["policy", "push", &reference, "maglev.wasm"];
    let said = desk.complaint(&push)?;
    contains(&said, &["does not let us push to team/maglev: 401", "docker login", "--username and --password-file"])?;
    let said = desk.complaint(&[&push[..], &["--username", "alice", "--password-file", "bad"]].concat())?;
    contains(&said, &["we are \"alice\" there", "is the password good?"])?;
    ensure!(!said.contains("guess"), "the password is shown: {said}");
    let pinned = desk.run(&[&push[..], &["--username", "alice", "--password-file", "good"]].concat())?;
    let said = desk.complaint(&["policy", "pull", &pinned, "-o", "copy.wasm"])?;
    contains(&said, &["does not let us pull team/maglev"])?;
    std::fs::create_dir(desk.file(".docker"))?;
    // alice:wonder
    let config = serde_json::json!({"auths": {desk.registry.address().to_string(): {"auth": "YWxpY2U6d29uZGVy"}}});
    std::fs::write(desk.file(".docker/config.json"), config.to_string())?;
    ensure!(desk.run(&["policy", "pull", &pinned, "-o", "copy.wasm"])? == pinned);
    ensure!(std::fs::read(desk.file("copy.wasm"))? == bytes("maglev")?, "other bytes");
    Ok(())
}

/// A login that Docker's configuration leaves to a program; the program is told the registry's name.
#[test]
fn a_program_that_keeps_passwords_is_asked() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new("oci_helper", Guard::Password)?;
    std::fs::write(desk.file("maglev.wasm"), bytes("maglev")?)?;
    let address = desk.registry.address();
    std::fs::create_dir(desk.file(".docker"))?;
    std::fs::write(desk.file(".docker/config.json"), serde_json::json!({"credHelpers": {address.to_string(): "desk"}}).to_string())?;
    let push = ["policy", "push", &desk.reference("team/maglev:1"), "maglev.wasm"];
    let said = desk.complaint(&push)?;
    contains(&said, &["does not let us push to team/maglev: 401", "docker-credential-desk", "No such file", "docker login"])?;

    let program = desk.file("docker-credential-desk");
    let answer = r#"{"Username": "alice", "Secret": "wonder"}"#;
    let script = format!("#!/bin/sh\n[ \"$1\" = get ] && [ \"$(cat)\" = {address} ] || exit 1\necho '{answer}'\n");
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let path = format!("{}:{}", desk.home.path().display(), std::env::var("PATH")?);
    let asking = |arguments: &[&str]| process::run(desk.command()?.env("PATH", &path).args(arguments));
    let pinned = asking(&push)?.trim().to_owned();
    asking(&["policy", "pull", &pinned, "-o", "copy.wasm"])?;
    ensure!(std::fs::read(desk.file("copy.wasm"))? == bytes("maglev")?, "other bytes");
    Ok(())
}

/// Certificates are checked, also on this machine, where a registry without TLS would do.
#[test]
fn a_certificate_that_nobody_trusts_is_refused() -> Result<()> {
    let desk = Desk::new("oci_tls", Guard::Tls)?;
    std::fs::write(desk.file("maglev.wasm"), bytes("maglev")?)?;
    let push = ["policy", "push", &desk.reference("team/maglev:1"), "maglev.wasm"];
    let said = desk.complaint(&push)?;
    contains(&said, &["cannot be reached: TLS: invalid peer certificate"])?;
    let trusting = |arguments: &[&str]| process::run(desk.command()?.env("SSL_CERT_FILE", desk.registry.certificate()).args(arguments));
    let pinned = trusting(&push)?.trim().to_owned();
    ensure!(trusting(&["policy", "pull", &pinned, "-o", "copy.wasm"])?.trim() == pinned);
    ensure!(std::fs::read(desk.file("copy.wasm"))? == bytes("maglev")?, "other bytes");
    Ok(())
}

/// A registry with TLS that gives out tokens without it would have the password told to the whole network.
#[test]
fn a_password_does_not_leave_tls() -> Result<()> {
    let desk = Desk::new("oci_tokens", Guard::Tokens)?;
    for (name, text) in [("maglev.wasm", bytes("maglev")?), ("password", &b"wonder"[..])] {
        std::fs::write(desk.file(name), text)?;
    }
    let push = ["policy", "push", &desk.reference("team/maglev:1"), "maglev.wasm", "--username", "alice", "--password-file", "password"];
    let output = desk.command()?.env("SSL_CERT_FILE", desk.registry.certificate()).args(push).output()?;
    let said = String::from_utf8(output.stderr)?;
    contains(&said, &["does not let us push to team/maglev", &format!("it gives out tokens at {TOKENS}, without TLS")])
}

/// By annotation, under traffic: each reference takes over when it is there, no connection fails, and what no Service names any more goes.
#[test]
fn an_annotation_names_a_policy_in_a_registry() -> Result<()> {
    let desk = Desk::new("oci_annotation_registry", Guard::Nobody)?;
    let (maglev, random) = (desk.push("team/maglev:1", "maglev")?, desk.push("team/random:1", "random")?);
    let site = desk.site("oci_annotation", &desk.reference("team"))?;
    let flow = Flow::start(site.address()?, 200);
    flow.pass(50)?;
    site.service(|service| service.annotation("balancer", &maglev))?;
    let first = decided_by(&site, &maglev)?;
    ensure!(first == site.engine.digest("balancer", "maglev")?, "the same component as the built-in one, not {first}");
    let tally = load::side_by_side(site.address()?, 1, 30, |_| Some(client(5)));
    ensure!(tally.by_name.len() == 1, "Maglev keeps a client where it is: {tally:?}");

    let by_tag = desk.reference("team/random:1");
    site.service(|service| service.annotation("balancer", &by_tag))?;
    let second = decided_by(&site, &by_tag)?;
    ensure!(second == site.engine.digest("balancer", "random")?, "{second}");
    let event = site.engine.event("what the tag stands for", |event| event.to_string().contains(&format!("a pull of {random}")))?;
    ensure!(event["severity"] == "info", "{event}");
    poll::until("the first one to be gone", || Ok(site.engine.digest("balancer", &maglev).is_err().then_some(())))?;
    site.service(|service| service)?;
    decided_by(&site, "round-robin")?;
    let tally = flow.stop();
    ensure!(tally.failures.is_empty(), "{tally:?}");
    Ok(())
}

/// A tag that moves takes nobody along, until it is asked for anew.
#[test]
fn a_tag_is_looked_up_once() -> Result<()> {
    let desk = Desk::new("oci_tag_registry", Guard::Nobody)?;
    let tagged = desk.reference("team/mine:1");
    let first = desk.push("team/mine:1", "maglev")?;
    let site = desk.site("oci_tag", &desk.reference("team"))?;
    let maglev = site.engine.digest("balancer", "maglev")?;
    site.service(|service| service.annotation("balancer", &tagged))?;
    ensure!(decided_by(&site, &tagged)? == maglev);
    let second = desk.push("team/mine:1", "random")?;
    ensure!(first != second, "the tag has not moved");
    let generation = site.engine.generation()?;
    site.service(|service| service.annotation("balancer", &tagged).annotation("max-connection-age", "1h"))?;
    poll::until("a table of the changed Service", || Ok((site.engine.generation()? > generation).then_some(())))?;
    ensure!(decided_by(&site, &tagged)? == maglev, "another change of the Service moved it");

    site.service(|service| service)?;
    decided_by(&site, "round-robin")?;
    poll::until("it to be let go", || Ok(site.engine.digest("balancer", &tagged).is_err().then_some(())))?;
    site.service(|service| service.annotation("balancer", &tagged))?;
    ensure!(decided_by(&site, &tagged)? == site.engine.digest("balancer", "random")?);
    Ok(())
}

/// A registry that the operator has not named is not asked, and the event says by which flag it would be.
#[test]
fn a_registry_that_is_not_allowed_is_not_asked() -> Result<()> {
    let mut desk = Desk::new("oci_not_allowed_registry", Guard::Nobody)?;
    let pinned = desk.push("team/maglev:1", "maglev")?;
    let site = desk.site("oci_not_allowed", &desk.reference("another-team"))?;
    // In the registry's place, somebody with whom a connection stays until it is looked for.
    let address = desk.registry.address();
    desk.registry.stop();
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    for annotation in ["balancer", "balancer-shadow"] {
        site.service(|service| service.annotation(annotation, &pinned))?;
        let told =
            |event: &Value| event.to_string().contains(&format!("/{annotation}]")) && event.to_string().contains("may not be pulled from");
        let event = site.engine.event("about the registry", told)?;
        let flag = format!("--allow-policy-registry {address}");
        ensure!(event["severity"] == "error" && event["remedy"].as_str().is_some_and(|remedy| remedy.contains(&flag)), "{event}");
    }
    load::in_a_row(site.address()?, 9).none_lost(9)?;
    ensure!(balancer(&site)?["digest"] == site.engine.digest("balancer", "round-robin")?.as_str());
    let asked = listener.accept();
    ensure!(asked.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "it was asked: {asked:?}");
    Ok(())
}

/// A balancer that is only tried may come from a registry, too: compared, then in charge of a share; and it is let go.
#[test]
fn a_candidate_may_be_in_a_registry() -> Result<()> {
    let desk = Desk::new("oci_candidate_registry", Guard::Nobody)?;
    let pinned = desk.push("team/maglev:1", "maglev")?;
    let site = desk.site("oci_candidate", &desk.reference("team"))?;
    let tried = || -> Result<Value> { site.engine.get("/shadow")?.json().map(|list: Value| list["shadows"][0]["digest"].clone()) };
    site.service(|service| service.annotation("balancer-shadow", &pinned))?;
    let maglev = site.engine.digest("balancer", "maglev")?;
    poll::until("it to be compared", || Ok((tried()? == maglev.as_str()).then_some(())))?;
    ensure!(site.engine.digest("balancer", &pinned)? == maglev, "it was the built-in one");
    load::in_a_row(site.address()?, 9).none_lost(9)?;
    site.service(|service| service.annotation("balancer-shadow", &pinned).annotation("balancer-canary", "100%"))?;
    poll::until("it to decide", || Ok((balancer(&site)?["by"] == "canary").then_some(())))?;

    // While the next one is not to be had, this one is tried on.
    let other = desk.reference("another-team/maglev:1");
    site.service(|service| service.annotation("balancer-shadow", &other))?;
    let event = site.engine.event("about the registry", |event| event.to_string().contains("may not be pulled from"))?;
    contains(&event.to_string(), &["balancer-shadow", &other, &format!("{pinned} is used instead")])?;
    ensure!(site.engine.digest("balancer", &pinned).is_ok() && tried()? == maglev.as_str(), "it was let go");
    site.service(|service| service)?;
    poll::until("it to be let go", || Ok(site.engine.digest("balancer", &pinned).is_err().then_some(())))
}

/// While the registry is down, what the Service had goes on; when it is up again, the policy takes over by itself. A host that starts again
/// has it from its cache, registry or not.
#[test]
fn a_registry_that_is_down_is_waited_for() -> Result<()> {
    let mut desk = Desk::new("oci_down_registry", Guard::Nobody)?;
    let pinned = desk.push("team/maglev:1", "maglev")?;
    let allowed = desk.registry.address().to_string();
    desk.registry.stop();
    let site = desk.site("oci_down", &allowed)?;
    site.service(|service| service.annotation("balancer", "random"))?;
    decided_by(&site, "random")?;
    let flow = Flow::start(site.address()?, 200);
    site.service(|service| service.annotation("balancer", &pinned))?;
    let event = site.engine.event("about the registry", |event| event.to_string().contains("could not be pulled"))?;
    contains(&event.to_string(), &["Connection refused", "random is used instead", "tried again"])?;
    flow.pass(100)?;
    ensure!(balancer(&site)?["digest"] == site.engine.digest("balancer", "random")?.as_str(), "what it had before goes on");
    desk.registry.resume()?;
    decided_by(&site, &pinned)?;
    let tally = flow.stop();
    ensure!(tally.failures.is_empty(), "{tally:?}");

    desk.registry.stop();
    let Site { engine, manifests, backends: _backends, range } = site;
    drop(engine);
    let home = format!("HOME={}", desk.home.path().display());
    let launch = Launch::new(&range, manifests.path())?.under(["env", &home]).arguments(["--allow-policy-registry", &allowed]);
    let engine = launch.start()?;
    load::ask(engine.frontend(WEB, "cluster-ip")?, None)?;
    let decisions = engine.decisions_at_least(1)?;
    let stage = &decisions[0]["stages"][2];
    ensure!(stage["policy"] == pinned && stage["fallback"].is_null(), "the first decision after the restart: {stage}");
    ensure!(stage["digest"] == engine.digest("balancer", "maglev")?.as_str(), "{stage}");
    Ok(())
}

/// What is pulled goes through the checks of every swap: one that traps is refused, with the reason, and is in force nowhere.
#[test]
fn a_pulled_policy_that_is_not_fit_is_refused() -> Result<()> {
    let desk = Desk::new("oci_unfit_registry", Guard::Nobody)?;
    let unfit = desk.push("team/trap:1", "always-trap")?;
    let selector = desk.push("team/selector:1", "label-selector")?;
    let site = desk.site("oci_unfit", &desk.registry.address().to_string())?;
    let flow = Flow::start(site.address()?, 200);
    site.service(|service| service.annotation("balancer", &unfit))?;
    let event = site.engine.event("about the component", |event| event.to_string().contains("was pulled and refused"))?;
    contains(&event.to_string(), &["self-test", "round-robin is used instead"])?;
    site.service(|service| service.annotation("balancer", &selector))?;
    site.engine.event("about its stage", |event| event.to_string().contains("is a selector, not a balancer"))?;
    flow.pass(50)?;
    let tally = flow.stop();
    ensure!(tally.failures.is_empty(), "{tally:?}");
    Ok(())
}

/// Commands that open no socket judge a reference by the cache, and say so.
#[test]
fn check_knows_what_was_pulled() -> Result<()> {
    let desk = Desk::new("oci_check", Guard::Nobody)?;
    let pinned = desk.push("team/maglev:1", "maglev")?;
    let service = pointsman_tests::manifest::Service::new("web").cluster_ip(desk.range.cluster_ip(10)).port("{port: 8080}");
    std::fs::write(desk.file("service.yaml"), service.annotation("balancer", &pinned).annotation("balancer-shadow", &pinned).yaml())?;
    let allowed = desk.registry.address().to_string();
    let check = ["check", "-f", "service.yaml", "--allow-policy-registry", &allowed, "--service-cidr", &desk.range.service_cidr()];
    let said = desk.run(&check)?;
    contains(&said, &["is not in the cache, and this command opens no socket; round-robin is used instead", "; nobody is tried"])?;
    contains(&said, &["/balancer]: ", "/balancer-shadow]: ", &format!("pointsman policy pull {pinned}")])?;
    ensure!(!said.contains("service.yaml:1"), "a finding without the place of its annotation: {said}");
    desk.run(&["policy", "pull", &pinned])?;
    let said = desk.run(&check)?;
    ensure!(!said.contains("cache"), "{said}");
    Ok(())
}

/// A cache is a folder that only its owner can look into.
#[test]
fn the_cache_is_the_owners() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new("oci_cache_mode", Guard::Nobody)?;
    let pinned = desk.push("team/maglev:1", "maglev")?;
    desk.run(&["policy", "pull", &pinned])?;
    for folder in [".cache/pointsman", ".cache/pointsman/registry/sha256"] {
        let mode = std::fs::metadata(desk.file(folder))?.permissions().mode() & 0o777;
        ensure!(mode == 0o700, "{folder}: {mode:o}");
    }
    ensure!(std::fs::metadata(desk.file("maglev.wasm"))?.permissions().mode() & 0o777 == 0o644, "the file is for everybody to read");
    Ok(())
}
