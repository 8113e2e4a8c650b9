//! Pod.

use std::collections::HashSet;

use k8s_openapi::api::core::v1 as core;

use super::annotations;
use super::metadata::meta;
use super::model::{ContainerPort, Kind, Location, Pod, Protocol, ReadinessProbe};
use super::probes;
use super::problems::Checks;
use super::syntax;
use super::tree::Field;

pub(super) fn pod(typed: core::Pod, location: Location, checks: &mut Checks<'_, '_>) -> Pod {
    let meta = meta(Kind::Pod, typed.metadata, location, checks);
    let weight = annotations::pod_weight(&meta.annotations, checks);
    let mut pod = Pod { meta, weight, ..Pod::default() };
    if let Some(spec) = typed.spec {
        specified(&mut pod, spec, checks);
    } else {
        checks.error(&Field::ROOT.key("spec"), "spec is required", None);
    }
    if let Some(status) = typed.status {
        reported(&mut pod, status, checks);
    }
    pod
}

fn specified(pod: &mut Pod, spec: core::PodSpec, checks: &mut Checks<'_, '_>) {
    let field = Field::ROOT.key("spec");
    pod.host_network = spec.host_network.unwrap_or_default();
    let mut seen = Seen::default();
    let (containers, init_containers) = (field.key("containers"), field.key("initContainers"));
    for (index, typed) in spec.containers.into_iter().enumerate() {
        container(pod, typed, &containers.index(index), &mut seen, checks);
    }
    for (index, typed) in spec.init_containers.unwrap_or_default().into_iter().enumerate() {
        let field = init_containers.index(index);
        if typed.restart_policy.as_deref() == Some("Always") {
            container(pod, typed, &field, &mut seen, checks);
            continue;
        }
        seen.name(&typed.name, &field, checks);
        if typed.readiness_probe.is_some() {
            let remedy = "add restartPolicy: Always, or remove it".to_owned();
            checks.error(&field.key("readinessProbe"), "may not be set for a container that ends before the pod is ready", remedy);
        }
    }
    let gates = field.key("readinessGates");
    for (index, gate) in spec.readiness_gates.unwrap_or_default().into_iter().enumerate() {
        checks.accept(&gates.index(index).key("conditionType"), syntax::qualified_name(&gate.condition_type));
    }
    let mut given = |key: &str, text: Option<String>, check: fn(&str) -> Result<(), String>| {
        let text = text.filter(|text| !text.is_empty())?;
        checks.accept(&field.key(key), check(&text));
        Some(text)
    };
    pod.node = given("nodeName", spec.node_name, syntax::dns_1123_subdomain);
    pod.hostname = given("hostname", spec.hostname, syntax::dns_1123_label);
    pod.subdomain = given("subdomain", spec.subdomain, syntax::dns_1123_label);
}

/// What is unique in a pod.
#[derive(Default)]
struct Seen {
    names: HashSet<String>,
    /// As written: `hostIP`, `hostPort`, protocol.
    host_ports: HashSet<(String, u16, Protocol)>,
}

impl Seen {
    fn name(&mut self, name: &str, container: &Field<'_>, checks: &mut Checks<'_, '_>) {
        // A container that is only here for its ports may go without.
        if name.is_empty() {
            return;
        }
        let field = container.key("name");
        checks.accept(&field, syntax::dns_1123_label(name));
        if !self.names.insert(name.to_owned()) {
            checks.error(&field, "another container has the same name", "choose another".to_owned());
        }
    }
}

/// A container that runs while the pod is ready.
fn container(pod: &mut Pod, typed: core::Container, field: &Field<'_>, seen: &mut Seen, checks: &mut Checks<'_, '_>) {
    seen.name(&typed.name, field, checks);
    let ports = container_ports(pod.host_network, typed.ports, field, seen, checks);
    if let Some(probe) = typed.readiness_probe {
        if typed.name.is_empty() {
            checks.error(&field.key("name"), "a container with a probe needs a name", "add name:".to_owned());
        }
        let probe = probes::readiness(probe, &ports, &field.key("readinessProbe"), checks);
        pod.readiness_probes.extend(probe.map(|probe| ReadinessProbe { container: typed.name, probe }));
    }
    pod.ports.extend(ports);
}

