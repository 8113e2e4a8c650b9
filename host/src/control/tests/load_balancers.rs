//! Services of type LoadBalancer: addresses from the host's pools, and whose clients they answer.

use super::support::*;
use crate::control::Settings;
use crate::objects::model::{IpFamily, IpFamilyPolicy, Kind, Node, Service, ServiceType};

const POOL4: &str = "203.0.113.0/24";
const POOL6: &str = "2001:db8:1::/112";

fn pools(nets: &[&str]) -> Settings {
    Settings { load_balancer_pools: nets.iter().map(|net| net.parse().unwrap()).collect(), ..dual_stack() }
}

fn balanced(name: &str) -> Service {
    Service { service_type: ServiceType::LoadBalancer { allocate_node_ports: false }, ..service(name) }
}

fn asking(name: &str, address: &str) -> Service {
    Service { load_balancer_ip: Some(ip(address)), ..balanced(name) }
}

fn dual(service: Service) -> Service {
    Service { ip_family_policy: Some(IpFamilyPolicy::RequireDualStack), ..service }
}

/// The load-balancer addresses that are shown, which are those that are served.
fn addresses(bench: &Bench, name: &str) -> Vec<String> {
    let shown: Vec<String> = bench.controller.load_balancer_ips("default", name).iter().map(ToString::to_string).collect();
    let mut served: Vec<String> = bench
        .table()
        .frontends
        .iter()
        .filter(|(_, frontend)| frontend.kind == crate::table::FrontendKind::LoadBalancer)
        .filter(|(_, frontend)| bench.table().port(frontend.service).is_some_and(|port| port.record.name == name))
        .map(|(key, _)| key.ip.to_string())
        .collect();
    let mut sorted = shown.clone();
    sorted.sort();
    served.sort();
    assert_eq!(sorted, served);
    shown
}

fn warnings(bench: &Bench) -> Vec<String> {
    let of = |text: &String| text.contains("loadBalancer");
    messages(&bench.controller.diagnostics().into_iter().cloned().collect::<Vec<_>>()).into_iter().filter(of).collect()
}

#[test]
fn an_address_is_a_function_of_the_name() {
    // Worked out apart from this code, as in `addresses`.
    let vectors = [
        ("web", "203.0.113.106", "2001:db8:1::d3f"),
        ("db", "203.0.113.221", "2001:db8:1::e684"),
        ("cache", "203.0.113.28", "2001:db8:1::dd61"),
    ];
    let all = Bench::with_settings(pools(&[POOL4, POOL6]), vectors.iter().map(|(name, ..)| dual(balanced(name)).put()).collect());
    for (name, v4, v6) in vectors {
        let alone = Bench::with_settings(pools(&[POOL4, POOL6]), vec![dual(balanced(name)).put()]);
        for bench in [&all, &alone] {
            assert_eq!(addresses(bench, name), [v4, v6]);
            assert_eq!(bench.allocation(name).load_balancer_ips, [ip(v4), ip(v6)]);
            assert_eq!(warnings(bench), [""; 0]);
        }
    }
}

