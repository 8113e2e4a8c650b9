//! What was there to decide between: Service ports as each worker knew them, endpoints, and how many connections each endpoint had.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use crate::policy::contract::Node;
use crate::policy::tape::records::{EndpointRecord, PortRecord};
use crate::table::{Load, LoadGuard};
use crate::workbench::recording::{Recording, Unreadable};

/// The recorded world.
pub(super) struct World<'a> {
    recording: &'a Recording,
    nodes: BTreeMap<u16, Node>,
    /// By worker and Service port.
    views: BTreeMap<(u16, u32), Arc<Seen>>,
    /// By number, as long as a worker goes by it.
    known: HashMap<u32, Weak<Seen>>,
    /// The same of endpoints, which many ports may have.
    endpoints: HashMap<u32, Weak<EndpointRecord>>,
}

/// A Service port in some generations.
pub(super) struct Seen {
    /// Its number in the recording.
    pub(super) number: u32,
    pub(super) record: PortRecord,
    /// By slot.
    pub(super) endpoints: Vec<Arc<EndpointRecord>>,
    keys: Vec<Arc<str>>,
}

impl Seen {
    pub(super) fn key(&self, slot: u32) -> Option<Arc<str>> {
        self.keys.get(slot as usize).cloned()
    }

    pub(super) fn members(&self, set: u32) -> Option<&[u32]> {
        self.record.sets.get(set as usize).map(|set| set.members.as_slice())
    }

    pub(super) fn weight(&self, slot: u32) -> u32 {
        self.endpoints.get(slot as usize).map_or(0, |endpoint| endpoint.weight)
    }
}

impl<'a> World<'a> {
    pub(super) fn new(recording: &'a Recording) -> Self {
        Self { recording, nodes: BTreeMap::new(), views: BTreeMap::new(), known: HashMap::new(), endpoints: HashMap::new() }
    }

    pub(super) fn node(&mut self, worker: u16, node: &Node) {
        self.nodes.insert(worker, node.clone());
    }

    pub(super) fn node_of(&self, worker: u16) -> Node {
        self.nodes.get(&worker).cloned().unwrap_or_default()
    }

    pub(super) fn seed_of(&self, worker: u16) -> u64 {
        self.recording.header.workers.get(usize::from(worker)).map_or(0, |start| start.seed.into())
    }

    /// A worker goes by this port from now on.
    pub(super) fn service(&mut self, worker: u16, service: u32, port: Option<u32>) -> Result<Option<Arc<Seen>>, Unreadable> {
        let Some(number) = port else {
            self.views.remove(&(worker, service));
            return Ok(None);
        };
        let seen = match self.known.get(&number).and_then(Weak::upgrade) {
            Some(seen) => seen,
            None => {
                let record = self.recording.port(number)?;
                let endpoints: Vec<_> = record.endpoints.iter().map(|number| self.endpoint(*number)).collect::<Result<_, _>>()?;
                let keys = endpoints.iter().map(|endpoint| endpoint.key.as_str().into()).collect();
                let seen = Arc::new(Seen { number, record, endpoints, keys });
                self.known.insert(number, Arc::downgrade(&seen));
                seen
            }
        };
        self.views.insert((worker, service), Arc::clone(&seen));
        Ok(Some(seen))
    }

    fn endpoint(&mut self, number: u32) -> Result<Arc<EndpointRecord>, Unreadable> {
        if let Some(known) = self.endpoints.get(&number).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let endpoint = Arc::new(self.recording.endpoint(number)?);
        self.endpoints.insert(number, Arc::downgrade(&endpoint));
        Ok(endpoint)
    }

    pub(super) fn seen(&self, worker: u16, service: u32) -> Option<Arc<Seen>> {
        self.views.get(&(worker, service)).cloned()
    }
}

/// Live connections by endpoint, over all Services and workers, as `load` counts them.
#[derive(Clone, Default)]
pub(super) struct Loads(Rc<RefCell<BTreeMap<Arc<str>, Arc<Load>>>>);

/// Counts one connection while it lives.
pub(super) type Held = LoadGuard;

impl Loads {
    pub(super) fn of(&self, key: &Arc<str>) -> Arc<Load> {
        Arc::clone(self.0.borrow_mut().entry(Arc::clone(key)).or_default())
    }

    pub(super) fn enter(&self, key: &Arc<str>) -> Held {
        self.of(key).enter()
    }

    pub(super) fn active(&self, key: &Arc<str>) -> u32 {
        self.0.borrow().get(key).map_or(0, |load| load.active())
    }
}
