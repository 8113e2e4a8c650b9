//! What is counted of a policy. Plain numbers, one set a worker; whoever shows them adds them up.

use std::sync::Arc;

use super::breaker::BreakerState;
use super::contract::{Fault, StageKind};
use crate::table::PolicyVersion;

/// Classes of faults, in the order of `PolicyCounters::faults`; `Fault::class` gives the names.
pub const FAULT_CLASSES: [&str; 7] = ["trap", "deadline", "out-of-fuel", "host-limit", "out-of-range", "refused", "not-asked"];

/// One policy version on one worker, or on several added up.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PolicyCounters {
    /// The policy.
    #[serde(serialize_with = "version_name")]
    pub version: Arc<PolicyVersion>,
    /// Its stage.
    pub stage: StageKind,
    /// It stands there as a balancer that is tried beside one in force.
    pub candidate: bool,
    /// Decisions with an answer that was fit for use.
    pub answered: u64,
    /// Decisions on which a balancer had no opinion.
    pub no_opinion: u64,
    /// Decisions, adoptions and reports that failed, by class (`FAULT_CLASSES`).
    pub faults: [u64; FAULT_CLASSES.len()],
    /// Decisions whose answer was not used, because the breaker was half-open.
    pub shadowed: u64,
    /// Fuel of all decisions.
    pub fuel_total: u64,
    /// The most that one decision used.
    pub fuel_max: u64,
    /// Decisions by fuel (`fuel_bucket`).
    pub fuel_buckets: [u64; FUEL_BUCKETS],
    /// Estimated processor time, in nanoseconds: one call in 256 on average is timed.
    pub busy_ns: u64,
    /// The most linear memory that one instance held.
    pub memory_peak_bytes: u64,
    /// Instances made anew after a fault.
    pub rebuilt: u64,
    /// The worst state among the workers' breakers.
    pub breaker: BreakerState,
    /// How often a breaker opened.
    pub breaker_opened: u64,
    /// Log lines written, by all instances of the version.
    pub log_lines: u64,
    /// Log lines dropped by the bucket.
    pub log_dropped: u64,
}

/// Fuel of a decision is below 2²³ in every configuration.
pub const FUEL_BUCKETS: usize = 24;

fn version_name<S: serde::Serializer>(version: &Arc<PolicyVersion>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}@{}", version.name, version.digest))
}

impl PolicyCounters {
    /// Nothing counted yet.
    pub fn new(version: Arc<PolicyVersion>, stage: StageKind) -> Self {
        Self {
            version,
            stage,
            candidate: false,
            answered: 0,
            no_opinion: 0,
            faults: [0; FAULT_CLASSES.len()],
            shadowed: 0,
            fuel_total: 0,
            fuel_max: 0,
            fuel_buckets: [0; FUEL_BUCKETS],
            busy_ns: 0,
            memory_peak_bytes: 0,
            rebuilt: 0,
            breaker: BreakerState::Closed,
            breaker_opened: 0,
            log_lines: 0,
            log_dropped: 0,
        }
    }

    #[inline]
    pub(super) fn spent(&mut self, fuel: u64) {
        self.fuel_total += fuel;
        self.fuel_max = self.fuel_max.max(fuel);
        self.fuel_buckets[fuel_bucket(fuel)] += 1;
    }

    pub(super) fn fault(&mut self, fault: &Fault) {
        match FAULT_CLASSES.iter().position(|class| *class == fault.class()) {
            Some(class) => self.faults[class] += 1,
            None => self.no_opinion += 1,
        }
    }

    /// Faults of all classes but `not-asked`, which is a consequence.
    pub fn faults_total(&self) -> u64 {
        self.faults[..FAULT_CLASSES.len() - 1].iter().sum()
    }

    /// Decisions that were measured.
    pub fn calls(&self) -> u64 {
        self.fuel_buckets.iter().sum()
    }

    /// The fuel that this share of the decisions stayed below, rounded up to a power of two; 0 when none was made.
    pub fn fuel_quantile(&self, share: f64) -> u64 {
        fuel_quantile(&self.fuel_buckets, share)
    }

    /// Adds another worker's numbers for the same version.
    pub fn merge(&mut self, other: &Self) {
        self.answered += other.answered;
        self.no_opinion += other.no_opinion;
        self.shadowed += other.shadowed;
        self.fuel_total += other.fuel_total;
        self.fuel_max = self.fuel_max.max(other.fuel_max);
        self.busy_ns += other.busy_ns;
        self.memory_peak_bytes = self.memory_peak_bytes.max(other.memory_peak_bytes);
        self.rebuilt += other.rebuilt;
        self.breaker = self.breaker.max(other.breaker);
        self.breaker_opened += other.breaker_opened;
        // The log is the version's, not the worker's.
        self.log_lines = self.log_lines.max(other.log_lines);
        self.log_dropped = self.log_dropped.max(other.log_dropped);
        let add = |sum: &mut [u64], more: &[u64]| sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        add(&mut self.faults, &other.faults);
        add(&mut self.fuel_buckets, &other.fuel_buckets);
    }
}

/// Where a decision's fuel is counted: bucket n has those below 2ⁿ and not below 2ⁿ⁻¹.
#[inline]
pub fn fuel_bucket(fuel: u64) -> usize {
    ((u64::BITS - fuel.leading_zeros()) as usize).min(FUEL_BUCKETS - 1)
}

/// The fuel that this share of the decisions stayed below, rounded up to a power of two; 0 when none was made.
pub fn fuel_quantile(buckets: &[u64; FUEL_BUCKETS], share: f64) -> u64 {
    let rank = (buckets.iter().sum::<u64>() as f64 * share).ceil() as u64;
    let mut seen = 0;
    let bucket = buckets.iter().position(|count| {
        seen += count;
        seen >= rank.max(1)
    });
    bucket.map_or(0, |bucket| 1 << bucket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::VersionId;

    fn counters() -> PolicyCounters {
        let version = PolicyVersion { id: VersionId(1), name: "p".into(), digest: "sha256:0".into() };
        PolicyCounters::new(Arc::new(version), StageKind::Balancer)
    }

    #[test]
    fn fuel_quantiles_are_powers_of_two_above() {
        let mut counted = counters();
        assert_eq!(counted.fuel_quantile(0.99), 0);
        (0..99).for_each(|_| counted.spent(100));
        counted.spent(5_000);
        assert_eq!((counted.fuel_quantile(0.5), counted.fuel_quantile(0.99), counted.fuel_quantile(1.0)), (128, 128, 8192));
        assert_eq!(counted.fuel_max, 5_000);
    }

    #[test]
    fn workers_add_up() {
        let (mut one, mut two) = (counters(), counters());
        one.spent(1);
        one.fault(&Fault::Deadline);
        two.fault(&Fault::Deadline);
        two.fault(&Fault::NoOpinion);
        two.fault(&Fault::NotAsked("being rebuilt"));
        two.breaker = BreakerState::Open;
        one.merge(&two);
        assert_eq!((one.faults[1], one.faults_total(), one.no_opinion, one.calls()), (2, 2, 1, 1));
        assert_eq!(one.breaker, BreakerState::Open);
    }
}
