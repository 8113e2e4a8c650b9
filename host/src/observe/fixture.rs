//! Ports and tables for tests of what sees connections and of what serves them.

use std::sync::Arc;

use crate::table::{
    CandidateSet, Endpoint, Fallback, Planned, PolicyVersion, Port, PortOptions, PortRecord, Protocol, ServiceId, Slot, Stage, Subset,
    Table, VersionId,
};

pub(crate) fn endpoint(address: &str) -> Endpoint {
    Endpoint {
        address: address.parse().unwrap(),
        key: address.into(),
        hash: xxhash_rust::xxh64::xxh64(address.as_bytes(), 0),
        conditions: Default::default(),
        weight: 1,
        local: true,
        node: None,
        zone: None,
        node_hints: vec![],
        zone_hints: vec![],
        labels: Arc::default(),
        group: Some(0),
        ready_since_ms: 0,
        load: Arc::default(),
    }
}

/// Port 80 of `default/NAME`, with one group, one subset and, if there are endpoints, one candidate set.
pub(crate) fn port(id: ServiceId, name: &str, endpoints: Vec<Endpoint>) -> Port {
    let members: Vec<Slot> = (0..endpoints.len() as Slot).collect();
    let set = CandidateSet { group: None, subset: 0, members: members.clone().into() };
    Port {
        id,
        generation: 1,
        record: Arc::new(PortRecord {
            id,
            namespace: "default".into(),
            name: name.into(),
            port_name: String::new(),
            port: 80,
            protocol: Protocol::Tcp,
            labels: vec![],
            selector: None,
            internal_traffic_policy: Default::default(),
            external_traffic_policy: Default::default(),
            traffic_distribution: None,
            settings: vec![],
        }),
        options: PortOptions::default(),
        masked: Arc::default(),
        groups: Arc::new(["all".into()]),
        subsets: Arc::new([Subset { name: "cluster".into(), members }]),
        sets: if endpoints.is_empty() { Arc::default() } else { Arc::new([set]) },
        endpoints: endpoints.into(),
        selector: stage(0, "label-selector", Arc::default()),
        traffic_policy: stage(1, "kubernetes", Arc::default()),
        balancer: stage(2, "round-robin", Arc::default()),
        shadow: None,
        fallback: Fallback::default(),
    }
}

pub(crate) fn table(ports: &[Arc<Port>]) -> Table {
    let mut table = Table { generation: 1, ..Table::default() };
    for port in ports {
        while table.ports.len() <= port.id as usize {
            table.ports.push_back(None);
        }
        table.ports.set(port.id as usize, Some(Arc::clone(port)));
    }
    table
}

fn stage<P>(id: u32, name: &str, plan: P) -> Stage<P> {
    let version = Arc::new(PolicyVersion { id: VersionId(id), name: name.into(), digest: format!("sha256:{id}").into() });
    Stage { name: name.into(), current: Some(Planned { version, plan }), stand_in: None }
}
