//! The immutable routing table: which Service port answers on an address, which endpoints it has, how its candidate sets are cut,
//! and the plans its policies made. Built aside, swapped whole; persistent maps share what did not change.

mod shadow;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub use self::shadow::{Canary, Shadow};
pub use crate::objects::model::{Drain, Share};
use imbl::GenericHashMap;
use imbl::shared_ptr::ArcK;
use ipnet::IpNet;
pub use pointsman_sdk::types::{
    Conditions, Frontend as FrontendKind, Locality, Origin, Protocol, ServiceId, ServicePort as PortRecord, Slot, Subset,
};

/// A persistent map: cloning is constant, changing one entry costs O(log n).
pub type Map<K, V> = GenericHashMap<K, V, std::hash::RandomState, ArcK>;

/// At most this many candidate sets a Service port; more is the policy's fault (architecture.md, "plan once, decide often").
pub const MAX_CANDIDATE_SETS: usize = 64;

/// What a client dials: an address that the objects name (before any loopback mapping), a port and a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrontendKey {
    /// The address.
    pub ip: IpAddr,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// What answers there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// Which of the Service's addresses it is.
    pub kind: FrontendKind,
    /// The Service port.
    pub service: ServiceId,
}

/// The table of one generation.
#[derive(Clone, Default)]
pub struct Table {
    /// Grows by one with every table.
    pub generation: u64,
    /// By address.
    pub frontends: Map<FrontendKey, Frontend>,
    /// By `ServiceId`; ids are reused after a Service is gone.
    pub ports: imbl::Vector<Option<Arc<Port>>>,
    /// What tells pods and the node from the outside.
    pub origins: Origins,
    /// Where cluster IPs come from: what is dialled in there and is no Service's is dropped (kubernetes-semantics 3.9).
    pub service_ranges: Arc<[IpNet]>,
    /// By health-check node port.
    pub health_checks: Map<u16, HealthCheck>,
}

/// What a health-check node port says of its Service (kubernetes-semantics 3.15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The Service's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Endpoints on this node that are ready: unique addresses, over all ports. Of a Service in both families, the count of the family
    /// that has more, so that a pod with an address in each counts once.
    pub local_endpoints: u32,
}

/// Who is a pod, who is the node.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// Addresses of known pods.
    pub pods: Map<IpAddr, ()>,
    /// `--cluster-cidr`.
    pub pod_ranges: Arc<[IpNet]>,
    /// The node's own addresses.
    pub node: Arc<[IpAddr]>,
}

impl Origins {
    /// A known pod's address or one of the pod ranges → pod; the node's own → node; else outside.
    pub fn of(&self, client: IpAddr) -> Origin {
        if self.node.contains(&client) {
            Origin::Node
        } else if self.pods.contains_key(&client) || self.pod_ranges.iter().any(|range| range.contains(&client)) {
            Origin::Pod
        } else {
            Origin::Outside
        }
    }
}

impl Table {
    /// The Service port with this id.
    pub fn port(&self, id: ServiceId) -> Option<&Arc<Port>> {
        self.ports.get(id as usize)?.as_ref()
    }

    /// The policy versions that these ports name: every worker needs an instance of each before it uses the table.
    pub fn versions(&self, ports: &[ServiceId]) -> BTreeSet<VersionId> {
        let mut versions = BTreeSet::new();
        for port in ports.iter().filter_map(|id| self.port(*id)) {
            versions.extend(port.selector.planned().map(|planned| planned.version.id));
            versions.extend(port.traffic_policy.planned().map(|planned| planned.version.id));
            versions.extend(port.balancer.planned().map(|planned| planned.version.id));
        }
        versions
    }

    /// The versions that these ports name as candidates: every worker needs an instance of each that is asked as one.
    pub fn candidates(&self, ports: &[ServiceId]) -> BTreeSet<VersionId> {
        let ports = ports.iter().filter_map(|id| self.port(*id));
        ports.filter_map(|port| Some(port.shadow.as_ref()?.planned.as_ref()?.version.id)).collect()
    }

