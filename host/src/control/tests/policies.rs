//! Policies by name, swapped, failing, out of bounds.

use super::support::*;
use crate::control::Update;
use crate::objects::model::{Pod, Service, ServiceOptions, StageOptions};
use crate::policy::catalogue::Absence;
use crate::policy::contract::{Partition, StageKind};
use crate::table::{MAX_CANDIDATE_SETS, Port, Subset, VersionId};

pub(super) const OLD: VersionId = VersionId(10);
pub(super) const NEW: VersionId = VersionId(11);

pub(super) fn asks(stage: StageKind, policy: &str, settings: &[(&str, &str)]) -> ServiceOptions {
    let chosen = StageOptions { policy: Some(policy.into()), settings: labels(settings) };
    let mut options = ServiceOptions::default();
    match stage {
        StageKind::Selector => options.selector = chosen,
        StageKind::TrafficPolicy => options.traffic_policy = chosen,
        StageKind::Balancer => options.balancer = chosen,
    }
    options
}

/// `web` asks for `mine` in a stage, `other` for nothing; each has two pods, one of them here.
pub(super) fn bench(stage: StageKind) -> Bench {
    let mut bench = Bench::new();
    let mut known = catalogue();
    swap(&mut known, stage, "mine", OLD, None);
    bench.controller.catalogue(known);
    let at = |name: &str, app: &str, last: u8, on: &str| Pod { node: Some(on.into()), ..pod(name, app, &format!("10.244.0.{last}")) };
    bench.change(vec![
        Service { options: asks(stage, "mine", &[("size", "5")]), ..service("web") }.put(),
        service("other").put(),
        at("a", "web", 1, "here").put(),
        at("b", "web", 2, "there").put(),
        at("c", "other", 3, "here").put(),
        at("d", "other", 4, "there").put(),
    ]);
    bench.planner.calls();
    bench
}

pub(super) fn versions(port: &Port, stage: StageKind) -> (Option<VersionId>, Option<VersionId>) {
    fn of<P>(stage: &crate::table::Stage<P>) -> (Option<VersionId>, Option<VersionId>) {
        (stage.current.as_ref().map(|p| p.version.id), stage.stand_in.as_ref().map(|p| p.version.id))
    }
    match stage {
        StageKind::Selector => of(&port.selector),
        StageKind::TrafficPolicy => of(&port.traffic_policy),
        StageKind::Balancer => of(&port.balancer),
    }
}

pub(super) const STAGES: [StageKind; 3] = [StageKind::Selector, StageKind::TrafficPolicy, StageKind::Balancer];

#[test]
fn a_swap_concerns_the_users_of_that_policy_alone() {
    for stage in STAGES {
        let mut bench = bench(stage);
        let web = bench.port("web:80").id;
        let mut known = catalogue();
        swap(&mut known, stage, "mine", NEW, Some(OLD));
        bench.controller.catalogue(known.clone());
        let update = bench.rebuild();
        assert_eq!(update.changed, [web], "{stage:?}");
        let calls = bench.planner.calls();
        let own = if stage == StageKind::Selector { vec!["selector", "classify"] } else { vec![stage.name()] };
        assert!(calls.iter().all(|(what, version, id)| *id == web && *version == NEW && own.contains(what)), "{stage:?}: {calls:?}");
        assert_eq!(versions(&bench.port("web:80"), stage), (Some(NEW), Some(OLD)), "{stage:?}");

        bench.controller.catalogue(known);
        assert!(!bench.controller.is_dirty(), "the same catalogue again is no change");
        let mut known = catalogue();
        swap(&mut known, stage, "mine", OLD, Some(NEW));
        bench.controller.catalogue(known);
        bench.rebuild();
        assert_eq!(bench.planner.calls(), [], "{stage:?}: both versions' plans are at hand for a rollback");
        assert_eq!(versions(&bench.port("web:80"), stage), (Some(OLD), Some(NEW)));
    }
}

