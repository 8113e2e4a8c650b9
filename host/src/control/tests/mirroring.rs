//! Hand-written Endpoints as slices (kubernetes-semantics 2.11), and slices of other managers (2.8, 2.9).

use super::slices::{slices, writes, written_by};
use super::support::*;
use crate::objects::model::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, IpFamily, Kind, Protocol, Service};

fn bare(name: &str) -> Service {
    Service { selector: None, ..service(name) }
}

fn address(text: &str, ready: bool) -> EndpointAddress {
    EndpointAddress { ip: ip(text), ready, node: None, hostname: None, pod: None }
}

fn subset(addresses: Vec<EndpointAddress>, ports: &[(&str, u16)]) -> EndpointSubset {
    let port = |(name, port): &(&str, u16)| EndpointPort { name: (*name).into(), protocol: Protocol::Tcp, port: *port, app_protocol: None };
    EndpointSubset { addresses, ports: ports.iter().map(port).collect() }
}

fn endpoints(name: &str, subsets: Vec<EndpointSubset>) -> Endpoints {
    Endpoints { meta: meta(name), subsets }
}

#[test]
fn endpoints_are_mirrored_with_their_labels_and_annotations() {
    let mut db = endpoints("db", vec![subset(vec![address("203.0.113.2", false), address("203.0.113.1", true)], &[("sql", 3306)])]);
    db.meta.labels = labels(&[("team", "shop"), ("kubernetes.io/service-name", "forged")]);
    db.meta.annotations = labels(&[
        ("note", "kept"),
        ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
        ("endpoints.kubernetes.io/last-change-trigger-time", "2026-01-01T00:00:00Z"),
    ]);
    let mut bench = Bench::with(vec![bare("db").put(), db.put()]);
    let found = slices(&bench);
    let expected = labels(&[
        ("team", "shop"),
        ("kubernetes.io/service-name", "db"),
        ("endpointslice.kubernetes.io/managed-by", "endpointslicemirroring-controller.k8s.io"),
    ]);
    assert_eq!((found.len(), &found[0].meta.labels, &found[0].meta.annotations), (1, &expected, &labels(&[("note", "kept")])));
    assert_eq!(
        found[0].endpoints.iter().map(|e| (e.ip, e.conditions.ready)).collect::<Vec<_>>(),
        [(ip("203.0.113.1"), true), (ip("203.0.113.2"), false)]
    );
    assert_eq!(bench.controller.endpoints_objects().count(), 0, "what is written by hand is not made");
    assert_eq!(written_by(&mut bench, vec![delete(Kind::Endpoints, "db")]), writes(0, 0, 1));
}

#[test]
fn a_slice_for_each_canonical_subset_and_family() {
    let both = || vec![address("203.0.113.1", true), address("fd00::1", true)];
    let mut bench = Bench::with(vec![
        bare("db").put(),
        // The same addresses under two ports are one subset; one more address has its own.
        endpoints(
            "db",
            vec![subset(both(), &[("a", 1)]), subset(both(), &[("b", 2)]), subset(vec![address("203.0.113.9", true)], &[("c", 3)])],
        )
        .put(),
    ]);
    let text = |bench: &Bench| {
        let ports = |slice: &crate::objects::model::EndpointSlice| slice.ports.iter().map(|port| port.name.clone()).collect::<String>();
        slices(bench).iter().map(|slice| (slice.family, ports(slice), slice.endpoints.len())).collect::<Vec<_>>()
    };
    let (v4, v6) = (Some(IpFamily::V4), Some(IpFamily::V6));
    assert_eq!(text(&bench), [(v4, "ab".into(), 1), (v6, "ab".into(), 1), (v4, "c".into(), 1)]);
    // Not ready trumps ready; one of the slices goes, one is written.
    let again = vec![subset(vec![address("203.0.113.1", true)], &[("a", 1)]), subset(vec![address("203.0.113.1", false)], &[("a", 1)])];
    bench.change(vec![endpoints("db", again).put()]);
    assert_eq!(text(&bench), [(v4, "a".into(), 1)]);
    assert!(!slices(&bench)[0].endpoints[0].conditions.ready);
}

