//! What a new version must get through before it meets a connection: plans for a handful of made-up Service ports, then 10,000 connections
//! and a set of hostile ones. No fault, every answer in range, fuel under the limit.

use std::net::Ipv4Addr;

use pointsman_sdk::types::{Conditions, Frontend, Locality, Origin, Protocol};
use xxhash_rust::xxh64::xxh64;

use super::contract::{Connection, Endpoint, Fault, Label, Place, ServicePort, StageKind, Verdict};
use super::counters::PolicyCounters;
use super::instance::Instance;
use super::loaded::LoadedPolicy;
use super::planners::{check_grouping, check_partition};
use super::refusal::Refusal;

/// What the self-test measured.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cost {
    /// Decisions made.
    pub decisions: u64,
    /// Fuel that half of them stayed below (a power of two).
    pub fuel_p50: u64,
    /// Fuel that 99 % of them stayed below (a power of two).
    pub fuel_p99: u64,
    /// The most fuel that one used.
    pub fuel_max: u64,
    /// The most linear memory that the worker's instance held, in bytes.
    pub memory_peak_bytes: u64,
}

/// Connections for each made-up Service port; there are four.
const CONNECTIONS: u32 = 2_500;
/// Endpoints of the made-up Service ports.
const SIZES: [u32; 4] = [1, 3, 10, 100];

/// Runs it.
///
/// # Errors
/// `Refusal::SelfTest`, with the function of the contract and the case in which it failed.
pub(super) fn run(policy: &LoadedPolicy) -> Result<Cost, Refusal> {
    let mut test = Test {
        planner: instance(policy, Place::Planner)?,
        worker: instance(policy, Place::Worker(1))?,
        counters: PolicyCounters::new(policy.version().clone(), policy.stage()),
    };
    for (at, size) in SIZES.into_iter().enumerate() {
        let port = port(at as u32, &policy.version().name);
        let endpoints = endpoints(size);
        match policy.stage() {
            StageKind::Selector => test.selector(&port, &endpoints)?,
            StageKind::TrafficPolicy => test.traffic_policy(&port, &endpoints)?,
            StageKind::Balancer => test.balancer(&port, &endpoints)?,
        }
        test.worker.forget(port.id).map_err(failed("forget", size))?;
    }
    let counters = test.counters;
    Ok(Cost {
        decisions: counters.calls(),
        fuel_p50: counters.fuel_quantile(0.5),
        fuel_p99: counters.fuel_quantile(0.99),
        fuel_max: counters.fuel_max,
        memory_peak_bytes: test.worker.memory_peak(),
    })
}

fn instance(policy: &LoadedPolicy, place: Place) -> Result<Instance, Refusal> {
    policy.instantiate(place).map_err(|fault| Refusal::Probe { call: "configure", fault })
}

fn failed(call: &'static str, endpoints: u32) -> impl FnOnce(Fault) -> Refusal {
    move |fault| Refusal::SelfTest { call, case: format!("with {endpoints} endpoints"), fault }
}

struct Test {
    planner: Instance,
    worker: Instance,
    counters: PolicyCounters,
}

impl Test {
    fn selector(&mut self, port: &ServicePort, endpoints: &[Endpoint]) -> Result<(), Refusal> {
        let size = endpoints.len() as u32;
        let grouping = self.planner.plan_selector(port).and_then(check_grouping).map_err(failed("plan", size))?;
        let groups = grouping.groups.len() as u32;
        for endpoint in endpoints {
            let group = self.planner.classify(port.id, &endpoint.labels).map_err(failed("classify", size))?;
            in_range("group", group.unwrap_or(0), groups.max(1)).map_err(failed("classify", size))?;
        }
        self.worker.adopt(port.id, &grouping.data).map_err(failed("adopt", size))?;
        self.connections("choose", port, size, |worker, connection| {
            let group = worker.choose_group(connection)?;
            group.map_or(Ok(()), |group| in_range("group", group, groups))
        })
    }

    fn traffic_policy(&mut self, port: &ServicePort, endpoints: &[Endpoint]) -> Result<(), Refusal> {
        let size = endpoints.len() as u32;
        let partition = self.planner.plan_traffic_policy(port, endpoints);
        let partition = partition.and_then(|partition| check_partition(partition, endpoints.len())).map_err(failed("plan", size))?;
        let subsets = partition.subsets.len() as u32;
        self.worker.adopt(port.id, &partition.data).map_err(failed("adopt", size))?;
        self.connections("choose", port, size, |worker, connection| {
            let group = (connection.random % 2 == 0).then_some(0);
            match worker.choose_subset(connection, group)? {
                Verdict::Forward(subset) => in_range("subset", subset, subsets),
                Verdict::Reject | Verdict::Drop => Ok(()),
            }
        })
    }

    fn balancer(&mut self, port: &ServicePort, endpoints: &[Endpoint]) -> Result<(), Refusal> {
        let size = endpoints.len() as u32;
        // Two sets of one port, the second with every other endpoint: a slot of the first is out of range in the second.
        let some: Vec<Endpoint> = endpoints.iter().step_by(2).cloned().collect();
        for (set, members) in [(0, endpoints), (1, some.as_slice())] {
            let plan = self.planner.plan_balancer(port, members).map_err(failed("plan", size))?;
            self.worker.adopt_set(port.id, set, &plan).map_err(failed("adopt", size))?;
        }
        self.connections("pick", port, size, |worker, connection| {
            let set = (connection.client_lo % 2) as u32;
            match worker.pick(connection, set)? {
                Some(slot) if slot >= size || (set == 1 && slot % 2 == 1) => Err(Fault::OutOfRange(format!("slot {slot}"))),
                Some(slot) if endpoints[slot as usize].weight == 0 => Err(Fault::OutOfRange(format!("slot {slot}, whose weight is 0"))),
                _ => Ok(()),
            }
        })
    }

