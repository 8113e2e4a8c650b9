//! Who decides where a balancer is tried: the one in force for everybody, the candidate for its own clients, and nobody's failure is a
//! connection's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::tests::{port as plain, version};
use super::super::{Decision, Fate, HashKey, Reason, Shadowed, connection, decide, retry};
use super::*;
use crate::policy::contract::{Connection, Verdict};
use crate::table::{Canary, FrontendKind, Origin, Planned, Port, Share, VersionId};

const CANDIDATE: VersionId = VersionId(7);

type Answer = Result<Option<Slot>, Fault>;

/// Answers of the balancer in force (and of its stand-in), and of the candidate; 1, and 2, where none is left.
#[derive(Default)]
struct Script {
    balancer: VecDeque<Answer>,
    candidate: VecDeque<Answer>,
    asked: Vec<&'static str>,
    blamed: Vec<&'static str>,
    fuel: u64,
}

impl Decider for Script {
    fn choose_group(&mut self, _: VersionId, _: &Connection) -> Result<Option<u32>, Fault> {
        Ok(None)
    }

    fn choose_subset(&mut self, _: VersionId, _: &Connection, _: Option<u32>) -> Result<Verdict, Fault> {
        Ok(Verdict::Forward(0))
    }

    fn pick(&mut self, version: VersionId, _: &Connection, _: u32) -> Answer {
        self.asked.push(if version == VersionId(1) { "stand-in" } else { "balancer" });
        self.fuel = 10;
        self.balancer.pop_front().unwrap_or(Ok(Some(1)))
    }

    fn blame(&mut self, _: VersionId, _: &Fault) {
        self.blamed.push("balancer");
    }

    fn pick_as_candidate(&mut self, version: VersionId, _: &Connection, _: u32) -> Answer {
        assert_eq!(version, CANDIDATE);
        self.asked.push("candidate");
        self.fuel = 20;
        self.candidate.pop_front().unwrap_or(Ok(Some(2)))
    }

    fn blame_candidate(&mut self, version: VersionId, _: &Fault) {
        assert_eq!(version, CANDIDATE);
        self.blamed.push("candidate");
    }

    fn fuel(&self) -> u64 {
        self.fuel
    }
}

/// Three endpoints, and a candidate that is in charge of this share.
fn port(share: Option<u32>) -> Port {
    let share = share.map(Share::of_millionths);
    let shadow = Shadow {
        name: "maglev".into(),
        planned: Some(Planned { version: version(CANDIDATE, "maglev"), plan: Arc::from([Arc::from([]), Arc::from([])]) }),
        since: 1,
        canary: share.map(|share| Canary { asked: share, in_force: share, salt: 3 }),
    };
    Port { shadow: Some(Box::new(shadow)), ..plain() }
}

const ALL: Option<u32> = Some(Share::WHOLE);

fn from(client: u32) -> Connection {
    let client = std::net::SocketAddr::from((std::net::Ipv4Addr::from(0xc000_0200 + client), 5000));
    connection(0, client, FrontendKind::ClusterIp, Origin::Outside, HashKey::PUBLIC, 0, 7 << 60)
}

fn decided(port: &Port, script: &mut Script) -> Decision {
    decide(port, script, &from(1), None)
}

#[test]
fn a_shadow_is_asked_and_not_believed() {
    let mut script = Script::default();
    let decision = decided(&port(None), &mut script);
    assert_eq!((decision.fate, &decision.balancer), (Fate::Forward(1), &By::Current));
    assert_eq!(script.asked, ["candidate", "balancer"]);
    let shadow = decision.shadow.unwrap();
    assert_eq!(*shadow, Shadowed { canary: false, candidate: Ok(2), balancer: Ok(1), fuel: [10, 20] });
    assert_eq!((shadow.moved(), shadow.failed_client()), (Some(true), false));
    assert_eq!(decided(&plain(), &mut Script::default()).shadow, None);
}

#[test]
fn a_canary_client_goes_where_the_candidate_says() {
    let mut script = Script::default();
    let decision = decided(&port(ALL), &mut script);
    assert_eq!((decision.fate, &decision.balancer), (Fate::Forward(2), &By::Canary));
    assert_eq!(script.asked, ["candidate", "balancer"], "the one in force is asked too, so that the two can be compared");
    assert!(decision.shadow.unwrap().canary);
    assert_eq!(decided(&port(Some(0)), &mut Script::default()).fate, Fate::Forward(1), "0% is nobody");
}

