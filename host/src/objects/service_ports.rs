//! `spec.ports` of a Service.

use std::collections::HashMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::model::{ClusterIp, Protocol, ServicePort, ServiceType, TargetPort};
use super::problems::Checks;
use super::service::has_node_ports;
use super::syntax;
use super::tree::Field;

/// The kubelet listens here on every node (`ports.KubeletPort`).
const KUBELET_PORT: u16 = 10_250;

/// What must be unique, and where it was first.
#[derive(Default)]
struct Seen {
    names: HashMap<String, usize>,
    ports: HashMap<(Protocol, u16), usize>,
    node_ports: HashMap<(Protocol, u16), usize>,
}

pub(super) fn service_ports(
    ports: Vec<core::ServicePort>,
    service_type: &ServiceType,
    cluster_ip: &ClusterIp,
    checks: &mut Checks<'_, '_>,
) -> Vec<ServicePort> {
    let spec = Field::SPEC;
    let field = spec.key("ports");
    let optional = *cluster_ip == ClusterIp::Headless || matches!(service_type, ServiceType::ExternalName(_));
    if ports.is_empty() && !optional {
        checks.error(&field, "at least one port is required", "add ports: with - port: NUMBER".to_owned());
    }
    let many = ports.len() > 1;
    let mut seen = Seen::default();
    let read = |(index, port)| service_port(port, index, many, service_type, &field, &mut seen, checks);
    ports.into_iter().enumerate().filter_map(read).collect()
}

fn service_port(
    port: core::ServicePort,
    index: usize,
    many: bool,
    service_type: &ServiceType,
    ports: &Field<'_>,
    seen: &mut Seen,
    checks: &mut Checks<'_, '_>,
) -> Option<ServicePort> {
    let field = ports.index(index);
    let name = port.name.unwrap_or_default();
    check_name(&name, index, many, &field, seen, checks);
    let protocol = checks.accept(&field.key("protocol"), syntax::protocol(port.protocol.as_deref()));
    let number = port_number(port.port, service_type, &field, checks);
    let node_port = node_port(port.node_port, service_type, &field, checks);
    let target_port = target_port(port.target_port, &field, checks);
    let app_protocol = port.app_protocol.filter(|name| checks.accept(&field.key("appProtocol"), syntax::qualified_name(name)).is_some());
    let (protocol, number) = (protocol?, number?);
    if let Some(first) = insert(&mut seen.ports, (protocol, number), index) {
        let message = format!("ports[{first}] has the same port and protocol");
        checks.error(&field.key("port"), message, "a Service has each port once for each protocol".to_owned());
    }
    if let Some(first) = node_port.and_then(|node_port| insert(&mut seen.node_ports, (protocol, node_port), index)) {
        checks.error(&field.key("nodePort"), format!("ports[{first}] has the same node port and protocol"), "choose another".to_owned());
    }
    Some(ServicePort {
        name,
        protocol,
        port: number,
        target_port: target_port.unwrap_or(TargetPort::Number(number)),
        node_port,
        app_protocol,
    })
}

fn check_name(name: &str, index: usize, many: bool, field: &Field<'_>, seen: &mut Seen, checks: &mut Checks<'_, '_>) {
    let field = field.key("name");
    if name.is_empty() {
        if many {
            let remedy = "give every port a name: a Service with several ports needs them".to_owned();
            checks.error(&field, "a name is required: there is more than one port", remedy);
        }
        return;
    }
    checks.accept(&field, syntax::dns_1123_label(name));
    if let Some(first) = insert(&mut seen.names, name.to_owned(), index) {
        checks.error(&field, format!("ports[{first}] has the same name"), "choose another".to_owned());
    }
}

/// The position that has it already.
fn insert<K: std::hash::Hash + Eq>(seen: &mut HashMap<K, usize>, key: K, index: usize) -> Option<usize> {
    let first = *seen.entry(key).or_insert(index);
    Some(first).filter(|first| *first != index)
}

fn port_number(number: i32, service_type: &ServiceType, field: &Field<'_>, checks: &mut Checks<'_, '_>) -> Option<u16> {
    let field_port = field.key("port");
    // A field that is missing reads as zero.
    if number == 0 && !checks.root.has(&field_port) {
        checks.error(&field_port, "port is required", "add the port that clients dial".to_owned());
        return None;
    }
    let number = checks.accept(&field_port, syntax::port(number))?;
    if number == KUBELET_PORT && matches!(service_type, ServiceType::LoadBalancer { .. }) {
        checks.error(&field_port, format!("{number} is the kubelet's port, which no load balancer may expose"), None);
    }
    Some(number)
}

/// Only types with node ports may name one; the range is the allocator's business.
fn node_port(number: Option<i32>, service_type: &ServiceType, field: &Field<'_>, checks: &mut Checks<'_, '_>) -> Option<u16> {
    let field = field.key("nodePort");
    let number = number.filter(|number| *number != 0)?;
    if matches!(service_type, ServiceType::ExternalName(_)) {
        checks.warning(&field, "has no effect with type ExternalName", "remove it".to_owned());
        return None;
    }
    if !has_node_ports(service_type) {
        checks.error(
            &field,
            "may only be set with type NodePort or LoadBalancer",
            "add type: NodePort to spec, or remove nodePort".to_owned(),
        );
        return None;
    }
    checks.accept(&field, syntax::port(number))
}

/// Absent, 0 and "" stand for `port`.
fn target_port(target: Option<IntOrString>, field: &Field<'_>, checks: &mut Checks<'_, '_>) -> Option<TargetPort> {
    let field = field.key("targetPort");
    match target? {
        IntOrString::Int(0) => None,
        IntOrString::Int(number) => checks.accept(&field, syntax::port(number)).map(TargetPort::Number),
        IntOrString::String(name) if name.is_empty() => None,
        IntOrString::String(name) if name.bytes().all(|b| b.is_ascii_digit()) => {
            checks.error(&field, format!("\"{name}\" is text, so it names a port"), "write the number without quotes".to_owned());
            None
        }
        IntOrString::String(name) => checks.accept(&field, syntax::port_name(&name)).map(|()| TargetPort::Name(name)),
    }
}
