//! Where the mistakes stand that are told.

use super::support::*;
use crate::objects::model::{Diagnostic, Pod, Service, ServiceOptions, ServicePort, StageOptions, TargetPort};
use crate::policy::contract::StageKind;

/// The place told for a field of the Service `x`.
fn told(diagnostics: &[Diagnostic], field: &str) -> (Option<u32>, Option<u32>) {
    let of = |d: &&Diagnostic| d.object.as_deref() == Some("Service default/x") && d.field.as_deref() == Some(field);
    let found: Vec<_> = diagnostics.iter().filter(of).collect();
    assert_eq!(found.len(), 1, "{field}: {diagnostics:?}");
    (found[0].line, found[0].column)
}

#[test]
fn a_mistake_is_told_with_the_line_of_its_field() {
    let balancer = StageOptions { policy: Some("nobody".into()), ..StageOptions::default() };
    let node_port = |name: &str, number: u16| {
        let mut service = node_port_service(name);
        service.ports[0].node_port = Some(number);
        service
    };
    let external = |name: &str| Service { external_ips: vec![ip("192.0.2.9")], ..service(name) };
    let named = ServicePort { target_port: TargetPort::Name("http".into()), ..port("", 80, 0) };
    let by_hand = Service { selector: None, ports: vec![port("mysql", 3306, 3306)], ..service("x") };
    let cases = [
        ("spec.clusterIP", fixed("x", "172.31.0.1")),
        ("spec.clusterIP", fixed("x", "10.96.0.7")),
        ("spec.ports[0].nodePort", node_port("x", 80)),
        ("spec.ports[0].nodePort", node_port("x", 30080)),
        ("spec.externalIPs[0]", external("x")),
        (
            "metadata.annotations[pointsman.dev/balancer]",
            Service { options: ServiceOptions { balancer, ..ServiceOptions::default() }, ..service("x") },
        ),
        ("spec.selector", service("x")),
        ("spec.ports[0].targetPort", Service { ports: vec![named], selector: Some(labels(&[("app", "web")])), ..service("x") }),
        ("spec.ports[0].name", by_hand),
    ];
    for (field, mut service) in cases {
        let others = [fixed("first", "10.96.0.7").put(), node_port("second", 30080).put(), external("third").put()];
        let pods = [pod("a", "web", "10.244.0.1").put(), written("x", &["203.0.113.1"], "sql", 1).put()];
        let mut bench = Bench::with(others.into_iter().chain(pods).collect());
        place(&mut service.meta, "spec.ports[1].nodePort", 20);
        place(&mut service.meta, field, 21);
        let update = bench.change(vec![service.put()]);
        assert_eq!(told(&update.diagnostics, field), (Some(21), Some(5)), "{field}");
    }
}

#[test]
fn a_field_whose_place_is_unknown_is_told_with_its_object() {
    let mut service = node_port_service("x");
    service.ports[0].node_port = Some(80);
    let update = Bench::new().change(vec![service.put()]);
    assert_eq!(told(&update.diagnostics, "spec.ports[0].nodePort"), (Some(7), None));
}

#[test]
fn a_mistake_that_moved_or_is_advised_on_otherwise_is_no_news() {
    let stage = StageOptions { policy: Some("nobody".into()), ..StageOptions::default() };
    let mut asking = Service { options: ServiceOptions { balancer: stage, ..ServiceOptions::default() }, ..service("x") };
    let mut bench = Bench::with(vec![pod("a", "x", "10.244.0.1").put()]);
    assert_eq!(bench.change(vec![asking.clone().put()]).diagnostics.len(), 1);

    asking.publish_not_ready = true;
    place(&mut asking.meta, "metadata.annotations[pointsman.dev/balancer]", 99);
    assert_eq!(bench.change(vec![asking.put()]).diagnostics, []);
    assert_eq!(bench.controller.diagnostics()[0].line, Some(99), "but known as it is now");

    let mut known = catalogue();
    swap(&mut known, StageKind::Balancer, "somebody", crate::table::VersionId(10), None);
    bench.controller.catalogue(known);
    let heavier = Pod { weight: Some(2), ..pod("a", "x", "10.244.0.1") };
    assert_eq!(bench.change(vec![heavier.put()]).diagnostics, []);
    assert!(bench.controller.diagnostics()[0].remedy.as_ref().unwrap().contains("somebody"));
}
