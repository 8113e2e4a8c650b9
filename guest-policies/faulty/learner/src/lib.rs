//! For tests: a balancer that learns. It picks the first endpoint by key whose last connection did not fail; when all failed, the
//! first.

use std::collections::BTreeSet;

use pointsman_sdk::order::eligible;
use pointsman_sdk::prelude::*;

/// The policy `learner`.
#[derive(Debug)]
pub struct Learner {
    failed: BTreeSet<u64>,
}

impl Balancer for Learner {
    /// Hash and slot, by key.
    type Plan = Vec<(u64, Slot)>;

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self { failed: BTreeSet::new() })
    }

    fn plan(&mut self, _port: &ServicePort, members: &[Endpoint]) -> Result<Self::Plan, String> {
        let members = eligible(members);
        Ok(members.iter().map(|endpoint| (endpoint.hash, endpoint.slot)).collect())
    }

    fn pick(&mut self, plan: &mut Self::Plan, _connection: &Connection, _load: &impl Load) -> Option<Slot> {
        let good = plan.iter().find(|(hash, _)| !self.failed.contains(hash));
        good.or(plan.first()).map(|(_, slot)| *slot)
    }
}

impl LearningBalancer for Learner {
    fn report(&mut self, _now_ms: u64, outcomes: &[Outcome]) {
        for outcome in outcomes {
            match outcome.kind {
                OutcomeKind::Refused | OutcomeKind::TimedOut => self.failed.insert(outcome.endpoint),
                _ => self.failed.remove(&outcome.endpoint),
            };
        }
    }
}

pointsman_sdk::export_learning_balancer!(Learner);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use pointsman_sdk::native::{NativeBalancer, connection, endpoints, port};

    #[test]
    fn it_learns_and_forgives() {
        let members = endpoints(&[1, 1]);
        let mut balancer = NativeBalancer::<Learner>::new(&[], 0).unwrap();
        balancer.plan(&port(0), 0, &members).unwrap();
        let report = |kind| [Outcome { service: 0, endpoint: members[0].hash, kind, millis: 1 }];
        assert_eq!(balancer.pick(&connection(0, 0), 0, &Idle), Some(0));
        balancer.report(1, &report(OutcomeKind::Refused));
        assert_eq!(balancer.pick(&connection(0, 1), 0, &Idle), Some(1));
        balancer.report(2, &report(OutcomeKind::Connected));
        assert_eq!(balancer.pick(&connection(0, 2), 0, &Idle), Some(0));
    }
}
