//! Traffic policies and selectors that do one thing wrong, and the law that each breaks.
#![allow(clippy::unwrap_used, reason = "a test may end at once")]

use pointsman_sdk::types::{Connection, Endpoint, Label, Locality, Setting, Slot, Verdict as Answered};

use super::super::*;
use crate::policy::contract::Fault;
use crate::workbench::subject::Subject;

/// A traffic policy in a few lines: subset 0 is what it plans; a choice that fails refuses.
struct WrongTraffic {
    plan: fn(&[Endpoint], u64) -> Vec<Slot>,
    choose: fn(&Connection) -> Result<Verdict, Fault>,
    plans: u64,
}

impl TrafficPolicy for WrongTraffic {
    fn plan(&mut self, endpoints: &[Endpoint]) -> Result<Vec<Vec<Slot>>, Fault> {
        self.plans = MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(vec![(self.plan)(endpoints, self.plans)])
    }

    fn choose(&mut self, connection: &Connection) -> Result<Answered, Fault> {
        (self.choose)(connection).map(|verdict| if verdict == Verdict::Holds { Answered::Forward(0) } else { Answered::Reject })
    }
}

/// Plans that were made: an instance that differs from its twin needs something of its own.
static MADE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

fn ready(endpoints: &[Endpoint]) -> Vec<Slot> {
    endpoints.iter().filter(|endpoint| endpoint.conditions.ready).map(|endpoint| endpoint.slot).collect()
}

type WrongPlan = fn(&[Endpoint], u64) -> Vec<Slot>;
type WrongChoice = fn(&Connection) -> Result<Verdict, Fault>;

const ALWAYS: WrongChoice = |_| Ok(Verdict::Holds);

const BROKEN_TRAFFIC: &[(Class, &str, WrongPlan, WrongChoice)] = &[
    (
        Class::All,
        "no fault on hostile input",
        |e, _| ready(e),
        |c| if c.client_hash == u64::MAX { Err(Fault::Trap(String::new())) } else { Ok(Verdict::Holds) },
    ),
    (Class::All, "the same calls, the same answers", |e, n| e.iter().map(|e| e.slot).skip(n as usize % 2).collect(), ALWAYS),
    (Class::All, "the order of the listing does not matter", |e, _| e.iter().take(3).map(|e| e.slot).collect(), ALWAYS),
    (Class::All, "nobody is refused while an endpoint is ready", |e, _| ready(e), |_| Ok(Verdict::Fails)),
    (Class::All, "no endpoint that is not ready, while one is", |e, _| e.iter().map(|e| e.slot).collect(), ALWAYS),
    (Class::Locality, "this node's endpoints alone, while one is ready", |e, _| ready(e), ALWAYS),
    (Class::Locality, "the others, when none of this node is ready", |e, _| e.iter().filter(|e| e.local).map(|e| e.slot).collect(), ALWAYS),
    (Class::Zone, "this zone's endpoints alone, while nine of ten are ready", |e, _| ready(e), ALWAYS),
    // Spills as soon as one of the zone is not ready.
    (
        Class::Zone,
        "this zone's endpoints alone, while nine of ten are ready",
        |e, _| {
            let here: Vec<&Endpoint> = e.iter().filter(|e| e.zone.as_deref() == Some("zone-1")).collect();
            if here.iter().all(|e| e.conditions.ready) { here.iter().map(|e| e.slot).collect() } else { ready(e) }
        },
        ALWAYS,
    ),
    (Class::ServicePolicy, "`Cluster`: every endpoint that is ready", |e, _| ready(e).into_iter().skip(1).collect(), ALWAYS),
    (Class::ServicePolicy, "`Local`: this node's endpoints alone, and nobody where none is", |e, _| ready(e), ALWAYS),
    // Elsewhere, where nobody is here.
    (
        Class::ServicePolicy,
        "`Local`: this node's endpoints alone, and nobody where none is",
        |e, _| {
            let here: Vec<Slot> = e.iter().filter(|e| e.local && e.conditions.ready).map(|e| e.slot).collect();
            if here.is_empty() { ready(e) } else { here }
        },
        ALWAYS,
    ),
    (
        Class::Zone,
        "a zone that is short of endpoints is not overloaded",
        |e, _| e.iter().filter(|e| e.conditions.ready && e.zone.as_deref() == Some("zone-1")).map(|e| e.slot).collect(),
        ALWAYS,
    ),
];

