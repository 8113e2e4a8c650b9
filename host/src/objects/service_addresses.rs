//! The addresses of a Service: cluster IPs and their families, external IPs, and what a load balancer gives.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;

use super::model::{ClusterIp, IpFamily, IpFamilyPolicy, Labels, ServiceType};
use super::problems::Checks;
use super::service::{has_node_ports, not_one_of};
use super::syntax;
use super::tree::Field;

/// `clusterIP` of a headless Service.
const HEADLESS: &str = "None";
/// Addresses of a Service, and families: one of each.
const MAX_FAMILIES: usize = 2;
/// What `loadBalancerSourceRanges` was before it was a field; counts where the field is empty.
const SOURCE_RANGES_ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

const SPEC: Field<'static> = Field::SPEC;

impl IpFamily {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// As in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// What a Service says of its cluster IPs.
pub(super) struct Cluster {
    pub(super) ip: ClusterIp,
    pub(super) policy: Option<IpFamilyPolicy>,
    pub(super) families: Vec<IpFamily>,
}

/// `clusterIP(s)`, `ipFamilyPolicy` and `ipFamilies`, each by itself and then together.
pub(super) fn cluster(spec: &core::ServiceSpec, service_type: &ServiceType, checks: &mut Checks<'_, '_>) -> Cluster {
    let ip = cluster_ip(spec, service_type, checks);
    let policy = policy(spec, checks);
    let families = families(spec, checks);
    let (policy_field, families_field) = (SPEC.key("ipFamilyPolicy"), SPEC.key("ipFamilies"));
    if matches!(service_type, ServiceType::ExternalName(_)) {
        for (field, given) in [(&policy_field, policy.is_some()), (&families_field, !families.is_empty())] {
            if given {
                checks.error(field, "may not be set with type ExternalName", "remove it".to_owned());
            }
        }
        return Cluster { ip, policy: None, families: Vec::new() };
    }
    if let ClusterIp::Fixed(ips) = &ip {
        check_agreement(spec, ips, &families, checks);
    }
    // Without a selector a headless Service has both families: nobody allocates addresses for it.
    let selectorless = ip == ClusterIp::Headless && spec.selector.as_ref().is_none_or(Labels::is_empty);
    let by_default = if selectorless { IpFamilyPolicy::RequireDualStack } else { IpFamilyPolicy::SingleStack };
    if policy.unwrap_or(by_default) == IpFamilyPolicy::SingleStack {
        // Two of one family were refused already, for what they are.
        let families_of = |ips: &[IpAddr]| ips.iter().map(|ip| IpFamily::of(*ip)).collect::<BTreeSet<_>>().len();
        let ips = if let ClusterIp::Fixed(ips) = &ip { families_of(ips) } else { 0 };
        for (what, count) in [("cluster IPs", ips), ("IP families", families.len())] {
            if count == MAX_FAMILIES {
                let message = format!("must be RequireDualStack or PreferDualStack when there are two {what}");
                checks.error(&policy_field, message, "add ipFamilyPolicy: PreferDualStack to spec".to_owned());
            }
        }
    }
    Cluster { ip, policy, families }
}

/// `clusterIP` and `clusterIPs` must agree; `None` stands alone; at most one address a family.
fn cluster_ip(spec: &core::ServiceSpec, service_type: &ServiceType, checks: &mut Checks<'_, '_>) -> ClusterIp {
    let (primary, list) = (SPEC.key("clusterIP"), SPEC.key("clusterIPs"));
    let first = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty());
    let all = spec.cluster_ips.as_deref().unwrap_or_default();
    match (first, all.first()) {
        (Some(first), Some(listed)) if first != listed => {
            let remedy = "the first of clusterIPs repeats clusterIP".to_owned();
            checks.error(&list.index(0), format!("{listed} is not clusterIP, {first}"), remedy);
        }
        (None, Some(listed)) => {
            checks.error(&list, "must be empty where clusterIP is not given", format!("add clusterIP: {listed}"));
        }
        _ => {}
    }
    let given: Vec<(&str, Field<'_>)> = if all.is_empty() {
        first.map(|ip| (ip, primary)).into_iter().collect()
    } else {
        all.iter().enumerate().map(|(index, ip)| (ip.as_str(), list.index(index))).collect()
    };
    let Some((_, field)) = given.first() else { return ClusterIp::Allocate };
    if matches!(service_type, ServiceType::ExternalName(_)) {
        checks.error(field, "may not be set with type ExternalName", "remove it".to_owned());
        return ClusterIp::Allocate;
    }
    if given.iter().any(|(ip, _)| *ip == HEADLESS) {
        if given.len() > 1 {
            checks.error(&list, "None must be the only one", None);
        }
        if has_node_ports(service_type) {
            checks.error(field, "may not be None with type NodePort or LoadBalancer", "remove clusterIP, or use type ClusterIP".to_owned());
        }
        return ClusterIp::Headless;
    }
    if given.len() > MAX_FAMILIES {
        checks.error(&list, format!("has {} addresses, {MAX_FAMILIES} are allowed: one of each family", given.len()), None);
    }
    let ips: Vec<IpAddr> = given.iter().filter_map(|(ip, field)| checks.accept(field, syntax::ip(ip))).collect();
    if given.len() == MAX_FAMILIES && ips.len() == MAX_FAMILIES && IpFamily::of(ips[0]) == IpFamily::of(ips[1]) {
        checks.error(&list, "at most one address of each family", None);
    }
    if ips.is_empty() { ClusterIp::Allocate } else { ClusterIp::Fixed(ips) }
}

