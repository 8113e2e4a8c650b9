#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use pointsman_sdk::native::{self, NativeTrafficPolicy, connection, port};

const READY: Conditions = Conditions { ready: true, serving: true, terminating: false };
const NOT_READY: Conditions = Conditions { ready: false, serving: false, terminating: false };
const DRAINING: Conditions = Conditions { ready: false, serving: true, terminating: true };
const DEAD: Conditions = Conditions { ready: false, serving: false, terminating: true };

const HERE: bool = true;
const THERE: bool = false;

/// What a connection meets: the slots that it may go to, or how it is refused.
#[derive(Debug, PartialEq)]
enum Met {
    To(Vec<Slot>),
    Reject,
    Drop,
}
use Met::To;

struct Scene {
    port: ServicePort,
    endpoints: Vec<Endpoint>,
}

fn scene(internal: Locality, external: Locality, endpoints: &[(Conditions, bool)]) -> Scene {
    let port = ServicePort { internal_traffic_policy: internal, external_traffic_policy: external, ..port(0) };
    let mut list = native::endpoints(&vec![1; endpoints.len()]);
    for (endpoint, (conditions, local)) in list.iter_mut().zip(endpoints) {
        (endpoint.conditions, endpoint.local) = (*conditions, *local);
    }
    Scene { port, endpoints: list }
}

impl Scene {
    fn groups(mut self, groups: &[u32]) -> Self {
        self.endpoints.iter_mut().zip(groups).for_each(|(endpoint, group)| endpoint.group = Some(*group));
        self
    }

    /// Node hints and zone hints, by slot.
    fn hints(mut self, hints: &[(&str, &str)]) -> Self {
        for (endpoint, (node, zone)) in self.endpoints.iter_mut().zip(hints) {
            let list = |hint: &str| if hint.is_empty() { Vec::new() } else { vec![hint.to_owned()] };
            (endpoint.node_hints, endpoint.zone_hints) = (list(node), list(zone));
        }
        self
    }

    fn meets(&self, frontend: Frontend, origin: Origin, group: Option<u32>) -> Met {
        let node = Node { name: "n1".to_owned(), zone: Some("z1".to_owned()), labels: Vec::new() };
        let connection = Connection { frontend, origin, ..connection(0, 0) };
        let partition = partition(&node, &self.port, &self.endpoints);
        let verdict = judge(&partition.data, &connection, group);
        let mut policy = NativeTrafficPolicy::<Kubernetes>::new(&node, &[], 0).unwrap();
        assert_eq!(policy.plan(&self.port, &self.endpoints).unwrap(), partition, "the trait and the free functions agree");
        assert_eq!(policy.choose(&connection, group), verdict);
        match verdict {
            Verdict::Reject => Met::Reject,
            Verdict::Drop => Met::Drop,
            Verdict::Forward(subset) => {
                let in_group = |slot: &&Slot| group.is_none() || self.endpoints[**slot as usize].group == group;
                To(partition.subsets[subset as usize].members.iter().filter(in_group).copied().collect())
            }
        }
    }

    fn inside(&self) -> Met {
        self.meets(Frontend::ClusterIp, Origin::Pod, None)
    }

    fn outside(&self) -> Met {
        self.meets(Frontend::NodePort, Origin::Outside, None)
    }
}

use Locality::{Cluster, Local};

#[test]
fn cluster_takes_every_ready_endpoint() {
    let scene = scene(Cluster, Cluster, &[(READY, HERE), (READY, THERE), (NOT_READY, HERE), (DRAINING, THERE)]);
    assert_eq!((scene.inside(), scene.outside()), (To(vec![0, 1]), To(vec![0, 1])));
}

#[test]
fn internal_local_binds_the_cluster_ip_only() {
    let scene = scene(Local, Cluster, &[(READY, HERE), (READY, THERE)]);
    assert_eq!(scene.inside(), To(vec![0]));
    for origin in [Origin::Node, Origin::Outside] {
        assert_eq!(scene.meets(Frontend::ClusterIp, origin, None), To(vec![0]));
    }
    for frontend in [Frontend::NodePort, Frontend::ExternalIp, Frontend::LoadBalancer, Frontend::HostPort] {
        assert_eq!(scene.meets(frontend, Origin::Outside, None), To(vec![0, 1]));
    }
}

#[test]
fn external_local_binds_the_outside_only() {
    let scene = scene(Cluster, Local, &[(READY, HERE), (READY, THERE)]);
    for frontend in [Frontend::NodePort, Frontend::ExternalIp, Frontend::LoadBalancer] {
        assert_eq!(scene.meets(frontend, Origin::Outside, None), To(vec![0]));
        assert_eq!(scene.meets(frontend, Origin::Pod, None), To(vec![0, 1]), "a pod short-circuits");
        assert_eq!(scene.meets(frontend, Origin::Node, None), To(vec![0, 1]), "so does the node");
    }
    assert_eq!(scene.meets(Frontend::ClusterIp, Origin::Outside, None), To(vec![0, 1]));
}

