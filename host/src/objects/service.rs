//! Service: defaults and validation (Kubernetes `defaults.go` and `validation.go`, as read in releases 1.30 to 1.36).

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;

use super::annotations;
use super::metadata::{check_labels, meta};
use super::model::{Kind, Labels, Locality, Location, Service, ServiceType};
use super::problems::Checks;
use super::service_addresses::{cluster, external_ips, ingress_ips, load_balancer_class, load_balancer_ip, source_ranges};
use super::service_ports::service_ports;
use super::spelling;
use super::syntax;
use super::tree::{Field, Value};

/// `sessionAffinityConfig.clientIP.timeoutSeconds` where none is given: three hours.
const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;
/// Its upper bound: one day.
const MAX_AFFINITY_SECONDS: i32 = 86_400;
/// Another proxy's business, whatever its value (kube-proxy's informers leave such Services out).
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// Hints by zone, in proportion to the nodes' CPUs.
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
/// Its name of old.
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

const SPEC: Field<'static> = Field::SPEC;

pub(super) fn service(typed: core::Service, location: Location, checks: &mut Checks<'_, '_>) -> Service {
    let meta = meta(Kind::Service, typed.metadata, location, checks);
    let options = annotations::service_options(&meta.annotations, checks);
    let mut spec = typed.spec.unwrap_or_default();
    let service_type = service_type(&spec, checks);
    let cluster = cluster(&spec, &service_type, checks);
    let external_ips = external_ips(spec.external_ips.take(), checks);
    let exposed = has_node_ports(&service_type) || (service_type == ServiceType::ClusterIp && !external_ips.is_empty());
    let external_traffic_policy = external_traffic_policy(&spec, exposed, checks);
    let topology_aware = topology_aware(&meta.annotations, checks);
    let selector = selector(spec.selector.take(), &service_type, checks);
    annotations::warn_of_idle_probe(&options, selector.is_some(), checks);
    Service {
        ports: service_ports(spec.ports.take().unwrap_or_default(), &service_type, &cluster.ip, checks),
        selector,
        load_balancer_ip: load_balancer_ip(&spec, &service_type, checks),
        load_balancer_class: load_balancer_class(&spec, &service_type, checks),
        load_balancer_ips: ingress_ips(typed.status, &service_type, checks),
        load_balancer_source_ranges: source_ranges(&spec, &meta.annotations, &service_type, checks),
        health_check_node_port: health_check_node_port(&spec, &service_type, external_traffic_policy, checks),
        internal_traffic_policy: locality(&SPEC.key("internalTrafficPolicy"), spec.internal_traffic_policy.as_deref(), checks),
        external_traffic_policy,
        traffic_distribution: traffic_distribution(spec.traffic_distribution.take(), topology_aware, checks),
        affinity: affinity(&spec, checks),
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
        ip_family_policy: cluster.policy,
        ip_families: cluster.families,
        cluster_ip: cluster.ip,
        topology_aware,
        other_proxy: meta.labels.contains_key(PROXY_NAME_LABEL),
        meta,
        service_type,
        external_ips,
        options,
    }
}

pub(super) fn has_node_ports(service_type: &ServiceType) -> bool {
    matches!(service_type, ServiceType::NodePort | ServiceType::LoadBalancer { .. })
}

/// Whether such a Service has a health check node port.
pub(super) fn needs_health_check_port(service_type: &ServiceType, external: Locality) -> bool {
    matches!(service_type, ServiceType::LoadBalancer { .. }) && external == Locality::Local
}

