//! What ends flows from outside: time, a new table, a frontend that closes, the end of the host.

use std::sync::Arc;

use super::flows::{Expiry, FlowId, Standing, standings};
use super::requests::Waiting;
use super::{BATCH, Policies, Turn, with};
use crate::dataplane::command::ListenerId;
use crate::dataplane::sockets::BACKLOG;
use crate::dataplane::worker::{MAX_PLAN_WAIT, Worker};
use crate::observe::Outcome;
use crate::table::{ServiceId, Table};

/// A frontend's queue is served to its end before it closes, but a client that floods it is not waited for.
const MAX_LAST_BATCHES: usize = BACKLOG as usize / BATCH;

/// A new table is in force: flows whose endpoint left end, so that the next datagram is decided anew.
pub(in crate::dataplane) fn table_changed<P: Policies>(worker: &Worker<P>, before: &Table, removed: &[ServiceId]) {
    with(worker, |turn| {
        let table = Arc::clone(&worker.table.borrow());
        let mut leaving = Vec::new();
        for service in turn.state.flows.services() {
            let now = table.port(service).filter(|_| !removed.contains(&service));
            match (before.port(service), now) {
                // Every change of a port, a mask too, is another port.
                (Some(before), Some(now)) if Arc::ptr_eq(before, now) => {}
                (_, Some(now)) => {
                    let endpoints = turn.state.flows.endpoints(service);
                    let standings = standings(now, &endpoints);
                    let standing = |endpoint: u64| endpoints.binary_search(&endpoint).map_or(Standing::Leaves, |at| standings[at]);
                    leaving.extend(turn.state.flows.review(service, turn.now_ms, standing));
                }
                (_, None) => leaving.extend(turn.state.flows.review(service, turn.now_ms, |_| Standing::Leaves)),
            }
        }
        turn.end_all(leaving, Outcome::EndpointLeft);
        turn.serve_waiting();
    });
}

/// Ends what time ends.
pub(in crate::dataplane) fn tick<P: Policies>(worker: &Worker<P>) {
    with(worker, |turn| {
        while let Some((id, why)) = turn.state.flows.expired(turn.now_ms) {
            let outcome = match why {
                Expiry::Idle => Outcome::Closed,
                Expiry::Aged => Outcome::Aged,
                Expiry::EndpointLeft => Outcome::EndpointLeft,
            };
            turn.end(id, outcome);
        }
        while let Some((id, _)) = turn.state.held.front().copied().filter(|(_, until_ms)| *until_ms <= turn.now_ms) {
            turn.state.held.pop_front();
            turn.release(id);
        }
        let patience_ms = MAX_PLAN_WAIT.as_millis() as u64;
        let now_ms = turn.now_ms;
        turn.give_up(|waiting| waiting.since_ms + patience_ms <= now_ms);
        turn.close_idle_frontends();
    });
}

/// Serves what is queued on a frontend, then ends its flows and closes it.
pub(in crate::dataplane) fn close<P: Policies>(worker: &Worker<P>, id: ListenerId) {
    with(worker, |turn| {
        let Some(number) = turn.state.numbers.remove(&id) else { return };
        for _ in 0..MAX_LAST_BATCHES {
            if !turn.requests(number) {
                break;
            }
        }
        if turn.frontend(number).is_some_and(|frontend| frontend.flows.get() > 0) {
            let flows = turn.state.flows.of_frontend(number);
            turn.end_all(flows, Outcome::EndpointLeft);
        }
        turn.state.frontends[number as usize] = None;
        turn.state.vacant.push(number);
        turn.give_up(|waiting| waiting.frontend == number);
    });
}

/// No new flows from now on. Frontends close with their last flow: then the kernel refuses.
pub(in crate::dataplane) fn drain<P: Policies>(worker: &Worker<P>) {
    with(worker, |turn| {
        turn.state.draining = true;
        turn.close_idle_frontends();
    });
}

/// The end: accounts for every flow that is left.
pub(in crate::dataplane) fn end<P: Policies>(worker: &Worker<P>) {
    with(worker, |turn| {
        let flows = turn.state.flows.all();
        turn.end_all(flows, Outcome::Drained);
        turn.give_up(|_| true);
    });
}

impl<P: Policies> Turn<'_, P> {
    fn end_all(&mut self, flows: Vec<FlowId>, outcome: Outcome) {
        for id in flows {
            self.end(id, outcome);
        }
    }

    /// Lets go of datagrams that wait for a plan.
    fn give_up(&mut self, which: impl Fn(&Waiting) -> bool) {
        let (state, mut lost) = (&mut *self.state, 0);
        state.waiting.retain(|waiting| {
            let gone = which(waiting);
            if gone {
                lost += 1;
                state.waiting_bytes -= waiting.datagram.len();
            }
            !gone
        });
        if lost > 0 {
            self.worker.counters.datagrams_lost("no-endpoint", lost);
        }
    }

    fn close_idle_frontends(&mut self) {
        if self.state.draining {
            for frontend in &mut self.state.frontends {
                frontend.take_if(|frontend| frontend.flows.get() == 0);
            }
        }
    }
}
