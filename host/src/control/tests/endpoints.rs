//! Which endpoints a Service port has, and what is said when it has none.

use super::support::*;
use crate::objects::model::{Conditions, Endpoints, Kind, Pod, Service, ServicePort, TargetPort};

fn bare(name: &str) -> Service {
    Service { selector: None, ..service(name) }
}

#[test]
fn a_named_target_port_is_resolved_pod_by_pod() {
    let named = Service { ports: vec![ServicePort { target_port: TargetPort::Name("http".into()), ..port("", 80, 0) }], ..service("web") };
    let with = |name: &str, address: &str, ports| Pod { ports, ..pod(name, "web", address) };
    let udp = crate::objects::model::ContainerPort { protocol: crate::objects::model::Protocol::Udp, ..container_port("http", 9) };
    let bench = Bench::with(vec![
        named.put(),
        with("a", "10.244.0.1", vec![container_port("http", 8080)]).put(),
        with("b", "10.244.0.2", vec![container_port("admin", 1), container_port("http", 9090)]).put(),
        with("c", "10.244.0.3", vec![udp]).put(),
        with("d", "10.244.0.4", vec![]).put(),
    ]);
    assert_eq!(bench.keys("web:80"), ["10.244.0.1:8080", "10.244.0.2:9090"]);
}

#[test]
fn conditions_follow_readiness_termination_and_publish_not_ready() {
    let c = |ready, serving, terminating| Conditions { ready, serving, terminating };
    for (is_ready, terminating, publish, expected) in [
        (true, false, false, c(true, true, false)),
        (false, false, false, c(false, false, false)),
        (true, true, false, c(false, true, true)),
        (false, true, false, c(false, false, true)),
        (false, false, true, c(true, false, false)),
        (true, true, true, c(true, true, true)),
    ] {
        let mut one = Pod { ready: is_ready, ..pod("a", "web", "10.244.0.1") };
        one.meta.terminating = terminating;
        let bench = Bench::with(vec![Service { publish_not_ready: publish, ..service("web") }.put(), one.put()]);
        assert_eq!(bench.port("web:80").endpoints[0].conditions, expected, "ready {is_ready} terminating {terminating} publish {publish}");
    }
}

#[test]
fn finished_pods_pods_without_address_and_other_namespaces_are_left_out() {
    let mut elsewhere = pod("d", "web", "10.244.0.4");
    elsewhere.meta.namespace = "other".into();
    let bench = Bench::with(vec![
        service("web").put(),
        Pod { finished: true, ..pod("a", "web", "10.244.0.1") }.put(),
        Pod { addresses: vec![], ..pod("b", "web", "10.244.0.2") }.put(),
        pod("c", "db", "10.244.0.3").put(),
        elsewhere.put(),
        pod("e", "web", "10.244.0.5").put(),
    ]);
    assert_eq!(bench.keys("web:80"), ["10.244.0.5:8080"]);
}

#[test]
fn hand_written_endpoints_are_joined_by_name_and_protocol() {
    let mut db = bare("db");
    db.ports = vec![port("mysql", 3306, 3306), port("admin", 80, 80)];
    let mut endpoints = written("db", &["203.0.113.1", "203.0.113.2"], "mysql", 13306);
    endpoints.subsets[0].addresses[1].ready = false;
    let bench = Bench::with(vec![db.put(), endpoints.put()]);
    let mysql = bench.port("db:mysql");
    assert_eq!(bench.keys("db:mysql"), ["203.0.113.1:13306", "203.0.113.2:13306"]);
    assert_eq!(mysql.endpoints.iter().map(|e| e.conditions.ready).collect::<Vec<_>>(), [true, false]);
    assert!(mysql.endpoints.iter().all(|e| e.group.is_none()));
    assert_eq!(bench.keys("db:admin"), Vec::<String>::new());
    assert!(
        messages(&bench.controller.diagnostics().into_iter().cloned().collect::<Vec<_>>()).contains(
            &"Service default/db spec.ports[1].name: no endpoints for port admin: those written by hand have ports mysql, of its family and protocol none"
                .to_owned()
        )
    );
}

