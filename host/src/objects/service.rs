//! Service: defaults and validation (Kubernetes `defaults.go` and `validation.go`, as read in releases 1.30 to 1.36).

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;

use super::annotations;
use super::metadata::{check_labels, meta};
use super::model::{ClusterIp, Kind, Labels, Locality, Location, Service, ServiceType};
use super::problems::Checks;
use super::service_ports::service_ports;
use super::spelling;
use super::syntax;
use super::tree::{Field, Value};

/// `sessionAffinityConfig.clientIP.timeoutSeconds` where none is given: three hours.
const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;
/// Its upper bound: one day.
const MAX_AFFINITY_SECONDS: i32 = 86_400;
/// `clusterIP` of a headless Service.
const HEADLESS: &str = "None";

const SPEC: Field<'static> = Field::SPEC;

pub(super) fn service(typed: core::Service, location: Location, checks: &mut Checks<'_, '_>) -> Service {
    let meta = meta(Kind::Service, typed.metadata, location, checks);
    let options = annotations::service_options(&meta.annotations, checks);
    let mut spec = typed.spec.unwrap_or_default();
    let service_type = service_type(&spec, checks);
    let cluster_ip = cluster_ip(&spec, &service_type, checks);
    let external_ips = addresses(spec.external_ips.take(), &SPEC.key("externalIPs"), checks);
    let exposed = has_node_ports(&service_type) || (service_type == ServiceType::ClusterIp && !external_ips.is_empty());
    Service {
        ports: service_ports(spec.ports.take().unwrap_or_default(), &service_type, &cluster_ip, checks),
        selector: selector(spec.selector.take(), &service_type, checks),
        load_balancer_ips: load_balancer_ips(typed.status, &service_type, checks),
        load_balancer_source_ranges: source_ranges(&spec, &service_type, checks),
        internal_traffic_policy: locality(&SPEC.key("internalTrafficPolicy"), spec.internal_traffic_policy.as_deref(), checks),
        external_traffic_policy: external_traffic_policy(&spec, exposed, checks),
        traffic_distribution: traffic_distribution(spec.traffic_distribution.take(), checks),
        affinity: affinity(&spec, checks),
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
        ip_family_policy: None,
        ip_families: Vec::new(),
        load_balancer_ip: None,
        load_balancer_class: None,
        health_check_node_port: None,
        topology_aware: false,
        other_proxy: false,
        meta,
        service_type,
        cluster_ip,
        external_ips,
        options,
    }
}

pub(super) fn has_node_ports(service_type: &ServiceType) -> bool {
    matches!(service_type, ServiceType::NodePort | ServiceType::LoadBalancer { .. })
}

fn service_type(spec: &core::ServiceSpec, checks: &mut Checks<'_, '_>) -> ServiceType {
    let types = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
    let service_type = match spec.type_.as_deref().unwrap_or("ClusterIP") {
        "ClusterIP" => ServiceType::ClusterIp,
        "NodePort" => ServiceType::NodePort,
        "LoadBalancer" => ServiceType::LoadBalancer { allocate_node_ports: spec.allocate_load_balancer_node_ports.unwrap_or(true) },
        "ExternalName" => external_name(spec.external_name.as_deref(), checks),
        other => {
            not_one_of(&SPEC.key("type"), other, &types, checks);
            ServiceType::ClusterIp
        }
    };
    if spec.allocate_load_balancer_node_ports.is_some() && !matches!(service_type, ServiceType::LoadBalancer { .. }) {
        checks.error(&SPEC.key("allocateLoadBalancerNodePorts"), "may only be used with type LoadBalancer", None);
    }
    service_type
}

fn external_name(name: Option<&str>, checks: &mut Checks<'_, '_>) -> ServiceType {
    let field = SPEC.key("externalName");
    let name = name.unwrap_or_default();
    if name.is_empty() {
        checks.error(&field, "externalName is required with type ExternalName", "add the DNS name that this Service stands for".to_owned());
    } else {
        checks.accept(&field, syntax::dns_1123_subdomain(name.strip_suffix('.').unwrap_or(name)));
    }
    ServiceType::ExternalName(name.to_owned())
}

/// `clusterIP` and `clusterIPs` must agree; `None` stands alone; at most one address a family.
fn cluster_ip(spec: &core::ServiceSpec, service_type: &ServiceType, checks: &mut Checks<'_, '_>) -> ClusterIp {
    let (primary, list) = (SPEC.key("clusterIP"), SPEC.key("clusterIPs"));
    let first = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty());
    let all = spec.cluster_ips.as_deref().unwrap_or_default();
    if let (Some(first), Some(listed)) = (first, all.first())
        && first != listed
    {
        checks.error(&list.index(0), format!("{listed} is not clusterIP, {first}"), "the first of clusterIPs repeats clusterIP".to_owned());
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
    let ips: Vec<IpAddr> = given.iter().filter_map(|(ip, field)| checks.accept(field, syntax::ip(ip))).collect();
    if ips.len() > 2 || (ips.len() == 2 && ips[0].is_ipv4() == ips[1].is_ipv4()) {
        checks.error(&list, "at most one address of each family", None);
    }
    if ips.is_empty() { ClusterIp::Allocate } else { ClusterIp::Fixed(ips) }
}

