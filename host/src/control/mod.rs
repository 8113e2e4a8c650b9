//! The control side: objects in, routing tables out. Pure: no I/O, no clock and no randomness of its own. Work is proportional to the
//! change: a port is planned again when its Service, its endpoints or one of its policies changed, and then only the stages that see
//! a difference.

mod allocation;
mod bands;
mod endpoints;
mod families;
mod frontends;
mod health_checks;
mod host_ports;
mod index;
mod loads;
pub mod node_ports;
mod plans;
mod pool;
mod port;
mod rollback;
mod round;
mod shadow;
mod slices;
pub mod source_ranges;
mod stages;
pub mod vip;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;

pub use self::allocation::Allocation;
use self::index::{Dirty, Index};
use self::port::PortState;
use self::slices::Slices;
pub use self::slices::Writes;
use crate::objects::model::{Diagnostic, Meta, Protocol, Service, Severity};
use crate::policy::catalogue::Catalogue;
use crate::policy::contract::{Fault, Node, Planner, StageKind};
use crate::store::Change;
use crate::table::{FrontendKey, FrontendKind, Port, ServiceId, Table, VersionId};

/// What the host knows of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The node that this host serves. Zone and labels of its Node object, where there is one, come before these.
    pub node: Node,
    /// Where node ports listen.
    pub node_port_addresses: Vec<IpAddr>,
    /// The machine's own addresses: clients from there are the node, endpoints there are local.
    pub node_addresses: Vec<IpAddr>,
    /// Where cluster IPs come from; those that are allocated, from the first of each family. The first one's family is the primary.
    pub service_ranges: Vec<IpNet>,
    /// Where node ports come from.
    pub node_port_range: RangeInclusive<u16>,
    /// Where load-balancer addresses come from; none: Services of that type stay pending, unless somebody else gives them one.
    pub load_balancer_pools: Vec<IpNet>,
    /// Clients from there are pods.
    pub pod_ranges: Vec<IpNet>,
}

impl Default for Settings {
    /// Kubernetes' own ranges, and no node.
    fn default() -> Self {
        let service_range = ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 96, 0, 0), 12);
        Self {
            node: Node::default(),
            node_port_addresses: Vec::new(),
            node_addresses: Vec::new(),
            service_ranges: vec![service_range.into()],
            node_port_range: 30000..=32767,
            load_balancer_pools: Vec::new(),
            pod_ranges: Vec::new(),
        }
    }
}

/// A table, and what is new in it.
#[derive(Clone)]
pub struct Update {
    /// Its generation is the former's where nothing changed.
    pub table: Arc<Table>,
    /// Ports whose plans workers must adopt.
    pub changed: Vec<ServiceId>,
    /// Ports that are gone: workers forget them. Their ids come back no sooner than in the next update.
    pub removed: Vec<ServiceId>,
    /// What has come to be wrong. What already was is in [`Controller::diagnostics`].
    pub diagnostics: Vec<Diagnostic>,
    /// What planners did wrong, for counters.
    pub faults: Vec<(VersionId, Fault)>,
}

/// Turns changes of objects into tables.
pub struct Controller {
    settings: Settings,
    /// The node with what its Node object says.
    node: Node,
    catalogue: Catalogue,
    index: Index,
    dirty: Dirty,
    allocator: allocation::Allocator,
    pool: pool::Pool,
    frontends: frontends::Frontends,
    services: BTreeMap<ServiceName, Applied>,
    /// Services that are not applied as they stand, and why.
    refused: BTreeMap<ServiceName, Vec<Diagnostic>>,
    ports: BTreeMap<ServiceId, PortState>,
    ids: Ids,
    rollbacks: rollback::Rollbacks,
    loads: loads::Loads,
    slices: Slices,
    table: Arc<Table>,
}

/// A Service that is in force: as it was last admitted.
struct Applied {
    service: Arc<Service>,
    allocation: Allocation,
    ports: BTreeMap<PortKey, ServiceId>,
    frontends: BTreeMap<FrontendKey, (FrontendKind, ServiceId)>,
    /// Addresses that another Service has.
    missed: BTreeSet<FrontendKey>,
    /// Its health-check node port, as the table has it.
    health_check: Option<u16>,
    /// What it was not given.
    wanting: Vec<Diagnostic>,
    diagnostics: Vec<Diagnostic>,
}

/// Ids of ports, dense.
#[derive(Debug, Default)]
struct Ids {
    free: BTreeSet<ServiceId>,
    /// Freed in the update that is being made, or was made last: not to be used in it.
    retired: Vec<ServiceId>,
    next: ServiceId,
}

impl Ids {
    fn draw(&mut self) -> ServiceId {
        self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }
}

