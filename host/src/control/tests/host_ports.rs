//! Host ports: frontends of one pod each, that come and go with it.

use super::support::*;
use crate::control::Settings;
use crate::objects::model::{ContainerPort, Kind, Pod, Protocol, Service, ServicePort};

fn host_port(number: u16, to: u16) -> ContainerPort {
    ContainerPort { name: None, host_port: Some(number), ..container_port("", to) }
}

fn on(node: Option<&str>, ports: Vec<ContainerPort>) -> Pod {
    Pod { node: node.map(str::to_owned), ports, ..pod("web", "web", "10.244.0.1") }
}

fn web() -> Pod {
    on(Some("here"), vec![host_port(8081, 80)])
}

/// Every frontend and where it leads.
fn routes(bench: &Bench) -> Vec<String> {
    let mut all: Vec<String> = bench
        .table()
        .frontends
        .iter()
        .map(|(key, frontend)| {
            let port = bench.table().port(frontend.service).unwrap();
            let to: Vec<&str> = port.endpoints.iter().map(|endpoint| &*endpoint.key).collect();
            format!("{:?} {}:{} {:?} {port} -> {}", frontend.kind, key.ip, key.port, key.protocol, to.join(" "))
        })
        .collect();
    all.sort();
    all
}

const ROUTE: &str = "HostPort 127.0.0.1:8081 Tcp default/pod/web:8081 -> 10.244.0.1:80";

#[test]
fn which_pods_have_host_ports_here() {
    let cases = [
        ("on this node", web(), true),
        ("on another", on(Some("there"), vec![host_port(8081, 80)]), false),
        ("on none, and there are no nodes", on(None, vec![host_port(8081, 80)]), true),
        ("without a host port", on(Some("here"), vec![container_port("http", 80)]), false),
        ("on the host's network", Pod { host_network: true, ..web() }, false),
        ("finished", Pod { finished: true, ..web() }, false),
        ("without an address", Pod { addresses: vec![], ..web() }, false),
        ("not ready", unready(web()), true),
        ("with weight 0", Pod { weight: Some(0), ..web() }, true),
    ];
    for (which, pod, served) in cases {
        let mut bench = Bench::with(vec![pod.put()]);
        let expected: &[&str] = if served { &[ROUTE] } else { &[] };
        assert_eq!(routes(&bench), expected, "{which}");
        assert_eq!(bench.table().ports.iter().flatten().filter(|port| port.can_forward()).count(), expected.len(), "{which}");
        assert_eq!(bench.controller.diagnostics().len(), 0, "{which}");
        bench.change(vec![delete(Kind::Pod, "web")]);
        assert_eq!((routes(&bench).len(), bench.table().ports.iter().flatten().count()), (0, 0), "{which}");
    }
    let mut leaving = web();
    leaving.meta.terminating = true;
    assert_eq!(routes(&Bench::with(vec![leaving.put()])), [ROUTE]);
}

#[test]
fn a_pod_of_no_node_is_nowhere_once_there_are_nodes() {
    let mut bench = Bench::with(vec![on(None, vec![host_port(8081, 80)]).put()]);
    bench.change(vec![node("there", "a").put()]);
    assert_eq!(routes(&bench), [""; 0]);
    bench.change(vec![delete(Kind::Node, "there")]);
    assert_eq!(routes(&bench), [ROUTE]);
}

#[test]
fn ports_lead_where_they_say() {
    let udp = ContainerPort { protocol: Protocol::Udp, ..host_port(53, 5353) };
    let elsewhere = ContainerPort { host_ip: Some(ip("192.0.2.1")), ..host_port(53, 1053) };
    let bench = Bench::with(vec![on(Some("here"), vec![host_port(53, 5300), udp, elsewhere, container_port("other", 9)]).put()]);
    assert_eq!(
        routes(&bench),
        [
            "HostPort 127.0.0.1:53 Tcp default/pod/web:53 -> 10.244.0.1:5300",
            "HostPort 127.0.0.1:53 Udp default/pod/web:53-udp -> 10.244.0.1:5353",
            "HostPort 192.0.2.1:53 Tcp default/pod/web/192.0.2.1:53 -> 10.244.0.1:1053",
        ]
    );
}

