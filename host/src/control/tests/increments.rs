//! Work in proportion to the change, ids that stay, endpoints masked at once.

use super::support::*;
use crate::objects::model::{Kind, Pod, Service};
use crate::table::PortRecord;

fn many(count: usize) -> Bench {
    let name = |n: usize| format!("s{n:04}");
    let services = (0..count).map(|n| service(&name(n)).put());
    let pods = (0..count)
        .flat_map(|n| (0..3).map(move |k| pod(&format!("{}-{k}", name(n)), &name(n), &format!("10.{}.{}.{k}", n / 250, n % 250)).put()));
    Bench::with(services.chain(pods).collect())
}

#[test]
fn one_pod_of_three_thousand_concerns_one_service() {
    let mut bench = many(1000);
    bench.planner.calls();
    let before = bench.table().clone();
    let update = bench.change(vec![unready(pod("s0500-1", "s0500", "10.2.0.1")).put()]);
    let id = bench.port("s0500:80").id;
    assert_eq!(update.changed, [id]);
    let calls = bench.planner.calls();
    // One candidate set of two endpoints; the local one is empty. The selector is not asked about a readiness.
    assert_eq!(calls, [("traffic-policy", TRAFFIC_POLICY, id), ("balancer", BALANCER, id)]);
    let shared = before.ports.iter().zip(&bench.table().ports).filter(|(a, b)| match (a, b) {
        (Some(a), Some(b)) => std::sync::Arc::ptr_eq(a, b),
        _ => false,
    });
    assert_eq!(shared.count(), 999);
}

#[test]
fn a_pod_with_labels_known_is_not_classified_again() {
    let mut bench = many(100);
    bench.planner.calls();
    bench.change(vec![pod("s0007-9", "s0007", "10.9.9.9").put()]);
    assert_eq!(bench.planner.calls().iter().filter(|(what, ..)| *what == "classify").count(), 0);
    bench.change(vec![
        Pod {
            meta: crate::objects::model::Meta { labels: labels(&[("app", "s0007"), ("new", "1")]), ..meta("x") },
            ..pod("x", "", "10.9.9.8")
        }
        .put(),
    ]);
    let calls = bench.planner.calls();
    assert_eq!(calls.iter().filter(|(what, ..)| *what == "classify").count(), 100, "new labels are put to every selector once");
    assert_eq!(calls.iter().filter(|(what, ..)| *what != "classify").count(), 2, "and concern one");
}

#[test]
fn nothing_new_is_no_new_table() {
    let mut bench = many(10);
    bench.planner.calls();
    let generation = bench.table().generation;
    let update = bench.change(vec![service("s0001").put(), pod("s0001-1", "s0001", "10.0.1.1").put()]);
    assert_eq!((update.table.generation, update.changed.len(), update.removed.len()), (generation, 0, 0));
    let mut annotated = pod("s0001-1", "s0001", "10.0.1.1");
    annotated.meta.annotations = labels(&[("seen", "1")]);
    assert_eq!(bench.change(vec![annotated.put()]).table.generation, generation);
    assert_eq!(bench.planner.calls(), []);
}

#[test]
fn unchanged_sets_keep_their_plans() {
    // Two of three endpoints are local. The remote one's change leaves the local set as it was.
    let at = |name: &str, last: u8, on: &str| Pod { node: Some(on.into()), ..pod(name, "web", &format!("10.244.0.{last}")) };
    let mut bench = Bench::with(vec![service("web").put(), at("a", 1, "here").put(), at("b", 2, "here").put(), at("c", 3, "there").put()]);
    assert_eq!(bench.port("web:80").sets.len(), 2);
    bench.planner.calls();
    bench.change(vec![unready(at("c", 3, "there")).put()]);
    // Now cluster and local have equal members, planned before: nothing is asked of the balancer at all.
    let port = bench.port("web:80");
    assert_eq!(bench.planner.calls(), [("traffic-policy", TRAFFIC_POLICY, port.id)]);
    let plans = &port.balancer.current.as_ref().unwrap().plan;
    assert_eq!((plans.len(), &plans[0]), (2, &plans[1]));
}

#[test]
fn options_alone_need_no_new_plans() {
    let mut bench = many(3);
    bench.planner.calls();
    let affine = Service { affinity: Some(std::time::Duration::from_secs(60)), ..service("s0001") };
    let update = bench.change(vec![affine.put()]);
    assert_eq!((update.changed.len(), bench.planner.calls().len()), (0, 0));
    assert!(bench.port("s0001:80").options.affinity.is_some());
    assert_eq!(bench.port("s0001:80").generation, update.table.generation);
}

#[test]
fn ids_stay_while_a_port_exists_and_rest_for_one_update_before_they_return() {
    let mut bench = many(3);
    let (first, gone) = (bench.port("s0000:80").id, bench.port("s0001:80").id);
    let two = Service { ports: vec![port("a", 80, 8080), port("b", 81, 8081)], ..service("s0000") };
    let update = bench.change(vec![delete(Kind::Service, "s0001"), two.put(), service("new").put()]);
    assert_eq!(update.removed, [gone]);
    assert_eq!(bench.port("s0000:a").id, first, "a port may change its name");
    let ids: Vec<_> = bench.table().ports.iter().flatten().map(|port| port.id).collect();
    assert!(!ids.contains(&gone));
    assert!(update.changed.iter().all(|id| *id != gone));
    bench.change(vec![service("newer").put()]);
    assert_eq!(bench.port("newer:80").id, gone, "the lowest free id is used again");
}

