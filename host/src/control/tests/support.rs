//! Objects in few words, a planner that works natively and counts, and tables without what differs from run to run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::control::{Allocation, Controller, Settings, Update};
use crate::objects::model::{
    ClusterIp, Conditions, ContainerPort, Diagnostic, EndpointAddress, EndpointPort, EndpointSlice, EndpointSubset, Endpoints, FieldPlace,
    IpFamily, Kind, Labels, Locality, Location, Meta, Node, Object, ObjectKey, Pod, Protocol, Service, ServiceOptions, ServicePort,
    ServiceType, SliceEndpoint, TargetPort,
};
use crate::policy::catalogue::{Catalogue, DEFAULT_BALANCER, DEFAULT_SELECTOR, DEFAULT_TRAFFIC_POLICY, Entry};
use crate::policy::contract::{self, Fault, Grouping, Label, Partition, Planner, StageKind};
use crate::store::Change;
use crate::table::{FrontendKey, PolicyVersion, Port, PortRecord, ServiceId, Subset, Table, VersionId};

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn meta(name: &str) -> Meta {
    let location = Location { file: Arc::from(std::path::Path::new("all.yaml")), line: 7, fields: Arc::default() };
    Meta { namespace: "default".into(), name: name.into(), location: Some(location), ..Meta::default() }
}

pub(super) fn port(name: &str, number: u16, target: u16) -> ServicePort {
    ServicePort {
        name: name.into(),
        protocol: Protocol::Tcp,
        port: number,
        target_port: TargetPort::Number(target),
        node_port: None,
        app_protocol: None,
    }
}

/// The object's field stands on this line, in column 5.
pub(super) fn place(meta: &mut Meta, field: &str, line: u32) {
    if let Some(location) = &mut meta.location {
        let new = FieldPlace { field: field.into(), line, column: 5 };
        location.fields = location.fields.iter().cloned().chain([new]).collect();
    }
}

/// Selects `app=NAME`; port 80 to 8080.
pub(super) fn service(name: &str) -> Service {
    Service {
        meta: meta(name),
        service_type: ServiceType::ClusterIp,
        cluster_ip: ClusterIp::Allocate,
        ports: vec![port("", 80, 8080)],
        selector: Some(labels(&[("app", name)])),
        external_ips: vec![],
        load_balancer_ips: vec![],
        load_balancer_source_ranges: vec![],
        internal_traffic_policy: Locality::Cluster,
        external_traffic_policy: Locality::Cluster,
        traffic_distribution: None,
        affinity: None,
        ip_family_policy: None,
        ip_families: vec![],
        load_balancer_ip: None,
        load_balancer_class: None,
        health_check_node_port: None,
        topology_aware: false,
        other_proxy: false,
        publish_not_ready: false,
        options: ServiceOptions::default(),
    }
}

pub(super) fn node_port_service(name: &str) -> Service {
    Service { service_type: ServiceType::NodePort, ..service(name) }
}

pub(super) fn fixed(name: &str, address: &str) -> Service {
    Service { cluster_ip: ClusterIp::Fixed(vec![ip(address)]), ..service(name) }
}

/// A ready pod labelled `app=APP`.
pub(super) fn pod(name: &str, app: &str, address: &str) -> Pod {
    Pod { meta: Meta { labels: labels(&[("app", app)]), ..meta(name) }, addresses: vec![ip(address)], ready: true, ..Pod::default() }
}

pub(super) fn unready(pod: Pod) -> Pod {
    Pod { ready: false, ..pod }
}

pub(super) fn container_port(name: &str, number: u16) -> ContainerPort {
    ContainerPort { name: Some(name.into()), port: number, protocol: Protocol::Tcp, host_port: None, host_ip: None }
}

pub(super) fn node(name: &str, zone: &str) -> Node {
    Node { meta: Meta { namespace: String::new(), ..meta(name) }, zone: Some(zone.into()), ..Node::default() }
}

/// Ready addresses, all at one port.
pub(super) fn written(name: &str, addresses: &[&str], port_name: &str, number: u16) -> Endpoints {
    let entry = |text: &&str| EndpointAddress { ip: ip(text), ready: true, node: None, hostname: None, pod: None };
    let ports = vec![EndpointPort { name: port_name.into(), protocol: Protocol::Tcp, port: number, app_protocol: None }];
    Endpoints { meta: meta(name), subsets: vec![EndpointSubset { addresses: addresses.iter().map(entry).collect(), ports }] }
}

