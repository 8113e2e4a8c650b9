//! The objects as types that cannot be wrong: what the router needs of each Kubernetes kind, after parsing, defaulting and
//! validation. Names are Kubernetes' own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
pub use pointsman_sdk::types::{Conditions, Locality, Protocol};

/// Labels or annotations, sorted by key.
pub type Labels = BTreeMap<String, String>;

/// The kinds that Pointsman reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `v1 Namespace`.
    Namespace,
    /// `v1 Node`.
    Node,
    /// `v1 Pod`.
    Pod,
    /// `v1 Service`.
    Service,
    /// `v1 Endpoints`.
    Endpoints,
    /// `discovery.k8s.io/v1 EndpointSlice`.
    EndpointSlice,
}

/// Identity of an object: kind, namespace (empty for Node and Namespace), name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Where an object was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file, as it was named.
    pub file: Arc<Path>,
    /// 1-based line of the document's first key.
    pub line: u32,
    /// Where fields stand that may be right by themselves and wrong beside other objects; few, and the same for all clones.
    pub fields: Arc<[FieldPlace]>,
}

/// Where a field of an object stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPlace {
    /// `spec.ports[1].nodePort`.
    pub field: Box<str>,
    /// 1-based.
    pub line: u32,
    /// 1-based.
    pub column: u32,
}

/// `metadata`, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Empty for cluster-scoped kinds; `default` where a namespaced object names none.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// Labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
    /// `deletionTimestamp` is set.
    pub terminating: bool,
    /// Where it was read from, when from a file.
    pub location: Option<Location>,
}

/// A parsed object. Shared, never changed in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Namespace.
    Namespace(Arc<Meta>),
    /// A Node.
    Node(Arc<Node>),
    /// A Pod.
    Pod(Arc<Pod>),
    /// A Service.
    Service(Arc<Service>),
    /// An Endpoints object.
    Endpoints(Arc<Endpoints>),
    /// An EndpointSlice.
    EndpointSlice(Arc<EndpointSlice>),
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::Node(_) => Kind::Node,
            Self::Pod(_) => Kind::Pod,
            Self::Service(_) => Kind::Service,
            Self::Endpoints(_) => Kind::Endpoints,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
        }
    }

    /// Its metadata.
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Namespace(meta) => meta,
            Self::Node(node) => &node.meta,
            Self::Pod(pod) => &pod.meta,
            Self::Service(service) => &service.meta,
            Self::Endpoints(endpoints) => &endpoints.meta,
            Self::EndpointSlice(slice) => &slice.meta,
        }
    }

    /// Its identity.
    pub fn key(&self) -> ObjectKey {
        let meta = self.meta();
        ObjectKey { kind: self.kind(), namespace: meta.namespace.clone(), name: meta.name.clone() }
    }
}

/// A Node: its zone and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Metadata.
    pub meta: Meta,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// `status.addresses` of type InternalIP and ExternalIP.
    pub addresses: Vec<IpAddr>,
}

/// A Pod that may back a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Metadata.
    pub meta: Meta,
    /// `spec.nodeName`.
    pub node: Option<String>,
    /// `status.podIPs`, else `status.podIP`.
    pub addresses: Vec<IpAddr>,
    /// Condition `Ready` is `True`.
    pub ready: bool,
    /// `status.phase` is Succeeded or Failed.
    pub finished: bool,
    /// Container ports, of all containers and of restartable init containers.
    pub ports: Vec<ContainerPort>,
    /// `spec.hostname` and `spec.subdomain`.
    pub hostname: Option<String>,
    /// `spec.subdomain`.
    pub subdomain: Option<String>,
    /// Annotation `pointsman.dev/weight`.
    pub weight: Option<u32>,
}

/// `spec.containers[].ports[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The port.
    pub port: u16,
    /// TCP unless said otherwise.
    pub protocol: Protocol,
}

/// A Service, defaulted and validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Metadata.
    pub meta: Meta,
    /// `spec.type`.
    pub service_type: ServiceType,
    /// `spec.clusterIP(s)`.
    pub cluster_ip: ClusterIp,
    /// `spec.ports`, names unique.
    pub ports: Vec<ServicePort>,
    /// `spec.selector`; `None`: endpoints are written by hand. An empty map is `None` (with a warning).
    pub selector: Option<Labels>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` with ipMode VIP.
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`.
    pub load_balancer_source_ranges: Vec<IpNet>,
    /// `spec.internalTrafficPolicy`.
    pub internal_traffic_policy: Locality,
    /// `spec.externalTrafficPolicy`.
    pub external_traffic_policy: Locality,
    /// `spec.trafficDistribution`.
    pub traffic_distribution: Option<String>,
    /// `sessionAffinity: ClientIP` and its timeout.
    pub affinity: Option<Duration>,
    /// `spec.publishNotReadyAddresses`.
    pub publish_not_ready: bool,
    /// What the annotations `pointsman.dev/…` ask for.
    pub options: ServiceOptions,
}

