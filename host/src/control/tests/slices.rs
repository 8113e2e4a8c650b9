//! EndpointSlices and Endpoints made of pods: kubernetes-semantics 2.1 to 2.6, 2.10, 1.23.

use super::support::*;
use crate::control::Writes;
use crate::objects::model::{
    ClusterIp, Conditions, ContainerPort, EndpointSlice, Endpoints, IpFamily, IpFamilyPolicy, Kind, Labels, Pod, Protocol, Service,
    ServicePort, ServiceType, SliceEndpoint, TargetPort,
};
use crate::store::Change;

pub(super) fn slices(bench: &Bench) -> Vec<EndpointSlice> {
    bench.controller.endpoint_slices().map(|slice| EndpointSlice::clone(slice)).collect()
}

fn endpoints(bench: &Bench) -> Vec<Endpoints> {
    bench.controller.endpoints_objects().map(|object| Endpoints::clone(object)).collect()
}

/// `8080: a b` for each slice, sorted.
fn grouped(bench: &Bench) -> Vec<String> {
    let text = |slice: &EndpointSlice| {
        let ports: Vec<String> = slice.ports.iter().map(|port| port.port.to_string()).collect();
        let mut pods: Vec<&str> = slice.endpoints.iter().filter_map(|endpoint| endpoint.pod.as_deref()).collect();
        pods.sort_unstable();
        format!("{}: {}", ports.join("+"), pods.join(" "))
    };
    let mut all: Vec<String> = slices(bench).iter().map(text).collect();
    all.sort();
    all
}

/// How many endpoints each slice has, in the order of their names' first appearance.
fn sizes(bench: &Bench) -> Vec<usize> {
    slices(bench).iter().map(|slice| slice.endpoints.len()).collect()
}

pub(super) fn writes(created: u64, updated: u64, deleted: u64) -> Writes {
    Writes { created, updated, deleted }
}

/// What a change wrote.
pub(super) fn written_by(bench: &mut Bench, changes: Vec<Change>) -> Writes {
    let before = bench.controller.object_writes();
    bench.change(changes);
    let after = bench.controller.object_writes();
    writes(after.created - before.created, after.updated - before.updated, after.deleted - before.deleted)
}

fn pods(range: std::ops::Range<usize>) -> Vec<Change> {
    range.map(|at| pod(&format!("p{at:04}"), "web", &format!("10.244.{}.{}", at / 250, at % 250 + 1)).put()).collect()
}

fn headless(name: &str) -> Service {
    Service { cluster_ip: ClusterIp::Headless, ..service(name) }
}

#[test]
fn pods_are_grouped_by_the_ports_they_resolve_to() {
    let ports = vec![
        ServicePort { target_port: TargetPort::Name("http".into()), ..port("web", 80, 0) },
        ServicePort { target_port: TargetPort::Number(9), ..port("fixed", 81, 0) },
    ];
    let with = |name: &str, address: &str, ports| Pod { ports, ..pod(name, "web", address) };
    let udp = ContainerPort { protocol: Protocol::Udp, ..container_port("http", 5) };
    let bench = Bench::with(vec![
        Service { ports, ..service("web") }.put(),
        with("a", "10.244.0.1", vec![container_port("http", 8080)]).put(),
        with("b", "10.244.0.2", vec![container_port("http", 9090)]).put(),
        with("c", "10.244.0.3", vec![container_port("http", 8080)]).put(),
        with("d", "10.244.0.4", vec![udp]).put(),
    ]);
    assert_eq!(grouped(&bench), ["8080+9: a c", "9090+9: b", "9: d"], "a port that a pod lacks is left out for that pod");
    // Canonical subsets: each port once, with everybody who has it.
    let subsets = endpoints(&bench)[0].subsets.clone();
    let text = |at: usize| {
        let ports: Vec<String> = subsets[at].ports.iter().map(|port| format!("{}={}", port.name, port.port)).collect();
        let pods: Vec<&str> = subsets[at].addresses.iter().filter_map(|address| address.pod.as_deref()).collect();
        format!("{}: {}", ports.join("+"), pods.join(" "))
    };
    assert_eq!((0..subsets.len()).map(text).collect::<Vec<_>>(), ["fixed=9: a b c d", "web=8080: a c", "web=9090: b"]);
}