#[test]
fn at_most_a_thousand_of_a_subset() {
    let many = (0..1005).map(|at| address(&format!("203.0.{}.{}", at / 250, at % 250 + 1), at >= 5)).collect();
    let bench = Bench::with(vec![bare("db").put(), endpoints("db", vec![subset(many, &[("", 3306)])]).put()]);
    let found = slices(&bench);
    assert_eq!((found.len(), found[0].endpoints.len()), (1, 1000));
    assert!(found[0].endpoints.iter().all(|endpoint| endpoint.conditions.ready), "those that are not ready come last");
    assert_eq!(bench.port("db:80").endpoints.len(), 1000, "readers of slices see no more");
}

/// Which Endpoints are mirrored: label, annotation, selector, Service.
#[test]
fn what_is_not_mirrored() {
    let skip = "endpointslice.kubernetes.io/skip-mirror";
    for (what, service, label, annotation, expected) in [
        ("plain", Some(bare("db")), None, None, 1),
        ("skip-mirror: true", Some(bare("db")), Some((skip, "true")), None, 0),
        ("skip-mirror: false", Some(bare("db")), Some((skip, "false")), None, 1),
        ("leader election", Some(bare("db")), None, Some(("control-plane.alpha.kubernetes.io/leader", "{}")), 0),
        ("no Service", None, None, None, 0),
    ] {
        let mut written = written("db", &["203.0.113.1"], "", 3306);
        written.meta.labels = labels(&Vec::from_iter(label));
        written.meta.annotations = labels(&Vec::from_iter(annotation));
        let known = service.is_some();
        let bench = Bench::with(service.into_iter().map(Put::put).chain([written.put()]).collect());
        assert_eq!(slices(&bench).len(), expected, "{what}");
        if known {
            assert_eq!(bench.port("db:80").endpoints.len(), expected, "{what}: the table");
        }
    }
}

#[test]
fn a_selector_takes_the_mirrored_slices_away_and_brings_them_back() {
    let mut bench = Bench::with(vec![bare("db").put(), written("db", &["203.0.113.1"], "", 3306).put()]);
    bench.change(vec![service("db").put()]);
    let manager = |bench: &Bench| slices(bench)[0].meta.labels["endpointslice.kubernetes.io/managed-by"].clone();
    assert_eq!((slices(&bench).len(), manager(&bench)), (1, "endpointslice-controller.k8s.io".to_owned()));
    bench.change(vec![bare("db").put()]);
    assert_eq!((slices(&bench).len(), manager(&bench)), (1, "endpointslicemirroring-controller.k8s.io".to_owned()));
}

/// Slices in the manifests, by manager: with a selector, without one, without one but with Endpoints.
#[test]
fn slices_of_any_manager_count_unless_they_are_made_anew_here() {
    for (manager, expected) in [
        (None, [1, 1, 2]),
        (Some("me"), [1, 1, 2]),
        (Some("endpointslice-controller.k8s.io"), [0, 1, 2]),
        (Some("endpointslicemirroring-controller.k8s.io"), [0, 1, 1]),
    ] {
        let mut written_slice = slice("db-x", "db", &["203.0.113.9"], "", 3306);
        if let Some(manager) = manager {
            written_slice.meta.labels = labels(&[("endpointslice.kubernetes.io/managed-by", manager)]);
        }
        let object = || written("db", &["203.0.113.1"], "", 3306).put();
        let scenes = [vec![service("db").put()], vec![bare("db").put()], vec![bare("db").put(), object()]];
        for (scene, expected) in scenes.into_iter().zip(expected) {
            let bench = Bench::with([scene, vec![written_slice.clone().put()]].concat());
            assert_eq!(bench.port("db:80").endpoints.len(), expected, "{manager:?}");
        }
    }
}

#[test]
fn a_slice_of_names_forwards_to_nobody() {
    let mut names = slice("db-x", "db", &[], "", 3306);
    names.family = None;
    let bench = Bench::with(vec![bare("db").put(), names.put()]);
    assert_eq!(bench.port("db:80").endpoints.len(), 0);
}

#[test]
fn a_slice_without_the_ports_number_is_left_out() {
    let mut without = slice("db-x", "db", &["203.0.113.9"], "", 3306);
    without.ports.clear();
    let bench = Bench::with(vec![bare("db").put(), without.put(), slice("db-y", "db", &["203.0.113.8"], "", 3306).put()]);
    assert_eq!(bench.keys("db:80"), ["203.0.113.8:3306"]);
}
