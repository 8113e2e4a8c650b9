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

    /// Where it stands in memory: of two that live, the same only for clones of one.
    pub fn address(&self) -> usize {
        match self {
            Self::Namespace(meta) => Arc::as_ptr(meta).addr(),
            Self::Node(node) => Arc::as_ptr(node).addr(),
            Self::Pod(pod) => Arc::as_ptr(pod).addr(),
            Self::Service(service) => Arc::as_ptr(service).addr(),
            Self::Endpoints(endpoints) => Arc::as_ptr(endpoints).addr(),
            Self::EndpointSlice(slice) => Arc::as_ptr(slice).addr(),
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
    /// Condition `Ready` is `True`.
    pub ready: bool,
    /// `status.allocatable.cpu`, in thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// Label `node-role.kubernetes.io/control-plane` or `…/master`.
    pub control_plane: bool,
    /// Taint `ToBeDeletedByClusterAutoscaler`.
    pub to_be_deleted: bool,
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
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// Containers that have a readiness probe.
    pub readiness_probes: Vec<ReadinessProbe>,
}

/// A container's `readinessProbe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadinessProbe {
    /// The container's name.
    pub container: String,
    /// What to ask, and how often. Port names are resolved.
    pub probe: Probe,
}

/// How something is asked whether it is ready. Defaults are Kubernetes' own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub action: ProbeAction,
    /// `initialDelaySeconds`: 0 unless said otherwise.
    pub initial_delay: Duration,
    /// `periodSeconds`: 10 s.
    pub period: Duration,
    /// `timeoutSeconds`: 1 s.
    pub timeout: Duration,
    /// `successThreshold`: 1.
    pub success_threshold: u32,
    /// `failureThreshold`: 3.
    pub failure_threshold: u32,
}

/// What a probe asks. Where no host is named, it is the pod's or the endpoint's own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeAction {
    /// `httpGet`: a status from 200 to 399 is success.
    Http {
        /// `scheme: HTTPS`; certificates are not checked.
        tls: bool,
        /// `host`.
        host: Option<String>,
        /// `port`; `None`: the endpoint's own (only by annotation).
        port: Option<u16>,
        /// `path`, `/` unless said otherwise.
        path: String,
        /// `httpHeaders`.
        headers: Vec<(String, String)>,
    },
    /// `tcpSocket`: a connection is success.
    Tcp {
        /// `host`.
        host: Option<String>,
        /// `port`; `None`: the endpoint's own (only by annotation).
        port: Option<u16>,
    },
    /// `grpc`: SERVING, by the gRPC health checking protocol.
    Grpc {
        /// `port`; `None`: the endpoint's own (only by annotation).
        port: Option<u16>,
        /// `service`.
        service: String,
    },
    /// `exec`: status 0 is success. Runs on this host, and only with `--allow-exec-probes`.
    Exec {
        /// `command`.
        command: Vec<String>,
    },
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
    /// `hostPort`: the node's port that leads here.
    pub host_port: Option<u16>,
    /// `hostIP`: the node's address that leads here; `None`: every one.
    pub host_ip: Option<IpAddr>,
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
    /// `spec.ipFamilyPolicy`; `None`: the default of its type (kubernetes-semantics 1.9).
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// `spec.ipFamilies`, the primary first; empty: not said.
    pub ip_families: Vec<IpFamily>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `spec.loadBalancerIP`.
    pub load_balancer_ip: Option<IpAddr>,
    /// `spec.loadBalancerClass`.
    pub load_balancer_class: Option<String>,
    /// `spec.healthCheckNodePort`.
    pub health_check_node_port: Option<u16>,
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
    /// Annotation `service.kubernetes.io/topology-mode: Auto` (kubernetes-semantics 1.22).
    pub topology_aware: bool,
    /// It carries the label `service.kubernetes.io/service-proxy-name`: another proxy's business (1.24).
    pub other_proxy: bool,
    /// `sessionAffinity: ClientIP` and its timeout.
    pub affinity: Option<Duration>,
    /// `spec.publishNotReadyAddresses`.
    pub publish_not_ready: bool,
    /// What the annotations `pointsman.dev/…` ask for.
    pub options: ServiceOptions,
}

/// `spec.ipFamilies[]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IpFamily {
    /// `IPv4`.
    V4,
    /// `IPv6`.
    V6,
}

/// `spec.ipFamilyPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFamilyPolicy {
    /// One family.
    SingleStack,
    /// Both where the host has ranges of both.
    PreferDualStack,
    /// Both, or it is refused.
    RequireDualStack,
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
    /// `appProtocol`: a hint, copied to EndpointSlices.
    pub app_protocol: Option<String>,
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
    /// `pointsman.dev/balancer-shadow` and `pointsman.dev/balancer-shadow.KEY`: a balancer that is tried beside the one in force.
    pub shadow: StageOptions,
    /// `pointsman.dev/balancer-canary`: the share of clients for which the shadow is in charge.
    pub canary: Option<Share>,
    /// `pointsman.dev/max-connection-age` (`30m`, `90s`).
    pub max_connection_age: Option<Duration>,
    /// `pointsman.dev/proxy-protocol: v2`: send a PROXY protocol v2 header to the endpoint.
    pub proxy_protocol: bool,
    /// `pointsman.dev/on-failure: refuse`: refuse a connection rather than let the native fallback choose.
    pub refuse_on_failure: bool,
    /// `pointsman.dev/drain`.
    pub drain: Drain,
    /// `pointsman.dev/udp-idle-timeout`; `None`: the host's default.
    pub udp_idle_timeout: Option<Duration>,
    /// `pointsman.dev/probe` and `pointsman.dev/probe.KEY`: how endpoints that are written by hand are probed.
    pub probe: Option<Probe>,
}

/// A share of something, in millionths: exact, and fine enough for `0.0001%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// The whole, in millionths.
    pub const WHOLE: u32 = 1_000_000;

    /// So many millionths, at most the whole.
    pub fn of_millionths(millionths: u32) -> Self {
        Self(millionths.min(Self::WHOLE))
    }

    /// In millionths.
    pub fn millionths(self) -> u32 {
        self.0
    }
}

/// As in annotations: `5%`, `12.5%`.
impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (percent, rest) = (self.0 / 10_000, self.0 % 10_000);
        if rest == 0 {
            return write!(f, "{percent}%");
        }
        let decimals = format!("{rest:04}");
        write!(f, "{percent}.{}%", decimals.trim_end_matches('0'))
    }
}

/// What becomes of established connections when their endpoint leaves or is no longer ready: `pointsman.dev/drain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drain {
    /// `keep`: they go on until they end by themselves, as in Kubernetes.
    #[default]
    Keep,
    /// `reset`: at once.
    Reset,
    /// A number of seconds, or a duration such as `30s`: after that.
    After(Duration),
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
    /// `targetRef` of kind Pod: its name.
    pub pod: Option<String>,
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
    /// `appProtocol`.
    pub app_protocol: Option<String>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Metadata.
    pub meta: Meta,
    /// Label `kubernetes.io/service-name`.
    pub service: Option<String>,
    /// `addressType`; `None`: FQDN, which nobody can be forwarded to.
    pub family: Option<IpFamily>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
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
