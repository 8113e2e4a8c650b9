//! What stands in a recording, frame by frame. The bytes are bincode's, as `encoding` configures it; docs/recording.md says the same to whoever
//! reads a recording with other means. A change of anything in here is a new `SCHEMA`.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};
use serde::Serialize;

use super::records::{EndpointRecord, NodeRecord, Pair, PortRecord};
use crate::policy::contract::{self, Fault, OutcomeKind, StageKind};

/// The version of everything in a recording. A reader refuses any other.
pub const SCHEMA: u16 = 2;

/// Bytes of one frame, and of what a reader will allocate for it. The largest is a plan: `policy-planner-answer-size`, 16 MiB by default.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// How frames are written: little-endian, integers in bincode's variable length, at most `MAX_FRAME_BYTES`.
pub type Encoding = Configuration<LittleEndian, Varint, Limit<MAX_FRAME_BYTES>>;

/// See [`Encoding`].
pub fn encoding() -> Encoding {
    bincode::config::standard().with_limit::<MAX_FRAME_BYTES>()
}

/// How the heads of files and blocks are written: as frames are, but integers in their full length.
pub fn fixed() -> Configuration<LittleEndian, Fixint, Limit<MAX_FRAME_BYTES>> {
    encoding().with_fixed_int_encoding()
}

/// One frame. The order of the variants is their number in the file.
///
/// The first five stand in blocks of nobody's, before they are referred to; all others in the block of a worker, in the order in which they
/// happened there. `since_ms` is the time since the last frame of the worker that had one (the first: since the clock's 0); it may be negative.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "frame")]
pub enum Frame {
    /// A policy version that workers refer to as `version`.
    Version(Version),
    /// Bytes that a planner made.
    Plan {
        /// By which workers refer to it.
        plan: u32,
        /// The plan.
        #[serde(serialize_with = "length")]
        bytes: Vec<u8>,
    },
    /// An endpoint as it was from some time on.
    Endpoint {
        /// By which ports refer to it.
        endpoint: u32,
        /// All that planners are told.
        record: EndpointRecord,
    },
    /// A Service port as it was in some generations.
    Port {
        /// By which workers refer to it.
        port: u32,
        /// All that planners are told, and what the host made of it.
        record: PortRecord,
    },
    /// The last frame of a recording that was ended in order.
    End(End),
    /// An instance of a version was made and configured; the one before it, if there was one, is gone.
    Instance {
        /// The version.
        version: u32,
        /// The seed of the contract's `place`.
        seed: Bits,
        /// The node that it was told of.
        node: NodeRecord,
        /// The settings of the whole host.
        settings: Vec<Pair>,
        /// It could not be made.
        failed: Option<Failure>,
    },
    /// An instance was given a plan.
    Adopt {
        /// The version.
        version: u32,
        /// The Service port.
        service: u32,
        /// The candidate set; none for a selector or a traffic policy.
        set: Option<u32>,
        /// The plan.
        plan: u32,
        /// It could not adopt it.
        failed: Option<Failure>,
    },
    /// An instance was told that a Service port is gone, or no longer its business.
    Forget {
        /// The version.
        version: u32,
        /// The Service port.
        service: u32,
        /// It failed.
        failed: Option<Failure>,
    },
    /// A version's instance was let go.
    Retire {
        /// The version.
        version: u32,
    },
    /// From here on the worker decides for a Service port by this.
    Service {
        /// See [`Frame`].
        since_ms: i64,
        /// Of the table.
        generation: u64,
        /// The Service port.
        service: u32,
        /// None: it is gone.
        port: Option<u32>,
    },
    /// What `load` answered in the call that follows, in the order in which it was asked.
    Loads {
        /// In the order of the questions.
        answers: Vec<u32>,
    },
    /// The connection that the calls which follow are about.
    Connection(Connection),
    /// `selector.choose`.
    Group {
        /// The version.
        version: u32,
        /// A group.
        answer: Answer,
    },
    /// `traffic-policy.choose`.
    Subset {
        /// The version.
        version: u32,
        /// The group that it was asked with.
        group: Option<u32>,
        /// What it said.
        verdict: Verdict,
    },
    /// `balancer.pick`.
    Pick {
        /// The version.
        version: u32,
        /// The candidate set that it was asked with.
        set: u32,
        /// A slot.
        answer: Answer,
    },
    /// What the host made of the answers.
    Fate {
        /// None: of a new connection; they are numbered from 1 on each worker. Else of one whose endpoint could not be reached: the number
        /// of the newest less its own.
        again: Option<u64>,
        /// Where it goes.
        fate: Fate,
    },
    /// A connection has ended, and no longer counts for its endpoint.
    Ended {
        /// The number of the newest less its own.
        back: u64,
        /// See [`Frame`].
        since_ms: i64,
        /// How.
        ending: Ending,
    },
    /// `feedback.report`.
    Report {
        /// The version.
        version: u32,
        /// See [`Frame`].
        since_ms: i64,
        /// What it was told, in order.
        outcomes: Vec<Outcome>,
        /// It failed.
        failed: Option<Failure>,
    },
    /// Frames of this worker are missing here: the writer could not keep up.
    Lost {
        /// How many.
        frames: u64,
        /// The time to which the next `since_ms` is added.
        now_ms: u64,
        /// Connections so far, the lost ones too: the next is the one after.
        connections: u64,
    },
}

