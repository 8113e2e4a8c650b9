//! EndpointSlice.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1 as discovery;

use super::annotations;
use super::endpoints::{WrittenPort, endpoint_ports, place, target_pod};
use super::metadata::{check_labels, meta};
use super::model::{Conditions, EndpointSlice, IpFamily, Kind, Location, SliceEndpoint};
use super::problems::Checks;
use super::spelling;
use super::syntax;
use super::tree::Field;

/// The label that ties a slice to its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// A weight for every endpoint of a slice, as Cilium writes it.
const WEIGHT_ANNOTATION: &str = "service.cilium.io/weight";

/// Endpoints of a slice (discovery validation `maxEndpoints`, as the limits below).
const MAX_ENDPOINTS: usize = 1_000;
/// Ports of a slice (`maxPorts`; it was 100 in earlier releases).
const MAX_PORTS: usize = 20_000;
/// Addresses of an endpoint (`maxAddresses`).
const MAX_ADDRESSES: usize = 100;
/// Zones, or nodes, that an endpoint is meant for (`maxZoneHints`).
const MAX_HINTS: usize = 8;
/// `deprecatedTopology` (`maxTopologyLabels`).
const MAX_TOPOLOGY_LABELS: usize = 16;

pub(super) fn slice(typed: discovery::EndpointSlice, location: Location, checks: &mut Checks<'_, '_>) -> EndpointSlice {
    let meta = meta(Kind::EndpointSlice, typed.metadata, location, checks);
    annotations::warn_of_any(&meta.annotations, checks);
    let metadata = Field::ROOT.key("metadata");
    let service = meta.labels.get(SERVICE_LABEL).filter(|name| !name.is_empty()).cloned();
    if service.is_none() {
        let remedy = format!("add the label {SERVICE_LABEL}: NAME");
        checks.warning(&metadata.key("labels"), "belongs to no Service", remedy);
    }
    let annotations = metadata.key("annotations");
    let weight = meta.annotations.get(WEIGHT_ANNOTATION);
    let weight = weight.and_then(|text| checks.accept(&annotations.key(WEIGHT_ANNOTATION), annotations::parse_weight(text)));
    let family = family(&typed.address_type, checks);
    let endpoints = endpoints(typed.endpoints.unwrap_or_default(), family, weight, checks);
    let ports_field = Field::ROOT.key("ports");
    let written = typed.ports.unwrap_or_default();
    let ports = if at_most(MAX_PORTS, written.len(), "ports", &ports_field, checks) { written } else { Vec::new() };
    let ports = ports.into_iter().map(|port| WrittenPort {
        name: port.name,
        port: port.port,
        protocol: port.protocol,
        app_protocol: port.app_protocol,
    });
    let ports = endpoint_ports(ports.collect(), false, &ports_field, checks);
    let family = family.and_then(|family| match family {
        Family::V4 => Some(IpFamily::V4),
        Family::V6 => Some(IpFamily::V6),
        Family::Names => None,
    });
    EndpointSlice { meta, service, family, endpoints, ports }
}

/// `addressType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
    Names,
}

fn family(text: &str, checks: &mut Checks<'_, '_>) -> Option<Family> {
    let field = Field::ROOT.key("addressType");
    match text {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        "FQDN" => Some(Family::Names),
        "" => {
            checks.error(&field, "addressType is required", "add addressType: IPv4".to_owned());
            None
        }
        other => {
            let remedy = spelling::suggestion(other, ["IPv4", "IPv6", "FQDN"]).map(|near| format!("did you mean {near}?"));
            checks.error(&field, format!("\"{other}\" is not one of IPv4, IPv6, FQDN"), remedy);
            None
        }
    }
}

fn at_most(most: usize, found: usize, what: &str, field: &Field<'_>, checks: &mut Checks<'_, '_>) -> bool {
    if found > most {
        checks.error(field, format!("has {found} {what}, {most} are allowed"), None);
    }
    found <= most
}

