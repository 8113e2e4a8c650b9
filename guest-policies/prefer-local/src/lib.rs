//! Endpoints of this node while it has ready ones, else those of the whole cluster; never a refusal for want of a local one. Only
//! where nobody anywhere is ready, endpoints that serve while they terminate: again this node's first.
//!
//! That is so for every frontend and every origin: the Service's `Local` and `Cluster` are not asked. A Service that names this policy
//! has, of `Local`, the saved hop, and gives up the promise that goes with it: a connection from outside that leaves this node does
//! not bring the client's address along (`source` in `pointsman route` says which is which). Who wants the connection dropped
//! instead wants the policy `kubernetes` and `Local`.
//!
//! A selector's groups are each a Service to themselves.

use pointsman_sdk::prelude::*;
use pointsman_sdk::readiness;
use pointsman_sdk::subsets::Cut;
use serde::{Deserialize, Serialize};

/// The policy `prefer-local`.
#[derive(Debug)]
pub struct PreferLocal;

/// Which subset serves whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    any: Option<u32>,
    groups: Vec<Option<u32>>,
}

impl TrafficPolicy for PreferLocal {
    type Plan = Plan;

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&mut self, _port: &ServicePort, endpoints: &[Endpoint]) -> Result<(Vec<Subset>, Plan), String> {
        let mut cut = Cut::new(endpoints);
        let mut rows = cut.add("preferred", preferred).into_iter();
        let any = rows.next().flatten();
        Ok((cut.subsets(), Plan { any, groups: rows.collect() }))
    }

    fn choose(&mut self, plan: &mut Plan, _connection: &Connection, group: Option<u32>) -> Verdict {
        let subset = match group {
            None => plan.any,
            Some(group) => plan.groups.get(group as usize).copied().flatten(),
        };
        subset.map_or(Verdict::Reject, Verdict::Forward)
    }
}

/// The endpoints that serve: local among the available ones, if there is one, else all of those.
fn preferred<'e>(endpoints: &[&'e Endpoint]) -> Vec<&'e Endpoint> {
    let available = readiness::available(endpoints.iter().copied());
    let local: Vec<_> = available.iter().copied().filter(|endpoint| endpoint.local).collect();
    if local.is_empty() { available } else { local }
}

pointsman_sdk::export_traffic_policy!(PreferLocal);

#[cfg(test)]
mod tests;
