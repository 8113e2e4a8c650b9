//! How much of the connections a zone keeps.

use pointsman_sdk::prelude::*;
use pointsman_sdk::readiness;

/// The endpoints that serve, in two parts or in one, and what the first part gets.
#[derive(Debug, Default)]
pub(crate) struct Share<'e> {
    /// Empty if it gets nothing.
    pub(crate) zone: Vec<&'e Endpoint>,
    /// Empty if the zone gets everything.
    pub(crate) others: Vec<&'e Endpoint>,
    /// Those that serve where there is nothing to share out; else empty.
    pub(crate) all: Vec<&'e Endpoint>,
    /// From 0 to 1.
    part: f64,
}

impl Share<'_> {
    /// The zone's share of 2⁶⁴, if it gets neither everything nor nothing.
    pub(crate) fn threshold(&self) -> Option<u64> {
        // Casts of floats saturate.
        (!self.zone.is_empty() && !self.others.is_empty()).then_some((self.part * TWO_TO_THE_64) as u64)
    }
}

/// There is nothing to share out where nobody is ready, where nobody who is has any weight, and where it is not known which zone this is.
pub(crate) fn of_zone<'e>(zone: Option<&str>, overprovisioning: u32, endpoints: &[&'e Endpoint]) -> Share<'e> {
    let (mut own, mut other) = (Level::default(), Level::default());
    for endpoint in endpoints.iter().copied() {
        // What is on this node is in its zone, whether the slice says so or not.
        let inside = endpoint.local || endpoint.zone.as_deref() == zone;
        if inside { &mut own } else { &mut other }.count(endpoint);
    }
    let (health, health_of_others) = (own.health(overprovisioning), other.health(overprovisioning));
    let together = health + health_of_others;
    if zone.is_none() || together <= 0.0 {
        return Share { all: readiness::available(endpoints.iter().copied()), ..Share::default() };
    }
    let part = health / together.min(1.0);
    let mut share = Share { zone: own.ready, others: other.ready, part, ..Share::default() };
    if part >= 1.0 {
        share.others.clear();
    } else if part <= 0.0 {
        share.zone.clear();
    }
    share
}

/// One of Envoy's priority levels.
#[derive(Default)]
struct Level<'e> {
    ready: Vec<&'e Endpoint>,
    /// By weight, which keeps every sum of them exact below 2⁵³.
    healthy: f64,
    all: f64,
}

impl<'e> Level<'e> {
    fn count(&mut self, endpoint: &'e Endpoint) {
        let weight = f64::from(endpoint.weight);
        if endpoint.conditions.ready {
            self.ready.push(endpoint);
            self.healthy += weight;
            self.all += weight;
        } else if !endpoint.conditions.terminating {
            self.all += weight;
        }
    }

    fn health(&self, overprovisioning: u32) -> f64 {
        if self.healthy <= 0.0 {
            return 0.0;
        }
        // Multiplied first: 50 of 70 at 140 % is a whole, not a hair less.
        (f64::from(overprovisioning) * self.healthy / (100.0 * self.all)).min(1.0)
    }
}

const TWO_TO_THE_64: f64 = 18_446_744_073_709_551_616.0;
