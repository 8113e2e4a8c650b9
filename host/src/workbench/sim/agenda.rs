//! What is still to happen, in order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::world::Handle;

/// Something that happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// The endpoint accepted.
    Connected(Handle),
    /// It refused.
    Refused(Handle),
    /// It was waited for long enough.
    TimedOut(Handle),
    /// The request was answered.
    Served(Handle),
    /// The client asks again.
    Request(Handle),
    /// The client has done.
    Close(Handle),
    /// A worker looks at the others' counters.
    Refresh(u32),
    /// Workers tell what became of their picks.
    Feedback,
    /// Loads are looked at, for the report.
    Sample,
    /// Workers have a plan for the endpoints as they are.
    Adopt,
    /// From here on it is measured.
    Measure,
    /// A step of an event of the scenario, by its number among the plans of events.
    Step(u32),
}

/// By time; what was planned first comes first.
#[derive(Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<(u64, u64, What)>>,
    planned: u64,
}

impl Agenda {
    pub(super) fn plan(&mut self, at: u64, what: What) {
        self.heap.push(Reverse((at, self.planned, what)));
        self.planned += 1;
    }

    /// When the next is.
    pub(super) fn next_at(&self) -> u64 {
        self.heap.peek().map_or(u64::MAX, |Reverse((at, ..))| *at)
    }

    pub(super) fn next(&mut self) -> Option<What> {
        self.heap.pop().map(|Reverse((_, _, what))| what)
    }
}
