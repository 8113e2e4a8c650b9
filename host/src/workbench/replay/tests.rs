#![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]

use std::num::NonZeroU32;
use std::path::Path;

use super::*;
use crate::policy::tape::frame::{Answer, Bits, Client, Failure, Frame};
use crate::policy::tape::{Clients, PseudonymKey, Terms};
use crate::workbench::fixture::{BALANCERS, SANDBOX, all, component, day, file, open, rewrite};

/// What `recorded` is made by that is not built in.
fn given() -> Components {
    let mut components = Components::default();
    for name in ["learner", "always-trap"] {
        components.add(name, component(name).to_vec());
    }
    components
}

fn replayed(path: &Path) -> Report {
    replay(&open(path), &SANDBOX, &given(), &mut |_, _| {}).unwrap()
}

fn metric(report: &Report, name: &str) -> u64 {
    report.metrics.iter().find(|metric| metric.name == name).unwrap().values[0].mean as u64
}

fn findings(report: &Report) -> Vec<&String> {
    report.cases.iter().flat_map(|case| &case.findings).collect()
}

#[test]
fn two_workers_over_churn_replay_without_a_difference() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(day(&file(&folder), all()), 0);
    let report = replayed(&file(&folder));
    assert_eq!((metric(&report, "differences"), metric(&report, "left-out")), (0, 0), "{:?}", findings(&report));
    assert_eq!(report.verdict, Verdict::Holds);
    assert_eq!(report.notes, ["exact: everything that the policies saw is in the recording"]);
    // 4,800 connections, the three stages of each; the pick of one that traps is asked of another.
    assert!(metric(&report, "decisions") > 14_000, "{}", metric(&report, "decisions"));
    for name in BALANCERS.iter().chain(&["always-trap", "label-selector", "canary", "kubernetes", "prefer-local", "zone-spill"]) {
        let case = report.cases.iter().find(|case| case.name.ends_with(&format!(" {name}"))).unwrap();
        assert_eq!(case.verdict, Verdict::Holds, "{name}");
    }
    assert_eq!(report, replayed(&file(&folder)), "the same bytes on every run");
}

/// A day whose frames were changed.
fn changed(edit: &mut dyn FnMut(&mut Frame)) -> Report {
    let folder = tempfile::tempdir().unwrap();
    day(&file(&folder), all());
    let other = folder.path().join("other.rec");
    rewrite(&file(&folder), &other, edit);
    replayed(&other)
}

#[test]
fn another_seed_is_found() {
    // Versions count in the order in which Services first named them: selector, traffic policy, then round robin.
    let report = changed(&mut |frame| {
        if let Frame::Instance { version: 2, seed, .. } = frame {
            *seed = Bits::from(1 + u64::from(*seed));
        }
    });
    assert!(metric(&report, "differences") > 0);
    assert_eq!(report.verdict, Verdict::Fails);
    let wrong: Vec<_> = report.cases.iter().filter(|case| case.verdict == Verdict::Fails).map(|case| case.name.as_str()).collect();
    assert_eq!(wrong, ["balancer round-robin"]);
}

#[test]
fn another_answer_is_found() {
    let mut picks = 0;
    let report = changed(&mut |frame| {
        if let Frame::Pick { answer: Answer::Index(slot), .. } = frame {
            picks += 1;
            *slot += u32::from(picks == 1_000) * 99;
        }
    });
    assert_eq!(metric(&report, "differences"), 1);
    let findings = findings(&report);
    assert!(findings[0].contains("recorded Index(") && findings[0].contains(", now Index("), "{findings:?}");
}

#[test]
fn a_load_that_was_not_answered_is_found() {
    let mut taken = false;
    let report = changed(&mut |frame| {
        if let Frame::Loads { answers } = frame
            && !std::mem::replace(&mut taken, true)
        {
            answers.pop();
        }
    });
    assert_eq!(metric(&report, "differences"), 1);
    assert!(findings(&report)[0].contains("asked `load` more often, or less"), "{:?}", findings(&report));
}