#[test]
fn slices_and_endpoints_are_one_set() {
    let mut heavy = slice("db-1", "db", &["203.0.113.2", "203.0.113.3"], "", 3306);
    heavy.endpoints[0].weight = Some(5);
    heavy.endpoints[0].node = Some("here".into());
    heavy.endpoints[1].zone = Some("b".into());
    let bench = Bench::with(vec![
        bare("db").put(),
        written("db", &["203.0.113.1", "203.0.113.2"], "", 3306).put(),
        slice("db-0", "db", &["203.0.113.2", "fd00::1"], "", 3306).put(),
        heavy.put(),
    ]);
    let db = bench.port("db:80");
    assert_eq!(bench.keys("db:80"), ["203.0.113.1:3306", "203.0.113.2:3306", "203.0.113.3:3306"]);
    assert!(db.endpoints[1].local, "of an endpoint that is there twice, the local one counts");
    assert_eq!(db.endpoints.iter().map(|e| e.weight).collect::<Vec<_>>(), [1, 5, 1]);
    assert_eq!(db.endpoints[2].zone.as_deref(), Some("b"));
}

#[test]
fn of_two_pods_with_one_address_the_ready_one_counts() {
    let before = unready(pod("a", "web", "10.244.0.1"));
    let mut now = pod("b", "web", "10.244.0.1");
    now.meta.labels.insert("new".into(), "1".into());
    for order in [[before.clone(), now.clone()], [now, before]] {
        let bench = Bench::with([service("web").put()].into_iter().chain(order.map(Put::put)).collect());
        assert_eq!(bench.keys("web:80"), ["10.244.0.1:8080"]);
        assert!(bench.port("web:80").endpoints[0].conditions.ready);
    }
}

#[test]
fn endpoints_of_a_service_with_a_selector_do_not_count_and_slices_by_hand_do() {
    let mut ours = slice("web-x", "web", &["10.244.0.8"], "", 8080);
    ours.meta.labels = labels(&[("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io")]);
    let bench = Bench::with(vec![
        service("web").put(),
        written("web", &["203.0.113.1"], "", 80).put(),
        slice("web-by-hand", "web", &["203.0.113.9"], "", 80).put(),
        ours.put(),
    ]);
    assert_eq!(bench.keys("web:80"), ["203.0.113.9:80"]);
}

#[test]
fn mirroring_can_be_declined() {
    let mut skipped = written("db", &["203.0.113.1"], "", 3306);
    skipped.meta.labels = labels(&[("endpointslice.kubernetes.io/skip-mirror", "true")]);
    let mut lease = written("db", &["203.0.113.1"], "", 3306);
    lease.meta.annotations = labels(&[("control-plane.alpha.kubernetes.io/leader", "{}")]);
    for endpoints in [skipped, lease] {
        assert_eq!(Bench::with(vec![bare("db").put(), endpoints.put()]).keys("db:80").len(), 0);
    }
}

#[test]
fn local_is_what_is_on_this_node() {
    let on = |name: &str, address: &str, at: Option<&str>| Pod { node: at.map(str::to_owned), ..pod(name, "web", address) };
    let bench = Bench::with(vec![
        service("web").put(),
        on("a", "10.244.0.1", Some("here")).put(),
        on("b", "10.244.0.2", Some("there")).put(),
        on("c", "10.244.0.3", None).put(),
        on("d", "192.0.2.1", None).put(),
        on("e", "127.0.0.9", None).put(),
    ]);
    let local: Vec<_> = bench.port("web:80").endpoints.iter().filter(|e| e.local).map(|e| e.key.to_string()).collect();
    assert_eq!(local, ["10.244.0.1:8080", "127.0.0.9:8080", "192.0.2.1:8080"]);
}

#[test]
fn zones_come_from_nodes_and_move_with_them() {
    let mut bench = Bench::with(vec![
        service("web").put(),
        Pod { node: Some("there".into()), ..pod("a", "web", "10.244.0.1") }.put(),
        Pod { node: Some("gone".into()), ..pod("b", "web", "10.244.0.2") }.put(),
    ]);
    assert_eq!(bench.keys("web:80").len(), 2, "without Node objects, nodes that pods name are assumed to exist");
    bench.change(vec![node("there", "a").put()]);
    assert_eq!(bench.keys("web:80"), ["10.244.0.1:8080"], "with Node objects, pods on other nodes are left out");
    bench.change(vec![Pod { node: Some("here".into()), ..pod("c", "web", "10.244.0.3") }.put()]);
    assert_eq!(bench.keys("web:80").len(), 2, "the node of this host exists");
    bench.change(vec![delete(Kind::Pod, "c")]);
    assert_eq!(bench.port("web:80").endpoints[0].zone.as_deref(), Some("a"));
    let update = bench.change(vec![node("there", "b").put()]);
    assert_eq!(update.changed.len(), 1);
    assert_eq!(bench.port("web:80").endpoints[0].zone.as_deref(), Some("b"));
    let mut same = node("there", "b");
    same.meta.annotations = labels(&[("heartbeat", "1")]);
    assert!(bench.change(vec![same.put()]).changed.is_empty());
    bench.change(vec![delete(Kind::Node, "there")]);
    assert_eq!(bench.keys("web:80").len(), 2);
}

