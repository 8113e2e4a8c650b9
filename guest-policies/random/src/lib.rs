//! At random, by weight: every worker alike, nothing to remember, two loads and a comparison a pick.

use pointsman_sdk::order::eligible;
use pointsman_sdk::prelude::*;
use pointsman_sdk::weighted::Weighted;
use serde::{Deserialize, Serialize};

/// The policy `random`.
#[derive(Debug)]
pub struct Random;

/// A candidate set to draw from.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    slots: Packed<Slot>,
    weighted: Weighted,
}

impl Balancer for Random {
    type Plan = Plan;

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&mut self, _port: &ServicePort, members: &[Endpoint]) -> Result<Plan, String> {
        let members = eligible(members);
        let weights: Vec<u32> = members.iter().map(|endpoint| endpoint.weight).collect();
        Ok(Plan { slots: members.iter().map(|endpoint| endpoint.slot).collect(), weighted: Weighted::new(&weights) })
    }

    fn pick(&mut self, plan: &mut Plan, connection: &Connection, _load: &impl Load) -> Option<Slot> {
        plan.slots.at(plan.weighted.draw(connection.random))
    }
}

pointsman_sdk::export_balancer!(Random);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use pointsman_sdk::native::{NativeBalancer, connection, endpoints, port};

    fn balancer(members: &[Endpoint]) -> NativeBalancer<Random> {
        let mut balancer = NativeBalancer::new(&[], 0).unwrap();
        balancer.plan(&port(0), 0, members).unwrap();
        balancer
    }

    #[test]
    fn shares_follow_the_weights() {
        let weights = [5, 1, 0, 4];
        let mut it = balancer(&endpoints(&weights));
        let mut counts = [0f64; 4];
        (0..100_000).for_each(|n| counts[it.pick(&connection(0, n), 0, &Idle).unwrap() as usize] += 1.0);
        assert_eq!(counts[2], 0.0);
        let expected = weights.map(|weight| 10_000.0 * f64::from(weight));
        let chi_square: f64 = [0, 1, 3].iter().map(|&i| (counts[i] - expected[i]).powi(2) / expected[i]).sum();
        assert!(chi_square < 13.8, "two degrees of freedom, p = 0.001: {chi_square} of {counts:?}");
    }

    #[test]
    fn nobody_to_pick() {
        assert_eq!(balancer(&endpoints(&[0])).pick(&connection(0, 0), 0, &Idle), None);
        assert_eq!(balancer(&[]).pick(&connection(0, 0), 0, &Idle), None);
    }

    #[test]
    fn the_order_of_listing_and_the_scale_of_weights_do_not_matter() {
        let mut listed = endpoints(&[2, 4, 6]);
        let (mut one, mut scaled) = (balancer(&listed), balancer(&endpoints(&[1, 2, 3])));
        listed.reverse();
        let mut other = balancer(&listed);
        for n in 0..1000 {
            let pick = one.pick(&connection(0, n), 0, &Idle);
            assert_eq!((other.pick(&connection(0, n), 0, &Idle), scaled.pick(&connection(0, n), 0, &Idle)), (pick, pick));
        }
    }
}