#[test]
fn a_new_version_that_fails_leaves_the_one_before_in_force() {
    for stage in STAGES {
        let mut bench = bench(stage);
        bench.planner.faulty.insert(NEW);
        let mut known = catalogue();
        swap(&mut known, stage, "mine", NEW, Some(OLD));
        bench.controller.catalogue(known);
        let update = bench.rebuild();
        assert_eq!(versions(&bench.port("web:80"), stage), (Some(OLD), None), "{stage:?}");
        assert_eq!(update.faults.iter().map(|(version, fault)| (*version, fault.class())).collect::<Vec<_>>(), [(NEW, "trap")]);
        let name = stage.name();
        let told = format!(
            "Service default/web metadata.annotations[pointsman.dev/{name}]: {name} mine could not plan Service default/web port 80: \
             trap: unreachable; the version before it goes on"
        );
        assert_eq!(messages(&update.diagnostics), [told]);

        assert!(bench.controller.retry_faulted());
        bench.planner.faulty.clear();
        bench.rebuild();
        assert_eq!(versions(&bench.port("web:80"), stage), (Some(NEW), Some(OLD)), "{stage:?}: tried again, it works");
        assert!(!bench.controller.retry_faulted());
        assert_eq!(bench.controller.diagnostics().len(), 0);
    }
}

#[test]
fn a_policy_that_cannot_plan_leaves_the_fallback() {
    for stage in STAGES {
        let mut bench = bench(stage);
        bench.planner.faulty.insert(OLD);
        let update = bench.change(vec![
            Pod {
                meta: crate::objects::model::Meta { labels: labels(&[("app", "web"), ("v", "2")]), ..meta("e") },
                ..pod("e", "", "10.244.0.9")
            }
            .put(),
        ]);
        let web = bench.port("web:80");
        assert_eq!(versions(&web, stage), (None, None), "{stage:?}");
        assert_eq!(bench.keys("web:80").len(), 3, "the labels still select");
        assert!(web.can_forward());
        assert_eq!(update.faults.len(), 1);
        assert!(update.diagnostics[0].message.ends_with("the host's fallback is in force"), "{}", update.diagnostics[0].message);
        assert!(web.fallback.subsets.iter().all(|at| (*at as usize) < web.subsets.len()));
        let cluster = web.fallback.subsets[0];
        assert_eq!(web.set(None, cluster).unwrap().1.members.len(), 3);
    }
}

#[test]
fn a_name_that_does_not_exist_is_told_with_those_that_do() {
    let mut bench = bench(StageKind::Balancer);
    let update = bench.change(vec![Service { options: asks(StageKind::Balancer, "mind", &[("size", "9")]), ..service("web") }.put()]);
    let told = &update.diagnostics[0];
    assert_eq!(told.message, "there is no balancer named mind; mine is used instead", "what it had before goes on");
    assert_eq!(told.field.as_deref(), Some("metadata.annotations[pointsman.dev/balancer]"));
    assert_eq!(told.remedy.as_deref(), Some("did you mean mine? Known: mine, round-robin. More come from --policy-dir"));
    assert_eq!(told.line, Some(7));
    assert_eq!(versions(&bench.port("web:80"), StageKind::Balancer).0, Some(OLD));
    assert_eq!(bench.port("web:80").balancer.name.as_ref(), "mind");
    assert_eq!(bench.planner.calls(), [], "with its former settings: nothing to plan");

    let update = bench.change(vec![Service { options: asks(StageKind::Balancer, "nobody-has-this", &[]), ..service("fresh") }.put()]);
    assert!(update.diagnostics.iter().any(|d| d.message == "there is no balancer named nobody-has-this; round-robin is used instead"));
    let mut known = catalogue();
    swap(&mut known, StageKind::Balancer, "mine", OLD, None);
    swap(&mut known, StageKind::Balancer, "nobody-has-this", NEW, None);
    bench.controller.catalogue(known);
    bench.rebuild();
    assert_eq!(versions(&bench.port("fresh:80"), StageKind::Balancer).0, Some(NEW), "it is used once it is there");
}