impl Controller {
    /// With no objects and no policies.
    pub fn new(settings: Settings) -> Self {
        let mut controller = Self {
            node: settings.node.clone(),
            catalogue: Catalogue::default(),
            index: Index::default(),
            dirty: Dirty { origins: true, ..Dirty::default() },
            allocator: allocation::Allocator::new(&settings.service_ranges, settings.node_port_range.clone()),
            pool: pool::Pool::new(&settings.load_balancer_pools),
            frontends: frontends::Frontends::default(),
            services: BTreeMap::new(),
            refused: BTreeMap::new(),
            ports: BTreeMap::new(),
            ids: Ids::default(),
            rollbacks: rollback::Rollbacks::default(),
            loads: loads::Loads::default(),
            slices: Slices::default(),
            table: Arc::default(),
            settings,
        };
        controller.settings.node.labels.sort();
        controller.node.labels.sort();
        controller
    }

    /// Takes changes in and notes what they touch; nothing is planned yet.
    pub fn apply(&mut self, changes: Vec<Change>, now_ms: u64) {
        for change in changes {
            self.index.apply(change, &self.settings.node.name, now_ms, &mut self.dirty);
        }
        self.settle_node();
    }

    /// Who this host is. Known before anything is planned, since policies are told at their start.
    fn settle_node(&mut self) {
        let own = &self.settings.node;
        let node = self.index.nodes.get(&own.name).map_or_else(
            || own.clone(),
            |object| Node {
                name: own.name.clone(),
                zone: object.zone.clone().or_else(|| own.zone.clone()),
                labels: index::records(&object.meta.labels),
            },
        );
        if node != self.node {
            self.node = node;
            for port in self.ports.values_mut() {
                port.forget_plans();
            }
        }
    }

    /// New versions of policies: the ports that use one are planned again.
    pub fn catalogue(&mut self, catalogue: Catalogue) {
        let before = std::mem::replace(&mut self.catalogue, catalogue);
        let changed = |stage: StageKind, name: &Arc<str>| {
            before.entry(stage, name) != self.catalogue.entry(stage, name) || before.absent.get(name) != self.catalogue.absent.get(name)
        };
        let touched = self.ports.values().filter(|port| {
            port.selector.names().any(|name| changed(StageKind::Selector, name))
                || port.traffic_policy.names().any(|name| changed(StageKind::TrafficPolicy, name))
                || port.balancer.names().chain(port.shadow.names()).any(|name| changed(StageKind::Balancer, name))
        });
        self.dirty.ports.extend(touched.map(|port| port.id));
    }

    /// Whether a stage of any Service port asks for this policy, or goes on with it; being tried counts.
    pub fn uses_policy(&self, name: &str) -> bool {
        let names = |port: &PortState| {
            let balancers = port.balancer.names().chain(port.shadow.names());
            let mut names = port.selector.names().chain(port.traffic_policy.names()).chain(balancers);
            names.any(|used| **used == *name)
        };
        self.ports.values().any(names)
    }

    /// Ports that a policy could not plan are planned again at the next rebuild. For the caller's timer; true if there are any.
    pub fn retry_faulted(&mut self) -> bool {
        let faulted: Vec<ServiceId> = self.ports.values().filter(|port| port.faulted()).map(|port| port.id).collect();
        self.dirty.ports.extend(&faulted);
        !faulted.is_empty()
    }

    /// Takes a Service's clients back from the balancer that is tried on some of them, from the next rebuild on and until something else is
    /// tried: another policy, share or setting in the annotations, or another version. False where nothing is tried.
    pub fn roll_back(&mut self, namespace: &str, name: &str) -> bool {
        let name = ServiceName { namespace: namespace.to_owned(), name: name.to_owned() };
        let Some(applied) = self.services.get(&name) else { return false };
        let versions: BTreeSet<VersionId> = applied.ports.values().filter_map(|id| self.ports.get(id)?.candidate()).collect();
        if versions.is_empty() {
            return false;
        }
        self.dirty.ports.extend(applied.ports.values());
        self.rollbacks.roll_back(name, &applied.service.options, versions);
        true
    }

    /// Whether there is something to rebuild.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The node that this host serves, with what its Node object says.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The last table.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Everything that is wrong now.
    pub fn diagnostics(&self) -> Vec<&Diagnostic> {
        let services = self.services.values().flat_map(|applied| &applied.diagnostics);
        let ports = self.ports.values().flat_map(|port| &port.diagnostics);
        let mut all: Vec<&Diagnostic> = Vec::new();
        for diagnostic in self.refused.values().flatten().chain(services).chain(ports).chain(self.slices.diagnostics()) {
            if !all.iter().any(|known| known.same_finding(diagnostic)) {
                all.push(diagnostic);
            }
        }
        all
    }