#[test]
fn a_pod_without_the_only_port_is_listed_without_ports() {
    let named = Service { ports: vec![ServicePort { target_port: TargetPort::Name("http".into()), ..port("", 80, 0) }], ..service("web") };
    let mut bench = Bench::with(vec![named.put(), pod("a", "web", "10.244.0.1").put()]);
    assert_eq!(grouped(&bench), [": a"]);
    // The placeholder is the slice without ports; what comes fills it.
    bench.change(vec![delete(Kind::Pod, "a")]);
    assert_eq!(grouped(&bench), [": "]);
    assert_eq!(written_by(&mut bench, vec![pod("a", "web", "10.244.0.1").put()]), writes(0, 1, 0), "Endpoints have no use for it");
}

#[test]
fn a_slice_holds_a_hundred_and_few_are_written() {
    let mut bench = Bench::with([vec![service("web").put()], pods(0..250)].concat());
    assert_eq!(sizes(&bench), [100, 100, 50]);
    assert_eq!(bench.controller.object_writes(), writes(4, 0, 0));
    // 30 more fit into one that is there. Endpoints are written as well, each time.
    assert_eq!(written_by(&mut bench, pods(250..280)), writes(0, 2, 0));
    assert_eq!(sizes(&bench), [100, 100, 80]);
    // Another 30 fit nowhere as a whole.
    assert_eq!(written_by(&mut bench, pods(280..310)), writes(1, 1, 0));
    assert_eq!(sizes(&bench), [100, 100, 80, 30]);
    // One leaves and two come: its slice is written anyway and takes one, the other goes to the fullest that has room.
    let first = slices(&bench)[0].endpoints[0].pod.clone().unwrap();
    let changes = [vec![delete(Kind::Pod, &first)], pods(310..312)].concat();
    assert_eq!(written_by(&mut bench, changes), writes(0, 3, 0));
    assert_eq!(sizes(&bench), [100, 100, 81, 30]);
    // Nothing is moved to fill what is left of a slice.
    let third: Vec<Change> = slices(&bench)[2].endpoints[1..].iter().map(|e| delete(Kind::Pod, e.pod.as_ref().unwrap())).collect();
    assert_eq!(written_by(&mut bench, third), writes(0, 2, 0));
    assert_eq!(sizes(&bench), [100, 100, 1, 30]);
    // The last of a slice takes the slice with it.
    let last = slices(&bench)[2].endpoints[0].pod.clone().unwrap();
    assert_eq!(written_by(&mut bench, vec![delete(Kind::Pod, &last)]), writes(0, 1, 1));
    assert_eq!(sizes(&bench), [100, 100, 30]);
}

#[test]
fn a_new_port_set_takes_over_the_slices_of_the_old() {
    let mut bench = Bench::with([vec![service("web").put()], pods(0..150)].concat());
    let names = |bench: &Bench| slices(bench).into_iter().map(|slice| slice.meta.name).collect::<Vec<_>>();
    let before = names(&bench);
    let moved = Service { ports: vec![port("", 80, 9999)], ..service("web") };
    assert_eq!(written_by(&mut bench, vec![moved.put()]), writes(0, 3, 0));
    assert_eq!(names(&bench), before);
    assert!(slices(&bench).iter().all(|slice| slice.ports[0].port == 9999));
}

