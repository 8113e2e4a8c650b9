//! Which connections live on which endpoint, and which of them are to end because it left or is no longer ready: `pointsman.dev/drain`.
//! No clock of its own.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use crate::table::{Drain, Endpoint, Port, ServiceId, Slot, Table};

/// The connections of one worker, by Service port and endpoint.
#[derive(Default)]
pub(super) struct Drains {
    services: HashMap<ServiceId, Service>,
    /// Connections of Service ports that are gone, and when they are to end.
    orphans: Vec<(u64, Vec<Rc<Place>>)>,
    next: u64,
}

struct Service {
    /// The entry that `endpoints` was last held against.
    seen: Arc<Port>,
    endpoints: HashMap<u64, Group>,
}

/// The connections of one endpoint.
#[derive(Default)]
struct Group {
    left_at_ms: Option<u64>,
    connections: HashMap<u64, Rc<Place>>,
}

/// A connection's place in here, shared with its task: tells it when it is to end.
pub(super) struct Place {
    service: ServiceId,
    endpoint: u64,
    id: u64,
    over: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Place {
    /// Whether the connection is to end; if not, its task is woken when it is.
    pub(super) fn must_end(&self, context: &Context<'_>) -> bool {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        self.over.get()
    }

    fn end(&self) {
        self.over.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Drains {
    /// A connection was made to an endpoint of a Service port, as the port was when it was decided. `current` is the port as it is now.
    pub(super) fn enter(&mut self, port: &Arc<Port>, slot: Slot, current: Option<&Arc<Port>>, now_ms: u64) -> Rc<Place> {
        let (id, endpoint) = (self.next, port.endpoints[slot as usize].hash);
        self.next += 1;
        let place = Rc::new(Place { service: port.id, endpoint, id, over: Cell::new(false), waker: RefCell::default() });
        let Some(current) = current else {
            // Its Service port went while it was being made.
            self.orphan(port.options.drain, vec![Rc::clone(&place)], now_ms);
            return place;
        };
        let service = self.services.entry(port.id).or_insert_with(|| Service { seen: Arc::clone(current), endpoints: HashMap::new() });
        let group = service.endpoints.entry(endpoint).or_default();
        group.connections.insert(id, Rc::clone(&place));
        if !Arc::ptr_eq(port, current)
            && group.left_at_ms.is_none()
            && !current.endpoints.iter().any(|e| e.hash == endpoint && e.conditions.ready)
        {
            group.left_at_ms = Some(now_ms);
            self.due(now_ms);
        }
        place
    }

    /// A connection has ended.
    pub(super) fn leave(&mut self, place: &Place) {
        let Some(service) = self.services.get_mut(&place.service) else { return };
        let Some(group) = service.endpoints.get_mut(&place.endpoint) else { return };
        group.connections.remove(&place.id);
        if group.connections.is_empty() {
            service.endpoints.remove(&place.endpoint);
        }
        if service.endpoints.is_empty() {
            self.services.remove(&place.service);
        }
    }

    /// Another table is in force. Work only for ports that are others than before.
    pub(super) fn table_changed(&mut self, table: &Table, removed: &[ServiceId], now_ms: u64) {
        for id in removed {
            let Some(service) = self.services.remove(id) else { continue };
            let connections = service.endpoints.into_values().flat_map(|group| group.connections.into_values());
            self.orphan(service.seen.options.drain, connections.collect(), now_ms);
        }
        for (id, service) in &mut self.services {
            let Some(port) = table.port(*id).filter(|port| !Arc::ptr_eq(port, &service.seen)) else { continue };
            service.seen = Arc::clone(port);
            let stays = |(slot, endpoint): &(Slot, &Endpoint)| endpoint.conditions.ready && !port.masked.contains(slot);
            let stay: HashSet<u64> = (0..).zip(&*port.endpoints).filter(stays).map(|(_, endpoint)| endpoint.hash).collect();
            for (endpoint, group) in &mut service.endpoints {
                group.left_at_ms = if stay.contains(endpoint) { None } else { group.left_at_ms.or(Some(now_ms)) };
            }
        }
        self.due(now_ms);
    }

    /// Ends what has had its time.
    pub(super) fn due(&mut self, now_ms: u64) {
        self.orphans.retain(|(until_ms, connections)| {
            let over = *until_ms <= now_ms;
            if over {
                connections.iter().for_each(|place| place.end());
            }
            !over
        });
        for service in self.services.values() {
            let Some(grace_ms) = grace_ms(service.seen.options.drain) else { continue };
            for group in service.endpoints.values() {
                if group.left_at_ms.is_some_and(|left| left.saturating_add(grace_ms) <= now_ms) {
                    group.connections.values().for_each(|place| place.end());
                }
            }
        }
    }

    fn orphan(&mut self, drain: Drain, connections: Vec<Rc<Place>>, now_ms: u64) {
        if let Some(grace_ms) = grace_ms(drain) {
            self.orphans.push((now_ms.saturating_add(grace_ms), connections));
            self.due(now_ms);
        }
    }
}

/// How long established connections go on; `None`: until they end by themselves.
fn grace_ms(drain: Drain) -> Option<u64> {
    match drain {
        Drain::Keep => None,
        Drain::Reset => Some(0),
        Drain::After(grace) => Some(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests;
