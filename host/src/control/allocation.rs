//! Cluster IPs and node ports (kubernetes-semantics 1.7, 1.8, 1.10, 1.11, 1.20): who asks for one by name gets it or is told who has
//! it; the rest are drawn. What a Service has, it keeps while it exists, and nothing that worked stops for a newcomer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::bands::{IpRange, PortRange};
use super::{ServiceName, about, cluster_ip_field};
use crate::objects::model::{ClusterIp, Diagnostic, Protocol, Service, ServiceType, Severity};

/// What a Service was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Allocation {
    /// Its cluster IPs, the primary first; none for headless Services and aliases.
    pub(super) cluster_ips: Vec<IpAddr>,
    /// The node port of each of its ports, in their order.
    pub(super) node_ports: Vec<Option<u16>>,
}

/// Who has what.
#[derive(Debug)]
pub(super) struct Allocator {
    ranges: Vec<IpRange>,
    ports: PortRange,
    ips: HashMap<IpAddr, ServiceName>,
    node_ports: HashMap<(Protocol, u16), ServiceName>,
    held: BTreeMap<ServiceName, Held>,
    /// ` (web.yaml:12)`, for those who ask for what another has.
    places: HashMap<ServiceName, String>,
}

/// What a Service has, and what is needed to tell others of it.
#[derive(Clone, Debug, Default)]
struct Held {
    allocation: Allocation,
    /// By protocol and number: for release.
    claims: BTreeSet<(Protocol, u16)>,
    /// By port name: what a Service applied again without numbers keeps (`patchAllocatedValues`).
    by_port_name: BTreeMap<String, u16>,
}

/// What came of a Service's requests.
pub(super) type Admission = Result<Allocation, Vec<Diagnostic>>;

impl Allocator {
    pub(super) fn new(ranges: &[IpNet], node_ports: RangeInclusive<u16>) -> Self {
        Self {
            ranges: ranges.iter().copied().map(IpRange::new).collect(),
            ports: PortRange::new(node_ports),
            ips: HashMap::new(),
            node_ports: HashMap::new(),
            held: BTreeMap::new(),
            places: HashMap::new(),
        }
    }

    /// The Service is gone: all that it had is free.
    pub(super) fn release(&mut self, name: &ServiceName) {
        self.places.remove(name);
        if let Some(held) = self.held.remove(name) {
            self.drop_claims(name, &held, &Held::default());
        }
    }

    /// Admits these Services: first everything that is asked for by number, then what is drawn, both in the order of names. A Service
    /// that fails keeps what it had. As long as something becomes free on the way, those that asked for what another had try again.
    pub(super) fn admit(&mut self, wanted: &BTreeMap<ServiceName, &Service>) -> BTreeMap<ServiceName, Admission> {
        let mut outcomes = BTreeMap::new();
        let mut left: Vec<_> = wanted.iter().collect();
        loop {
            let (mut claimed, mut refused) = (Vec::new(), Vec::new());
            for (name, service) in left {
                match self.claim_explicit(name, service) {
                    Ok(held) => claimed.push((name, *service, held)),
                    Err(problems) => {
                        outcomes.insert(name.clone(), Err(problems));
                        refused.push((name, service));
                    }
                }
            }
            let mut freed = false;
            for (name, service, held) in claimed {
                let before = self.held.get(name).cloned().unwrap_or_default();
                let admission = self.draw(name, service, held, &before);
                freed |= self.settle(name, &before, admission, &mut outcomes);
            }
            left = refused;
            if !freed || left.is_empty() {
                return outcomes;
            }
        }
    }

