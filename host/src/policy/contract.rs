//! The contract in Rust, as the rest of the host sees it: the SDK's records, the ways in which a guest can fail, and the two
//! traits behind which the sandbox stands. No Wasm here, so the decision core can be tested without it.

pub use pointsman_sdk::types::{
    Connection, Description, Endpoint, Grouping, Label, Node, Outcome, OutcomeKind, Partition, Place, ServiceId, ServicePort, Setting,
    Slot, Subset, Verdict,
};

use crate::table::VersionId;

/// The three stages, in the order in which a connection meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageKind {
    /// Which pods.
    Selector,
    /// Which of them this node may use.
    TrafficPolicy,
    /// Which one.
    Balancer,
}

impl StageKind {
    /// As in annotations and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Selector => "selector",
            Self::TrafficPolicy => "traffic-policy",
            Self::Balancer => "balancer",
        }
    }
}

/// How a guest failed. Data, not an error of the host: it is counted, and the chain goes on to the next in line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It trapped; the text is the trap's kind.
    #[error("trap: {0}")]
    Trap(String),
    /// It ran past the epoch deadline.
    #[error("ran past its deadline")]
    Deadline,
    /// It used up its fuel.
    #[error("used up its fuel")]
    OutOfFuel,
    /// It met a limit of the host: memory, tables, hostcall bytes.
    #[error("met a limit of the host: {0}")]
    HostLimit(String),
    /// It returned something outside what it was given: slot, group or subset.
    #[error("returned {0}, which is out of range")]
    OutOfRange(String),
    /// A planner call returned an error of its own.
    #[error("refused: {0}")]
    Refused(String),
    /// The breaker is open, or the instance is being rebuilt: it was not asked.
    #[error("not asked: {0}")]
    NotAsked(&'static str),
    /// It has no opinion (a balancer only).
    #[error("had no opinion")]
    NoOpinion,
}

/// In words, for whoever only tells it.
impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.to_string()
    }
}

impl Fault {
    /// A short name for counters.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Trap(_) => "trap",
            Self::Deadline => "deadline",
            Self::OutOfFuel => "out-of-fuel",
            Self::HostLimit(_) => "host-limit",
            Self::OutOfRange(_) => "out-of-range",
            Self::Refused(_) => "refused",
            Self::NotAsked(_) => "not-asked",
            Self::NoOpinion => "no-opinion",
        }
    }
}

/// The planner's place: full records in, plans out. Off the data path.
pub trait Planner {
    /// Names the groups of a Service port, with the selector's plan.
    fn plan_selector(&mut self, version: VersionId, port: &ServicePort) -> Result<Grouping, Fault>;
    /// The group of a pod with these labels; `None`: it does not back the Service.
    fn classify(&mut self, version: VersionId, service: ServiceId, labels: &[Label]) -> Result<Option<u32>, Fault>;
    /// The subsets that connections may be confined to; every member is a slot of `endpoints`.
    fn plan_traffic_policy(&mut self, version: VersionId, port: &ServicePort, endpoints: &[Endpoint]) -> Result<Partition, Fault>;
    /// The balancer's plan for one candidate set.
    fn plan_balancer(&mut self, version: VersionId, port: &ServicePort, members: &[Endpoint]) -> Result<Vec<u8>, Fault>;
    /// The Service port is gone.
    fn forget(&mut self, service: ServiceId);
}

/// A worker's place: scalars in, a decision out. Every answer has been checked against what the contract allows, save the
/// balancer's slot, which the caller checks against the candidate set.
pub trait Decider {
    /// Stage 1.
    fn choose_group(&mut self, version: VersionId, connection: &Connection) -> Result<Option<u32>, Fault>;
    /// Stage 2.
    fn choose_subset(&mut self, version: VersionId, connection: &Connection, group: Option<u32>) -> Result<Verdict, Fault>;
    /// Stage 3.
    fn pick(&mut self, version: VersionId, connection: &Connection, set: u32) -> Result<Option<Slot>, Fault>;
    /// The answer given was out of range: counts against the policy's breaker.
    fn blame(&mut self, version: VersionId, fault: &Fault);
    /// Stage 3, of a balancer that is tried beside the one in force: another instance than that of [`Decider::pick`], with a breaker of its
    /// own, so that what is tried on one Service cannot take the policy from others.
    fn pick_as_candidate(&mut self, _version: VersionId, _connection: &Connection, _set: u32) -> Result<Option<Slot>, Fault> {
        Err(Fault::NotAsked("nobody is tried here"))
    }
    /// [`Decider::blame`] of what `pick_as_candidate` gave.
    fn blame_candidate(&mut self, _version: VersionId, _fault: &Fault) {}
    /// Fuel of the last answer; 0 where nothing is measured, or nobody was asked.
    fn fuel(&self) -> u64 {
        0
    }
}
