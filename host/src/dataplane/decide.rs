//! What TCP and UDP ask of a table in the same way.

use std::sync::Arc;

use super::policies::Policies;
use super::worker::Worker;
use crate::policy::contract::{Connection, Slot};
use crate::route::{Decision, Fate};
use crate::table::{Frontend, FrontendKey, Port, Table};

/// What answers on an address.
pub(super) fn lookup<'a>(table: &'a Table, key: &FrontendKey) -> Option<(&'a Frontend, &'a Arc<Port>)> {
    let frontend = table.frontend(key)?;
    Some((frontend, table.port(frontend.service)?))
}

/// The slot of the endpoint that session affinity holds for this client.
pub(super) fn pinned<P: Policies>(worker: &Worker<P>, port: &Port, connection: &Connection) -> Option<Slot> {
    port.options.affinity?;
    let hash = worker.affinity.lookup(port.id, connection.client(), connection.now_ms)?;
    port.endpoints.iter().position(|endpoint| endpoint.hash == hash).map(|slot| slot as Slot)
}

/// The slot that a decision goes to.
pub(super) fn forwarded(decision: &Decision) -> Option<Slot> {
    match decision.fate {
        Fate::Forward(slot) => Some(slot),
        Fate::Reject(_) | Fate::Drop(_) => None,
    }
}
