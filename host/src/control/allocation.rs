//! Cluster IPs, node ports and health-check node ports (kubernetes-semantics 1.7 to 1.11, 1.13, 1.20): who asks for one by name gets it
//! or is told who has it; the rest are drawn. What a Service has, it keeps while it exists, and nothing that worked stops for a newcomer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::bands::{IpRange, PortRange};
use super::{Family, ServiceName, about, cluster_ip_field, families};
use crate::objects::model::{
    ClusterIp, Diagnostic, IpFamily, IpFamilyPolicy, Locality, Protocol, Service, ServicePort, ServiceType, Severity,
};

/// What a Service was given beside what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Its families, the primary first; none for aliases (`ExternalName`).
    pub families: Vec<IpFamily>,
    /// Its family policy; none for aliases.
    pub family_policy: Option<IpFamilyPolicy>,
    /// Its cluster IPs, in the order of its families; none for headless Services and aliases.
    pub cluster_ips: Vec<IpAddr>,
    /// The node port of each of its ports, in their order.
    pub node_ports: Vec<Option<u16>>,
    /// Where its health is asked for (row 1.13).
    pub health_check_node_port: Option<u16>,
    /// Its addresses from the host's load-balancer pools.
    pub load_balancer_ips: Vec<IpAddr>,
}

impl Allocation {
    /// The Service as it holds, with what it was given in its fields: as Kubernetes' API would show it.
    pub fn written_into(&self, service: &Service) -> Service {
        let numbers = self.node_ports.iter().copied().chain(std::iter::repeat(None));
        let ports = service.ports.iter().zip(numbers);
        let cluster_ip = match &service.cluster_ip {
            ClusterIp::Headless => ClusterIp::Headless,
            _ if self.cluster_ips.is_empty() => ClusterIp::Allocate,
            _ => ClusterIp::Fixed(self.cluster_ips.clone()),
        };
        let given = &self.load_balancer_ips;
        Service {
            cluster_ip,
            ports: ports.map(|(port, node_port)| ServicePort { node_port, ..port.clone() }).collect(),
            ip_families: self.families.clone(),
            ip_family_policy: self.family_policy,
            health_check_node_port: self.health_check_node_port,
            load_balancer_ips: if given.is_empty() { service.load_balancer_ips.clone() } else { given.clone() },
            ..service.clone()
        }
    }
}

