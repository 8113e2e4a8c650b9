//! J3: every kind of address that a Service can have.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use pointsman_tests::engine::Launch;
use pointsman_tests::manifest::{Service, endpoints};
use pointsman_tests::{Backend, Engine, Manifests, Range, load};

struct Typed {
    engine: Engine,
    _backend: Backend,
    _manifests: Manifests,
    range: Range,
}

fn serve(test: &str, service: impl FnOnce(&Range) -> Service) -> Result<Typed> {
    let range = Range::claim(test)?;
    let backend = Backend::named(range.backend_ip(0), "web")?;
    let manifests = Manifests::with("all.yaml", &(service(&range).yaml() + &endpoints("web", &[backend.address()])))?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    Ok(Typed { engine, _backend: backend, _manifests: manifests, range })
}

fn answers(address: SocketAddr) -> Result<()> {
    let name = load::ask(address, None).with_context(|| format!("asking {address}"))?;
    ensure!(name == "web", "{address} answered {name:?}");
    Ok(())
}

const WEB: &str = "default/web:8080";

#[test]
fn a_chosen_cluster_ip_is_served() -> Result<()> {
    let site = serve("a_chosen_cluster_ip", |range| Service::new("web").cluster_ip(range.cluster_ip(7)).port("{port: 8080}"))?;
    let bound = site.engine.frontend(WEB, "cluster-ip")?;
    ensure!(bound == (Range::mapped(site.range.cluster_ip(7)), 8080).into(), "10.x.y.7 is bound as {bound}");
    let said = site.engine.bound()?;
    ensure!(said[0].address == (site.range.cluster_ip(7), 8080).into(), "/bound names another address: {said:?}");
    answers(bound)
}

/// Allocation avoids the band of addresses that people choose from, and is the same at every start.
#[test]
fn a_cluster_ip_is_allocated_from_the_dynamic_band_and_stays() -> Result<()> {
    let range = Range::claim("a_cluster_ip_is_allocated")?;
    let backend = Backend::named(range.backend_ip(0), "web")?;
    let text = Service::new("web").port("{port: 8080}").yaml() + &endpoints("web", &[backend.address()]);
    let manifests = Manifests::with("all.yaml", &text)?;
    let mut allocated = Vec::new();
    for _ in 0..2 {
        let engine = Launch::new(&range, manifests.path())?.start()?;
        let bound = engine.frontend(WEB, "cluster-ip")?;
        answers(bound)?;
        allocated.push(engine.bound()?[0].address);
    }
    ensure!(allocated[0] == allocated[1], "two starts, two addresses: {allocated:?}");
    // Of 128 addresses, the first 16 are for people (kubernetes-semantics 1.8).
    let IpAddr::V4(ip) = allocated[0].ip() else { anyhow::bail!("{allocated:?}") };
    let (first, last) = (range.cluster_ip(16), range.cluster_ip(126));
    ensure!((first..=last).contains(&ip), "{ip} is not in the dynamic band {first} to {last}");
    Ok(())
}

#[test]
fn a_chosen_node_port_is_served_on_the_node() -> Result<()> {
    let site = serve("a_chosen_node_port", |range| {
        let service = Service::new("web").spec("type", "NodePort").cluster_ip(range.cluster_ip(10));
        service.port("{port: 8080, nodePort: 31398}")
    })?;
    let bound = site.engine.frontend(WEB, "node-port")?;
    ensure!(bound == (site.range.node_ip(), 31398).into(), "the node port is bound as {bound}");
    answers(bound)?;
    answers(site.engine.frontend(WEB, "cluster-ip")?)
}

/// `--node-port-addresses` apart, every `--node-ip` serves node ports: all of a node's addresses reach the Service.
#[test]
fn a_node_port_is_served_on_every_address_of_the_node() -> Result<()> {
    let range = Range::claim("a_node_port_on_every_address")?;
    let backend = Backend::named(range.backend_ip(0), "web")?;
    let service = Service::new("web").spec("type", "NodePort").port("{port: 8080, nodePort: 31398}");
    let manifests = Manifests::with("all.yaml", &(service.yaml() + &endpoints("web", &[backend.address()])))?;
    let second = range.backend_ip(90);
    let engine = Launch::new(&range, manifests.path())?.arguments(["--node-ip", &second.to_string()]).start()?;
    engine.frontend(WEB, "node-port")?;
    answers((range.node_ip(), 31398).into())?;
    answers((second, 31398).into())
}

/// Out of 30000–30085, which people choose from (kubernetes-semantics 1.10).
#[test]
fn a_node_port_is_allocated_from_the_dynamic_band() -> Result<()> {
    let site = serve("a_node_port_is_allocated", |_| Service::new("web").spec("type", "NodePort").port("{port: 8080}"))?;
    let bound = site.engine.frontend(WEB, "node-port")?;
    ensure!((30086..=32767).contains(&bound.port()), "allocated {bound}");
    answers(bound)
}