fn addresses(texts: Option<Vec<String>>, field: &Field<'_>, checks: &mut Checks<'_, '_>) -> Vec<IpAddr> {
    let check = |(index, text): (usize, &String)| checks.accept(&field.index(index), syntax::reachable_ip(text));
    texts.unwrap_or_default().iter().enumerate().filter_map(check).collect()
}

/// An empty selector selects nothing in Kubernetes either; what people mean by it is rarely that.
fn selector(selector: Option<Labels>, service_type: &ServiceType, checks: &mut Checks<'_, '_>) -> Option<Labels> {
    let field = SPEC.key("selector");
    let labels = selector.unwrap_or_default();
    if labels.is_empty() {
        let written = checks.root.child("spec").and_then(|spec| spec.child("selector")).map(|node| &node.value);
        if written.is_some_and(Value::is_empty) {
            let remedy = "add labels, or remove it if the endpoints are written by hand";
            checks.warning(&field, "an empty selector selects no pods", remedy.to_owned());
        }
        return None;
    }
    check_labels(&labels, &field, checks);
    Some(labels).filter(|_| !matches!(service_type, ServiceType::ExternalName(_)))
}

fn load_balancer_ips(status: Option<core::ServiceStatus>, service_type: &ServiceType, checks: &mut Checks<'_, '_>) -> Vec<IpAddr> {
    let (status_field, ingress) = (Field::ROOT.key("status"), status.and_then(|status| status.load_balancer).and_then(|lb| lb.ingress));
    let load_balancer = status_field.key("loadBalancer");
    let field = load_balancer.key("ingress");
    let ingress = ingress.unwrap_or_default();
    if !ingress.is_empty() && !matches!(service_type, ServiceType::LoadBalancer { .. }) {
        checks.warning(&field, "is ignored unless type is LoadBalancer", None);
        return Vec::new();
    }
    let mut ips = Vec::new();
    for (index, point) in ingress.into_iter().enumerate() {
        let field = field.index(index);
        let ip = point.ip.and_then(|ip| checks.accept(&field.key("ip"), syntax::reachable_ip(&ip)));
        match (point.ip_mode.as_deref().unwrap_or("VIP"), ip) {
            ("VIP", Some(ip)) => ips.push(ip),
            ("VIP" | "Proxy", _) => {}
            (other, _) => not_one_of(&field.key("ipMode"), other, &["VIP", "Proxy"], checks),
        }
    }
    ips
}

fn source_ranges(spec: &core::ServiceSpec, service_type: &ServiceType, checks: &mut Checks<'_, '_>) -> Vec<IpNet> {
    let field = SPEC.key("loadBalancerSourceRanges");
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    if !ranges.is_empty() && !matches!(service_type, ServiceType::LoadBalancer { .. }) {
        checks.error(&field, "may only be used with type LoadBalancer", None);
    }
    let parse = |text: &String| text.trim().parse().map_err(|_| format!("\"{text}\" is not a range such as 10.0.0.0/8"));
    ranges.iter().enumerate().filter_map(|(index, text)| checks.accept(&field.index(index), parse(text))).collect()
}

fn locality(field: &Field<'_>, text: Option<&str>, checks: &mut Checks<'_, '_>) -> Locality {
    match text {
        None | Some("" | "Cluster") => Locality::Cluster,
        Some("Local") => Locality::Local,
        Some(other) => {
            not_one_of(field, other, &["Cluster", "Local"], checks);
            Locality::Cluster
        }
    }
}

fn external_traffic_policy(spec: &core::ServiceSpec, exposed: bool, checks: &mut Checks<'_, '_>) -> Locality {
    let field = SPEC.key("externalTrafficPolicy");
    let text = spec.external_traffic_policy.as_deref();
    if text.is_some_and(|text| !text.is_empty()) && !exposed {
        let remedy = "use type NodePort or LoadBalancer, or externalIPs; for the cluster IP there is internalTrafficPolicy";
        checks.error(&field, "may only be set on a Service that is reached from outside", remedy.to_owned());
    }
    locality(&field, text, checks)
}

fn traffic_distribution(text: Option<String>, checks: &mut Checks<'_, '_>) -> Option<String> {
    let known = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    if let Some(text) = text.as_deref().filter(|text| !known.contains(text)) {
        not_one_of(&SPEC.key("trafficDistribution"), text, &known, checks);
    }
    text
}

fn affinity(spec: &core::ServiceSpec, checks: &mut Checks<'_, '_>) -> Option<Duration> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => None,
        Some("ClientIP") => {
            let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
            let seconds = config.and_then(|client_ip| client_ip.timeout_seconds).unwrap_or(DEFAULT_AFFINITY_SECONDS);
            if !(1..=MAX_AFFINITY_SECONDS).contains(&seconds) {
                let (config, message) = (SPEC.key("sessionAffinityConfig"), format!("{seconds} is not 1 to {MAX_AFFINITY_SECONDS}"));
                checks.error(&config.key("clientIP").key("timeoutSeconds"), message, None);
            }
            u64::try_from(seconds).ok().map(Duration::from_secs)
        }
        Some(other) => {
            not_one_of(&SPEC.key("sessionAffinity"), other, &["None", "ClientIP"], checks);
            None
        }
    }
}

fn not_one_of(field: &Field<'_>, text: &str, known: &[&str], checks: &mut Checks<'_, '_>) {
    let remedy = spelling::suggestion(text, known.iter().copied()).map(|near| format!("did you mean {near}?"));
    checks.error(field, format!("\"{text}\" is not one of {}", known.join(", ")), remedy);
}
