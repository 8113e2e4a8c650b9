//! Every origin × frontend × `internalTrafficPolicy` × `externalTrafficPolicy` × state of the endpoints, against what Kubernetes'
//! documentation and kube-proxy's tests (TestInternalTrafficPolicy, TestExternalTrafficPolicyLocal, TestExternalTrafficPolicyCluster,
//! TestTerminatingEndpointsTrafficPolicyLocal, TestNoEndpointsReject) say. The expectations are tables written down here; nothing of
//! the policy's own is called to make them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use pointsman_policy_kubernetes::{Kubernetes, judge, partition};
use pointsman_sdk::native::{self, NativeTrafficPolicy};
use pointsman_sdk::prelude::*;

/// Which field decides between the cluster's list and this node's.
#[derive(Clone, Copy, PartialEq)]
enum Bound {
    Internal,
    External,
    /// Neither: the cluster's list.
    Never,
}
use Bound::{External, Internal, Never};

/// Frontend, and what binds its connections from a pod, from the node itself and from outside.
const BOUND: [(Frontend, [Bound; 3]); 5] = [
    // internalTrafficPolicy applies to the cluster IP, and to nothing else (KEP-2086).
    (Frontend::ClusterIp, [Internal, Internal, Internal]),
    // externalTrafficPolicy applies to traffic from outside; pods and the node are short-circuited to all endpoints.
    (Frontend::NodePort, [Never, Never, External]),
    (Frontend::ExternalIp, [Never, Never, External]),
    (Frontend::LoadBalancer, [Never, Never, External]),
    // A host port is the pod's, not the Service's.
    (Frontend::HostPort, [Never, Never, Never]),
];
const ORIGINS: [Origin; 3] = [Origin::Pod, Origin::Node, Origin::Outside];
const LOCALITIES: [Locality; 2] = [Locality::Cluster, Locality::Local];

/// What a connection meets.
#[derive(Clone, Debug, PartialEq)]
enum Met {
    To(Vec<Slot>),
    Reject,
    Drop,
}
use Met::{Drop, Reject, To};

const READY: Conditions = Conditions { ready: true, serving: true, terminating: false };
const TERMINATING: Conditions = Conditions { ready: false, serving: true, terminating: true };
const NOT_READY: Conditions = Conditions { ready: false, serving: false, terminating: false };
const NOT_SERVING: Conditions = Conditions { ready: false, serving: false, terminating: true };
/// Of a Service with `publishNotReadyAddresses`.
const PUBLISHED: Conditions = Conditions { ready: true, serving: false, terminating: true };

const HERE: bool = true;
const THERE: bool = false;

/// What the policy says in every cell of the matrix; `expected` is what it should say where the field that binds is `Local`, or is not.
fn for_every_cell(endpoints: &[(Conditions, bool)], expected: impl Fn(bool) -> Met) -> usize {
    let mut list = native::endpoints(&vec![1; endpoints.len()]);
    for (endpoint, (conditions, local)) in list.iter_mut().zip(endpoints) {
        (endpoint.conditions, endpoint.local) = (*conditions, *local);
    }
    let node = Node { name: "n1".to_owned(), ..Node::default() };
    let mut cells = 0;
    for (internal, external) in LOCALITIES.into_iter().flat_map(|i| LOCALITIES.map(|e| (i, e))) {
        let port = ServicePort { internal_traffic_policy: internal, external_traffic_policy: external, ..native::port(0) };
        let mut policy = NativeTrafficPolicy::<Kubernetes>::new(&node, &[], 0).unwrap();
        let cut = policy.plan(&port, &list).unwrap();
        assert_eq!(cut, partition(&node, &port, &list), "the host's fallback plans the same");
        for (frontend, bounds) in BOUND {
            for (origin, bound) in ORIGINS.into_iter().zip(bounds) {
                let connection = Connection { frontend, origin, ..native::connection(0, 0) };
                // Without a selector's choice, and with the only group there is.
                for group in [None, Some(0)] {
                    let verdict = policy.choose(&connection, group);
                    assert_eq!(judge(&cut.data, &connection, group), verdict, "the host's fallback judges the same");
                    let met = match verdict {
                        Verdict::Forward(subset) => To(cut.subsets[subset as usize].members.clone()),
                        Verdict::Reject => Reject,
                        Verdict::Drop => Drop,
                    };
                    let local = match bound {
                        Internal => internal == Locality::Local,
                        External => external == Locality::Local,
                        Never => false,
                    };
                    assert_eq!(met, expected(local), "{endpoints:?}: {frontend:?} from {origin:?}, {internal:?}/{external:?}, {group:?}");
                    cells += 1;
                }
            }
        }
    }
    cells
}

