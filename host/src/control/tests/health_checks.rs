//! Health-check node ports: their numbers (row 1.13) and what they say (row 3.15).

use super::support::*;
use crate::control::Settings;
use crate::objects::model::{Kind, Locality, Pod, Protocol, Service, ServicePort, ServiceType};
use crate::table::HealthCheck;

fn local(name: &str) -> Service {
    Service {
        service_type: ServiceType::LoadBalancer { allocate_node_ports: false },
        external_traffic_policy: Locality::Local,
        ..service(name)
    }
}

fn numbered(name: &str, number: u16) -> Service {
    Service { health_check_node_port: Some(number), ..local(name) }
}

fn here(name: &str, last: u8) -> Pod {
    Pod { node: Some("here".into()), ..pod(name, "web", &format!("10.244.0.{last}")) }
}

/// Every check, as `number: name count`.
fn checks(bench: &Bench) -> Vec<String> {
    let text = |(number, check): (&u16, &HealthCheck)| format!("{number}: {}/{} {}", check.namespace, check.name, check.local_endpoints);
    let mut all: Vec<String> = bench.table().health_checks.iter().map(text).collect();
    all.sort();
    all
}

#[test]
fn a_number_is_a_function_of_the_name() {
    // Worked out apart from this code.
    for (name, number) in [("web", 30290), ("db", 32408), ("cache", 30773)] {
        let bench = Bench::with(vec![local(name).put()]);
        assert_eq!(bench.allocation(name).health_check_node_port, Some(number));
        assert_eq!(checks(&bench), [format!("{number}: default/{name} 0")]);
    }
}

#[test]
fn only_a_load_balancer_that_is_local_has_one() {
    let cases = [
        (Service { external_traffic_policy: Locality::Cluster, ..local("web") }, None),
        (Service { service_type: ServiceType::NodePort, ..local("web") }, None),
        (Service { service_type: ServiceType::ClusterIp, ..local("web") }, None),
        (Service { service_type: ServiceType::LoadBalancer { allocate_node_ports: true }, ..local("web") }, Some(30290)),
        (numbered("web", 30001), Some(30001)),
    ];
    for (at, (service, expected)) in cases.into_iter().enumerate() {
        let mut bench = Bench::with(vec![service.put()]);
        assert_eq!(bench.allocation("web").health_check_node_port, expected, "case {at}");
        assert_eq!(bench.table().health_checks.len(), usize::from(expected.is_some()), "case {at}");
        bench.change(vec![delete(Kind::Service, "web")]);
        assert_eq!(checks(&bench), [""; 0], "case {at}");
    }
    let bench = Bench::with(vec![Service { other_proxy: true, ..local("web") }.put()]);
    assert_eq!((bench.allocation("web").health_check_node_port, checks(&bench)), (Some(30290), vec![]));
}

#[test]
fn it_is_kept_while_it_is_needed_and_free_after() {
    let mut bench = Bench::with(vec![numbered("web", 30001).put()]);
    bench.change(vec![Service { publish_not_ready: true, ..local("web") }.put()]);
    assert_eq!(bench.allocation("web").health_check_node_port, Some(30001));
    bench.change(vec![service("web").put(), numbered("db", 30001).put()]);
    assert_eq!(bench.allocation("web").health_check_node_port, None);
    assert_eq!(checks(&bench), ["30001: default/db 0"]);
}

