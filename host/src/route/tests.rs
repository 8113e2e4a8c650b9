//! The decision core against a scripted decider: every way in which a stage can answer, fail or be passed over.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::sync::Arc;

use super::*;
use crate::policy::contract::{self, Node, ServicePort};
use crate::table::{
    CandidateSet, Conditions, Endpoint, Fallback, FrontendKind, Load, Locality, Origin, Origins, PolicyVersion, PortOptions, Protocol,
    Subset, VersionId,
};

/// Answers from three queues; what was asked is kept.
#[derive(Default)]
struct Script {
    groups: VecDeque<Result<Option<u32>, Fault>>,
    verdicts: VecDeque<Result<Verdict, Fault>>,
    picks: VecDeque<Result<Option<Slot>, Fault>>,
    blamed: Vec<(VersionId, &'static str)>,
    asked: Vec<(&'static str, VersionId)>,
}

impl Decider for Script {
    fn choose_group(&mut self, version: VersionId, _: &Connection) -> Result<Option<u32>, Fault> {
        self.asked.push(("selector", version));
        self.groups.pop_front().unwrap_or(Ok(None))
    }

    fn choose_subset(&mut self, version: VersionId, _: &Connection, _: Option<u32>) -> Result<Verdict, Fault> {
        self.asked.push(("traffic-policy", version));
        self.verdicts.pop_front().unwrap_or(Ok(Verdict::Forward(0)))
    }

    fn pick(&mut self, version: VersionId, _: &Connection, _: u32) -> Result<Option<Slot>, Fault> {
        self.asked.push(("balancer", version));
        self.picks.pop_front().unwrap_or(Ok(Some(0)))
    }

    fn blame(&mut self, version: VersionId, fault: &Fault) {
        self.blamed.push((version, fault.class()));
    }
}

const NEW: VersionId = VersionId(2);
const OLD: VersionId = VersionId(1);

pub(super) fn version(id: VersionId, name: &str) -> Arc<PolicyVersion> {
    Arc::new(PolicyVersion { id, name: name.into(), digest: "sha256:0".into() })
}

pub(super) fn stage<P: Clone>(name: &str, plan: P) -> Stage<P> {
    let planned = |id| Planned { version: version(id, name), plan: plan.clone() };
    Stage { name: name.into(), current: Some(planned(NEW)), stand_in: Some(planned(OLD)) }
}

pub(super) fn endpoint(last: u8) -> Endpoint {
    let address = std::net::SocketAddr::from(([127, 9, 0, last], 80));
    Endpoint {
        address,
        key: address.to_string().into(),
        hash: 0,
        conditions: Conditions { ready: true, serving: true, terminating: false },
        weight: 1,
        local: true,
        node: None,
        zone: None,
        node_hints: vec![],
        zone_hints: vec![],
        labels: Arc::default(),
        group: None,
        ready_since_ms: 0,
        load: Arc::new(Load::default()),
    }
}

pub(super) fn contract_endpoint(port: &Port, slot: Slot) -> contract::Endpoint {
    let endpoint = &port.endpoints[slot as usize];
    contract::Endpoint {
        slot,
        key: endpoint.key.to_string(),
        hash: endpoint.hash,
        conditions: endpoint.conditions,
        weight: endpoint.weight,
        local: endpoint.local,
        node: None,
        zone: None,
        node_hints: vec![],
        zone_hints: vec![],
        labels: vec![],
        group: None,
        ready_since_ms: 0,
    }
}

/// Three endpoints; subset 0 has all, subset 1 only slot 2, subset 2 none; the fallback's only subset is subset 1.
pub(super) fn port() -> Port {
    let subset = |name: &str, members: &[Slot]| Subset { name: name.into(), members: members.into() };
    let record = ServicePort {
        id: 0,
        namespace: "default".into(),
        name: "web".into(),
        port_name: String::new(),
        port: 80,
        protocol: Protocol::Tcp,
        labels: vec![],
        selector: None,
        internal_traffic_policy: Locality::Cluster,
        external_traffic_policy: Locality::Cluster,
        traffic_distribution: None,
        settings: vec![],
    };
    Port {
        id: 0,
        generation: 1,
        record: Arc::new(record),
        options: PortOptions::default(),
        endpoints: [endpoint(1), endpoint(2), endpoint(3)].into(),
        masked: [].into(),
        groups: [].into(),
        subsets: [subset("cluster", &[0, 1, 2]), subset("local", &[2]), subset("none", &[])].into(),
        sets: [
            CandidateSet { group: None, subset: 0, members: [0, 1, 2].into() },
            CandidateSet { group: None, subset: 1, members: [2].into() },
        ]
        .into(),
        selector: stage("label-selector", Arc::from([])),
        traffic_policy: stage("kubernetes", Arc::from([])),
        balancer: stage("round-robin", Arc::from([Arc::from([]), Arc::from([])])),
        shadow: None,
        fallback: Fallback { plan: [].into(), subsets: [1].into() },
    }
}

fn from(client: &str) -> Connection {
    connection(0, client.parse().unwrap(), FrontendKind::ClusterIp, Origin::Outside, HashKey::PUBLIC, 0, 7 << 60)
}

#[test]
fn the_three_stages_are_asked_in_order_and_believed() {
    let mut script = Script { picks: [Ok(Some(1))].into(), ..Script::default() };
    let decision = decide(&port(), &mut script, &from("192.0.2.1:5000"), None);
    assert_eq!(decision.fate, Fate::Forward(1));
    assert_eq!([&decision.selector, &decision.traffic_policy, &decision.balancer], [&By::Current; 3]);
    assert_eq!(script.asked, [("selector", NEW), ("traffic-policy", NEW), ("balancer", NEW)]);
}

/// Slots 0 and 1 are group 0, slot 2 is group 1; group 2 has nobody.
#[test]
fn a_group_that_nobody_is_there_of_is_any_group() {
    let set = |group, members: &[Slot]| CandidateSet { group, subset: 0, members: members.into() };
    let mut port = port();
    port.sets = [set(None, &[0, 1, 2]), set(Some(0), &[0, 1]), set(Some(1), &[2])].into();
    let decided = |port: &Port, group| {
        let mut script = Script { groups: [Ok(Some(group))].into(), picks: [Ok(Some(2))].into(), ..Script::default() };
        let decision = decide(port, &mut script, &from("192.0.2.1:5000"), None);
        (decision.group, decision.set, decision.fate)
    };
    assert_eq!(decided(&port, 1), (Some(1), Some(2), Fate::Forward(2)));
    assert_eq!(decided(&port, 2), (None, Some(0), Fate::Forward(2)));
    port.masked = [2].into();
    let (group, set, fate) = decided(&port, 1);
    assert_eq!((group, set), (None, Some(0)), "the last one has just left");
    assert!(matches!(fate, Fate::Forward(0 | 1)), "{fate:?}");
}

#[test]
fn a_verdict_ends_the_chain_before_the_balancer() {
    for (verdict, fate) in [
        (Verdict::Reject, Fate::Reject(Reason::TrafficPolicy)),
        (Verdict::Drop, Fate::Drop(Reason::TrafficPolicy)),
        (Verdict::Forward(2), Fate::Reject(Reason::NoCandidates)),
    ] {
        let mut script = Script { verdicts: [Ok(verdict)].into(), ..Script::default() };
        let decision = decide(&port(), &mut script, &from("192.0.2.1:5000"), None);
        assert_eq!(decision.fate, fate);
        assert!(matches!(decision.balancer, By::NotAsked(why) if !why.is_empty()));
        assert!(!script.asked.iter().any(|(stage, _)| *stage == "balancer"));
    }
}

#[test]
fn a_faulty_version_is_stood_in_for_by_the_one_before_and_then_by_the_host() {
    let mut script = Script { picks: [Err(Fault::Deadline), Ok(Some(2))].into(), ..Script::default() };
    let decision = decide(&port(), &mut script, &from("192.0.2.1:5000"), None);
    assert_eq!((decision.fate, decision.balancer), (Fate::Forward(2), By::StandIn(Box::new(Fault::Deadline))));

    let mut script = Script { picks: [Err(Fault::Deadline), Err(Fault::OutOfFuel)].into(), ..Script::default() };
    let decision = decide(&port(), &mut script, &from("192.0.2.1:5000"), None);
    assert!(matches!(decision.fate, Fate::Forward(_)));
    assert_eq!(decision.balancer, By::Fallback(Box::new(Fault::Deadline)), "the first fault is the one that is told");
}

#[test]
fn a_traffic_policy_that_cannot_judge_is_replaced_by_the_native_twin() {
    let mut port = port();
    let twin = fallback::partition(&Node::default(), &port.record, &[2].map(|slot| contract_endpoint(&port, slot)));
    assert_eq!(twin.subsets[0].members, [2]);
    port.fallback = Fallback { plan: twin.data.into(), subsets: [1].into() };
    let fault = || Err(Fault::OutOfFuel);
    let mut script = Script { verdicts: [fault(), fault()].into(), picks: [Ok(Some(2))].into(), ..Script::default() };
    let decision = decide(&port, &mut script, &from("192.0.2.1:5000"), None);
    assert_eq!(decision.traffic_policy, By::Fallback(Box::new(Fault::OutOfFuel)));
    assert_eq!(decision.verdict, Verdict::Forward(1), "the twin's subset 0 is the port's subset 1");
    assert_eq!((decision.fate, decision.balancer), (Fate::Forward(2), By::Current), "the balancer is still asked");

    // A plan that cannot be read is a rejection, never a panic.
    port.fallback.plan = [0xff; 3].into();
    let mut script = Script { verdicts: [fault(), fault()].into(), ..Script::default() };
    assert_eq!(decide(&port, &mut script, &from("192.0.2.1:5000"), None).fate, Fate::Reject(Reason::TrafficPolicy));
}

#[test]
fn a_slot_outside_the_set_is_blamed_and_not_used() {
    for slot in [3, u32::MAX] {
        let mut script =
            Script { picks: [Ok(Some(slot)), Ok(Some(1))].into(), verdicts: [Ok(Verdict::Forward(0))].into(), ..Script::default() };
        let decision = decide(&port(), &mut script, &from("192.0.2.1:5000"), None);
        assert_eq!(decision.fate, Fate::Forward(1));
        assert_eq!(script.blamed, [(NEW, "out-of-range")]);
    }
    let mut script = Script { verdicts: [Ok(Verdict::Forward(1))].into(), picks: [Ok(Some(0)), Ok(Some(0))].into(), ..Script::default() };
    let decision = decide(&port(), &mut script, &from("192.0.2.1:5000"), None);
    assert_eq!(decision.fate, Fate::Forward(2), "slot 0 is not in the subset, slot 2 is all there is");
    assert_eq!(script.blamed.len(), 2);
}

#[test]
fn weight_zero_is_never_picked_by_anyone() {
    let mut port = port();
    let mut endpoints = port.endpoints.to_vec();
    endpoints[0].weight = 0;
    endpoints[1].weight = 0;
    port.endpoints = endpoints.into();
    let mut script = Script { picks: [Ok(Some(0)), Ok(Some(1))].into(), ..Script::default() };
    assert_eq!(decide(&port, &mut script, &from("192.0.2.1:5000"), None).fate, Fate::Forward(2));
    let mut endpoints = port.endpoints.to_vec();
    endpoints[2].weight = 0;
    port.endpoints = endpoints.into();
    let decision = decide(&port, &mut Script::default(), &from("192.0.2.1:5000"), None);
    assert_eq!(decision.fate, Fate::Reject(Reason::NoneLeft));
}

#[test]
fn a_pin_is_kept_while_its_endpoint_is_a_candidate() {
    let decision = decide(&port(), &mut Script::default(), &from("192.0.2.1:5000"), Some(2));
    assert_eq!((decision.fate, &decision.balancer), (Fate::Forward(2), &By::NotAsked("session affinity")));
    let mut masked = port();
    masked.masked = [2].into();
    let decision = decide(&masked, &mut Script::default(), &from("192.0.2.1:5000"), Some(2));
    assert_eq!((decision.fate, &decision.balancer), (Fate::Forward(0), &By::Current));
}

#[test]
fn retries_never_return_to_a_tried_endpoint_and_end() {
    let port = port();
    let connection = from("192.0.2.1:5000");
    let mut script = Script::default();
    let mut decision = decide(&port, &mut script, &connection, None);
    let mut tried = vec![];
    while let Fate::Forward(slot) = decision.fate {
        assert!(!tried.contains(&slot));
        tried.push(slot);
        let next = Connection { attempt: connection.attempt + tried.len() as u32, ..connection };
        retry(&port, &mut script, &next, &mut decision, &tried);
    }
    tried.sort_unstable();
    assert_eq!(tried, [0, 1, 2]);
    assert_eq!(decision.fate, Fate::Reject(Reason::NoneLeft));
    assert!(script.blamed.is_empty(), "a policy that knows nothing of the failure is not to blame");
}

#[test]
fn a_masked_endpoint_gets_nothing_before_its_new_plan() {
    let mut port = port();
    port.masked = [0].into();
    for random in 0..64_u64 {
        let connection = Connection { random: random << 58, ..from("192.0.2.1:5000") };
        let decision = decide(&port, &mut Script::default(), &connection, None);
        assert!(matches!(decision.fate, Fate::Forward(1 | 2)));
    }
    port.masked = [0, 1, 2].into();
    assert!(port.awaits_plan() && port.can_forward(), "the listener stays while the plan is to come");
    assert_eq!(decide(&port, &mut Script::default(), &from("192.0.2.1:5000"), None).fate, Fate::Reject(Reason::NoCandidates));
}

#[test]
fn on_failure_refuse_means_what_it_says() {
    let mut port = port();
    port.options.refuse_on_failure = true;
    port.balancer.stand_in = None;
    let mut script = Script { picks: [Err(Fault::Deadline)].into(), ..Script::default() };
    assert_eq!(decide(&port, &mut script, &from("192.0.2.1:5000"), None).fate, Fate::Reject(Reason::OnFailure));
    let mut script = Script { groups: [Err(Fault::Deadline), Err(Fault::Deadline)].into(), ..Script::default() };
    assert_eq!(decide(&port, &mut script, &from("192.0.2.1:5000"), None).fate, Fate::Reject(Reason::OnFailure));
    assert_eq!(decide(&port, &mut Script::default(), &from("192.0.2.1:5000"), None).fate, Fate::Forward(0));
}

#[test]
fn source_ranges_bind_load_balancer_addresses_only() {
    use FrontendKind::{ClusterIp, ExternalIp, HostPort, LoadBalancer, NodePort};
    let mut port = port();
    let mut fate = |ranges: &[&str], client: &str, frontend, origin| {
        port.options.source_ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
        decide(&port, &mut Script::default(), &Connection { frontend, origin, ..from(client) }, None).fate
    };
    let (v4, both) = (["192.0.2.0/24", "203.0.113.9/32"], ["192.0.2.0/24", "2001:db8::/32"]);
    let dropped = Fate::Drop(Reason::SourceRange);
    for origin in [Origin::Pod, Origin::Node, Origin::Outside] {
        for (ranges, client, expected) in [
            (&v4[..], "192.0.2.9:1", Fate::Forward(0)),
            (&v4, "203.0.113.9:1", Fate::Forward(0)),
            (&v4, "203.0.113.8:1", dropped),
            (&v4, "10.244.0.7:1", dropped),
            // As kube-proxy has it: no range of a family is no restriction of that family.
            (&v4, "[2001:db8::1]:1", Fate::Forward(0)),
            (&both, "[2001:db8::1]:1", Fate::Forward(0)),
            (&both, "[2001:db9::1]:1", dropped),
            (&["0.0.0.0/0", "10.0.0.0/8"], "198.51.100.1:1", Fate::Forward(0)),
            (&["::/0"], "[2001:db9::1]:1", Fate::Forward(0)),
            (&[], "198.51.100.1:1", Fate::Forward(0)),
        ] {
            assert_eq!(fate(ranges, client, LoadBalancer, origin), expected, "{client} ({origin:?}) and {ranges:?}");
        }
        for frontend in [ClusterIp, NodePort, ExternalIp, HostPort] {
            assert_eq!(fate(&v4, "203.0.113.8:1", frontend, origin), Fate::Forward(0), "{frontend:?} has no ranges");
        }
    }
}

#[test]
fn the_fallback_is_uniform() {
    let port = port();
    let mut counts = [0_u32; 3];
    for n in 0..30_000_u64 {
        let connection = Connection { random: n.wrapping_mul(0x9e37_79b9_7f4a_7c15), ..from("192.0.2.1:5000") };
        let mut script = Script { picks: [Ok(None), Ok(None)].into(), ..Script::default() };
        if let Fate::Forward(slot) = decide(&port, &mut script, &connection, None).fate {
            counts[slot as usize] += 1;
        }
    }
    assert!(counts.iter().all(|count| (9_700..=10_300).contains(count)), "{counts:?}");
}

#[test]
fn the_client_hash_is_keyed_and_ignores_the_port_and_the_spelling() {
    let key = HashKey::from_secret("s");
    let hash = |client: &str| key.hash(client.parse().unwrap());
    assert_eq!(hash("192.0.2.1"), hash("::ffff:192.0.2.1"));
    assert_ne!(hash("192.0.2.1"), hash("192.0.2.2"));
    assert_ne!(hash("192.0.2.1"), HashKey::PUBLIC.hash("192.0.2.1".parse().unwrap()));
    assert_eq!(from("192.0.2.1:1").client_hash, from("192.0.2.1:2").client_hash);
    assert_eq!(from("192.0.2.1:1").client(), "192.0.2.1".parse::<std::net::IpAddr>().unwrap());
}

#[test]
fn who_dials_its_own_address_is_the_node() {
    let ip = |text: &str| text.parse().unwrap();
    let ranges: Arc<[ipnet::IpNet]> = ["10.244.0.0/16".parse().unwrap()].into();
    let origins = Origins { pods: [(ip("192.0.2.50"), ())].into_iter().collect(), pod_ranges: ranges, node: [ip("192.0.2.1")].into() };
    for (client, dialled, expected) in [
        ("10.244.3.4", "10.96.0.1", Origin::Pod),
        ("192.0.2.50", "10.96.0.1", Origin::Pod),
        ("192.0.2.1", "10.96.0.1", Origin::Node),
        ("10.96.0.1", "10.96.0.1", Origin::Node),
        ("10.96.0.2", "10.96.0.1", Origin::Outside),
        ("198.51.100.7", "10.96.0.1", Origin::Outside),
    ] {
        assert_eq!(origin(&origins, ip(client), ip(dialled)), expected, "{client} to {dialled}");
    }
}
