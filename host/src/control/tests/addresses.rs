//! Cluster IPs, node ports and who answers where.

use super::support::*;
use crate::objects::model::{ClusterIp, IpFamilyPolicy, Kind, Protocol, Service, ServicePort, ServiceType};

#[test]
fn an_allocation_is_a_function_of_the_name() {
    // Worked out apart from this code, and written down so that no later version moves anybody's Service.
    let vectors = [("web", "10.99.106.79", 30935), ("db", "10.96.179.29", 31990), ("cache", "10.100.137.223", 31175)];
    let all = Bench::with(vectors.iter().map(|(name, ..)| node_port_service(name).put()).collect());
    for (name, address, number) in vectors {
        let alone = Bench::with(vec![node_port_service(name).put()]);
        for bench in [&all, &alone] {
            assert_eq!(bench.cluster_ip(name).as_deref(), Some(address), "{name}");
            assert_eq!(bench.node_ports(name), [number], "{name}");
        }
    }
}

#[test]
fn what_is_asked_for_by_number_is_taken_before_anything_is_drawn() {
    let drawn = Bench::with(vec![service("web").put()]).cluster_ip("web").unwrap();
    // "zz" comes last by name, and wants the very address that "web" would draw.
    let bench = Bench::with(vec![service("web").put(), fixed("zz", &drawn).put()]);
    assert_eq!(bench.cluster_ip("zz"), Some(drawn.clone()));
    assert_ne!(bench.cluster_ip("web").unwrap(), drawn);
    assert!(bench.controller.diagnostics().iter().all(|d| !d.message.contains("cluster IP")));
}

#[test]
fn whoever_had_an_address_keeps_it() {
    let mut bench = Bench::with(vec![service("web").put()]);
    let drawn = bench.cluster_ip("web").unwrap();
    let update = bench.change(vec![fixed("aa", &drawn).put(), fixed("bb", "10.96.0.7").put()]);
    assert_eq!(bench.cluster_ip("web"), Some(drawn.clone()));
    assert_eq!(bench.cluster_ip("aa"), None);
    assert_eq!(bench.cluster_ip("bb").as_deref(), Some("10.96.0.7"), "others are applied");
    let refused: Vec<_> = update.diagnostics.iter().filter(|d| d.object.as_deref() == Some("Service default/aa")).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].message, format!("cluster IP {drawn} is already used by Service default/web (all.yaml:7)"));
    assert_eq!((refused[0].file.as_deref(), refused[0].line), (Some("all.yaml"), Some(7)));
    assert_eq!(refused[0].field.as_deref(), Some("spec.clusterIP"));
    assert!(refused[0].remedy.is_some());

    // Said once; and as soon as the address is free, it is given.
    assert!(bench.change(vec![service("other").put()]).diagnostics.iter().all(|d| d.object.as_deref() != Some("Service default/aa")));
    bench.change(vec![delete(Kind::Service, "web")]);
    assert_eq!(bench.cluster_ip("aa"), Some(drawn));
}

#[test]
fn addresses_outside_the_range_are_refused() {
    for address in ["192.168.0.1", "10.96.0.0", "10.111.255.255", "fd00::1"] {
        let mut bench = Bench::new();
        let update = bench.change(vec![fixed("web", address).put()]);
        assert_eq!(bench.cluster_ip("web"), None, "{address}");
        let expected =
            format!("Service default/web spec.clusterIP: cluster IP {address} is not a usable address of the service range (10.96.0.0/12)");
        assert_eq!(messages(&update.diagnostics), [expected]);
    }
}

#[test]
fn a_service_applied_again_without_numbers_keeps_its_own() {
    let mut explicit = Service { cluster_ip: ClusterIp::Fixed(vec![ip("10.96.0.50")]), ..node_port_service("web") };
    explicit.ports[0].node_port = Some(30001);
    let mut bench = Bench::with(vec![explicit.put()]);
    bench.change(vec![node_port_service("web").put()]);
    assert_eq!(bench.cluster_ip("web").as_deref(), Some("10.96.0.50"));
    assert_eq!(bench.node_ports("web"), [30001]);

    bench.change(vec![delete(Kind::Service, "web")]);
    bench.change(vec![fixed("new", "10.96.0.50").put()]);
    assert_eq!(bench.cluster_ip("new").as_deref(), Some("10.96.0.50"), "what a Service had is free when it is gone");
}

#[test]
fn a_change_that_cannot_be_admitted_leaves_the_service_as_it_was() {
    let mut bench = Bench::with(vec![fixed("web", "10.96.0.5").put(), fixed("db", "10.96.0.6").put()]);
    let update = bench.change(vec![fixed("db", "10.96.0.5").put()]);
    assert_eq!(bench.cluster_ip("db").as_deref(), Some("10.96.0.6"));
    assert!(update.changed.is_empty() && update.removed.is_empty());
    assert_eq!(update.diagnostics.len(), 1);
}