#[test]
fn nothing_here_drops_and_nothing_anywhere_rejects() {
    for (elsewhere, under_local) in [(READY, Met::Drop), (DRAINING, Met::Drop), (NOT_READY, Met::Reject), (DEAD, Met::Reject)] {
        let scene = scene(Local, Local, &[(elsewhere, THERE), (NOT_READY, HERE)]);
        assert_eq!(scene.inside(), under_local);
        assert_eq!(scene.outside(), under_local);
    }
    for locality in [Cluster, Local] {
        let scene = scene(locality, locality, &[]);
        assert_eq!((scene.inside(), scene.outside()), (Met::Reject, Met::Reject));
    }
}

#[test]
fn each_list_falls_back_to_terminating_endpoints_by_itself() {
    let mixed = scene(Cluster, Local, &[(DRAINING, HERE), (READY, THERE), (DEAD, HERE)]);
    assert_eq!((mixed.inside(), mixed.outside()), (To(vec![1]), To(vec![0])));
    let draining = scene(Cluster, Local, &[(DRAINING, HERE), (DRAINING, THERE), (DEAD, HERE), (NOT_READY, HERE)]);
    assert_eq!((draining.inside(), draining.outside()), (To(vec![0, 1]), To(vec![0])));
}

#[test]
fn hints_narrow_the_cluster_list_all_or_nothing() {
    let both = [(READY, HERE), (READY, THERE), (READY, THERE)];
    let cluster = || scene(Cluster, Cluster, &both);
    assert_eq!(cluster().hints(&[("", "z1"), ("", "z2"), ("", "z1")]).inside(), To(vec![0, 2]));
    assert_eq!(cluster().hints(&[("", "z1"), ("", "z2"), ("", "")]).inside(), To(vec![0, 1, 2]), "one has no hint");
    assert_eq!(cluster().hints(&[("", "z3"), ("", "z2"), ("", "z2")]).inside(), To(vec![0, 1, 2]), "none names this zone");
    assert_eq!(cluster().hints(&[("n1", "z1"), ("n2", "z1"), ("n3", "z1")]).inside(), To(vec![0]), "the node before the zone");
    assert_eq!(cluster().hints(&[("n9", "z1"), ("n2", "z1"), ("n3", "z2")]).inside(), To(vec![0, 1]), "no node: the zone");
    let local = scene(Local, Local, &both).hints(&[("n2", "z2"), ("n2", "z2"), ("n1", "z1")]);
    assert_eq!((local.inside(), local.outside()), (To(vec![0]), To(vec![0])), "never for Local");
    let unready = scene(Cluster, Cluster, &[(READY, HERE), (NOT_READY, THERE), (READY, THERE)]);
    assert_eq!(unready.hints(&[("", "z1"), ("", ""), ("", "z2")]).inside(), To(vec![0]), "only ready endpoints need hints");
    let draining = scene(Cluster, Cluster, &[(DRAINING, HERE), (DRAINING, THERE)]).hints(&[("", "z1"), ("", "z2")]);
    assert_eq!(draining.inside(), To(vec![0, 1]), "never for terminating ones");
}

#[test]
fn each_group_is_a_service_to_itself() {
    let list = [(READY, HERE), (READY, THERE), (DRAINING, THERE), (NOT_READY, HERE)];
    let scene = scene(Local, Cluster, &list).groups(&[0, 1, 2, 3]);
    let by_group = |frontend| [0, 1, 2, 3, 4].map(|group| scene.meets(frontend, Origin::Pod, Some(group)));
    assert_eq!(by_group(Frontend::ClusterIp), [To(vec![0]), Met::Drop, Met::Drop, Met::Reject, Met::Reject]);
    assert_eq!(by_group(Frontend::NodePort), [To(vec![0]), To(vec![1]), To(vec![2]), Met::Reject, Met::Reject]);
    assert_eq!(scene.meets(Frontend::NodePort, Origin::Pod, None), To(vec![0, 1]), "any group: ready ones only");
}

#[test]
fn one_group_makes_no_subset_of_its_own() {
    let scene = scene(Local, Local, &[(READY, HERE), (DRAINING, THERE), (READY, THERE)]);
    let names = |scene: &Scene| {
        let subsets = partition(&Node::default(), &scene.port, &scene.endpoints).subsets;
        subsets.into_iter().map(|subset| subset.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&scene), ["cluster", "local"]);
    assert_eq!(names(&scene.groups(&[0, 1, 0])), ["cluster", "cluster-by-group", "local"]);
}

#[test]
fn what_is_no_plan_rejects() {
    for plan in [&[][..], &[1], &[0xff; 64]] {
        assert_eq!(judge(plan, &connection(0, 0), None), Verdict::Reject);
    }
}