/// A policy in a registry is told as what it is, until it comes.
#[test]
fn a_reference_is_told_as_what_becomes_of_it() {
    const REFERENCE: &str = "r.example/team/p:1";
    let mut bench = bench(StageKind::Balancer);
    let absent = |absence| {
        let mut known = catalogue();
        swap(&mut known, StageKind::Balancer, "mine", OLD, None);
        known.absent.insert(REFERENCE.into(), absence);
        known
    };
    bench.controller.catalogue(absent(Absence::NotAllowed));
    let update = bench.change(vec![Service { options: asks(StageKind::Balancer, REFERENCE, &[]), ..service("web") }.put()]);
    let told =
        |update: &Update| update.diagnostics.iter().map(|d| (d.message.clone(), d.remedy.clone().unwrap_or_default())).collect::<Vec<_>>();
    let said = |what: &str, remedy: &str| vec![(format!("balancer {REFERENCE} {what}; mine is used instead"), remedy.to_owned())];
    let flag = "start the host with --allow-policy-registry r.example, or with a path in it";
    assert_eq!(told(&update), said("is in a registry that policies may not be pulled from", flag));
    let cases = [
        (Absence::Awaited, "is being pulled", "nothing: it takes over when it is there"),
        (Absence::Failed("it is down".into()), "could not be pulled: it is down", "it is tried again by itself"),
        (Absence::Refused("unsound".into()), "was pulled and refused: unsound", "name a version that is sound"),
    ];
    for (absence, what, remedy) in cases {
        bench.controller.catalogue(absent(absence));
        assert_eq!(told(&bench.rebuild()), said(what, remedy));
        assert_eq!(versions(&bench.port("web:80"), StageKind::Balancer).0, Some(OLD), "what it had before goes on");
        assert!(bench.controller.uses_policy("mine") && bench.controller.uses_policy(REFERENCE));
    }
    let mut known = catalogue();
    swap(&mut known, StageKind::Selector, REFERENCE, NEW, None);
    bench.controller.catalogue(known.clone());
    assert!(told(&bench.rebuild())[0].0.contains("is a selector, not a balancer"));
    known = catalogue();
    swap(&mut known, StageKind::Balancer, REFERENCE, NEW, None);
    bench.controller.catalogue(known);
    assert_eq!(told(&bench.rebuild()), Vec::new());
    assert_eq!(versions(&bench.port("web:80"), StageKind::Balancer).0, Some(NEW));
    assert!(!bench.controller.uses_policy("mine"), "nothing goes on with it any more");
}

#[test]
fn settings_reach_the_stage_that_they_are_for() {
    let mut bench = bench(StageKind::Balancer);
    let update = bench.change(vec![Service { options: asks(StageKind::Balancer, "mine", &[("size", "6")]), ..service("web") }.put()]);
    assert_eq!(update.changed.len(), 0, "the plan came out the same, and there is nothing to adopt");
    let calls = bench.planner.calls();
    assert!(!calls.is_empty() && calls.iter().all(|(what, ..)| *what == "balancer"), "{calls:?}");
}

#[test]
fn groups_cut_the_subsets() {
    let split = asks(StageKind::Selector, "label-selector", &[("split", "track=stable,canary")]);
    let on = |name: &str, last: u8, track: &str, node: &str| {
        let labels = labels(&[("app", "web"), ("track", track)]);
        let meta = crate::objects::model::Meta { labels, ..meta(name) };
        Pod { meta, node: Some(node.into()), ..pod(name, "", &format!("10.244.0.{last}")) }
    };
    let bench = Bench::with(vec![
        Service { options: split, ..service("web") }.put(),
        on("a", 1, "stable", "here").put(),
        on("b", 2, "stable", "there").put(),
        on("c", 3, "canary", "there").put(),
        on("d", 4, "neither", "here").put(),
    ]);
    let web = bench.port("web:80");
    assert_eq!(&*web.groups, ["stable", "canary"]);
    let members = |group, subset| web.set(group, subset).map(|(_, set)| set.members.to_vec());
    assert_eq!(members(None, 0), Some(vec![0, 1, 2]));
    assert_eq!(members(Some(0), 0), Some(vec![0, 1]));
    assert_eq!(members(Some(1), 0), Some(vec![2]));
    assert_eq!(members(Some(0), 1), Some(vec![0]));
    assert_eq!(members(Some(1), 1), None, "no canary here");
    let plans = &web.balancer.current.as_ref().unwrap().plan;
    let (set, _) = web.set(Some(1), 0).unwrap();
    assert_eq!(&*plans[set as usize], b"10.244.0.3:8080");
}

#[test]
fn one_group_or_none_makes_no_difference() {
    let bench = Bench::with(vec![service("web").put(), pod("a", "web", "10.244.0.1").put()]);
    let web = bench.port("web:80");
    assert_eq!((web.groups.len(), web.sets.len()), (1, 1));
    assert_eq!(web.set(Some(0), 0).unwrap().0, web.set(None, 0).unwrap().0);

    let split = asks(StageKind::Selector, "label-selector", &[("split", "track=stable,canary")]);
    let by_hand = Service { options: split, selector: None, ..service("db") };
    let bench = Bench::with(vec![by_hand.put(), written("db", &["203.0.113.1"], "", 1).put()]);
    let db = bench.port("db:80");
    assert_eq!(db.set(Some(1), 0).unwrap().1.members.len(), 1, "endpoints written by hand belong to every group");
}

