//! What may change in an object that is in force, and what its next version may leave unsaid: Kubernetes' update rules
//! (`validateUpgradeDowngradeClusterIPs`, `initIPFamilyFields`, `patchAllocatedValues`, `dropTypeDependentFields`).

use std::collections::HashSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;

use super::model::{
    ClusterIp, Diagnostic, EndpointSlice, IpFamily, IpFamilyPolicy, Kind, Meta, ObjectKey, Service, ServicePort, ServiceType, Severity,
};
use super::problems::Checks;
use super::service::{has_node_ports, needs_health_check_port};
use super::tree::Field;

/// What a Service in force was given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocated<'a> {
    /// Its cluster IPs, the primary first; none for headless Services and aliases.
    pub cluster_ips: &'a [IpAddr],
    /// Node ports, each with the name of its Service port.
    pub node_ports: &'a [(&'a str, u16)],
    /// Its health check node port.
    pub health_check_node_port: Option<u16>,
}

/// The next version of a Service: `now`, with what was given to `before` filled in where `now` leaves it open. Otherwise
/// everything that Kubernetes would not let change. The rules for a single version hold in both already.
///
/// `now` may name only the primary of two cluster IPs: the second one stays, unless `now` says `ipFamilyPolicy: SingleStack`.
pub fn update(before: &Service, allocated: &Allocated<'_>, now: &Service) -> Result<Service, Vec<Diagnostic>> {
    let mut next = Update { before, allocated, next: now.clone(), problems: Vec::new() };
    if !is_alias(before) && !is_alias(now) {
        next.next.ip_family_policy = now.ip_family_policy.or(before.ip_family_policy);
        next.cluster_ips();
        next.families();
    }
    // A load balancer that is to have none allocated gives up what it had: Kubernetes asks that the entries be removed for that.
    let keeps = !matches!(now.service_type, ServiceType::LoadBalancer { allocate_node_ports: false });
    if keeps && has_node_ports(&before.service_type) && has_node_ports(&now.service_type) {
        keep_node_ports(allocated.node_ports, &mut next.next.ports);
    }
    next.health_check_node_port();
    next.load_balancer_class();
    if next.problems.is_empty() { Ok(next.next) } else { Err(next.problems) }
}

/// Whether a slice may take another's place.
pub(super) fn check_slice(before: &EndpointSlice, now: &EndpointSlice, checks: &mut Checks<'_, '_>) {
    if before.family != now.family {
        let message = format!("may not change once set: it is {}", before.family.map_or("FQDN", IpFamily::name));
        checks.error(&Field::ROOT.key("addressType"), message, "give the slice of another address type another name".to_owned());
    }
}

