//! Hints, in slices and in the table: kubernetes-semantics 1.21, 2.12, 2.13, 3.4.

use std::collections::BTreeMap;

use super::slices::{slices, writes, written_by};
use super::support::*;
use crate::objects::model::{ClusterIp, IpFamily, IpFamilyPolicy, Kind, Node, Pod, Service};
use crate::store::Change;

fn on(node: &str, pod: Pod) -> Pod {
    Pod { node: Some(node.into()), ..pod }
}

fn sized(name: &str, zone: &str, cores: u64) -> Node {
    Node { ready: true, cpu_millis: Some(cores * 1000), ..node(name, zone) }
}

fn near(distribution: &str) -> Service {
    Service { traffic_distribution: Some(distribution.into()), ..service("web") }
}

fn aware() -> Service {
    Service { topology_aware: true, ..service("web") }
}

/// Pods on nodes, numbered through: `("n-a", 3)` is three on `n-a`.
fn spread(counts: &[(&str, usize)]) -> Vec<Change> {
    let nodes = counts.iter().flat_map(|(node, count)| std::iter::repeat_n(*node, *count));
    nodes.enumerate().map(|(at, node)| on(node, pod(&format!("p{at:03}"), "web", &format!("10.244.0.{}", at + 1))).put()).collect()
}

/// Hints of the table's endpoints: zones, then nodes.
fn in_table(bench: &Bench) -> Vec<String> {
    let port = bench.port("web:80");
    let text = |e: &crate::table::Endpoint| format!("{}/{}", e.zone_hints.join(","), e.node_hints.join(","));
    port.endpoints.iter().map(text).collect()
}

/// The same, of the slices, in the order of addresses.
fn in_slices(bench: &Bench) -> Vec<String> {
    let of_web = slices(bench).into_iter().filter(|slice| slice.service.as_deref() == Some("web"));
    let mut all: Vec<_> = of_web.flat_map(|slice| slice.endpoints).collect();
    all.sort_by_key(|endpoint| endpoint.ip);
    all.iter().map(|e| format!("{}/{}", e.zone_hints.join(","), e.node_hints.join(","))).collect()
}

/// How many endpoints are for each zone.
fn shares(bench: &Bench) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for hints in in_table(bench) {
        *shares.entry(hints).or_default() += 1;
    }
    assert_eq!(in_table(bench), in_slices(bench));
    shares
}

fn expect(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs.iter().map(|(zone, count)| (format!("{zone}/"), *count)).collect()
}

fn disabled(bench: &Bench) -> Vec<String> {
    let all: Vec<_> = bench.controller.diagnostics().into_iter().cloned().collect();
    messages(&all).into_iter().filter(|message| message.contains("TopologyAwareHintsDisabled")).collect()
}

#[test]
fn traffic_distribution_hints_ready_endpoints() {
    let pods = || {
        vec![
            on("n-a", pod("a", "web", "10.244.0.1")).put(),
            on("n-b", pod("b", "web", "10.244.0.2")).put(),
            on("n-b", unready(pod("c", "web", "10.244.0.3"))).put(),
            on("n-0", pod("d", "web", "10.244.0.4")).put(),
        ]
    };
    let nodes = || vec![node("n-a", "a").put(), node("n-b", "b").put(), Node { zone: None, ..node("n-0", "") }.put()];
    for (service, expected) in [
        (service("web"), ["/", "/", "/", "/"]),
        (near("PreferClose"), ["a/", "b/", "/", "/"]),
        (near("PreferSameZone"), ["a/", "b/", "/", "/"]),
        (near("PreferSameNode"), ["a/n-a", "b/n-b", "/", "/n-0"]),
        (near("PreferNothing"), ["/", "/", "/", "/"]),
        // The annotation comes before the field, even where it cannot be done.
        (Service { topology_aware: true, ..near("PreferSameNode") }, ["/", "/", "/", "/"]),
    ] {
        let bench = Bench::with([nodes(), vec![service.clone().put()], pods()].concat());
        assert_eq!(in_table(&bench), expected, "{:?}", service.traffic_distribution);
        assert_eq!(in_slices(&bench), expected, "{:?}", service.traffic_distribution);
    }
}

#[test]
fn hints_come_and_go_with_the_field_and_the_readiness() {
    let mut bench = Bench::with([vec![node("n-a", "a").put(), service("web").put()], spread(&[("n-a", 2)])].concat());
    assert_eq!(written_by(&mut bench, vec![near("PreferClose").put()]), writes(0, 1, 0));
    assert_eq!(in_table(&bench), ["a/", "a/"]);
    bench.change(vec![on("n-a", unready(pod("p000", "web", "10.244.0.1"))).put()]);
    assert_eq!((in_table(&bench), in_slices(&bench)), (vec!["/".into(), "a/".into()], vec!["/".into(), "a/".into()]));
    bench.change(vec![node("n-a", "z").put()]);
    assert_eq!((in_table(&bench), in_slices(&bench)), (vec!["/".into(), "z/".into()], vec!["/".into(), "z/".into()]));
    assert_eq!(written_by(&mut bench, vec![service("web").put()]), writes(0, 1, 0));
    assert_eq!((in_table(&bench), in_slices(&bench)), (vec!["/".into(), "/".into()], vec!["/".into(), "/".into()]));
}

