//! What is seen of connections: the record of each, counters, and the decision log.

pub mod counters;
pub mod decision_log;
mod entry;
#[cfg(test)]
pub(crate) mod fixture;
pub mod record;
pub mod recording;
pub mod shadow;
pub mod snapshot;

pub use decision_log::{DecisionLog, LogSender};
pub use record::{ConnectError, ConnectFailure, ConnectionRecord, Outcome, Source};
pub use recording::Recorder;
pub use shadow::{EndpointPicks, ShadowKey, ShadowSnapshot, ShadowTally, SubjectTally};
pub use snapshot::{EndpointSnapshot, FallbackKey, ServiceKey, ServiceSnapshot, Snapshot, Tally};
