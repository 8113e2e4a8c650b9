//! What a run shows: counted as it goes, summed up at its end.

use std::time::Duration;

use super::scenario::{Action, Scenario};
use super::world::Node;
use crate::workbench::metrics::{
    Balance, Burst, Disruption, Herd, Oscillation, Schedule, Visit, chi_square_p, gap, quantile, weight_error,
};
use crate::workbench::subject::Answer;

/// A metric of simulations.
pub struct SimMetric {
    /// As reports and expectations name it.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    value: fn(&mut Observed) -> Option<f64>,
}

const fn metric(name: &'static str, unit: &'static str, value: fn(&mut Observed) -> Option<f64>) -> SimMetric {
    SimMetric { name, unit, value }
}

/// All of them, in the order of the report. One that has nothing to say in a run (nobody joined, nobody came back) is left out.
pub const METRICS: &[SimMetric] = &[
    metric("connections", "", |o| Some(o.connections as f64)),
    metric("failed", "%", |o| o.percent(o.failed, o.connections)),
    metric("retried", "%", |o| o.percent(o.unreached, o.picks)),
    metric("imbalance", "", |o| Some(o.balance()?.imbalance)),
    metric("min-to-mean", "", |o| Some(o.balance()?.min_to_mean)),
    metric("cv", "", |o| Some(o.balance()?.cv)),
    metric("jain", "", |o| Some(o.balance()?.jain)),
    metric("chi-square-p", "", |o| {
        let (picks, expected) = o.measurable();
        chi_square_p(&picks, &expected)
    }),
    metric("weight-error", "%", |o| {
        let (picks, expected) = o.schedule.counts();
        weight_error(&picks, &expected)
    }),
    metric("in-flight-gap", "connections", |o| (o.samples > 0).then(|| o.gaps / o.samples as f64)),
    metric("in-flight-gap-max", "connections", |o| (o.samples > 0).then_some(o.gap_max)),
    metric("oscillation", "1/s", |o| o.oscillation.per_second(o.sample.as_secs_f64())),
    metric("queue-wait-p50", "ms", |o| o.waited(0.5)),
    metric("queue-wait-p99", "ms", |o| o.waited(0.99)),
    metric("latency-p50", "ms", |o| Some(millis(quantile(&mut o.latencies, 0.5)?))),
    metric("latency-p99", "ms", |o| Some(millis(quantile(&mut o.latencies, 0.99)?))),
    metric("affinity-kept", "%", |o| o.visits.disruption().map(|moved| (1.0 - moved) * 100.0)),
    metric("disruption", "%", |o| o.changes.disruption().map(|part| part * 100.0)),
    metric("minimal", "%", |o| o.changes.minimal_part().map(|part| part * 100.0)),
    metric("collateral", "%", |o| o.changes.collateral_part().map(|part| part * 100.0)),
    metric("herd-share", "%", |o| o.herd.shares().map(|(share, _)| share * 100.0)),
    metric("herd-ratio", "", |o| o.herd.shares().map(|(_, ratio)| ratio)),
    metric("burst", "connections", |o| Some(o.burst.most() as f64)),
    metric("max-run", "connections", |o| Some(o.schedule.longest_run() as f64)),
    metric("schedule-deviation", "connections", |o| Some(o.schedule.deviation())),
    metric("declined", "%", |o| o.percent(o.declined, o.picks)),
    metric("faulted", "%", |o| o.percent(o.faulted, o.picks)),
    metric("fallback", "%", |o| o.percent(o.fallbacks, o.picks)),
    metric("refused-plans", "", |o| Some(o.refused_plans as f64)),
    metric("fuel-p50", "fuel", |o| Some(quantile(&mut o.fuel, 0.5)? as f64)),
    metric("fuel-p99", "fuel", |o| Some(quantile(&mut o.fuel, 0.99)? as f64)),
    metric("fuel-max", "fuel", |o| Some(quantile(&mut o.fuel, 1.0)? as f64)),
    metric("plan-fuel", "fuel", |o| (o.plan_fuel > 0).then_some(o.plan_fuel as f64)),
    metric("adopt-fuel", "fuel", |o| (o.adopt_fuel > 0).then_some(o.adopt_fuel as f64)),
    metric("memory-peak", "bytes", |o| (o.memory_peak > 0).then_some(o.memory_peak as f64)),
];

