//! What is listened on: the control side's list of sockets, kept in step with the table.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use super::command::{ListenerCommand, ListenerId};
use super::sockets::{self, Listener};
use crate::table::{Frontend, FrontendKey, FrontendKind, Protocol, Table};

/// Where a frontend is to be bound, or why it cannot be served. Port 0 asks for any.
pub type VipMap<'a> = dyn Fn(&FrontendKey, &Frontend) -> Result<SocketAddr, String> + 'a;

/// A frontend that is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What clients of a cluster would dial.
    pub key: FrontendKey,
    /// Which of the Service's addresses it is.
    pub kind: FrontendKind,
    /// `namespace/name:port`.
    pub service: String,
    /// Where it is really bound.
    pub address: SocketAddr,
}

/// A frontend that is not listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotServed {
    /// Its address.
    pub key: FrontendKey,
    /// `namespace/name:port`.
    pub service: String,
    /// Why, and what to do.
    pub why: String,
    /// It should not be: the kernel's refusal is the right answer to its clients. Nothing to warn of.
    pub by_design: bool,
}

/// Listeners may use this part of the descriptors with one socket per worker and frontend; beyond, each frontend has one socket and
/// frontends are spread over the workers.
const SHARE_OF_DESCRIPTORS: usize = 4;

/// The sockets of all workers.
pub(super) struct Listeners {
    workers: usize,
    descriptors: usize,
    next_id: u64,
    entries: HashMap<FrontendKey, Entry>,
    failures: BTreeMap<FrontendKey, String>,
    /// Sockets by worker.
    load: Vec<usize>,
    /// Addresses that workers may not have closed yet.
    closing: Vec<(Protocol, SocketAddr, Arc<()>)>,
}

struct Entry {
    /// What the map said.
    asked: SocketAddr,
    /// What was bound.
    bound: SocketAddr,
    sockets: Vec<(usize, ListenerId)>,
}

type Commands = Vec<(usize, ListenerCommand)>;

impl Listeners {
    pub(super) fn new(workers: usize, descriptors: usize) -> Self {
        Self {
            workers,
            descriptors,
            next_id: 0,
            entries: HashMap::new(),
            failures: BTreeMap::new(),
            load: vec![0; workers],
            closing: Vec::new(),
        }
    }

    /// Closes what the coming table does not know. To be sent before the table, so that queued connections are decided by the old one.
    pub(super) fn close_gone(&mut self, coming: &Table) -> Commands {
        let gone = self.entries.extract_if(|key, _| !coming.frontends.contains_key(key)).collect();
        self.close(gone)
    }

    /// Opens what the table wants, and then closes what it does not: frontends without endpoints, and those that moved.
    pub(super) fn update(&mut self, table: &Table, vip: &VipMap<'_>) -> Commands {
        self.reconcile(table, vip, false)
    }

    /// As `update`, and tries again what failed before.
    pub(super) fn retry(&mut self, table: &Table, vip: &VipMap<'_>) -> Commands {
        self.reconcile(table, vip, true)
    }

    pub(super) fn failures(&self) -> &BTreeMap<FrontendKey, String> {
        &self.failures
    }

    pub(super) fn sockets(&self) -> usize {
        self.load.iter().sum()
    }

    pub(super) fn bound(&self, table: &Table) -> Vec<Bound> {
        let describe = |(key, entry): (&FrontendKey, &Entry)| {
            let frontend = table.frontend(key)?;
            Some(Bound { key: *key, kind: frontend.kind, service: service(table, frontend), address: entry.bound })
        };
        let mut bound: Vec<_> = self.entries.iter().filter_map(describe).collect();
        bound.sort_unstable_by_key(|bound| bound.key);
        bound
    }

    pub(super) fn not_served(&self, table: &Table) -> Vec<NotServed> {
        let describe = |(key, frontend): (&FrontendKey, &Frontend)| {
            // Not planned yet: there is nothing to say of it.
            let port = table.port(frontend.service)?;
            let (why, by_design) = match self.failures.get(key) {
                Some(why) => (why.clone(), false),
                None if !port.can_forward() => ("no endpoint to forward to: connections are refused".to_owned(), true),
                None => return None,
            };
            Some(NotServed { key: *key, service: port.to_string(), why, by_design })
        };
        let mut not_served: Vec<_> = table.frontends.iter().filter_map(describe).collect();
        not_served.sort_unstable_by_key(|not_served| not_served.key);
        not_served
    }

