//! What `pointsman route` says, for rows 3.2 to 3.9 of the reference: every origin, frontend, pair of policies and state of the
//! endpoints, with verdict, candidates and source, against tables written down from the rows. The traffic policy is `kubernetes`
//! itself, running natively.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use super::explain::{Explanation, explain, explain_unserved};
use super::tests::{contract_endpoint, endpoint, port};
use super::*;
use crate::policy::contract::{Connection, Fault, Node};
use crate::table::{
    CandidateSet, Conditions, Frontend, FrontendKey, FrontendKind, Locality, Origin, Origins, PortRecord, Protocol, Subset, Table,
    VersionId,
};

const READY: Conditions = Conditions { ready: true, serving: true, terminating: false };
const TERMINATING: Conditions = Conditions { ready: false, serving: true, terminating: true };
const NOT_READY: Conditions = Conditions { ready: false, serving: false, terminating: false };
const NOT_SERVING: Conditions = Conditions { ready: false, serving: false, terminating: true };

const HERE: bool = true;
const THERE: bool = false;

const LOCALITIES: [Locality; 2] = [Locality::Cluster, Locality::Local];
const FRONTENDS: [FrontendKind; 5] =
    [FrontendKind::ClusterIp, FrontendKind::NodePort, FrontendKind::ExternalIp, FrontendKind::LoadBalancer, FrontendKind::HostPort];

const POD: &str = "10.244.0.9";
const NODE: &str = "192.0.2.1";
const OUTSIDE: &str = "198.51.100.7";

/// The policy `kubernetes` decides; any group serves, and the balancer has no opinion.
struct Twin<'a>(&'a [u8]);

impl Decider for Twin<'_> {
    fn choose_group(&mut self, _: VersionId, _: &Connection) -> Result<Option<u32>, Fault> {
        Ok(None)
    }

    fn choose_subset(&mut self, _: VersionId, connection: &Connection, group: Option<u32>) -> Result<Verdict, Fault> {
        Ok(fallback::judge(self.0, connection, group))
    }

    fn pick(&mut self, _: VersionId, _: &Connection, _: u32) -> Result<Option<Slot>, Fault> {
        Ok(None)
    }

    fn blame(&mut self, _: VersionId, _: &Fault) {}
}

/// A Service port whose endpoints are 127.9.0.0, 127.9.0.1, … , with its plan.
fn served(internal: Locality, external: Locality, endpoints: &[(Conditions, bool)]) -> (Port, Vec<u8>) {
    let mut port = port();
    let record = PortRecord { internal_traffic_policy: internal, external_traffic_policy: external, ..PortRecord::clone(&port.record) };
    port.record = Arc::new(record);
    let made = (0..).zip(endpoints).map(|(last, (conditions, local))| {
        let node = Some(if *local { "n1" } else { "n2" }.into());
        crate::table::Endpoint { conditions: *conditions, local: *local, node, ..endpoint(last) }
    });
    port.endpoints = made.collect();
    let records: Vec<_> = (0..port.endpoints.len() as Slot).map(|slot| contract_endpoint(&port, slot)).collect();
    let node = Node { name: "n1".into(), ..Node::default() };
    let partition = fallback::partition(&node, &port.record, &records);
    let set = |(subset, of): (u32, &Subset)| CandidateSet { group: None, subset, members: of.members.as_slice().into() };
    port.sets = (0..).zip(&partition.subsets).map(set).collect();
    port.subsets = partition.subsets.into();
    (port, partition.data)
}

/// A connection, explained; `pinned` makes it go to that endpoint if it is a candidate.
fn route(port: &Port, plan: &[u8], client: &str, frontend: FrontendKind, pinned: Option<Slot>) -> Explanation {
    let ranges: Arc<[ipnet::IpNet]> = ["10.244.0.0/16".parse().unwrap()].into();
    let pods = (0..8).map(|last| (std::net::IpAddr::from([127, 9, 0, last]), ())).collect();
    let origins = Origins { pods, pod_ranges: ranges, node: [NODE.parse().unwrap()].into() };
    let (client, dialled) = (std::net::SocketAddr::new(client.parse().unwrap(), 40_000), "203.0.113.1".parse().unwrap());
    let connection = connection(0, client, frontend, origin(&origins, client.ip(), dialled), HashKey::PUBLIC, 0, 7);
    let decision = decide(port, &mut Twin(plan), &connection, pinned);
    explain(1, port, &connection, &decision)
}