/// Endpoints that expected fewer picks are left out of `imbalance` and its like, and of `chi-square-p`: theirs is chance.
const MIN_EXPECTED: f64 = 20.0;
/// Loads are looked at so often, or a hundred times where the simulation is shorter than that allows.
const SAMPLE: Duration = Duration::from_millis(100);

/// Counted in one run.
pub(super) struct Observed {
    measuring: bool,
    pub(super) sample: Duration,
    connections: u64,
    failed: u64,
    picks: u64,
    unreached: u64,
    declined: u64,
    faulted: u64,
    fallbacks: u64,
    refused_plans: u64,
    schedule: Schedule,
    pub(super) herd: Herd,
    burst: Burst,
    oscillation: Oscillation,
    /// Of clients that come back.
    visits: Disruption,
    /// Of those that come back after a change of endpoints.
    changes: Disruption,
    waits: Vec<u64>,
    latencies: Vec<u64>,
    fuel: Vec<u64>,
    plan_fuel: u64,
    adopt_fuel: u64,
    memory_peak: u64,
    has_queues: bool,
    samples: u64,
    gaps: f64,
    gap_max: f64,
    over_time: Vec<Moment>,
    moment: Moment,
}

/// What is seen in one interval between two samples, measured or not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moment {
    /// At its end.
    pub(super) gap: f64,
    /// Connections of clients that had been there before.
    pub(super) returning: u64,
    /// Of these, to the endpoint that they had.
    pub(super) kept: u64,
}

/// What a run leaves behind.
pub(super) struct Summary {
    /// By the order of `METRICS`.
    pub(super) values: Vec<Option<f64>>,
    pub(super) over_time: Vec<Moment>,
    pub(super) sample: Duration,
    /// Picks by those expected, the busiest endpoint first.
    pub(super) loads: Vec<f64>,
    /// Milliseconds waited, by the parts asked for; empty where nobody can wait.
    pub(super) waits: Vec<f64>,
}

