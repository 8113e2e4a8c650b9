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
use pointsman_sdk::subsets::Cut;
use pointsman_sdk::verdicts::{Verdicts, View};
use pointsman_sdk::{codec, readiness};

/// The policy `kubernetes`.
#[derive(Debug)]
pub struct Kubernetes {
    node: Node,
}

impl TrafficPolicy for Kubernetes {
    type Plan = Verdicts;

    fn configure(_place: Place, node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self { node: node.clone() })
    }

    fn plan(&mut self, port: &ServicePort, endpoints: &[Endpoint]) -> Result<(Vec<Subset>, Verdicts), String> {
        Ok(plan(&self.node, port, endpoints))
    }

    fn choose(&mut self, plan: &mut Verdicts, connection: &Connection, group: Option<u32>) -> Verdict {
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
    codec::decode::<Verdicts>(plan).map_or(Verdict::Reject, |plan| plan.verdict(connection, group))
}

fn plan(node: &Node, port: &ServicePort, endpoints: &[Endpoint]) -> (Vec<Subset>, Verdicts) {
    let mut cut = Cut::new(endpoints);
    let cluster = cut.add("cluster", |list| in_cluster(node, list));
    let local = match (port.internal_traffic_policy, port.external_traffic_policy) {
        (Locality::Cluster, Locality::Cluster) => vec![None; cluster.len()],
        _ => cut.add("local", |list| readiness::on_this_node(list)),
    };
    let views: Vec<View> = cluster.into_iter().zip(local).map(|(cluster, local)| View { cluster, local }).collect();
    (cut.subsets(), Verdicts::new(port, &views))
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
