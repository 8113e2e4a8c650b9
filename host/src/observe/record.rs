//! The record of one connection: what the decision log writes and what the counters add up.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::route::Decision;
use crate::table::{FrontendKey, FrontendKind, Origin, Port};

/// One connection, from accept to close; or one UDP flow, from its first datagram to its end.
#[derive(Clone)]
pub struct ConnectionRecord {
    /// When it was accepted.
    pub at: SystemTime,
    /// The worker that served it.
    pub worker: u16,
    /// The generation of the table that decided it.
    pub generation: u64,
    /// The Service port, as of that generation.
    pub port: Arc<Port>,
    /// What the client dialled.
    pub frontend: FrontendKey,
    /// Which of the Service's addresses that is.
    pub kind: FrontendKind,
    /// The client.
    pub client: SocketAddr,
    /// Where it is.
    pub origin: Origin,
    /// The decision; after a retry, the last one.
    pub decision: Decision,
    /// Whom the endpoint saw, or was told of.
    pub source: Source,
    /// Endpoints that could not be reached.
    pub failures: Vec<ConnectFailure>,
    /// How it ended.
    pub outcome: Outcome,
    /// From the client, as passed on to the endpoint.
    pub bytes_in: u64,
    /// From the endpoint, as passed on to the client.
    pub bytes_out: u64,
    /// From accept to close.
    pub duration: Duration,
    /// Its number in the recording of its worker, if it is in one.
    pub recorded: Option<NonZeroU64>,
}

/// What an endpoint learns of the client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Nothing: it sees this node.
    #[default]
    Node,
    /// It sees the client.
    Kept,
    /// It sees this node, and is told the client's by the PROXY protocol.
    ProxyProtocol,
}

impl Source {
    /// For the decision log.
    pub fn text(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Kept => "kept",
            Self::ProxyProtocol => "proxy-protocol",
        }
    }
}

/// An endpoint that could not be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectFailure {
    /// Which, as `ip:port`: it may have left the table by the time this is written.
    pub endpoint: Arc<str>,
    /// Why.
    pub why: ConnectError,
}

/// Why an endpoint could not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectError {
    /// It refused.
    Refused,
    /// It did not answer in time.
    TimedOut,
    /// No route, or the network said no.
    Unreachable,
    /// This host had no socket or port left for it.
    Local,
}

impl ConnectError {
    /// All of them, in the order in which counters hold them.
    pub const ALL: [Self; 4] = [Self::Refused, Self::TimedOut, Self::Unreachable, Self::Local];

    /// For logs and metric labels.
    pub fn text(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::TimedOut => "timed-out",
            Self::Unreachable => "unreachable",
            Self::Local => "local",
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Both sides closed in order. A UDP flow: nothing passed for its idle timeout.
    Closed,
    /// One side reset it, and so the other was reset. A UDP flow: its endpoint, which had answered before, refused.
    Reset,
    /// The decision was to reject.
    Rejected,
    /// The decision was to drop.
    Dropped,
    /// No endpoint could be reached.
    ConnectFailed,
    /// It reached `pointsman.dev/max-connection-age`.
    Aged,
    /// The host was drained and its deadline passed.
    Drained,
    /// Its endpoint left or was no longer ready, and its Service's `pointsman.dev/drain` ended it. A UDP flow: its endpoint was no longer
    /// to be used, or the Service lost the address that the client dialled.
    EndpointLeft,
    /// A UDP flow that had to make room for a newer one.
    Evicted,
}

impl Outcome {
    /// For logs and metric labels.
    pub fn text(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Rejected => "rejected",
            Self::Dropped => "dropped",
            Self::ConnectFailed => "connect-failed",
            Self::Aged => "aged",
            Self::Drained => "drained",
            Self::EndpointLeft => "endpoint-left",
            Self::Evicted => "evicted",
        }
    }
}
