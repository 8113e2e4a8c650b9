//! The admin port: health, readiness, metrics, what is bound, what happened, and the policies' swap and rollback, over HTTP/1.1. It runs on
//! the control side and learns everything through channels, so that nothing it does can hold up a connection.

mod access;
mod body;
mod bound;
mod events;
pub mod health_checks;
mod metrics;
mod policies;
mod proxy_health;
mod routes;
pub mod server;
mod shadow;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::objects::Kind;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use access::read_token;
pub use access::{ExposureError, Token, TokenError, check_exposure};
pub use bound::{Bound, BoundFrontend, NotServed};
pub use events::{Event, EventLog, EventReport, Severity};
pub use metrics::{Metrics, ProbeCount, SwapCount, Sync};
pub use policies::{PolicyList, PolicyReply, PolicyRequest, PolicyStatus, Refused, RefusedKind, Swapped, Upload};
pub use proxy_health::{ProbeCounts, ProxyHealth};
pub use shadow::{CanaryStatus, ShadowList, ShadowRequest, ShadowStatus};

/// Where the admin port listens unless told otherwise: reachable from this machine alone. The number is unassigned at IANA and stands
/// outside both the node-port range and the ephemeral ports.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8797);

/// Connections to the admin port at one time; one more is closed at once.
pub const MAX_CONNECTIONS: usize = 64;

/// Components on their way in at one time: each may hold [`MAX_COMPONENT_BYTES`] in memory.
pub const MAX_UPLOADS: usize = 2;

/// Bytes of a component that the admin port takes in: the largest that the sandbox accepts under any setting. The sandbox's own limit is
/// checked after it.
pub const MAX_COMPONENT_BYTES: usize = 32 << 20;

/// What the admin port knows of the engine: plain data and channels.
#[derive(Clone)]
pub struct Handle {
    /// What `/readyz` says.
    pub readiness: watch::Receiver<Readiness>,
    /// What `/bound` says.
    pub bound: Arc<ArcSwap<Bound>>,
    /// What `/events` says.
    pub events: Arc<EventLog>,
    /// Asked once a scrape; answered with the sum over all workers.
    pub metrics: mpsc::Sender<oneshot::Sender<Metrics>>,
    /// What `/healthz` and `/livez` say.
    pub health: Arc<ProxyHealth>,
    /// Asked for every request about objects.
    pub objects: mpsc::Sender<ObjectsRequest>,
    /// Asked for every request about policies.
    pub policies: mpsc::Sender<PolicyRequest>,
    /// Asked for every request about balancers that are tried.
    pub shadows: mpsc::Sender<ShadowRequest>,
    /// Needed for every change, if there is one; see [`check_exposure`].
    pub token: Option<Token>,
}

/// A question for objects, with the way back for its answer: a Kubernetes `List`.
#[derive(Debug)]
pub struct ObjectsRequest {
    /// Of this kind.
    pub kind: Kind,
    /// For the answer.
    pub reply: oneshot::Sender<serde_json::Value>,
}

/// Whether the engine serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet, and what it waits for.
    Starting(Vec<String>),
    /// It does.
    Serving,
    /// No longer: established connections end, new ones are better sent elsewhere.
    Draining,
}

/// Serves until `shutdown` resolves; requests under way are given [`server::GRACE`] to end.
pub async fn serve(listener: TcpListener, handle: Handle, shutdown: impl Future<Output = ()>) {
    let limits = server::Limits { connections: MAX_CONNECTIONS, header: server::HEADER_READ_TIMEOUT, age: MAX_AGE };
    let site = Arc::new(routes::Site::new(handle, listener.local_addr().ok()));
    server::serve(
        listener,
        limits,
        move |_client, request| {
            let site = Arc::clone(&site);
            async move { site.answer(request).await }
        },
        shutdown,
    )
    .await;
}

/// A connection is asked to end after this; longer than any one request may take.
const MAX_AGE: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
