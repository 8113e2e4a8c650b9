//! The numbers of a comparison, as `metrics` defines them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::world::{Loads, Seen};
use crate::policy::contract::{Connection, ServiceId, Slot};
use crate::workbench::metrics::{self, Balance, Disruption, Visit};
use crate::workbench::report::{Estimate, Line, Metric, Plot, RANKED, Subject};

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
    /// Of clients that come back.
    visits: Disruption,
    /// Of those that come back after the endpoints changed.
    changes: Disruption,
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

/// `in-flight-gap`, at each pick.
#[derive(Default)]
struct Gap {
    calls: u64,
    max: f64,
    /// Looks and their sum, in each interval.
    over_time: BTreeMap<u64, (u64, f64)>,
}

/// Who goes elsewhere than on the other side.
#[derive(Default)]
pub(super) struct Moved {
    connections: Share,
    clients: BTreeMap<(ServiceId, u64), bool>,
}

/// Looks within so many milliseconds are one point of a plot.
const INTERVAL_MS: u64 = 100;
/// Larger sets are looked at less often, so that a look costs so many endpoints a pick.
const ENDPOINTS_A_LOOK: u64 = 64;
/// Points of a plot over time.
const MOMENTS: u64 = 200;

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
            let left = !weights.contains_key(before);
            let is_new = *among_before != among && self.weights.get(among_before).is_none_or(|weights| !weights.contains_key(key));
            let visit = Visit::of(before, key, left, is_new);
            self.visits.count(visit);
            if *among_before != among {
                self.changes.count(visit);
            }
        }
        self.last.insert(client, (Arc::clone(key), among));
        *self.picks.entry(among).or_default().entry(Arc::clone(key)).or_default() += 1;
    }

    /// A connection has begun; these are the members of its candidate set, with their weights.
    pub(super) fn in_flight(&mut self, members: &[(Arc<str>, u32)], loads: &Loads, now_ms: u64) {
        self.gap.calls += 1;
        if members.is_empty() || !self.gap.calls.is_multiple_of((members.len() as u64).div_ceil(ENDPOINTS_A_LOOK)) {
            return;
        }
        let active = members.iter().map(|(key, weight)| (f64::from(loads.active(key)), f64::from(*weight)));
        let Some(gap) = metrics::gap(active) else { return };
        let (looks, sum) = self.gap.over_time.entry(now_ms / INTERVAL_MS).or_default();
        (*looks, *sum) = (*looks + 1, *sum + gap);
        self.gap.max = self.gap.max.max(gap);
    }

    /// Over all sets, each as much as it was used: max/mean, and Jain's index, of picks by weight.
    fn balance(&self) -> (f64, f64) {
        let (mut imbalance, mut jain, mut total) = (0.0, 0.0, 0.0);
        for (among, picks) in &self.picks {
            let Some(weights) = self.weights.get(among).filter(|weights| !weights.is_empty()) else { continue };
            let count = |key: &Arc<str>| picks.get(key).copied().unwrap_or_default() as f64;
            let of: Vec<f64> = weights.iter().map(|(key, weight)| count(key) / f64::from(*weight)).collect();
            if let Some(balance) = Balance::of(&of) {
                let used = picks.values().sum::<u64>() as f64;
                imbalance += used * balance.imbalance;
                jain += used * balance.jain;
                total += used;
            }
        }
        if total > 0.0 { (imbalance / total, jain / total) } else { (1.0, 1.0) }
    }

    fn fuel(&self) -> Option<[f64; 3]> {
        let mut fuel = self.fuel.clone();
        let mut at = |part| metrics::quantile(&mut fuel, part).map(|fuel| fuel as f64);
        Some([at(0.5)?, at(0.99)?, at(1.0)?])
    }

    /// By endpoint of each Service port; also of those that were never picked.
    fn picks_by_endpoint(&self) -> Vec<f64> {
        let mut sums: BTreeMap<(ServiceId, &str), u64> = BTreeMap::new();
        for (among, weights) in &self.weights {
            let picks = self.picks.get(among);
            for key in weights.keys() {
                let count = picks.and_then(|picks| picks.get(key)).copied().unwrap_or_default();
                *sums.entry((among.0, key)).or_default() += count;
            }
        }
        sums.into_values().map(|picks| picks as f64).collect()
    }
}