#[test]
fn an_endpoint_without_takers_says_why() {
    let no_pod = [];
    let cases: [(&[Pod], &str); 5] = [
        (&no_pod, " spec.selector: no endpoints: selector app=web matches no pod"),
        (&[unready(pod("a", "web", "10.244.0.1"))], ": no ready endpoint: 1 known, it is not ready"),
        (&[Pod { finished: true, ..pod("a", "web", "10.244.0.1") }], ": no endpoints: 1 pod matched, and it has finished"),
        (
            &[Pod { addresses: vec![ip("fd00::1")], ..pod("a", "web", "10.244.0.1") }],
            ": no endpoints: 1 pod matched, and it has no address of this family in status.podIPs",
        ),
        (&[Pod { weight: Some(0), ..pod("a", "web", "10.244.0.1") }], ": no endpoint may be picked: every ready one has weight 0"),
    ];
    for (pods, expected) in cases {
        let mut bench = Bench::new();
        let update = bench.change([service("web").put()].into_iter().chain(pods.iter().cloned().map(Put::put)).collect());
        assert_eq!(messages(&update.diagnostics), [format!("Service default/web{expected}")]);
        let again = bench.change(vec![pod("b", "other", "10.244.0.7").put()]);
        assert_eq!(messages(&again.diagnostics), Vec::<String>::new(), "said once");
        bench.change(vec![pod("a", "web", "10.244.0.1").put()]);
        assert_eq!(bench.controller.diagnostics().len(), 0, "and over when it is mended");
    }
    let update = Bench::new().change(vec![bare("db").put(), Endpoints { subsets: vec![], ..written("x", &[], "", 1) }.put()]);
    assert_eq!(
        messages(&update.diagnostics),
        ["Service default/db spec.selector: no endpoints: it has no selector, and no Endpoints or EndpointSlice is written for it"]
    );
}

#[test]
fn ready_since_is_when_an_endpoint_became_ready() {
    let mut bench = Bench::with(vec![service("web").put(), bare("db").put(), pod("a", "web", "10.244.0.1").put()]);
    bench.change(vec![written("db", &["203.0.113.1"], "", 1).put()]);
    let since = |bench: &Bench, name: &str| bench.port(name).endpoints.iter().map(|e| e.ready_since_ms).collect::<Vec<_>>();
    assert_eq!((since(&bench, "web:80"), since(&bench, "db:80")), (vec![1000], vec![1000]));
    bench.now_ms = 2000;
    bench.change(vec![unready(pod("a", "web", "10.244.0.1")).put(), written("db", &["203.0.113.1", "203.0.113.2"], "", 1).put()]);
    assert_eq!((since(&bench, "web:80"), since(&bench, "db:80")), (vec![1000], vec![1000, 2000]));
    bench.now_ms = 3000;
    bench.change(vec![pod("a", "web", "10.244.0.1").put()]);
    assert_eq!(since(&bench, "web:80"), [3000]);
}

#[test]
fn load_is_shared_by_all_who_send_to_an_address() {
    let other = Service { selector: Some(labels(&[("app", "web")])), ..service("other") };
    let mut bench = Bench::with(vec![service("web").put(), other.put(), pod("a", "web", "10.244.0.1").put()]);
    let connection = bench.port("web:80").endpoints[0].load.enter();
    assert_eq!(bench.port("other:80").endpoints[0].load.active(), 1);
    bench.change(vec![delete(Kind::Pod, "a")]);
    bench.change(vec![pod("b", "web", "10.244.0.1").put()]);
    assert_eq!(bench.port("web:80").endpoints[0].load.active(), 1, "a connection outlives its endpoint's absence");
    drop(connection);
    assert_eq!(bench.port("other:80").endpoints[0].load.active(), 0);
}
