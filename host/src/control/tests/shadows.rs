//! A balancer tried beside the one in force: planned like it, and rolled back until something else is tried.

use super::policies::{NEW, OLD};
use super::support::*;
use crate::objects::model::{Service, ServiceOptions, Share, StageOptions};
use crate::policy::contract::StageKind;
use crate::table::{Shadow, VersionId};

/// `web` has two pods; this is what it asks for.
fn asking(shadow: Option<&str>, settings: &[(&str, &str)], percent: Option<u32>) -> Service {
    let shadow = StageOptions { policy: shadow.map(str::to_owned), settings: labels(settings) };
    let canary = percent.map(|percent| Share::of_millionths(percent * 10_000));
    Service { options: ServiceOptions { shadow, canary, ..ServiceOptions::default() }, ..service("web") }
}

fn bench(web: Service) -> Bench {
    let mut bench = Bench::new();
    know(&mut bench, OLD, None);
    bench.change(vec![web.put(), pod("a", "web", "10.244.0.1").put(), pod("b", "web", "10.244.0.2").put()]);
    bench
}

/// `mine` stands for this version.
fn know(bench: &mut Bench, current: VersionId, previous: Option<VersionId>) {
    let mut known = catalogue();
    swap(&mut known, StageKind::Balancer, "mine", current, previous);
    bench.controller.catalogue(known);
}

fn shadow(bench: &Bench) -> Shadow {
    Shadow::clone(bench.port("web:80").shadow.as_ref().expect("somebody is tried"))
}

/// What is asked for, and what holds, in per cent.
fn shares(bench: &Bench) -> [u32; 2] {
    let canary = shadow(bench).canary.expect("a canary");
    [canary.asked, canary.in_force].map(|share| share.millionths() / 10_000)
}

#[test]
fn both_are_planned_with_their_own_settings() {
    let mut bench = bench(Service {
        options: ServiceOptions {
            balancer: StageOptions { policy: None, settings: labels(&[("pace", "1")]) },
            ..asking(Some("mine"), &[("size", "5")], None).options
        },
        ..service("web")
    });
    let port = bench.port("web:80");
    let candidate = shadow(&bench).planned.expect("it planned");
    assert_eq!((candidate.version.id, port.balancer.current.as_ref().unwrap().version.id), (OLD, BALANCER));
    assert_eq!(candidate.plan.len(), port.sets.len());
    assert_eq!(candidate.plan[0], port.balancer.current.as_ref().unwrap().plan[0], "of the same members");
    let told = |version| bench.planner.accepted[&version].iter().map(|s| format!("{}={}", s.key, s.value)).collect::<Vec<_>>();
    assert_eq!((told(OLD), told(BALANCER)), (vec!["size=5".to_owned()], vec!["pace=1".to_owned()]));
    let (every, table) = ([port.id], bench.table());
    assert!(table.candidates(&every).contains(&OLD) && !table.versions(&every).contains(&OLD));
    assert_eq!(shadow(&bench).canary, None);

    // Endpoints change: both plan again, and the comparison goes on.
    let since = shadow(&bench).since;
    bench.planner.calls();
    let update = bench.change(vec![pod("c", "web", "10.244.0.3").put()]);
    let calls: Vec<_> =
        bench.planner.calls().into_iter().filter(|(what, _, _)| *what == "balancer").map(|(_, version, _)| version).collect();
    assert_eq!((calls, update.changed), (vec![BALANCER, OLD], vec![port.id]));
    assert_eq!(shadow(&bench).since, since);
    // Nothing changes: nobody plans.
    bench.controller.catalogue(catalogue());
    know(&mut bench, OLD, None);
    assert!(bench.rebuild().changed.is_empty());
    assert_eq!(bench.planner.calls(), []);
}

#[test]
fn the_same_policy_may_be_tried_with_other_settings() {
    let mut options = asking(Some("mine"), &[("size", "7")], None).options;
    options.balancer = StageOptions { policy: Some("mine".into()), settings: labels(&[("size", "5")]) };
    let bench = bench(Service { options, ..service("web") });
    let port = bench.port("web:80");
    assert_eq!(port.balancer.current.as_ref().unwrap().version.id, OLD);
    assert_eq!(shadow(&bench).planned.unwrap().version.id, OLD);
}

#[test]
fn a_comparison_begins_anew_with_who_is_compared() {
    let mut bench = bench(asking(Some("mine"), &[], Some(5)));
    let mut since = shadow(&bench).since;
    let mut begins = |bench: &Bench, what: &str| {
        let now = shadow(bench).since;
        let anew = now != since;
        since = now;
        (what.to_owned(), anew)
    };
    let other_share = bench.change(vec![asking(Some("mine"), &[], Some(6)).put()]);
    assert_eq!(begins(&bench, "share"), ("share".to_owned(), false));
    assert!(other_share.changed.is_empty() && shares(&bench) == [6, 6], "no plan is to be adopted for another share");
    bench.change(vec![asking(Some("mine"), &[("size", "5")], Some(6)).put()]);
    assert!(begins(&bench, "settings").1);
    know(&mut bench, NEW, Some(OLD));
    bench.rebuild();
    assert!(begins(&bench, "version").1);
    assert_eq!(shadow(&bench).planned.unwrap().version.id, NEW);
    bench.change(vec![service("web").put()]);
    assert!(bench.port("web:80").shadow.is_none());
}

