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
            let Some(ip) = checks.accept(&field.index(index).key("ip"), syntax::reachable_ip(&address.ip)) else { continue };
            addresses.push(EndpointAddress { ip, ready, node: address.node_name, hostname: address.hostname, pod: None });
        }
    }
    let written = typed.ports.unwrap_or_default().into_iter();
    let ports = written.map(|port| WrittenPort { name: port.name, port: Some(port.port), protocol: port.protocol }).collect();
    EndpointSubset { addresses, ports: endpoint_ports(ports, &field.key("ports"), checks) }
}

/// A port of a subset or of a slice.
pub(super) struct WrittenPort {
    pub(super) name: Option<String>,
    pub(super) port: Option<i32>,
    pub(super) protocol: Option<String>,
}

/// Names are unique, and only a single port may go without; a port without a number is left out.
pub(super) fn endpoint_ports(ports: Vec<WrittenPort>, field: &Field<'_>, checks: &mut Checks<'_, '_>) -> Vec<EndpointPort> {
    let (many, mut seen, mut read) = (ports.len() > 1, HashSet::new(), Vec::new());
    for (index, port) in ports.into_iter().enumerate() {
        let field = field.index(index);
        let name = port.name.unwrap_or_default();
        let name_field = field.key("name");
        if !name.is_empty() {
            checks.accept(&name_field, syntax::dns_1123_label(&name));
        }
        if !seen.insert(name.clone()) {
            let message =
                if name.is_empty() { "a name is required: there is more than one port" } else { "another port has the same name" };
            checks.error(&name_field, message, "name each as its port is named in the Service".to_owned());
        } else if name.is_empty() && many {
            let message = "a name is required: there is more than one port";
            checks.error(&name_field, message, "name each as its port is named in the Service".to_owned());
        }
        let number = port.port.map(|number| checks.accept(&field.key("port"), syntax::port(number)));
        let protocol = checks.accept(&field.key("protocol"), syntax::protocol(port.protocol.as_deref()));
        if let (Some(Some(port)), Some(protocol)) = (number, protocol) {
            read.push(EndpointPort { name, protocol, port, app_protocol: None });
        }
    }
    read
}
