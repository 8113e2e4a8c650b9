//! The traffic policy of Kubernetes, release 1.35 (`pkg/proxy/topology.go` and the proxiers' tests):
//!
//! - `internalTrafficPolicy` binds connections to the cluster IP; `externalTrafficPolicy` binds those that come to a node port, an
//!   external IP or a load balancer's IP from outside. A pod or the node itself reaches all endpoints through those.
//! - `Local` with nothing usable here but something elsewhere drops; with nothing anywhere it rejects, as `Cluster` does.
//! - Ready endpoints; where none is, those that serve while they terminate: decided apart for the cluster's and for the
//!   node's list (KEP-1669).
//! - Topology hints (KEP-2433, KEP-3015): endpoints that name this node, else those that name its zone, if every ready endpoint
//!   has hints and one of them names it. Never for `Local`.
//!
//! A selector may sort endpoints into groups. Then each group is a Service to itself: its own fallback, its own emptiness.

use pointsman_sdk::prelude::*;
use pointsman_sdk::{codec, readiness};
use serde::{Deserialize, Serialize};

/// The policy `kubernetes`.
#[derive(Debug)]
pub struct Kubernetes {
    node: Node,
}

/// What a worker needs to judge a connection to a Service port.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    internal_local: bool,
    external_local: bool,
    any: View,
    groups: Vec<View>,
}

/// The subsets of a group, or of all endpoints. `None`: there is nobody to forward to.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct View {
    /// Empty only if nothing is usable anywhere.
    cluster: Option<u32>,
    /// Empty also where this node has nothing usable.
    local: Option<u32>,
}

impl TrafficPolicy for Kubernetes {
    type Plan = Plan;

    fn configure(_place: Place, node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self { node: node.clone() })
    }

    fn plan(&mut self, port: &ServicePort, endpoints: &[Endpoint]) -> Result<(Vec<Subset>, Plan), String> {
        Ok(plan(&self.node, port, endpoints))
    }

    fn choose(&mut self, plan: &mut Plan, connection: &Connection, group: Option<u32>) -> Verdict {
        plan.verdict(connection, group)
    }
}

/// The subsets of a Service port, and the plan that [`judge`] reads: the planner's half, for the host's own use.
pub fn partition(node: &Node, port: &ServicePort, endpoints: &[Endpoint]) -> Partition {
    let (subsets, plan) = plan(node, port, endpoints);
    // Encoding these few numbers to memory cannot fail; if it did, no bytes are no plan, and `judge` rejects.
    Partition { subsets, data: codec::encode(&plan).unwrap_or_default() }
}

/// The verdict for a connection: the worker's half, for the host's own use. Bytes that are no plan reject.
pub fn judge(plan: &[u8], connection: &Connection, group: Option<u32>) -> Verdict {
    codec::decode::<Plan>(plan).map_or(Verdict::Reject, |plan| plan.verdict(connection, group))
}

impl Plan {
    fn verdict(&self, connection: &Connection, group: Option<u32>) -> Verdict {
        let view = match group {
            None => self.any,
            Some(group) => self.groups.get(group as usize).copied().unwrap_or_default(),
        };
        let local = match connection.frontend {
            Frontend::ClusterIp => self.internal_local,
            Frontend::NodePort | Frontend::ExternalIp | Frontend::LoadBalancer => {
                self.external_local && connection.origin == Origin::Outside
            }
            Frontend::HostPort => false,
        };
        match (local, view.local, view.cluster) {
            (true, Some(subset), _) | (false, _, Some(subset)) => Verdict::Forward(subset),
            (true, None, Some(_)) => Verdict::Drop,
            (_, _, None) => Verdict::Reject,
        }
    }
}

fn plan(node: &Node, port: &ServicePort, endpoints: &[Endpoint]) -> (Vec<Subset>, Plan) {
    let groups: Vec<Vec<&Endpoint>> = (0..readiness::groups(endpoints))
        .map(|group| endpoints.iter().filter(|endpoint| endpoint.group == Some(group)).collect())
        .collect();
    let all: Vec<&Endpoint> = endpoints.iter().collect();
    let mut subsets = Vec::new();
    let (any_cluster, cluster) = subset(&mut subsets, "cluster", &all, &groups, |list| in_cluster(node, list));
    let internal_local = port.internal_traffic_policy == Locality::Local;
    let external_local = port.external_traffic_policy == Locality::Local;
    let (any_local, local) = if internal_local || external_local {
        subset(&mut subsets, "local", &all, &groups, |list| readiness::available(list.iter().copied().filter(|e| e.local)))
    } else {
        (None, vec![None; groups.len()])
    };
    let any = View { cluster: any_cluster, local: any_local };
    let groups = cluster.into_iter().zip(local).map(|(cluster, local)| View { cluster, local }).collect();
    (subsets, Plan { internal_local, external_local, any, groups })
}

/// Adds the subset that `choose` makes of all endpoints, and, where some group on its own would be given other endpoints than
/// its share of that, a second subset with what the groups are given. Returns the index for all, and for each group.
fn subset<'e>(
    subsets: &mut Vec<Subset>,
    name: &str,
    all: &[&'e Endpoint],
    groups: &[Vec<&'e Endpoint>],
    choose: impl Fn(&[&'e Endpoint]) -> Vec<&'e Endpoint>,
) -> (Option<u32>, Vec<Option<u32>>) {
    let mut add = |name: String, endpoints: &[&Endpoint]| {
        if endpoints.is_empty() {
            return None;
        }
        let mut members: Vec<Slot> = endpoints.iter().map(|endpoint| endpoint.slot).collect();
        members.sort_unstable();
        subsets.push(Subset { name, members });
        Some(subsets.len() as u32 - 1)
    };
    let together = choose(all);
    let apart: Vec<Vec<&Endpoint>> = groups.iter().map(|group| choose(group)).collect();
    let any = add(name.to_owned(), &together);
    let share = |group: u32| together.iter().filter(move |endpoint| endpoint.group == Some(group)).map(|endpoint| endpoint.slot);
    let same = apart.iter().zip(0..).all(|(own, group)| own.iter().map(|endpoint| endpoint.slot).eq(share(group)));
    let of_groups = if same { any } else { add(format!("{name}-by-group"), &apart.concat()) };
    let by_group = apart.iter().map(|own| of_groups.filter(|_| !own.is_empty())).collect();
    (any, by_group)
}

/// The cluster's list: hints narrow the ready endpoints, never the terminating ones.
fn in_cluster<'e>(node: &Node, endpoints: &[&'e Endpoint]) -> Vec<&'e Endpoint> {
    let available = readiness::available(endpoints.iter().copied());
    if !available.iter().all(|endpoint| endpoint.conditions.ready) {
        return available;
    }
    let hinted = |hints: fn(&Endpoint) -> &[String], here: &str| {
        let near: Vec<_> = available.iter().copied().filter(|endpoint| hints(endpoint).iter().any(|hint| hint == here)).collect();
        let applies = !near.is_empty() && available.iter().all(|endpoint| !hints(endpoint).is_empty());
        applies.then_some(near)
    };
    let by_node = || hinted(|endpoint| &endpoint.node_hints, &node.name);
    let by_zone = || hinted(|endpoint| &endpoint.zone_hints, node.zone.as_deref()?);
    by_node().or_else(by_zone).unwrap_or(available)
}

pointsman_sdk::export_traffic_policy!(Kubernetes);

#[cfg(test)]
mod tests;