#[test]
fn a_service_with_a_selector_has_a_placeholder_in_each_family() {
    let dual = Service {
        cluster_ip: ClusterIp::Fixed(vec![ip("10.96.0.9"), ip("fd00::9")]),
        ip_family_policy: Some(IpFamilyPolicy::RequireDualStack),
        ..service("web")
    };
    let mut bench = Bench::dual();
    bench.change(vec![dual.clone().put()]);
    let found: Vec<_> = slices(&bench).into_iter().map(|slice| (slice.family, slice.endpoints.len(), slice.ports.len())).collect();
    assert_eq!(found, [(Some(IpFamily::V4), 0, 0), (Some(IpFamily::V6), 0, 0)]);
    assert_eq!(endpoints(&bench)[0].subsets, []);
    let changed = Service { external_ips: vec![ip("203.0.113.7")], ..dual };
    assert_eq!(written_by(&mut bench, vec![changed.put()]), writes(0, 0, 0), "nothing of it is the objects' business");
    // The placeholder becomes the slice, and the slice the placeholder.
    let both = Pod { addresses: vec![ip("10.244.0.1"), ip("fd01::1")], ..pod("a", "web", "10.244.0.1") };
    assert_eq!(written_by(&mut bench, vec![both.put()]), writes(0, 3, 0));
    assert_eq!(slices(&bench).iter().map(|slice| slice.endpoints[0].ip).collect::<Vec<_>>(), [ip("10.244.0.1"), ip("fd01::1")]);
    assert_eq!(endpoints(&bench)[0].subsets[0].addresses.len(), 1, "of the primary family only");
    assert_eq!(written_by(&mut bench, vec![delete(Kind::Pod, "a")]), writes(0, 3, 0));
    assert_eq!(written_by(&mut bench, vec![delete(Kind::Service, "web")]), writes(0, 0, 3));
    assert_eq!(slices(&bench), []);
}

#[test]
fn who_has_no_objects() {
    let alias = Service { service_type: ServiceType::ExternalName("example.com".into()), ..service("alias") };
    let bare = Service { selector: None, ..service("bare") };
    let bench = Bench::with(vec![alias.put(), bare.put(), pod("a", "alias", "10.244.0.1").put()]);
    assert_eq!((slices(&bench), endpoints(&bench)), (vec![], vec![]));
}

#[test]
fn labels_are_the_services_but_for_what_a_slice_is() {
    let own = [
        ("team", "shop"),
        ("kubernetes.io/service-name", "forged"),
        ("endpointslice.kubernetes.io/managed-by", "forged"),
        ("service.kubernetes.io/headless", "forged"),
    ];
    let expected: [(&str, &str); 3] = [
        ("team", "shop"),
        ("kubernetes.io/service-name", "web"),
        ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"),
    ];
    let mut web = service("web");
    web.meta.labels = labels(&own);
    let mut bench = Bench::with(vec![web.put(), pod("a", "web", "10.244.0.1").put()]);
    assert_eq!(slices(&bench)[0].meta.labels, labels(&expected));
    assert_eq!(slices(&bench)[0].service.as_deref(), Some("web"));
    let mut web = Service { cluster_ip: ClusterIp::Headless, ..service("web") };
    web.meta.labels = labels(&[("team", "books")]);
    assert_eq!(written_by(&mut bench, vec![delete(Kind::Service, "web"), web.put()]), writes(0, 2, 0), "only labels differ");
    let headless: Labels = labels(&[
        ("team", "books"),
        ("kubernetes.io/service-name", "web"),
        ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"),
        ("service.kubernetes.io/headless", ""),
    ]);
    assert_eq!(slices(&bench)[0].meta.labels, headless);
    let expected =
        [("team", "books"), ("endpoints.kubernetes.io/managed-by", "endpoint-controller"), ("service.kubernetes.io/headless", "")];
    assert_eq!(endpoints(&bench)[0].meta.labels, labels(&expected));
}

