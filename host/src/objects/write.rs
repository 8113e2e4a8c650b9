//! Objects as the JSON that Kubernetes' API would show: for objects that were made here, and for those that were read, as far as they
//! were kept. What reads manifests reads this too.

use serde_json::{Map, Value, json};
use xxhash_rust::xxh64::xxh64;

use super::model::{
    ClusterIp, ContainerPort, EndpointAddress, EndpointPort, EndpointSlice, Endpoints, IpFamily, IpFamilyPolicy, Kind, Locality, Meta,
    Node, Object, Pod, Protocol, Service, ServicePort, ServiceType, SliceEndpoint, TargetPort,
};

/// The label that ties a slice to its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that says who looks after a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Makes slices of pods.
pub const SLICE_CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// Makes slices of hand-written Endpoints.
pub const MIRRORING_CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";

/// One object, with `apiVersion` and `kind`. Of a Service, the allocated addresses and ports are shown if they are filled in.
pub fn to_json(object: &Object) -> Value {
    let mut fields = match object {
        Object::Namespace(_) => Map::new(),
        Object::Node(node) => node_fields(node),
        Object::Pod(pod) => pod_fields(pod),
        Object::Service(service) => service_fields(service),
        Object::Endpoints(endpoints) => endpoints_fields(endpoints),
        Object::EndpointSlice(slice) => slice_fields(slice),
    };
    let kind = object.kind();
    let version = if kind == Kind::EndpointSlice { "discovery.k8s.io/v1" } else { "v1" };
    fields.insert("apiVersion".to_owned(), json!(version));
    fields.insert("kind".to_owned(), json!(kind.name()));
    let mut metadata = metadata(kind, object.meta());
    if let Object::EndpointSlice(slice) = object {
        metadata.append(&mut made_for(slice));
    }
    fields.insert("metadata".to_owned(), Value::Object(metadata));
    Value::Object(fields)
}

/// A `v1 List` of objects.
pub fn list_to_json<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Value {
    let items: Vec<Value> = objects.into_iter().map(to_json).collect();
    json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": items })
}

/// Members that are there: `null`s, empty lists and empty maps are left out.
fn present(value: Value) -> Map<String, Value> {
    let Value::Object(mut members) = value else { return Map::new() };
    members.retain(|_, value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => true,
    });
    members
}

fn metadata(kind: Kind, meta: &Meta) -> Map<String, Value> {
    let namespace = Some(&meta.namespace).filter(|namespace| !namespace.is_empty());
    present(json!({
        "namespace": namespace,
        "name": meta.name,
        "uid": uid(kind, &meta.namespace, &meta.name),
        "labels": meta.labels,
        "annotations": meta.annotations,
    }))
}

/// A UID of an object's own: a version-8 UUID (RFC 9562, 5.8) of what identifies it, since no API server has given it one.
fn uid(kind: Kind, namespace: &str, name: &str) -> String {
    let identity = format!("{}/{namespace}/{name}", kind.name());
    let (high, low) = (xxh64(identity.as_bytes(), 0), xxh64(identity.as_bytes(), 1));
    let (version, variant) = (0x8000 | (high & 0xfff), 0x8000 | ((low >> 48) & 0x3fff));
    format!("{:08x}-{:04x}-{version:04x}-{variant:04x}-{:012x}", high >> 32, (high >> 16) & 0xffff, low & 0xffff_ffff_ffff)
}

/// What the controllers say of a slice: the Service or the Endpoints that it was made for.
fn made_for(slice: &EndpointSlice) -> Map<String, Value> {
    let owner = match slice.meta.labels.get(MANAGED_BY).map(String::as_str) {
        Some(SLICE_CONTROLLER) => Kind::Service,
        Some(MIRRORING_CONTROLLER) => Kind::Endpoints,
        _ => return Map::new(),
    };
    let Some(name) = slice.meta.labels.get(SERVICE_NAME) else { return Map::new() };
    present(json!({
        "generateName": format!("{name}-"),
        "ownerReferences": [{
            "apiVersion": "v1",
            "kind": owner.name(),
            "name": name,
            "uid": uid(owner, &slice.meta.namespace, name),
            "controller": true,
            "blockOwnerDeletion": true,
        }],
    }))
}

