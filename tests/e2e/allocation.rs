//! Addresses and ports that the host gives out or takes over: load-balancer pools, host ports, health-check ports, node addresses; and
//! what may not change once it is given.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use pointsman_tests::engine::Launch;
use pointsman_tests::manifest::{Pod, Service, endpoints};
use pointsman_tests::netns::Namespace;
use pointsman_tests::process::run;
use pointsman_tests::{Backend, Engine, Manifests, Range, load, poll};
use serde_json::Value;

use crate::nodes::available;

/// A Service of type LoadBalancer with the same backend as all others of the test.
fn balanced(name: &str) -> Service {
    Service::new(name).spec("type", "LoadBalancer").port("{port: 8080}")
}

/// An engine over these Services, each a file of its own, with one backend behind all of them that says `web`.
fn serve(range: &Range, services: &[(&str, Service)], arguments: &[&str]) -> Result<(Engine, Manifests, Backend)> {
    let (manifests, backend) = (Manifests::new()?, Backend::named(range.backend_ip(0), "web")?);
    for (name, service) in services {
        manifests.write(&format!("{name}.yaml"), &(service.yaml() + &endpoints(name, &[backend.address()])))?;
    }
    let engine = Launch::new(range, manifests.path())?.arguments(arguments).start()?;
    Ok((engine, manifests, backend))
}

fn answers(address: SocketAddr) -> Result<()> {
    let name = load::ask(address, None).with_context(|| format!("asking {address}"))?;
    ensure!(name == "web", "{address} answered {name:?}");
    Ok(())
}

fn refuses(address: impl Into<SocketAddr>) -> Result<()> {
    let address = address.into();
    let refused = load::connect(address, None).map(drop).map_err(|error| error.kind());
    ensure!(refused == Err(ErrorKind::ConnectionRefused), "connecting to {address} gave {refused:?}");
    Ok(())
}

/// A Service as `/objects/services` shows it.
fn shown(engine: &Engine, name: &str) -> Result<Value> {
    let list = engine.get("/objects/services")?.json()?;
    let found = list["items"].as_array().and_then(|items| items.iter().find(|item| item["metadata"]["name"] == name));
    found.cloned().with_context(|| format!("no Service {name} in {list}"))
}