/// A status that somebody else wrote is served, and a load balancer still works as a node port.
#[test]
fn a_load_balancer_address_from_the_status_is_served() -> Result<()> {
    let site = serve("a_load_balancer_address", |range| {
        Service::new("web").spec("type", "LoadBalancer").port("{port: 8080}").ingress(range.external_ip(5))
    })?;
    let bound = site.engine.frontend(WEB, "load-balancer")?;
    ensure!(bound == (Range::mapped(site.range.external_ip(5)), 8080).into(), "bound as {bound}");
    answers(bound)?;
    answers(site.engine.frontend(WEB, "node-port")?)?;
    answers(site.engine.frontend(WEB, "cluster-ip")?)
}

/// With `allocateLoadBalancerNodePorts: false` there is no node port (kubernetes-semantics 1.18).
#[test]
fn a_load_balancer_can_do_without_node_ports() -> Result<()> {
    let site = serve("a_load_balancer_without_node_ports", |range| {
        let service = Service::new("web").spec("type", "LoadBalancer").spec("allocateLoadBalancerNodePorts", "false");
        service.port("{port: 8080}").ingress(range.external_ip(5))
    })?;
    answers(site.engine.frontend(WEB, "load-balancer")?)?;
    let kinds: Vec<_> = site.engine.bound()?.into_iter().map(|bound| bound.frontend).collect();
    ensure!(!kinds.contains(&String::from("node-port")), "it listens on {kinds:?}");
    Ok(())
}

/// That address and the Service's port answer, not the endpoint's port.
#[test]
fn an_external_ip_is_served_on_the_service_port() -> Result<()> {
    let site = serve("an_external_ip", |range| {
        Service::new("web").port("{port: 8080, targetPort: 80}").spec("externalIPs", format!("[{}]", range.external_ip(6)))
    })?;
    let bound = site.engine.frontend(WEB, "external-ip")?;
    ensure!(bound == (Range::mapped(site.range.external_ip(6)), 8080).into(), "bound as {bound}");
    answers(bound)
}

/// Headless, ExternalName: no address, so no listener; and no error either.
#[test]
fn headless_services_and_aliases_have_no_listener() -> Result<()> {
    let range = Range::claim("headless_services")?;
    let backend = Backend::named(range.backend_ip(0), "web")?;
    let headless = Service::new("web").spec("clusterIP", "None").port("{port: 8080}");
    let alias = Service::new("alias").spec("type", "ExternalName").spec("externalName", "db.example.org");
    let other = Service::new("other").cluster_ip(range.cluster_ip(11)).port("{port: 8080}");
    let text = headless.yaml() + &alias.yaml() + &other.yaml();
    let addresses = [backend.address()];
    let manifests = Manifests::with("all.yaml", &(text + &endpoints("web", &addresses) + &endpoints("other", &addresses)))?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    answers(engine.frontend("default/other:8080", "cluster-ip")?)?;
    let services: Vec<_> = engine.bound()?.into_iter().map(|bound| bound.service).collect();
    ensure!(services == ["default/other:8080"], "listeners: {services:?}");
    let errors: Vec<_> = engine.events()?.into_iter().filter(|event| event["severity"] == "error").collect();
    ensure!(errors.is_empty(), "{errors:?}");
    Ok(())
}

/// No endpoints: the kernel refuses at once, as Kubernetes rejects; no silence, no accept and hang-up.
#[test]
fn without_endpoints_connections_are_refused() -> Result<()> {
    let site = serve("without_endpoints", |range| Service::new("web").cluster_ip(range.cluster_ip(10)).port("{port: 8080}"))?;
    let address = site.engine.frontend(WEB, "cluster-ip")?;
    answers(address)?;
    site._manifests.remove("all.yaml")?;
    site.engine.frontend_gone(WEB, "cluster-ip")?;
    site._manifests.write("all.yaml", &Service::new("web").cluster_ip(site.range.cluster_ip(10)).port("{port: 8080}").yaml())?;
    let refused = load::connect(address, None).map(drop).map_err(|error| error.kind());
    ensure!(refused == Err(std::io::ErrorKind::ConnectionRefused), "connecting gave {refused:?}");
    Ok(())
}

/// The same number for TCP on several Services, on different addresses: each reaches its own.
#[test]
fn services_share_a_port_number_on_different_addresses() -> Result<()> {
    let range = Range::claim("services_share_a_port_number")?;
    let backends = [Backend::named(range.backend_ip(0), "red")?, Backend::named(range.backend_ip(1), "blue")?];
    let manifests = Manifests::new()?;
    for (n, (name, backend)) in (20..).zip(["red", "blue"].iter().zip(&backends)) {
        let service = Service::new(name).cluster_ip(range.cluster_ip(n)).port("{port: 8080}");
        manifests.write(&format!("{name}.yaml"), &(service.yaml() + &endpoints(name, &[backend.address()])))?;
    }
    let engine = Launch::new(&range, manifests.path())?.start()?;
    for name in ["red", "blue"] {
        let said = load::ask(engine.frontend(&format!("default/{name}:8080"), "cluster-ip")?, None)?;
        ensure!(said == name, "{name} answered {said}");
    }
    Ok(())
}
