//! Pod.

use k8s_openapi::api::core::v1 as core;

use super::annotations;
use super::metadata::meta;
use super::model::{ContainerPort, Kind, Location, Pod};
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
    let (containers, init_containers) = (field.key("containers"), field.key("initContainers"));
    for (index, container) in spec.containers.into_iter().enumerate() {
        container_ports(pod, container.ports, &containers.index(index), checks);
    }
    for (index, container) in spec.init_containers.unwrap_or_default().into_iter().enumerate() {
        if container.restart_policy.as_deref() == Some("Always") {
            container_ports(pod, container.ports, &init_containers.index(index), checks);
        }
    }
    pod.node = spec.node_name.filter(|name| !name.is_empty());
    pod.hostname = spec.hostname.filter(|name| !name.is_empty());
    pod.subdomain = spec.subdomain.filter(|name| !name.is_empty());
}

fn container_ports(pod: &mut Pod, ports: Option<Vec<core::ContainerPort>>, container: &Field<'_>, checks: &mut Checks<'_, '_>) {
    let field = container.key("ports");
    for (index, port) in ports.unwrap_or_default().into_iter().enumerate() {
        let field = field.index(index);
        let number = checks.accept(&field.key("containerPort"), syntax::port(port.container_port));
        let protocol = checks.accept(&field.key("protocol"), syntax::protocol(port.protocol.as_deref()));
        let name = port.name.filter(|name| !name.is_empty());
        if let Some(name) = &name {
            checks.accept(&field.key("name"), syntax::port_name(name));
        }
        if let (Some(port), Some(protocol)) = (number, protocol) {
            pod.ports.push(ContainerPort { name, port, protocol, host_port: None, host_ip: None });
        }
    }
}

fn reported(pod: &mut Pod, status: core::PodStatus, checks: &mut Checks<'_, '_>) {
    let field = Field::ROOT.key("status");
    let listed = field.key("podIPs");
    for (index, address) in status.pod_ips.unwrap_or_default().into_iter().enumerate() {
        pod.addresses.extend(checks.accept(&listed.index(index).key("ip"), syntax::reachable_ip(&address.ip)));
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
