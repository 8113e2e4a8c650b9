//! What can be asked about policies, and the answers.

use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A component that was sent here. It counts among those that are taken in until it is dropped, also when whoever sent it has hung up.
#[derive(Debug)]
pub struct Upload {
    /// Its bytes.
    pub bytes: Vec<u8>,
    pub(super) _counted: OwnedSemaphorePermit,
}

/// A request about policies, with the way back for its answer. A request whose asker is gone may be carried out all the same.
#[derive(Debug)]
pub enum PolicyRequest {
    /// Which policies there are.
    List {
        /// For the answer.
        reply: oneshot::Sender<Vec<PolicyStatus>>,
    },
    /// Put this component in force under this name.
    Swap {
        /// The name in annotations.
        name: String,
        /// Its bytes, as they came.
        component: Upload,
        /// For the answer.
        reply: oneshot::Sender<PolicyReply>,
    },
    /// Put the version before in force again.
    Rollback {
        /// The name in annotations.
        name: String,
        /// For the answer.
        reply: oneshot::Sender<PolicyReply>,
    },
}

/// What became of a swap or a rollback.
pub type PolicyReply = Result<Swapped, Refused>;

/// The answer of `/policies`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyList {
    /// Every policy that a Service can name.
    pub policies: Vec<PolicyStatus>,
}

/// One policy, as `/policies` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// The name in annotations.
    pub name: String,
    /// `selector`, `traffic-policy` or `balancer`.
    pub stage: String,
    /// `sha256:…` of the component in force.
    pub digest: String,
    /// Part of the binary; its name is reserved.
    pub builtin: bool,
    /// `sha256:…` of the version that `rollback` brings back.
    pub previous: Option<String>,
    /// `closed`, `half-open` or `open`: the worst of all workers.
    pub breaker: Option<String>,
}

/// A swap or a rollback that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swapped {
    /// The policy.
    pub name: String,
    /// Its stage.
    pub stage: String,
    /// What is in force now.
    pub digest: String,
    /// What was in force before.
    pub previous: Option<String>,
    /// Whether that is a change: the same component again is none.
    pub changed: bool,
}

/// A swap or a rollback that was not carried out; what was in force still is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whose business it is.
    pub kind: RefusedKind,
    /// Why.
    pub error: String,
    /// What to do.
    pub remedy: Option<String>,
}

/// Whose business a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedKind {
    /// There is no policy of this name: 404.
    UnknownPolicy,
    /// It cannot be done as things stand: the name is reserved, or there is nothing to go back to: 409.
    Conflict,
    /// The component is not acceptable: 422.
    Component,
    /// The engine's own: 500.
    Internal,
}