fn container_ports(
    host_network: bool,
    ports: Option<Vec<core::ContainerPort>>,
    container: &Field<'_>,
    seen: &mut Seen,
    checks: &mut Checks<'_, '_>,
) -> Vec<ContainerPort> {
    let (field, mut names, mut read) = (container.key("ports"), HashSet::new(), Vec::new());
    for (index, port) in ports.unwrap_or_default().into_iter().enumerate() {
        let field = field.index(index);
        let number = checks.accept(&field.key("containerPort"), syntax::port(port.container_port));
        let protocol = checks.accept(&field.key("protocol"), syntax::protocol(port.protocol.as_deref()));
        let name = port.name.filter(|name| !name.is_empty());
        if let Some(name) = &name {
            checks.accept(&field.key("name"), syntax::port_name(name));
            if !names.insert(name.clone()) {
                checks.error(&field.key("name"), "another port of this container has the same name", "choose another".to_owned());
            }
        }
        let host_ip = port.host_ip.filter(|ip| !ip.is_empty());
        let host_port = host_port(host_network, port.host_port, number, &field, checks);
        if let (Some(host_port), Some(protocol)) = (host_port, protocol)
            && !seen.host_ports.insert((host_ip.clone().unwrap_or_default(), host_port, protocol))
        {
            let message = format!("another port of this pod has host port {host_port} too");
            checks.error(&field.key("hostPort"), message, "choose another, or another hostIP or protocol".to_owned());
        }
        let host_ip = host_ip.and_then(|ip| checks.accept(&field.key("hostIP"), syntax::ip(&ip)));
        if let (Some(port), Some(protocol)) = (number, protocol) {
            // Any address is what no address means as well.
            let host_ip = host_ip.filter(|ip| !ip.is_unspecified());
            read.push(ContainerPort { name, port, protocol, host_port, host_ip });
        }
    }
    read
}

/// A pod in the host's network has no other ports than the host's.
fn host_port(
    host_network: bool,
    given: Option<i32>,
    container_port: Option<u16>,
    field: &Field<'_>,
    checks: &mut Checks<'_, '_>,
) -> Option<u16> {
    let field = field.key("hostPort");
    let given = given.filter(|number| *number != 0).and_then(|number| checks.accept(&field, syntax::port(number)));
    match (given, container_port) {
        (None, port) => port.filter(|_| host_network),
        (Some(given), Some(port)) if host_network && given != port => {
            let message = format!("must be {port}, the containerPort, as hostNetwork is true");
            checks.error(&field, message, "remove hostPort".to_owned());
            None
        }
        (given, _) => given,
    }
}

fn reported(pod: &mut Pod, status: core::PodStatus, checks: &mut Checks<'_, '_>) {
    let field = Field::ROOT.key("status");
    let listed = field.key("podIPs");
    for (index, address) in status.pod_ips.unwrap_or_default().into_iter().enumerate() {
        pod.addresses.extend(checks.accept(&listed.index(index).key("ip"), syntax::reachable_ip(&address.ip)));
    }
    if pod.addresses.len() > 2 || (pod.addresses.len() == 2 && pod.addresses[0].is_ipv4() == pod.addresses[1].is_ipv4()) {
        checks.error(&listed, "at most one address of each family", None);
    }
    if let Some(address) = status.pod_ip.filter(|address| !address.is_empty()) {
        let address = checks.accept(&field.key("podIP"), syntax::reachable_ip(&address));
        match (address, pod.addresses.first()) {
            (Some(address), None) => pod.addresses.push(address),
            (Some(address), Some(first)) if address != *first => {
                checks.error(
                    &field.key("podIP"),
                    format!("{address} is not the first of podIPs, {first}"),
                    "make them the same".to_owned(),
                );
            }
            _ => {}
        }
    }
    pod.ready = status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    pod.finished = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
}