    fn connections(
        &mut self,
        call: &'static str,
        port: &ServicePort,
        endpoints: u32,
        mut ask: impl FnMut(&mut Instance, &Connection) -> Result<(), Fault>,
    ) -> Result<(), Refusal> {
        for connection in (0..CONNECTIONS).map(|n| connection(port.id, n)).chain(hostile(port.id)) {
            let answer = ask(&mut self.worker, &connection);
            self.counters.spent(self.worker.last_fuel());
            answer.map_err(|fault| Refusal::SelfTest {
                call,
                case: format!("with {endpoints} endpoints, a client at {}, attempt {}", connection.client(), connection.attempt),
                fault,
            })?;
        }
        Ok(())
    }
}

fn in_range(what: &str, value: u32, below: u32) -> Result<(), Fault> {
    if value < below { Ok(()) } else { Err(Fault::OutOfRange(format!("{what} {value} of {below}"))) }
}

/// A made-up Service port; the four differ in their policies and in whether they have a selector.
fn port(id: u32, policy: &str) -> ServicePort {
    let local = |yes| if yes { Locality::Local } else { Locality::Cluster };
    ServicePort {
        id,
        namespace: "self-test".into(),
        name: policy.into(),
        port_name: String::new(),
        port: 80,
        protocol: if id == 2 { Protocol::Udp } else { Protocol::Tcp },
        labels: vec![label("app", "self-test")],
        selector: (id != 3).then(|| vec![label("app", "web")]),
        internal_traffic_policy: local(id & 1 == 1),
        external_traffic_policy: local(id & 2 == 2),
        traffic_distribution: (id == 2).then(|| "PreferClose".into()),
        settings: Vec::new(),
    }
}

fn label(key: &str, value: &str) -> Label {
    Label { key: key.into(), value: value.into() }
}

/// Endpoints of every condition, place and weight. The first is always ready and has weight 1.
fn endpoints(count: u32) -> Vec<Endpoint> {
    let endpoint = |slot: u32| {
        let key = format!("{}:8080", Ipv4Addr::from(0x0af4_0001 + slot));
        let node = format!("node-{}", slot % 3);
        Endpoint {
            slot,
            hash: xxh64(key.as_bytes(), 0),
            key,
            conditions: Conditions { ready: slot % 7 != 6, serving: slot % 11 != 10, terminating: slot % 7 == 6 },
            weight: [1, 1, 0, 5, 100, 1, u32::MAX][slot as usize % 7],
            local: slot.is_multiple_of(3),
            zone: Some(format!("zone-{}", slot % 2)),
            node_hints: if slot.is_multiple_of(2) { vec![node.clone()] } else { Vec::new() },
            zone_hints: if slot.is_multiple_of(5) { vec!["zone-0".into()] } else { Vec::new() },
            node: Some(node),
            labels: vec![label("app", if slot.is_multiple_of(4) { "db" } else { "web" }), label("slot", &slot.to_string())],
            group: (slot % 13 != 12).then_some(0),
            ready_since_ms: u64::from(slot) * 1000,
        }
    };
    (0..count).map(endpoint).collect()
}

/// The n-th made-up connection: every frontend, origin and attempt, from many clients.
fn connection(service: u32, n: u32) -> Connection {
    let bits = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Connection {
        service,
        client_hi: 0,
        client_lo: 0xffff_0000_0000 | u64::from(0x0a01_0000 + n % 500),
        client_port: (n % 60_000) as u16,
        client_hash: xxh64(&(n % 500).to_le_bytes(), 0),
        frontend: FRONTENDS[n as usize % FRONTENDS.len()],
        origin: ORIGINS[n as usize % ORIGINS.len()],
        attempt: if n % 10 == 9 { n % 4 } else { 0 },
        now_ms: u64::from(n),
        random: bits ^ (bits >> 29),
    }
}

const FRONTENDS: [Frontend; 5] =
    [Frontend::ClusterIp, Frontend::NodePort, Frontend::ExternalIp, Frontend::LoadBalancer, Frontend::HostPort];
const ORIGINS: [Origin; 3] = [Origin::Pod, Origin::Node, Origin::Outside];

/// Connections with every scalar at one end of its range or the other.
fn hostile(service: u32) -> impl Iterator<Item = Connection> {
    (0..256_u32).map(move |bits| {
        let wide = |bit: u32| if bits >> bit & 1 == 1 { u64::MAX } else { 0 };
        Connection {
            service,
            client_hi: wide(0),
            client_lo: wide(1),
            client_port: wide(2) as u16,
            client_hash: wide(3),
            frontend: FRONTENDS[bits as usize % FRONTENDS.len()],
            origin: ORIGINS[bits as usize % ORIGINS.len()],
            attempt: if wide(6) > 0 { 3 } else { 0 },
            now_ms: wide(4),
            random: wide(5),
        }
    })
}