#[test]
fn the_rows_as_they_are_written() {
    // Endpoints, where `Cluster` leads, where `Local` leads.
    type Row = (&'static [(Conditions, bool)], Met, Met);
    let rows: &[Row] = &[
        (&[], Reject, Reject),
        (&[(READY, HERE)], To(vec![0]), To(vec![0])),
        (&[(READY, THERE)], To(vec![0]), Drop),
        (&[(READY, HERE), (READY, THERE)], To(vec![0, 1]), To(vec![0])),
        (&[(TERMINATING, HERE)], To(vec![0]), To(vec![0])),
        (&[(TERMINATING, THERE)], To(vec![0]), Drop),
        (&[(TERMINATING, HERE), (TERMINATING, THERE)], To(vec![0, 1]), To(vec![0])),
        (&[(READY, HERE), (TERMINATING, HERE), (TERMINATING, THERE)], To(vec![0]), To(vec![0])),
        (&[(TERMINATING, HERE), (READY, THERE)], To(vec![1]), To(vec![0])),
        (&[(NOT_SERVING, HERE), (TERMINATING, THERE)], To(vec![1]), Drop),
        (&[(NOT_SERVING, HERE)], Reject, Reject),
        (&[(NOT_SERVING, THERE)], Reject, Reject),
        (&[(NOT_READY, HERE), (NOT_READY, THERE)], Reject, Reject),
        (&[(NOT_READY, HERE), (READY, THERE)], To(vec![1]), Drop),
        (&[(PUBLISHED, HERE), (TERMINATING, THERE)], To(vec![0]), To(vec![0])),
        (&[(PUBLISHED, THERE), (TERMINATING, HERE)], To(vec![0]), To(vec![1])),
    ];
    for (endpoints, cluster, local) in rows {
        let cells = for_every_cell(endpoints, |is_local| if is_local { local.clone() } else { cluster.clone() });
        assert_eq!(cells, 4 * 5 * 3 * 2);
    }
}

/// Every set of endpoints with at most one of each condition in each place: ready ones serve; where there is none in the list, those
/// that serve while they terminate; where there is none either, it is a drop if the other nodes could serve, else a reject.
#[test]
fn every_mixture_of_endpoints() {
    let kinds: Vec<(Conditions, bool)> = [READY, TERMINATING, NOT_READY, NOT_SERVING, PUBLISHED]
        .into_iter()
        .flat_map(|conditions| [(conditions, HERE), (conditions, THERE)])
        .collect();
    for chosen in 0..1_u32 << kinds.len() {
        let endpoints: Vec<_> = (0..kinds.len()).filter(|n| chosen >> n & 1 == 1).map(|n| kinds[n]).collect();
        let of = |wanted: &[Conditions], places: &[bool]| -> Vec<Slot> {
            let fits = |(conditions, local): &(Conditions, bool)| wanted.contains(conditions) && places.contains(local);
            (0..).zip(&endpoints).filter(|(_, endpoint)| fits(endpoint)).map(|(slot, _)| slot).collect()
        };
        let everywhere = [of(&[READY, PUBLISHED], &[HERE, THERE]), of(&[TERMINATING], &[HERE, THERE])];
        let here = [of(&[READY, PUBLISHED], &[HERE]), of(&[TERMINATING], &[HERE])];
        let first = |lists: &[Vec<Slot>; 2]| lists.iter().find(|list| !list.is_empty()).cloned();
        for_every_cell(&endpoints, |is_local| match (is_local, first(&everywhere), first(&here)) {
            (_, None, _) => Reject,
            (true, Some(_), None) => Drop,
            (true, Some(_), Some(list)) | (false, Some(list), _) => To(list),
        });
    }
}

/// KEP-2433 and KEP-3015: three endpoints, each with its hints of nodes (none, this one, another) and zones, ready or terminating.
/// PreferSameNode if every ready one has node hints and one names this node; else PreferSameZone likewise; else no preference.
#[test]
fn every_mixture_of_hints() {
    const HINTS: [Option<bool>; 3] = [None, Some(true), Some(false)];
    // Of a node, and whether it is this one; of a zone likewise; and the endpoint's state.
    type Hinted = (Option<bool>, Option<bool>, Conditions);
    let states: Vec<Hinted> = HINTS
        .into_iter()
        .flat_map(|node| HINTS.into_iter().flat_map(move |zone| [READY, TERMINATING].map(|conditions| (node, zone, conditions))))
        .collect();
    let count = states.len();
    let port = ServicePort { external_traffic_policy: Locality::Local, ..native::port(0) };
    for n in 0..count * count * count {
        let chosen = [n % count, n / count % count, n / count / count].map(|at| states[at]);
        let mut endpoints = native::endpoints(&[1; 3]);
        for (endpoint, (node, zone, conditions)) in endpoints.iter_mut().zip(chosen) {
            let hints = |here: Option<bool>, own: &str| here.map(|here| if here { own } else { "other" }.to_owned()).into_iter().collect();
            (endpoint.node_hints, endpoint.zone_hints) = (hints(node, "n1"), hints(zone, "z1"));
            (endpoint.conditions, endpoint.local) = (conditions, true);
        }
        let of = |keep: fn(&Hinted) -> bool| -> Vec<Slot> {
            (0..).zip(&chosen).filter(|(_, endpoint)| keep(endpoint)).map(|(slot, _)| slot).collect()
        };
        let ready = of(|endpoint| endpoint.2 == READY);
        let every_ready_one_has = |hint: fn(&Hinted) -> Option<bool>| {
            chosen.iter().filter(|endpoint| endpoint.2 == READY).all(|endpoint| hint(endpoint).is_some())
        };
        let same_node = of(|endpoint| endpoint.2 == READY && endpoint.0 == Some(true));
        let same_zone = of(|endpoint| endpoint.2 == READY && endpoint.1 == Some(true));
        for zone in [Some("z1"), None] {
            let node = Node { name: "n1".to_owned(), zone: zone.map(str::to_owned), labels: Vec::new() };
            let cluster = if ready.is_empty() {
                vec![0, 1, 2]
            } else if every_ready_one_has(|endpoint| endpoint.0) && !same_node.is_empty() {
                same_node.clone()
            } else if zone.is_some() && every_ready_one_has(|endpoint| endpoint.1) && !same_zone.is_empty() {
                same_zone.clone()
            } else {
                ready.clone()
            };
            let local = if ready.is_empty() { vec![0, 1, 2] } else { ready.clone() };
            let cut = partition(&node, &port, &endpoints);
            let members = |frontend| match judge(&cut.data, &Connection { frontend, ..native::connection(0, 0) }, None) {
                Verdict::Forward(subset) => cut.subsets[subset as usize].members.clone(),
                _ => Vec::new(),
            };
            assert_eq!(members(Frontend::ClusterIp), cluster, "{chosen:?} in zone {zone:?}");
            assert_eq!(members(Frontend::NodePort), local, "{chosen:?}: hints never narrow Local");
        }
    }
}