    /// The ports that have a candidate.
    pub fn shadowed(&self) -> impl Iterator<Item = (&Arc<Port>, &Shadow)> {
        self.ports.iter().flatten().filter_map(|port| Some((port, port.shadow.as_deref()?)))
    }

    /// What answers on this address.
    pub fn frontend(&self, key: &FrontendKey) -> Option<&Frontend> {
        self.frontends.get(key)
    }
}

/// A balancer's plans for a Service port: one a candidate set.
pub type SetPlans = Arc<[Arc<[u8]>]>;

/// One Service port, in one IP family, in one generation.
#[derive(Clone)]
pub struct Port {
    /// Stable while the port exists.
    pub id: ServiceId,
    /// The generation in which this entry was built.
    pub generation: u64,
    /// What its policies were told about it, without their settings.
    pub record: Arc<PortRecord>,
    /// What the data plane needs to know.
    pub options: PortOptions,
    /// By slot.
    pub endpoints: Arc<[Endpoint]>,
    /// Slots that left since the plans were made; never to be used.
    pub masked: Arc<[Slot]>,
    /// Names of the selector's groups.
    pub groups: Arc<[String]>,
    /// The traffic policy's subsets, then those of the native fallback that are not among them.
    pub subsets: Arc<[Subset]>,
    /// Every non-empty group ∩ subset.
    pub sets: Arc<[CandidateSet]>,
    /// Stage 1.
    pub selector: Stage<Arc<[u8]>>,
    /// Stage 2.
    pub traffic_policy: Stage<Arc<[u8]>>,
    /// Stage 3: one plan a candidate set.
    pub balancer: Stage<SetPlans>,
    /// A balancer that is tried beside the one in force.
    pub shadow: Option<Box<Shadow>>,
    /// What decides when the traffic policy cannot.
    pub fallback: Fallback,
}

/// `namespace/name:port-name` (or the port's number where it has no name).
impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let record = &self.record;
        if record.port_name.is_empty() {
            write!(f, "{}/{}:{}", record.namespace, record.name, record.port)
        } else {
            write!(f, "{}/{}:{}", record.namespace, record.name, record.port_name)
        }
    }
}

impl Port {
    /// The candidate set for a group (`None`: any) and a subset, unless it is empty. Where groups make no difference (there is one at
    /// most, or no selector put the endpoints into them), there are only sets of "any group", and they answer for every group.
    pub fn set(&self, group: Option<u32>, subset: u32) -> Option<(u32, &CandidateSet)> {
        let group = group.filter(|_| self.sets.iter().any(|set| set.group.is_some()));
        let at = self.sets.iter().position(|set| set.group == group && set.subset == subset)?;
        Some((at as u32, &self.sets[at]))
    }

    /// The group, unless nobody of it can serve and somebody of another group can: then any.
    pub fn group_or_any(&self, group: Option<u32>) -> Option<u32> {
        let there = |set: &CandidateSet| set.members.iter().any(|slot| !self.masked.contains(slot));
        let mut of_groups = self.sets.iter().filter(|set| set.group.is_some()).peekable();
        group.filter(|_| of_groups.peek().is_none() || of_groups.any(|set| set.group == group && there(set)))
    }

    /// Whether some connection could be forwarded; if none can, there is no listener and the kernel refuses. Masked slots count: the
    /// plan that is to come may have others, and a listener that closes in between refuses their connections.
    pub fn can_forward(&self) -> bool {
        self.sets.iter().any(|set| !set.members.is_empty())
    }

    /// Whether endpoints left and the plan without them is still to come.
    pub fn awaits_plan(&self) -> bool {
        !self.masked.is_empty()
    }
}

