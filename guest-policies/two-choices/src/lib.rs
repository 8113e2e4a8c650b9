//! The less loaded of two endpoints drawn at random (Azar et al. 1994; Mitzenmacher 1996), with replacement, as Envoy and gRPC
//! draw them. Two counters a pick whatever the number of endpoints, and no herd when they are stale: a newcomer that everyone sees
//! idle is still drawn only as often as any other.
//!
//! Endpoints are drawn by weight and compared by live connections for their weight, so equal load means loads in proportion to
//! the weights. (Envoy leaves two choices when weights differ, and draws by weight / (active + 1) among all.)

use pointsman_sdk::hash::{below, mix};
use pointsman_sdk::order::eligible;
use pointsman_sdk::prelude::*;
use pointsman_sdk::weighted::Weighted;
use serde::{Deserialize, Serialize};

/// The policy `two-choices`.
#[derive(Debug)]
pub struct TwoChoices;

/// A candidate set to draw from.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    slots: Packed<Slot>,
    /// By the same index as `slots`. Empty where all weights are equal: then they decide nothing.
    weights: Packed<u32>,
    weighted: Weighted,
}

impl Balancer for TwoChoices {
    type Plan = Plan;

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&mut self, _port: &ServicePort, members: &[Endpoint]) -> Result<Plan, String> {
        let members = eligible(members);
        let weights: Vec<u32> = members.iter().map(|endpoint| endpoint.weight).collect();
        let slots = members.iter().map(|endpoint| endpoint.slot).collect();
        let weighted = Weighted::new(&weights);
        let weights = if weighted.is_uniform() { Packed::default() } else { weights.into_iter().collect() };
        Ok(Plan { slots, weights, weighted })
    }

    fn pick(&mut self, plan: &mut Plan, connection: &Connection, load: &impl Load) -> Option<Slot> {
        let bits = connection.random;
        let (one, other) = if plan.weighted.is_uniform() {
            // Half of the bits is enough for each, where no coin has to be tossed besides.
            let len = plan.slots.len() as u32;
            (below(bits as u32, len) as usize, below((bits >> 32) as u32, len) as usize)
        } else {
            (plan.weighted.draw(bits), plan.weighted.draw(mix(bits)))
        };
        let slot = plan.slots.at(one)?;
        if one == other {
            return Some(slot);
        }
        let other_slot = plan.slots.at(other)?;
        let (active, other_active) = load.active_pair(connection.service, slot, other_slot);
        let less = match (plan.weights.at(one), plan.weights.at(other)) {
            // active / weight, without the division; the first of the two on a tie.
            (Some(weight), Some(other_weight)) => u64::from(other_active) * u64::from(weight) < u64::from(active) * u64::from(other_weight),
            _ => other_active < active,
        };
        Some(if less { other_slot } else { slot })
    }
}

pointsman_sdk::export_balancer!(TwoChoices);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use pointsman_sdk::native::{NativeBalancer, connection, endpoints, port};
    use std::cell::Cell;

    fn balancer(weights: &[u32]) -> NativeBalancer<TwoChoices> {
        let mut balancer = NativeBalancer::new(&[], 0).unwrap();
        balancer.plan(&port(0), 0, &endpoints(weights)).unwrap();
        balancer
    }

    /// Shares of 100,000 picks while the counters stand still, held against what theory says, to 1 %.
    fn check(weights: &[u32], active: &[u32], expected: &[f64]) {
        let mut it = balancer(weights);
        let mut shares = vec![0.0; weights.len()];
        for n in 0..100_000 {
            shares[it.pick(&connection(0, n), 0, &|_, slot: Slot| active[slot as usize]).unwrap() as usize] += 1e-5;
        }
        let near = shares.iter().zip(expected).all(|(share, expected)| (share - expected).abs() < 0.01);
        assert!(near, "{shares:?} is not {expected:?}");
    }

    #[test]
    fn the_vectors_of_envoys_simulation() {
        check(&[1, 1, 1], &[1, 0, 0], &[0.111, 0.4445, 0.4445]);
        check(&[1, 1], &[1, 0], &[0.25, 0.75]);
        check(&[2, 1], &[0, 0], &[0.667, 0.333]);
    }

    #[test]
    fn weights_by_theory() {
        check(&[2, 1], &[1, 0], &[4.0 / 9.0, 5.0 / 9.0]);
        check(&[2, 1], &[2, 1], &[0.667, 0.333]);
        check(&[3, 0, 1], &[0, 0, 0], &[0.75, 0.0, 0.25]);
    }

    #[test]
    fn connections_that_stay_spread_within_the_known_gap() {
        let mut it = balancer(&[1; 100]);
        let active: Vec<Cell<u32>> = vec![Cell::new(0); 100];
        for n in 0..10_000 {
            let slot = it.pick(&connection(0, n), 0, &|_, slot: Slot| active[slot as usize].get()).unwrap() as usize;
            active[slot].set(active[slot].get() + 1);
        }
        let most = active.iter().max().unwrap().get();
        assert!(most <= 104, "the gap of one choice would be about 24, of two at most 4: {most}");
    }

    #[test]
    fn nobody_to_pick() {
        assert_eq!(balancer(&[]).pick(&connection(0, 0), 0, &Idle), None);
        assert_eq!(balancer(&[0]).pick(&connection(0, 0), 0, &Idle), None);
    }
}
