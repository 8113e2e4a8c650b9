//! What TCP and UDP ask of a table in the same way.

use std::num::NonZeroU64;
use std::sync::Arc;

use super::policies::Policies;
use super::worker::Worker;
use crate::observe::{ConnectionRecord, Outcome};
use crate::policy::contract::{Connection, Slot};
use crate::policy::tape::{self, Ending};
use crate::route::{self, By, Decision, Fate};
use crate::table::{Endpoint, Frontend, FrontendKey, Port, Table};

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

/// Another endpoint for a connection whose last one could not be reached, by the table in force: policies have adopted its plans, and
/// endpoints may have left since. `connection.attempt` has been raised; the record says what was tried, and is told what was decided.
pub(super) fn decide_again<P: Policies>(worker: &Worker<P>, record: &mut ConnectionRecord, connection: &Connection) -> Option<Slot> {
    let table = Arc::clone(&worker.table.borrow());
    let (_, port) = lookup(&table, &record.frontend).filter(|(_, port)| port.id == connection.service)?;
    let mut policies = worker.policies.borrow_mut();
    let policies = &mut *policies;
    let failed = |endpoint: &Endpoint| record.failures.iter().any(|failure| failure.endpoint == endpoint.key);
    let tried: Vec<Slot> = (0..).zip(&*port.endpoints).filter(|(_, endpoint)| failed(endpoint)).map(|(slot, _)| slot).collect();
    if !Arc::ptr_eq(port, &record.port) {
        let decision = route::decide(port, policies, connection, None);
        worker.counters.decided(port, &decision);
        let slot = forwarded(&decision);
        record.generation = table.generation;
        record.port = Arc::clone(port);
        record.decision = decision;
        if slot.is_none_or(|slot| !tried.contains(&slot)) {
            write_again(policies, record, connection);
            return slot;
        }
    }
    route::retry(port, policies, connection, &mut record.decision, &tried);
    worker.counters.retried(port, &record.decision);
    write_again(policies, record, connection);
    forwarded(&record.decision)
}

/// Tells the recording, if there is one, where a connection goes; returns its number there. `again`: the number that it has already.
pub(super) fn write<P: Policies>(
    policies: &mut P,
    connection: &Connection,
    decision: &Decision,
    again: Option<NonZeroU64>,
) -> Option<NonZeroU64> {
    let fate = match decision.fate {
        Fate::Forward(slot) if matches!(decision.balancer, By::NotAsked(_)) => tape::Fate::Pinned(slot),
        Fate::Forward(slot) => tape::Fate::Forward(slot),
        Fate::Reject(_) => tape::Fate::Reject,
        Fate::Drop(_) => tape::Fate::Drop,
    };
    policies.decided(connection, fate, again)
}

fn write_again<P: Policies>(policies: &mut P, record: &ConnectionRecord, connection: &Connection) {
    if record.recorded.is_some() {
        write(policies, connection, &record.decision, record.recorded);
    }
}

/// Tells the recording that a connection has ended.
pub(super) fn write_end<P: Policies>(worker: &Worker<P>, record: &ConnectionRecord) {
    if let Some(number) = record.recorded {
        let ending = match record.outcome {
            // These never counted for an endpoint.
            Outcome::Rejected | Outcome::Dropped => return,
            Outcome::ConnectFailed => Ending::Unreached,
            Outcome::Closed => Ending::Closed,
            Outcome::Reset | Outcome::Aged | Outcome::Drained | Outcome::EndpointLeft | Outcome::Evicted => Ending::Reset,
        };
        worker.policies.borrow_mut().ended(number.get(), worker.clock.now_ms(), ending);
    }
}

/// The slot that a decision goes to.
pub(super) fn forwarded(decision: &Decision) -> Option<Slot> {
    match decision.fate {
        Fate::Forward(slot) => Some(slot),
        Fate::Reject(_) | Fate::Drop(_) => None,
    }
}
