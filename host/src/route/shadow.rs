//! A balancer beside the one in force: asked for the same connection, believed for its own clients alone. Whatever becomes of it, the one in
//! force decides where it has nothing to say.

use super::{By, Choice, in_force};
use crate::policy::contract::{Decider, Fault, Slot};
use crate::table::Shadow;

/// What both balancers said of one new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadowed {
    /// The client is one of those that the candidate is in charge of.
    pub canary: bool,
    /// The candidate's answer, or why there is none.
    pub candidate: Result<Slot, Box<Fault>>,
    /// The answer of the version in force, likewise.
    pub balancer: Result<Slot, Box<Fault>>,
    /// Fuel that each used: the balancer in force, the candidate.
    pub fuel: [u64; 2],
}

impl Shadowed {
    /// Whether the two went different ways; `None` where one of them had no answer.
    pub fn moved(&self) -> Option<bool> {
        match (&self.balancer, &self.candidate) {
            (Ok(balancer), Ok(candidate)) => Some(balancer != candidate),
            _ => None,
        }
    }

    /// Whether the candidate should have decided and could not.
    pub fn failed_client(&self) -> bool {
        self.canary && self.candidate.is_err()
    }
}

/// Asks both; on a retry only who is in charge, and the balancer in force where that fails. What the candidate picked is blamed and not
/// used under the same rules as everybody's.
pub(super) fn beside<D: Decider + ?Sized>(
    shadow: &Shadow,
    choice: &Choice<'_>,
    decider: &mut D,
    told: &mut Option<Box<Shadowed>>,
) -> (Option<Slot>, By) {
    let canary = shadow.canary.is_some_and(|canary| canary.has(choice.connection.client_hash));
    if choice.connection.attempt > 0 {
        return match canary.then(|| candidate(shadow, choice, decider)) {
            Some(Ok(slot)) => (choice.usable_or_other(slot), By::Canary),
            _ => in_force(choice, decider).decided(),
        };
    }
    let answer = candidate(shadow, choice, decider);
    let candidate_fuel = if matches!(answer, Err(Fault::NotAsked(_))) { 0 } else { decider.fuel() };
    let balancer = in_force(choice, decider);
    *told = Some(Box::new(Shadowed {
        canary,
        candidate: answer.clone().map_err(Box::new),
        balancer: balancer.own(),
        fuel: [balancer.fuel, candidate_fuel],
    }));
    match answer {
        Ok(slot) if canary => (choice.usable_or_other(slot), By::Canary),
        _ => balancer.decided(),
    }
}

/// The candidate's answer, if it is one.
fn candidate<D: Decider + ?Sized>(shadow: &Shadow, choice: &Choice<'_>, decider: &mut D) -> Result<Slot, Fault> {
    let planned = shadow.planned.as_ref().ok_or(Fault::NotAsked("it could not plan"))?;
    let version = planned.version.id;
    let slot = decider.pick_as_candidate(version, choice.connection, choice.set)?.ok_or(Fault::NoOpinion)?;
    choice.checked(slot).inspect_err(|fault| decider.blame_candidate(version, fault))
}

#[cfg(test)]
mod tests;