/// A Service whose type changes sheds what only the old type needs, if it stands there as it stood before: a client that reads,
/// changes `spec.type` and writes has not asked for the rest. To be done before the new version is validated. Tells what was shed.
pub(super) fn shed_dependent(before: &core::ServiceSpec, now: &mut core::ServiceSpec) -> Vec<&'static str> {
    let type_of = |spec: &core::ServiceSpec| spec.type_.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| "ClusterIP".to_owned());
    let (old, new) = (type_of(before), type_of(now));
    let alias = |name: &str| name == "ExternalName";
    let mut shed = Shed::default();
    if !alias(&old) && alias(&new) {
        if before.cluster_ip == now.cluster_ip && before.cluster_ips == now.cluster_ips {
            shed.field("clusterIP", &before.cluster_ip, &mut now.cluster_ip);
            shed.field("clusterIPs", &before.cluster_ips, &mut now.cluster_ips);
        }
        shed.field("ipFamilies", &before.ip_families, &mut now.ip_families);
        shed.field("ipFamilyPolicy", &before.ip_family_policy, &mut now.ip_family_policy);
    }
    let on_nodes = |name: &str| matches!(name, "NodePort" | "LoadBalancer");
    if on_nodes(&old) && !on_nodes(&new) {
        let numbers = |spec: &core::ServiceSpec| spec.ports.iter().flatten().filter_map(|port| port.node_port).collect::<HashSet<_>>();
        if !numbers(now).is_empty() && numbers(now).is_subset(&numbers(before)) {
            now.ports.iter_mut().flatten().for_each(|port| port.node_port = None);
            shed.0.push("ports[].nodePort");
        }
    }
    let local_balancer =
        |name: &str, spec: &core::ServiceSpec| name == "LoadBalancer" && spec.external_traffic_policy.as_deref() == Some("Local");
    if local_balancer(&old, before) && !local_balancer(&new, now) {
        shed.field("healthCheckNodePort", &before.health_check_node_port, &mut now.health_check_node_port);
    }
    if old == "LoadBalancer" && new != "LoadBalancer" {
        shed.field("allocateLoadBalancerNodePorts", &before.allocate_load_balancer_node_ports, &mut now.allocate_load_balancer_node_ports);
        shed.field("loadBalancerClass", &before.load_balancer_class, &mut now.load_balancer_class);
    }
    let exposed = |name: &str, spec: &core::ServiceSpec| {
        on_nodes(name) || (!alias(name) && spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()))
    };
    if exposed(&old, before) && !exposed(&new, now) {
        shed.field("externalTrafficPolicy", &before.external_traffic_policy, &mut now.external_traffic_policy);
    }
    shed.0
}

/// The names of the fields that were shed.
#[derive(Default)]
struct Shed(Vec<&'static str>);

impl Shed {
    fn field<T: PartialEq>(&mut self, name: &'static str, before: &Option<T>, now: &mut Option<T>) {
        if now.is_some() && before == now {
            *now = None;
            self.0.push(name);
        }
    }
}

struct Update<'a> {
    before: &'a Service,
    allocated: &'a Allocated<'a>,
    next: Service,
    problems: Vec<Diagnostic>,
}