/// What the data plane needs to know of a Service port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortOptions {
    /// `sessionAffinity: ClientIP`: how long a pin lives.
    pub affinity: Option<Duration>,
    /// `pointsman.dev/max-connection-age`.
    pub max_connection_age: Option<Duration>,
    /// `pointsman.dev/proxy-protocol: v2`.
    pub proxy_protocol: bool,
    /// `pointsman.dev/on-failure: refuse`.
    pub refuse_on_failure: bool,
    /// `spec.loadBalancerSourceRanges`; empty: anyone.
    pub source_ranges: Vec<IpNet>,
    /// `pointsman.dev/drain`.
    pub drain: Drain,
    /// `pointsman.dev/udp-idle-timeout`; `None`: the host's default.
    pub udp_idle_timeout: Option<Duration>,
}

/// One endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where to connect to.
    pub address: SocketAddr,
    /// `address` as text: the identity across generations.
    pub key: Arc<str>,
    /// xxh64 of `key`, seed 0.
    pub hash: u64,
    /// Ready, serving, terminating.
    pub conditions: Conditions,
    /// 0: never picked.
    pub weight: u32,
    /// On the node that this host serves.
    pub local: bool,
    /// The node's name.
    pub node: Option<Arc<str>>,
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// EndpointSlice hints.
    pub node_hints: Vec<String>,
    /// EndpointSlice hints.
    pub zone_hints: Vec<String>,
    /// The pod's labels.
    pub labels: Arc<BTreeMap<String, String>>,
    /// The selector's group.
    pub group: Option<u32>,
    /// When it last became ready, on the host's monotonic clock.
    pub ready_since_ms: u64,
    /// Live connections, over all Services and workers of this host.
    pub load: Arc<Load>,
}

/// Live connections of one endpoint, from pick to close.
#[derive(Debug, Default)]
pub struct Load(AtomicU32);

impl Load {
    /// How many there are now.
    pub fn active(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Makes it this many, whoever is connected: for trials, which have no connections.
    pub fn set(&self, active: u32) {
        self.0.store(active, Ordering::Relaxed);
    }

    /// One more, until the guard is dropped.
    pub fn enter(self: &Arc<Self>) -> LoadGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        LoadGuard(Arc::clone(self))
    }
}

/// Counts one connection while it lives.
#[derive(Debug)]
pub struct LoadGuard(Arc<Load>);

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A group met with a subset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandidateSet {
    /// `None`: any group.
    pub group: Option<u32>,
    /// Index into `subsets`.
    pub subset: u32,
    /// Slots, ascending.
    pub members: Arc<[Slot]>,
}

/// One version of a policy: what a decision names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVersion {
    /// Unique in this process.
    pub id: VersionId,
    /// The name in annotations.
    pub name: Arc<str>,
    /// `sha256:…` of the component.
    pub digest: Arc<str>,
}

/// Identity of a policy version in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionId(pub u32);

/// What fills a stage: the version in force, and the last good one, which stands in when that faults.
#[derive(Clone, Debug)]
pub struct Stage<P> {
    /// The policy's name as asked for, in force or not.
    pub name: Arc<str>,
    /// `None`: it could not plan; the fallback decides.
    pub current: Option<Planned<P>>,
    /// A former version that cuts the endpoints in the same way.
    pub stand_in: Option<Planned<P>>,
}

/// A version and its plan for this port.
#[derive(Clone, Debug)]
pub struct Planned<P> {
    /// The version.
    pub version: Arc<PolicyVersion>,
    /// What workers adopt.
    pub plan: P,
}

impl<P> Stage<P> {
    /// The version in force, then the one that stands in.
    pub fn planned(&self) -> impl Iterator<Item = &Planned<P>> {
        self.current.iter().chain(&self.stand_in)
    }
}

/// The native twin of the policy `kubernetes`, for connections that the traffic policy could not judge.
#[derive(Clone, Debug, Default)]
pub struct Fallback {
    /// The twin's plan.
    pub plan: Arc<[u8]>,
    /// The twin's subset n is this one of the port's.
    pub subsets: Arc<[u32]>,
}
