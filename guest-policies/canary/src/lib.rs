//! A share of the clients to some of the Service's pods, and the other clients to the others: a new version is tried on 5 % of them.
//!
//! The settings: `canary` says by their labels which of the pods that the Service selects are the new version (`version=v2`; any
//! selector of Kubernetes, set-based ones too), `share` is the percentage of clients that meet them. Without either, all pods are alike.
//!
//! Clients are told apart by the hash of their address, so that one stays on its side, on every node and at every port of the Service;
//! one that is among 5 % is among 10 %. Which clients these are differs from Service to Service. A side that has nobody who can serve
//! is no side: the host then takes any pod.

use pointsman_sdk::hash::{mix, xxh64};
use pointsman_sdk::prelude::*;
use pointsman_sdk::requirements::Requirements;
use pointsman_sdk::settings::only;
use serde::{Deserialize, Serialize};

/// The policy `canary`.
#[derive(Debug)]
pub struct Canary;

/// A Service port.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// `None`: no pod.
    selector: Option<Requirements>,
    /// `None`: all pods are alike.
    split: Option<Split>,
}

/// How pods and clients are divided.
#[derive(Debug, Serialize, Deserialize)]
struct Split {
    canary: Requirements,
    /// In millionths.
    share: u32,
    /// Of the Service.
    salt: u64,
}

impl Selector for Canary {
    type Plan = Plan;

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&mut self, port: &ServicePort) -> Result<(Vec<String>, Plan), String> {
        only(&port.settings, &[CANARY, SHARE])?;
        let selector = port.selector.as_deref().map(Requirements::equal);
        let (text, percentage) = match (port.setting(CANARY), port.setting(SHARE)) {
            (Some(text), Some(percentage)) => (text, percentage),
            (None, None) => return Ok((vec!["all".to_owned()], Plan { selector, split: None })),
            (Some(_), None) => return Err(format!("{CANARY} is set and {SHARE} is not: it is the percentage of clients, such as 5%")),
            (None, Some(_)) => return Err(format!("{SHARE} is set and {CANARY} is not: it says which pods, such as version=v2")),
        };
        if selector.is_none() {
            return Err(format!("{CANARY} is asked of pods, and the Service has no selector"));
        }
        let canary = Requirements::parse(text).map_err(|why| format!("{CANARY} is `{text}`; {why}"))?;
        if canary.is_empty() {
            return Err(format!("{CANARY} is empty, which all pods are; it says which pods, such as version=v2"));
        }
        let share = share(percentage)?;
        let salt = xxh64(format!("{}/{}", port.namespace, port.name).as_bytes(), 0);
        let groups = vec!["stable".to_owned(), "canary".to_owned()];
        Ok((groups, Plan { selector, split: Some(Split { canary, share, salt }) }))
    }

    fn classify(&mut self, plan: &Plan, labels: &[Label]) -> Option<u32> {
        let selected = plan.selector.as_ref()?.met_by(labels);
        let canary = plan.split.as_ref().is_some_and(|split| split.canary.met_by(labels));
        selected.then_some(u32::from(canary))
    }

    fn choose(&mut self, plan: &mut Plan, connection: &Connection) -> Option<u32> {
        let split = plan.split.as_ref()?;
        // Mixed, or a balancer that goes by the same hash would have half of a table for either side.
        let drawn = ((u128::from(mix(connection.client_hash ^ split.salt)) * u128::from(MILLION)) >> 64) as u32;
        Some(u32::from(drawn < split.share))
    }
}

/// In millionths.
fn share(value: &str) -> Result<u32, String> {
    let parse = |value: &str| {
        let number = value.strip_suffix('%')?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 4 {
            return None;
        }
        let whole = whole.parse::<u32>().ok()?.checked_mul(MILLION / 100)?;
        Some(whole + format!("{fraction:0<4}").parse::<u32>().ok()?).filter(|share| *share <= MILLION)
    };
    parse(value).ok_or_else(|| format!("{SHARE} is `{value}`; it must be a percentage from 0% to 100%, such as 5% or 0.25%"))
}

const CANARY: &str = "canary";
const SHARE: &str = "share";

const MILLION: u32 = 1_000_000;

pointsman_sdk::export_selector!(Canary);

#[cfg(test)]
mod tests;