#[test]
fn it_shares_its_numbers_with_the_node_ports_of_tcp() {
    let node_port = |name: &str, protocol| {
        let ports = vec![ServicePort { node_port: Some(30001), protocol, ..port("", 80, 8080) }];
        Service { ports, ..node_port_service(name) }
    };
    let told = |bench: &mut Bench, service: Service| {
        let texts = messages(&bench.change(vec![service.put()]).diagnostics);
        texts.into_iter().filter(|text| text.contains("30001")).collect::<Vec<_>>()
    };
    let mut bench = Bench::with(vec![numbered("web", 30001).put()]);
    assert_eq!(
        told(&mut bench, node_port("db", Protocol::Tcp)),
        ["Service default/db spec.ports[0].nodePort: node port 30001 is already used by Service default/web (all.yaml:7)"]
    );
    assert_eq!(told(&mut bench, node_port("dns", Protocol::Udp)), [""; 0]);
    assert_eq!(
        told(&mut bench, numbered("cache", 30001)),
        ["Service default/cache spec.healthCheckNodePort: node port 30001 is already used by Service default/web (all.yaml:7)"]
    );
    let both = Service { health_check_node_port: Some(30001), ..node_port("both", Protocol::Tcp) };
    let both = Service { external_traffic_policy: Locality::Local, ..both };
    let both = Service { service_type: ServiceType::LoadBalancer { allocate_node_ports: true }, ..both };
    assert_eq!(
        told(&mut Bench::new(), both),
        ["Service default/both spec.healthCheckNodePort: node port 30001 is used twice by this Service for one protocol"]
    );
    let outside = messages(&bench.change(vec![numbered("low", 80).put()]).diagnostics);
    let expected = "Service default/low spec.healthCheckNodePort: node port 80 is outside the node-port range (30000-32767)";
    assert!(outside.contains(&expected.to_owned()), "{outside:?}");

    // One number in all: the second of two who draw is told so, and keeps nothing.
    let settings = Settings { node_port_range: 30000..=30000, ..settings() };
    let mut bench = Bench::with_settings(settings, vec![local("aa").put(), local("bb").put()]);
    assert_eq!(checks(&bench), ["30000: default/aa 0"]);
    let full = messages(&bench.controller.diagnostics().into_iter().cloned().collect::<Vec<_>>());
    assert!(full.contains(&"Service default/bb spec.healthCheckNodePort: no node port is free in 30000-30000".to_owned()), "{full:?}");
    bench.change(vec![service("aa").put()]);
    assert_eq!(checks(&bench), ["30000: default/bb 0"]);
}

#[test]
fn numbers_may_be_exchanged() {
    let mut bench = Bench::with(vec![numbered("web", 30001).put(), numbered("db", 30002).put()]);
    bench.change(vec![here("a", 1).put()]);
    bench.change(vec![service("web").put(), service("db").put()]);
    bench.change(vec![numbered("web", 30002).put(), numbered("db", 30001).put()]);
    assert_eq!(checks(&bench), ["30001: default/db 0", "30002: default/web 1"]);
}

#[test]
fn it_counts_ready_pods_of_this_node_once_each() {
    let two = Service { ports: vec![port("http", 80, 8080), port("https", 443, 8443)], ..numbered("web", 30001) };
    let mut bench = Bench::with(vec![two.put()]);
    let mut count = |change| {
        bench.change(vec![change]);
        bench.table().health_checks[&30001].local_endpoints
    };
    assert_eq!(count(here("a", 1).put()), 1, "two ports, one pod");
    assert_eq!(count(here("b", 2).put()), 2);
    assert_eq!(count(Pod { node: Some("there".into()), ..here("c", 3) }.put()), 2, "another node's");
    assert_eq!(count(unready(here("b", 2)).put()), 1);
    let mut leaving = here("a", 1);
    leaving.meta.terminating = true;
    assert_eq!(count(leaving.put()), 0, "a pod that terminates does not count, though it serves");
    assert_eq!(count(here("b", 2).put()), 1);
    assert_eq!(count(delete(Kind::Pod, "b")), 0);
}

#[test]
fn a_pod_in_two_families_counts_once() {
    let both = Service { ip_family_policy: Some(crate::objects::model::IpFamilyPolicy::RequireDualStack), ..numbered("web", 30001) };
    let mut dual = here("a", 1);
    dual.addresses.push(ip("fd00::a"));
    let mut bench = Bench::with_settings(dual_stack(), vec![both.put(), dual.put(), here("b", 2).put()]);
    assert_eq!(checks(&bench), ["30001: default/web 2"]);
    bench.change(vec![unready(here("b", 2)).put()]);
    assert_eq!(checks(&bench), ["30001: default/web 1"]);
}

#[test]
fn what_is_masked_counts_no_more() {
    let mut bench = Bench::with(vec![numbered("web", 30001).put(), here("a", 1).put(), here("b", 2).put()]);
    bench.controller.apply(vec![delete(Kind::Pod, "a")], 0);
    bench.controller.masked_table().unwrap();
    assert_eq!(checks(&bench), ["30001: default/web 1"]);
}

#[test]
fn nothing_new_is_no_new_table() {
    let mut bench = Bench::with(vec![numbered("web", 30001).put(), here("a", 1).put()]);
    let generation = bench.table().generation;
    assert_eq!(bench.change(vec![numbered("web", 30001).put(), here("a", 1).put()]).table.generation, generation);
}