#[test]
fn a_partition_out_of_bounds_is_a_fault() {
    let subset = |members: &[u32]| Subset { name: "s".into(), members: members.into() };
    let partition = |subsets| Partition { subsets, data: vec![] };
    let many = (0..=MAX_CANDIDATE_SETS).map(|_| subset(&[0])).collect();
    let barely = (0..MAX_CANDIDATE_SETS).map(|_| subset(&[0])).collect();
    for (returned, expected) in [
        (partition(vec![subset(&[0, 2])]), "returned slot 2 of 2 in subset s, which is out of range"),
        (partition(vec![subset(&[1, 1])]), "returned slot 1 twice in subset s, which is out of range"),
        (partition(many), "returned 65 subsets, where 64 are allowed, which is out of range"),
        (partition(barely), "returned subsets that make 65 candidate sets, where 64 are allowed, which is out of range"),
    ] {
        let mut bench = bench(StageKind::TrafficPolicy);
        bench.planner.partitions.insert(NEW, returned);
        let mut known = catalogue();
        swap(&mut known, StageKind::TrafficPolicy, "mine", NEW, None);
        bench.controller.catalogue(known);
        let update = bench.rebuild();
        assert_eq!(update.faults.iter().map(|(_, fault)| fault.to_string()).collect::<Vec<_>>(), [expected]);
        assert!(bench.port("web:80").can_forward());
    }
}

#[test]
fn too_many_groups_are_the_selectors_fault() {
    let mut bench = bench(StageKind::Selector);
    bench.planner.groups.insert(NEW, 16);
    let mut known = catalogue();
    swap(&mut known, StageKind::Selector, "mine", NEW, None);
    bench.controller.catalogue(known);
    let update = bench.rebuild();
    assert_eq!(update.faults[0].1.to_string(), "returned 16 groups, where 15 are allowed, which is out of range");
    assert_eq!(bench.keys("web:80").len(), 2);
}

#[test]
fn a_version_that_cuts_otherwise_does_not_stand_in() {
    let mut bench = bench(StageKind::TrafficPolicy);
    bench.planner.partitions.insert(NEW, Partition { subsets: vec![Subset { name: "one".into(), members: vec![1] }], data: vec![] });
    let mut known = catalogue();
    swap(&mut known, StageKind::TrafficPolicy, "mine", NEW, Some(OLD));
    bench.controller.catalogue(known);
    bench.rebuild();
    let web = bench.port("web:80");
    assert_eq!(versions(&web, StageKind::TrafficPolicy), (Some(NEW), None));
    assert_eq!(web.subsets.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["one", "cluster"], "the native subsets follow");
    assert_eq!(&*web.fallback.subsets, [1]);

    let mut bench = self::bench(StageKind::Selector);
    bench.planner.groups.insert(NEW, 2);
    let mut known = catalogue();
    swap(&mut known, StageKind::Selector, "mine", NEW, Some(OLD));
    bench.controller.catalogue(known);
    bench.rebuild();
    assert_eq!(versions(&bench.port("web:80"), StageKind::Selector), (Some(NEW), None));
}

#[test]
fn without_policies_connections_still_find_their_way() {
    let mut bench = Bench::new();
    bench.controller.catalogue(crate::policy::catalogue::Catalogue::default());
    bench.change(vec![service("web").put(), pod("a", "web", "10.244.0.1").put()]);
    assert_eq!(bench.keys("web:80").len(), 1);
    assert!(bench.port("web:80").can_forward());
}

#[test]
fn news_of_the_node_reach_every_plan() {
    let mut bench = bench(StageKind::Balancer);
    let update = bench.change(vec![node("here", "a").put(), node("there", "b").put()]);
    assert_eq!(bench.controller.node().zone.as_deref(), Some("a"));
    assert_eq!(update.changed.len(), 2);
    let calls = bench.planner.calls();
    assert_eq!(calls.iter().filter(|(what, ..)| *what == "selector").count(), 2, "policies were configured with the former node");
    let mut beat = node("here", "a");
    beat.meta.annotations = labels(&[("heartbeat", "1")]);
    bench.change(vec![beat.put()]);
    assert_eq!(bench.planner.calls(), [], "a heartbeat is no news");
}

/// Policies are told of the node at their start: who plans first must know the zone that the first files give.
#[test]
fn the_node_is_known_before_anything_is_planned() {
    let mut bench = Bench::new();
    let own = bench.controller.node().name.clone();
    bench.controller.apply(vec![node(&own, "z").put()], 0);
    assert_eq!(bench.controller.node().zone.as_deref(), Some("z"));
}
