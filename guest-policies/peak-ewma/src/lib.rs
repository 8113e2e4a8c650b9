//! Of two endpoints drawn at random the one with the lesser load, where load is how long the endpoint takes to connect to, times its
//! live connections and the new one (Finagle's and linkerd's peak EWMA). An endpoint that becomes slow is avoided within a few
//! connections, and tried again as the memory of it fades.
//!
//! The time is an average whose weights halve every 7 s (e^(−Δt / 10 s)), but a time above the average counts at once and in full. A
//! connection that fails counts as one that took a second or more. Until something is known, an endpoint is thought to take the
//! setting `initial-rtt` (of the Service, or of the host for all Services). Times are whole milliseconds, and less than one counts as
//! one: endpoints that near are told apart by their connections alone.
//!
//! Endpoints are drawn by weight and compared by load for their weight. Each worker learns from its own connections. UDP, which does not
//! connect, teaches nothing: there this is `two-choices`.

mod decay;
mod estimates;

use estimates::Estimates;
use pointsman_sdk::hash::{below, mix};
use pointsman_sdk::order::eligible;
use pointsman_sdk::prelude::*;
use pointsman_sdk::settings::only;
use pointsman_sdk::weighted::Weighted;
use serde::{Deserialize, Serialize};

/// The policy `peak-ewma`.
#[derive(Debug)]
pub struct PeakEwma {
    /// In microseconds.
    initial: u32,
    estimates: Estimates,
}

/// A candidate set to draw from.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    slots: Packed<Slot>,
    hashes: Packed<u64>,
    weights: Packed<u32>,
    weighted: Weighted,
    /// In microseconds.
    initial: u32,
}

impl Balancer for PeakEwma {
    type Plan = Plan;

    fn configure(_place: Place, _node: &Node, settings: &[Setting]) -> Result<Self, String> {
        let setting = settings.iter().find(|setting| setting.key == INITIAL_RTT);
        let initial = setting.map(|setting| time(&setting.value)).transpose()?.unwrap_or(DEFAULT);
        Ok(Self { initial, estimates: Estimates::new() })
    }

    fn plan(&mut self, port: &ServicePort, members: &[Endpoint]) -> Result<Plan, String> {
        only(&port.settings, &[INITIAL_RTT])?;
        let initial = port.setting(INITIAL_RTT).map(time).transpose()?.unwrap_or(self.initial);
        let members = eligible(members);
        let weights: Vec<u32> = members.iter().map(|endpoint| endpoint.weight).collect();
        Ok(Plan {
            slots: members.iter().map(|endpoint| endpoint.slot).collect(),
            hashes: members.iter().map(|endpoint| endpoint.hash).collect(),
            weighted: Weighted::new(&weights),
            weights: weights.into_iter().collect(),
            initial,
        })
    }

    fn adopt(&mut self, plan: Plan, _previous: Option<Plan>) -> Plan {
        self.estimates.make_room(plan.hashes.len());
        (0..plan.hashes.len()).filter_map(|index| plan.hashes.at(index)).for_each(|hash| self.estimates.expect(hash, plan.initial));
        plan
    }

    fn pick(&mut self, plan: &mut Plan, connection: &Connection, load: &impl Load) -> Option<Slot> {
        let (one, other) = plan.draw(connection.random);
        let (slot, other_slot) = (plan.slots.at(one)?, plan.slots.at(other)?);
        if one == other {
            return Some(slot);
        }
        let (active, other_active) = load.active_pair(connection.service, slot, other_slot);
        let (mine, others) = (self.cost(plan, one, active, connection)?, self.cost(plan, other, other_active, connection)?);
        // Cost / weight, without the division; the first of the two on a tie.
        let less = others * u128::from(plan.weights.at(one)?) < mine * u128::from(plan.weights.at(other)?);
        Some(if less { other_slot } else { slot })
    }
}

impl PeakEwma {
    fn cost(&mut self, plan: &Plan, index: usize, active: u32, connection: &Connection) -> Option<u128> {
        let rtt = self.estimates.of(plan.hashes.at(index)?, plan.initial, connection.now_ms).max(LEAST);
        Some(u128::from(u64::from(rtt) * (u64::from(active) + 1)))
    }
}

impl LearningBalancer for PeakEwma {
    fn report(&mut self, now_ms: u64, outcomes: &[Outcome]) {
        for outcome in outcomes {
            let micros = outcome.millis.saturating_mul(1_000);
            let sample = match outcome.kind {
                OutcomeKind::Connected => micros,
                OutcomeKind::Refused | OutcomeKind::TimedOut => micros.max(FAILED),
                // Their time is that of the whole connection.
                OutcomeKind::Reset | OutcomeKind::Closed => continue,
            };
            self.estimates.observe(outcome.endpoint, sample, now_ms);
        }
    }
}

impl Plan {
    /// Two that differ, where there are two: with replacement, who is slow would still be drawn against itself.
    fn draw(&self, random: u64) -> (usize, usize) {
        let len = self.slots.len();
        if len < 2 {
            return (0, 0);
        }
        if self.weighted.is_uniform() {
            let one = below(random as u32, len as u32);
            let other = below((random >> 32) as u32, len as u32 - 1);
            return (one as usize, (other + u32::from(other >= one)) as usize);
        }
        let one = self.weighted.draw(random);
        let mut bits = random;
        for _ in 0..REDRAWN {
            bits = mix(bits);
            let other = self.weighted.draw(bits);
            if other != one {
                return (one, other);
            }
        }
        (one, if one + 1 == len { 0 } else { one + 1 })
    }
}

/// In microseconds.
fn time(value: &str) -> Result<u32, String> {
    let (number, unit) = match value.strip_suffix("ms") {
        Some(number) => (number, 1_000),
        None => (value.strip_suffix('s').unwrap_or_default(), 1_000_000),
    };
    let micros = number.parse::<u32>().ok().and_then(|number| number.checked_mul(unit)).filter(|micros| (LEAST..=LONGEST).contains(micros));
    micros.ok_or_else(|| format!("{INITIAL_RTT} is `{value}`; it must be a whole number of `ms` or `s`, from 1ms to 60s"))
}

const INITIAL_RTT: &str = "initial-rtt";

/// Envoy's, in microseconds: 10 ms.
const DEFAULT: u32 = 10_000;

/// In microseconds: what is measured are whole milliseconds.
const LEAST: u32 = 1_000;

/// In microseconds.
const LONGEST: u32 = 60_000_000;

/// What a failure counts as, in microseconds, however soon it failed: the time after which a lost SYN is sent again (RFC 6298).
const FAILED: u32 = 1_000_000;

/// After so many vain draws one endpoint has nearly all the weight, and its neighbour is as good as another.
const REDRAWN: usize = 4;

pointsman_sdk::export_learning_balancer!(PeakEwma);

#[cfg(test)]
mod tests;
