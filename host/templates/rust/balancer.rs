//! A share of the clients goes to the endpoints labelled `track=canary`, everybody else by weight to the others.
//!
//! The setting `canary-share` says how many: a whole percentage, `10%` unless the Service has the annotation
//! `pointsman.dev/balancer.canary-share`. A client that got a canary gets one again, since its address decides. Where one side has
//! nobody to serve, the other side serves all.

use pointsman_sdk::order::eligible;
use pointsman_sdk::prelude::*;
use pointsman_sdk::readiness::available;
use serde::{Deserialize, Serialize};

/// The policy.
#[derive(Debug)]
pub struct WeightedCanary;

/// A candidate set, as workers need it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// In percent.
    canary_share: u64,
    canaries: Group,
    stable: Group,
}

/// Endpoints to draw from: each with the sum of the weights up to and with it.
#[derive(Debug, Serialize, Deserialize)]
struct Group(Vec<(u64, Slot)>);

impl Balancer for WeightedCanary {
    type Plan = Plan;

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&mut self, port: &ServicePort, members: &[Endpoint]) -> Result<Plan, String> {
        let canary_share = percentage(port.setting("canary-share").unwrap_or("10%"))?;
        // Sorted by key, so that a plan does not depend on who listed the endpoints.
        let members = available(eligible(members).into_iter());
        let (canaries, stable): (Vec<_>, Vec<_>) = members.into_iter().partition(|endpoint| is_canary(endpoint));
        Ok(Plan { canary_share, canaries: Group::new(&canaries), stable: Group::new(&stable) })
    }

    fn pick(&mut self, plan: &mut Plan, connection: &Connection, _load: &impl Load) -> Option<Slot> {
        let canary = connection.client_hash % 100 < plan.canary_share;
        let (first, other) = if canary { (&plan.canaries, &plan.stable) } else { (&plan.stable, &plan.canaries) };
        first.draw(connection.random).or_else(|| other.draw(connection.random))
    }
}

impl Group {
    fn new(members: &[&Endpoint]) -> Self {
        let mut sum = 0;
        let add = |endpoint: &&Endpoint| {
            sum += u64::from(endpoint.weight);
            (sum, endpoint.slot)
        };
        Self(members.iter().map(add).collect())
    }

    fn draw(&self, random: u64) -> Option<Slot> {
        let point = random % self.0.last()?.0;
        self.0.get(self.0.partition_point(|(sum, _)| *sum <= point)).map(|(_, slot)| *slot)
    }
}

fn is_canary(endpoint: &Endpoint) -> bool {
    endpoint.labels.iter().any(|label| label.key == "track" && label.value == "canary")
}

fn percentage(text: &str) -> Result<u64, String> {
    let digits = text.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let share = digits.and_then(|digits| digits.parse().ok()).filter(|share| *share <= 100);
    share.ok_or_else(|| format!("canary-share is `{text}`; it must be a whole percentage from `0%` to `100%`"))
}

pointsman_sdk::export_balancer!(WeightedCanary);

#[cfg(test)]
mod tests {
    use pointsman_sdk::native::{self, NativeBalancer};

    use super::*;

    /// Stable endpoints with these weights, then canaries with those.
    fn endpoints(stable: &[u32], canaries: &[u32]) -> Vec<Endpoint> {
        let mut endpoints = native::endpoints(&[stable, canaries].concat());
        for canary in &mut endpoints[stable.len()..] {
            canary.labels.push(Label { key: "track".to_owned(), value: "canary".to_owned() });
        }
        endpoints
    }

    /// How often each endpoint is picked for 20,000 clients.
    fn counts(share: Option<&str>, members: &[Endpoint]) -> Vec<u32> {
        let mut policy = NativeBalancer::<WeightedCanary>::new(&[], 7).unwrap();
        let mut port = native::port(0);
        port.settings.extend(share.map(|share| native::setting("canary-share", share)));
        policy.plan(&port, 0, members).unwrap();
        let mut counts = vec![0; members.len()];
        for n in 0..20_000 {
            let slot = policy.pick(&native::connection(0, n), 0, &Idle).unwrap();
            counts[slot as usize] += 1;
        }
        counts
    }

    #[test]
    fn a_tenth_of_the_clients_go_to_the_canary_and_the_rest_by_weight() {
        let counts = counts(None, &endpoints(&[1, 3], &[1]));
        for (count, expected) in counts.iter().zip([4_500_u32, 13_500, 2_000]) {
            assert!(count.abs_diff(expected) < 400, "{counts:?}");
        }
    }

    #[test]
    fn one_side_serves_all_when_the_other_has_nobody() {
        let mut members = endpoints(&[1], &[1, 0]);
        members[1].conditions = Conditions { ready: false, serving: false, terminating: false };
        assert_eq!(counts(None, &members), [20_000, 0, 0]);
        assert_eq!(counts(Some("0%"), &endpoints(&[0], &[1])), [0, 20_000]);
    }

    #[test]
    fn a_client_stays_where_it_is() {
        let mut policy = NativeBalancer::<WeightedCanary>::new(&[], 7).unwrap();
        policy.plan(&native::port(0), 0, &endpoints(&[1], &[1])).unwrap();
        for n in 0..1_000 {
            let first = native::connection(0, n);
            let again = Connection { random: !first.random, client_port: 1, ..first };
            assert_eq!(policy.pick(&first, 0, &Idle), policy.pick(&again, 0, &Idle));
        }
    }

    #[test]
    fn what_is_no_percentage_is_refused() {
        for text in ["lots", "10", "101%", "-1%", "+1%", "%", ""] {
            assert!(percentage(text).unwrap_err().starts_with(&format!("canary-share is `{text}`")));
        }
        assert_eq!(percentage("100%"), Ok(100));
    }
}
