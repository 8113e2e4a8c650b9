#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::observe::fixture;
use crate::policy::contract::StageKind;
use crate::table::{Canary, Planned, PolicyVersion};

fn version(id: u32) -> Arc<PolicyVersion> {
    Arc::new(PolicyVersion { id: VersionId(id), name: "maglev".into(), digest: format!("sha256:{id}").into() })
}

/// `default/web` with this version tried on so many per cent, of which so many hold.
fn table(candidate: u32, since: u64, percent: Option<[u32; 2]>) -> Table {
    let share = |percent: u32| Share::of_millionths(percent * 10_000);
    let canary = percent.map(|[asked, in_force]| Canary { asked: share(asked), in_force: share(in_force), salt: 0 });
    let planned = Some(Planned { version: version(candidate), plan: Arc::from([]) });
    let shadow = Shadow { name: "maglev".into(), planned, since, canary };
    let port = Port { shadow: Some(Box::new(shadow)), ..fixture::port(0, "web", vec![]) };
    fixture::table(&[Arc::new(port)])
}

const HALF: Option<[u32; 2]> = Some([50, 50]);

fn web() -> ShadowKey {
    ShadowKey { namespace: "default".into(), service: "web".into() }
}

/// Two workers: how often the breaker of version 1 opened on the second, and its faults on the Service.
#[derive(Clone)]
struct Seen(Vec<Vec<PolicyCounters>>, BTreeMap<ShadowKey, u64>);

impl Seen {
    fn new(opened: u64, faults: u64) -> Self {
        let counters = |opened, candidate| {
            let counters = PolicyCounters::new(version(1), StageKind::Balancer);
            PolicyCounters { candidate, breaker_opened: opened, answered: 30, faults: [faults, 0, 0, 0, 0, 0, 0], ..counters }
        };
        // In force elsewhere, where it fails as well: that is another matter.
        let policies = vec![vec![counters(9, false)], vec![counters(9, false), counters(opened, true)]];
        Self(policies, BTreeMap::from([(web(), faults)]))
    }

    fn counts(&self) -> Counts<'_> {
        Counts { policies: &self.0, faults: &self.1 }
    }
}

fn look(canaries: &mut Canaries, table: &Table, opened: u64, faults: u64) -> Vec<RollBack> {
    canaries.look(table, &Seen::new(opened, faults).counts())
}

fn begin(canaries: &mut Canaries, table: &Table, opened: u64, faults: u64) {
    canaries.begin(table, &Seen::new(opened, faults).counts());
}

#[test]
fn a_breaker_that_opens_on_one_worker_ends_the_canary_once() {
    let (mut canaries, table) = (Canaries::default(), table(1, 1, HALF));
    assert!(canaries.differ(&table));
    begin(&mut canaries, &table, 0, 0);
    assert!(!canaries.differ(&table) && look(&mut canaries, &table, 0, 5).is_empty());
    let ended = look(&mut canaries, &table, 1, 6);
    assert_eq!(
        ended[0].message,
        "the canary of Service default/web is rolled back: balancer \"maglev\" (sha256:1) was in charge of 50% of its clients, and its \
         breaker opened (answered 30, trap 6); round-robin decides for all of them"
    );
    assert_eq!(look(&mut canaries, &table, 1, 6), [], "once");
    assert_eq!(canaries.reason(&web()), Some("its breaker opened (answered 30, trap 6)"));
}

#[test]
fn faults_that_come_seldom_add_up() {
    let (mut canaries, table) = (Canaries::default(), table(1, 1, HALF));
    begin(&mut canaries, &table, 0, 3);
    assert!(look(&mut canaries, &table, 0, 3 + MAX_CANARY_FAULTS - 1).is_empty());
    let ended = look(&mut canaries, &table, 0, 3 + MAX_CANARY_FAULTS);
    assert!(ended[0].message.contains("it failed 10 times on this Service, 10 are too many"), "{ended:?}");
}

#[test]
fn what_was_before_the_canary_is_not_held_against_it() {
    let mut canaries = Canaries::default();
    let shadow = table(1, 1, None);
    assert!(!canaries.differ(&shadow), "a shadow alone is in charge of nobody");
    assert!(look(&mut canaries, &shadow, 5, 500).is_empty());
    let half = table(1, 1, HALF);
    begin(&mut canaries, &half, 5, 500);
    assert!(look(&mut canaries, &half, 5, 500).is_empty());
    // A worker's instance was made anew and counts from nothing: what it counts then is news.
    assert!(look(&mut canaries, &half, 0, 500).is_empty());
    assert_eq!(look(&mut canaries, &half, 1, 500).len(), 1);
}

#[test]
fn a_changed_share_is_another_canary() {
    let mut canaries = Canaries::default();
    begin(&mut canaries, &table(1, 1, HALF), 0, 0);
    assert_eq!(look(&mut canaries, &table(1, 1, HALF), 1, 0).len(), 1);
    let back = table(1, 1, Some([50, 0]));
    assert!(!canaries.differ(&back), "it was let go when it ended");
    canaries.tidy(&back);
    let status = &canaries.status(&back)[0];
    let told = status.canary.clone().unwrap();
    assert_eq!((told.asked.as_str(), told.in_force.as_str(), told.share, told.rollbacks), ("50%", "0%", 0.0, 1));
    assert!(told.rolled_back.unwrap().starts_with("its breaker opened"));

    let again = table(1, 1, Some([51, 51]));
    assert!(canaries.differ(&again));
    begin(&mut canaries, &again, 1, 0);
    assert!(look(&mut canaries, &again, 1, 0).is_empty());
    let told = canaries.status(&again)[0].canary.clone().unwrap();
    assert_eq!((told.rolled_back, told.rollbacks), (None, 1));
    begin(&mut canaries, &Table::default(), 1, 0);
    assert!(canaries.status(&Table::default()).is_empty() && canaries.rollbacks.is_empty());
}

/// A table that was made before the rollback was planned: it is still in force there, and not rolled back a second time.
#[test]
fn a_rollback_that_is_to_come_is_told_once() {
    let (mut canaries, before) = (Canaries::default(), table(1, 1, HALF));
    begin(&mut canaries, &before, 0, 0);
    assert_eq!(look(&mut canaries, &before, 1, 6).len(), 1);
    begin(&mut canaries, &before, 1, 6);
    assert_eq!(look(&mut canaries, &before, 2, 99), []);
    assert_eq!(canaries.status(&before)[0].canary.clone().unwrap().rolled_back, None, "not yet");
    let after = table(1, 1, Some([50, 0]));
    begin(&mut canaries, &after, 2, 99);
    let told = canaries.status(&after)[0].canary.clone().unwrap();
    assert_eq!((told.rolled_back.as_deref(), told.rollbacks), (Some("its breaker opened (answered 30, trap 6)"), 1));
}

#[test]
fn another_version_or_comparison_is_another_canary() {
    let mut canaries = Canaries::default();
    begin(&mut canaries, &table(1, 1, HALF), 0, 0);
    assert!(canaries.differ(&table(2, 1, HALF)) && canaries.differ(&table(1, 2, HALF)));
    begin(&mut canaries, &table(2, 2, HALF), 7, 7);
    assert!(look(&mut canaries, &table(2, 2, HALF), 9, 7).is_empty(), "version 1 may do what it likes");
}