#[test]
fn names_look_as_kubernetes_makes_them_and_are_nobody_elses() {
    let first = |by_hand: Option<EndpointSlice>| {
        let changes = by_hand.into_iter().map(Put::put).chain([service("web").put(), pod("a", "web", "10.244.0.1").put()]);
        slices(&Bench::with(changes.collect()))[0].meta.name.clone()
    };
    let name = first(None);
    let suffix = name.strip_prefix("web-").unwrap();
    assert!(suffix.len() == 5 && suffix.bytes().all(|c| b"bcdfghjklmnpqrstvwxz2456789".contains(&c)), "{name}");
    assert_eq!(first(None), name, "the same in every run");
    assert_ne!(first(Some(slice(&name, "other", &["203.0.113.1"], "", 1))), name);
}

#[test]
fn an_endpoint_tells_of_its_pod() {
    let named = |name: &str, address: &str, subdomain: Option<&str>| Pod {
        hostname: Some(format!("h-{name}")),
        subdomain: subdomain.map(str::to_owned),
        node: Some("n1".into()),
        ..pod(name, "web", address)
    };
    let mut bench = Bench::with(vec![
        headless("web").put(),
        node("n1", "east").put(),
        named("a", "10.244.0.1", Some("web")).put(),
        named("b", "10.244.0.2", Some("other")).put(),
        named("c", "10.244.0.3", None).put(),
    ]);
    let endpoint = |address: &str, hostname: Option<&str>, pod: &str| SliceEndpoint {
        ip: ip(address),
        conditions: Conditions { ready: true, serving: true, terminating: false },
        node: Some("n1".into()),
        zone: Some("east".into()),
        hostname: hostname.map(str::to_owned),
        zone_hints: vec![],
        node_hints: vec![],
        weight: None,
        pod: Some(pod.into()),
    };
    let expected = [endpoint("10.244.0.1", Some("h-a"), "a"), endpoint("10.244.0.2", None, "b"), endpoint("10.244.0.3", None, "c")];
    assert_eq!(slices(&bench)[0].endpoints, expected);
    let hostnames: Vec<_> = endpoints(&bench)[0].subsets[0].addresses.iter().map(|address| address.hostname.clone()).collect();
    assert_eq!(hostnames, [Some("h-a".to_owned()), None, None]);
    // A new zone, then a new host name: each is one update of the slice, and the second of Endpoints too.
    assert_eq!(written_by(&mut bench, vec![node("n1", "west").put()]), writes(0, 1, 0));
    assert_eq!(written_by(&mut bench, vec![named("b", "10.244.0.2", Some("web")).put()]), writes(0, 2, 0));
    assert_eq!(slices(&bench)[0].endpoints.iter().filter(|endpoint| endpoint.hostname.is_some()).count(), 2);
}

#[test]
fn annotations_and_places_write_nothing() {
    let mut bench = Bench::with(vec![service("web").put(), pod("a", "web", "10.244.0.1").put()]);
    let mut moved = pod("a", "web", "10.244.0.1");
    moved.meta.annotations = labels(&[("note", "1")]);
    let mut same = service("web");
    same.meta.annotations = labels(&[("note", "1")]);
    let other = pod("z", "db", "10.244.0.99").put();
    assert_eq!(written_by(&mut bench, vec![moved.put(), same.put(), other, node("n9", "a").put()]), writes(0, 0, 0));
}

