//! J9: mistakes that people make in files, seen in tutorials. Each gets an event that names file, line and field, and what to do; the
//! rest is applied, and nothing that worked before stops.

use anyhow::{Context, Result, ensure};
use pointsman_tests::engine::pointsman;
use pointsman_tests::load;
use pointsman_tests::manifest::{Pod, Service};
use serde_json::Value;

use crate::site::Site;

struct Mistake {
    name: &'static str,
    text: String,
    /// The event's line is the one that holds this; `None`: any line of the file.
    at: Option<&'static str>,
    /// The event's field holds this.
    field: &'static str,
    /// The event says one of these.
    says: &'static [&'static str],
}

fn mistakes(site: &Site) -> Vec<Mistake> {
    let service = |name: &str| Service::new(name).port("{port: 8080}");
    let mistake = |name, text: String, at, field, says| Mistake { name, text, at, field, says };
    let plain = |name: &str| service(name).selector("app", name).yaml();
    // Never an address of another machine: should a mistake be taken for something else, it is dialled in vain here.
    let dead = site.range.backend_ip(40);
    let endpoints = |name: &str, subsets: &str| format!("apiVersion: v1\nkind: Endpoints\nmetadata:\n  name: {name}\nsubsets:\n{subsets}");
    vec![
        mistake(
            "kind.yaml",
            "apiVersion: v1\nkind: Endpoint\nmetadata:\n  name: x\nsubsets: []\n".into(),
            Some("kind: Endpoint"),
            "kind",
            &["Endpoints"],
        ),
        mistake(
            "lables.yaml",
            Pod::new("p", "app: x", dead).yaml().replace("labels:", "lables:"),
            Some("lables:"),
            "metadata.lables",
            &["labels"],
        ),
        mistake(
            "beside.yaml",
            endpoints("beside", &format!("- addresses:\n  - ip: {dead}\n- ports:\n  - port: 80\n")) + &service("beside").yaml(),
            None,
            "subsets",
            &["ports"],
        ),
        mistake(
            "range.yaml",
            Service::new("range").spec("type", "NodePort").selector("app", "x").port("{port: 8080, nodePort: 80}").yaml(),
            Some("nodePort: 80"),
            "spec.ports[0].nodePort",
            &["30000"],
        ),
        mistake("unnamed.yaml", service("unnamed").port("{port: 9090}").selector("app", "x").yaml(), None, "spec.ports", &["name"]),
        mistake(
            "outside.yaml",
            service("outside").spec("clusterIP", "172.31.0.1").yaml(),
            Some("clusterIP: 172.31.0.1"),
            "spec.clusterIP",
            &["range", "CIDR", "10."],
        ),
        mistake(
            "taken.yaml",
            service("taken").cluster_ip(site.range.cluster_ip(10)).yaml(),
            Some("clusterIP:"),
            "spec.clusterIP",
            &["default/web", "taken", "allocated", "already"],
        ),
        mistake("indentation.yaml", plain("indented").replace("  ports:", " ports:"), None, "", &[]),
        mistake(
            "elsewhere.yaml",
            endpoints("wbe", &format!("- addresses:\n  - ip: {dead}\n  ports:\n  - port: 80\n")),
            None,
            "metadata.name",
            &["web", "Service"],
        ),
        mistake("nobody.yaml", plain("ngin") + &Pod::new("p0", "app: nginx", dead).yaml(), None, "spec.selector", &["nginx"]),
        mistake(
            "target.yaml",
            Service::new("target").selector("app", "target").port("{port: 8080, targetPort: htpp}").yaml()
                + &Pod::new("p1", "app: target", dead).port("http", 80).yaml(),
            None,
            "spec.ports[0].targetPort",
            &["http"],
        ),
        mistake("empty.yaml", service("empty").spec("selector", "{}").yaml(), None, "spec.selector", &["empty", "selector"]),
    ]
}

#[test]
fn mistakes_in_files_are_located_and_nothing_else_suffers() -> Result<()> {
    let site = Site::named("mistakes_in_files", &["web"])?;
    let address = site.address()?;
    let mut unclear = Vec::new();
    for mistake in mistakes(&site) {
        site.manifests.write(mistake.name, &mistake.text)?;
        let about = |event: &Value| event["file"].as_str().is_some_and(|file| file.ends_with(mistake.name));
        match site.engine.event(mistake.name, about) {
            Err(error) => unclear.push(format!("{}: {error:#}", mistake.name)),
            Ok(_) => {
                let events: Vec<Value> = site.engine.events()?.into_iter().filter(about).collect();
                if let Err(error) = judge(&mistake, &events) {
                    unclear.push(format!("{}: {error:#}\n  in {}", mistake.name, Value::from(events)));
                }
            }
        }
        load::in_a_row(address, 3).none_lost(3).with_context(|| format!("after {} was written", mistake.name))?;
    }
    ensure!(unclear.is_empty(), "{}", unclear.join("\n"));

    // Good objects beside bad ones are applied.
    let good = Service::new("late").cluster_ip(site.range.cluster_ip(12)).port("{port: 8080}").yaml();
    site.manifests.write("late.yaml", &(good + &pointsman_tests::manifest::endpoints("late", &site.backend_addresses())))?;
    load::in_a_row(site.engine.frontend("default/late:8080", "cluster-ip")?, 3).none_lost(3)
}

