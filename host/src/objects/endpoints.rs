//! Endpoints, as people write them by hand.

use std::collections::HashSet;

use k8s_openapi::api::core::v1 as core;

use super::annotations;
use super::metadata::meta;
use super::model::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Kind, Location};
use super::problems::Checks;
use super::syntax;
use super::tree::Field;

pub(super) fn endpoints(typed: core::Endpoints, location: Location, checks: &mut Checks<'_, '_>) -> Endpoints {
    let meta = meta(Kind::Endpoints, typed.metadata, location, checks);
    annotations::warn_of_any(&meta.annotations, checks);
    let field = Field::ROOT.key("subsets");
    let subsets = typed.subsets.unwrap_or_default();
    check_halves(&subsets, &field, checks);
    let subsets = subsets.into_iter().enumerate().map(|(index, typed)| subset(typed, &field.index(index), checks)).collect();
    Endpoints { meta, subsets }
}

fn has_addresses(subset: &core::EndpointSubset) -> bool {
    [&subset.addresses, &subset.not_ready_addresses].into_iter().flatten().any(|addresses| !addresses.is_empty())
}

fn has_ports(subset: &core::EndpointSubset) -> bool {
    subset.ports.as_ref().is_some_and(|ports| !ports.is_empty())
}

/// Addresses and ports belong in one subset; a `-` too many makes two of it, neither of which leads anywhere.
fn check_halves(subsets: &[core::EndpointSubset], field: &Field<'_>, checks: &mut Checks<'_, '_>) {
    for (index, subset) in subsets.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| Some((before, subsets.get(before)?)));
        let field = field.index(index);
        match (has_addresses(subset), has_ports(subset), before) {
            (false, true, Some((before, other))) if has_addresses(other) && !has_ports(other) => {
                let message = format!("has ports but no addresses, and subsets[{before}] has addresses but no ports");
                checks.error(&field, message, "write ports: without the '-', in the same item as addresses:".to_owned());
            }
            (false, _, _) => {
                let remedy = "add addresses: or notReadyAddresses: to this item".to_owned();
                checks.error(&field, "a subset needs addresses", remedy);
            }
            (true, false, _) if subsets.get(index + 1).is_none_or(|next| has_addresses(next) || !has_ports(next)) => {
                checks.warning(&field, "a subset without ports forwards nothing", "add ports: to this item".to_owned());
            }
            _ => {}
        }
    }
}

fn subset(typed: core::EndpointSubset, field: &Field<'_>, checks: &mut Checks<'_, '_>) -> EndpointSubset {
    let mut addresses = Vec::new();
    for (list, name, ready) in [(typed.addresses, "addresses", true), (typed.not_ready_addresses, "notReadyAddresses", false)] {
        let field = field.key(name);
        for (index, address) in list.unwrap_or_default().into_iter().enumerate() {
            let field = field.index(index);
            let (node, hostname) = place(address.node_name, address.hostname, &field, checks);
            let Some(ip) = checks.accept(&field.key("ip"), syntax::reachable_ip(&address.ip)) else { continue };
            addresses.push(EndpointAddress { ip, ready, node, hostname, pod: target_pod(address.target_ref) });
        }
    }
    let written = typed.ports.unwrap_or_default().into_iter();
    let ports = written.map(|port| WrittenPort {
        name: port.name,
        port: Some(port.port),
        protocol: port.protocol,
        app_protocol: port.app_protocol,
    });
    EndpointSubset { addresses, ports: endpoint_ports(ports.collect(), true, &field.key("ports"), checks) }
}

/// `nodeName` and `hostname` of an endpoint.
pub(super) fn place(
    node: Option<String>,
    hostname: Option<String>,
    endpoint: &Field<'_>,
    checks: &mut Checks<'_, '_>,
) -> (Option<String>, Option<String>) {
    if let Some(node) = &node {
        checks.accept(&endpoint.key("nodeName"), syntax::dns_1123_subdomain(node));
    }
    let hostname = hostname.filter(|hostname| !hostname.is_empty());
    if let Some(hostname) = &hostname {
        checks.accept(&endpoint.key("hostname"), syntax::dns_1123_label(hostname));
    }
    (node, hostname)
}

/// The name of the pod that an endpoint stands for.
pub(super) fn target_pod(target: Option<core::ObjectReference>) -> Option<String> {
    target.filter(|target| target.kind.as_deref() == Some("Pod")).and_then(|target| target.name).filter(|name| !name.is_empty())
}

/// A port of a subset or of a slice.
pub(super) struct WrittenPort {
    pub(super) name: Option<String>,
    pub(super) port: Option<i32>,
    pub(super) protocol: Option<String>,
    pub(super) app_protocol: Option<String>,
}

/// Names are unique; where `named`, a port may go without only if it is alone. A port without a number is left out.
pub(super) fn endpoint_ports(ports: Vec<WrittenPort>, named: bool, field: &Field<'_>, checks: &mut Checks<'_, '_>) -> Vec<EndpointPort> {
    let (many, mut seen, mut read) = (ports.len() > 1, HashSet::new(), Vec::new());
    for (index, port) in ports.into_iter().enumerate() {
        let field = field.index(index);
        let name = port.name.unwrap_or_default();
        let name_field = field.key("name");
        if !name.is_empty() {
            checks.accept(&name_field, syntax::dns_1123_label(&name));
        }
        let again = !seen.insert(name.clone());
        if name.is_empty() && many && (named || again) {
            let message = "a name is required: there is more than one port";
            checks.error(&name_field, message, "name each as its port is named in the Service".to_owned());
        } else if again {
            let remedy = "name each as its port is named in the Service".to_owned();
            checks.error(&name_field, "another port has the same name", remedy);
        }
        let number = port.port.map(|number| checks.accept(&field.key("port"), syntax::port(number)));
        let protocol = checks.accept(&field.key("protocol"), syntax::protocol(port.protocol.as_deref()));
        let accepted = |name: &String| checks.accept(&field.key("appProtocol"), syntax::qualified_name(name)).is_some();
        let app_protocol = port.app_protocol.filter(accepted);
        if let (Some(Some(port)), Some(protocol)) = (number, protocol) {
            read.push(EndpointPort { name, protocol, port, app_protocol });
        }
    }
    read
}