#[test]
fn who_gets_an_address() {
    let class = |text: &str| Service { load_balancer_class: Some(text.into()), ..balanced("web") };
    let status = |text: &str| Service { load_balancer_ips: vec![ip(text)], ..balanced("web") };
    let v6 = Service { ip_families: vec![IpFamily::V6], ..balanced("web") };
    let (both, one): (&[&str], &[&str]) = (&[POOL4, POOL6], &[POOL4]);
    let cases = [
        (both, balanced("web"), vec!["203.0.113.106"]),
        (both, class("pointsman.dev/pool"), vec!["203.0.113.106"]),
        (both, class("example.org/other"), vec![]),
        (both, service("web"), vec![]),
        (both, node_port_service("web"), vec![]),
        (both, v6.clone(), vec!["2001:db8:1::d3f"]),
        (both, dual(balanced("web")), vec!["203.0.113.106", "2001:db8:1::d3f"]),
        // One family's pool serves that family.
        (one, dual(balanced("web")), vec!["203.0.113.106"]),
        // Without a pool, it is somebody else's business.
        (&[], balanced("web"), vec![]),
        (&[], asking("web", "198.51.100.9"), vec![]),
        // What is in the status is served, and nothing else.
        (both, status("198.51.100.9"), vec!["198.51.100.9"]),
        (&[], status("198.51.100.9"), vec!["198.51.100.9"]),
        (both, asking("web", "203.0.113.5"), vec!["203.0.113.5"]),
        (both, dual(asking("web", "2001:db8:1::5")), vec!["203.0.113.106", "2001:db8:1::5"]),
    ];
    for (at, (nets, service, expected)) in cases.into_iter().enumerate() {
        let bench = Bench::with_settings(pools(nets), vec![service.put()]);
        assert_eq!(addresses(&bench, "web"), expected, "case {at}");
        assert_eq!(warnings(&bench), [""; 0], "case {at}");
    }
    let bench = Bench::with_settings(pools(one), vec![v6.put()]);
    let told =
        "Service default/web status.loadBalancer: stays pending: no IPv6 address is free in the load-balancer pools (203.0.113.0/24)";
    assert_eq!((addresses(&bench, "web"), warnings(&bench)), (vec![], vec![told.to_owned()]));
}

#[test]
fn an_address_that_is_not_to_be_had_is_told_and_no_other_given() {
    let mut bench = Bench::with_settings(pools(&[POOL4, POOL6]), vec![asking("first", "203.0.113.5").put()]);
    let cases = [
        (
            asking("web", "198.51.100.9"),
            "198.51.100.9 is no usable address of the load-balancer pools (203.0.113.0/24, 2001:db8:1::/112): not given",
        ),
        (
            asking("web", "203.0.113.0"),
            "203.0.113.0 is no usable address of the load-balancer pools (203.0.113.0/24, 2001:db8:1::/112): not given",
        ),
        (asking("web", "2001:db8:1::5"), "2001:db8:1::5 is not given: no cluster IP of its family"),
        (asking("web", "203.0.113.5"), "203.0.113.5 is already the load-balancer address of Service default/first (all.yaml:7): not given"),
    ];
    for (service, expected) in cases {
        bench.change(vec![service.put()]);
        assert_eq!(addresses(&bench, "web"), [""; 0], "{expected}");
        assert_eq!(warnings(&bench), [format!("Service default/web spec.loadBalancerIP: {expected}")]);
        assert!(bench.cluster_ip("web").is_some(), "the rest of it is served");
        assert_eq!(addresses(&bench, "first"), ["203.0.113.5"]);
    }
    bench.change(vec![delete(Kind::Service, "first")]);
    assert_eq!((addresses(&bench, "web"), warnings(&bench)), (vec!["203.0.113.5".to_owned()], vec![]), "it waited for the address");
}

#[test]
fn an_address_is_kept_while_it_is_wanted() {
    let mut bench = Bench::with_settings(pools(&[POOL4]), vec![asking("web", "203.0.113.5").put()]);
    bench.change(vec![balanced("web").put()]);
    assert_eq!(addresses(&bench, "web"), ["203.0.113.5"], "asking no more is no wish for another");
    bench.change(vec![asking("web", "198.51.100.9").put()]);
    assert_eq!(addresses(&bench, "web"), ["203.0.113.5"], "what worked does not stop for what cannot be had");
    bench.change(vec![asking("web", "203.0.113.7").put(), asking("heir", "203.0.113.5").put()]);
    assert_eq!((addresses(&bench, "web"), addresses(&bench, "heir")), (vec!["203.0.113.7".into()], vec!["203.0.113.5".into()]));

    // It is of another type, or has an address from somebody else: this one is free.
    let written = Service { load_balancer_ips: vec![ip("198.51.100.1")], ..balanced("web") };
    for service in [node_port_service("web"), written] {
        bench.change(vec![asking("web", "203.0.113.7").put()]);
        assert_eq!(addresses(&bench, "web"), ["203.0.113.7"]);
        bench.change(vec![service.put(), asking("next", "203.0.113.7").put()]);
        assert_eq!(addresses(&bench, "next"), ["203.0.113.7"]);
        assert_eq!(bench.allocation("web").load_balancer_ips, [""; 0].map(ip));
        bench.change(vec![delete(Kind::Service, "next")]);
    }
}

