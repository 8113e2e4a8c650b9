//! The numbers of a comparison. Names and definitions are the workbench's: imbalance max/mean, Jain's index, disruption, collateral.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::world::{Loads, Seen};
use crate::policy::contract::{Connection, ServiceId, Slot};
use crate::workbench::report::{Estimate, Metric};

/// What one side's picks came to.
#[derive(Default)]
pub(super) struct Measures {
    pub(super) connections: u64,
    /// Of each pick.
    pub(super) fuel: Vec<u64>,
    /// Picks by candidate set, in one generation of it, and endpoint.
    picks: BTreeMap<Among, BTreeMap<Arc<str>, u64>>,
    /// Of the same sets: usable endpoints with their weights.
    weights: BTreeMap<Among, BTreeMap<Arc<str>, u32>>,
    /// Each client's last endpoint, and among whom it was picked.
    last: HashMap<(ServiceId, u64), (Arc<str>, Among)>,
    affinity: Share,
    disruption: Share,
    minimal: u64,
    gap: Gap,
}

/// A candidate set: Service port, the number of its state, the set's own.
type Among = (ServiceId, u32, u32);

/// So many of so many.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    of: u64,
    count: u64,
}

/// In-flight connections: the most of any endpoint less the mean, at each pick.
#[derive(Default)]
struct Gap {
    calls: u64,
    samples: u64,
    sum: f64,
    max: f64,
}

/// Who goes elsewhere than on the other side.
#[derive(Default)]
pub(super) struct Moved {
    connections: Share,
    clients: BTreeMap<(ServiceId, u64), bool>,
}

/// Larger sets are looked at less often, so that a look costs so many endpoints a pick.
const ENDPOINTS_A_LOOK: u64 = 64;

impl Measures {
    /// A connection was sent to `key`, one of a candidate set.
    pub(super) fn picked(&mut self, connection: &Connection, seen: &Seen, (set, members): (u32, &[Slot]), key: &Arc<str>) {
        self.connections += 1;
        let among = (connection.service, seen.number, set);
        let weights = self.weights.entry(among).or_insert_with(|| {
            let usable = members.iter().filter(|slot| seen.weight(**slot) > 0 && !seen.record.masked.contains(slot));
            usable.filter_map(|slot| Some((seen.key(*slot)?, seen.weight(*slot)))).collect()
        });
        let client = (connection.service, connection.client_hash);
        if let Some((before, among_before)) = self.last.get(&client) {
            let stays = weights.contains_key(before);
            if stays {
                self.affinity.add(before == key);
            }
            if *among_before != among {
                let moved = before != key;
                self.disruption.add(moved);
                let is_new = self.weights.get(among_before).is_none_or(|weights| !weights.contains_key(key));
                self.minimal += u64::from(moved && (!stays || is_new));
            }
        }
        self.last.insert(client, (Arc::clone(key), among));
        *self.picks.entry(among).or_default().entry(Arc::clone(key)).or_default() += 1;
    }

    /// A connection has begun; these are the members of its candidate set.
    pub(super) fn in_flight(&mut self, keys: &[Arc<str>], loads: &Loads) {
        self.gap.calls += 1;
        if keys.is_empty() || !self.gap.calls.is_multiple_of((keys.len() as u64).div_ceil(ENDPOINTS_A_LOOK)) {
            return;
        }
        let active = || keys.iter().map(|key| f64::from(loads.active(key)));
        let gap = active().fold(0.0, f64::max) - active().sum::<f64>() / keys.len() as f64;
        self.gap.samples += 1;
        self.gap.sum += gap;
        self.gap.max = self.gap.max.max(gap);
    }