#[test]
fn a_sample_is_approximate_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    day(&file(&folder), Terms { sample: NonZeroU32::new(10).unwrap(), ..all() });
    let report = replayed(&file(&folder));
    assert_eq!(report.notes[0], "approximate, because one connection in 10 is in it: what a policy learned from the others is not");
    let decisions = metric(&report, "decisions");
    assert!((1_000..2_000).contains(&decisions), "a tenth of some 14,500, and not {decisions}");
    let of = |name: &str| report.cases.iter().find(|case| case.name == format!("balancer {name}")).unwrap().verdict;
    assert_eq!(of("maglev"), Verdict::Holds, "what has no state is exact all the same");
    assert_eq!(of("round-robin"), Verdict::Fails);
}

#[test]
fn hashed_clients_replay_exactly_where_only_hashes_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let clients = Clients::Hashed(PseudonymKey::from_secret("a"));
    day(&file(&folder), Terms { clients, ..all() });
    let mut clients = std::collections::BTreeSet::new();
    rewrite(&file(&folder), &folder.path().join("copy.rec"), &mut |frame| {
        if let Frame::Connection(connection) = frame {
            assert!(matches!(connection.client, Client::Pseudonym(_)), "{connection:?}");
            clients.insert(connection.client.to_string());
        }
    });
    assert_eq!(clients.len(), 50, "as many as there are clients");
    let report = replayed(&file(&folder));
    let differ: Vec<_> = report.cases.iter().filter(|case| case.verdict != Verdict::Holds).map(|case| case.name.as_str()).collect();
    assert_eq!(differ, ["balancer ketama"], "it alone reads the address, as nginx has it");
    assert!(report.notes[0].starts_with("approximate, because clients are pseudonyms"), "{:?}", report.notes);
}

#[test]
fn a_worker_in_the_middle_of_its_life_is_approximate() {
    let folder = tempfile::tempdir().unwrap();
    day(&file(&folder), all());
    let mut recording = open(&file(&folder));
    recording.header.workers[1].fresh = false;
    let report = replay(&recording, &SANDBOX, &given(), &mut |_, _| {}).unwrap();
    assert!(report.notes[0].contains("in the middle of the life of worker 1"), "{:?}", report.notes);
}

#[test]
fn what_cannot_be_made_again_is_not_called_exact() {
    // An instance that is not in it: nothing can be asked of it.
    let report = changed(&mut |frame| {
        if let Frame::Instance { failed, version: 2, .. } = frame {
            *failed = Some(Failure::HostLimit);
        }
    });
    assert!(metric(&report, "left-out") > 0);
    assert!(report.notes[0].contains("calls could not be made again"), "{:?}", report.notes);
    // Losses that only the end knows of.
    let report = changed(&mut |frame| {
        if let Frame::End(end) = frame {
            end.lost = 5;
        }
    });
    assert_eq!(report.notes, ["approximate, because 5 frames were lost at its end: the disk could not keep up"]);
}

#[test]
fn impossible_frames_are_damage() {
    let folder = tempfile::tempdir().unwrap();
    day(&file(&folder), all());
    let other = folder.path().join("other.rec");
    let refused = |edit: &mut dyn FnMut(&mut Frame)| {
        rewrite(&file(&folder), &other, edit);
        replay(&open(&other), &SANDBOX, &given(), &mut |_, _| {}).unwrap_err().to_string()
    };
    let unknown = refused(&mut |frame| {
        if let Frame::Group { version, .. } = frame {
            *version = 99;
        }
    });
    assert!(unknown.contains("version 99 is referred to, and not in it"), "{unknown}");
    let mut lost = 0;
    let overflow = refused(&mut |frame| {
        if matches!(frame, Frame::Loads { .. }) && lost < 2 {
            lost += 1;
            *frame = Frame::Lost { frames: u64::MAX, now_ms: 0, connections: u64::MAX };
        }
    });
    assert!(overflow.contains("more connections than can be counted"), "{overflow}");
}

#[test]
fn a_component_that_is_not_there_is_named_by_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    day(&file(&folder), all());
    let error = replay(&open(&file(&folder)), &SANDBOX, &Components::default(), &mut |_, _| {}).unwrap_err().to_string();
    let digest = crate::policy::inspect::digest(component("learner"));
    assert!(error.contains(&digest) && error.contains("\"learner\""), "{error}");
    let mut strange = given();
    strange.add("mine.wasm", component("wasi-curious").to_vec());
    let error = replay(&open(&file(&folder)), &SANDBOX, &strange, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.starts_with("mine.wasm (sha256:") && error.contains("pointsman policy diff"), "{error}");
}
