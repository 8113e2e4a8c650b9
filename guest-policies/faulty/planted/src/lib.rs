//! For tests: a balancer with a fault that shows under some circumstance only, as authors' faults do. The setting `fault` of the Service says
//! which; without one it takes the endpoints in turn, by weight or not at all.
//!
//! | `fault` | shows |
//! |---|---|
//! | `seven` | `pick` panics where the set has seven endpoints |
//! | `heavy` | `plan` overflows where the weights do not fit 32 bits |
//! | `shrunk` | a slot of the former set, after the set became smaller |
//! | `hash-loop` | `pick` never ends for the client hash of all ones |
//! | `idle` | endpoints of weight 0 are picked too |
//! | `flaps` | a client's endpoint changes with every hundredth pick |
//! | `leak` | each pick keeps 64 KiB |
//! | `divide` | `pick` divides by the sum of the weights, also where that is 0 |
//! | `clock` | `pick` panics where time goes back |
//! | `random-max` | a slot beyond the last, where the random bits are all ones |

use pointsman_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// The policy `planted`.
#[derive(Debug)]
pub struct Planted {
    picks: u64,
    last_ms: u64,
    kept: Vec<Vec<u8>>,
}

/// Slots that may be picked, all slots, and the fault.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    eligible: Vec<Slot>,
    all: u32,
    weights: u32,
    fault: String,
}

impl Balancer for Planted {
    type Plan = Plan;

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self { picks: 0, last_ms: 0, kept: Vec::new() })
    }

    #[expect(clippy::expect_used, reason = "a fault that this policy is for")]
    fn plan(&mut self, port: &ServicePort, members: &[Endpoint]) -> Result<Plan, String> {
        let fault = port.setting("fault").unwrap_or_default().to_owned();
        let sum = |weights: u32, endpoint: &Endpoint| match fault.as_str() {
            "heavy" => weights.checked_add(endpoint.weight).expect("the weights fit 32 bits"),
            _ => weights.saturating_add(endpoint.weight),
        };
        let weights = members.iter().fold(0, sum);
        let mut eligible: Vec<&Endpoint> = members.iter().filter(|endpoint| endpoint.weight > 0).collect();
        eligible.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Plan { eligible: eligible.iter().map(|endpoint| endpoint.slot).collect(), all: members.len() as u32, weights, fault })
    }

    fn adopt(&mut self, plan: Plan, previous: Option<Plan>) -> Plan {
        match previous {
            Some(previous) if plan.fault == "shrunk" => Plan { eligible: previous.eligible, ..plan },
            _ => plan,
        }
    }

    #[expect(clippy::panic, reason = "a fault that this policy is for")]
    fn pick(&mut self, plan: &mut Plan, connection: &Connection, _load: &impl Load) -> Option<Slot> {
        self.picks += 1;
        let back = connection.now_ms < self.last_ms;
        self.last_ms = connection.now_ms;
        match plan.fault.as_str() {
            "seven" if plan.all == 7 => panic!("seven endpoints"),
            "hash-loop" if connection.client_hash == u64::MAX => loop {
                self.picks = std::hint::black_box(self.picks).wrapping_add(1);
            },
            "idle" => return (connection.client_hash as u32).checked_rem(plan.all),
            "flaps" => return at(&plan.eligible, connection.client_hash.wrapping_add(self.picks / 100)),
            "leak" => self.kept.push(Vec::with_capacity(65_536)),
            "divide" => return at(&plan.eligible, connection.client_hash % u64::from(plan.weights)),
            "clock" if back => panic!("time goes back"),
            "random-max" if !plan.eligible.is_empty() => {
                let part = connection.random as f64 / u64::MAX as f64;
                let index = (part * plan.eligible.len() as f64) as usize;
                return Some(plan.eligible.get(index).copied().unwrap_or(plan.all));
            }
            _ => {}
        }
        at(&plan.eligible, connection.client_hash)
    }
}

fn at(slots: &[Slot], index: u64) -> Option<Slot> {
    slots.get(index.checked_rem(slots.len() as u64)? as usize).copied()
}

pointsman_sdk::export_balancer!(Planted);