fn judge(mistake: &Mistake, events: &[Value]) -> Result<()> {
    let said = |event: &&Value| {
        let text = format!("{} {}", event["message"].as_str().unwrap_or_default(), event["remedy"].as_str().unwrap_or_default());
        mistake.says.is_empty() || mistake.says.iter().any(|word| text.contains(word))
    };
    let named = |event: &&Value| mistake.field.is_empty() || event["field"].as_str().is_some_and(|field| field.contains(mistake.field));
    let event = events.iter().find(|event| said(event) && named(event)).context("no event names the field and says what to do")?;
    let line = event["line"].as_u64().context("no line")?;
    if let Some(marker) = mistake.at {
        let lines = mistake.text.lines().zip(1..);
        let expected: Vec<u64> = lines.filter(|(text, _)| text.contains(marker)).map(|(_, line)| line).collect();
        ensure!(expected.contains(&line), "line {line}, but it is in {expected:?}");
    }
    ensure!(["error", "warning"].contains(&event["severity"].as_str().unwrap_or_default()), "severity of {event}");
    Ok(())
}

/// A node port that two Services want: the first keeps it, the second is told who has it.
#[test]
fn a_taken_node_port_is_told_to_the_second() -> Result<()> {
    let site = Site::named("a_taken_node_port", &["web"])?;
    let wants = |name: &str| Service::new(name).spec("type", "NodePort").port("{port: 8080, nodePort: 31398}").yaml();
    let addresses = site.backend_addresses();
    site.manifests.write("a.yaml", &(wants("first") + &pointsman_tests::manifest::endpoints("first", &addresses)))?;
    site.engine.frontend("default/first:8080", "node-port")?;
    site.manifests.write("b.yaml", &(wants("second") + &pointsman_tests::manifest::endpoints("second", &addresses)))?;
    let event = site.engine.event("about the second's node port", |event| event.to_string().contains("31398"))?;
    let text = event.to_string();
    ensure!(text.contains("b.yaml") && text.contains("nodePort"), "{event}");
    ensure!(site.engine.frontend("default/first:8080", "node-port")?.port() == 31398, "the first lost its port");
    Ok(())
}

/// A file that was good and is broken by an edit: what it said last goes on being served, and mending it takes force.
#[test]
fn a_broken_edit_keeps_the_last_good_state() -> Result<()> {
    let site = Site::named("a_broken_edit", &["web"])?;
    let address = site.address()?;
    site.manifests.write("service.yaml", "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n spec:\n")?;
    site.engine.event("about the broken file", |event| event["file"].as_str().is_some_and(|file| file.ends_with("service.yaml")))?;
    load::in_a_row(address, 9).none_lost(9)?;
    site.service(|service| service.annotation("balancer", "random"))?;
    pointsman_tests::poll::until("the mended file to be in force", || {
        load::ask(address, None)?;
        let policy = site.engine.decisions()?.last().map(|decision| decision["stages"][2]["policy"] == "random");
        Ok(policy.unwrap_or(false).then_some(()))
    })
}

/// A file that is written in pieces, as a slow editor or a full pipe does: never an error that stays, never a gap in service.
#[test]
fn half_written_files_are_survived() -> Result<()> {
    use std::io::Write;
    let site = Site::named("half_written_files", &["web"])?;
    let address = site.address()?;
    let text = pointsman_tests::manifest::endpoints("web", &site.backend_addresses());
    let flow = load::Flow::start(address, 200);
    for _ in 0..5 {
        let mut file = std::fs::File::create(site.manifests.path().join("endpoints.yaml"))?;
        for piece in text.as_bytes().chunks(text.len() / 6 + 1) {
            file.write_all(piece)?;
            file.flush()?;
            flow.pass(3)?;
        }
    }
    flow.pass(50)?;
    let tally = flow.stop();
    // Cut after `subsets:` the file is valid and means "no endpoints": then the kernel refuses, and who was in its queue is reset, as it
    // should be. Nothing else may happen.
    let rejected = |reason: &&String| reason.contains("refused") || reason.contains("reset");
    let others: Vec<_> = tally.failures.keys().filter(|reason| !rejected(reason)).collect();
    ensure!(others.is_empty(), "{tally:?}");
    load::in_a_row(address, 3).none_lost(3)
}

/// `pointsman check` says the same of the same files, exits with 1 for an error, and with 0 when all is well.
#[test]
fn check_finds_the_same_mistakes() -> Result<()> {
    let site = Site::named("check_finds_the_same", &["web"])?;
    let folder = site.manifests.path().display().to_string();
    let cidr = site.range.service_cidr();
    let check = || pointsman(["check", "-f", &folder, "--service-cidr", &cidr]);
    check()?;
    site.manifests.write("range.yaml", &Service::new("r").spec("type", "NodePort").port("{port: 80, nodePort: 80}").yaml())?;
    let Err(error) = check() else { anyhow::bail!("check found nothing wrong with nodePort 80") };
    let text = error.to_string();
    ensure!(text.contains("range.yaml") && text.contains("spec.ports[0].nodePort"), "{text}");
    Ok(())
}