fn slice_fields(slice: &EndpointSlice) -> Map<String, Value> {
    let family = slice.family.map_or("FQDN", family);
    let mirrored = slice.meta.labels.get(MANAGED_BY).is_some_and(|manager| manager == MIRRORING_CONTROLLER);
    let endpoints: Vec<Value> = slice.endpoints.iter().map(|endpoint| slice_endpoint(endpoint, &slice.meta, mirrored)).collect();
    let ports: Vec<Value> = slice.ports.iter().map(|port| Value::Object(slice_port(port))).collect();
    // The lists are there even where they are empty: a placeholder says so.
    Map::from_iter([
        ("addressType".to_owned(), json!(family)),
        ("endpoints".to_owned(), Value::Array(endpoints)),
        ("ports".to_owned(), Value::Array(ports)),
    ])
}

fn slice_endpoint(endpoint: &SliceEndpoint, meta: &Meta, mirrored: bool) -> Value {
    let conditions = endpoint.conditions;
    // Endpoints say nothing of serving and terminating, and neither does what mirrors them.
    let said = Some(()).filter(|()| !mirrored);
    let zones: Vec<Value> = endpoint.zone_hints.iter().map(|zone| json!({ "name": zone })).collect();
    let nodes: Vec<Value> = endpoint.node_hints.iter().map(|node| json!({ "name": node })).collect();
    Value::Object(present(json!({
        "addresses": [endpoint.ip],
        "conditions": present(json!({
            "ready": conditions.ready,
            "serving": said.map(|()| conditions.serving),
            "terminating": said.map(|()| conditions.terminating),
        })),
        "hostname": endpoint.hostname,
        "nodeName": endpoint.node,
        "zone": endpoint.zone,
        "targetRef": endpoint.pod.as_ref().map(|pod| pod_reference(pod, meta)),
        "hints": present(json!({ "forZones": zones, "forNodes": nodes })),
    })))
}

fn pod_reference(pod: &str, meta: &Meta) -> Value {
    json!({ "kind": "Pod", "namespace": meta.namespace, "name": pod, "uid": uid(Kind::Pod, &meta.namespace, pod) })
}

/// Unnamed ports have an empty name here, and none in Endpoints.
fn slice_port(port: &EndpointPort) -> Map<String, Value> {
    present(json!({
        "name": port.name,
        "protocol": protocol(port.protocol),
        "port": port.port,
        "appProtocol": port.app_protocol,
    }))
}

fn endpoints_fields(endpoints: &Endpoints) -> Map<String, Value> {
    let subsets: Vec<Value> = endpoints
        .subsets
        .iter()
        .map(|subset| {
            let addresses = |ready: bool| -> Vec<Value> {
                let these = subset.addresses.iter().filter(|address| address.ready == ready);
                these.map(|address| Value::Object(endpoint_address(address, &endpoints.meta))).collect()
            };
            let ports = subset.ports.iter().map(|port| {
                let name = Some(&port.name).filter(|name| !name.is_empty());
                let mut members = slice_port(port);
                members.insert("name".to_owned(), json!(name));
                Value::Object(present(Value::Object(members)))
            });
            Value::Object(present(json!({
                "addresses": addresses(true),
                "notReadyAddresses": addresses(false),
                "ports": ports.collect::<Vec<_>>(),
            })))
        })
        .collect();
    present(json!({ "subsets": subsets }))
}

fn endpoint_address(address: &EndpointAddress, meta: &Meta) -> Map<String, Value> {
    present(json!({
        "ip": address.ip,
        "hostname": address.hostname,
        "nodeName": address.node,
        "targetRef": address.pod.as_ref().map(|pod| pod_reference(pod, meta)),
    }))
}

