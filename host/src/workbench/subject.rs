//! What the workbench tries: a balancer with its planner and any number of workers, a component in the sandbox or plain Rust.

use pointsman_sdk::types::{Connection, Endpoint, Outcome, Slot};

/// What a balancer answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// This endpoint.
    Slot(Slot),
    /// No opinion.
    NoOpinion,
    /// It failed; the class of the fault, as metrics name it: `trap`, `out-of-fuel`, `out-of-range`, …
    Fault(FaultClass),
}

/// How a guest failed: the names that metrics use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultClass {
    /// It trapped.
    Trap,
    /// It ran past its deadline.
    Deadline,
    /// It used up its fuel.
    OutOfFuel,
    /// It met a limit of the host.
    HostLimit,
    /// It answered with a slot outside the candidate set, or of weight 0.
    OutOfRange,
    /// It refused a plan or its configuration.
    Refused,
    /// It was not asked: it failed too often.
    NotAsked,
}

/// A balancer that is tried, in charge of one candidate set of one Service port (service 0, set 0).
///
/// Workers are numbered from 0; each has state of its own, and reads loads of its own, so that counters can be as stale as a test wants.
pub trait Subject {
    /// Its name, for reports.
    fn name(&self) -> &str;

    /// How many workers it has.
    fn workers(&self) -> usize;

    /// The candidate set is these endpoints from now on; `slot` of each is its position. Planned once, adopted by every worker. Loads that
    /// were set are kept by the endpoint's key.
    ///
    /// # Errors
    /// The planner's fault, or its refusal with its text. What was adopted before stays in force.
    fn set_endpoints(&mut self, endpoints: &[Endpoint], now_ms: u64) -> Result<(), String>;

    /// Asks a worker where this connection goes.
    fn pick(&mut self, worker: usize, connection: &Connection) -> Answer;

    /// Fuel that the last pick used; 0 where nothing counts it.
    fn last_fuel(&self) -> u64;

    /// Fuel of the last plan, and of its adoption by a worker; 0 where nothing counts it.
    fn update_fuel(&self) -> (u64, u64) {
        (0, 0)
    }

    /// The most memory that a worker held, in bytes; 0 where nothing measures it.
    fn memory_peak(&self) -> u64 {
        0
    }

    /// What this worker reads as the endpoint's active connections from now on.
    fn set_active(&mut self, worker: usize, slot: Slot, active: u32);

    /// Tells a worker what became of its picks, if the policy learns; else nothing.
    ///
    /// # Errors
    /// It failed. The next pick meets a fresh instance, as in production.
    fn report(&mut self, worker: usize, now_ms: u64, outcomes: &[Outcome]) -> Result<(), FaultClass>;
}