    /// Over all sets, each as much as it was used: max/mean, and Jain's index, of picks by weight.
    fn balance(&self) -> (f64, f64) {
        let (mut imbalance, mut jain, mut total) = (0.0, 0.0, 0.0);
        for (among, picks) in &self.picks {
            let Some(weights) = self.weights.get(among).filter(|weights| !weights.is_empty()) else { continue };
            let count = |key: &Arc<str>| picks.get(key).copied().unwrap_or_default() as f64;
            let of: Vec<f64> = weights.iter().map(|(key, weight)| count(key) / f64::from(*weight)).collect();
            let (sum, squares) = (of.iter().sum::<f64>(), of.iter().map(|x| x * x).sum::<f64>());
            if sum > 0.0 {
                let used = picks.values().sum::<u64>() as f64;
                let n = of.len() as f64;
                imbalance += used * of.iter().copied().fold(0.0, f64::max) / (sum / n);
                jain += used * sum * sum / (n * squares);
                total += used;
            }
        }
        if total > 0.0 { (imbalance / total, jain / total) } else { (1.0, 1.0) }
    }

    fn fuel(&self) -> Option<[f64; 3]> {
        let mut fuel = self.fuel.clone();
        fuel.sort_unstable();
        let at = |percent: usize| fuel.get((fuel.len() * percent / 100).min(fuel.len().saturating_sub(1))).map(|fuel| *fuel as f64);
        Some([at(50)?, at(99)?, at(100)?])
    }
}

impl Share {
    fn add(&mut self, yes: bool) {
        self.of += 1;
        self.count += u64::from(yes);
    }

    fn percent(self) -> f64 {
        percent(self.count, self.of)
    }
}

impl Moved {
    pub(super) fn add(&mut self, connection: &Connection, moved: bool) {
        self.connections.add(moved);
        *self.clients.entry((connection.service, connection.client_hash)).or_default() |= moved;
    }
}

/// The numbers of both, beside each other.
pub(super) fn comparison(a: &Measures, b: &Measures, moved: &Moved, closed_loop: bool) -> Vec<Metric> {
    let moved_clients = moved.clients.values().filter(|moved| **moved).count() as u64;
    let (imbalance, jain) = (|m: &Measures| m.balance().0, |m: &Measures| m.balance().1);
    let mut metrics = vec![
        both("connections", "", [a, b].map(|m| m.connections as f64)),
        alone("moved-connections", "%", moved.connections.percent()),
        alone("moved-clients", "%", percent(moved_clients, moved.clients.len() as u64)),
        both("imbalance", "", [a, b].map(imbalance)),
        both("jain", "", [a, b].map(jain)),
        both("affinity-survival", "%", [a, b].map(|m| if m.affinity.of == 0 { 100.0 } else { m.affinity.percent() })),
        both("disruption", "%", [a, b].map(|m| m.disruption.percent())),
        both("collateral", "%", [a, b].map(|m| percent(m.disruption.count - m.minimal, m.disruption.of))),
    ];
    if closed_loop {
        metrics.push(both("in-flight-gap", "", [a, b].map(|m| m.gap.sum / (m.gap.samples.max(1)) as f64)));
        metrics.push(both("in-flight-gap-max", "", [a, b].map(|m| m.gap.max)));
    }
    for (at, name) in ["fuel-p50", "fuel-p99", "fuel-max"].into_iter().enumerate() {
        match (a.fuel(), b.fuel()) {
            (Some(a), Some(b)) => metrics.push(both(name, "fuel", [a[at], b[at]])),
            (None, Some(b)) => metrics.push(alone(name, "fuel", b[at])),
            _ => {}
        }
    }
    metrics
}

fn both(name: &str, unit: &str, values: [f64; 2]) -> Metric {
    let differs = Some(values[0] != values[1]);
    Metric { name: name.to_owned(), unit: unit.to_owned(), values: values.map(Estimate::exact).to_vec(), differs }
}

/// Of the second side alone.
fn alone(name: &str, unit: &str, value: f64) -> Metric {
    Metric { name: name.to_owned(), unit: unit.to_owned(), values: vec![Estimate::exact(value)], differs: None }
}

fn percent(count: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { count as f64 * 100.0 / of as f64 }
}
