//! Who is probed.

use super::*;
use crate::probe::targets::{Found, Scope, of_pod, of_service};

const HERE: Scope<'static> = Scope { node: "node01", nodes_exist: true, allow_exec: false };

fn asked(found: &Found) -> Vec<(String, String)> {
    found.targets.iter().map(|target| (target.key.to_string(), target.address.to_string())).collect()
}

#[test]
fn which_pods_are_probed() {
    let web = pod("web", "10.244.1.2", &[("nginx", tcp(Some(8080)))]);
    let nowhere = Scope { nodes_exist: false, node: "", ..HERE };
    let elsewhere = Scope { node: "node02", ..HERE };
    let terminating = Pod { meta: Meta { terminating: true, ..web.meta.clone() }, ..web.clone() };
    for (case, pod, scope, probed) in [
        ("of this node", web.clone(), HERE, true),
        ("of another node", web.clone(), elsewhere, false),
        ("of any node, without Nodes", web.clone(), nowhere, true),
        ("of no node, with Nodes", Pod { node: None, ..web.clone() }, HERE, false),
        ("of no node, without Nodes", Pod { node: None, ..web.clone() }, nowhere, true),
        ("terminating", terminating, HERE, true),
        ("finished", Pod { finished: true, ..web.clone() }, HERE, false),
        ("without an address", Pod { addresses: vec![], ..web.clone() }, HERE, false),
        ("that asks for nothing", Pod { readiness_probes: vec![], ..web }, HERE, false),
    ] {
        let expected = [("Pod default/web, container nginx".to_owned(), "10.244.1.2:8080".to_owned())];
        let found = of_pod(&pod, &scope);
        assert_eq!(asked(&found), if probed { &expected[..] } else { &[] }, "a pod {case}");
        assert_eq!(found.diagnostics, [], "a pod {case}");
    }
}

#[test]
fn each_container_is_asked_at_the_pods_first_address() {
    let two = pod("web", "fd00::2", &[("a", tcp(Some(1))), ("b", tcp(Some(2)))]);
    let two = Pod { addresses: vec![two.addresses[0], "10.0.0.9".parse().unwrap()], ..two };
    let expected = [("Pod default/web, container a", "[fd00::2]:1"), ("Pod default/web, container b", "[fd00::2]:2")];
    assert_eq!(asked(&of_pod(&two, &HERE)), expected.map(|(key, address)| (key.to_owned(), address.to_owned())));
}

#[test]
fn commands_are_run_only_where_that_is_allowed() {
    let mixed = pod("web", "10.244.1.2", &[("a", exec(&["true"])), ("b", tcp(Some(2)))]);
    let found = of_pod(&mixed, &HERE);
    assert_eq!(asked(&found).len(), 1);
    let [diagnostic] = &found.diagnostics[..] else { panic!("{:?}", found.diagnostics) };
    assert_eq!(diagnostic.object.as_deref(), Some("Pod default/web"));
    assert!(diagnostic.message.contains("container a") && !diagnostic.is_error(), "{diagnostic}");
    assert!(diagnostic.remedy.as_deref().unwrap().contains("--allow-exec-probes"), "{diagnostic}");
    let allowed = of_pod(&mixed, &Scope { allow_exec: true, ..HERE });
    assert_eq!((allowed.targets.len(), allowed.diagnostics.len()), (2, 0));
}

#[test]
fn a_container_probe_without_a_port_is_told_of() {
    let found = of_pod(&pod("web", "10.244.1.2", &[("a", tcp(None))]), &HERE);
    assert_eq!((found.targets.len(), found.diagnostics.len()), (0, 1));
}

#[test]
fn written_endpoints_are_asked_at_their_own_port_or_the_annotations() {
    let written = endpoints("mysql", &[("172.17.0.3", true), ("172.17.0.4", false)], &[port("", Protocol::Tcp, 3306)]);
    let key = "Service default/mysql, endpoint 172.17.0.3:3306";
    for (probe, address) in [(tcp(None), "172.17.0.3:3306"), (tcp(Some(9104)), "172.17.0.3:9104")] {
        let found = of_service(&service("mysql", Some(probe), &[("", Protocol::Tcp)]), Some(&written), [], &HERE);
        assert_eq!(asked(&found), [(key.to_owned(), address.to_owned())]);
    }
    let none = of_service(&service("mysql", None, &[("", Protocol::Tcp)]), Some(&written), [], &HERE);
    assert_eq!(none, Found::default());
}

#[test]
fn which_endpoints_count_as_written_by_hand() {
    let selects = |service: Service| Service { selector: Some(Labels::from([("app".to_owned(), "x".to_owned())])), ..service };
    let plain = service("db", Some(tcp(None)), &[("sql", Protocol::Tcp)]);
    let ports = [port("sql", Protocol::Tcp, 1), port("other", Protocol::Tcp, 2)];
    let object = endpoints("db", &[("10.0.0.1", true)], &ports);
    let by_hand = slice("db-1", "db", &[], &[("10.0.0.2", true), ("10.0.0.3", false)], &ports);
    let made = slice(
        "db-2",
        "db",
        &[("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io")],
        &[("10.0.0.4", true)],
        &ports,
    );
    let again = slice("db-3", "db", &[], &[("10.0.0.1", true)], &ports);
    for (case, service, expected) in [
        ("without a selector", plain.clone(), &["10.0.0.1:1", "10.0.0.2:1", "10.0.0.4:1"][..]),
        ("with a selector", selects(plain.clone()), &["10.0.0.1:1", "10.0.0.2:1"][..]),
        ("of another proxy", Service { other_proxy: true, ..plain.clone() }, &[][..]),
        ("an alias", Service { service_type: ServiceType::ExternalName("x.test".to_owned()), ..plain }, &[][..]),
    ] {
        let found = of_service(&service, Some(&object), [&by_hand, &made, &again], &HERE);
        let addresses: Vec<String> = found.targets.iter().map(|target| target.address.to_string()).collect();
        assert_eq!(addresses, expected, "a Service {case}");
    }
}

#[test]
fn a_port_that_is_not_tcp_needs_another_that_tells_of_it() {
    let ports = [("dns", Protocol::Udp), ("dns-tcp", Protocol::Tcp)];
    let udp = port("dns", Protocol::Udp, 53);
    let only_udp = endpoints("dns", &[("10.0.0.1", true)], std::slice::from_ref(&udp));
    let found = of_service(&service("dns", Some(tcp(None)), &ports), Some(&only_udp), [], &HERE);
    assert_eq!((found.targets.len(), found.diagnostics.len()), (0, 1));
    let named = of_service(&service("dns", Some(tcp(Some(8080))), &ports), Some(&only_udp), [], &HERE);
    assert_eq!(asked(&named), [("Service default/dns, endpoint 10.0.0.1:53".to_owned(), "10.0.0.1:8080".to_owned())]);
    let both = endpoints("dns", &[("10.0.0.1", true)], &[udp, port("dns-tcp", Protocol::Tcp, 5353)]);
    let found = of_service(&service("dns", Some(tcp(None)), &ports), Some(&both), [], &HERE);
    assert_eq!(asked(&found), [("Service default/dns, endpoint 10.0.0.1:5353".to_owned(), "10.0.0.1:5353".to_owned())]);
    assert_eq!(found.diagnostics, []);
}