/// `status.loadBalancer.ingress`, the addresses.
fn ingress(engine: &Engine, name: &str) -> Result<Vec<Ipv4Addr>> {
    let service = shown(engine, name)?;
    let entries = service["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| Ok(entry["ip"].as_str().context("no ip")?.parse()?)).collect()
}

fn kinds(engine: &Engine, service: &str) -> Result<Vec<String>> {
    Ok(engine.bound()?.into_iter().filter(|bound| bound.service == service).map(|bound| bound.frontend).collect())
}

/// Of four Services with a pool, one draws, one has the address that it asks for, and one of another provider's class and one whose
/// status is somebody else's are left alone.
#[test]
fn load_balancers_get_addresses_from_the_pool() -> Result<()> {
    let range = Range::claim("load_balancers_get_addresses")?;
    let asked = range.external_ip(13);
    let services = [
        ("asks", balanced("asks").spec("loadBalancerIP", asked)),
        ("draws", balanced("draws")),
        ("foreign", balanced("foreign").spec("loadBalancerClass", "example.com/other")),
        ("named", balanced("named").spec("loadBalancerClass", "pointsman.dev/pool")),
        ("written", balanced("written").ingress(range.external_ip(40))),
    ];
    // Of eight addresses, six are hosts'.
    let pool = format!("{}/29", range.external_ip(8));
    let (engine, _manifests, _backend) = serve(&range, &services, &["--load-balancer-pool", &pool])?;
    let mut given = Vec::new();
    for name in ["asks", "draws", "named"] {
        let bound = engine.frontend(&format!("default/{name}:8080"), "load-balancer")?;
        answers(bound)?;
        let [ip] = ingress(&engine, name)?[..] else { bail!("{}", shown(&engine, name)?) };
        ensure!(bound == (Range::mapped(ip), 8080).into(), "{name} has {ip}, and is bound as {bound}");
        ensure!((range.external_ip(9)..=range.external_ip(14)).contains(&ip), "{ip} is not of {pool}");
        given.push(ip);
    }
    ensure!(given[0] == asked, "asked for {asked}, has {}", given[0]);
    given.sort();
    given.dedup();
    ensure!(given.len() == 3, "an address was given twice: {given:?}");
    ensure!(ingress(&engine, "foreign")?.is_empty(), "{}", shown(&engine, "foreign")?);
    ensure!(!kinds(&engine, "default/foreign:8080")?.contains(&String::from("load-balancer")), "{:?}", engine.bound()?);
    answers(engine.frontend("default/foreign:8080", "node-port")?)?;
    ensure!(ingress(&engine, "written")? == [range.external_ip(40)], "{}", shown(&engine, "written")?);
    answers(engine.frontend("default/written:8080", "load-balancer")?)
}

/// Without a pool nobody gives an address; the node port and the cluster IP answer all the same.
#[test]
fn without_a_pool_a_load_balancer_is_a_node_port() -> Result<()> {
    let range = Range::claim("without_a_pool")?;
    let (engine, _manifests, _backend) = serve(&range, &[("web", balanced("web"))], &[])?;
    answers(engine.frontend("default/web:8080", "node-port")?)?;
    answers(engine.frontend("default/web:8080", "cluster-ip")?)?;
    ensure!(ingress(&engine, "web")?.is_empty(), "{}", shown(&engine, "web")?);
    let node_port = shown(&engine, "web")?["spec"]["ports"][0]["nodePort"].as_u64();
    let bound = engine.frontend("default/web:8080", "node-port")?;
    ensure!(node_port == Some(bound.port().into()), "the object says {node_port:?}, bound is {bound}");
    ensure!(kinds(&engine, "default/web:8080")?.len() == 2, "{:?}", engine.bound()?);
    Ok(())
}

/// A pool of one address: the second Service waits, which is said, and has it when the first is gone.
#[test]
fn an_address_that_became_free_goes_to_who_waits() -> Result<()> {
    let range = Range::claim("an_address_that_became_free")?;
    let pool = format!("{}/32", range.external_ip(9));
    let (engine, manifests, backend) = serve(&range, &[("first", balanced("first"))], &["--load-balancer-pool", &pool])?;
    answers(engine.frontend("default/first:8080", "load-balancer")?)?;
    manifests.write("second.yaml", &(balanced("second").yaml() + &endpoints("second", &[backend.address()])))?;
    answers(engine.frontend("default/second:8080", "node-port")?)?;
    let event = engine.event("that the second waits", |event| event["message"].as_str().is_some_and(|m| m.contains("stays pending")))?;
    ensure!(event["object"] == "Service default/second" && event["severity"] == "warning", "{event}");
    ensure!(ingress(&engine, "second")?.is_empty(), "{}", shown(&engine, "second")?);
    manifests.remove("first.yaml")?;
    let bound = engine.frontend("default/second:8080", "load-balancer")?;
    answers(bound)?;
    ensure!(ingress(&engine, "second")? == [range.external_ip(9)], "{}", shown(&engine, "second")?);
    ensure!(bound == (Range::mapped(range.external_ip(9)), 8080).into(), "bound as {bound}");
    Ok(())
}

/// hostPort: the node's address answers for the pod, ready or not, as long as it is there. A pod on the host's network listens by itself.
#[test]
fn a_host_port_leads_to_its_pod() -> Result<()> {
    let range = Range::claim("a_host_port_leads")?;
    let backend = Backend::named(range.backend_ip(0), "web")?;
    let pod =
        |ready| Pod::new("p0", "app: web", range.backend_ip(0)).node("n1").host_port("http", backend.address().port(), 8081).ready(ready);
    let manifests = Manifests::with("pod.yaml", &pod(false).yaml())?;
    let elsewhere = Pod::new("p1", "app: web", range.backend_ip(1)).node("n2").host_port("http", 8080, 8082);
    let on_host = Pod::new("p2", "app: web", range.node_ip()).node("n1").host_port("http", 8083, 8083).host_network();
    manifests.write("others.yaml", &(elsewhere.yaml() + &on_host.yaml()))?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    let node: SocketAddr = (range.node_ip(), 8081).into();
    poll::until("the host port", || Ok((!engine.bound()?.is_empty()).then_some(())))?;
    let bound = engine.bound()?;
    let [only] = &bound[..] else { bail!("one host port of one pod here: {bound:?}") };
    ensure!((only.frontend.as_str(), only.address) == ("host-port", node), "{only:?}");
    answers(only.bound)?;
    manifests.write("pod.yaml", &pod(true).yaml())?;
    answers(node)?;
    let decisions = engine.decisions_at_least(2)?;
    let odd = decisions.iter().find(|d| d["frontend"] != "host-port" || d["endpoint"] != backend.address().to_string());
    ensure!(odd.is_none(), "{odd:?}");
    manifests.remove("pod.yaml")?;
    poll::until("nothing listening", || Ok(engine.bound()?.is_empty().then_some(())))?;
    refuses(node)?;
    ensure!(engine.events()?.iter().all(|event| event["severity"] != "error"), "{:?}", engine.events()?);
    Ok(())
}

/// kube-proxy's answer on healthCheckNodePort (kubernetes-semantics 3.15): 200 while a ready endpoint is on this node, else 503.
#[test]
fn the_health_check_port_answers_as_kube_proxys() -> Result<()> {
    let range = Range::claim("the_health_check_port")?;
    let backends = [Backend::named(range.backend_ip(0), "p0")?, Backend::named(range.backend_ip(1), "p1")?];
    let service = balanced("web").spec("externalTrafficPolicy", "Local").spec("healthCheckNodePort", 32_100).selector("app", "web");
    let service = Service::spec(service, "loadBalancerIP", range.external_ip(9));
    let text = service.yaml().replace("{port: 8080}", "{port: 8080, targetPort: http}");
    let manifests = Manifests::with("service.yaml", &text)?;
    let pod = |n: usize, node: &str, ready: bool| {
        let pod = Pod::new(&format!("p{n}"), "app: web", backends[n].address().ip()).node(node).port("http", backends[n].address().port());
        manifests.write(&format!("p{n}.yaml"), &pod.ready(ready).yaml())
    };
    pod(0, "n1", true)?;
    pod(1, "n2", true)?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    engine.frontend("default/web:8080", "node-port")?;
    let url = format!("http://{}:32100/anything", range.node_ip());
    let asked = || run(Command::new("curl").args(["-sS", "-i", "--max-time", "10", &url]));
    let until = |status: &str, local: u32| {
        let body = format!(
            "{{\n\t\"service\": {{\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"web\"\n\t}},\n\t\"localEndpoints\": {local},\n\t\
             \"serviceProxyHealthy\": true\n}}"
        );
        poll::until(&format!("{status} with {local} local endpoints"), || {
            let answer = asked()?;
            let (head, said) = answer.split_once("\r\n\r\n").context("no end of head")?;
            let head = head.to_ascii_lowercase();
            let weight = format!("x-load-balancing-endpoint-weight: {local}");
            let headers = ["content-type: application/json", "x-content-type-options: nosniff", &weight];
            let fits = head.contains(&format!(" {status}")) && headers.iter().all(|header| head.lines().any(|line| line == *header));
            if fits && said == body { Ok(Some(())) } else { bail!("{answer}") }
        })
    };
    until("200", 1)?;
    pod(1, "n1", true)?;
    until("200", 2)?;
    pod(0, "n1", false)?;
    until("200", 1)?;
    pod(1, "n2", true)?;
    until("503", 0)?;
    ensure!(shown(&engine, "web")?["spec"]["healthCheckNodePort"] == 32_100, "{}", shown(&engine, "web")?);
    manifests.remove("service.yaml")?;
    poll::until("the port to be given up", || Ok(refuses((range.node_ip(), 32_100)).is_ok().then_some(())))
}

/// A live Service's cluster IP may not change: that is said, and the old address goes on answering. What is left out is kept.
#[test]
fn a_cluster_ip_may_not_change_once_set() -> Result<()> {
    let range = Range::claim("a_cluster_ip_may_not_change")?;
    let service = |n: u8| Service::new("web").cluster_ip(range.cluster_ip(n)).port("{port: 8080}");
    let (engine, manifests, backend) = serve(&range, &[("web", service(10))], &[])?;
    let address = engine.frontend("default/web:8080", "cluster-ip")?;
    answers(address)?;
    let ends = endpoints("web", &[backend.address()]);
    manifests.write("web.yaml", &(service(11).yaml() + &ends))?;
    let refused = |event: &Value| event["message"].as_str().is_some_and(|message| message.contains("may not change once set"));
    let event = engine.event("that it may not change", refused)?;
    ensure!(event["severity"] == "error" && event["object"] == "Service default/web", "{event}");
    ensure!(event["field"].as_str().is_some_and(|field| field.starts_with("spec.clusterIP")), "{event}");
    ensure!(engine.frontend("default/web:8080", "cluster-ip")? == address, "{:?}", engine.bound()?);
    answers(address)?;
    refuses((Range::mapped(range.cluster_ip(11)), 8080))?;

    let generation = engine.generation()?;
    let unsaid = Service::new("web").port("{port: 8080}").annotation("balancer", "random");
    manifests.write("web.yaml", &(unsaid.yaml() + &ends))?;
    poll::until("the next table", || Ok((engine.generation()? > generation).then_some(())))?;
    ensure!(engine.frontend("default/web:8080", "cluster-ip")? == address, "an address that was left out: {:?}", engine.bound()?);
    let decision = engine.decisions()?.len();
    answers(address)?;
    let balancer = engine.decisions_at_least(decision + 1)?[decision]["stages"][2]["policy"].clone();
    ensure!(balancer == "random", "the rest of the change is in force: {balancer}");
    Ok(())
}

/// `--node-port-addresses CIDR`: of the node's addresses, those in the range.
#[test]
fn node_ports_listen_in_the_ranges_that_are_named() -> Result<()> {
    let range = Range::claim("node_ports_listen_in_the_ranges")?;
    let service = Service::new("web").spec("type", "NodePort").port("{port: 8080, nodePort: 31398}");
    let (second, cidr) = (range.backend_ip(90).to_string(), format!("{}/32", range.backend_ip(90)));
    let (engine, _manifests, _backend) = serve(&range, &[("web", service)], &["--node-ip", &second, "--node-port-addresses", &cidr])?;
    let bound = engine.frontend("default/web:8080", "node-port")?;
    ensure!(bound == (range.backend_ip(90), 31_398).into(), "bound as {bound}");
    answers(bound)?;
    refuses((range.node_ip(), 31_398))?;
    ensure!(kinds(&engine, "default/web:8080")? == ["cluster-ip", "node-port"], "{:?}", engine.bound()?);
    Ok(())
}

/// `--node-port-addresses primary`: the first that other machines reach, of each family. In a namespace, whose addresses are known.
#[test]
fn node_ports_listen_on_the_primary_address() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let node = Namespace::new("primary")?;
    let ips = ["10.60.0.1", "10.60.0.2"];
    for ip in ips {
        node.run("ip", ["addr", "add", &format!("{ip}/32"), "dev", "lo"])?;
    }
    let backend = node.enter(|| Backend::named(Ipv4Addr::LOCALHOST, "web"))?;
    let service = Service::new("web").spec("type", "NodePort").port("{port: 8080, nodePort: 31398}");
    let manifests = Manifests::with("all.yaml", &(service.yaml() + &endpoints("web", &[backend.address()])))?;
    let launch = Launch::bare(manifests.path(), "n1", ips[0], "anyip")?;
    let launch = launch.arguments(["--node-ip", ips[1], "--node-port-addresses", "primary", "--service-cidr", "10.97.0.0/16"]);
    let engine = launch.inside(&node).start()?;
    let bound = engine.frontend("default/web:8080", "node-port")?;
    ensure!(bound == SocketAddr::new(ips[0].parse::<IpAddr>()?, 31_398), "bound as {bound}");
    let second = SocketAddr::new(ips[1].parse()?, 31_398);
    node.enter(|| answers(bound).and_then(|()| refuses(second)))?;
    let node_ports = engine.bound()?.into_iter().filter(|bound| bound.frontend == "node-port").count();
    ensure!(node_ports == 1, "{:?}", engine.bound()?);
    Ok(())
}
