//! Which endpoints may take new connections, as Kubernetes sees it.

use crate::types::Endpoint;

/// The ready ones among `endpoints`; where none is, those that still serve while they terminate (KEP-1669). Empty when neither
/// exists: an endpoint that terminates and does not serve is never used.
pub fn available<'e>(endpoints: impl Iterator<Item = &'e Endpoint> + Clone) -> Vec<&'e Endpoint> {
    let ready: Vec<_> = endpoints.clone().filter(|endpoint| endpoint.conditions.ready).collect();
    if !ready.is_empty() {
        return ready;
    }
    endpoints.filter(|endpoint| endpoint.conditions.serving && endpoint.conditions.terminating).collect()
}

/// The same on this node alone, decided apart from the others: it may have nobody ready, and somebody who serves while terminating.
pub fn on_this_node<'e>(endpoints: &[&'e Endpoint]) -> Vec<&'e Endpoint> {
    available(endpoints.iter().copied().filter(|endpoint| endpoint.local))
}

/// How many groups the endpoints fall into: one more than the highest group.
pub fn groups(endpoints: &[Endpoint]) -> u32 {
    endpoints.iter().filter_map(|endpoint| endpoint.group).max().map_or(0, |highest| highest.saturating_add(1))
}
