//! What workers see of loads: exactly, or as it was a while ago.

use super::scenario::{Counters, Scope};
use super::world::Node;
use crate::workbench::subject::Subject;

/// The counters as each worker sees them.
pub(super) struct Views {
    counters: Counters,
    /// By worker and node, at the worker's last look: what it takes the others to have.
    looks: Vec<Vec<u32>>,
}

impl Views {
    pub(super) fn new(counters: &Counters, workers: usize) -> Self {
        Self { counters: counters.clone(), looks: vec![Vec::new(); workers] }
    }

    fn stale(&self) -> bool {
        self.counters.refresh.nanos > 0
    }

    /// What a worker sees of a node.
    fn seen(&self, worker: usize, at: usize, node: &Node) -> u32 {
        let own = node.own.get(worker).copied().unwrap_or(0);
        match self.counters.of {
            Scope::Worker => own,
            Scope::Host if !self.stale() => node.active,
            Scope::Host => {
                let look = self.looks.get(worker).and_then(|looks| looks.get(at)).copied().unwrap_or(0);
                if self.counters.own_at_once { look + own } else { look }
            }
        }
    }

    /// A connection of a worker to a node began or ended.
    pub(super) fn changed(&self, subject: &mut dyn Subject, worker: usize, at: usize, node: &Node) {
        let Some(slot) = node.slot else { return };
        match self.counters.of {
            Scope::Host if !self.stale() => (0..self.looks.len()).for_each(|worker| subject.set_active(worker, slot, node.active)),
            Scope::Host if !self.counters.own_at_once => {}
            _ => subject.set_active(worker, slot, self.seen(worker, at, node)),
        }
    }

    /// A worker looks at everybody's counters.
    pub(super) fn look(&mut self, subject: &mut dyn Subject, worker: usize, nodes: &[Node]) {
        let own_at_once = self.counters.own_at_once;
        let others = |node: &Node| if own_at_once { node.active - node.own.get(worker).copied().unwrap_or(0) } else { node.active };
        if let Some(looks) = self.looks.get_mut(worker) {
            looks.clear();
            looks.extend(nodes.iter().map(others));
        }
        self.show(subject, worker, nodes);
    }

    /// The subject is told all that every worker sees: a plan has come, and slots may mean others.
    pub(super) fn show_all(&self, subject: &mut dyn Subject, nodes: &[Node]) {
        (0..self.looks.len()).for_each(|worker| self.show(subject, worker, nodes));
    }

    fn show(&self, subject: &mut dyn Subject, worker: usize, nodes: &[Node]) {
        for (at, node) in nodes.iter().enumerate() {
            if let Some(slot) = node.slot {
                subject.set_active(worker, slot, self.seen(worker, at, node));
            }
        }
    }
}
