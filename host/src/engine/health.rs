//! Tells people when a policy begins to fail, when it is no longer asked, and when it is well again. Counters say how much; this says
//! that there is something to look at.

use std::collections::BTreeMap;

use super::report;
use crate::admin::{EventLog, Severity};
use crate::policy::breaker::BreakerState;
use crate::policy::counters::{FAULT_CLASSES, PolicyCounters};
use crate::table::VersionId;

/// What was seen of each version last time.
#[derive(Default)]
pub(super) struct Health(BTreeMap<Seat, State>);

/// A version, and whether it is tried rather than in force.
type Seat = (VersionId, bool);

#[derive(Default)]
struct State {
    faults: u64,
    breaker: BreakerState,
    /// It was told that the version fails; told again only after it was well.
    failing: bool,
    /// Looks without a new fault.
    quiet: u32,
}

/// Looks without a new fault, with the breaker closed, after which a version counts as well again.
const QUIET_LOOKS: u32 = 30;

impl Health {
    /// Compares with the last look, and tells what is new. `counters`: one list a worker.
    pub(super) fn look(&mut self, counters: &[Vec<PolicyCounters>], events: &EventLog) {
        let mut versions: BTreeMap<Seat, PolicyCounters> = BTreeMap::new();
        for counter in counters.iter().flatten() {
            versions.entry((counter.version.id, counter.candidate)).and_modify(|sum| sum.merge(counter)).or_insert_with(|| counter.clone());
        }
        self.0.retain(|version, _| versions.contains_key(version));
        for (id, counter) in versions {
            for (severity, message) in self.0.entry(id).or_default().step(&counter) {
                report::notice(events, severity, format!("{} \"{}\" {message}", counter.stage.name(), counter.version.name), None);
            }
        }
    }
}

impl State {
    fn step(&mut self, counter: &PolicyCounters) -> Vec<(Severity, String)> {
        let faults = counter.faults_total();
        let mut news = vec![];
        if faults > self.faults && !self.failing {
            self.failing = true;
            let classes = FAULT_CLASSES.iter().zip(counter.faults).filter(|(_, count)| *count > 0);
            let classes: Vec<String> = classes.map(|(class, count)| format!("{class} {count}")).collect();
            let instead = match counter.candidate {
                false => "its connections are decided by the version before it, or else by the host",
                true => "it is tried only: the balancer in force decides",
            };
            news.push((Severity::Warning, format!("({}) fails: {}; {instead}", counter.version.digest, classes.join(", "))));
        }
        if counter.breaker != self.breaker {
            news.extend(match counter.breaker {
                BreakerState::Open => Some((Severity::Warning, "is not asked for now: it failed too often, or took too long".to_owned())),
                BreakerState::HalfOpen => None,
                BreakerState::Closed => Some((Severity::Info, "is asked again".to_owned())),
            });
        }
        let quiet = faults == self.faults && counter.breaker == BreakerState::Closed;
        self.quiet = if quiet { self.quiet + 1 } else { 0 };
        if self.quiet >= QUIET_LOOKS {
            self.failing = false;
        }
        (self.faults, self.breaker) = (faults, counter.breaker);
        news
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::contract::StageKind;
    use crate::table::PolicyVersion;

    fn told(state: &mut State, traps: u64, not_asked: u64, breaker: BreakerState) -> Vec<String> {
        let version = PolicyVersion { id: VersionId(1), name: "mine".into(), digest: "sha256:0".into() };
        let mut counter = PolicyCounters::new(Arc::new(version), StageKind::Balancer);
        counter.faults[0] = traps;
        counter.faults[6] = not_asked;
        counter.breaker = breaker;
        state.step(&counter).into_iter().map(|(_, message)| message).collect()
    }

    #[test]
    fn a_failing_policy_is_told_once_and_its_breaker_each_time() {
        let mut state = State::default();
        assert!(told(&mut state, 0, 0, BreakerState::Closed).is_empty());
        let first = told(&mut state, 3, 0, BreakerState::Closed);
        assert!(first[0].contains("fails: trap 3"), "{first:?}");
        assert!(told(&mut state, 9, 5, BreakerState::Closed).is_empty(), "once");
        assert!(told(&mut state, 9, 50, BreakerState::Open)[0].contains("not asked for now"));
        assert!(told(&mut state, 9, 50, BreakerState::HalfOpen).is_empty());
        assert_eq!(told(&mut state, 9, 50, BreakerState::Closed), ["is asked again"]);
        for _ in 0..QUIET_LOOKS {
            assert!(told(&mut state, 9, 60, BreakerState::Closed).is_empty(), "not being asked is no failure");
        }
        assert!(told(&mut state, 10, 60, BreakerState::Closed)[0].contains("fails"), "after it was well, it is told again");
    }
}
