#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use pointsman_sdk::native::{NativeTrafficPolicy, connection, endpoints, port};

const READY: Conditions = Conditions { ready: true, serving: true, terminating: false };
const NOT_READY: Conditions = Conditions { ready: false, serving: false, terminating: false };
const DRAINING: Conditions = Conditions { ready: false, serving: true, terminating: true };
const DEAD: Conditions = Conditions { ready: false, serving: false, terminating: true };

const HERE: bool = true;
const THERE: bool = false;

const FRONTENDS: [Frontend; 5] =
    [Frontend::ClusterIp, Frontend::NodePort, Frontend::ExternalIp, Frontend::LoadBalancer, Frontend::HostPort];
const ORIGINS: [Origin; 3] = [Origin::Pod, Origin::Node, Origin::Outside];
const LOCALITIES: [Locality; 2] = [Locality::Cluster, Locality::Local];

/// The slots that a connection may go to; `None`: refused. The same for every frontend, origin, `internalTrafficPolicy` and
/// `externalTrafficPolicy`, or the test ends here.
fn served(list: &[(Conditions, bool, u32)], group: Option<u32>) -> Option<Vec<Slot>> {
    let mut members = endpoints(&vec![1; list.len()]);
    for (endpoint, (conditions, local, group)) in members.iter_mut().zip(list) {
        (endpoint.conditions, endpoint.local, endpoint.group) = (*conditions, *local, Some(*group));
    }
    let mut answers = Vec::new();
    for (internal, external) in LOCALITIES.into_iter().flat_map(|i| LOCALITIES.map(|e| (i, e))) {
        let port = ServicePort { internal_traffic_policy: internal, external_traffic_policy: external, ..port(0) };
        let mut policy = NativeTrafficPolicy::<PreferLocal>::new(&Node::default(), &[], 0).unwrap();
        let partition = policy.plan(&port, &members).unwrap();
        for (frontend, origin) in FRONTENDS.into_iter().flat_map(|f| ORIGINS.map(|o| (f, o))) {
            answers.push(match policy.choose(&Connection { frontend, origin, ..connection(0, 0) }, group) {
                Verdict::Forward(subset) => {
                    let in_group = |slot: &&Slot| group.is_none() || members[**slot as usize].group == group;
                    Some(partition.subsets[subset as usize].members.iter().filter(in_group).copied().collect::<Vec<_>>())
                }
                Verdict::Reject => None,
                Verdict::Drop => panic!("dropped: {frontend:?} from {origin:?}"),
            });
        }
    }
    assert_eq!(answers.len(), 4 * 5 * 3);
    let answer = answers.pop().unwrap();
    assert!(answers.iter().all(|other| *other == answer), "{answers:?}");
    answer
}

#[test]
fn ready_before_terminating_and_local_before_remote() {
    type Row = (&'static [(Conditions, bool)], Option<&'static [Slot]>);
    let rows: &[Row] = &[
        (&[], None),
        (&[(READY, HERE)], Some(&[0])),
        (&[(READY, THERE)], Some(&[0])),
        (&[(READY, THERE), (READY, HERE), (READY, HERE)], Some(&[1, 2])),
        (&[(READY, THERE), (READY, HERE), (DRAINING, HERE)], Some(&[1])),
        (&[(READY, THERE), (NOT_READY, HERE), (READY, THERE)], Some(&[0, 2])),
        (&[(READY, THERE), (DRAINING, HERE)], Some(&[0])),
        (&[(DRAINING, THERE), (DRAINING, HERE)], Some(&[1])),
        (&[(DRAINING, THERE), (DEAD, HERE)], Some(&[0])),
        (&[(DRAINING, THERE), (NOT_READY, HERE)], Some(&[0])),
        (&[(DEAD, HERE), (NOT_READY, THERE)], None),
    ];
    for (endpoints, slots) in rows {
        let grouped: Vec<_> = endpoints.iter().map(|(conditions, local)| (*conditions, *local, 0)).collect();
        for group in [None, Some(0)] {
            assert_eq!(served(&grouped, group).as_deref(), *slots, "{endpoints:?}");
        }
    }
}

#[test]
fn each_group_is_a_service_to_itself() {
    let list = [(READY, HERE, 0), (READY, THERE, 1), (DRAINING, HERE, 2)];
    assert_eq!(served(&list, None), Some(vec![0]));
    assert_eq!([0, 1, 2, 3].map(|group| served(&list, Some(group))), [Some(vec![0]), Some(vec![1]), Some(vec![2]), None]);
}

#[test]
fn one_group_makes_no_subset_of_its_own() {
    let subsets = |groups: [u32; 2]| {
        let mut members = endpoints(&[1, 1]);
        members.iter_mut().zip(groups).for_each(|(endpoint, group)| (endpoint.group, endpoint.local) = (Some(group), group == 0));
        let mut policy = NativeTrafficPolicy::<PreferLocal>::new(&Node::default(), &[], 0).unwrap();
        policy.plan(&port(0), &members).unwrap().subsets.into_iter().map(|subset| subset.name).collect::<Vec<_>>()
    };
    assert_eq!(subsets([0, 0]), ["preferred"]);
    assert_eq!(subsets([0, 1]), ["preferred", "preferred-by-group"]);
}
