//! A policy without a sandbox: the native twin of the component. Planner and workers are separate instances, and plans pass
//! between them as the same bytes, so what holds here holds there.

use crate::balancer::{Balancer, BalancerInstance, LearningBalancer};
use crate::load::Load;
use crate::selector::{Selector, SelectorInstance};
use crate::traffic_policy::{TrafficPolicy, TrafficPolicyInstance};
use crate::types::{
    Conditions, Connection, Endpoint, Frontend, Grouping, Label, Locality, Node, Origin, Outcome, Partition, Place, Protocol, ServiceId,
    ServicePort, Setting, Slot, Verdict,
};

/// A balancer's planner and one worker.
pub struct NativeBalancer<B: Balancer> {
    planner: BalancerInstance<B>,
    worker: BalancerInstance<B>,
}

impl<B: Balancer> NativeBalancer<B> {
    /// A planner, and a worker with this seed.
    ///
    /// # Errors
    /// The policy's own.
    pub fn new(settings: &[Setting], seed: u64) -> Result<Self, String> {
        let (mut planner, mut worker) = (BalancerInstance::new(), BalancerInstance::new());
        planner.configure(Place::Planner, &Node::default(), settings)?;
        worker.configure(Place::Worker(seed), &Node::default(), settings)?;
        Ok(Self { planner, worker })
    }

    /// Plans a candidate set and has the worker adopt it. The bytes are for whoever wants to look.
    ///
    /// # Errors
    /// The policy's own.
    pub fn plan(&mut self, port: &ServicePort, set: u32, members: &[Endpoint]) -> Result<Vec<u8>, String> {
        let data = self.planner.plan(port, members)?;
        self.worker.adopt(port.id, set, &data);
        Ok(data)
    }

    /// Has the worker adopt bytes from elsewhere.
    pub fn adopt(&mut self, service: ServiceId, set: u32, data: &[u8]) {
        self.worker.adopt(service, set, data);
    }

    /// An endpoint for a new connection.
    pub fn pick(&mut self, connection: &Connection, set: u32, load: &impl Load) -> Option<Slot> {
        self.worker.pick(connection, set, load)
    }

    /// A Service port is gone.
    pub fn forget(&mut self, service: ServiceId) {
        self.planner.forget(service);
        self.worker.forget(service);
    }
}

impl<B: LearningBalancer> NativeBalancer<B> {
    /// What became of earlier picks.
    pub fn report(&mut self, now_ms: u64, outcomes: &[Outcome]) {
        self.worker.report(now_ms, outcomes);
    }
}

/// A selector's planner and one worker.
pub struct NativeSelector<S: Selector> {
    planner: SelectorInstance<S>,
    worker: SelectorInstance<S>,
}

impl<S: Selector> NativeSelector<S> {
    /// A planner, and a worker with this seed.
    ///
    /// # Errors
    /// The policy's own.
    pub fn new(settings: &[Setting], seed: u64) -> Result<Self, String> {
        let (mut planner, mut worker) = (SelectorInstance::new(), SelectorInstance::new());
        planner.configure(Place::Planner, &Node::default(), settings)?;
        worker.configure(Place::Worker(seed), &Node::default(), settings)?;
        Ok(Self { planner, worker })
    }

    /// Plans a Service port and has the worker adopt it.
    ///
    /// # Errors
    /// The policy's own.
    pub fn plan(&mut self, port: &ServicePort) -> Result<Grouping, String> {
        let grouping = self.planner.plan(port)?;
        self.worker.adopt(port.id, &grouping.data);
        Ok(grouping)
    }

    /// The group of a pod.
    pub fn classify(&mut self, service: ServiceId, labels: &[Label]) -> Option<u32> {
        self.planner.classify(service, labels)
    }

    /// The group that may serve a connection.
    pub fn choose(&mut self, connection: &Connection) -> Option<u32> {
        self.worker.choose(connection)
    }
}

/// A traffic policy's planner and one worker.
pub struct NativeTrafficPolicy<T: TrafficPolicy> {
    planner: TrafficPolicyInstance<T>,
    worker: TrafficPolicyInstance<T>,
}

impl<T: TrafficPolicy> NativeTrafficPolicy<T> {
    /// A planner, and a worker with this seed, on a node.
    ///
    /// # Errors
    /// The policy's own.
    pub fn new(node: &Node, settings: &[Setting], seed: u64) -> Result<Self, String> {
        let (mut planner, mut worker) = (TrafficPolicyInstance::new(), TrafficPolicyInstance::new());
        planner.configure(Place::Planner, node, settings)?;
        worker.configure(Place::Worker(seed), node, settings)?;
        Ok(Self { planner, worker })
    }

    /// Plans a Service port and has the worker adopt it.
    ///
    /// # Errors
    /// The policy's own.
    pub fn plan(&mut self, port: &ServicePort, endpoints: &[Endpoint]) -> Result<Partition, String> {
        let partition = self.planner.plan(port, endpoints)?;
        self.worker.adopt(port.id, &partition.data);
        Ok(partition)
    }

    /// What becomes of a connection.
    pub fn choose(&mut self, connection: &Connection, group: Option<u32>) -> Verdict {
        self.worker.choose(connection, group)
    }
}

/// For tests: a Service port with a selector and no settings.
pub fn port(id: ServiceId) -> ServicePort {
    ServicePort {
        id,
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        port_name: String::new(),
        port: 80,
        protocol: Protocol::Tcp,
        labels: Vec::new(),
        selector: Some(vec![Label { key: "app".to_owned(), value: "web".to_owned() }]),
        internal_traffic_policy: Locality::Cluster,
        external_traffic_policy: Locality::Cluster,
        traffic_distribution: None,
        settings: Vec::new(),
    }
}

/// For tests: the setting `key`.
pub fn setting(key: &str, value: &str) -> Setting {
    Setting { key: key.to_owned(), value: value.to_owned() }
}

/// For tests: a ready endpoint on another node, of group 0.
pub fn endpoint(slot: Slot, key: &str, weight: u32) -> Endpoint {
    Endpoint {
        slot,
        key: key.to_owned(),
        hash: crate::hash::xxh64(key.as_bytes(), 0),
        conditions: Conditions { ready: true, serving: true, terminating: false },
        weight,
        local: false,
        node: None,
        zone: None,
        node_hints: Vec::new(),
        zone_hints: Vec::new(),
        labels: Vec::new(),
        group: Some(0),
        ready_since_ms: 0,
    }
}

/// For tests: ready endpoints `10.0.0.0:80`, `10.0.0.1:80`, … with these weights, in slots 0, 1, …
pub fn endpoints(weights: &[u32]) -> Vec<Endpoint> {
    weights.iter().enumerate().map(|(n, &weight)| endpoint(n as Slot, &format!("10.0.{}.{}:80", n / 256, n % 256), weight)).collect()
}

/// For tests: the `n`-th connection to a Service port's cluster IP, from a client of its own outside the cluster.
pub fn connection(service: ServiceId, n: u64) -> Connection {
    Connection {
        service,
        client_hi: 0,
        client_lo: 0xffff_0a00_0000 | (n & 0x00ff_ffff),
        client_port: 40_000,
        client_hash: crate::hash::mix(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        frontend: Frontend::ClusterIp,
        origin: Origin::Outside,
        attempt: 0,
        now_ms: n,
        random: crate::hash::mix(n.wrapping_add(1).wrapping_mul(0xd134_2543_de82_ef95)),
    }
}
