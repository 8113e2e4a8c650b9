//! EndpointSlice.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1 as discovery;

use super::annotations;
use super::endpoints::{WrittenPort, endpoint_ports};
use super::metadata::meta;
use super::model::{Conditions, EndpointSlice, IpFamily, Kind, Location, SliceEndpoint};
use super::problems::Checks;
use super::spelling;
use super::syntax;
use super::tree::Field;

/// The label that ties a slice to its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// A weight for every endpoint of a slice, as Cilium writes it.
const WEIGHT_ANNOTATION: &str = "service.cilium.io/weight";

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
    let (list, mut endpoints) = (Field::ROOT.key("endpoints"), Vec::new());
    for (index, endpoint) in typed.endpoints.unwrap_or_default().into_iter().enumerate() {
        endpoints.extend(slice_endpoint(endpoint, family, weight, &list.index(index), checks));
    }
    let written = typed.ports.unwrap_or_default().into_iter();
    let ports = written.map(|port| WrittenPort { name: port.name, port: port.port, protocol: port.protocol }).collect();
    let ports = endpoint_ports(ports, &Field::ROOT.key("ports"), checks);
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

fn slice_endpoint(
    typed: discovery::Endpoint,
    family: Option<Family>,
    weight: Option<u32>,
    field: &Field<'_>,
    checks: &mut Checks<'_, '_>,
) -> Option<SliceEndpoint> {
    let addresses = field.key("addresses");
    let Some(address) = typed.addresses.first() else {
        checks.error(&addresses, "an endpoint needs an address", "add addresses: with one address".to_owned());
        return None;
    };
    let family = family.filter(|family| *family != Family::Names)?;
    let ip = checks.accept(&addresses.index(0), syntax::reachable_ip(address).and_then(|ip| of_family(ip, family)))?;
    let conditions = typed.conditions.unwrap_or_default();
    let hints = typed.hints.unwrap_or_default();
    Some(SliceEndpoint {
        ip,
        conditions: Conditions {
            ready: conditions.ready.unwrap_or(true),
            serving: conditions.serving.unwrap_or(true),
            terminating: conditions.terminating.unwrap_or(false),
        },
        node: typed.node_name,
        zone: typed.zone,
        hostname: typed.hostname,
        zone_hints: hints.for_zones.unwrap_or_default().into_iter().map(|zone| zone.name).collect(),
        node_hints: hints.for_nodes.unwrap_or_default().into_iter().map(|node| node.name).collect(),
        weight,
        pod: typed.target_ref.filter(|target| target.kind.as_deref() == Some("Pod")).and_then(|target| target.name),
    })
}

fn of_family(ip: IpAddr, family: Family) -> Result<IpAddr, String> {
    match family {
        Family::V4 if !ip.is_ipv4() => Err(format!("{ip} is not an IPv4 address, which addressType says it is")),
        Family::V6 if !ip.is_ipv6() => Err(format!("{ip} is not an IPv6 address, which addressType says it is")),
        _ => Ok(ip),
    }
}