pub(super) fn slice(name: &str, service: &str, addresses: &[&str], port_name: &str, number: u16) -> EndpointSlice {
    let endpoint = |text: &&str| SliceEndpoint {
        ip: ip(text),
        conditions: Conditions { ready: true, serving: true, terminating: false },
        node: None,
        zone: None,
        hostname: None,
        zone_hints: vec![],
        node_hints: vec![],
        weight: None,
        pod: None,
    };
    EndpointSlice {
        meta: meta(name),
        service: Some(service.into()),
        family: addresses.first().map(|text| if ip(text).is_ipv4() { IpFamily::V4 } else { IpFamily::V6 }),
        endpoints: addresses.iter().map(endpoint).collect(),
        ports: vec![EndpointPort { name: port_name.into(), protocol: Protocol::Tcp, port: number, app_protocol: None }],
    }
}

/// Objects of any kind, put.
pub(super) trait Put {
    fn put(self) -> Change;
}

macro_rules! put {
    ($($kind:ident),*) => {
        $(impl Put for $kind {
            fn put(self) -> Change {
                Change::Put(Object::$kind(Arc::new(self)))
            }
        })*
    };
}

put!(Service, Pod, Node, Endpoints, EndpointSlice);

pub(super) fn delete(kind: Kind, name: &str) -> Change {
    let namespace = if kind == Kind::Node { String::new() } else { "default".into() };
    Change::Delete(ObjectKey { kind, namespace, name: name.into() })
}

pub(super) fn version(id: u32, name: &str) -> Arc<PolicyVersion> {
    Arc::new(PolicyVersion { id: VersionId(id), name: name.into(), digest: format!("sha256:{id}").into() })
}

/// Versions of the planner below: 1 to 3 are the defaults.
pub(super) const SELECTOR: VersionId = VersionId(1);
pub(super) const TRAFFIC_POLICY: VersionId = VersionId(2);
pub(super) const BALANCER: VersionId = VersionId(3);

pub(super) fn entry(id: VersionId, name: &str) -> Entry {
    Entry { current: version(id.0, name), previous: None }
}

pub(super) fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    for (stage, name, id) in [
        (StageKind::Selector, DEFAULT_SELECTOR, SELECTOR),
        (StageKind::TrafficPolicy, DEFAULT_TRAFFIC_POLICY, TRAFFIC_POLICY),
        (StageKind::Balancer, DEFAULT_BALANCER, BALANCER),
    ] {
        catalogue.entries.insert((stage, name.into()), entry(id, name));
    }
    catalogue
}

/// `name` of a stage is now `current`, and was `previous`.
pub(super) fn swap(catalogue: &mut Catalogue, stage: StageKind, name: &str, current: VersionId, previous: Option<VersionId>) {
    let entry = Entry { current: version(current.0, name), previous: previous.map(|id| version(id.0, name)) };
    catalogue.entries.insert((stage, name.into()), entry);
}