/// A policy version.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Version {
    /// By which workers refer to it.
    pub version: u32,
    /// The stage that it fills.
    pub stage: Stage,
    /// Its name in annotations.
    pub name: String,
    /// `sha256:…` of the component.
    pub digest: String,
    /// It was granted WASI, and imports it.
    pub wasi: bool,
    /// It was granted a language runtime.
    pub large: bool,
}

/// How a recording ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct End {
    /// It reached its limit of bytes; what came after is not in it.
    pub full: bool,
    /// Frames that were lost, on all workers.
    pub lost: u64,
}

/// The stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Which pods.
    Selector,
    /// Which of them this node may use.
    TrafficPolicy,
    /// Which one.
    Balancer,
}

/// A connection as the policies were told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Connection {
    /// The Service port that was dialled.
    pub service: u32,
    /// Who dialled it.
    pub client: Client,
    /// From which port.
    pub client_port: u16,
    /// Keyed hash of the client's address.
    pub client_hash: Bits,
    /// Which address was dialled.
    pub frontend: super::records::Frontend,
    /// Where the client is.
    pub origin: super::records::Origin,
    /// 0, then 1, 2, 3.
    pub attempt: u32,
    /// See [`Frame`].
    pub since_ms: i64,
    /// Fresh random bits.
    pub random: Bits,
}

/// 64 bits that are no number: always eight bytes, the lowest first.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Bits([u8; 8]);

impl From<u64> for Bits {
    fn from(bits: u64) -> Self {
        Self(bits.to_le_bytes())
    }
}

impl From<Bits> for u64 {
    fn from(bits: Bits) -> Self {
        Self::from_le_bytes(bits.0)
    }
}

impl std::fmt::Debug for Bits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", u64::from(*self))
    }
}

impl Serialize for Bits {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

/// A client's address, or what stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Client {
    /// Its IPv4 address, as on the wire.
    V4([u8; 4]),
    /// Its IPv6 address, as on the wire.
    V6([u8; 16]),
    /// A keyed hash of either, in the order of the wire.
    Pseudonym([u8; 8]),
}

/// An index, nothing, or a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// No opinion; of a selector: any group.
    None,
    /// This one.
    Index(u32),
    /// It failed.
    Failed(Failure),
}

/// What a traffic policy said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// To an endpoint of this subset.
    Forward(u32),
    /// Refuse.
    Reject,
    /// Say nothing.
    Drop,
    /// It failed.
    Failed(Failure),
}

/// How a call failed: the classes of `Fault` that a guest can bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// It trapped.
    Trap,
    /// It ran past its deadline.
    Deadline,
    /// It used up its fuel.
    OutOfFuel,
    /// It met a limit of the host.
    HostLimit,
    /// It refused its configuration.
    Refused,
}