/// `spec.type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceType {
    /// A cluster IP only.
    ClusterIp,
    /// And a port on every node.
    NodePort,
    /// And load-balancer addresses; `allocate_node_ports` is `spec.allocateLoadBalancerNodePorts`.
    LoadBalancer {
        /// Whether node ports are allocated.
        allocate_node_ports: bool,
    },
    /// A DNS alias: no address at all.
    ExternalName(String),
}

/// `spec.clusterIP(s)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterIp {
    /// To be allocated.
    Allocate,
    /// `None`: headless.
    Headless,
    /// These, the first being the primary.
    Fixed(Vec<IpAddr>),
}

/// `spec.ports[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty for a single unnamed port.
    pub name: String,
    /// TCP unless said otherwise.
    pub protocol: Protocol,
    /// The port clients dial.
    pub port: u16,
    /// The port of the endpoint; defaults to `port`.
    pub target_port: TargetPort,
    /// An explicit node port.
    pub node_port: Option<u16>,
}

/// `spec.ports[].targetPort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// A container port's name, resolved pod by pod.
    Name(String),
}

/// What a Service's annotations `pointsman.dev/…` say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceOptions {
    /// `pointsman.dev/selector` and `pointsman.dev/selector.KEY`.
    pub selector: StageOptions,
    /// `pointsman.dev/traffic-policy` and `pointsman.dev/traffic-policy.KEY`.
    pub traffic_policy: StageOptions,
    /// `pointsman.dev/balancer` and `pointsman.dev/balancer.KEY`.
    pub balancer: StageOptions,
    /// `pointsman.dev/max-connection-age` (`30m`, `90s`).
    pub max_connection_age: Option<Duration>,
    /// `pointsman.dev/proxy-protocol: v2`: send a PROXY protocol v2 header to the endpoint.
    pub proxy_protocol: bool,
    /// `pointsman.dev/on-failure: refuse`: refuse a connection rather than let the native fallback choose.
    pub refuse_on_failure: bool,
}

/// What a Service asks of one stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageOptions {
    /// The policy's name; `None`: the host's default.
    pub policy: Option<String>,
    /// Its settings, sorted by key.
    pub settings: Labels,
}

/// An Endpoints object. Entries keep ready and not-ready addresses apart as in the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Metadata; the name is the Service's.
    pub meta: Meta,
    /// The subsets.
    pub subsets: Vec<EndpointSubset>,
}

/// `subsets[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSubset {
    /// `addresses` (ready) and `notReadyAddresses`.
    pub addresses: Vec<EndpointAddress>,
    /// `ports`.
    pub ports: Vec<EndpointPort>,
}

/// `subsets[].addresses[]` or `notReadyAddresses[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointAddress {
    /// The address.
    pub ip: IpAddr,
    /// From `addresses`, not `notReadyAddresses`.
    pub ready: bool,
    /// `nodeName`.
    pub node: Option<String>,
    /// `hostname`.
    pub hostname: Option<String>,
}

/// `ports[]` of a subset or of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    /// Joined with the Service port by this name and the protocol; empty for unnamed.
    pub name: String,
    /// TCP unless said otherwise.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Metadata.
    pub meta: Meta,
    /// Label `kubernetes.io/service-name`.
    pub service: Option<String>,
    /// `endpoints`; FQDN slices have none here.
    pub endpoints: Vec<SliceEndpoint>,
    /// `ports`; one without a number is left out (kubernetes-semantics 3.22).
    pub ports: Vec<EndpointPort>,
}

/// `endpoints[]` of a slice; only the first address counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// `addresses[0]`.
    pub ip: IpAddr,
    /// Conditions, with Kubernetes' defaults for those left out.
    pub conditions: Conditions,
    /// `nodeName`.
    pub node: Option<String>,
    /// `zone`.
    pub zone: Option<String>,
    /// `hostname`.
    pub hostname: Option<String>,
    /// `hints.forZones`.
    pub zone_hints: Vec<String>,
    /// `hints.forNodes`.
    pub node_hints: Vec<String>,
    /// Annotation `service.cilium.io/weight` on the slice.
    pub weight: Option<u32>,
    /// `targetRef` of kind Pod: its name.
    pub pod: Option<String>,
}

/// How grave a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Works, but probably not as meant.
    Warning,
    /// The object is not applied.
    Error,
}

/// One thing that is wrong with a manifest: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// 1-based line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// 1-based column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// `Service default/web`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// `spec.ports[1].nodePort`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}
