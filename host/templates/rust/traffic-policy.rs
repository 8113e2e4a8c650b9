//! Connections stay in this node's zone while somebody ready is there; else they go to anybody who is ready.
//!
//! A selector's groups are each a Service to themselves.

use pointsman_sdk::prelude::*;
use pointsman_sdk::readiness::available;
use pointsman_sdk::subsets::Cut;

/// The policy.
#[derive(Debug)]
pub struct ZoneFirst {
    zone: Option<String>,
}

impl TrafficPolicy for ZoneFirst {
    /// The subset for connections to any group, then those of the groups; `None`: nobody can serve.
    type Plan = Vec<Option<u32>>;

    fn configure(_place: Place, node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self { zone: node.zone.clone() })
    }

    fn plan(&mut self, _port: &ServicePort, endpoints: &[Endpoint]) -> Result<(Vec<Subset>, Self::Plan), String> {
        let mut cut = Cut::new(endpoints);
        let rows = cut.add("zone-first", |list| self.preferred(list));
        Ok((cut.subsets(), rows))
    }

    fn choose(&mut self, plan: &mut Self::Plan, _connection: &Connection, group: Option<u32>) -> Verdict {
        let row = group.map_or(0, |group| group as usize + 1);
        plan.get(row).copied().flatten().map_or(Verdict::Reject, Verdict::Forward)
    }
}

impl ZoneFirst {
    fn preferred<'e>(&self, list: &[&'e Endpoint]) -> Vec<&'e Endpoint> {
        let available = available(list.iter().copied());
        let near: Vec<_> = available.iter().copied().filter(|endpoint| self.zone.is_some() && endpoint.zone == self.zone).collect();
        if near.is_empty() { available } else { near }
    }
}

pointsman_sdk::export_traffic_policy!(ZoneFirst);

#[cfg(test)]
mod tests {
    use pointsman_sdk::native::{self, NativeTrafficPolicy};

    use super::*;

    /// Endpoints in these zones; those with a `!` are not ready.
    fn endpoints(zones: &[&str]) -> Vec<Endpoint> {
        let mut endpoints = native::endpoints(&vec![1; zones.len()]);
        for (endpoint, zone) in endpoints.iter_mut().zip(zones) {
            endpoint.conditions.ready = !zone.contains('!');
            endpoint.zone = Some(zone.trim_matches('!').to_owned());
        }
        endpoints
    }

    /// Who may serve a connection on a node in zone `a`.
    fn members(zones: &[&str]) -> Option<Vec<Slot>> {
        let node = Node { zone: Some("a".to_owned()), ..Node::default() };
        let mut policy = NativeTrafficPolicy::<ZoneFirst>::new(&node, &[], 7).unwrap();
        let partition = policy.plan(&native::port(0), &endpoints(zones)).unwrap();
        match policy.choose(&native::connection(0, 0), None) {
            Verdict::Forward(subset) => Some(partition.subsets[subset as usize].members.clone()),
            Verdict::Reject | Verdict::Drop => None,
        }
    }

    #[test]
    fn the_zone_first_then_anybody_then_nobody() {
        assert_eq!(members(&["a", "b", "a!"]), Some(vec![0]));
        assert_eq!(members(&["a!", "b", "c"]), Some(vec![1, 2]));
        assert_eq!(members(&[]), None);
    }
}
