//! How flows stand when the table changes.

use crate::table::{Drain, Endpoint};

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

/// What becomes of flows to an endpoint, as the table in force has it; `None`: it is not there any more.
///
/// A datagram to an endpoint that is gone meets nobody, and a client that never changes its port would go on sending there forever: such
/// flows end at once, whatever the Service says of draining. Of those that are there, Kubernetes ends the flows of endpoints that are not
/// *serving* (kubernetes-semantics 3.14), and only while another one serves; here they end in any case, because a flow that nobody
/// serves is better refused than lost (kubernetes/kubernetes#139628). `pointsman.dev/drain` makes that sooner or later: `reset` ends flows as soon as
/// their endpoint is no longer ready, and a time is given from then on.
pub(in crate::dataplane::udp) fn standing(endpoint: Option<&Endpoint>, drain: Drain) -> Standing {
    let Some(conditions) = endpoint.map(|endpoint| endpoint.conditions) else { return Standing::Leaves };
    match drain {
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
    use crate::observe::fixture::endpoint;
    use crate::table::Conditions;

    #[test]
    fn only_serving_endpoints_keep_their_flows_and_a_drain_rule_changes_when() {
        let grace = Drain::After(Duration::from_secs(30));
        let (keep, reset) = (Drain::Keep, Drain::Reset);
        let (stays, leaves, later) = (Standing::Stays, Standing::Leaves, Standing::LeavesAfter(30_000));
        // (ready, serving, terminating), or gone.
        let ready = Some((true, true, false));
        let terminating = Some((false, true, true));
        let unready = Some((false, false, false));
        for (conditions, drain, expected) in [
            (None, keep, leaves),
            (None, reset, leaves),
            (None, grace, leaves),
            (ready, keep, stays),
            (ready, reset, stays),
            (ready, grace, stays),
            (terminating, keep, stays),
            (terminating, reset, leaves),
            (terminating, grace, later),
            (unready, keep, leaves),
            (unready, reset, leaves),
            (unready, grace, later),
        ] {
            let endpoint = conditions.map(|(ready, serving, terminating)| {
                let mut endpoint = endpoint("127.0.0.1:1");
                endpoint.conditions = Conditions { ready, serving, terminating };
                endpoint
            });
            assert_eq!(standing(endpoint.as_ref(), drain), expected, "{conditions:?} {drain:?}");
        }
    }
}