fn service_fields(service: &Service) -> Map<String, Value> {
    let (service_type, external_name) = match &service.service_type {
        ServiceType::ClusterIp => ("ClusterIP", None),
        ServiceType::NodePort => ("NodePort", None),
        ServiceType::LoadBalancer { .. } => ("LoadBalancer", None),
        ServiceType::ExternalName(name) => ("ExternalName", Some(name)),
    };
    let balances = matches!(service.service_type, ServiceType::LoadBalancer { .. });
    let exposed = balances || service.service_type == ServiceType::NodePort || !service.external_ips.is_empty();
    let cluster_ips: Vec<String> = match &service.cluster_ip {
        ClusterIp::Allocate => Vec::new(),
        ClusterIp::Headless => vec!["None".to_owned()],
        ClusterIp::Fixed(ips) => ips.iter().map(ToString::to_string).collect(),
    };
    let ports: Vec<Value> = service.ports.iter().map(service_port).collect();
    let ranges: Vec<String> = service.load_balancer_source_ranges.iter().map(ToString::to_string).collect();
    let allocates = match service.service_type {
        ServiceType::LoadBalancer { allocate_node_ports } => Some(allocate_node_ports),
        _ => None,
    };
    let timeout = service.affinity.map(|timeout| json!({ "clientIP": { "timeoutSeconds": timeout.as_secs() } }));
    let spec = present(json!({
        "type": service_type,
        "externalName": external_name,
        "clusterIP": cluster_ips.first(),
        "clusterIPs": cluster_ips,
        "ipFamilies": service.ip_families.iter().map(|known| family(*known)).collect::<Vec<_>>(),
        "ipFamilyPolicy": service.ip_family_policy.map(|policy| match policy {
            IpFamilyPolicy::SingleStack => "SingleStack",
            IpFamilyPolicy::PreferDualStack => "PreferDualStack",
            IpFamilyPolicy::RequireDualStack => "RequireDualStack",
        }),
        "ports": ports,
        "selector": service.selector,
        "externalIPs": service.external_ips,
        "loadBalancerIP": service.load_balancer_ip,
        "loadBalancerClass": service.load_balancer_class,
        "loadBalancerSourceRanges": ranges,
        "allocateLoadBalancerNodePorts": allocates,
        "healthCheckNodePort": service.health_check_node_port,
        "internalTrafficPolicy": external_name.is_none().then(|| locality(service.internal_traffic_policy)),
        "externalTrafficPolicy": exposed.then(|| locality(service.external_traffic_policy)),
        "trafficDistribution": service.traffic_distribution,
        "sessionAffinity": if service.affinity.is_some() { "ClientIP" } else { "None" },
        "sessionAffinityConfig": timeout,
        "publishNotReadyAddresses": service.publish_not_ready.then_some(true),
    }));
    let ingress: Vec<Value> = service.load_balancer_ips.iter().map(|ip| json!({ "ip": ip, "ipMode": "VIP" })).collect();
    let balancer = present(json!({ "ingress": ingress }));
    Map::from_iter([("spec".to_owned(), Value::Object(spec)), ("status".to_owned(), json!({ "loadBalancer": balancer }))])
}

fn service_port(port: &ServicePort) -> Value {
    let target = match &port.target_port {
        TargetPort::Number(number) => json!(number),
        TargetPort::Name(name) => json!(name),
    };
    Value::Object(present(json!({
        "name": Some(&port.name).filter(|name| !name.is_empty()),
        "protocol": protocol(port.protocol),
        "port": port.port,
        "targetPort": target,
        "nodePort": port.node_port,
        "appProtocol": port.app_protocol,
    })))
}

/// Its containers are known by their ports only: one stands for all of them.
fn pod_fields(pod: &Pod) -> Map<String, Value> {
    let ports: Vec<Value> = pod.ports.iter().map(container_port).collect();
    let spec = present(json!({
        "nodeName": pod.node,
        "hostname": pod.hostname,
        "subdomain": pod.subdomain,
        "hostNetwork": pod.host_network.then_some(true),
        "containers": [present(json!({ "name": "main", "ports": ports }))],
    }));
    let ips: Vec<Value> = pod.addresses.iter().map(|ip| json!({ "ip": ip })).collect();
    let status = present(json!({
        "phase": if pod.finished { "Succeeded" } else { "Running" },
        "podIP": pod.addresses.first(),
        "podIPs": ips,
        "conditions": [condition("Ready", pod.ready)],
    }));
    Map::from_iter([("spec".to_owned(), Value::Object(spec)), ("status".to_owned(), Value::Object(status))])
}

fn container_port(port: &ContainerPort) -> Value {
    Value::Object(present(json!({
        "name": port.name,
        "containerPort": port.port,
        "protocol": protocol(port.protocol),
        "hostPort": port.host_port,
        "hostIP": port.host_ip,
    })))
}

fn node_fields(node: &Node) -> Map<String, Value> {
    let addresses: Vec<Value> = node.addresses.iter().map(|ip| json!({ "type": "InternalIP", "address": ip })).collect();
    let allocatable = node.cpu_millis.map(|millis| json!({ "cpu": format!("{millis}m") }));
    let status = present(json!({
        "addresses": addresses,
        "allocatable": allocatable,
        "conditions": [condition("Ready", node.ready)],
    }));
    Map::from_iter([("spec".to_owned(), json!({})), ("status".to_owned(), Value::Object(status))])
}

fn condition(name: &str, holds: bool) -> Value {
    json!({ "type": name, "status": if holds { "True" } else { "False" } })
}

fn family(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "IPv4",
        IpFamily::V6 => "IPv6",
    }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

fn locality(locality: Locality) -> &'static str {
    match locality {
        Locality::Cluster => "Cluster",
        Locality::Local => "Local",
    }
}