fn policy(spec: &core::ServiceSpec, checks: &mut Checks<'_, '_>) -> Option<IpFamilyPolicy> {
    match spec.ip_family_policy.as_deref()? {
        "SingleStack" => Some(IpFamilyPolicy::SingleStack),
        "PreferDualStack" => Some(IpFamilyPolicy::PreferDualStack),
        "RequireDualStack" => Some(IpFamilyPolicy::RequireDualStack),
        other => {
            not_one_of(&SPEC.key("ipFamilyPolicy"), other, &["SingleStack", "PreferDualStack", "RequireDualStack"], checks);
            None
        }
    }
}

fn families(spec: &core::ServiceSpec, checks: &mut Checks<'_, '_>) -> Vec<IpFamily> {
    let field = SPEC.key("ipFamilies");
    let mut families = Vec::new();
    for (index, text) in spec.ip_families.iter().flatten().enumerate() {
        let family = match text.as_str() {
            "IPv4" => IpFamily::V4,
            "IPv6" => IpFamily::V6,
            other => {
                not_one_of(&field.index(index), other, &["IPv4", "IPv6"], checks);
                continue;
            }
        };
        if families.contains(&family) {
            checks.error(&field.index(index), format!("{} is there twice", family.name()), "name each family once".to_owned());
        } else {
            families.push(family);
        }
    }
    families
}

/// Each address is of the family that stands in its place.
fn check_agreement(spec: &core::ServiceSpec, ips: &[IpAddr], families: &[IpFamily], checks: &mut Checks<'_, '_>) {
    let (primary, list) = (SPEC.key("clusterIP"), SPEC.key("clusterIPs"));
    for (index, (ip, family)) in ips.iter().zip(families).enumerate() {
        if IpFamily::of(*ip) != *family {
            let listed = spec.cluster_ips.as_ref().is_some_and(|ips| !ips.is_empty());
            let field = if listed { list.index(index) } else { primary };
            let message = format!("{ip} is not an {} address, which ipFamilies[{index}] says it is", family.name());
            checks.error(&field, message, "write ipFamilies in the order of clusterIPs".to_owned());
        }
    }
}

pub(super) fn external_ips(texts: Option<Vec<String>>, checks: &mut Checks<'_, '_>) -> Vec<IpAddr> {
    let field = SPEC.key("externalIPs");
    let check = |(index, text): (usize, &String)| checks.accept(&field.index(index), syntax::reachable_ip(text));
    texts.unwrap_or_default().iter().enumerate().filter_map(check).collect()
}

/// A hint, which Kubernetes leaves unread: what cannot be one is ignored here.
pub(super) fn load_balancer_ip(spec: &core::ServiceSpec, service_type: &ServiceType, checks: &mut Checks<'_, '_>) -> Option<IpAddr> {
    let field = SPEC.key("loadBalancerIP");
    let text = spec.load_balancer_ip.as_deref().filter(|text| !text.is_empty())?;
    if !is_load_balancer(service_type) {
        checks.warning(&field, "is ignored unless type is LoadBalancer", None);
        return None;
    }
    match syntax::reachable_ip(text) {
        Ok(ip) => Some(ip),
        Err(message) => {
            checks.warning(&field, format!("is ignored: {message}"), "write an address of the load-balancer pool".to_owned());
            None
        }
    }
}