impl Observed {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let added = scenario.events.iter().filter_map(|event| if let Action::Add(group) = &event.action { Some(group) } else { None });
        let mut groups = scenario.endpoints.iter().chain(added);
        Self {
            measuring: false,
            sample: SAMPLE.min(Duration::from_nanos(scenario.duration.nanos / 100)).max(Duration::from_nanos(1)),
            connections: 0,
            failed: 0,
            picks: 0,
            unreached: 0,
            declined: 0,
            faulted: 0,
            fallbacks: 0,
            refused_plans: 0,
            schedule: Schedule::default(),
            herd: Herd::default(),
            burst: Burst::default(),
            oscillation: Oscillation::default(),
            visits: Disruption::default(),
            changes: Disruption::default(),
            waits: Vec::new(),
            latencies: Vec::new(),
            fuel: Vec::new(),
            plan_fuel: 0,
            adopt_fuel: 0,
            memory_peak: 0,
            has_queues: groups.any(|group| group.capacity.is_some()),
            samples: 0,
            gaps: 0.0,
            gap_max: 0.0,
            over_time: Vec::new(),
            moment: Moment::default(),
        }
    }

    /// From here on it counts.
    pub(super) fn measure(&mut self) {
        self.measuring = true;
        self.schedule.restart();
    }

    /// A plan was adopted.
    pub(super) fn members(&mut self, members: impl Iterator<Item = (usize, f64)>) {
        self.schedule.set_members(members);
    }

    /// A plan was made and adopted, whether it is measured or not: the first may be the only one.
    pub(super) fn planned(&mut self, (plan, adopt): (u64, u64)) {
        self.plan_fuel = self.plan_fuel.max(plan);
        self.adopt_fuel = self.adopt_fuel.max(adopt);
    }

    /// A subject has done, and held so many bytes.
    pub(super) fn held(&mut self, bytes: u64) {
        self.memory_peak = self.memory_peak.max(bytes);
    }

    /// A plan was refused.
    pub(super) fn refused_plan(&mut self) {
        self.refused_plans += u64::from(self.measuring);
    }

    /// An endpoint joined, with this part of all weights.
    pub(super) fn joined(&mut self, node: usize, fair: f64) {
        if self.measuring {
            self.herd.join(node, fair);
        }
    }

    /// A policy was asked about a connection that is measured or not, and this is what it said.
    pub(super) fn answered_by(&mut self, measured: bool, answer: Answer, fuel: u64) {
        if !measured {
            return;
        }
        self.picks += 1;
        self.declined += u64::from(answer == Answer::NoOpinion);
        self.faulted += u64::from(matches!(answer, Answer::Fault(_)));
        if fuel > 0 {
            self.fuel.push(fuel);
        }
    }

    /// Told of outcomes, the policy failed.
    pub(super) fn failed_to_learn(&mut self) {
        self.faulted += u64::from(self.measuring);
    }

    /// This is where a connection goes; `fallback`: it is measured, and the host chose in the policy's place.
    pub(super) fn picked(&mut self, fallback: bool, node: usize, now_ms: u64) {
        self.herd.pick(node);
        self.schedule.pick(node);
        self.fallbacks += u64::from(fallback);
        if self.measuring {
            self.burst.pick(node, now_ms);
        }
    }

    /// A client that has been here before; since, the endpoints may have changed.
    pub(super) fn visit(&mut self, visit: Visit, changed: bool) {
        self.moment.returning += 1;
        self.moment.kept += u64::from(visit == Visit::Kept);
        if self.measuring {
            self.visits.count(visit);
            if changed {
                self.changes.count(visit);
            }
        }
    }

    /// A connection came. Whether it is measured: what becomes of its attempts counts, or not, by when it came.
    pub(super) fn came(&mut self) -> bool {
        self.connections += u64::from(self.measuring);
        self.measuring
    }

    /// It reached nobody.
    pub(super) fn failed(&mut self, measured: bool) {
        self.failed += u64::from(measured);
    }

    /// An attempt reached nobody.
    pub(super) fn unreached(&mut self, measured: bool) {
        self.unreached += u64::from(measured);
    }

    /// A request waited until it was served.
    pub(super) fn waited_for(&mut self, nanos: u64) {
        if self.measuring && self.has_queues {
            self.waits.push(nanos);
        }
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, nanos: u64) {
        if self.measuring {
            self.latencies.push(nanos);
        }
    }

    /// Loads as they are now, of those that have a slot.
    pub(super) fn look(&mut self, nodes: &[Node], members: &[u32]) {
        let loads = members.iter().map(|at| {
            let node = &nodes[*at as usize];
            (f64::from(node.active), f64::from(node.endpoint.weight))
        });
        let gap = gap(loads.clone());
        if let Some(gap) = gap {
            self.moment.gap = gap;
        }
        self.over_time.push(std::mem::take(&mut self.moment));
        let Some(gap) = gap.filter(|_| self.measuring) else { return };
        self.samples += 1;
        self.gaps += gap;
        self.gap_max = self.gap_max.max(gap);
        let (active, weights) = loads.clone().fold((0.0, 0.0), |(active, weights), load| (active + load.0, weights + load.1));
        for (at, (active_here, weight)) in members.iter().zip(loads).filter(|(_, (_, weight))| *weight > 0.0) {
            self.oscillation.sample(*at as usize, active_here / weight - active / weights);
        }
    }

    /// The end. `waits` of these parts are wanted.
    pub(super) fn summary(mut self, parts: &[f64]) -> Summary {
        let (picks, expected) = self.measurable();
        let mut loads: Vec<f64> = picks.iter().zip(&expected).map(|(picks, expected)| *picks as f64 / expected).collect();
        loads.sort_by(|a, b| b.total_cmp(a));
        let waits = parts.iter().filter_map(|part| self.waited(*part)).collect();
        let values = METRICS.iter().map(|metric| (metric.value)(&mut self)).collect();
        Summary { values, over_time: self.over_time, sample: self.sample, loads, waits }
    }

    /// Picks and expected picks of endpoints that expected enough of them.
    fn measurable(&self) -> (Vec<u64>, Vec<f64>) {
        let (picks, expected) = self.schedule.counts();
        picks.into_iter().zip(expected).filter(|(_, expected)| *expected >= MIN_EXPECTED).unzip()
    }

    fn balance(&self) -> Option<Balance> {
        let (picks, expected) = self.measurable();
        Balance::of(&picks.iter().zip(&expected).map(|(picks, expected)| *picks as f64 / expected).collect::<Vec<_>>())
    }

    fn waited(&mut self, part: f64) -> Option<f64> {
        quantile(&mut self.waits, part).map(millis)
    }

    fn percent(&self, part: u64, of: u64) -> Option<f64> {
        (of > 0).then(|| part as f64 / of as f64 * 100.0)
    }
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}
