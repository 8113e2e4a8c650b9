//! Settings that a policy refuses, where it had planned with others before.

use super::policies::{NEW, OLD, STAGES, asks, bench, versions};
use super::support::*;
use crate::control::Update;
use crate::objects::model::{Kind, Meta, Pod, Service};
use crate::policy::contract::StageKind;

/// `web` now says this of `mine`.
fn say(bench: &mut Bench, stage: StageKind, size: &str) -> Update {
    let mut web = Service { options: asks(stage, "mine", &[("size", size)]), ..service("web") };
    place(&mut web.meta, &format!("metadata.annotations[pointsman.dev/{}]", stage.name()), 21);
    bench.change(vec![web.put()])
}

/// The size that `mine` last planned with.
fn size(bench: &Bench) -> &str {
    &bench.planner.accepted[&OLD][0].value
}

/// What `mine` was asked.
fn calls(bench: &mut Bench) -> Vec<&'static str> {
    bench.planner.calls().into_iter().filter(|(_, version, _)| *version == OLD).map(|(what, ..)| what).collect()
}

fn labelled(name: &str, version: &str, last: u8) -> Pod {
    let meta = Meta { labels: labels(&[("app", "web"), ("v", version)]), ..meta(name) };
    Pod { meta, ..pod(name, "", &format!("10.244.0.{last}")) }
}

/// A `mine` that cannot be of these sizes, asked to be of the first.
fn refusing(stage: StageKind) -> (Bench, Update) {
    let mut bench = bench(stage);
    bench.planner.refused.extend([(OLD, "size: lots"), (OLD, "size: more")]);
    let update = say(&mut bench, stage, "lots");
    (bench, update)
}

#[test]
fn the_settings_before_stay_in_force() {
    // Asked with the new settings; a selector, which forgets its plan by that, again with those before.
    for (stage, asked) in
        STAGES.into_iter().zip([&["selector", "selector", "classify", "classify"][..], &["traffic-policy"], &["balancer"]])
    {
        let (mut bench, update) = refusing(stage);
        assert_eq!(calls(&mut bench), asked, "{stage:?}");
        assert_eq!(versions(&bench.port("web:80"), stage), (Some(OLD), None), "{stage:?}");
        assert!(update.changed.is_empty(), "{stage:?}: the plan is what it was");
        assert_eq!(update.faults.iter().map(|(version, fault)| (*version, fault.class())).collect::<Vec<_>>(), [(OLD, "refused")]);
        let name = stage.name();
        let told = format!(
            "Service default/web metadata.annotations[pointsman.dev/{name}]: {name} mine refused the settings of Service default/web \
             port 80: size cannot be lots; the settings before stay in force"
        );
        assert_eq!(messages(&update.diagnostics), [told]);
        assert_eq!((update.diagnostics[0].is_error(), update.diagnostics[0].line), (true, Some(21)));
        assert!(!bench.controller.retry_faulted(), "{stage:?}: nothing that time alone would mend");
    }
}

#[test]
fn later_changes_are_planned_with_them_and_nothing_is_told_again() {
    for stage in STAGES {
        let (mut bench, _) = refusing(stage);
        calls(&mut bench);
        for (at, node_of) in [(7, "here"), (8, "there")] {
            let update = bench.change(vec![Pod { node: Some(node_of.into()), ..labelled("new", &at.to_string(), at) }.put()]);
            assert_eq!(update.diagnostics, [], "{stage:?}");
            assert_eq!(bench.controller.diagnostics().len(), 1, "{stage:?}: it is still so");
            assert_eq!((bench.keys("web:80").len(), size(&bench)), (3, "5"), "{stage:?}");
            assert_eq!(versions(&bench.port("web:80"), stage), (Some(OLD), None), "{stage:?}");
            let asked = calls(&mut bench);
            match stage {
                StageKind::Selector => assert_eq!(asked, ["classify"], "refused once, it is not asked for a plan again"),
                StageKind::TrafficPolicy => assert_eq!(asked, ["traffic-policy"; 2], "refused, planned"),
                StageKind::Balancer => assert!((2..=3).contains(&asked.len()), "refused, planned for each set: {asked:?}"),
            }
        }
        bench.change(vec![node("here", "a").put()]);
        assert_eq!((versions(&bench.port("web:80"), stage).0, size(&bench)), (Some(OLD), "5"), "{stage:?}: also for a node that changed");
    }
}