#[test]
fn each_law_of_traffic_policies_finds_what_breaks_it() {
    for (class, law, plan, choose) in BROKEN_TRAFFIC {
        let mut unused = |_: usize, _: u64| -> Result<Box<dyn Subject>, String> { Err("no balancer".to_owned()) };
        let mut lab = Lab::new(&mut unused, 7, Bounds::default());
        let mut make = |_: Locality| -> Result<Box<dyn TrafficPolicy>, Fault> {
            Ok(Box::new(WrongTraffic { plan: *plan, choose: *choose, plans: 0 }))
        };
        let cases = check_traffic_policy(&[*class], &mut make, &mut lab);
        let case = cases.iter().find(|case| case.name == *law).unwrap_or_else(|| panic!("no law {law:?} of {class}"));
        assert_eq!(case.verdict, Verdict::Fails, "{law}");
    }
    let unbroken: Vec<_> =
        stages::names().into_iter().filter(|name| !BROKEN_TRAFFIC.iter().any(|(c, law, ..)| (*c, *law) == *name)).collect();
    assert_eq!(unbroken, []);
}

/// A selector whose groups are numbers that a function makes of what it is asked.
struct WrongSelector {
    classify: Classify,
    choose: Choose,
    made: u64,
    /// Of the setting `share`.
    percent: u64,
}

type Classify = fn(&[Label], u64) -> Result<Option<u32>, Fault>;
type Choose = fn(&Connection, u64) -> Option<u32>;

impl Selector for WrongSelector {
    fn plan(&mut self) -> Result<Vec<String>, Fault> {
        self.made = MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(["one", "other"].map(String::from).into())
    }

    fn classify(&mut self, labels: &[Label]) -> Result<Option<u32>, Fault> {
        (self.classify)(labels, self.made)
    }

    fn choose(&mut self, connection: &Connection) -> Result<Option<u32>, Fault> {
        Ok((self.choose)(connection, self.percent))
    }
}

/// Group 1: those with the label `track`.
const BY_TRACK: Classify = |labels, _| Ok(Some(u32::from(labels.iter().any(|label| label.key == "track"))));

const BROKEN_SELECTORS: &[(Class, &str, Classify, Choose)] = &[
    (
        Class::All,
        "no fault on hostile input",
        |labels, _| if labels.len() > 100 { Err(Fault::Trap(String::new())) } else { Ok(None) },
        |_, _| None,
    ),
    (Class::All, "the same calls, the same answers", |_, made| Ok(Some(made as u32 % 2)), |_, _| None),
    (
        Class::All,
        "the order of labels does not matter",
        |labels, _| Ok(labels.first().map(|label| u32::from(label.key == "app"))),
        |_, _| None,
    ),
    (Class::All, "a client stays in its group", |_, _| Ok(None), |connection, _| Some(connection.random as u32 % 2)),
    (Class::Match, "the pods with all labels of the selector, and no other", BY_TRACK, |_, _| None),
    (Class::Match, "the pods with all labels of the selector, and no other", |_, _| Ok(None), |_, _| None),
    // Half as many again.
    (Class::Share, "as many clients as are asked for, but for chance", BY_TRACK, |c, percent| {
        Some(u32::from(c.client_hash % 200 < percent * 3))
    }),
    // The same number, but others each time.
    (Class::Share, "who is among few is among more", BY_TRACK, |c, percent| {
        Some(u32::from((c.client_hash ^ percent.wrapping_mul(0x9e37_79b9_7f4a_7c15)) % 100 < percent))
    }),
];

#[test]
fn each_law_of_selectors_finds_what_breaks_it() {
    for (class, law, classify, choose) in BROKEN_SELECTORS {
        let mut unused = |_: usize, _: u64| -> Result<Box<dyn Subject>, String> { Err("no balancer".to_owned()) };
        let mut lab = Lab::new(&mut unused, 7, Bounds::default());
        let mut make = |settings: &[Setting]| -> Result<Box<dyn Selector>, Fault> {
            let percent = settings
                .iter()
                .find(|setting| setting.key == "share")
                .map_or(0, |share| share.value.trim_end_matches('%').parse().unwrap());
            Ok(Box::new(WrongSelector { classify: *classify, choose: *choose, made: 0, percent }))
        };
        let cases = check_selector(&[*class], &mut make, &mut lab);
        let case = cases.iter().find(|case| case.name == *law).unwrap_or_else(|| panic!("no law {law:?}"));
        assert_eq!(case.verdict, Verdict::Fails, "{law}");
    }
    let names = selectors::names();
    let unbroken: Vec<_> = names.into_iter().filter(|name| !BROKEN_SELECTORS.iter().any(|(c, law, ..)| (*c, *law) == *name)).collect();
    assert_eq!(unbroken, []);
}
