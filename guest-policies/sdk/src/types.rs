//! The records of the contract (`wit/policy.wit`), as plain Rust. The host uses these same types, so a policy that runs
//! natively and one that runs as a component see the same values.

use std::net::{IpAddr, Ipv6Addr};

/// One port of one Service, in one IP family; stable while it exists.
pub type ServiceId = u32;
/// Position of an endpoint in its Service port's table: `0..len`, valid for one generation.
pub type Slot = u32;

/// Transport protocol of a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Which of the Service's addresses the client dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Frontend {
    /// The Service's cluster IP.
    ClusterIp,
    /// A node's address and the Service's node port.
    NodePort,
    /// One of `spec.externalIPs`.
    ExternalIp,
    /// One of `status.loadBalancer.ingress[].ip`.
    LoadBalancer,
    /// A pod's `hostPort` on its node.
    HostPort,
}

/// Where the client is, as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A pod of the cluster.
    Pod,
    /// This node.
    Node,
    /// Anywhere else.
    Outside,
}

/// `Cluster` or `Local`, for `internalTrafficPolicy` and `externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Locality {
    /// Every node's endpoints.
    #[default]
    Cluster,
    /// This node's endpoints only.
    Local,
}

/// A label of a Service, pod or node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    /// `prefix/name` or `name`.
    pub key: String,
    /// At most 63 characters.
    pub value: String,
}

/// A setting: from the host's configuration in `configure`, from the Service's annotations in a `ServicePort`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Setting {
    /// For the annotation `pointsman.dev/balancer.table-size`: `table-size`.
    pub key: String,
    /// As written.
    pub value: String,
}

/// One Service port, as a planner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Stable while the port exists.
    pub id: ServiceId,
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// `spec.ports[].name`; empty for a single unnamed port.
    pub port_name: String,
    /// `spec.ports[].port`.
    pub port: u16,
    /// `spec.ports[].protocol`.
    pub protocol: Protocol,
    /// The Service's labels, sorted by key.
    pub labels: Vec<Label>,
    /// `None`: the Service has no selector and its endpoints are written by hand.
    pub selector: Option<Vec<Label>>,
    /// `spec.internalTrafficPolicy`.
    pub internal_traffic_policy: Locality,
    /// `spec.externalTrafficPolicy`.
    pub external_traffic_policy: Locality,
    /// `spec.trafficDistribution`.
    pub traffic_distribution: Option<String>,
    /// What the Service's annotations say to this policy.
    pub settings: Vec<Setting>,
}

impl ServicePort {
    /// The value of a setting that the Service's annotations give, if they do.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.iter().find(|s| s.key == key).map(|s| s.value.as_str())
    }
}

/// The state of an endpoint (EndpointSlice `conditions`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Conditions {
    /// Takes new connections.
    pub ready: bool,
    /// Answers its readiness probe, also while terminating.
    pub serving: bool,
    /// Is being deleted.
    pub terminating: bool,
}

/// One endpoint of a Service port, as a planner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Position in this generation's table.
    pub slot: Slot,
    /// `10.244.1.5:80`: the identity across generations. Hash this, not the slot.
    pub key: String,
    /// xxh64 of `key`, seed 0.
    pub hash: u64,
    /// Ready, serving, terminating.
    pub conditions: Conditions,
    /// 1 unless said otherwise; 0: never picked.
    pub weight: u32,
    /// On the node that this host serves.
    pub local: bool,
    /// The node's name.
    pub node: Option<String>,
    /// The node's zone.
    pub zone: Option<String>,
    /// EndpointSlice `hints.forNodes`.
    pub node_hints: Vec<String>,
    /// EndpointSlice `hints.forZones`.
    pub zone_hints: Vec<String>,
    /// The pod's labels, sorted by key.
    pub labels: Vec<Label>,
    /// The selector's group that it came from; `None` where there was no selector.
    pub group: Option<u32>,
    /// When it last became ready, on the clock of `Connection::now_ms`.
    pub ready_since_ms: u64,
}

/// The node that this host serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its zone (label `topology.kubernetes.io/zone`).
    pub zone: Option<String>,
    /// Its labels, sorted by key.
    pub labels: Vec<Label>,
}

/// One new connection, or one new UDP flow: scalars only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The Service port that was dialled.
    pub service: ServiceId,
    /// The client's address, upper half of the 128-bit (v6-mapped) form.
    pub client_hi: u64,
    /// Lower half.
    pub client_lo: u64,
    /// The client's port.
    pub client_port: u16,
    /// Keyed hash of the client's address without its port.
    pub client_hash: u64,
    /// Which address was dialled.
    pub frontend: Frontend,
    /// Where the client is.
    pub origin: Origin,
    /// 0 on the first try, then 1, 2, 3 when an endpoint could not be reached.
    pub attempt: u32,
    /// Milliseconds, monotonic, of no particular origin.
    pub now_ms: u64,
    /// Fresh random bits for this decision.
    pub random: u64,
}

impl Connection {
    /// The client's address.
    pub fn client(&self) -> IpAddr {
        let bits = (u128::from(self.client_hi) << 64) | u128::from(self.client_lo);
        Ipv6Addr::from(bits).to_canonical()
    }
}

/// Where an instance of a policy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Off the data path: makes plans.
    Planner,
    /// On a worker: adopts plans and decides. The seed differs from worker to worker.
    Worker(u64),
}

/// Who a policy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The policy's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// One line for a list.
    pub summary: String,
}

/// What a selector makes of a Service port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grouping {
    /// The groups' names.
    pub groups: Vec<String>,
    /// The plan.
    pub data: Vec<u8>,
}

/// Endpoints that connections may be confined to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subset {
    /// For people: `cluster`, `local`.
    pub name: String,
    /// Slots, each below the number of endpoints, none twice.
    pub members: Vec<Slot>,
}

/// What a traffic policy makes of a Service port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// The subsets.
    pub subsets: Vec<Subset>,
    /// The plan.
    pub data: Vec<u8>,
}

/// What a traffic policy says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To an endpoint of the subset with this index.
    Forward(u32),
    /// Refuse: the client sees a reset.
    Reject,
    /// Say nothing.
    Drop,
}

/// What became of an earlier pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeKind {
    /// The endpoint accepted.
    Connected,
    /// The endpoint refused.
    Refused,
    /// The endpoint did not answer in time.
    TimedOut,
    /// The connection ended with a reset.
    Reset,
    /// The connection ended in order.
    Closed,
}

/// An outcome, for a balancer that learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The Service port.
    pub service: ServiceId,
    /// `Endpoint::hash`.
    pub endpoint: u64,
    /// What happened.
    pub kind: OutcomeKind,
    /// Milliseconds to connect; for closed and reset, how long it lived.
    pub millis: u32,
}
