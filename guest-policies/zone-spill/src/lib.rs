//! Endpoints of this node's zone while enough of them are healthy; beyond that, the share that they are too few for spills over to
//! the other zones. The rule is Envoy's for two priority levels (its documentation, "Priority levels", and `LoadBalancerBase`): the
//! zone is level 0, everything else is level 1.
//!
//! - Health of a level = min(1, overprovisioning × healthy ÷ all). Healthy are the ready endpoints; those that terminate were sent
//!   away and count for nothing, so that a rollout is no outage. Endpoints count by weight, and weight 0 not at all.
//! - The zone's share is its health; where the two healths together are less than 1, it is its part of their sum. Unlike Envoy, which
//!   rounds healths and shares to whole percents, this does not round.
//! - So with the default of 140 % a zone keeps everything while 71.5 % of it is ready, half of its connections when 36 % is ready, and
//!   nothing when nobody is. As with Envoy, the other zones are taken to be able to bear what spills.
//!
//! Each connection is drawn by itself or, with `spill-by: client`, by the client's address: then a client stays where it is while the
//! share does, and when the share changes only as many clients move as it changes by.
//!
//! Otherwise it is as with the policy `kubernetes`: connections that `internalTrafficPolicy` or `externalTrafficPolicy` bind to this
//! node go to its endpoints, or are dropped; where nobody is ready, endpoints serve while they terminate, of all zones alike. Hints of
//! topology are not looked at, as this policy does what they are for. A node whose zone is not known prefers none. A selector's groups
//! are each a Service to themselves.
//!
//! Settings, of the Service or of the host for all Services: `overprovisioning`, a whole percentage from 100 to 1000, and `spill-by`,
//! `connection` or `client`.

mod settings;
mod share;

use pointsman_sdk::hash::mix;
use pointsman_sdk::prelude::*;
use pointsman_sdk::readiness;
use pointsman_sdk::settings::only;
use pointsman_sdk::subsets::Cut;
use pointsman_sdk::verdicts::{Verdicts, View};
use serde::{Deserialize, Serialize};

use settings::{OVERPROVISIONING, SPILL_BY, Settings};
use share::Share;

/// The policy `zone-spill`.
#[derive(Debug)]
pub struct ZoneSpill {
    zone: Option<String>,
    settings: Settings,
}

/// What a worker needs to judge a connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// A subset from `subsets` on is no subset, but a spill.
    verdicts: Verdicts,
    subsets: u32,
    spills: Vec<Spill>,
    by_client: bool,
}

/// Connections that are shared out between the zone and the others.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Spill {
    zone: u32,
    others: u32,
    /// Draws below this go to the zone: its share of 2⁶⁴.
    below: u64,
}

impl TrafficPolicy for ZoneSpill {
    type Plan = Plan;

    fn configure(_place: Place, node: &Node, settings: &[Setting]) -> Result<Self, String> {
        Ok(Self { zone: node.zone.clone(), settings: Settings::default().with(settings)? })
    }

    fn plan(&mut self, port: &ServicePort, endpoints: &[Endpoint]) -> Result<(Vec<Subset>, Plan), String> {
        only(&port.settings, &[OVERPROVISIONING, SPILL_BY])?;
        let settings = self.settings.with(&port.settings)?;
        let mut cut = Cut::new(endpoints);
        let percent = settings.overprovisioning;
        let below: Vec<Option<u64>> = cut.rows().map(|list| self.share(percent, list).threshold()).collect();
        let zone = cut.add("zone", |list| self.share(percent, list).zone);
        let others = cut.add("other-zones", |list| self.share(percent, list).others);
        let all = cut.add("cluster", |list| self.share(percent, list).all);
        let local = match (port.internal_traffic_policy, port.external_traffic_policy) {
            (Locality::Cluster, Locality::Cluster) => vec![None; all.len()],
            _ => cut.add("local", |list| readiness::on_this_node(list)),
        };
        let subsets = cut.subsets();

        let count = subsets.len() as u32;
        let mut spills = Vec::new();
        let mut views = Vec::new();
        for (row, local) in local.into_iter().enumerate() {
            let cluster = match (zone[row], others[row], below[row]) {
                (Some(zone), Some(others), Some(below)) => {
                    spills.push(Spill { zone, others, below });
                    Some(count + spills.len() as u32 - 1)
                }
                (zone, others, _) => zone.or(others).or(all[row]),
            };
            views.push(View { cluster, local });
        }
        Ok((subsets, Plan { verdicts: Verdicts::new(port, &views), subsets: count, spills, by_client: settings.by_client }))
    }

    fn choose(&mut self, plan: &mut Plan, connection: &Connection, group: Option<u32>) -> Verdict {
        let verdict = plan.verdicts.verdict(connection, group);
        let Verdict::Forward(subset) = verdict else { return verdict };
        let Some(spill) = subset.checked_sub(plan.subsets).and_then(|spill| plan.spills.get(spill as usize)) else {
            return verdict;
        };
        let bits = if plan.by_client { connection.client_hash } else { connection.random };
        Verdict::Forward(if mix(bits ^ DRAW) < spill.below { spill.zone } else { spill.others })
    }
}

impl ZoneSpill {
    fn share<'e>(&self, overprovisioning: u32, endpoints: &[&'e Endpoint]) -> Share<'e> {
        share::of_zone(self.zone.as_deref(), overprovisioning, endpoints)
    }
}

/// Balancers draw from the same bits: without this, one of them would only ever see the lower part of its table. (The first 64 bits of
/// the fraction of π.)
const DRAW: u64 = 0x243f_6a88_85a3_08d3;

pointsman_sdk::export_traffic_policy!(ZoneSpill);

#[cfg(test)]
mod tests;