fn endpoints(
    typed: Vec<discovery::Endpoint>,
    family: Option<Family>,
    weight: Option<u32>,
    checks: &mut Checks<'_, '_>,
) -> Vec<SliceEndpoint> {
    let field = Field::ROOT.key("endpoints");
    if !at_most(MAX_ENDPOINTS, typed.len(), "endpoints", &field, checks) {
        return Vec::new();
    }
    let endpoints = typed.into_iter().enumerate();
    endpoints.filter_map(|(index, endpoint)| slice_endpoint(endpoint, family, weight, &field.index(index), checks)).collect()
}

fn slice_endpoint(
    typed: discovery::Endpoint,
    family: Option<Family>,
    weight: Option<u32>,
    field: &Field<'_>,
    checks: &mut Checks<'_, '_>,
) -> Option<SliceEndpoint> {
    let ip = address(&typed.addresses, family, field, checks);
    let (node, hostname) = place(typed.node_name, typed.hostname, field, checks);
    if let Some(topology) = &typed.deprecated_topology {
        let field = field.key("deprecatedTopology");
        at_most(MAX_TOPOLOGY_LABELS, topology.len(), "labels", &field, checks);
        check_labels(topology, &field, checks);
    }
    let (conditions, hints) = (typed.conditions.unwrap_or_default(), typed.hints.unwrap_or_default());
    let hints_field = field.key("hints");
    let zones = hints.for_zones.unwrap_or_default().into_iter().map(|zone| zone.name).collect();
    let nodes = hints.for_nodes.unwrap_or_default().into_iter().map(|node| node.name).collect();
    let zone_hints = checked_hints(zones, syntax::label_value, &hints_field.key("forZones"), checks);
    let node_hints = checked_hints(nodes, syntax::dns_1123_subdomain, &hints_field.key("forNodes"), checks);
    Some(SliceEndpoint {
        ip: ip?,
        conditions: Conditions {
            ready: conditions.ready.unwrap_or(true),
            serving: conditions.serving.unwrap_or(true),
            terminating: conditions.terminating.unwrap_or(false),
        },
        node,
        zone: typed.zone,
        hostname,
        zone_hints,
        node_hints,
        weight,
        pod: target_pod(typed.target_ref),
    })
}

/// The first address, which is the one that counts; all are checked. `None` of a name, which nobody can be forwarded to.
fn address(texts: &[String], family: Option<Family>, endpoint: &Field<'_>, checks: &mut Checks<'_, '_>) -> Option<IpAddr> {
    let field = endpoint.key("addresses");
    if texts.is_empty() {
        checks.error(&field, "an endpoint needs an address", "add addresses: with one address".to_owned());
    }
    at_most(MAX_ADDRESSES, texts.len(), "addresses", &field, checks);
    let family = family?;
    let mut first = None;
    for (index, text) in texts.iter().enumerate() {
        let field = field.index(index);
        if family == Family::Names {
            checks.accept(&field, syntax::domain_name(text));
            continue;
        }
        let ip = checks.accept(&field, syntax::reachable_ip(text).and_then(|ip| of_family(ip, family)));
        if index == 0 {
            first = ip;
        }
    }
    first
}

/// `hints.forZones` or `hints.forNodes`: few, well-formed, each once.
fn checked_hints(names: Vec<String>, check: fn(&str) -> Result<(), String>, field: &Field<'_>, checks: &mut Checks<'_, '_>) -> Vec<String> {
    if !at_most(MAX_HINTS, names.len(), "hints", field, checks) {
        return Vec::new();
    }
    for (index, name) in names.iter().enumerate() {
        let field = field.index(index);
        checks.accept(&field.key("name"), check(name));
        if names[..index].contains(name) {
            checks.error(&field.key("name"), format!("\"{name}\" is there twice"), "name each once".to_owned());
        }
    }
    names
}

fn of_family(ip: IpAddr, family: Family) -> Result<IpAddr, String> {
    match family {
        Family::V4 if !ip.is_ipv4() => Err(format!("{ip} is not an IPv4 address, which addressType says it is")),
        Family::V6 if !ip.is_ipv6() => Err(format!("{ip} is not an IPv6 address, which addressType says it is")),
        _ => Ok(ip),
    }
}
