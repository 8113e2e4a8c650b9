//! The runtime with the real components: built in, and those made to misbehave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it fails")]

mod costs;
mod faults;
mod reexports;
mod refusals;
mod shadows;
mod swaps;
mod tapes;
mod twins;

use std::sync::{Arc, LazyLock};

use pointsman_guests::Component;
use pointsman_sdk::native;

use super::compile::Compiler;
use super::contract::{Endpoint, ServicePort, StageKind, Subset};
use super::instance::Instance;
use super::loaded::{Candidate, LoadedPolicy, Surroundings};
use super::{Grants, Limits, Refusal, Runtime, Sandbox};
use crate::table::{self, CandidateSet, Fallback, Load, Planned, Port, PortOptions, Stage, Table, VersionId};

/// One engine for all tests.
static SANDBOX: LazyLock<Arc<Sandbox>> = LazyLock::new(|| Sandbox::new(Limits::default(), Compiler::InProcess).unwrap());

fn component(name: &str) -> &'static [u8] {
    Component::named(name).unwrap_or_else(|| panic!("no component {name}")).bytes
}

fn load_with(sandbox: &Arc<Sandbox>, name: &str, id: u32, wasi_granted: bool) -> Result<Arc<LoadedPolicy>, Refusal> {
    let surroundings = Arc::new(Surroundings { node: Arc::default(), settings: Vec::new() });
    let grants = Grants { wasi: wasi_granted, ..Grants::default() };
    let candidate = Candidate { name: name.into(), bytes: component(name), surroundings, grants };
    LoadedPolicy::load(sandbox, candidate, VersionId(id)).map(Arc::new)
}

/// A version without its self-test, so that what misbehaves can be met at work.
fn load(name: &str, id: u32) -> Arc<LoadedPolicy> {
    load_with(&SANDBOX, name, id, false).unwrap()
}

/// A table whose only Service port, 0, has these endpoints in one candidate set, and this balancer with this plan.
fn balanced(policy: &LoadedPolicy, endpoints: &[Endpoint], plan: Vec<u8>) -> Arc<Table> {
    let mut port = port(&native::port(0), endpoints);
    let version = Arc::clone(policy.version());
    port.balancer.name = Arc::clone(&version.name);
    port.balancer.current = Some(Planned { version, plan: Arc::from([Arc::from(plan)]) });
    table_of(port)
}

fn table_of(port: Port) -> Arc<Table> {
    Arc::new(Table { generation: 1, ports: [Some(Arc::new(port))].into_iter().collect(), ..Table::default() })
}

fn port(record: &ServicePort, endpoints: &[Endpoint]) -> Port {
    let unfilled = || Arc::from("none");
    let members: Vec<u32> = (0..endpoints.len() as u32).collect();
    Port {
        id: record.id,
        generation: 1,
        record: Arc::new(record.clone()),
        options: PortOptions::default(),
        endpoints: endpoints.iter().map(endpoint).collect(),
        masked: Arc::from([]),
        groups: Arc::from(["all".to_owned()]),
        subsets: Arc::from([Subset { name: "cluster".into(), members: members.clone() }]),
        sets: Arc::from([CandidateSet { group: None, subset: 0, members: members.into() }]),
        selector: Stage { name: unfilled(), current: None, stand_in: None },
        traffic_policy: Stage { name: unfilled(), current: None, stand_in: None },
        balancer: Stage { name: unfilled(), current: None, stand_in: None },
        shadow: None,
        fallback: Fallback::default(),
    }
}

fn endpoint(of: &Endpoint) -> table::Endpoint {
    table::Endpoint {
        address: of.key.parse().unwrap(),
        key: of.key.as_str().into(),
        hash: of.hash,
        conditions: of.conditions,
        weight: of.weight,
        local: of.local,
        node: of.node.as_deref().map(Arc::from),
        zone: of.zone.as_deref().map(Arc::from),
        node_hints: of.node_hints.clone(),
        zone_hints: of.zone_hints.clone(),
        labels: Arc::default(),
        group: of.group,
        ready_since_ms: of.ready_since_ms,
        load: Arc::new(Load::default()),
    }
}

/// A balancer's plan for all of these endpoints, by a planner instance of its own.
fn plan_balancer(policy: &LoadedPolicy, endpoints: &[Endpoint]) -> Vec<u8> {
    assert_eq!(policy.stage(), StageKind::Balancer);
    planner(policy).plan_balancer(&native::port(0), endpoints).unwrap()
}

fn planner(policy: &LoadedPolicy) -> Instance {
    policy.instantiate(super::contract::Place::Planner).unwrap()
}
