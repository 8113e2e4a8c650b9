//! What becomes of a connection to an address that no Service port answers on (kubernetes-semantics 3.9; kube-proxy's nftables mode,
//! the map `cluster-ips` and the drop behind it). A question for `pointsman route`: in a running host nothing listens there, so the
//! kernel answers.

use super::{Fate, Reason};
use crate::table::{Frontend, FrontendKey, FrontendKind, ServiceId, Table};

/// A known cluster IP at an unknown port rejects; any other address of the service ranges drops; `None`: no Service's business.
pub fn unserved(table: &Table, to: &FrontendKey) -> Option<Fate> {
    if owner(table, to).is_some() {
        Some(Fate::Reject(Reason::NoSuchPort))
    } else if table.service_ranges.iter().any(|range| range.contains(&to.ip)) {
        Some(Fate::Drop(Reason::NoSuchService))
    } else {
        None
    }
}

/// A Service port whose cluster IP this is.
pub(super) fn owner(table: &Table, to: &FrontendKey) -> Option<ServiceId> {
    let is_here = |(key, frontend): &(&FrontendKey, &Frontend)| key.ip == to.ip && frontend.kind == FrontendKind::ClusterIp;
    table.frontends.iter().filter(is_here).map(|(_, frontend)| frontend.service).min()
}