/// Which field binds connections to a frontend from a pod, the node and outside, and what then becomes of the client's address under
/// `externalTrafficPolicy: Cluster` and under `Local`.
type Row = (&'static str, Origin, [Option<&'static str>; 5], [&'static str; 5], [&'static str; 5]);
const INTERNAL: Option<&str> = Some("internalTrafficPolicy");
const EXTERNAL: Option<&str> = Some("externalTrafficPolicy");
/// Columns: cluster IP, node port, external IP, load balancer, host port.
const ROWS: [Row; 3] = [
    (POD, Origin::Pod, [INTERNAL, None, None, None, None], ["kept", "node", "node", "node", "kept"], ["kept"; 5]),
    (NODE, Origin::Node, [INTERNAL, None, None, None, None], ["node"; 5], ["node"; 5]),
    (
        OUTSIDE,
        Origin::Outside,
        [INTERNAL, EXTERNAL, EXTERNAL, EXTERNAL, None],
        ["node", "node", "node", "node", "kept"],
        ["node", "kept", "kept", "kept", "kept"],
    ),
];

/// Which of the endpoints lead where `Cluster` decides, and where `Local` does: `Err` is the refusal, with its reason.
type Met = Result<&'static [Slot], (&'static str, &'static str)>;
type Scene = (&'static [(Conditions, bool)], Met, Met);
const NONE: Met = Err(("reject", "there is no endpoint"));
const NOBODY: Met = Err(("reject", "none of 1 endpoint is ready, and none serves while it terminates"));
const NO_TWO: Met = Err(("reject", "none of 2 endpoints is ready, and none serves while it terminates"));
const ELSEWHERE: Met = Err(("drop", "FIELD is Local: no usable endpoint is on this node, 1 endpoint elsewhere"));
const SCENES: [Scene; 13] = [
    (&[], NONE, NONE),
    (&[(READY, HERE)], Ok(&[0]), Ok(&[0])),
    (&[(READY, THERE)], Ok(&[0]), ELSEWHERE),
    (&[(READY, HERE), (READY, THERE)], Ok(&[0, 1]), Ok(&[0])),
    (&[(TERMINATING, HERE)], Ok(&[0]), Ok(&[0])),
    (&[(TERMINATING, THERE)], Ok(&[0]), ELSEWHERE),
    (&[(TERMINATING, HERE), (TERMINATING, THERE)], Ok(&[0, 1]), Ok(&[0])),
    (&[(TERMINATING, HERE), (READY, THERE)], Ok(&[1]), Ok(&[0])),
    (&[(READY, HERE), (TERMINATING, THERE)], Ok(&[0]), Ok(&[0])),
    (&[(NOT_SERVING, HERE)], NOBODY, NOBODY),
    (&[(NOT_SERVING, THERE), (NOT_READY, HERE)], NO_TWO, NO_TWO),
    (&[(NOT_READY, HERE), (READY, THERE)], Ok(&[1]), ELSEWHERE),
    (&[(NOT_SERVING, HERE), (TERMINATING, THERE)], Ok(&[1]), ELSEWHERE),
];

#[test]
fn verdict_candidates_and_source_of_every_cell() {
    let mut cells = 0;
    for (endpoints, cluster, local) in SCENES {
        for (internal, external) in LOCALITIES.into_iter().flat_map(|i| LOCALITIES.map(|e| (i, e))) {
            let (port, plan) = served(internal, external, endpoints);
            for (client, origin, binds, under_cluster, under_local) in ROWS {
                for (column, frontend) in FRONTENDS.into_iter().enumerate() {
                    let field = binds[column];
                    let bound = (field == INTERNAL && internal == Locality::Local) || (field == EXTERNAL && external == Locality::Local);
                    let source = if external == Locality::Local { under_local } else { under_cluster }[column];
                    let context = format!("{frontend:?} from {origin:?}, {internal:?}/{external:?}: {endpoints:?}");
                    check(&route(&port, &plan, client, frontend, None), if bound { local } else { cluster }, field, &context);
                    for slot in 0..endpoints.len() as Slot {
                        let pinned = route(&port, &plan, client, frontend, Some(slot));
                        assert_eq!(pinned.source, pinned.endpoint.is_some().then_some(source), "{context}");
                    }
                    cells += 1;
                }
            }
        }
    }
    assert_eq!(cells, SCENES.len() * 4 * 3 * 5);
}

fn check(said: &Explanation, expected: Met, field: Option<&str>, context: &str) {
    match expected {
        Ok(slots) => {
            let keys: Vec<String> = slots.iter().map(|slot| format!("127.9.0.{slot}:80")).collect();
            assert_eq!((said.verdict, &said.candidates, &said.reason), ("forward", &keys, &None), "{context}");
            assert!(keys.contains(said.endpoint.as_ref().unwrap()), "{context}");
        }
        Err((verdict, reason)) => {
            let reason = reason.replace("FIELD", field.unwrap_or_default());
            assert_eq!((said.verdict, said.reason.as_deref()), (verdict, Some(reason.as_str())), "{context}");
            assert_eq!((said.candidates.len(), &said.endpoint, said.source), (0, &None, None), "{context}");
        }
    }
}

/// A pod that meets itself sees the node, whatever it dialled; one that meets its neighbour does not.
#[test]
fn a_hairpin_is_masqueraded() {
    for (internal, external) in LOCALITIES.into_iter().flat_map(|i| LOCALITIES.map(|e| (i, e))) {
        let (port, plan) = served(internal, external, &[(READY, HERE), (READY, HERE)]);
        for frontend in FRONTENDS {
            let source = |slot| route(&port, &plan, "127.9.0.0", frontend, Some(slot)).source;
            let neighbour = match frontend {
                FrontendKind::ClusterIp | FrontendKind::HostPort => "kept",
                _ if external == Locality::Local => "kept",
                _ => "node",
            };
            assert_eq!([source(0), source(1)], [Some("node"), Some(neighbour)], "{frontend:?} {external:?}");
        }
    }
}

/// A policy of its own may send a client from outside to another node although the Service says `Local`.
#[test]
fn from_another_node_the_address_does_not_come_along() {
    let (mut port, plan) = served(Locality::Cluster, Locality::Local, &[(READY, HERE), (READY, THERE)]);
    // Subset 1 is what the plan calls local.
    port.sets = port.sets.iter().map(|set| CandidateSet { members: [0, 1].into(), ..set.clone() }).collect();
    let source = |client, slot| route(&port, &plan, client, FrontendKind::NodePort, Some(slot)).source;
    assert_eq!([source(OUTSIDE, 0), source(OUTSIDE, 1)], [Some("kept"), Some("node")]);
    assert_eq!([source(POD, 0), source(POD, 1)], [Some("kept"), Some("kept")], "the short-circuit of pods");
}

/// No row of Kubernetes': the Service asks for it, and it reaches every endpoint. There is none for datagrams.
#[test]
fn the_proxy_protocol_tells_of_every_client() {
    let (mut port, plan) = served(Locality::Cluster, Locality::Cluster, &[(READY, HERE), (READY, THERE)]);
    port.options.proxy_protocol = true;
    for (client, frontend) in [POD, NODE, OUTSIDE].into_iter().flat_map(|client| FRONTENDS.map(|frontend| (client, frontend))) {
        let source = |port: &Port, slot| route(port, &plan, client, frontend, Some(slot)).source;
        assert_eq!([source(&port, 0), source(&port, 1)], [Some("proxy-protocol"); 2], "{client} {frontend:?}");
        let mut datagrams = port.clone();
        datagrams.record = Arc::new(PortRecord { protocol: Protocol::Udp, ..PortRecord::clone(&port.record) });
        assert_ne!(source(&datagrams, 0), Some("proxy-protocol"));
    }
}

#[test]
fn what_is_left_out_is_told_why() {
    let why = |said: &Explanation| said.stages[1].removed.iter().map(|removed| removed.why.clone()).collect::<Vec<_>>();
    let all = [(READY, HERE), (READY, THERE), (TERMINATING, HERE), (NOT_SERVING, HERE), (NOT_READY, THERE), (TERMINATING, THERE)];
    let (port, plan) = served(Locality::Cluster, Locality::Local, &all);
    let (elsewhere, terminating) = ("externalTrafficPolicy is Local, and it is on node n2", "terminating, and a ready endpoint is there");
    let bound = why(&route(&port, &plan, OUTSIDE, FrontendKind::NodePort, None));
    assert_eq!(bound, [elsewhere, terminating, "terminating and no longer serving", "not ready", elsewhere]);
    let free = why(&route(&port, &plan, POD, FrontendKind::NodePort, None));
    assert_eq!(free, [terminating, "terminating and no longer serving", "not ready", terminating], "Local does not bind a pod");

    let (mut hinted, _) = served(Locality::Cluster, Locality::Local, &[(READY, HERE), (READY, THERE)]);
    let mut endpoints = hinted.endpoints.to_vec();
    (endpoints[0].node_hints, endpoints[1].node_hints) = (vec!["n1".into()], vec!["n2".into()]);
    endpoints[1].zone_hints = vec!["a".into(), "b".into()];
    hinted.endpoints = endpoints.into();
    hinted.subsets = [Subset { name: "cluster".into(), members: [0].into() }].into();
    hinted.sets = [CandidateSet { group: None, subset: 0, members: [0].into() }].into();
    let said = why(&route(&hinted, &plan, POD, FrontendKind::ClusterIp, None));
    assert_eq!(said, ["not in \"cluster\": hinted for nodes n2, zones a, b"]);
}

#[test]
fn a_client_outside_the_ranges_is_told_so() {
    let (mut port, plan) = served(Locality::Cluster, Locality::Cluster, &[(READY, HERE)]);
    port.options.source_ranges = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    let said = route(&port, &plan, POD, FrontendKind::LoadBalancer, None);
    let reason = "10.244.0.9 is outside loadBalancerSourceRanges (192.0.2.0/24, 2001:db8::/32)";
    assert_eq!((said.verdict, said.reason.as_deref()), ("drop", Some(reason)));
    assert_eq!(route(&port, &plan, POD, FrontendKind::NodePort, None).verdict, "forward");
}

/// Row 3.9, second half.
#[test]
fn an_address_that_nobody_answers_on() {
    let key = |ip: &str, port, protocol| FrontendKey { ip: ip.parse().unwrap(), port, protocol };
    let answers = |kind| Frontend { kind, service: 0 };
    let table = Table {
        generation: 7,
        frontends: [
            (key("10.96.0.10", 80, Protocol::Tcp), answers(FrontendKind::ClusterIp)),
            (key("203.0.113.1", 80, Protocol::Tcp), answers(FrontendKind::LoadBalancer)),
            (key("192.0.2.1", 30_080, Protocol::Tcp), answers(FrontendKind::NodePort)),
        ]
        .into_iter()
        .collect(),
        ports: [Some(Arc::new(port()))].into_iter().collect(),
        service_ranges: ["10.96.0.0/12".parse().unwrap(), "fd00:96::/112".parse().unwrap()].into(),
        ..Table::default()
    };
    let unknown_port = |text: &'static str| ("reject", Some(text), Some("cluster-ip"));
    let unallocated = |text: &'static str| ("drop", Some(text), Some("cluster-ip"));
    let nobodys = ("not-a-service", None, None);
    for (to, expected) in [
        (key("10.96.0.10", 81, Protocol::Tcp), unknown_port("10.96.0.10 is the cluster IP of default/web, which has no port 81/TCP")),
        (key("10.96.0.10", 80, Protocol::Udp), unknown_port("10.96.0.10 is the cluster IP of default/web, which has no port 80/UDP")),
        (key("10.96.0.11", 80, Protocol::Tcp), unallocated("10.96.0.11: no Service has this address of the service range")),
        (key("fd00:96::5", 80, Protocol::Tcp), unallocated("fd00:96::5: no Service has this address of the service range")),
        (key("203.0.113.1", 81, Protocol::Tcp), nobodys),
        (key("192.0.2.1", 30_081, Protocol::Tcp), nobodys),
        (key("198.51.100.1", 80, Protocol::Tcp), nobodys),
    ] {
        let said = explain_unserved(&table, &to);
        assert_eq!((said.verdict, said.reason.as_deref(), said.frontend), expected, "{to:?}");
        assert_eq!((said.generation, &said.service, said.stages.len()), (7, &None, 0));
    }
}