fn service_type(spec: &core::ServiceSpec, checks: &mut Checks<'_, '_>) -> ServiceType {
    let types = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
    let service_type = match spec.type_.as_deref().unwrap_or_default() {
        "" | "ClusterIP" => ServiceType::ClusterIp,
        "NodePort" => ServiceType::NodePort,
        "LoadBalancer" => ServiceType::LoadBalancer { allocate_node_ports: spec.allocate_load_balancer_node_ports.unwrap_or(true) },
        "ExternalName" => external_name(spec.external_name.as_deref(), checks),
        other => {
            not_one_of(&SPEC.key("type"), other, &types, checks);
            ServiceType::ClusterIp
        }
    };
    if spec.allocate_load_balancer_node_ports.is_some() && !matches!(service_type, ServiceType::LoadBalancer { .. }) {
        checks.error(&SPEC.key("allocateLoadBalancerNodePorts"), "may only be used with type LoadBalancer", "remove it".to_owned());
    }
    if spec.external_name.as_deref().is_some_and(|name| !name.is_empty()) && !matches!(service_type, ServiceType::ExternalName(_)) {
        let remedy = "add type: ExternalName, or remove it".to_owned();
        checks.warning(&SPEC.key("externalName"), "is ignored unless type is ExternalName", remedy);
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
        if name.parse::<IpAddr>().is_ok() {
            let remedy = "to forward to an address, write Endpoints for a Service without a selector".to_owned();
            checks.warning(&field, "is an address: a DNS alias needs a name", remedy);
        }
    }
    ServiceType::ExternalName(name.to_owned())
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

/// `healthCheckNodePort` belongs to load balancers that keep to local endpoints; the range is the allocator's business.
fn health_check_node_port(
    spec: &core::ServiceSpec,
    service_type: &ServiceType,
    external: Locality,
    checks: &mut Checks<'_, '_>,
) -> Option<u16> {
    let field = SPEC.key("healthCheckNodePort");
    let number = spec.health_check_node_port.filter(|number| *number != 0)?;
    if !needs_health_check_port(service_type, external) {
        let message = "may only be set with type LoadBalancer and externalTrafficPolicy: Local";
        checks.error(&field, message, "remove it".to_owned());
        return None;
    }
    checks.accept(&field, syntax::port(number))
}

/// `service.kubernetes.io/topology-mode: Auto` or `auto`, or its name of old; nothing else, in whatever case, is that.
fn topology_aware(annotations: &Labels, checks: &mut Checks<'_, '_>) -> bool {
    let metadata = Field::ROOT.key("metadata");
    let field = metadata.key("annotations");
    let (mode, hints) = (annotations.get(TOPOLOGY_MODE), annotations.get(TOPOLOGY_HINTS));
    if let (Some(mode), Some(hints)) = (mode, hints)
        && mode != hints
    {
        let message = format!("must match annotations[{TOPOLOGY_HINTS}], which is \"{hints}\"");
        checks.error(&field.key(TOPOLOGY_MODE), message, format!("remove {TOPOLOGY_HINTS}, which is deprecated"));
    }
    let (name, value) = if mode.is_some() { (TOPOLOGY_MODE, mode) } else { (TOPOLOGY_HINTS, hints) };
    let Some(value) = value.map(String::as_str) else { return false };
    let aware = matches!(value, "Auto" | "auto");
    if !aware && value.eq_ignore_ascii_case("auto") {
        checks.warning(&field.key(name), format!("\"{value}\" is ignored"), "write Auto".to_owned());
    }
    aware
}

fn locality(field: &Field<'_>, text: Option<&str>, checks: &mut Checks<'_, '_>) -> Locality {
    match text {
        None | Some("Cluster") => Locality::Cluster,
        Some("Local") => Locality::Local,
        Some(other) => {
            not_one_of(field, other, &["Cluster", "Local"], checks);
            Locality::Cluster
        }
    }
}

fn external_traffic_policy(spec: &core::ServiceSpec, exposed: bool, checks: &mut Checks<'_, '_>) -> Locality {
    let field = SPEC.key("externalTrafficPolicy");
    let text = spec.external_traffic_policy.as_deref().filter(|text| !text.is_empty());
    if text.is_some() && !exposed {
        let remedy = "use type NodePort or LoadBalancer, or externalIPs; for the cluster IP there is internalTrafficPolicy";
        checks.error(&field, "may only be set on a Service that is reached from outside", remedy.to_owned());
    }
    locality(&field, text, checks)
}

fn traffic_distribution(text: Option<String>, topology_aware: bool, checks: &mut Checks<'_, '_>) -> Option<String> {
    let (field, known) = (SPEC.key("trafficDistribution"), ["PreferClose", "PreferSameZone", "PreferSameNode"]);
    if let Some(text) = text.as_deref().filter(|text| !known.contains(text)) {
        not_one_of(&field, text, &known, checks);
    } else if text.is_some() && topology_aware {
        checks.warning(&field, format!("is ignored: the annotation {TOPOLOGY_MODE} comes first"), "remove one of the two".to_owned());
    }
    text
}

/// Without affinity, Kubernetes' defaulting removes a `sessionAffinityConfig` in silence before validation could refuse it.
fn affinity(spec: &core::ServiceSpec, checks: &mut Checks<'_, '_>) -> Option<Duration> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => {
            if spec.session_affinity_config.is_some() {
                let remedy = "add sessionAffinity: ClientIP, or remove it".to_owned();
                checks.warning(&SPEC.key("sessionAffinityConfig"), "has no effect with sessionAffinity: None", remedy);
            }
            None
        }
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

pub(super) fn not_one_of(field: &Field<'_>, text: &str, known: &[&str], checks: &mut Checks<'_, '_>) {
    let remedy = spelling::suggestion(text, known.iter().copied()).map(|near| format!("did you mean {near}?"));
    checks.error(field, format!("\"{text}\" is not one of {}", known.join(", ")), remedy);
}