    fn reconcile(&mut self, table: &Table, vip: &VipMap<'_>, again: bool) -> Commands {
        self.closing.retain(|(_, _, closed)| Arc::strong_count(closed) > 1);
        let mut failures = BTreeMap::new();
        let mut wanted = HashMap::new();
        for (key, frontend) in &table.frontends {
            match place(table, key, frontend, vip) {
                Ok(None) => {}
                Ok(Some(address)) => drop(wanted.insert(*key, address)),
                Err(why) => drop(failures.insert(*key, why)),
            }
        }
        let moved = |key: &FrontendKey, entry: &mut Entry| wanted.get(key) != Some(&entry.asked);
        let unwanted: Vec<(FrontendKey, Entry)> = self.entries.extract_if(moved).collect();
        let per_frontend = self.sockets_per_frontend(wanted.len());
        let mut commands = Vec::new();
        for (key, address) in wanted {
            if self.entries.contains_key(&key) {
                continue;
            }
            if let Some(why) = self.failures.remove(&key).filter(|_| !again) {
                failures.insert(key, why);
                continue;
            }
            let ours = self.is_ours(key.protocol, address, &unwanted);
            match sockets::listen(address, key.protocol, per_frontend, ours) {
                Ok((bound, sockets)) => self.open(key, address, bound, sockets, &mut commands),
                Err(why) => drop(failures.insert(key, why)),
            }
        }
        self.failures = failures;
        commands.extend(self.close(unwanted));
        commands
    }

    fn sockets_per_frontend(&self, frontends: usize) -> usize {
        if frontends * self.workers <= self.descriptors / SHARE_OF_DESCRIPTORS { self.workers } else { 1 }
    }

    fn is_ours(&self, protocol: Protocol, address: SocketAddr, unwanted: &[(FrontendKey, Entry)]) -> bool {
        let open = unwanted.iter().map(|(key, entry)| (key, entry)).chain(&self.entries);
        let closing = self.closing.iter().map(|(protocol, address, _)| (*protocol, *address));
        open.map(|(key, entry)| (key.protocol, entry.bound)).chain(closing).any(|ours| ours == (protocol, address))
    }

    fn open(&mut self, key: FrontendKey, asked: SocketAddr, bound: SocketAddr, sockets: Vec<Listener>, commands: &mut Commands) {
        let mut entry = Entry { asked, bound, sockets: Vec::with_capacity(sockets.len()) };
        let everywhere = sockets.len() == self.workers;
        for (at, socket) in sockets.into_iter().enumerate() {
            let worker = if everywhere { at } else { self.least_loaded() };
            let id = ListenerId(self.next_id);
            self.next_id += 1;
            self.load[worker] += 1;
            entry.sockets.push((worker, id));
            commands.push((worker, ListenerCommand::Open { id, key, socket }));
        }
        self.entries.insert(key, entry);
    }

    fn least_loaded(&self) -> usize {
        (0..self.workers).min_by_key(|worker| self.load[*worker]).unwrap_or_default()
    }

    fn close(&mut self, entries: Vec<(FrontendKey, Entry)>) -> Commands {
        let mut commands = Vec::new();
        for (key, entry) in entries {
            let closed = Arc::new(());
            for (worker, id) in entry.sockets {
                self.load[worker] -= 1;
                commands.push((worker, ListenerCommand::Close { id, closed: Arc::clone(&closed) }));
            }
            self.closing.push((key.protocol, entry.bound, closed));
        }
        commands
    }
}

/// Where a frontend listens; `None`: nowhere, because it is not planned yet, or could forward nobody and the kernel's refusal is the right
/// answer.
fn place(table: &Table, key: &FrontendKey, frontend: &Frontend, vip: &VipMap<'_>) -> Result<Option<SocketAddr>, String> {
    let Some(port) = table.port(frontend.service) else { return Ok(None) };
    if let (Protocol::Sctp, Some(why)) = (key.protocol, sockets::sctp_missing()) {
        return Err(why.to_owned());
    }
    if !port.can_forward() {
        return Ok(None);
    }
    let address = vip(key, frontend)?;
    // A socket on one address answers from that address; on all of them, from whichever the route of the answer suggests.
    if key.protocol == Protocol::Udp && address.ip().is_unspecified() {
        return Err("UDP is served on addresses of their own, so that clients are answered from the one they asked: name one".into());
    }
    Ok(Some(address))
}

fn service(table: &Table, frontend: &Frontend) -> String {
    table.port(frontend.service).map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests;