/// Selectors: equality; the setting `split: KEY=a,b` makes a group of each value. Traffic policies: `cluster` and `local`, of ready
/// endpoints. Balancers: the members' keys. What is asked is kept; versions can be made to fail.
#[derive(Default)]
pub(super) struct Native {
    planned: BTreeMap<(VersionId, ServiceId), PortRecord>,
    pub(super) asked: Vec<(&'static str, VersionId, ServiceId)>,
    pub(super) faulty: BTreeSet<VersionId>,
    /// A version that fails on one Service port alone.
    pub(super) faulty_on: Option<(VersionId, ServiceId)>,
    /// Settings that these versions refuse, as `key: value`.
    pub(super) refused: BTreeSet<(VersionId, &'static str)>,
    /// What these versions last planned with.
    pub(super) accepted: BTreeMap<VersionId, Vec<contract::Setting>>,
    /// What these traffic policies return instead.
    pub(super) partitions: BTreeMap<VersionId, Partition>,
    /// These selectors name so many groups.
    pub(super) groups: BTreeMap<VersionId, usize>,
}

impl Native {
    pub(super) fn calls(&mut self) -> Vec<(&'static str, VersionId, ServiceId)> {
        std::mem::take(&mut self.asked)
    }

    fn enter(&mut self, what: &'static str, version: VersionId, service: ServiceId) -> Result<(), Fault> {
        self.asked.push((what, version, service));
        if self.faulty.contains(&version) || self.faulty_on == Some((version, service)) {
            Err(Fault::Trap("unreachable".into()))
        } else {
            Ok(())
        }
    }

    fn read_settings(&mut self, version: VersionId, port: &PortRecord) -> Result<(), Fault> {
        let refused = |setting: &&contract::Setting| {
            self.refused.iter().any(|(of, text)| *of == version && *text == format!("{}: {}", setting.key, setting.value))
        };
        match port.settings.iter().find(refused) {
            Some(setting) => Err(Fault::Refused(format!("{} cannot be {}", setting.key, setting.value))),
            None => {
                self.accepted.insert(version, port.settings.clone());
                Ok(())
            }
        }
    }
}

fn split(port: &PortRecord) -> Option<(&str, Vec<&str>)> {
    let (key, values) = port.setting("split")?.split_once('=')?;
    Some((key, values.split(',').collect()))
}

impl Planner for Native {
    fn plan_selector(&mut self, version: VersionId, port: &PortRecord) -> Result<Grouping, Fault> {
        // As the host's planners do: whatever comes of it, the plan before is gone.
        self.planned.remove(&(version, port.id));
        self.enter("selector", version, port.id)?;
        self.read_settings(version, port)?;
        self.planned.insert((version, port.id), port.clone());
        let groups = match (self.groups.get(&version), split(port)) {
            (Some(count), _) => (0..*count).map(|at| at.to_string()).collect(),
            (None, Some((_, values))) => values.into_iter().map(str::to_owned).collect(),
            (None, None) => vec!["all".to_owned()],
        };
        Ok(Grouping { groups, data: vec![1] })
    }

    fn classify(&mut self, version: VersionId, service: ServiceId, labels: &[Label]) -> Result<Option<u32>, Fault> {
        self.enter("classify", version, service)?;
        let port = self.planned.get(&(version, service)).expect("a selector plans before it classifies");
        let selector = port.selector.as_ref().expect("there is no pod where there is no selector");
        if !selector.iter().all(|wanted| labels.contains(wanted)) {
            return Ok(None);
        }
        let Some((key, values)) = split(port) else { return Ok(Some(0)) };
        let value = labels.iter().find(|label| label.key == key).map(|label| label.value.as_str());
        Ok(values.iter().position(|known| Some(*known) == value).map(|at| at as u32))
    }

    fn plan_traffic_policy(&mut self, version: VersionId, port: &PortRecord, endpoints: &[contract::Endpoint]) -> Result<Partition, Fault> {
        self.enter("traffic-policy", version, port.id)?;
        self.read_settings(version, port)?;
        if let Some(partition) = self.partitions.get(&version) {
            return Ok(partition.clone());
        }
        let subset = |name: &str, wanted: &dyn Fn(&contract::Endpoint) -> bool| Subset {
            name: name.into(),
            members: endpoints.iter().filter(|e| e.conditions.ready && wanted(e)).map(|e| e.slot).collect(),
        };
        Ok(Partition { subsets: vec![subset("cluster", &|_| true), subset("local", &|e| e.local)], data: vec![2] })
    }

    fn plan_balancer(&mut self, version: VersionId, port: &PortRecord, members: &[contract::Endpoint]) -> Result<Vec<u8>, Fault> {
        self.enter("balancer", version, port.id)?;
        self.read_settings(version, port)?;
        Ok(members.iter().map(|e| e.key.as_str()).collect::<Vec<_>>().join(" ").into_bytes())
    }

    fn forget(&mut self, service: ServiceId) {
        self.planned.retain(|(_, id), _| *id != service);
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        node: contract::Node { name: "here".into(), zone: None, labels: vec![] },
        node_port_addresses: vec![ip("127.0.0.1")],
        node_addresses: vec![ip("192.0.2.1")],
        ..Settings::default()
    }
}

/// With ranges of both families, IPv4 the primary.
pub(super) fn dual_stack() -> Settings {
    let mut settings = settings();
    settings.service_ranges.push("fd00:10:96::/112".parse().unwrap());
    settings.node_port_addresses.push(ip("::1"));
    settings
}

/// A controller and its planner.
pub(super) struct Bench {
    pub(super) controller: Controller,
    pub(super) planner: Native,
    pub(super) now_ms: u64,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::of(settings())
    }

    /// A host with these settings.
    pub(super) fn of(settings: Settings) -> Self {
        let mut controller = Controller::new(settings);
        controller.catalogue(catalogue());
        Self { controller, planner: Native::default(), now_ms: 1000 }
    }

    /// With ranges of both families, IPv6 first.
    pub(super) fn dual() -> Self {
        let service_ranges = vec!["fd00::/108".parse().unwrap(), "10.96.0.0/16".parse().unwrap()];
        let mut controller = Controller::new(Settings { service_ranges, ..settings() });
        controller.catalogue(catalogue());
        Self { controller, planner: Native::default(), now_ms: 1000 }
    }

    pub(super) fn with(changes: Vec<Change>) -> Self {
        Self::with_settings(settings(), changes)
    }

    pub(super) fn with_settings(settings: Settings, changes: Vec<Change>) -> Self {
        let mut bench = Self::of(settings);
        bench.change(changes);
        bench
    }

    /// Applies and rebuilds.
    pub(super) fn change(&mut self, changes: Vec<Change>) -> Update {
        self.controller.apply(changes, self.now_ms);
        self.rebuild()
    }

    pub(super) fn rebuild(&mut self) -> Update {
        let update = self.controller.rebuild(&mut self.planner, self.now_ms);
        assert!(!self.controller.is_dirty());
        update
    }

    pub(super) fn table(&self) -> &Table {
        self.controller.table()
    }

    /// `web:http` by the port's display name.
    pub(super) fn port(&self, name: &str) -> Arc<Port> {
        self.find(name).unwrap_or_else(|| panic!("no port {name}"))
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<Port>> {
        self.table().ports.iter().flatten().find(|port| port.to_string() == format!("default/{name}")).cloned()
    }

    /// The endpoints of a port, as text.
    pub(super) fn keys(&self, name: &str) -> Vec<String> {
        self.port(name).endpoints.iter().map(|endpoint| endpoint.key.to_string()).collect()
    }

    /// Where a Service answers, as `kind ip:port`.
    pub(super) fn answers(&self, service: &str) -> Vec<String> {
        let mut all: Vec<String> = self
            .table()
            .frontends
            .iter()
            .filter(|(_, frontend)| self.table().port(frontend.service).is_some_and(|port| port.record.name == service))
            .map(|(key, frontend)| format!("{:?} {}:{} {:?}", frontend.kind, key.ip, key.port, key.protocol))
            .collect();
        all.sort();
        all
    }

    pub(super) fn cluster_ip(&self, service: &str) -> Option<String> {
        let frontends = self.answers(service);
        let address = frontends.iter().find_map(|text| text.strip_prefix("ClusterIp "))?;
        address.rsplit_once(':').map(|(address, _)| address.to_owned())
    }

    /// What a Service was given.
    pub(super) fn allocation(&self, service: &str) -> Allocation {
        self.controller.allocation("default", service).cloned().unwrap_or_default()
    }

    pub(super) fn node_ports(&self, service: &str) -> Vec<u16> {
        let of = |text: &String| text.strip_prefix("NodePort 127.0.0.1:")?.split(' ').next()?.parse().ok();
        self.answers(service).iter().filter_map(of).collect()
    }
}

/// The messages, each with its object and field.
pub(super) fn messages(diagnostics: &[Diagnostic]) -> Vec<String> {
    let text = |d: &Diagnostic| {
        let field = d.field.as_ref().map_or(String::new(), |field| format!(" {field}"));
        format!("{}{field}: {}", d.object.clone().unwrap_or_default(), d.message)
    };
    diagnostics.iter().map(text).collect()
}

/// A table in words, without ids, generations and times.
pub(super) fn normalised(table: &Table) -> BTreeMap<String, String> {
    let name = |port: &Port| {
        let family = table.frontends.iter().filter(|(_, f)| f.service == port.id).map(|(key, _)| key.ip.is_ipv4()).max();
        format!("{port} {:?} {family:?}", port.record.protocol)
    };
    let mut all = BTreeMap::new();
    for (at, port) in table.ports.iter().enumerate() {
        let Some(port) = port else { continue };
        assert_eq!(port.id as usize, at);
        let record = PortRecord { id: 0, ..PortRecord::clone(&port.record) };
        let endpoints: Vec<_> = port
            .endpoints
            .iter()
            .map(|e| (&e.key, e.hash, e.conditions, e.weight, e.local, &e.node, &e.zone, &e.labels, e.group))
            .collect();
        let shadow = port.shadow.as_ref().map(|shadow| (&shadow.name, &shadow.planned, shadow.canary));
        let text = format!(
            "{record:?}\n{:?}\n{endpoints:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{shadow:?}",
            port.options,
            port.masked,
            port.groups,
            port.subsets,
            port.sets,
            port.selector,
            port.traffic_policy,
            port.balancer,
            port.fallback
        );
        assert!(all.insert(name(port), text).is_none(), "two ports of one name");
    }
    for (key, frontend) in &table.frontends {
        let FrontendKey { ip, port, protocol } = key;
        let owner = table.port(frontend.service).map(|port| name(port));
        all.insert(format!("{ip}:{port}/{protocol:?}"), format!("{:?} {owner:?}", frontend.kind));
    }
    for (number, check) in &table.health_checks {
        all.insert(format!("health check {number}"), format!("{check:?}"));
    }
    let mut pods: Vec<_> = table.origins.pods.keys().collect();
    pods.sort();
    all.insert("origins".into(), format!("{pods:?} {:?} {:?}", table.origins.pod_ranges, table.origins.node));
    all
}
