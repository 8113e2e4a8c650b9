//! For tests: a traffic policy that allows every ready endpoint, and fails in the way that the setting `fault` of the Service names:
//! `trap` (`choose` panics), `subset` (`choose` forwards to subset 99), `members` (a subset with a slot that is none),
//! `duplicate` (a subset with a slot twice), `many` (65 different subsets), `plan-trap`, `plan-error`.

use pointsman_sdk::prelude::*;
use pointsman_sdk::readiness::available;

/// The policy `faulty-traffic-policy`.
#[derive(Debug)]
pub struct FaultyTrafficPolicy;

impl TrafficPolicy for FaultyTrafficPolicy {
    type Plan = String;

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self)
    }

    #[expect(clippy::panic, reason = "a fault that this policy is for")]
    fn plan(&mut self, port: &ServicePort, endpoints: &[Endpoint]) -> Result<(Vec<Subset>, String), String> {
        let fault = port.setting("fault").unwrap_or("none");
        let mut members: Vec<Slot> = available(endpoints.iter()).iter().map(|endpoint| endpoint.slot).collect();
        match fault {
            "plan-error" => return Err("the setting `fault` asks for an error of plan".to_owned()),
            "plan-trap" => panic!("the setting `fault` asks for a trap in plan"),
            "members" => members.push(endpoints.len() as Slot),
            "duplicate" => members.extend(members.clone()),
            _ => {}
        }
        let mut subsets = vec![Subset { name: "ready".to_owned(), members: members.clone() }];
        if fault == "many" {
            // Each a different part of the whole, where there are slots enough.
            let parts = (1..65u32).map(|part| members.iter().copied().filter(|slot| (part >> (slot % 7)) & 1 == 1).collect());
            subsets.extend(parts.zip(1..).map(|(members, part)| Subset { name: format!("part-{part}"), members }));
        }
        Ok((subsets, fault.to_owned()))
    }

    #[expect(clippy::panic, reason = "a fault that this policy is for")]
    fn choose(&mut self, fault: &mut String, _connection: &Connection, _group: Option<u32>) -> Verdict {
        match fault.as_str() {
            "trap" => panic!("the setting `fault` asks for a trap in choose"),
            "subset" => Verdict::Forward(99),
            _ => Verdict::Forward(0),
        }
    }
}

pointsman_sdk::export_traffic_policy!(FaultyTrafficPolicy);
