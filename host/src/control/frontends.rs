//! Which addresses a Service answers on (kubernetes-semantics 3.1), and who has an address that two Services ask for: the one that had
//! it first, and among newcomers the first by name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::allocation::Allocation;
use super::{Family, PortKey, ServiceName, Settings, about, cluster_ip_field, host_ports};
use crate::objects::model::{Diagnostic, Protocol, Service, ServiceType, Severity};
use crate::table::{FrontendKey, FrontendKind};

/// A Service's wish for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) key: FrontendKey,
    pub(super) kind: FrontendKind,
    /// The port that is to answer.
    pub(super) port: PortKey,
    /// `spec.externalIPs[0]`.
    field: String,
}

/// Who answers where.
#[derive(Debug, Default)]
pub(super) struct Frontends {
    held: HashMap<FrontendKey, ServiceName>,
    /// Who would like an address that another has.
    waiting: HashMap<FrontendKey, BTreeSet<ServiceName>>,
}

/// The families in which a Service is served: those of its cluster IPs (row 3.1, "families fully separate"), or of a pod's addresses.
/// None for a Service that is another proxy's business (1.24).
pub(super) fn families(name: &ServiceName, service: &Service, allocation: &Allocation) -> BTreeSet<Family> {
    if name.pod().is_some() {
        return allocation.families.iter().copied().map(Family::from).collect();
    }
    let ips = allocation.cluster_ips.iter().filter(|_| !service.other_proxy);
    ips.copied().map(Family::of).collect()
}

/// The load-balancer addresses of a Service: those in its status, whoever wrote them there, else those from the host's pools.
pub(super) fn load_balancer_ips<'a>(service: &'a Service, allocation: &'a Allocation) -> &'a [IpAddr] {
    match (&service.service_type, service.load_balancer_ips.as_slice()) {
        (ServiceType::LoadBalancer { .. }, []) => &allocation.load_balancer_ips,
        (ServiceType::LoadBalancer { .. }, written) => written,
        _ => &[],
    }
}

/// Every address that a Service would answer on, once each, the surest first.
pub(super) fn claims(name: &ServiceName, service: &Service, allocation: &Allocation, settings: &Settings) -> Vec<Claim> {
    let families = families(name, service, allocation);
    let mut claims: Vec<Claim> = Vec::new();
    let mut claim = |kind, ip: IpAddr, at: usize, number: u16, field: String| {
        let (port, family) = (&service.ports[at], Family::of(ip));
        let key = FrontendKey { ip, port: number, protocol: port.protocol };
        if families.contains(&family) && claims.iter().all(|other| other.key != key) {
            claims.push(Claim { key, kind, port: PortKey::new(name, port, family), field });
        }
    };
    for (at, port) in service.ports.iter().enumerate() {
        if name.pod().is_some() {
            for ip in host_ports::addresses(service, settings) {
                claim(FrontendKind::HostPort, ip, at, port.port, host_ports::FIELD.to_owned());
            }
            continue;
        }
        for (nth, ip) in allocation.cluster_ips.iter().enumerate() {
            claim(FrontendKind::ClusterIp, *ip, at, port.port, cluster_ip_field(nth));
        }
        if let Some(number) = allocation.node_ports.get(at).copied().flatten() {
            for ip in &settings.node_port_addresses {
                claim(FrontendKind::NodePort, *ip, at, number, format!("spec.ports[{at}].nodePort"));
            }
        }
        for (nth, ip) in service.external_ips.iter().enumerate() {
            claim(FrontendKind::ExternalIp, *ip, at, port.port, format!("spec.externalIPs[{nth}]"));
        }
        for (nth, ip) in load_balancer_ips(service, allocation).iter().enumerate() {
            claim(FrontendKind::LoadBalancer, *ip, at, port.port, ingress_field(nth));
        }
    }
    claims
}

/// Warnings for addresses of a family that the Service is not served in.
pub(super) fn foreign_addresses(name: &ServiceName, service: &Service, allocation: &Allocation) -> Vec<Diagnostic> {
    let families = families(name, service, allocation);
    if families.is_empty() || name.pod().is_some() {
        return Vec::new();
    }
    let external = service.external_ips.iter().enumerate().map(|(at, ip)| (format!("spec.externalIPs[{at}]"), ip));
    let balancers = load_balancer_ips(service, allocation).iter().enumerate();
    let all = external.chain(balancers.map(|(at, ip)| (ingress_field(at), ip)));
    let foreign = all.filter(|(_, ip)| !families.contains(&Family::of(**ip)));
    let warn = |(field, ip): (String, &IpAddr)| Diagnostic {
        remedy: Some("set spec.ipFamilyPolicy to PreferDualStack, with a --service-cidr of that family".to_owned()),
        ..about(service, &field, Severity::Warning, format!("{ip} is not served: no cluster IP of its family"))
    };
    foreign.map(warn).collect()
}

fn ingress_field(nth: usize) -> String {
    format!("status.loadBalancer.ingress[{nth}].ip")
}

impl Frontends {
    /// Frees an address, and names those who wait for it.
    pub(super) fn release(&mut self, name: &ServiceName, key: &FrontendKey) -> BTreeSet<ServiceName> {
        if self.held.get(key) != Some(name) {
            return BTreeSet::new();
        }
        self.held.remove(key);
        self.waiting.remove(key).unwrap_or_default()
    }

    /// The Service waits for nothing any more (it may again, when it claims).
    pub(super) fn stop_waiting(&mut self, name: &ServiceName, keys: &BTreeSet<FrontendKey>) {
        for key in keys {
            if let Some(waiting) = self.waiting.get_mut(key) {
                waiting.remove(name);
                if waiting.is_empty() {
                    self.waiting.remove(key);
                }
            }
        }
    }

    /// Takes an address, or says who has it.
    pub(super) fn claim(&mut self, name: &ServiceName, service: &Service, claim: &Claim) -> Result<(), Box<Diagnostic>> {
        let owner = self.held.entry(claim.key).or_insert_with(|| name.clone());
        if owner == name {
            return Ok(());
        }
        let (ip, port, protocol) = (claim.key.ip, claim.key.port, protocol_name(claim.key.protocol));
        let owner = host_ports::owner(owner);
        let message = format!("{ip} port {port}/{protocol} already belongs to {owner}: not served for this one");
        self.waiting.entry(claim.key).or_default().insert(name.clone());
        Err(Box::new(Diagnostic {
            remedy: Some("give one of the two another address or port".to_owned()),
            ..about(service, &claim.field, Severity::Error, message)
        }))
    }
}

/// The claims of several Services, in the order in which they are settled: addresses that the host gave, then those that were asked
/// for; by name within each.
pub(super) fn in_order(wanted: &BTreeMap<ServiceName, Vec<Claim>>) -> impl Iterator<Item = (&ServiceName, &Claim)> {
    let given = |claim: &Claim| matches!(claim.kind, FrontendKind::ClusterIp | FrontendKind::NodePort);
    let all = move |first: bool| {
        wanted.iter().flat_map(move |(name, claims)| claims.iter().filter(move |c| given(c) == first).map(move |c| (name, c)))
    };
    all(true).chain(all(false))
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}
