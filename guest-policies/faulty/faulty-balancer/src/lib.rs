//! For tests: a balancer that fails in the way that the setting `fault` names, of the Service (`pointsman.dev/balancer.fault: trap`)
//! or of the host. The setting `rate` says in how many per cent of the picks, by `connection.random`; without it, in all.
//!
//! | `fault` | |
//! |---|---|
//! | `none` (or no setting) | picks the first endpoint by key |
//! | `trap`, `loop`, `grow` | `pick` panics, never ends, allocates without end |
//! | `slot` | `pick` returns a slot outside the set, 4294967295 |
//! | `log-flood` | `pick` logs 100 lines, then picks |
//! | `adopt-trap` | `adopt` panics |
//! | `garbage-plan` | `plan` returns bytes that `adopt` cannot decode: no opinion |
//! | `huge-plan` | `plan` tries to return 17 MiB |
//! | `plan-trap`, `plan-loop`, `plan-error` | `plan` panics, never ends, refuses |
//! | `configure-error`, `configure-trap` | `configure` refuses, panics (of the host's settings only) |

use pointsman_sdk::prelude::*;
use serde::{Deserialize, Serialize, Serializer};

/// The policy `faulty-balancer`.
#[derive(Debug)]
pub struct FaultyBalancer {
    settings: Vec<Setting>,
}

/// Which endpoint, and what goes wrong.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    first: Option<Slot>,
    fault: String,
    rate: u64,
    padding: Packed<u64>,
    #[serde(serialize_with = "unless_garbage")]
    mark: u64,
}

impl Balancer for FaultyBalancer {
    type Plan = Plan;

    #[expect(clippy::panic, reason = "a fault that this policy is for")]
    fn configure(_place: Place, _node: &Node, settings: &[Setting]) -> Result<Self, String> {
        match setting(settings, "fault") {
            Some("configure-error") => Err("the setting `fault` asks for an error of configure".to_owned()),
            Some("configure-trap") => panic!("the setting `fault` asks for a trap in configure"),
            _ => Ok(Self { settings: settings.to_vec() }),
        }
    }

    #[expect(clippy::panic, reason = "a fault that this policy is for")]
    fn plan(&mut self, port: &ServicePort, members: &[Endpoint]) -> Result<Plan, String> {
        let asked = |key| port.setting(key).or_else(|| setting(&self.settings, key));
        let fault = asked("fault").unwrap_or("none");
        match fault {
            "plan-error" => return Err("the setting `fault` asks for an error of plan".to_owned()),
            "plan-trap" => panic!("the setting `fault` asks for a trap in plan"),
            "plan-loop" => for_ever(),
            _ => {}
        }
        let rate = asked("rate").map_or(Ok(100), str::parse).map_err(|_| "`rate` is not a number of per cent")?;
        let first = members.iter().filter(|endpoint| endpoint.weight > 0).min_by(|a, b| a.key.cmp(&b.key));
        Ok(Plan {
            first: first.map(|endpoint| endpoint.slot),
            fault: fault.to_owned(),
            rate,
            padding: (0..if fault == "huge-plan" { 17 << 17 } else { 0 }).collect(),
            mark: if fault == "garbage-plan" { GARBAGE } else { 0 },
        })
    }

    #[expect(clippy::panic, reason = "a fault that this policy is for")]
    fn adopt(&mut self, plan: Plan, _previous: Option<Plan>) -> Plan {
        if plan.fault == "adopt-trap" {
            panic!("the setting `fault` asks for a trap in adopt");
        }
        plan
    }

    #[expect(clippy::panic, reason = "a fault that this policy is for")]
    fn pick(&mut self, plan: &mut Plan, connection: &Connection, _load: &impl Load) -> Option<Slot> {
        if connection.random % 100 >= plan.rate {
            return plan.first;
        }
        match plan.fault.as_str() {
            "trap" => panic!("the setting `fault` asks for a trap in pick"),
            "loop" => for_ever(),
            "grow" => grow(),
            "recurse" => Some(recurse(connection.random, plan.rate) as Slot),
            "slot" => Some(Slot::MAX),
            "log-flood" => {
                (0..100).for_each(|line| pointsman_sdk::log::info(&format!("flood, line {line}")));
                plan.first
            }
            _ => plan.first,
        }
    }
}

fn setting<'s>(settings: &'s [Setting], key: &str) -> Option<&'s str> {
    settings.iter().find(|setting| setting.key == key).map(|setting| setting.value.as_str())
}

fn for_ever() -> ! {
    loop {
        std::hint::black_box(());
    }
}

fn grow() -> ! {
    let mut kept = Vec::new();
    loop {
        kept.push(vec![1u8; 1 << 16]);
        std::hint::black_box(&kept);
    }
}

/// Each call needs what the one below it answers, so none can be turned into a jump.
#[inline(never)]
fn recurse(depth: u64, seed: u64) -> u64 {
    if depth == u64::MAX {
        return seed;
    }
    recurse(depth.saturating_add(1), seed.rotate_left(1)).rotate_left(3) ^ depth
}

/// Leaves the mark out, so that the plan ends too early.
fn unless_garbage<S: Serializer>(mark: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    if *mark == GARBAGE { serializer.serialize_unit() } else { serializer.serialize_u64(*mark) }
}

const GARBAGE: u64 = u64::MAX;

pointsman_sdk::export_balancer!(FaultyBalancer);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use pointsman_sdk::native::{self, NativeBalancer, connection, endpoints, port};

    fn with(settings: &[(&str, &str)]) -> ServicePort {
        ServicePort { settings: settings.iter().map(|(key, value)| native::setting(key, value)).collect(), ..port(0) }
    }

    fn pick(settings: &[(&str, &str)], n: u64) -> Option<Slot> {
        let mut balancer = NativeBalancer::<FaultyBalancer>::new(&[], 0).unwrap();
        balancer.plan(&with(settings), 0, &endpoints(&[1, 1])).unwrap();
        balancer.pick(&connection(0, n), 0, &Idle)
    }

    #[test]
    fn faults_are_chosen_by_setting() {
        assert_eq!(pick(&[], 0), Some(0));
        assert_eq!(pick(&[("fault", "slot")], 0), Some(Slot::MAX));
        assert_eq!(pick(&[("fault", "garbage-plan")], 0), None);
        assert_eq!(pick(&[("fault", "huge-plan")], 0), None, "more than the codec takes");
        assert_eq!(pick(&[("fault", "log-flood"), ("rate", "0")], 0), Some(0));
        assert!(NativeBalancer::<FaultyBalancer>::new(&[native::setting("fault", "configure-error")], 0).is_err());
    }

    #[test]
    fn faults_come_at_a_rate() {
        let faults = (0..1000).filter(|n| pick(&[("fault", "slot"), ("rate", "10")], *n) == Some(Slot::MAX)).count();
        assert!((60..140).contains(&faults), "{faults}");
    }
}