#[test]
fn they_are_remembered_while_there_is_nobody_to_plan_for() {
    for stage in STAGES {
        let (mut bench, _) = refusing(stage);
        bench.change(vec![delete(Kind::Pod, "a"), delete(Kind::Pod, "b")]);
        assert!(!bench.port("web:80").can_forward(), "{stage:?}");
        bench.change(vec![pod("a", "web", "10.244.0.1").put()]);
        assert_eq!((versions(&bench.port("web:80"), stage), size(&bench)), ((Some(OLD), None), "5"), "{stage:?}");
        assert_eq!(bench.controller.diagnostics().len(), 1, "{stage:?}");
    }
}

#[test]
fn mended_settings_take_over_and_are_the_ones_to_return_to() {
    for stage in STAGES {
        let (mut bench, _) = refusing(stage);
        let update = say(&mut bench, stage, "more");
        assert!(update.diagnostics[0].message.contains("size cannot be more"), "{stage:?}: another mistake is told");
        assert_eq!(size(&bench), "5", "{stage:?}");

        let update = say(&mut bench, stage, "6");
        assert_eq!((update.diagnostics.len(), bench.controller.diagnostics().len(), size(&bench)), (0, 0, "6"), "{stage:?}");
        let update = say(&mut bench, stage, "lots");
        assert_eq!((update.diagnostics.len(), size(&bench)), (1, "6"), "{stage:?}: told anew");
        bench.planner.refused.clear();
        bench.change(vec![node("here", "a").put()]);
        assert_eq!((bench.controller.diagnostics().len(), size(&bench)), (0, "lots"), "{stage:?}: asked again, it accepts them");
    }
}

#[test]
fn a_version_that_accepts_them_takes_over_and_none_that_refuses_them_stands_in() {
    for stage in STAGES {
        let (mut bench, _) = refusing(stage);
        let mut known = catalogue();
        swap(&mut known, stage, "mine", NEW, Some(OLD));
        bench.controller.catalogue(known.clone());
        bench.rebuild();
        assert_eq!(versions(&bench.port("web:80"), stage), (Some(NEW), None), "{stage:?}");
        assert_eq!((bench.controller.diagnostics().len(), bench.planner.accepted[&NEW][0].value.as_str()), (0, "lots"), "{stage:?}");

        bench.planner.refused.insert((NEW, "size: more"));
        say(&mut bench, stage, "more");
        assert_eq!(versions(&bench.port("web:80"), stage), (Some(NEW), None), "{stage:?}");
        assert_eq!(bench.planner.accepted[&NEW][0].value, "lots", "{stage:?}");
    }
}

#[test]
fn a_new_version_that_refuses_what_the_one_before_took_leaves_that_in_force() {
    for stage in STAGES {
        let mut bench = bench(stage);
        bench.planner.refused.insert((NEW, "size: 5"));
        let mut known = catalogue();
        swap(&mut known, stage, "mine", NEW, Some(OLD));
        bench.controller.catalogue(known);
        let update = bench.rebuild();
        assert_eq!(versions(&bench.port("web:80"), stage), (Some(OLD), None), "{stage:?}");
        assert!(update.diagnostics[0].message.ends_with("refused: size cannot be 5; the version before it goes on"), "{stage:?}");
    }
}

#[test]
fn settings_of_another_policy_a_first_plan_and_a_trap_are_left_to_the_fallback() {
    for stage in STAGES {
        let mut bench = bench(stage);
        let mut known = catalogue();
        swap(&mut known, stage, "mine", OLD, None);
        swap(&mut known, stage, "other", NEW, None);
        bench.controller.catalogue(known);
        bench.planner.refused.insert((NEW, "size: lots"));
        let others = |name| Service { options: asks(stage, "other", &[("size", "lots")]), ..service(name) };
        bench.change(vec![pod("f", "fresh", "10.244.0.10").put()]);
        for name in ["web", "fresh"] {
            let update = bench.change(vec![others(name).put()]);
            assert_eq!(versions(&bench.port(&format!("{name}:80")), stage), (None, None), "{stage:?}");
            assert!(update.diagnostics.iter().any(|told| told.message.ends_with("the host's fallback is in force")), "{stage:?}");
        }

        let mut bench = self::bench(stage);
        bench.planner.faulty.insert(OLD);
        let update = say(&mut bench, stage, "lots");
        assert_eq!(versions(&bench.port("web:80"), stage), (None, None), "{stage:?}");
        assert!(bench.controller.retry_faulted() && update.diagnostics[0].message.contains("trap"), "{stage:?}");

        bench.planner.faulty.clear();
        bench.planner.refused.insert((OLD, "size: lots"));
        bench.rebuild();
        assert_eq!((versions(&bench.port("web:80"), stage).0, size(&bench)), (Some(OLD), "5"), "{stage:?}: remembered through a trap");
    }
}