/// What became of the candidate never reaches the connection: the chain behind it is what it was.
#[test]
fn a_candidate_that_fails_leaves_the_one_in_force_and_those_behind_it() {
    for share in [None, Some(0), ALL] {
        for answer in [Err(Fault::Deadline), Err(Fault::NotAsked("its breaker is open")), Ok(None), Ok(Some(3)), Ok(Some(u32::MAX))] {
            let mut script = Script { candidate: [answer.clone()].into(), ..Script::default() };
            let decision = decided(&port(share), &mut script);
            assert_eq!((decision.fate, &decision.balancer), (Fate::Forward(1), &By::Current), "{answer:?}");
            let out_of_range = matches!(answer, Ok(Some(_)));
            assert_eq!(script.blamed, if out_of_range { vec!["candidate"] } else { vec![] }, "{answer:?}");
            let shadow = decision.shadow.unwrap();
            assert_eq!((shadow.moved(), shadow.failed_client()), (None, share == ALL), "{answer:?}");
            if matches!(answer, Err(Fault::NotAsked(_))) {
                assert_eq!(shadow.fuel, [10, 0], "who was not asked used nothing");
            }
        }
        // Everybody fails: stand-in, then the host.
        let fault = || Err(Fault::OutOfFuel);
        let mut script = Script { candidate: [fault()].into(), balancer: [fault(), Ok(Some(0))].into(), ..Script::default() };
        let decision = decided(&port(share), &mut script);
        assert_eq!((decision.fate, decision.balancer), (Fate::Forward(0), By::StandIn(Box::new(Fault::OutOfFuel))));
        assert_eq!(decision.shadow.unwrap().balancer, Err(Box::new(Fault::OutOfFuel)), "what stood in is not held for the balancer's own");
        let mut script = Script { candidate: [fault()].into(), balancer: [fault(), fault()].into(), ..Script::default() };
        assert!(matches!(decided(&port(share), &mut script).balancer, By::Fallback(_)));
    }
}

#[test]
fn a_candidate_that_could_not_plan_is_not_asked() {
    let mut port = port(ALL);
    port.shadow.as_mut().unwrap().planned = None;
    let mut script = Script::default();
    let decision = decided(&port, &mut script);
    assert_eq!((decision.fate, script.asked), (Fate::Forward(1), vec!["balancer"]));
    assert_eq!(decision.shadow.unwrap().candidate, Err(Box::new(Fault::NotAsked("it could not plan"))));
}

#[test]
fn on_failure_refuse_asks_only_whether_somebody_could_decide() {
    let mut port = port(ALL);
    port.options.refuse_on_failure = true;
    port.balancer.stand_in = None;
    let fault = || Err(Fault::Deadline);
    let mut script = Script { balancer: [fault()].into(), ..Script::default() };
    assert_eq!(decided(&port, &mut script).fate, Fate::Forward(2), "the candidate decided");
    let mut script = Script { candidate: [fault()].into(), ..Script::default() };
    assert_eq!(decided(&port, &mut script).fate, Fate::Forward(1), "the balancer in force decided");
    let mut script = Script { candidate: [fault()].into(), balancer: [fault()].into(), ..Script::default() };
    assert_eq!(decided(&port, &mut script).fate, Fate::Reject(Reason::OnFailure));
}

#[test]
fn a_retry_is_put_to_who_is_in_charge() {
    for (share, asked) in [(ALL, "candidate"), (None, "balancer")] {
        let port = port(share);
        let mut script = Script::default();
        let mut decision = decided(&port, &mut script);
        let told = decision.shadow.clone();
        script.asked.clear();
        let Fate::Forward(first) = decision.fate else { panic!("{decision:?}") };
        let next = Connection { attempt: 1, ..from(1) };
        retry(&port, &mut script, &next, &mut decision, &[first]);
        assert_eq!(script.asked, [asked]);
        assert!(matches!(decision.fate, Fate::Forward(slot) if slot != first));
        assert_eq!(decision.shadow, told, "what was compared is the first answer");
        // It fails: the one in force takes over.
        script.candidate = [Err(Fault::Deadline)].into();
        let last = Connection { attempt: 2, ..from(1) };
        retry(&port, &mut script, &last, &mut decision, &[first]);
        assert_eq!(decision.balancer, By::Current);
    }
}

#[test]
fn who_is_pinned_or_refused_is_not_compared() {
    let port = port(ALL);
    let mut script = Script::default();
    let decision = decide(&port, &mut script, &from(1), Some(0));
    assert_eq!((decision.fate, decision.shadow, script.asked), (Fate::Forward(0), None, vec![]));
}

/// A masked endpoint is an honest answer of either, and used of neither.
#[test]
fn what_has_just_left_is_not_used() {
    let mut port = port(ALL);
    port.masked = [2].into();
    let decision = decided(&port, &mut Script::default());
    assert!(matches!(decision.fate, Fate::Forward(0 | 1)));
    assert_eq!(decision.shadow.unwrap().candidate, Ok(2));
}

#[test]
fn the_clients_of_a_share_stay_when_it_grows() {
    let mut before: Vec<u32> = Vec::new();
    for share in [0, 50_000, 200_000, 500_000, Share::WHOLE] {
        let port = port(Some(share));
        let is_canary = |client: &u32| decide(&port, &mut Script::default(), &from(*client), None).balancer == By::Canary;
        let now: Vec<u32> = (0..1_000).filter(is_canary).collect();
        assert!(before.iter().all(|client| now.contains(client)));
        let expected = share as usize / 1_000;
        assert!(now.len().abs_diff(expected) <= 65, "{} of {expected}", now.len());
        before = now;
    }
}