/// Which pods are in slices and in Endpoints, and how: rows 2.1, 2.2, 2.6, 1.23.
#[test]
fn states_of_pods() {
    let c = |ready, serving, terminating| Some(Conditions { ready, serving, terminating });
    let base = || pod("a", "web", "10.244.0.1");
    let terminating = |mut pod: Pod| {
        pod.meta.terminating = true;
        pod
    };
    let on = |node: &str, pod: Pod| Pod { node: Some(node.into()), ..pod };
    // What it is; without and with publishNotReadyAddresses: its conditions in the slice, whether it is ready in Endpoints.
    let table = [
        ("ready", base(), [(c(true, true, false), Some(true)), (c(true, true, false), Some(true))]),
        ("not ready", unready(base()), [(c(false, false, false), Some(false)), (c(true, false, false), Some(true))]),
        ("terminating", terminating(base()), [(c(false, true, true), None), (c(true, true, true), Some(true))]),
        ("terminating, not ready", terminating(unready(base())), [(c(false, false, true), None), (c(true, false, true), Some(true))]),
        ("finished", Pod { finished: true, ..base() }, [(None, None), (None, None)]),
        ("without address", Pod { addresses: vec![], ..base() }, [(None, None), (None, None)]),
        ("on a missing node", on("gone", base()), [(None, Some(true)), (c(true, true, false), Some(true))]),
        ("on a node", on("n1", base()), [(c(true, true, false), Some(true)), (c(true, true, false), Some(true))]),
    ];
    for (what, pod, expected) in table {
        for (publish, (conditions, ready)) in [false, true].into_iter().zip(expected) {
            let web = Service { publish_not_ready: publish, ..service("web") };
            let bench = Bench::with(vec![node("n1", "a").put(), web.put(), pod.clone().put()]);
            let found: Vec<_> = slices(&bench)[0].endpoints.iter().map(|endpoint| endpoint.conditions).collect();
            assert_eq!(found, Vec::from_iter(conditions), "{what}, publish {publish}");
            let in_table: Vec<_> = bench.port("web:80").endpoints.iter().map(|endpoint| endpoint.conditions).collect();
            assert_eq!(in_table, found, "{what}, publish {publish}: the table");
            let subsets = &endpoints(&bench)[0].subsets;
            let found: Vec<_> = subsets.iter().flat_map(|subset| &subset.addresses).map(|address| address.ready).collect();
            assert_eq!(found, Vec::from_iter(ready), "{what}, publish {publish}: Endpoints");
        }
    }
}

#[test]
fn a_headless_service_without_ports_lists_its_pods() {
    let mut bench = Bench::with(vec![Service { ports: vec![], ..headless("web") }.put(), pod("a", "web", "10.244.0.1").put()]);
    assert_eq!(grouped(&bench), [": a"]);
    let subsets = endpoints(&bench)[0].subsets.clone();
    assert_eq!((subsets.len(), subsets[0].addresses.len(), subsets[0].ports.len()), (1, 1, 0));
    bench.change(vec![unready(pod("a", "web", "10.244.0.1")).put()]);
    assert!(!slices(&bench)[0].endpoints[0].conditions.ready);
}

#[test]
fn families_of_a_headless_service() {
    use IpFamily::{V4, V6};
    for (dual, policy, asked, expected) in [
        (false, None, vec![], vec![V4]),
        (true, None, vec![], vec![V6]),
        (true, Some(IpFamilyPolicy::SingleStack), vec![V4], vec![V4]),
        (true, Some(IpFamilyPolicy::PreferDualStack), vec![], vec![V6, V4]),
        (true, Some(IpFamilyPolicy::RequireDualStack), vec![V4], vec![V4, V6]),
        (false, Some(IpFamilyPolicy::PreferDualStack), vec![], vec![V4]),
        (true, Some(IpFamilyPolicy::PreferDualStack), vec![V4, V6], vec![V4, V6]),
    ] {
        let mut bench = if dual { Bench::dual() } else { Bench::new() };
        let web = Service { ip_family_policy: policy, ip_families: asked.clone(), ..headless("web") };
        bench.change(vec![web.put()]);
        let found: Vec<_> = slices(&bench).iter().filter_map(|slice| slice.family).collect();
        assert_eq!(found, expected, "{dual} {policy:?} {asked:?}");
    }
}

