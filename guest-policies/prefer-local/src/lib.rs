//! Endpoints of this node while it has ready ones, else those of the whole cluster; never a refusal for want of a local one. Only
//! where nobody anywhere is ready, endpoints that serve while they terminate: again this node's first.
//!
//! The Service's `Local` and `Cluster` are not asked: naming this policy says what they would. A selector's groups are each a Service
//! to themselves.

use pointsman_sdk::prelude::*;
use pointsman_sdk::readiness;
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
        let mut subsets = Vec::new();
        let any = add(&mut subsets, "preferred", preferred(endpoints, |_| true));
        let groups: Vec<Vec<Slot>> =
            (0..readiness::groups(endpoints)).map(|group| preferred(endpoints, |endpoint| endpoint.group == Some(group))).collect();
        // One group, and nobody outside of it: its share is the whole.
        if groups.len() == 1 && subsets.iter().map(|subset| &subset.members).eq(&groups) {
            return Ok((subsets, Plan { any, groups: vec![any] }));
        }
        let of_groups = add(&mut subsets, "preferred-by-group", groups.concat());
        let groups = groups.iter().map(|members| of_groups.filter(|_| !members.is_empty())).collect();
        Ok((subsets, Plan { any, groups }))
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
fn preferred(endpoints: &[Endpoint], among: impl Fn(&Endpoint) -> bool) -> Vec<Slot> {
    let available = readiness::available(endpoints.iter().filter(|endpoint| among(endpoint)));
    let some_local = available.iter().any(|endpoint| endpoint.local);
    let mut slots: Vec<Slot> = available.iter().filter(|e| e.local || !some_local).map(|e| e.slot).collect();
    slots.sort_unstable();
    slots
}

fn add(subsets: &mut Vec<Subset>, name: &str, mut members: Vec<Slot>) -> Option<u32> {
    if members.is_empty() {
        return None;
    }
    members.sort_unstable();
    subsets.push(Subset { name: name.to_owned(), members });
    Some(subsets.len() as u32 - 1)
}

pointsman_sdk::export_traffic_policy!(PreferLocal);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use pointsman_sdk::native::{NativeTrafficPolicy, connection, endpoints, port};

    const READY: Conditions = Conditions { ready: true, serving: true, terminating: false };
    const DRAINING: Conditions = Conditions { ready: false, serving: true, terminating: true };
    const DEAD: Conditions = Conditions { ready: false, serving: false, terminating: true };

    /// The slots that a connection may go to; `None`: refused.
    fn served(list: &[(Conditions, bool, u32)], group: Option<u32>) -> Option<Vec<Slot>> {
        let mut members = endpoints(&vec![1; list.len()]);
        for (endpoint, (conditions, local, group)) in members.iter_mut().zip(list) {
            (endpoint.conditions, endpoint.local, endpoint.group) = (*conditions, *local, Some(*group));
        }
        let mut policy = NativeTrafficPolicy::<PreferLocal>::new(&Node::default(), &[], 0).unwrap();
        let partition = policy.plan(&port(0), &members).unwrap();
        match policy.choose(&connection(0, 0), group) {
            Verdict::Forward(subset) => {
                let in_group = |slot: &&Slot| group.is_none() || members[**slot as usize].group == group;
                Some(partition.subsets[subset as usize].members.iter().filter(in_group).copied().collect())
            }
            _ => None,
        }
    }

    #[test]
    fn ready_before_terminating_and_local_before_remote() {
        assert_eq!(served(&[(READY, false, 0), (READY, true, 0), (DRAINING, true, 0)], None), Some(vec![1]));
        assert_eq!(served(&[(READY, false, 0), (DRAINING, true, 0)], None), Some(vec![0]), "ready elsewhere before draining here");
        assert_eq!(served(&[(DRAINING, false, 0), (DRAINING, true, 0)], Some(0)), Some(vec![1]));
        assert_eq!(served(&[(DRAINING, false, 0), (DEAD, true, 0)], Some(0)), Some(vec![0]));
        assert_eq!(served(&[(DEAD, true, 0)], None), None);
        assert_eq!(served(&[], Some(0)), None);
    }

    #[test]
    fn each_group_is_a_service_to_itself() {
        let list = [(READY, true, 0), (READY, false, 1), (DRAINING, true, 2)];
        assert_eq!(served(&list, None), Some(vec![0]));
        assert_eq!([0, 1, 2, 3].map(|group| served(&list, Some(group))), [Some(vec![0]), Some(vec![1]), Some(vec![2]), None]);
    }
}
