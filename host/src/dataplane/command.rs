//! What the control side tells a worker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::policies::Policies;
use super::sockets::Listener;
use crate::observe::{ShadowKey, Snapshot};
use crate::table::{FrontendKey, ServiceId, Table, VersionId};

/// A new table and what comes with it.
#[derive(Clone)]
pub struct TableUpdate<L> {
    /// The table.
    pub table: Arc<Table>,
    /// Ports whose plans workers must adopt.
    pub changed: Vec<ServiceId>,
    /// Ports that are gone; an id may be in `changed` as well, when it was reused.
    pub removed: Vec<ServiceId>,
    /// Policies that the table names and workers may not have yet.
    pub install: Vec<L>,
    /// Versions that nothing names any more.
    pub retire: Vec<VersionId>,
    /// Balancers that the table names to be tried and workers may not have yet as such.
    pub candidates: Vec<L>,
    /// Versions that are no longer tried anywhere.
    pub retired_candidates: Vec<VersionId>,
}

/// The policies' counts, and the faults of those that are tried, by Service.
pub(super) type CandidateCounts<P> = (<P as Policies>::Counters, BTreeMap<ShadowKey, u64>);

/// In the order in which they were sent; none of them waits for anything.
pub(super) enum Command<P: Policies> {
    Table(Box<TableUpdate<P::Loaded>>),
    Listener(ListenerCommand),
    Snapshot(oneshot::Sender<(Snapshot, P::Counters)>),
    PolicyCounters(oneshot::Sender<P::Counters>),
    CandidateCounters(oneshot::Sender<CandidateCounts<P>>),
    Reconfigure,
    Drain { deadline: Instant },
}

/// Identity of a listening socket in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ListenerId(pub(super) u64);

#[derive(Debug)]
pub(super) enum ListenerCommand {
    /// Accept on this socket, or receive.
    Open { id: ListenerId, key: FrontendKey, socket: Listener },
    /// Serve what is queued, then close, then let go of `closed`: the control side sees by it that the address is free.
    Close { id: ListenerId, closed: Arc<()> },
}