#[test]
fn a_full_pool_leaves_the_rest_pending() {
    let mut bench = Bench::of(pools(&["203.0.113.8/30"]));
    bench.change(["a", "b", "c", "d"].map(|name| balanced(name).put()).to_vec());
    assert_eq!((addresses(&bench, "a").len(), addresses(&bench, "b").len()), (1, 1));
    assert_ne!(addresses(&bench, "a"), addresses(&bench, "b"));
    let told = |name: &str| {
        let message = "stays pending: no IPv4 address is free in the load-balancer pools (203.0.113.8/30)";
        format!("Service default/{name} status.loadBalancer: {message}")
    };
    assert_eq!((addresses(&bench, "c"), addresses(&bench, "d")), (vec![], vec![]));
    assert_eq!(warnings(&bench), [told("c"), told("d")]);
    let freed = addresses(&bench, "b");
    bench.change(vec![delete(Kind::Service, "b")]);
    assert_eq!((addresses(&bench, "c"), warnings(&bench)), (freed.clone(), vec![told("d")]), "the next by name");
    // One that goes while it waits waits no more.
    bench.change(vec![delete(Kind::Service, "d")]);
    bench.change(vec![service("c").put()]);
    bench.change(vec![balanced("e").put()]);
    assert_eq!((addresses(&bench, "e"), warnings(&bench)), (freed, vec![]));
}

#[test]
fn one_pool_after_the_other() {
    let mut bench = Bench::of(pools(&["203.0.113.8/32", "203.0.113.64/32"]));
    bench.change(["a", "b"].map(|name| balanced(name).put()).to_vec());
    assert_eq!((addresses(&bench, "a"), addresses(&bench, "b")), (vec!["203.0.113.8".into()], vec!["203.0.113.64".into()]));
}

#[test]
fn a_services_ports_share_its_address() {
    let two = Service { ports: vec![port("http", 80, 8080), port("https", 443, 8443)], ..balanced("web") };
    let bench = Bench::with_settings(pools(&[POOL4]), vec![two.put()]);
    let answers = bench.answers("web");
    assert!(
        answers.contains(&"LoadBalancer 203.0.113.106:80 Tcp".to_owned())
            && answers.contains(&"LoadBalancer 203.0.113.106:443 Tcp".to_owned())
    );
}

#[test]
fn source_ranges_are_those_of_the_family() {
    let limited = |ranges: &[&str]| Service {
        load_balancer_source_ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        ..dual(balanced("web"))
    };
    let of = |bench: &Bench, v4: bool| {
        let find = |port: &&std::sync::Arc<crate::table::Port>| {
            bench.table().frontends.iter().any(|(key, frontend)| frontend.service == port.id && key.ip.is_ipv4() == v4)
        };
        let port = bench.table().ports.iter().flatten().find(find).unwrap();
        port.options.source_ranges.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let mut bench = Bench::with_settings(pools(&[POOL4, POOL6]), vec![limited(&["198.51.100.0/24", "2001:db8:9::/48"]).put()]);
    assert_eq!((of(&bench, true), of(&bench, false)), (vec!["198.51.100.0/24".to_owned()], vec!["2001:db8:9::/48".to_owned()]));
    // The node, 192.0.2.1, is inside: what it sends to the address may come from the address.
    bench.change(vec![limited(&["192.0.2.0/24"]).put()]);
    assert_eq!((of(&bench, true), of(&bench, false)), (vec!["192.0.2.0/24".to_owned(), "203.0.113.106/32".to_owned()], vec![]));
    // The node moves inside another.
    bench.change(vec![limited(&["198.51.100.0/24"]).put()]);
    assert_eq!(of(&bench, true), ["198.51.100.0/24"]);
    bench.change(vec![Node { addresses: vec![ip("198.51.100.4")], ..node("here", "a") }.put()]);
    assert_eq!(of(&bench, true), ["198.51.100.0/24", "203.0.113.106/32"]);
}
