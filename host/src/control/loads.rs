//! Load cells, one an address, shared by every Service and generation that has an endpoint there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use crate::table::Load;

/// Cells that somebody still holds: a table, or a connection.
#[derive(Debug, Default)]
pub(super) struct Loads {
    cells: HashMap<SocketAddr, Weak<Load>>,
    /// Dead cells are swept out when there are this many in all.
    sweep_at: usize,
}

impl Loads {
    pub(super) fn of(&mut self, address: SocketAddr) -> Arc<Load> {
        if let Some(load) = self.cells.get(&address).and_then(Weak::upgrade) {
            return load;
        }
        if self.cells.len() >= self.sweep_at {
            self.cells.retain(|_, cell| cell.strong_count() > 0);
            self.sweep_at = (2 * self.cells.len()).max(SWEEP_AT_LEAST);
        }
        let load = Arc::new(Load::default());
        self.cells.insert(address, Arc::downgrade(&load));
        load
    }
}

/// Below this, sweeping is not worth the walk.
const SWEEP_AT_LEAST: usize = 1024;