/// Where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// To this slot.
    Forward(u32),
    /// To this slot, because session affinity holds it; the balancer was not asked.
    Pinned(u32),
    /// Refused.
    Reject,
    /// Left unanswered.
    Drop,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// No endpoint could be reached.
    Unreached,
    /// In order.
    Closed,
    /// In any other way.
    Reset,
}

/// What became of a pick, as a balancer that learns is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outcome {
    /// The Service port.
    pub service: u32,
    /// The endpoint's hash: it may be gone by now, and its slot another's.
    pub endpoint: Bits,
    /// What became of it.
    pub kind: Became,
    /// Milliseconds.
    pub millis: u32,
}

/// What became of a pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Became {
    /// The endpoint accepted.
    Connected,
    /// The endpoint refused.
    Refused,
    /// The endpoint did not answer in time.
    TimedOut,
    /// It ended with a reset.
    Reset,
    /// It ended in order.
    Closed,
}

impl Failure {
    /// The class of a guest's fault. None: the guest was not entered, or answered well.
    pub fn of(fault: &Fault) -> Option<Self> {
        match fault {
            Fault::Trap(_) => Some(Self::Trap),
            Fault::Deadline => Some(Self::Deadline),
            Fault::OutOfFuel => Some(Self::OutOfFuel),
            Fault::HostLimit(_) => Some(Self::HostLimit),
            Fault::Refused(_) => Some(Self::Refused),
            Fault::OutOfRange(_) | Fault::NotAsked(_) | Fault::NoOpinion => None,
        }
    }
}

impl Answer {
    /// None: the guest was not entered.
    pub fn of(answer: &Result<Option<u32>, Fault>) -> Option<Self> {
        match answer {
            Ok(Some(index)) => Some(Self::Index(*index)),
            Ok(None) => Some(Self::None),
            Err(fault) => Failure::of(fault).map(Self::Failed),
        }
    }
}

impl Verdict {
    /// None: the guest was not entered.
    pub fn of(verdict: &Result<contract::Verdict, Fault>) -> Option<Self> {
        match verdict {
            Ok(contract::Verdict::Forward(subset)) => Some(Self::Forward(*subset)),
            Ok(contract::Verdict::Reject) => Some(Self::Reject),
            Ok(contract::Verdict::Drop) => Some(Self::Drop),
            Err(fault) => Failure::of(fault).map(Self::Failed),
        }
    }
}

impl From<StageKind> for Stage {
    fn from(stage: StageKind) -> Self {
        match stage {
            StageKind::Selector => Self::Selector,
            StageKind::TrafficPolicy => Self::TrafficPolicy,
            StageKind::Balancer => Self::Balancer,
        }
    }
}

impl From<Stage> for StageKind {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Selector => Self::Selector,
            Stage::TrafficPolicy => Self::TrafficPolicy,
            Stage::Balancer => Self::Balancer,
        }
    }
}

impl From<contract::Outcome> for Outcome {
    fn from(outcome: contract::Outcome) -> Self {
        let kind = match outcome.kind {
            OutcomeKind::Connected => Became::Connected,
            OutcomeKind::Refused => Became::Refused,
            OutcomeKind::TimedOut => Became::TimedOut,
            OutcomeKind::Reset => Became::Reset,
            OutcomeKind::Closed => Became::Closed,
        };
        Self { service: outcome.service, endpoint: outcome.endpoint.into(), kind, millis: outcome.millis }
    }
}

impl From<Outcome> for contract::Outcome {
    fn from(outcome: Outcome) -> Self {
        let kind = match outcome.kind {
            Became::Connected => OutcomeKind::Connected,
            Became::Refused => OutcomeKind::Refused,
            Became::TimedOut => OutcomeKind::TimedOut,
            Became::Reset => OutcomeKind::Reset,
            Became::Closed => OutcomeKind::Closed,
        };
        Self { service: outcome.service, endpoint: outcome.endpoint.into(), kind, millis: outcome.millis }
    }
}

/// A plan is its author's business: a list of its bytes would help nobody.
fn length<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(bytes.len() as u64)
}
