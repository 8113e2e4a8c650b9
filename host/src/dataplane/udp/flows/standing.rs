//! How flows stand when the table changes.

use crate::table::{Conditions, Drain, Port};

/// How flows to an endpoint stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataplane::udp) enum Standing {
    /// They go on.
    Stays,
    /// They end: the next datagram is decided anew.
    Leaves,
    /// They end after so many milliseconds, unless the endpoint recovers.
    LeavesAfter(u64),
}

/// What becomes of flows to these endpoints, given by hash in ascending order, now that this is their Service's port.
pub(in crate::dataplane::udp) fn standings(port: &Port, endpoints: &[u64]) -> Vec<Standing> {
    let mut standings = vec![Standing::Leaves; endpoints.len()];
    for (slot, endpoint) in (0..).zip(&*port.endpoints) {
        if let Ok(at) = endpoints.binary_search(&endpoint.hash) {
            standings[at] = standing(endpoint.conditions, port.masked.contains(&slot), port.options.drain);
        }
    }
    standings
}

/// What becomes of flows to an endpoint that the table still has; flows to one that it has not end at once, whatever the Service says of
/// draining: a datagram to an endpoint that is gone meets nobody, and a client that never changes its port would send there forever.
///
/// Kubernetes ends the flows of endpoints that are not *serving* (kubernetes-semantics 3.14), and only while another one serves; here they
/// end in any case, because a flow that nobody serves is better refused than lost (kubernetes/kubernetes#139628). `pointsman.dev/drain` makes that
/// sooner or later: with `reset` flows end as soon as their endpoint is no longer ready, and a time is given from then on.
fn standing(conditions: Conditions, masked: bool, drain: Drain) -> Standing {
    match drain {
        // Masked: gone, or neither ready nor serving; the plan that is coming says which, and only a grace asks.
        Drain::Keep | Drain::Reset if masked => Standing::Leaves,
        _ if conditions.ready => Standing::Stays,
        Drain::Keep if conditions.serving => Standing::Stays,
        Drain::Keep | Drain::Reset => Standing::Leaves,
        Drain::After(grace) => Standing::LeavesAfter(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::observe::fixture::{endpoint, port};

    #[test]
    fn only_serving_endpoints_keep_their_flows_and_a_drain_rule_changes_when() {
        let grace = Drain::After(Duration::from_secs(30));
        let (keep, reset) = (Drain::Keep, Drain::Reset);
        let (stays, leaves, later) = (Standing::Stays, Standing::Leaves, Standing::LeavesAfter(30_000));
        // Ready, serving, terminating, masked.
        let ready = (true, true, false, false);
        let masked = (true, true, false, true);
        let terminating = (false, true, true, false);
        let unready = (false, false, false, false);
        for ((ready, serving, terminating, masked), drain, expected) in [
            (ready, keep, stays),
            (ready, reset, stays),
            (ready, grace, stays),
            (masked, keep, leaves),
            (masked, reset, leaves),
            (masked, grace, stays),
            (terminating, keep, stays),
            (terminating, reset, leaves),
            (terminating, grace, later),
            (unready, keep, leaves),
            (unready, reset, leaves),
            (unready, grace, later),
        ] {
            let conditions = Conditions { ready, serving, terminating };
            assert_eq!(standing(conditions, masked, drain), expected, "{conditions:?} {masked} {drain:?}");
        }
    }

    #[test]
    fn endpoints_that_are_not_there_leave_whatever_the_drain_rule() {
        let mut endpoints = vec![endpoint("127.0.0.1:1"), endpoint("127.0.0.1:2")];
        endpoints.iter_mut().for_each(|endpoint| endpoint.conditions.ready = true);
        let mut port = port(0, "web", endpoints);
        let mut asked: Vec<u64> = port.endpoints.iter().map(|endpoint| endpoint.hash).chain([1, u64::MAX]).collect();
        asked.sort_unstable();
        for drain in [Drain::Keep, Drain::Reset, Drain::After(Duration::from_secs(1))] {
            port.options.drain = drain;
            let there = |hash: &u64| port.endpoints.iter().any(|endpoint| endpoint.hash == *hash);
            let expected: Vec<_> = asked.iter().map(|hash| if there(hash) { Standing::Stays } else { Standing::Leaves }).collect();
            assert_eq!(standings(&port, &asked), expected);
        }
    }
}
