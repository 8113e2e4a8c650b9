//! Which addresses a Service answers on (kubernetes-semantics 3.1), and who has an address that two Services ask for: the one that had
//! it first, and among newcomers the first by name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::allocation::Allocation;
use super::{Family, PortKey, ServiceName, Settings, about, cluster_ip_field};
use crate::objects::model::{Diagnostic, Protocol, Service, Severity};
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

/// The families in which a Service is served: those of its cluster IPs (row 3.1, "families fully separate").
pub(super) fn families(allocation: &Allocation) -> BTreeSet<Family> {
    allocation.cluster_ips.iter().copied().map(Family::of).collect()
}

/// Every address that a Service would answer on, once each, the surest first.
pub(super) fn claims(name: &ServiceName, service: &Service, allocation: &Allocation, settings: &Settings) -> Vec<Claim> {
    let families = families(allocation);
    let mut claims: Vec<Claim> = Vec::new();
    let mut claim = |kind, ip: IpAddr, at: usize, number: u16, field: String| {
        let (port, family) = (&service.ports[at], Family::of(ip));
        let key = FrontendKey { ip, port: number, protocol: port.protocol };
        if families.contains(&family) && claims.iter().all(|other| other.key != key) {
            claims.push(Claim { key, kind, port: PortKey::new(name, port, family), field });
        }
    };
    for (at, port) in service.ports.iter().enumerate() {
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
        for (nth, ip) in service.load_balancer_ips.iter().enumerate() {
            claim(FrontendKind::LoadBalancer, *ip, at, port.port, format!("status.loadBalancer.ingress[{nth}].ip"));
        }
    }
    claims
}

/// Warnings for addresses of a family that the Service is not served in.
pub(super) fn foreign_addresses(service: &Service, allocation: &Allocation) -> Vec<Diagnostic> {
    let families = families(allocation);
    let external = service.external_ips.iter().enumerate().map(|(at, ip)| (format!("spec.externalIPs[{at}]"), ip));
    let balancers = service.load_balancer_ips.iter().enumerate();
    let all = external.chain(balancers.map(|(at, ip)| (format!("status.loadBalancer.ingress[{at}].ip"), ip)));
    let foreign = all.filter(|(_, ip)| !families.is_empty() && !families.contains(&Family::of(**ip)));
    let warn = |(field, ip): (String, &IpAddr)| Diagnostic {
        remedy: Some("give spec.clusterIPs an address of that family too".to_owned()),
        ..about(service, &field, Severity::Warning, format!("{ip} is not served: no cluster IP of its family"))
    };
    foreign.map(warn).collect()
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
        let message = format!("{ip} port {port}/{protocol} already belongs to Service {owner}: not served for this one");
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
