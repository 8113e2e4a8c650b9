//! From endpoints to clients. Answers of many flows of one frontend are gathered and leave together.

use std::io::ErrorKind;
use std::ops::Range;
use std::os::fd::AsFd;

use super::flows::FlowId;
use super::{Policies, Turn, flow};
use crate::sys::datagrams::Batch;

/// Answers of one flow that one call takes: most have one.
const PIECE: usize = 8;

/// After so many calls the others get their turn.
const MAX_CALLS: usize = 8;

/// Answers that are on their way.
pub(super) struct Answers {
    batch: Batch,
    /// Whose they are, by slot.
    owners: Vec<FlowId>,
    frontend: u32,
}

impl Answers {
    pub(super) fn new(capacity: usize) -> Self {
        Self { batch: Batch::new(capacity), owners: Vec::with_capacity(capacity), frontend: 0 }
    }
}

impl<P: Policies> Turn<'_, P> {
    /// Takes in what a flow's endpoint answered, to be sent by `flush`. Returns whether there may be more.
    pub(super) fn answers(&mut self, id: FlowId) -> bool {
        let Some(key) = self.state.flows.key(id) else { return false };
        for _ in 0..MAX_CALLS {
            let answers = &self.state.answers;
            if answers.frontend != key.frontend || answers.owners.len() == answers.batch.capacity() {
                self.flush();
                self.state.answers.frontend = key.frontend;
            }
            let state = &mut *self.state;
            let start = state.answers.owners.len();
            let end = state.answers.batch.capacity().min(start + PIECE);
            let Some(flow) = state.flows.value_mut(id) else { return false };
            let Some(upstream) = &flow.upstream else { return false };
            match state.answers.batch.receive(upstream.as_fd(), start..end) {
                Ok(received) => {
                    let first = received > 0 && !flow.answered;
                    if first {
                        flow.first_answer(self.worker);
                    }
                    for slot in start..start + received {
                        state.answers.batch.address(slot, key.client);
                        state.answers.owners.push(id);
                    }
                    state.flows.used(id, true, self.now_ms);
                    if first {
                        self.release(id);
                    }
                    if received < end - start {
                        return false;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => {
                    // What was answered before counts for the flow as it was.
                    self.flush();
                    self.refused(id, flow::classify(&error));
                    return true;
                }
            }
        }
        true
    }

    /// Sends the answers that were taken in.
    pub(super) fn flush(&mut self) {
        let mut answers = std::mem::replace(&mut self.state.answers, Answers::new(0));
        let mut slot = 0;
        if let Some(frontend) = self.frontend(answers.frontend) {
            while slot < answers.owners.len() {
                match answers.batch.send_to_peers(frontend.socket.as_fd(), slot..answers.owners.len()) {
                    Ok(sent) => {
                        self.count_answers(&answers, slot..slot + sent);
                        slot += sent;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => {
                        self.worker.counters.datagrams_lost("unsendable", 1);
                        slot += 1;
                    }
                }
            }
        }
        if slot < answers.owners.len() {
            self.worker.counters.datagrams_lost("send-buffer", (answers.owners.len() - slot) as u64);
        }
        answers.owners.clear();
        self.state.answers = answers;
    }

    fn count_answers(&mut self, answers: &Answers, sent: Range<usize>) {
        let mut slot = sent.start;
        while slot < sent.end {
            let (owner, start) = (answers.owners[slot], slot);
            let mut bytes = 0;
            while slot < sent.end && answers.owners[slot] == owner {
                bytes += answers.batch.datagram(slot).len() as u64;
                slot += 1;
            }
            if let Some(flow) = self.state.flows.value_mut(owner) {
                flow.counter.datagrams_out((slot - start) as u64, bytes);
                flow.record.bytes_out += bytes;
            }
        }
    }
}
