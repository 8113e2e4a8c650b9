//! The traffic policy `kubernetes`, running natively: what judges a connection when the traffic policy in force cannot. The same
//! source as the component, so the two cannot drift apart.

use pointsman_policy_kubernetes as kubernetes;

use super::contract::{Connection, Endpoint, Node, Partition, ServicePort, Verdict};

/// The subsets of a Service port and the plan that `judge` reads.
pub fn partition(node: &Node, port: &ServicePort, endpoints: &[Endpoint]) -> Partition {
    kubernetes::partition(node, port, endpoints)
}

/// The verdict for a connection; `Forward` carries an index into the subsets of `partition`.
pub fn judge(plan: &[u8], connection: &Connection, group: Option<u32>) -> Verdict {
    kubernetes::judge(plan, connection, group)
}