pub(super) fn load_balancer_class(spec: &core::ServiceSpec, service_type: &ServiceType, checks: &mut Checks<'_, '_>) -> Option<String> {
    let (field, class) = (SPEC.key("loadBalancerClass"), spec.load_balancer_class.as_ref()?);
    if !is_load_balancer(service_type) {
        checks.error(&field, "may only be used with type LoadBalancer", "remove it".to_owned());
        return None;
    }
    checks.accept(&field, syntax::qualified_name(class)).map(|()| class.clone())
}

/// `status.loadBalancer.ingress`: the addresses that are to be served here.
pub(super) fn ingress_ips(status: Option<core::ServiceStatus>, service_type: &ServiceType, checks: &mut Checks<'_, '_>) -> Vec<IpAddr> {
    let (status_field, ingress) = (Field::ROOT.key("status"), status.and_then(|status| status.load_balancer).and_then(|lb| lb.ingress));
    let load_balancer = status_field.key("loadBalancer");
    let field = load_balancer.key("ingress");
    let ingress = ingress.unwrap_or_default();
    if !ingress.is_empty() && !is_load_balancer(service_type) {
        checks.warning(&field, "is ignored unless type is LoadBalancer", None);
        return Vec::new();
    }
    let points = ingress.iter().enumerate();
    points.filter_map(|(index, point)| ingress_ip(point, &field.index(index), checks)).collect()
}

fn ingress_ip(point: &core::LoadBalancerIngress, field: &Field<'_>, checks: &mut Checks<'_, '_>) -> Option<IpAddr> {
    let text = point.ip.as_deref().filter(|ip| !ip.is_empty());
    let ip = text.and_then(|ip| checks.accept(&field.key("ip"), syntax::reachable_ip(ip)));
    let (hostname, mode_field) = (field.key("hostname"), field.key("ipMode"));
    if let Some(name) = point.hostname.as_deref().filter(|name| !name.is_empty()) {
        if name.parse::<IpAddr>().is_ok() {
            checks.error(&hostname, format!("{name} is an address, not a name"), "write it as ip".to_owned());
        } else {
            checks.accept(&hostname, syntax::dns_1123_subdomain(name));
        }
    }
    match point.ip_mode.as_deref() {
        Some(_) if text.is_none() => {
            checks.error(&mode_field, "may not be set without ip", "remove it".to_owned());
            None
        }
        // The load balancer itself delivers to a node port: its address is not ours to serve.
        Some("Proxy") => None,
        None | Some("VIP") => ip,
        Some(other) => {
            not_one_of(&mode_field, other, &["VIP", "Proxy"], checks);
            None
        }
    }
}

/// `loadBalancerSourceRanges`, else what its annotation of old says.
pub(super) fn source_ranges(
    spec: &core::ServiceSpec,
    annotations: &Labels,
    service_type: &ServiceType,
    checks: &mut Checks<'_, '_>,
) -> Vec<IpNet> {
    let (metadata, field) = (Field::ROOT.key("metadata"), SPEC.key("loadBalancerSourceRanges"));
    let annotations_field = metadata.key("annotations");
    let legacy = annotations_field.key(SOURCE_RANGES_ANNOTATION);
    let written = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    let annotation = annotations.get(SOURCE_RANGES_ANNOTATION).filter(|text| written.is_empty() && !text.trim().is_empty());
    let given: Vec<(&str, Field<'_>)> = match annotation {
        None => written.iter().enumerate().map(|(index, text)| (text.as_str(), field.index(index))).collect(),
        Some(text) => text.split(',').map(|text| (text, legacy)).collect(),
    };
    if let Some((_, first)) = given.first()
        && !is_load_balancer(service_type)
    {
        let field = if written.is_empty() { first } else { &field };
        checks.error(field, "may only be used with type LoadBalancer", None);
    }
    let mut ranges = Vec::new();
    for (text, field) in given {
        let Some(range) = checks.accept(&field, syntax::range(text)) else { continue };
        if range != range.trunc() {
            let message = format!("{range} has bits beyond its prefix, which do not count");
            checks.warning(&field, message, format!("write {}", range.trunc()));
        }
        ranges.push(range.trunc());
    }
    ranges
}

fn is_load_balancer(service_type: &ServiceType) -> bool {
    matches!(service_type, ServiceType::LoadBalancer { .. })
}