#[test]
fn families_are_apart() {
    let mut dual = web();
    dual.addresses.push(ip("fd00::a"));
    let bench = Bench::with_settings(dual_stack(), vec![dual.clone().put()]);
    assert_eq!(routes(&bench), [ROUTE, "HostPort ::1:8081 Tcp default/pod/web:8081 -> [fd00::a]:80"]);
    assert_eq!(routes(&Bench::with(vec![dual.put()])), [ROUTE], "the node listens in one family");

    let foreign = Pod { addresses: vec![ip("fd00::a")], ..web() };
    let bench = Bench::with(vec![foreign.put()]);
    assert_eq!(routes(&bench), [""; 0]);
    let told = messages(&bench.controller.diagnostics().into_iter().cloned().collect::<Vec<_>>());
    let expected =
        "Pod default/web spec.containers[].ports[].hostPort: not served: the node has no address of the pod's family to listen at";
    assert_eq!(told, [expected]);
}

#[test]
fn policies_see_a_port_named_after_the_pod() {
    let bench = Bench::with(vec![web().put()]);
    let record = &bench.port("pod/web:8081").record;
    assert_eq!((record.name.as_str(), record.port, &record.selector), ("pod/web", 8081, &None));
    let port = bench.port("pod/web:8081");
    assert!(port.endpoints[0].local && port.endpoints[0].conditions.ready);
    assert_eq!(port.endpoints[0].labels.get("app").map(String::as_str), Some("web"));
}

#[test]
fn an_address_that_is_anothers_stays_anothers() {
    let mut node_port = node_port_service("db");
    node_port.ports[0].node_port = Some(30080);
    let twin = Pod { meta: meta("twin"), ports: vec![host_port(8081, 80), host_port(30080, 81)], ..web() };
    let mut bench = Bench::with(vec![web().put(), node_port.put()]);
    let update = bench.change(vec![twin.put()]);
    assert_eq!(
        messages(&update.diagnostics),
        [
            "Pod default/twin spec.containers[].ports[].hostPort: 127.0.0.1 port 8081/TCP already belongs to Pod default/web: not served for this one",
            "Pod default/twin spec.containers[].ports[].hostPort: 127.0.0.1 port 30080/TCP already belongs to Service default/db: not served for this one",
        ]
    );
    assert_eq!((update.diagnostics[0].file.as_deref(), update.diagnostics[0].line), (Some("all.yaml"), Some(7)));
    assert!(routes(&bench).contains(&ROUTE.to_owned()));
    bench.change(vec![delete(Kind::Pod, "web")]);
    assert!(routes(&bench).contains(&"HostPort 127.0.0.1:8081 Tcp default/pod/twin:8081 -> 10.244.0.1:80".to_owned()));
}

#[test]
fn a_pod_that_changes_concerns_itself_alone() {
    let mut bench = Bench::with(vec![web().put(), service("web").put(), service("other").put(), pod("o", "other", "10.244.0.9").put()]);
    let (id, generation) = (bench.port("pod/web:8081").id, bench.port("pod/web:8081").generation);
    bench.planner.calls();
    let update = bench.change(vec![unready(web()).put()]);
    assert_eq!(update.changed, [bench.port("web:80").id], "readiness is the Service's business");
    assert_eq!(bench.port("pod/web:8081").generation, generation);
    bench.planner.calls();

    let update = bench.change(vec![Pod { addresses: vec![ip("10.244.0.2")], ..unready(web()) }.put()]);
    assert_eq!(update.changed.iter().filter(|changed| **changed == id).count(), 1);
    assert_eq!(bench.port("pod/web:8081").endpoints[0].key.as_ref(), "10.244.0.2:80");
    assert!(bench.planner.calls().iter().all(|(_, _, of)| *of == id || *of == bench.port("web:80").id));
}

#[test]
fn a_pod_that_is_gone_is_masked_at_once() {
    let mut bench = Bench::with(vec![web().put()]);
    bench.controller.apply(vec![delete(Kind::Pod, "web")], 0);
    bench.controller.masked_table().unwrap();
    assert_eq!(&*bench.port("pod/web:8081").masked, &[0]);
    bench.rebuild();
    assert_eq!(routes(&bench), [""; 0]);
}

#[test]
fn host_ports_take_nothing_from_services() {
    let settings = Settings { node_port_addresses: vec![ip("192.0.2.1")], ..settings() };
    let services =
        || vec![node_port_service("web").put(), Service { ports: vec![ServicePort { ..port("", 81, 81) }], ..service("db") }.put()];
    let without = Bench::with_settings(settings.clone(), services());
    let with = Bench::with_settings(settings, services().into_iter().chain([web().put()]).collect());
    for name in ["web", "db"] {
        assert_eq!(with.allocation(name), without.allocation(name));
        assert_eq!(with.answers(name), without.answers(name));
    }
    assert_eq!(routes(&with).len(), routes(&without).len() + 1);
}
