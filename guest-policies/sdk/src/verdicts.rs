//! What `Cluster` and `Local` make of a connection (kube-proxy 1.35, `pkg/proxy/serviceport.go` and the proxiers' tests), as a table
//! that is filled when a Service port is planned, so that judging a connection is one look-up.
//!
//! - `internalTrafficPolicy` binds connections to the cluster IP, wherever they come from.
//! - `externalTrafficPolicy` binds connections from outside to a node port, an external IP or a load balancer's IP. Those of a pod and
//!   of the node itself are short-circuited to the cluster's list.
//! - A host port is no Service's address: neither binds it.
//! - Bound to `Local` with nobody here but somebody elsewhere: drop. Nobody anywhere: reject, as `Cluster` does.

use serde::{Deserialize, Serialize};

use crate::packed::Packed;
use crate::types::{Connection, Frontend, Locality, Origin, ServicePort, Verdict};

/// The subsets of all endpoints, or of a group: where connections go that are bound to the cluster, and to this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// `None`: nobody is usable anywhere.
    pub cluster: Option<u32>,
    /// `None`: nobody is usable on this node.
    pub local: Option<u32>,
}

/// A verdict for every group, frontend and origin. It is a plan, or a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// Of connections to any group, which most are.
    any: [u32; CELLS],
    /// Row after row.
    groups: Packed<u32>,
}

impl Verdicts {
    /// Fills the table. The first view is that of connections to any group, the others are the groups', in order.
    pub fn new(port: &ServicePort, views: &[View]) -> Self {
        let row = |view: &View| {
            let mut cells = [REJECT; CELLS];
            for (frontend, origin) in FRONTENDS.into_iter().flat_map(|f| ORIGINS.into_iter().map(move |o| (f, o))) {
                cells[cell(frontend, origin)] = code(judge(*view, is_local(port, frontend, origin)));
            }
            cells
        };
        let any = views.first().map_or([REJECT; CELLS], row);
        Self { any, groups: views.iter().skip(1).flat_map(row).collect() }
    }

    /// What becomes of a connection. A group that there is no row for has no endpoints.
    #[inline(always)]
    pub fn verdict(&self, connection: &Connection, group: Option<u32>) -> Verdict {
        let cell = cell(connection.frontend, connection.origin);
        let code = match group {
            None => self.any[cell],
            Some(group) => self.of_group(group, cell),
        };
        match code {
            REJECT => Verdict::Reject,
            DROP => Verdict::Drop,
            forward => Verdict::Forward(forward - FORWARD),
        }
    }

    fn of_group(&self, group: u32, cell: usize) -> u32 {
        // In 64 bits, which no group overflows on a 32-bit machine either.
        let index = u64::from(group) * CELLS as u64 + cell as u64;
        if index < self.groups.len() as u64 { self.groups.at(index as usize).unwrap_or(REJECT) } else { REJECT }
    }
}

/// Always below [`CELLS`]: the masks say so to the compiler, which then need not check.
#[inline(always)]
fn cell(frontend: Frontend, origin: Origin) -> usize {
    (frontend as usize & 7) << 2 | (origin as usize & 3)
}

/// Whether a connection is bound to this node's endpoints.
pub fn is_local(port: &ServicePort, frontend: Frontend, origin: Origin) -> bool {
    match frontend {
        Frontend::ClusterIp => port.internal_traffic_policy == Locality::Local,
        Frontend::NodePort | Frontend::ExternalIp | Frontend::LoadBalancer => {
            port.external_traffic_policy == Locality::Local && origin == Origin::Outside
        }
        Frontend::HostPort => false,
    }
}

fn judge(view: View, local: bool) -> Verdict {
    match (local, view.local, view.cluster) {
        (true, Some(subset), _) | (false, _, Some(subset)) => Verdict::Forward(subset),
        (true, None, Some(_)) => Verdict::Drop,
        (_, _, None) => Verdict::Reject,
    }
}

const fn code(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Reject => REJECT,
        Verdict::Drop => DROP,
        Verdict::Forward(subset) => subset + FORWARD,
    }
}

const REJECT: u32 = 0;
const DROP: u32 = 1;
/// Codes from here on are subsets.
const FORWARD: u32 = 2;

const FRONTENDS: [Frontend; 5] =
    [Frontend::ClusterIp, Frontend::NodePort, Frontend::ExternalIp, Frontend::LoadBalancer, Frontend::HostPort];
const ORIGINS: [Origin; 3] = [Origin::Pod, Origin::Node, Origin::Outside];
/// In a row: three bits of frontend, two of origin.
const CELLS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::{connection, port};

    fn views() -> [View; 4] {
        [(Some(0), Some(1)), (Some(2), None), (None, None), (None, Some(9))].map(|(cluster, local)| View { cluster, local })
    }

    fn verdicts(internal: Locality, external: Locality, frontend: Frontend, origin: Origin) -> Vec<Verdict> {
        let port = ServicePort { internal_traffic_policy: internal, external_traffic_policy: external, ..port(0) };
        let connection = Connection { frontend, origin, ..connection(0, 0) };
        let table = Verdicts::new(&port, &views());
        [None, Some(0), Some(1), Some(2), Some(3), Some(u32::MAX)].map(|group| table.verdict(&connection, group)).to_vec()
    }

    #[test]
    fn every_frontend_and_origin_has_a_cell_of_its_own() {
        let cells = FRONTENDS.into_iter().flat_map(|frontend| ORIGINS.map(|origin| cell(frontend, origin)));
        let distinct: std::collections::BTreeSet<usize> = cells.collect();
        assert_eq!((distinct.len(), distinct.iter().all(|cell| *cell < CELLS)), (FRONTENDS.len() * ORIGINS.len(), true));
    }

    #[test]
    fn cluster_and_local_rows() {
        use Frontend::{ClusterIp, ExternalIp, HostPort, LoadBalancer, NodePort};
        use Locality::{Cluster, Local};
        use Verdict::{Drop, Forward, Reject};
        let cluster = [Forward(0), Forward(2), Reject, Reject, Reject, Reject];
        let local = [Forward(1), Drop, Reject, Forward(9), Reject, Reject];
        for origin in ORIGINS {
            assert_eq!(verdicts(Cluster, Local, ClusterIp, origin), cluster);
            assert_eq!(verdicts(Local, Cluster, ClusterIp, origin), local);
            assert_eq!(verdicts(Local, Local, HostPort, origin), cluster);
        }
        for frontend in [NodePort, ExternalIp, LoadBalancer] {
            assert_eq!(verdicts(Local, Cluster, frontend, Origin::Outside), cluster);
            assert_eq!(verdicts(Cluster, Local, frontend, Origin::Outside), local);
            assert_eq!(verdicts(Local, Local, frontend, Origin::Pod), cluster);
            assert_eq!(verdicts(Local, Local, frontend, Origin::Node), cluster);
        }
    }

    #[test]
    fn no_rows_reject() {
        assert_eq!(Verdicts::default().verdict(&connection(0, 0), None), Verdict::Reject);
    }
}