#[test]
fn a_node_port_moves_from_one_service_to_another_in_one_change() {
    let with = |name: &str, number: u16| {
        let mut service = node_port_service(name);
        service.ports[0].node_port = Some(number);
        service
    };
    let mut bench = Bench::with(vec![with("web", 30005).put(), node_port_service("db").put()]);
    bench.change(vec![with("web", 30009).put(), with("db", 30005).put()]);
    assert_eq!((bench.node_ports("web"), bench.node_ports("db")), (vec![30009], vec![30005]));
}

#[test]
fn a_service_that_is_deleted_and_made_again_is_another() {
    let mut bench = Bench::with(vec![fixed("web", "10.96.0.5").put(), fixed("db", "10.96.0.6").put()]);
    let id = bench.port("web:80").id;
    let update = bench.change(vec![delete(Kind::Service, "web"), service("web").put()]);
    assert_eq!(bench.cluster_ip("web").as_deref(), Some("10.99.106.79"), "it is given what any new one would be");
    assert_eq!(update.removed, [id]);
    assert_ne!(bench.port("web:80").id, id);
    bench.change(vec![fixed("heir", "10.96.0.5").put()]);
    assert_eq!(bench.cluster_ip("heir").as_deref(), Some("10.96.0.5"));
}

#[test]
fn node_ports_are_checked_like_addresses() {
    let with = |name: &str, number: u16| {
        let mut service = node_port_service(name);
        service.ports[0].node_port = Some(number);
        service
    };
    let mut bench = Bench::with(vec![with("web", 30080).put()]);
    let update = bench.change(vec![with("db", 30080).put(), with("low", 80).put()]);
    let texts: Vec<_> = messages(&update.diagnostics).into_iter().filter(|text| text.contains("nodePort")).collect();
    assert_eq!(
        texts,
        [
            "Service default/db spec.ports[0].nodePort: node port 30080 is already used by Service default/web (all.yaml:7)",
            "Service default/low spec.ports[0].nodePort: node port 80 is outside the node-port range (30000-32767)",
        ]
    );
    assert_eq!(bench.node_ports("web"), [30080]);
    let mut udp = with("dns", 30080);
    udp.ports[0].protocol = Protocol::Udp;
    bench.change(vec![udp.put()]);
    assert_eq!(bench.node_ports("dns"), [30080], "a number is free in another protocol");
}

#[test]
fn one_number_serves_tcp_and_udp_of_one_port() {
    let ports = vec![port("tcp", 53, 5353), ServicePort { protocol: Protocol::Udp, ..port("udp", 53, 5353) }, port("metrics", 9153, 9153)];
    let mut bench = Bench::with(vec![Service { ports: ports.clone(), ..node_port_service("dns") }.put()]);
    let numbers = bench.node_ports("dns");
    let dns: Vec<_> = numbers.iter().filter(|n| numbers.iter().filter(|other| other == n).count() == 2).collect();
    assert_eq!((numbers.len(), dns.len()), (3, 2));
    let mut explicit = ports;
    explicit[0].node_port = Some(30053);
    bench.change(vec![delete(Kind::Service, "dns")]);
    bench.change(vec![Service { ports: explicit, ..node_port_service("dns") }.put()]);
    assert_eq!(bench.node_ports("dns").iter().filter(|number| **number == 30053).count(), 2, "the sibling follows an explicit number");
}

#[test]
fn only_types_with_node_ports_get_them() {
    let of = |service_type| Bench::with(vec![Service { service_type, ..service("web") }.put()]).node_ports("web").len();
    assert_eq!(of(ServiceType::ClusterIp), 0);
    assert_eq!(of(ServiceType::NodePort), 1);
    assert_eq!(of(ServiceType::LoadBalancer { allocate_node_ports: true }), 1);
    assert_eq!(of(ServiceType::LoadBalancer { allocate_node_ports: false }), 0);
    let mut bench = Bench::with(vec![node_port_service("web").put()]);
    bench.change(vec![service("web").put()]);
    assert_eq!(bench.node_ports("web").len(), 0, "a change of type gives them back");
}

#[test]
fn a_full_range_spills_into_the_static_band_and_then_says_so() {
    let mut settings = settings();
    settings.service_ranges = vec!["10.96.0.0/27".parse().unwrap()];
    let mut bench = Bench::of(settings);
    let names: Vec<String> = (0..31).map(|n| format!("s{n:02}")).collect();
    let update = bench.change(names.iter().map(|name| service(name).put()).collect());
    let given: std::collections::BTreeSet<_> = names.iter().filter_map(|name| bench.cluster_ip(name)).collect();
    assert_eq!(given.len(), 30);
    let full: Vec<_> = messages(&update.diagnostics).into_iter().filter(|text| text.contains("no cluster IP is free")).collect();
    assert_eq!(full, ["Service default/s30 spec.clusterIP: no cluster IP is free in the service range (10.96.0.0/27)"]);
    bench.change(vec![delete(Kind::Service, "s07")]);
    assert!(bench.cluster_ip("s30").is_some(), "it gets the first that becomes free");
}