impl Gap {
    fn mean(&self) -> Option<f64> {
        let (looks, sum) = self.over_time.values().fold((0, 0.0), |(looks, sum), interval| (looks + interval.0, sum + interval.1));
        (looks > 0).then(|| sum / looks as f64)
    }

    /// Seconds since `from` and the gap, so many points at most.
    fn points(&self, from: u64, to: u64) -> Vec<(f64, f64)> {
        let width = (to - from) / MOMENTS + 1;
        let mut points: BTreeMap<u64, (u64, f64)> = BTreeMap::new();
        for (interval, (looks, sum)) in &self.over_time {
            let (all_looks, all) = points.entry((interval - from) / width).or_default();
            (*all_looks, *all) = (*all_looks + looks, *all + sum);
        }
        let seconds = |interval: u64| (interval * width * INTERVAL_MS) as f64 / 1000.0;
        points.into_iter().map(|(interval, (looks, sum))| (seconds(interval), sum / looks as f64)).collect()
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
        one("moved-connections", "%", moved.connections.percent()),
        one("moved-clients", "%", percent(moved_clients, moved.clients.len() as u64)),
        both("imbalance", "", [a, b].map(imbalance)),
        both("jain", "", [a, b].map(jain)),
    ];
    // Where a client came back, where endpoints changed before it did, where there is load.
    let mut where_seen = |name, unit, of: &dyn Fn(&Measures) -> Option<f64>| {
        metrics.extend(of(a).zip(of(b)).map(|(a, b)| both(name, unit, [a, b])));
    };
    where_seen("affinity-kept", "%", &|m| Some((1.0 - m.visits.disruption()?) * 100.0));
    where_seen("disruption", "%", &|m| Some(m.changes.disruption()? * 100.0));
    where_seen("minimal", "%", &|m| Some(m.changes.minimal_part()? * 100.0));
    where_seen("collateral", "%", &|m| Some(m.changes.collateral_part()? * 100.0));
    if closed_loop {
        where_seen("in-flight-gap", "connections", &|m| m.gap.mean());
        where_seen("in-flight-gap-max", "connections", &|m| m.gap.mean().map(|_| m.gap.max));
    }
    for (at, name) in ["fuel-p50", "fuel-p99", "fuel-max"].into_iter().enumerate() {
        match (a.fuel(), b.fuel()) {
            (Some(a), Some(b)) => metrics.push(both(name, "fuel", [a[at], b[at]])),
            // What was recorded has no fuel.
            (None, Some(b)) => metrics.push(one(&format!("b-{name}"), "fuel", b[at])),
            _ => {}
        }
    }
    metrics
}

/// What can be drawn of both.
pub(super) fn plots(subjects: &[Subject], a: &Measures, b: &Measures) -> Vec<Plot> {
    let sides = || subjects.iter().map(|subject| subject.name.clone()).zip([a, b]);
    let picks = sides().map(|(name, side)| Line::ranked(name, side.picks_by_endpoint())).collect();
    let mut plots = vec![Plot {
        title: "Picks by endpoint".to_owned(),
        x: RANKED.to_owned(),
        y: "connections".to_owned(),
        logarithmic: false,
        lines: picks,
    }];
    let intervals = || [a, b].into_iter().flat_map(|side| side.gap.over_time.keys().copied());
    if let (Some(from), Some(to)) = (intervals().min(), intervals().max()) {
        plots.push(Plot {
            title: "In-flight gap over time".to_owned(),
            x: "time (s)".to_owned(),
            y: "most loaded endpoint above the mean (connections)".to_owned(),
            logarithmic: false,
            lines: sides().map(|(label, side)| Line { label, points: side.gap.points(from, to) }).collect(),
        });
    }
    plots
}

fn both(name: &str, unit: &str, values: [f64; 2]) -> Metric {
    Metric { name: name.to_owned(), unit: unit.to_owned(), values: values.map(Estimate::exact).to_vec(), differs: None }
}

/// Of the two together, or as its name says.
fn one(name: &str, unit: &str, value: f64) -> Metric {
    Metric { name: name.to_owned(), unit: unit.to_owned(), values: vec![Estimate::exact(value)], differs: None }
}

fn percent(count: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { count as f64 * 100.0 / of as f64 }
}