impl Update<'_> {
    fn cluster_ips(&mut self) {
        let in_force = self.allocated.cluster_ips;
        let single = self.next.ip_family_policy == Some(IpFamilyPolicy::SingleStack);
        let kept = if single { &in_force[..in_force.len().min(1)] } else { in_force };
        match (&self.before.cluster_ip, &self.next.cluster_ip) {
            (ClusterIp::Headless, ClusterIp::Headless) => {}
            (ClusterIp::Headless, ClusterIp::Allocate) if has_node_ports(&self.next.service_type) => {
                let message = "stays None, which type NodePort or LoadBalancer may not have".to_owned();
                self.refuse("spec.clusterIP", message, AGAIN);
            }
            (ClusterIp::Headless, ClusterIp::Allocate) => self.next.cluster_ip = ClusterIp::Headless,
            (ClusterIp::Headless, ClusterIp::Fixed(_)) => {
                self.refuse("spec.clusterIP", "may not change once set: it is None".to_owned(), AGAIN);
            }
            // Nothing was allocated yet: everything is open.
            _ if in_force.is_empty() => {}
            (_, ClusterIp::Headless) => {
                self.refuse("spec.clusterIP", format!("may not change once set: it is {}", in_force[0]), AGAIN);
            }
            (_, ClusterIp::Allocate) => self.next.cluster_ip = ClusterIp::Fixed(kept.to_vec()),
            (_, ClusterIp::Fixed(asked)) => {
                let changed: Vec<(usize, IpAddr)> = asked
                    .iter()
                    .zip(in_force)
                    .enumerate()
                    .filter(|(_, (asked, had))| asked != had)
                    .map(|(at, (_, had))| (at, *had))
                    .collect();
                if changed.is_empty() && asked.len() < kept.len() {
                    self.next.cluster_ip = ClusterIp::Fixed(kept.to_vec());
                }
                for (at, had) in changed {
                    let field = if at == 0 { "spec.clusterIP".to_owned() } else { format!("spec.clusterIPs[{at}]") };
                    self.refuse(&field, format!("may not change once set: it is {had}"), AGAIN);
                }
            }
        }
    }

    /// Headless Services may have any families at any time: they have no addresses of their own.
    fn families(&mut self) {
        let headless = [self.before, &self.next].iter().any(|service| service.cluster_ip == ClusterIp::Headless);
        if headless || self.allocated.cluster_ips.is_empty() {
            return;
        }
        let (before, single) = (&self.before.ip_families, self.next.ip_family_policy == Some(IpFamilyPolicy::SingleStack));
        if self.next.ip_families.is_empty() {
            self.next.ip_families = before.iter().copied().take(if single { 1 } else { before.len() }).collect();
            return;
        }
        let primary = before.first().copied().or_else(|| self.allocated.cluster_ips.first().map(|ip| IpFamily::of(*ip)));
        if let Some(primary) = primary.filter(|primary| *primary != self.next.ip_families[0]) {
            self.refuse("spec.ipFamilies[0]", format!("may not change once set: it is {}", primary.name()), AGAIN);
        }
        if self.next.ip_families.len() < before.len() && !single {
            let message = "must be SingleStack to release the secondary IP family".to_owned();
            self.refuse("spec.ipFamilyPolicy", message, "write ipFamilyPolicy: SingleStack");
        }
    }

    fn health_check_node_port(&mut self) {
        let needs = |service: &Service| needs_health_check_port(&service.service_type, service.external_traffic_policy);
        let Some(had) = self.allocated.health_check_node_port else { return };
        if !needs(self.before) || !needs(&self.next) {
            return;
        }
        match self.next.health_check_node_port {
            None => self.next.health_check_node_port = Some(had),
            Some(asked) if asked != had => {
                self.refuse("spec.healthCheckNodePort", format!("may not change once set: it is {had}"), AGAIN);
            }
            Some(_) => {}
        }
    }

    fn load_balancer_class(&mut self) {
        let stays = [self.before, &self.next].iter().all(|service| matches!(service.service_type, ServiceType::LoadBalancer { .. }));
        if stays && self.before.load_balancer_class != self.next.load_balancer_class {
            let had = self.before.load_balancer_class.as_deref().unwrap_or("not set");
            self.refuse("spec.loadBalancerClass", format!("may not change while type is LoadBalancer: it is {had}"), AGAIN);
        }
    }

    fn refuse(&mut self, field: &str, message: String, remedy: &str) {
        self.problems.push(immutable(&self.next.meta, field, message, remedy));
    }
}

/// What to do where only another Service of the same name would do.
const AGAIN: &str = "write what it was, or delete the Service and make it again";

fn is_alias(service: &Service) -> bool {
    matches!(service.service_type, ServiceType::ExternalName(_))
}

/// Ports that name no node port keep what the port of their name had, unless that is asked for by another port.
fn keep_node_ports(had: &[(&str, u16)], ports: &mut [ServicePort]) {
    let asked: HashSet<u16> = ports.iter().filter_map(|port| port.node_port).collect();
    let mut taken = HashSet::new();
    for port in ports.iter_mut().filter(|port| port.node_port.is_none()) {
        let had = had.iter().find(|(name, _)| *name == port.name).map(|(_, number)| *number);
        // Two ports that shared a number may now be of one protocol: the later one is given another.
        port.node_port = had.filter(|number| !asked.contains(number) && taken.insert((port.protocol, *number)));
    }
}

fn immutable(meta: &Meta, field: &str, message: String, remedy: &str) -> Diagnostic {
    let key = ObjectKey { kind: Kind::Service, namespace: meta.namespace.clone(), name: meta.name.clone() };
    Diagnostic { remedy: Some(remedy.to_owned()), ..Diagnostic::about(key.to_string(), meta, field, Severity::Error, message) }
}