#[test]
fn endpoints_are_cut_at_a_thousand_ready_ones_last() {
    let bench = Bench::with([vec![service("web").put()], pods(0..1000)].concat());
    assert_eq!(endpoints(&bench)[0].meta.annotations, labels(&[]));
    // 1,190 ready, 10 not: the ready ones fill it.
    let unready_pods = |range: std::ops::Range<usize>| {
        range.map(|at| unready(pod(&format!("p{at:04}"), "web", &format!("10.245.{}.{}", at / 250, at % 250 + 1))).put())
    };
    let bench = Bench::with(std::iter::once(service("web").put()).chain(pods(0..1190)).chain(unready_pods(1190..1200)).collect());
    let object = &endpoints(&bench)[0];
    assert_eq!(object.meta.annotations, labels(&[("endpoints.kubernetes.io/over-capacity", "truncated")]));
    assert_eq!(object.subsets[0].addresses.len(), 1000);
    assert!(object.subsets[0].addresses.iter().all(|address| address.ready));
    assert_eq!(sizes(&bench).iter().sum::<usize>(), 1200, "slices hold all");
    // 900 ready, 300 not: of those 100.
    let mut bench = Bench::with(std::iter::once(service("web").put()).chain(pods(0..900)).chain(unready_pods(900..1200)).collect());
    let count = |bench: &Bench, ready| {
        let object = &endpoints(bench)[0];
        object.subsets.iter().flat_map(|subset| &subset.addresses).filter(|address| address.ready == ready).count()
    };
    assert_eq!((count(&bench, true), count(&bench, false)), (900, 100));
    bench.change((900..1150).map(|at| delete(Kind::Pod, &format!("p{at:04}"))).collect());
    assert_eq!((count(&bench, true), count(&bench, false)), (900, 50));
    assert_eq!(endpoints(&bench)[0].meta.annotations, labels(&[]));
}

#[test]
fn addresses_stand_in_the_order_of_their_text() {
    let bench = Bench::with(vec![
        service("web").put(),
        pod("a", "web", "10.244.0.9").put(),
        pod("b", "web", "10.244.0.10").put(),
        pod("c", "web", "10.244.0.2").put(),
    ]);
    let found: Vec<String> = endpoints(&bench)[0].subsets[0].addresses.iter().map(|address| address.ip.to_string()).collect();
    assert_eq!(found, ["10.244.0.10", "10.244.0.2", "10.244.0.9"]);
}

#[test]
fn the_selector_alone_says_whose_pods_they_are() {
    let mut bench = Bench::with(vec![service("web").put(), pod("a", "web", "10.244.0.1").put(), pod("b", "db", "10.244.0.2").put()]);
    assert_eq!(grouped(&bench), ["8080: a"]);
    // Another selector; then other labels; then the pods' classes go and come.
    bench.change(vec![Service { selector: Some(labels(&[("app", "db")])), ..service("web") }.put()]);
    assert_eq!(grouped(&bench), ["8080: b"]);
    bench.change(vec![pod("a", "db", "10.244.0.1").put()]);
    assert_eq!(grouped(&bench), ["8080: a b"]);
    bench.change(vec![delete(Kind::Pod, "a"), delete(Kind::Pod, "b")]);
    bench.change(vec![pod("c", "db", "10.244.0.3").put(), pod("d", "web", "10.244.0.4").put()]);
    assert_eq!(grouped(&bench), ["8080: c"]);
    let two = Service { selector: Some(labels(&[("app", "db"), ("tier", "x")])), ..service("web") };
    bench.change(vec![two.put()]);
    assert_eq!(grouped(&bench), [": "]);
}

#[test]
fn a_refused_service_has_no_objects_until_it_is_admitted() {
    let mut bench = Bench::with(vec![fixed("a", "10.96.0.50").put(), fixed("b", "10.96.0.50").put()]);
    assert_eq!(slices(&bench).iter().filter_map(|slice| slice.service.clone()).collect::<Vec<_>>(), ["a"]);
    bench.change(vec![delete(Kind::Service, "a")]);
    assert_eq!(slices(&bench).iter().filter_map(|slice| slice.service.clone()).collect::<Vec<_>>(), ["b"]);
}