/// Who has what.
#[derive(Debug)]
pub(super) struct Allocator {
    ranges: Vec<IpRange>,
    /// Of the ranges, the primary first.
    families: Vec<Family>,
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
        let mut families: Vec<Family> = Vec::new();
        for family in ranges.iter().map(|range| Family::of(range.network())) {
            if !families.contains(&family) {
                families.push(family);
            }
        }
        Self {
            ranges: ranges.iter().copied().map(IpRange::new).collect(),
            families,
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
    /// that fails keeps what it had. As long as something becomes free on the way, those that lacked it try again, each by itself.
    pub(super) fn admit(&mut self, wanted: &BTreeMap<ServiceName, &Service>) -> BTreeMap<ServiceName, Admission> {
        let mut outcomes = BTreeMap::new();
        let (mut claimed, mut left, mut unlucky) = (Vec::new(), Vec::new(), Vec::new());
        for (name, service) in wanted {
            match self.claim_explicit(name, service) {
                Ok(held) => claimed.push((name, *service, held)),
                Err(problems) => {
                    outcomes.insert(name.clone(), Err(problems));
                    left.push((name, *service));
                }
            }
        }
        let mut freed = false;
        for (name, service, held) in claimed {
            let (outcome, something) = self.settle(name, service, held);
            freed |= something;
            if outcome.is_err() {
                unlucky.push((name, service));
            }
            outcomes.insert(name.clone(), outcome);
        }
        left.append(&mut unlucky);
        while std::mem::take(&mut freed) {
            left.retain(|(name, service)| {
                let claimed = self.claim_explicit(name, service);
                let (outcome, something) = claimed.map_or_else(|why| (Err(why), false), |held| self.settle(name, service, held));
                let failed = outcome.is_err();
                // What it gives back after a failure, nobody has missed.
                freed |= something && !failed;
                outcomes.insert((*name).clone(), outcome);
                failed
            });
        }
        outcomes
    }

    /// Completes what a Service has claimed: keeps the better of before and now, and frees what only the other had. With whether
    /// something became free.
    fn settle(&mut self, name: &ServiceName, service: &Service, mut held: Held) -> (Admission, bool) {
        let before = self.held.get(name).cloned().unwrap_or_default();
        match self.draw(name, service, &mut held, &before) {
            Ok(()) => {
                let freed = self.drop_claims(name, &before, &held);
                let allocation = held.allocation.clone();
                self.held.insert(name.clone(), held);
                (Ok(allocation), freed)
            }
            // Another may have been refused for what this one took and does not keep.
            Err(problems) => (Err(problems), self.drop_claims(name, &held, &before)),
        }
    }

    /// Takes what the Service asks for by number, or nothing.
    fn claim_explicit(&mut self, name: &ServiceName, service: &Service) -> Result<Held, Vec<Diagnostic>> {
        let mut problems = Vec::new();
        let mut held = Held::default();
        if !matches!(service.service_type, ServiceType::ExternalName(_)) {
            let before = self.held.get(name).map(|held| &held.allocation);
            match families::settle(service, &self.families, before) {
                Ok(settled) => {
                    held.allocation.families = settled.families.iter().copied().map(IpFamily::from).collect();
                    held.allocation.family_policy = Some(settled.policy);
                    held.allocation.cluster_ips = families::fixed_ips(service, settled.policy).to_vec();
                }
                Err(wrong) => problems.extend(wrong),
            }
            if let ClusterIp::Fixed(ips) = &service.cluster_ip {
                problems.extend(ips.iter().enumerate().filter_map(|(at, ip)| self.ip_problem(name, service, at, *ip)));
            }
        }
        for (at, port) in service.ports.iter().enumerate() {
            let number = port.node_port.filter(|_| exposes_node_ports(service));
            if let Some(number) = number {
                let field = node_port_field(at);
                problems.extend(self.node_port_problem(name, service, &field, port.protocol, number));
                if !held.claims.insert((port.protocol, number)) {
                    problems.push(taken_twice(service, &field, number));
                }
            }
            held.allocation.node_ports.push(number);
        }
        if let Some(number) = service.health_check_node_port.filter(|_| needs_health_check(service)) {
            problems.extend(self.node_port_problem(name, service, HEALTH_CHECK_FIELD, Protocol::Tcp, number));
            if !held.claims.insert((Protocol::Tcp, number)) {
                problems.push(taken_twice(service, HEALTH_CHECK_FIELD, number));
            }
            held.allocation.health_check_node_port = Some(number);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        self.take(name, &held);
        self.places.insert(name.clone(), place(service));
        Ok(held)
    }

    /// Fills in what was not asked for by number.
    fn draw(&mut self, name: &ServiceName, service: &Service, held: &mut Held, before: &Held) -> Result<(), Vec<Diagnostic>> {
        self.draw_ips(name, service, held, before)?;
        if needs_health_check(service) && held.allocation.health_check_node_port.is_none() {
            let number = self.draw_health_check_port(name, held, before);
            let number = number.ok_or_else(|| self.no_node_port_left(service, HEALTH_CHECK_FIELD))?;
            held.allocation.health_check_node_port = Some(number);
            held.claims.insert((Protocol::Tcp, number));
            self.take(name, held);
        }
        if draws_node_ports(service) {
            for (at, port) in service.ports.iter().enumerate() {
                if held.allocation.node_ports[at].is_some() {
                    continue;
                }
                let number = self.draw_node_port(name, service, at, held, before);
                let number = number.ok_or_else(|| self.no_node_port_left(service, &node_port_field(at)))?;
                held.allocation.node_ports[at] = Some(number);
                held.claims.insert((port.protocol, number));
                self.take(name, held);
            }
        }
        let numbers = held.allocation.node_ports.iter();
        held.by_port_name = service.ports.iter().zip(numbers).filter_map(|(port, number)| Some((port.name.clone(), (*number)?))).collect();
        Ok(())
    }

    /// One cluster IP for each family: the one that it had, else another.
    fn draw_ips(&mut self, name: &ServiceName, service: &Service, held: &mut Held, before: &Held) -> Result<(), Vec<Diagnostic>> {
        let wanted = if has_cluster_ips(service) { held.allocation.families.len() } else { 0 };
        for at in held.allocation.cluster_ips.len()..wanted {
            let family = Family::from(held.allocation.families[at]);
            let kept = before.allocation.cluster_ips.iter().copied().find(|ip| family.holds(*ip));
            let ip = kept.or_else(|| self.draw_ip(name, family)).ok_or_else(|| self.no_ip_left(service, at, family))?;
            held.allocation.cluster_ips.push(ip);
            self.take(name, held);
        }
        Ok(())
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

    fn draw_ip(&self, name: &ServiceName, family: Family) -> Option<IpAddr> {
        let range = self.range_of(family)?;
        let mut order = range.bands.order(&format!("cluster-ip/{name}")).map(|at| range.address(at));
        order.find(|ip| !self.ips.contains_key(ip))
    }

    /// The number that it had, else the first that is free.
    fn draw_health_check_port(&self, name: &ServiceName, held: &Held, before: &Held) -> Option<u16> {
        let unclaimed = |number: &u16| !held.claims.contains(&(Protocol::Tcp, *number));
        let kept = before.allocation.health_check_node_port.filter(unclaimed);
        let free = |number: &u16| {
            let claim = (Protocol::Tcp, *number);
            unclaimed(number) && !before.claims.contains(&claim) && !self.node_ports.contains_key(&claim)
        };
        let order = || self.ports.bands.order(&format!("health-check-node-port/{name}")).map(|at| self.ports.port(at));
        kept.or_else(|| order().find(free))
    }

    /// The range that cluster IPs of a family are drawn from.
    fn range_of(&self, family: Family) -> Option<&IpRange> {
        self.ranges.iter().find(|range| family.holds(range.net.network()))
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

    fn node_port_problem(&self, name: &ServiceName, service: &Service, field: &str, protocol: Protocol, number: u16) -> Option<Diagnostic> {
        let range = range_text(&self.ports.range);
        if !self.ports.range.contains(&number) {
            let message = format!("node port {number} is outside the node-port range ({range})");
            let remedy = format!("choose a port inside it, or leave out {field} to have one allocated");
            return Some(problem(service, field, message, &remedy));
        }
        let owner = self.node_ports.get(&(protocol, number)).filter(|owner| *owner != name)?;
        let message = format!("node port {number} is already used by Service {owner}{}", self.place_of(owner));
        Some(problem(service, field, message, &format!("choose a free port of {range}, or leave out {field} to have one allocated")))
    }

    fn no_ip_left(&self, service: &Service, at: usize, family: Family) -> Vec<Diagnostic> {
        let range = self.range_of(family).map_or("none configured".to_owned(), |range| range.net.to_string());
        let message = format!("no cluster IP is free in the service range ({range})");
        vec![problem(service, &cluster_ip_field(at), message, "give the host a larger --service-cidr")]
    }

    fn no_node_port_left(&self, service: &Service, field: &str) -> Vec<Diagnostic> {
        let message = format!("no node port is free in {}", range_text(&self.ports.range));
        vec![problem(service, field, message, "give the host a larger --node-port-range")]
    }

    /// ` (web.yaml:12)`, if it is known.
    pub(super) fn place_of(&self, owner: &ServiceName) -> &str {
        self.places.get(owner).map_or("", String::as_str)
    }
}

/// Whether it has cluster IPs.
fn has_cluster_ips(service: &Service) -> bool {
    service.cluster_ip != ClusterIp::Headless && !matches!(service.service_type, ServiceType::ExternalName(_))
}

/// Row 1.13: whether a load balancer must be able to ask which nodes have endpoints.
fn needs_health_check(service: &Service) -> bool {
    matches!(service.service_type, ServiceType::LoadBalancer { .. }) && service.external_traffic_policy == Locality::Local
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

fn node_port_field(at: usize) -> String {
    format!("spec.ports[{at}].nodePort")
}

fn taken_twice(service: &Service, field: &str, number: u16) -> Diagnostic {
    let message = format!("node port {number} is used twice by this Service for one protocol");
    problem(service, field, message, "give each port a node port of its own")
}

fn problem(service: &Service, field: &str, message: String, remedy: &str) -> Diagnostic {
    Diagnostic { remedy: Some(remedy.to_owned()), ..about(service, field, Severity::Error, message) }
}

const HEALTH_CHECK_FIELD: &str = "spec.healthCheckNodePort";