#[test]
fn a_service_answers_on_all_its_addresses() {
    let service_type = ServiceType::LoadBalancer { allocate_node_ports: true };
    let mut web = Service {
        service_type,
        external_ips: vec![ip("198.51.100.7")],
        load_balancer_ips: vec![ip("203.0.113.9")],
        ..fixed("web", "10.96.0.5")
    };
    web.ports[0].node_port = Some(30080);
    let bench = Bench::with(vec![web.put()]);
    assert_eq!(
        bench.answers("web"),
        ["ClusterIp 10.96.0.5:80 Tcp", "ExternalIp 198.51.100.7:80 Tcp", "LoadBalancer 203.0.113.9:80 Tcp", "NodePort 127.0.0.1:30080 Tcp",]
    );
}

#[test]
fn headless_services_and_aliases_answer_nowhere() {
    let headless = Service { cluster_ip: ClusterIp::Headless, ..service("headless") };
    let alias = Service { service_type: ServiceType::ExternalName("example.org".into()), selector: None, ..service("alias") };
    let bench = Bench::with(vec![headless.put(), alias.put()]);
    assert_eq!(bench.table().frontends.len(), 0);
    assert_eq!(bench.table().ports.iter().flatten().count(), 0);
}

#[test]
fn families_are_worlds_apart() {
    let mut settings = settings();
    settings.service_ranges.push("fd00:10:96::/112".parse().unwrap());
    settings.node_port_addresses.push(ip("::1"));
    let mut bench = Bench::of(settings);
    let both = Service {
        cluster_ip: ClusterIp::Fixed(vec![ip("10.96.0.5"), ip("fd00:10:96::5")]),
        ip_family_policy: Some(IpFamilyPolicy::RequireDualStack),
        ..node_port_service("web")
    };
    let mut dual = pod("a", "web", "10.244.0.1");
    dual.addresses.push(ip("fd00::a"));
    let foreign = Service { external_ips: vec![ip("2001:db8::1")], ..service("four") };
    let update = bench.change(vec![both.put(), dual.put(), pod("b", "web", "10.244.0.2").put(), foreign.put()]);
    let ports: Vec<_> = bench.table().ports.iter().flatten().filter(|port| port.record.name == "web").collect();
    let mut endpoints: Vec<Vec<String>> = ports.iter().map(|port| port.endpoints.iter().map(|e| e.key.to_string()).collect()).collect();
    endpoints.sort();
    assert_eq!(endpoints, [vec!["10.244.0.1:8080", "10.244.0.2:8080"], vec!["[fd00::a]:8080"]]);
    assert_eq!(bench.answers("web").len(), 4);
    assert_eq!(bench.answers("four").len(), 1);
    let warning = "Service default/four spec.externalIPs[0]: 2001:db8::1 is not served: no cluster IP of its family";
    assert!(messages(&update.diagnostics).contains(&warning.to_owned()));
}

#[test]
fn one_external_address_has_one_owner_a_port() {
    let external =
        |name: &str, number: u16| Service { external_ips: vec![ip("198.51.100.7")], ports: vec![port("", number, 8080)], ..service(name) };
    let mut bench = Bench::with(vec![external("web", 80).put()]);
    let update = bench.change(vec![external("aa", 80).put(), external("bb", 81).put()]);
    let owner = |bench: &Bench, name: &str| bench.answers(name).iter().any(|text| text.starts_with("ExternalIp"));
    assert!(owner(&bench, "web") && owner(&bench, "bb") && !owner(&bench, "aa"));
    assert!(bench.cluster_ip("aa").is_some(), "the rest of it is served");
    let told =
        "Service default/aa spec.externalIPs[0]: 198.51.100.7 port 80/TCP already belongs to Service default/web: not served for this one";
    assert!(messages(&update.diagnostics).contains(&told.to_owned()), "{:?}", messages(&update.diagnostics));

    bench.change(vec![delete(Kind::Service, "web")]);
    assert!(owner(&bench, "aa"), "it gets the address when that is free");
    assert!(bench.controller.diagnostics().iter().all(|d| !d.message.contains("already belongs")));
}

#[test]
fn a_cluster_ip_comes_before_an_external_ip_of_the_same_change() {
    let thief = Service { external_ips: vec![ip("10.96.0.5")], ..service("aa") };
    let mut bench = Bench::with(vec![thief.put(), fixed("web", "10.96.0.5").put()]);
    assert_eq!(bench.cluster_ip("web").as_deref(), Some("10.96.0.5"));
    assert!(!bench.answers("aa").iter().any(|text| text.starts_with("ExternalIp")));
    bench.change(vec![service("aa").put()]);
    bench.change(vec![delete(Kind::Service, "web")]);
    assert_eq!(bench.table().frontends.len(), 1, "nobody waits any more");
}