#[test]
fn a_candidate_that_cannot_plan_leaves_the_one_in_force_alone() {
    let mut bench = bench(service("web"));
    bench.planner.faulty.insert(OLD);
    let update = bench.change(vec![asking(Some("mine"), &[], Some(5)).put()]);
    assert!(shadow(&bench).planned.is_none() && bench.port("web:80").balancer.current.is_some());
    let told = "Service default/web metadata.annotations[pointsman.dev/balancer-shadow]: balancer mine could not plan Service default/web \
                port 80: trap: unreachable; it is not tried";
    assert_eq!(messages(&update.diagnostics), [told]);
    bench.planner.faulty.clear();
    assert!(bench.controller.retry_faulted(), "it is asked again later");
    bench.rebuild();
    assert!(shadow(&bench).planned.is_some());

    let update = bench.change(vec![asking(Some("mime"), &[], None).put()]);
    let told =
        "Service default/web metadata.annotations[pointsman.dev/balancer-shadow]: there is no balancer named mime; mine is used instead";
    assert_eq!(messages(&update.diagnostics), [told]);
    assert_eq!(update.diagnostics[0].remedy.as_deref(), Some("did you mean mine? Known: mine, round-robin. More come from --policy-dir"));
    assert!(bench.controller.uses_policy("mine") && bench.controller.uses_policy("mime"), "gone on with, and asked for");
}

#[test]
fn an_unknown_candidate_is_told_and_nobody_is_tried() {
    let mut bench = Bench::new();
    let update = bench.change(vec![asking(Some("mime"), &[], Some(5)).put(), pod("a", "web", "10.244.0.1").put()]);
    let told = "Service default/web metadata.annotations[pointsman.dev/balancer-shadow]: there is no balancer named mime; nobody is tried";
    assert_eq!(messages(&update.diagnostics), [told]);
    assert!(shadow(&bench).planned.is_none());
    know(&mut bench, OLD, None);
    bench.rebuild();
    assert!(shadow(&bench).planned.is_none(), "of another name");
    bench.change(vec![asking(Some("mine"), &[], Some(5)).put()]);
    assert!(shadow(&bench).planned.is_some());
}

#[test]
fn a_rollback_stands_until_something_else_is_tried() {
    let mut bench = bench(asking(Some("mine"), &[], Some(20)));
    let id = bench.port("web:80").id;
    assert_eq!(shares(&bench), [20, 20]);
    assert!(bench.controller.roll_back("default", "web") && !bench.controller.roll_back("default", "other"));
    let update = bench.rebuild();
    assert_eq!(shares(&bench), [20, 0]);
    assert!(update.changed.is_empty(), "there is nothing to adopt");
    assert!(shadow(&bench).planned.is_some(), "it is compared on");

    // Planned again, by itself and with its Service, for whatever reason.
    bench.change(vec![pod("c", "web", "10.244.0.3").put()]);
    let mut other = asking(Some("mine"), &[], Some(20));
    other.options.proxy_protocol = true;
    bench.change(vec![other.put()]);
    know(&mut bench, OLD, Some(VersionId(12)));
    bench.rebuild();
    assert_eq!((shares(&bench), bench.port("web:80").id), ([20, 0], id));

    // A version that cannot plan is none that is tried: the one before goes on, as rolled back as it was.
    bench.planner.faulty.insert(NEW);
    know(&mut bench, NEW, Some(OLD));
    bench.rebuild();
    assert_eq!((shadow(&bench).planned.unwrap().version.id, shares(&bench)), (OLD, [20, 0]));

    bench.planner.faulty.clear();
    assert!(bench.controller.retry_faulted());
    bench.rebuild();
    assert_eq!((shadow(&bench).planned.unwrap().version.id, shares(&bench)), (NEW, [20, 20]), "another version");
    know(&mut bench, OLD, Some(NEW));
    bench.rebuild();
    assert_eq!(shares(&bench), [20, 20], "and back to the first is something else again");
}

#[test]
fn a_rollback_holds_on_every_port_whichever_version_each_has() {
    let two = Service { ports: vec![port("http", 80, 8080), port("https", 443, 8443)], ..asking(Some("mine"), &[], Some(20)) };
    let mut bench = bench(two);
    know(&mut bench, NEW, Some(OLD));
    bench.planner.faulty_on = Some((NEW, bench.port("web:https").id));
    bench.rebuild();
    let tried = |bench: &Bench, port: &str| {
        let shadow = Shadow::clone(bench.port(port).shadow.as_ref().unwrap());
        (shadow.planned.unwrap().version.id, shadow.canary.unwrap().in_force.millionths() / 10_000)
    };
    assert_eq!((tried(&bench, "web:http"), tried(&bench, "web:https")), ((NEW, 20), (OLD, 20)));
    assert!(bench.controller.roll_back("default", "web"));
    bench.rebuild();
    assert_eq!((tried(&bench, "web:http"), tried(&bench, "web:https")), ((NEW, 0), (OLD, 0)));
    bench.change(vec![pod("c", "web", "10.244.0.3").put()]);
    assert_eq!((tried(&bench, "web:http"), tried(&bench, "web:https")), ((NEW, 0), (OLD, 0)));
}

#[test]
fn every_annotation_of_a_trial_ends_its_rollback() {
    for other in [asking(Some("mine"), &[], Some(21)), asking(Some("mine"), &[("size", "5")], Some(20)), asking(None, &[], None)] {
        let mut bench = bench(asking(Some("mine"), &[], Some(20)));
        bench.controller.roll_back("default", "web");
        bench.rebuild();
        bench.change(vec![other.put()]);
        bench.change(vec![asking(Some("mine"), &[], Some(20)).put()]);
        assert_eq!(shares(&bench), [20, 20]);
    }
    // Its Service is gone, and comes again.
    let mut bench = bench(asking(Some("mine"), &[], Some(20)));
    bench.controller.roll_back("default", "web");
    bench.rebuild();
    bench.change(vec![delete(crate::objects::Kind::Service, "web")]);
    bench.change(vec![asking(Some("mine"), &[], Some(20)).put()]);
    assert_eq!(shares(&bench), [20, 20]);
}