    /// What a Service was given. None for those that are not in force.
    pub fn allocation(&self, namespace: &str, name: &str) -> Option<&Allocation> {
        Some(&self.applied(namespace, name)?.allocation)
    }

    /// Where a Service answers as a load balancer: what its status says or, where nobody wrote anything there, what it was given from the
    /// host's pools. Empty while it is pending.
    pub fn load_balancer_ips(&self, namespace: &str, name: &str) -> &[IpAddr] {
        self.applied(namespace, name).map_or(&[], |applied| frontends::load_balancer_ips(&applied.service, &applied.allocation))
    }

    fn applied(&self, namespace: &str, name: &str) -> Option<&Applied> {
        self.services.get(&ServiceName { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// The last table with every endpoint masked that has left since. No policy is asked, so this is quick; `None` if nothing left.
    pub fn masked_table(&mut self) -> Option<Update> {
        let mut touched = self.dirty.ports.clone();
        let (on_nodes, _) = self.index.touched_by_nodes(&self.dirty.nodes);
        touched.extend(on_nodes);
        touched.extend(self.dirty.hand_written.iter().filter_map(|name| self.services.get(name)).flat_map(|s| s.ports.values()));
        let mut table = Table::clone(&self.table);
        let mut checked = BTreeSet::new();
        for id in touched {
            let Some(state) = self.ports.get_mut(&id) else { continue };
            let left = state.left(&self.index, &self.settings, 0);
            let Some(entry) = state.entry.as_ref().filter(|entry| left.len() > entry.masked.len()) else { continue };
            let masked = Arc::new(Port { masked: left.into_iter().collect(), ..Port::clone(entry) });
            state.entry = Some(Arc::clone(&masked));
            table.ports.set(id as usize, Some(masked));
            checked.insert(state.key.service.clone());
        }
        if checked.is_empty() {
            return None;
        }
        self.settle_health_checks(&checked, &mut table);
        table.generation += 1;
        self.table = Arc::new(table);
        let table = Arc::clone(&self.table);
        Some(Update { table, changed: Vec::new(), removed: Vec::new(), diagnostics: Vec::new(), faults: Vec::new() })
    }

    /// Plans what is dirty, and that only.
    pub fn rebuild(&mut self, planner: &mut dyn Planner, now_ms: u64) -> Update {
        self.rebuild_while(planner, now_ms, &mut || true)
    }

    /// The same, until the caller has had enough: asked after each port. What is not planned by then stays dirty, and as it was.
    pub fn rebuild_while(&mut self, planner: &mut dyn Planner, now_ms: u64, keep_going: &mut dyn FnMut() -> bool) -> Update {
        round::run(self, planner, now_ms, keep_going)
    }
}

/// Namespace and name of a Service, or of what stands for a pod's host ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct ServiceName {
    namespace: String,
    name: String,
}

impl ServiceName {
    fn of(meta: &Meta) -> Self {
        Self { namespace: meta.namespace.clone(), name: meta.name.clone() }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An IP family: worlds apart, even for one Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn holds(self, ip: IpAddr) -> bool {
        self == Self::of(ip)
    }

    fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// What makes a Service port that port: its number and protocol (kubernetes-semantics 1.2), in a family.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct PortKey {
    service: ServiceName,
    port: u16,
    protocol: Protocol,
    family: Family,
}

impl PortKey {
    fn new(service: &ServiceName, port: &crate::objects::model::ServicePort, family: Family) -> Self {
        Self { service: service.clone(), port: port.port, protocol: port.protocol, family }
    }
}

/// Something wrong with a field of a Service, or with all of it (`""`).
fn about(service: &Service, field: &str, severity: Severity, message: String) -> Diagnostic {
    Diagnostic::about(host_ports::owner(&ServiceName::of(&service.meta)), &service.meta, field, severity, message)
}

/// The field of the nth of a Service's cluster IPs.
fn cluster_ip_field(at: usize) -> String {
    if at == 0 { "spec.clusterIP".to_owned() } else { format!("spec.clusterIPs[{at}]") }
}

/// Replaces what was wrong with what is wrong, and hands out what was not wrong before.
fn renew(before: &mut Vec<Diagnostic>, now: Vec<Diagnostic>, arisen: &mut Vec<Diagnostic>) {
    for diagnostic in &now {
        if !before.iter().chain(&*arisen).any(|known| known.same_finding(diagnostic)) {
            arisen.push(diagnostic.clone());
        }
    }
    *before = now;
}

#[cfg(test)]
mod tests;