    /// Takes what the Service asks for by number, or nothing.
    fn claim_explicit(&mut self, name: &ServiceName, service: &Service) -> Result<Held, Vec<Diagnostic>> {
        let mut problems = Vec::new();
        let mut held = Held::default();
        if let ClusterIp::Fixed(ips) = &service.cluster_ip {
            for (at, ip) in ips.iter().enumerate() {
                problems.extend(self.ip_problem(name, service, at, *ip));
            }
            held.allocation.cluster_ips.clone_from(ips);
        }
        for (at, port) in service.ports.iter().enumerate() {
            let number = port.node_port.filter(|_| exposes_node_ports(service));
            if let Some(number) = number {
                problems.extend(self.node_port_problem(name, service, at, number));
                if !held.claims.insert((port.protocol, number)) {
                    problems.push(taken_twice(service, at, number));
                }
            }
            held.allocation.node_ports.push(number);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        self.take(name, &held);
        self.places.insert(name.clone(), place(service));
        Ok(held)
    }

    /// Fills in what was not asked for by number.
    fn draw(&mut self, name: &ServiceName, service: &Service, mut held: Held, before: &Held) -> Result<Held, (Held, Vec<Diagnostic>)> {
        if service.cluster_ip == ClusterIp::Allocate && !matches!(service.service_type, ServiceType::ExternalName(_)) {
            let kept = before.allocation.cluster_ips.clone();
            let drawn = if kept.is_empty() { self.draw_ip(name).into_iter().collect() } else { kept };
            if drawn.is_empty() {
                let range = self.ranges.first().map_or("none configured".to_owned(), |range| range.net.to_string());
                let message = format!("no cluster IP is free in the service range ({range})");
                let problem = problem(service, "spec.clusterIP", message, "give the host a larger --service-cidr");
                return Err((held, vec![problem]));
            }
            held.allocation.cluster_ips = drawn;
            self.take(name, &held);
        }
        if draws_node_ports(service) {
            for (at, port) in service.ports.iter().enumerate() {
                if held.allocation.node_ports[at].is_some() {
                    continue;
                }
                let Some(number) = self.draw_node_port(name, service, at, &held, before) else {
                    let message = format!("no node port is free in {}", range_text(&self.ports.range));
                    let problem =
                        problem(service, &format!("spec.ports[{at}].nodePort"), message, "give the host a larger --node-port-range");
                    return Err((held, vec![problem]));
                };
                held.allocation.node_ports[at] = Some(number);
                held.claims.insert((port.protocol, number));
                self.take(name, &held);
            }
        }
        let numbers = held.allocation.node_ports.iter();
        held.by_port_name = service.ports.iter().zip(numbers).filter_map(|(port, number)| Some((port.name.clone(), (*number)?))).collect();
        Ok(held)
    }

    /// Keeps the better of before and now, and frees what only the other had. True if something became free.
    fn settle(
        &mut self,
        name: &ServiceName,
        before: &Held,
        admission: Result<Held, (Held, Vec<Diagnostic>)>,
        outcomes: &mut BTreeMap<ServiceName, Admission>,
    ) -> bool {
        match admission {
            Ok(held) => {
                let freed = self.drop_claims(name, before, &held);
                outcomes.insert(name.clone(), Ok(held.allocation.clone()));
                self.held.insert(name.clone(), held);
                freed
            }
            Err((held, problems)) => {
                outcomes.insert(name.clone(), Err(problems));
                // Another may have been refused for what this one took and did not keep.
                self.drop_claims(name, &held, before)
            }
        }
    }

    fn take(&mut self, name: &ServiceName, held: &Held) {
        for ip in &held.allocation.cluster_ips {
            self.ips.insert(*ip, name.clone());
        }
        for claim in &held.claims {
            self.node_ports.insert(*claim, name.clone());
        }
    }

    /// Frees what `from` has and `kept` has not.
    fn drop_claims(&mut self, name: &ServiceName, from: &Held, kept: &Held) -> bool {
        let ips = from.allocation.cluster_ips.iter().filter(|ip| !kept.allocation.cluster_ips.contains(ip));
        let ips = ips.filter(|ip| self.ips.get(ip) == Some(name)).copied().collect::<Vec<_>>();
        let claims = from.claims.difference(&kept.claims).filter(|claim| self.node_ports.get(claim) == Some(name));
        let claims = claims.copied().collect::<Vec<_>>();
        for ip in &ips {
            self.ips.remove(ip);
        }
        for claim in &claims {
            self.node_ports.remove(claim);
        }
        !ips.is_empty() || !claims.is_empty()
    }

    fn draw_ip(&self, name: &ServiceName) -> Option<IpAddr> {
        let range = self.ranges.first()?;
        let mut order = range.bands.order(&format!("cluster-ip/{name}")).map(|at| range.address(at));
        order.find(|ip| !self.ips.contains_key(ip))
    }

    /// The number that the port had; else that of the Service's port of the same number and another protocol (1.11); else the first
    /// that is free for every such port.
    fn draw_node_port(&self, name: &ServiceName, service: &Service, at: usize, held: &Held, before: &Held) -> Option<u16> {
        let port = &service.ports[at];
        let free = |protocol: Protocol, number: u16| {
            !held.claims.contains(&(protocol, number)) && self.node_ports.get(&(protocol, number)).is_none_or(|owner| owner == name)
        };
        let kept = before.by_port_name.get(&port.name).copied();
        let siblings = || service.ports.iter().zip(&held.allocation.node_ports).filter(|(other, _)| other.port == port.port);
        let shared = siblings().filter_map(|(other, number)| number.or_else(|| before.by_port_name.get(&other.name).copied()));
        if let Some(number) = kept.into_iter().chain(shared).find(|number| free(port.protocol, *number)) {
            return Some(number);
        }
        let waiting: Vec<Protocol> = siblings().filter(|(_, number)| number.is_none()).map(|(other, _)| other.protocol).collect();
        let order = || self.ports.bands.order(&format!("node-port/{name}/{}", port.port)).map(|at| self.ports.port(at));
        let unused = |protocol, number| free(protocol, number) && !before.claims.contains(&(protocol, number));
        let for_all = order().find(|number| waiting.iter().all(|protocol| unused(*protocol, *number)));
        for_all.or_else(|| order().find(|number| unused(port.protocol, *number)))
    }

    fn ip_problem(&self, name: &ServiceName, service: &Service, at: usize, ip: IpAddr) -> Option<Diagnostic> {
        let field = cluster_ip_field(at);
        if !self.ranges.iter().any(|range| range.contains(ip)) {
            let ranges = self.ranges.iter().map(|range| range.net.to_string()).collect::<Vec<_>>().join(", ");
            let message = format!("cluster IP {ip} is not a usable address of the service range ({ranges})");
            let remedy =
                format!("choose an address inside it, leave out {field} to have one allocated, or run with another --service-cidr");
            return Some(problem(service, &field, message, &remedy));
        }
        let owner = self.ips.get(&ip).filter(|owner| *owner != name)?;
        let message = format!("cluster IP {ip} is already used by Service {owner}{}", self.place_of(owner));
        Some(problem(service, &field, message, &format!("choose a free address, or leave out {field} to have one allocated")))
    }

    fn node_port_problem(&self, name: &ServiceName, service: &Service, at: usize, number: u16) -> Option<Diagnostic> {
        let field = format!("spec.ports[{at}].nodePort");
        let range = range_text(&self.ports.range);
        if !self.ports.range.contains(&number) {
            let message = format!("node port {number} is outside the node-port range ({range})");
            let remedy = format!("choose a port inside it, or leave out {field} to have one allocated");
            return Some(problem(service, &field, message, &remedy));
        }
        let owner = self.node_ports.get(&(service.ports[at].protocol, number)).filter(|owner| *owner != name)?;
        let message = format!("node port {number} is already used by Service {owner}{}", self.place_of(owner));
        Some(problem(service, &field, message, &format!("choose a free port of {range}, or leave out {field} to have one allocated")))
    }

    fn place_of(&self, owner: &ServiceName) -> &str {
        self.places.get(owner).map_or("", String::as_str)
    }
}

/// Whether node ports mean anything for this type.
fn exposes_node_ports(service: &Service) -> bool {
    matches!(service.service_type, ServiceType::NodePort | ServiceType::LoadBalancer { .. })
}

/// Whether ports without a number get one.
fn draws_node_ports(service: &Service) -> bool {
    matches!(service.service_type, ServiceType::NodePort | ServiceType::LoadBalancer { allocate_node_ports: true })
}

fn place(service: &Service) -> String {
    service.meta.location.as_ref().map_or(String::new(), |at| format!(" ({at})"))
}

fn range_text(range: &RangeInclusive<u16>) -> String {
    format!("{}-{}", range.start(), range.end())
}

fn taken_twice(service: &Service, at: usize, number: u16) -> Diagnostic {
    let field = format!("spec.ports[{at}].nodePort");
    let message = format!("node port {number} is used twice by this Service for one protocol");
    problem(service, &field, message, "give each port a node port of its own")
}

fn problem(service: &Service, field: &str, message: String, remedy: &str) -> Diagnostic {
    Diagnostic { remedy: Some(remedy.to_owned()), ..about(service, field, Severity::Error, message) }
}