#[test]
fn a_masked_table_comes_before_the_plan() {
    let mut bench = many(3);
    bench.planner.calls();
    assert!(bench.controller.masked_table().is_none());
    let now = bench.now_ms;
    bench.controller.apply(vec![delete(Kind::Pod, "s0001-1"), pod("s0001-8", "s0001", "10.7.0.1").put()], now);
    let update = bench.controller.masked_table().unwrap();
    assert!(bench.planner.calls().is_empty());
    assert!(update.changed.is_empty());
    let masked = bench.port("s0001:80");
    assert_eq!((&*masked.masked, masked.endpoints[1].key.as_ref()), ([1].as_slice(), "10.0.1.1:8080"));
    assert!(bench.controller.masked_table().is_none(), "nothing has left since");

    let generation = update.table.generation;
    let update = bench.rebuild();
    assert_eq!(update.table.generation, generation + 1);
    assert!(bench.port("s0001:80").masked.is_empty());
    assert_eq!(bench.keys("s0001:80").len(), 3);
}

#[test]
fn what_is_masked_is_gone_or_dead_and_not_merely_leaving() {
    let mut leaving = pod("s0000-0", "s0000", "10.0.0.0");
    leaving.meta.terminating = true;
    let mut relabelled = pod("s0001-0", "s0001", "10.0.1.0");
    relabelled.meta.labels.insert("extra".into(), "1".into());
    for (change, expected) in [
        (leaving, &[][..]),
        (relabelled, &[]),
        (unready(pod("s0001-0", "s0001", "10.0.1.0")), &[0]),
        (pod("s0001-0", "s0002", "10.0.1.0"), &[0]),
    ] {
        let mut bench = many(3);
        let name = format!("{}:80", &change.meta.name[..5]);
        bench.controller.apply(vec![change.put()], 0);
        bench.controller.masked_table();
        assert_eq!(&*bench.port(&name).masked, expected);
    }
}

#[test]
fn a_masked_endpoint_that_returns_before_the_plan_is_whole_again() {
    let mut bench = many(2);
    bench.controller.apply(vec![delete(Kind::Pod, "s0001-1")], 0);
    bench.controller.masked_table().unwrap();
    bench.controller.apply(vec![pod("s0001-1", "s0001", "10.0.1.1").put()], 1000);
    bench.rebuild();
    assert!(bench.port("s0001:80").masked.is_empty());
    assert_eq!(bench.keys("s0001:80").len(), 3);
}

#[test]
fn the_origins_follow_the_pods() {
    use crate::table::Origin;
    let mut bench = many(1);
    let of = |bench: &Bench, text: &str| bench.table().origins.of(ip(text));
    assert_eq!(of(&bench, "10.0.0.1"), Origin::Pod);
    assert_eq!(of(&bench, "192.0.2.1"), Origin::Node);
    assert_eq!(of(&bench, "198.51.100.1"), Origin::Outside);
    bench.change(vec![pod("twin", "x", "10.0.0.1").put()]);
    bench.change(vec![delete(Kind::Pod, "s0000-1")]);
    assert_eq!(of(&bench, "10.0.0.1"), Origin::Pod, "a second pod has the address");
    bench.change(vec![Pod { finished: true, ..pod("twin", "x", "10.0.0.1") }.put()]);
    assert_eq!(of(&bench, "10.0.0.1"), Origin::Outside);
}

#[test]
fn a_record_says_what_the_service_says() {
    let mut web = service("web");
    web.meta.labels = labels(&[("team", "a")]);
    let bench = Bench::with(vec![web.put()]);
    let PortRecord { namespace, name, port, selector, labels, settings, .. } = PortRecord::clone(&bench.port("web:80").record);
    assert_eq!((namespace.as_str(), name.as_str(), port), ("default", "web", 80));
    assert_eq!((labels.len(), selector.map(|s| s.len()), settings.len()), (1, Some(1), 0));
}

/// Whoever plans thousands of Services pauses between them: what is planned is in force, the rest is as it was, and follows.
#[test]
fn planning_pauses_and_goes_on() {
    let mut bench = many(10);
    let changes: Vec<_> = (0..10).map(|n| unready(pod(&format!("s{n:04}-0"), &format!("s{n:04}"), &format!("10.0.{n}.0"))).put()).collect();
    bench.controller.apply(changes, 2000);
    let ready = |bench: &Bench| {
        let count = |n: usize| bench.port(&format!("s{n:04}:80")).endpoints.iter().filter(|endpoint| endpoint.conditions.ready).count();
        (0..10).map(count).collect::<Vec<_>>()
    };
    let mut planned = Vec::new();
    for turn in 1..=4 {
        let mut left = 3;
        let update = bench.controller.rebuild_while(&mut bench.planner, 2000, &mut || {
            left -= 1;
            left > 0
        });
        planned.extend(update.changed);
        assert_eq!(ready(&bench).iter().filter(|count| **count == 2).count(), (3 * turn).min(10));
        assert_eq!(bench.controller.is_dirty(), turn < 4);
    }
    planned.dedup();
    assert_eq!(planned.len(), 10, "each was planned once");
}
