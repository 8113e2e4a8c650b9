//! What Kubernetes does with the client's address on the way to an endpoint (kubernetes-semantics 3.5 to 3.7): `kept`, or replaced by
//! the `node`'s. Beyond Kubernetes: told by the `proxy-protocol`.

use crate::policy::contract::Connection;
use crate::table::{Endpoint, FrontendKind, Locality, Origin, Port, Protocol};

/// - `pointsman.dev/proxy-protocol`: the endpoint sees the node and is told the client's address, whoever and wherever that is.
/// - A pod that meets itself would not recognise the answer: `node`, whatever it dialled.
/// - The node itself leaves as the node.
/// - Cluster IP: a pod's is kept. From outside the pods' ranges it is the node's, or the answer would not come back this way.
/// - Node port, external IP, load balancer: the node's under `Cluster`, for pods too. Under `Local` a pod's is kept, and so is that of
///   a client from outside, which meets endpoints of this node only; should a policy send it to another node after all, the answer
///   has to come back this way.
/// - Host port: kept. The port-map plug-in replaces only what would not come back.
pub(super) fn of(port: &Port, connection: &Connection, endpoint: &Endpoint) -> &'static str {
    if port.options.proxy_protocol && port.record.protocol != Protocol::Udp {
        return "proxy-protocol";
    }
    let is_itself = endpoint.address.ip() == connection.client();
    let local = port.record.external_traffic_policy == Locality::Local;
    let kept = match (connection.origin, connection.frontend) {
        (Origin::Node, _) => false,
        (_, FrontendKind::HostPort) | (Origin::Pod, FrontendKind::ClusterIp) => true,
        (Origin::Outside, FrontendKind::ClusterIp) => false,
        (Origin::Pod, _) => local,
        (Origin::Outside, _) => local && endpoint.local,
    };
    if kept && !is_itself { "kept" } else { "node" }
}
