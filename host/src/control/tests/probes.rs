//! What probes say, over what the manifests say.

use std::time::Duration;

use super::slices::slices;
use super::support::*;
use crate::objects::model::{Conditions, Kind, Pod, Probe, ProbeAction, Service};

const READY: Conditions = Conditions { ready: true, serving: true, terminating: false };
const NOT_READY: Conditions = Conditions { ready: false, serving: false, terminating: false };

fn conditions(bench: &Bench, port: &str) -> Vec<Conditions> {
    bench.port(port).endpoints.iter().map(|endpoint| endpoint.conditions).collect()
}

fn probed(name: &str) -> Service {
    let probe = Probe {
        action: ProbeAction::Tcp { host: None, port: None },
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 3,
    };
    let mut service = Service { selector: None, ..service(name) };
    service.options.probe = Some(probe);
    service
}

#[test]
fn a_pods_probe_comes_before_its_manifest() {
    let one = || pod("a", "web", "10.244.0.1");
    let mut bench = Bench::with(vec![service("web").put(), service("other").put(), one().put(), pod("b", "other", "10.244.0.2").put()]);
    assert!(bench.controller.pod_ready("default", "a", Some(false), 2000));
    assert!(bench.controller.is_dirty());
    assert_eq!(bench.controller.masked_table().unwrap().table.port(bench.port("web:80").id).unwrap().masked.to_vec(), [0]);
    bench.rebuild();
    assert_eq!(conditions(&bench, "web:80"), [NOT_READY]);
    let shown: Vec<_> = slices(&bench).iter().flat_map(|slice| &slice.endpoints).map(|e| (e.pod.clone().unwrap(), e.conditions)).collect();
    assert_eq!(shown, [("b".into(), READY), ("a".into(), NOT_READY)]);
    // The manifest is read again, with another label.
    let mut again = one();
    again.meta.labels.insert("new".into(), "1".into());
    bench.change(vec![again.clone().put()]);
    assert_eq!(conditions(&bench, "web:80"), [NOT_READY]);
    bench.controller.pod_ready("default", "a", Some(true), 3000);
    bench.rebuild();
    assert_eq!((conditions(&bench, "web:80"), bench.port("web:80").endpoints[0].ready_since_ms), (vec![READY], 3000));
    // The probe's word holds over a manifest that says otherwise, until there is no probe.
    bench.change(vec![unready(again).put()]);
    assert_eq!(conditions(&bench, "web:80"), [READY]);
    bench.controller.pod_ready("default", "a", None, 4000);
    bench.rebuild();
    assert_eq!(conditions(&bench, "web:80"), [NOT_READY]);
}

#[test]
fn a_probe_touches_what_it_changes_and_nothing_else() {
    let mut bench = Bench::with(vec![service("web").put(), service("other").put(), pod("a", "web", "10.244.0.1").put()]);
    let other = bench.port("other:80");
    bench.planner.calls();
    assert!(bench.controller.pod_ready("default", "a", Some(true), 2000), "as the manifest says");
    assert!(!bench.controller.is_dirty());
    bench.controller.pod_ready("default", "a", Some(false), 2000);
    let update = bench.rebuild();
    assert_eq!(update.changed, [bench.port("web:80").id]);
    assert!(bench.planner.calls().iter().all(|(_, _, id)| *id != other.id));
    assert!(!bench.controller.pod_ready("default", "nobody", Some(true), 2000));
    assert!(!bench.controller.pod_ready("nowhere", "a", Some(true), 2000));
    assert!(!bench.controller.is_dirty());
}

#[test]
fn a_pod_that_comes_back_is_believed() {
    let one = || pod("a", "web", "10.244.0.1");
    let mut bench = Bench::with(vec![service("web").put(), one().put()]);
    bench.controller.pod_ready("default", "a", Some(false), 2000);
    bench.change(vec![delete(Kind::Pod, "a")]);
    bench.change(vec![one().put()]);
    assert_eq!(conditions(&bench, "web:80"), [READY]);
}

#[test]
fn a_terminating_pod_that_still_answers_serves() {
    let mut going = unready(pod("a", "web", "10.244.0.1"));
    going.meta.terminating = true;
    let mut bench = Bench::with(vec![service("web").put(), Pod { ..going }.put()]);
    bench.controller.pod_ready("default", "a", Some(true), 2000);
    bench.rebuild();
    assert_eq!(conditions(&bench, "web:80"), [Conditions { ready: false, serving: true, terminating: true }]);
}

#[test]
fn hand_written_endpoints_are_probed_one_by_one() {
    let objects = || vec![written("db", &["203.0.113.1"], "", 3306).put(), slice("db-x", "db", &["203.0.113.2"], "", 3306).put()];
    let mut bench = Bench::with([vec![probed("db").put()], objects()].concat());
    let at = |text: &str| format!("{text}:3306").parse().unwrap();
    for (address, ready, expected) in [
        ("203.0.113.1", Some(false), [NOT_READY, READY]),
        ("203.0.113.2", Some(false), [NOT_READY, NOT_READY]),
        ("203.0.113.1", Some(true), [READY, NOT_READY]),
        ("203.0.113.2", None, [READY, READY]),
    ] {
        assert!(bench.controller.endpoint_ready("default", "db", at(address), ready));
        bench.rebuild();
        assert_eq!(conditions(&bench, "db:80"), expected, "{address} {ready:?}");
    }
    assert!(!bench.controller.endpoint_ready("default", "db", at("203.0.113.3"), Some(false)));
    assert!(!bench.controller.endpoint_ready("default", "db", "203.0.113.1:1".parse().unwrap(), Some(false)));
    assert!(!bench.controller.is_dirty());
    // What was said survives another reading, and goes with what it was said of.
    bench.controller.endpoint_ready("default", "db", at("203.0.113.1"), Some(false));
    bench.controller.endpoint_ready("default", "db", at("203.0.113.2"), Some(false));
    bench.change(objects());
    assert_eq!(conditions(&bench, "db:80"), [NOT_READY, NOT_READY]);
    bench.change(vec![delete(Kind::EndpointSlice, "db-x")]);
    bench.change(objects());
    assert_eq!(conditions(&bench, "db:80"), [NOT_READY, READY]);
    bench.change(vec![delete(Kind::Service, "db")]);
    bench.change(vec![probed("db").put()]);
    assert_eq!(conditions(&bench, "db:80"), [READY, READY]);
}

#[test]
fn without_the_annotation_what_is_written_stands() {
    let mut bench = Bench::with(vec![probed("db").put(), written("db", &["203.0.113.1"], "", 3306).put()]);
    bench.controller.endpoint_ready("default", "db", "203.0.113.1:3306".parse().unwrap(), Some(false));
    bench.rebuild();
    assert_eq!(conditions(&bench, "db:80"), [NOT_READY]);
    bench.change(vec![Service { selector: None, ..service("db") }.put()]);
    assert_eq!(conditions(&bench, "db:80"), [READY]);
}