#[test]
fn hints_reach_the_traffic_policy() {
    // The native policy narrows the cluster's endpoints to this node's zone.
    let bench = Bench::with(
        [vec![node("here", "a").put(), node("n-b", "b").put(), near("PreferClose").put()], spread(&[("here", 1), ("n-b", 2)])].concat(),
    );
    let port = bench.port("web:80");
    let native: Vec<_> = port.fallback.subsets.iter().map(|at| port.subsets[*at as usize].members.clone()).collect();
    assert_eq!(native, [vec![0]]);
}

/// Shares of CPU against where the endpoints are: what each zone is given (KEP-2433).
#[test]
fn zones_are_given_their_share() {
    for (what, cores, pods, expected) in [
        ("even", vec![2, 2, 2], vec![2, 2, 2], vec![("a", 2), ("b", 2), ("c", 2)]),
        // Each is to have 2; `a` gives 2 away.
        ("one has too many", vec![2, 2, 2], vec![4, 1, 1], vec![("a", 2), ("b", 2), ("c", 2)]),
        // `a` is to have 3 of 4.
        ("a large zone", vec![3, 1], vec![2, 2], vec![("a", 3), ("b", 1)]),
        ("nobody lives in one", vec![1, 1], vec![4, 0], vec![("a", 2), ("b", 2)]),
        // 5.5 each: less than a whole one is not moved.
        ("a half stays", vec![1, 1], vec![6, 5], vec![("a", 6), ("b", 5)]),
    ] {
        let names = ["n-a", "n-b", "n-c"];
        let nodes = cores.iter().zip(names).map(|(cores, name)| sized(name, &name[2..], *cores).put()).collect();
        let counts: Vec<(&str, usize)> = names.into_iter().zip(pods).collect();
        let bench = Bench::with([nodes, vec![aware().put()], spread(&counts)].concat());
        assert_eq!(shares(&bench), expect(&expected), "{what}");
        assert_eq!(disabled(&bench), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn why_there_are_no_hints() {
    let two = || vec![sized("n-a", "a", 1).put(), sized("n-b", "b", 1).put()];
    let even = || spread(&[("n-a", 2), ("n-b", 2)]);
    let no_cpu = Node { cpu_millis: None, ..sized("n-c", "c", 1) };
    let no_zone = Node { zone: None, ..sized("n-c", "c", 1) };
    for (what, objects, expected) in [
        ("all is well", [two(), even()].concat(), None),
        ("no nodes", even(), Some("no Node outside the control plane is ready")),
        (
            "one zone",
            [vec![sized("n-a", "a", 1).put(), sized("n-b", "a", 1).put()], even()].concat(),
            Some("Nodes are ready in one zone only"),
        ),
        (
            "the other zone is not ready",
            [vec![sized("n-a", "a", 1).put(), Node { ready: false, ..sized("n-b", "b", 1) }.put()], even()].concat(),
            Some("Nodes are ready in one zone only"),
        ),
        (
            "a node without CPU",
            [two(), vec![no_cpu.clone().put()], even()].concat(),
            Some("the ready Node n-c has no zone or no allocatable CPU"),
        ),
        (
            "a node without zone",
            [two(), vec![no_zone.put()], even()].concat(),
            Some("the ready Node n-c has no zone or no allocatable CPU"),
        ),
        ("the control plane's do not count", [two(), vec![Node { control_plane: true, ..no_cpu.clone() }.put()], even()].concat(), None),
        ("nor those that are not ready", [two(), vec![Node { ready: false, ..no_cpu }.put()], even()].concat(), None),
        (
            "fewer endpoints than zones",
            [two(), spread(&[("n-a", 1)])].concat(),
            Some("there are fewer ready endpoints than zones (1 endpoints, 2 zones)"),
        ),
        // 1.5 each; at most 20 % more than its share for each means two each.
        (
            "overload",
            [two(), spread(&[("n-a", 2), ("n-b", 1)])].concat(),
            Some("some endpoint would bear over 20 % more than its share (3 endpoints, 2 zones)"),
        ),
        (
            "an endpoint without zone",
            [two(), vec![Node { ready: false, zone: None, ..node("n-0", "") }.put()], spread(&[("n-a", 2), ("n-b", 2), ("n-0", 2)])]
                .concat(),
            Some("the node of the ready endpoint 10.244.0.5 has no zone"),
        ),
    ] {
        let bench = Bench::with([vec![aware().put()], objects].concat());
        let field = "metadata.annotations[service.kubernetes.io/topology-mode]";
        let told = expected.map(|why| format!("Service default/web {field}: TopologyAwareHintsDisabled: {why}, addressType: IPv4"));
        assert_eq!(disabled(&bench), Vec::from_iter(told), "{what}");
        assert_eq!(in_table(&bench).iter().all(|hints| hints == "/"), expected.is_some(), "{what}");
        assert_eq!(in_table(&bench), in_slices(&bench), "{what}");
    }
}

#[test]
fn nodes_touch_the_services_that_ask_for_hints() {
    let mut bench = Bench::with(
        [
            vec![sized("n-a", "a", 1).put(), sized("n-b", "b", 1).put(), aware().put(), service("other").put()],
            vec![pod("o", "other", "10.244.9.1").put()],
            spread(&[("n-a", 2), ("n-b", 2)]),
        ]
        .concat(),
    );
    assert_eq!(shares(&bench), expect(&[("a", 2), ("b", 2)]));
    // Other labels of a node are nobody's business, more of the same neither.
    let mut labelled = sized("n-a", "a", 1);
    labelled.meta.labels = labels(&[("rack", "7")]);
    assert_eq!(written_by(&mut bench, vec![labelled.put()]), writes(0, 0, 0));
    assert_eq!(written_by(&mut bench, vec![sized("n-a", "a", 5).put(), sized("n-b", "b", 5).put()]), writes(0, 0, 0));
    // `a` has 3 of 4 now; two for `b` leave `a` less than its least.
    assert_eq!(written_by(&mut bench, vec![sized("n-a", "a", 15).put()]), writes(0, 1, 0));
    assert_eq!(shares(&bench), expect(&[("a", 3), ("b", 1)]));
    let update = bench.change(vec![Node { ready: false, ..sized("n-b", "b", 5) }.put()]);
    assert_eq!(shares(&bench), expect(&[("", 4)]));
    assert_eq!(messages(&update.diagnostics).len(), 1, "said when it happens");
    bench.change(vec![sized("n-b", "b", 15).put()]);
    assert_eq!(shares(&bench), expect(&[("a", 2), ("b", 2)]));
    assert_eq!(disabled(&bench), Vec::<String>::new());
    bench.change(vec![delete(Kind::Node, "n-b")]);
    assert_eq!(disabled(&bench).len(), 1);
    bench.change(vec![service("web").put()]);
    assert_eq!((disabled(&bench), shares(&bench)), (vec![], expect(&[("", 2)])), "two pods are on a node that is gone");
}

#[test]
fn what_was_given_stays_where_it_still_fits() {
    // Two full slices; a pod that leaves the second changes nothing in the first.
    let nodes = vec![sized("n-a", "a", 1).put(), sized("n-b", "b", 1).put()];
    let mut bench = Bench::with([nodes, vec![aware().put()], spread(&[("n-a", 120), ("n-b", 80)])].concat());
    assert_eq!(shares(&bench), expect(&[("a", 100), ("b", 100)]));
    let hints = |bench: &Bench, at: usize| slices(bench)[at].endpoints.clone();
    let first = hints(&bench, 0);
    let gone = hints(&bench, 1)[50].pod.clone().unwrap();
    assert_eq!(written_by(&mut bench, vec![delete(Kind::Pod, &gone)]), writes(0, 2, 0), "its slice, and Endpoints");
    assert_eq!(hints(&bench, 0), first);
    let now = shares(&bench);
    assert_eq!(now.values().sum::<usize>(), 199);
    // 99.5 each, at least ceil(99.5 / 1.2).
    assert!(now.values().all(|count| (83..=116).contains(count)), "{now:?}");
}

#[test]
fn families_are_hinted_apart() {
    let dual = Service {
        cluster_ip: ClusterIp::Fixed(vec![ip("10.96.0.9"), ip("fd00::9")]),
        ip_family_policy: Some(IpFamilyPolicy::RequireDualStack),
        ..aware()
    };
    let pods = [("n-a", 2, true), ("n-b", 2, false)].into_iter().flat_map(|(node, count, both)| {
        (0..count).map(move |at| {
            let mut addresses = vec![ip(&format!("10.244.0.{}{at}", if both { 1 } else { 2 }))];
            addresses.extend(both.then(|| ip(&format!("fd01::{at}"))));
            on(node, Pod { addresses, ..pod(&format!("{node}{at}"), "web", "10.244.0.1") }).put()
        })
    });
    let nodes = vec![sized("n-a", "a", 1).put(), sized("n-b", "b", 1).put(), dual.put()];
    let mut bench = Bench::dual();
    bench.change(nodes.into_iter().chain(pods).collect());
    let of = |family| {
        let all = slices(&bench).into_iter().filter(move |slice| slice.family == Some(family)).flat_map(|slice| slice.endpoints);
        all.map(|endpoint| endpoint.zone_hints.concat()).collect::<Vec<_>>()
    };
    assert_eq!(of(IpFamily::V4), ["a", "a", "b", "b"]);
    // One of the two in `a` is for `b`.
    let mut v6 = of(IpFamily::V6);
    v6.sort();
    assert_eq!(v6, ["a", "b"]);
}
