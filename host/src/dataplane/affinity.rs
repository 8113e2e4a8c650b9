//! `sessionAffinity: ClientIP`: which endpoint a client was sent to last. Shared by the workers, in shards, and touched only for
//! Services that ask for it. Time is passed in; memory is bounded.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::table::ServiceId;

/// Clients that are remembered, over all Services: about 100 MB at worst. The one seen least recently makes room.
pub const MAX_PINS: usize = 1 << 20;

/// So that workers rarely meet at a lock.
const SHARDS: usize = 64;

/// Pins of clients to endpoints.
pub struct Affinity {
    shards: Box<[Mutex<Shard>]>,
    /// Keyed with random bits: clients choose their addresses.
    hasher: RandomState,
    max_per_shard: usize,
    evicted: AtomicU64,
}

type Key = (ServiceId, IpAddr);

/// Every key of `pins` is in `queue` exactly once, so neither can grow without the other.
#[derive(Default)]
struct Shard {
    pins: HashMap<Key, Pin>,
    /// In the order of the expiry that a pin had when it was put here; a renewed pin is put back when its turn comes.
    queue: VecDeque<(Key, u64)>,
}

#[derive(Clone, Copy)]
struct Pin {
    endpoint: u64,
    /// 0: forgotten.
    expires_ms: u64,
}

impl Default for Affinity {
    fn default() -> Self {
        Self::with_limit(MAX_PINS)
    }
}

impl Affinity {
    /// Remembers at most about this many clients.
    pub fn with_limit(max_pins: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            max_per_shard: max_pins.div_ceil(SHARDS),
            evicted: AtomicU64::new(0),
        }
    }

    /// The hash of the endpoint that a client is held to.
    pub fn lookup(&self, service: ServiceId, client: IpAddr, now_ms: u64) -> Option<u64> {
        let key = (service, client);
        let shard = self.shard(&key);
        let pin = shard.pins.get(&key)?;
        (pin.expires_ms > now_ms).then_some(pin.endpoint)
    }

    /// Holds a client to an endpoint from now on; renews what was there.
    pub fn pin(&self, service: ServiceId, client: IpAddr, endpoint: u64, now_ms: u64, timeout: Duration) {
        let key = (service, client);
        let pin = Pin { endpoint, expires_ms: now_ms.saturating_add(timeout.as_millis() as u64) };
        let mut shard = self.shard(&key);
        if let Some(known) = shard.pins.get_mut(&key) {
            *known = pin;
            return;
        }
        if shard.pins.len() >= self.max_per_shard && shard.evict(now_ms) {
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        shard.pins.insert(key, pin);
        shard.queue.push_back((key, pin.expires_ms));
    }

    /// Lets a client go, if it is held to this endpoint: it could not be reached.
    pub fn forget(&self, service: ServiceId, client: IpAddr, endpoint: u64) {
        let key = (service, client);
        let mut shard = self.shard(&key);
        if let Some(pin) = shard.pins.get_mut(&key).filter(|pin| pin.endpoint == endpoint) {
            pin.expires_ms = 0;
        }
    }

    /// The Service is gone; its id may be given to another.
    pub fn forget_service(&self, service: ServiceId) {
        for shard in &self.shards {
            for (_, pin) in lock(shard).pins.iter_mut().filter(|((of, _), _)| *of == service) {
                pin.expires_ms = 0;
            }
        }
    }

    /// Frees what has expired. A long timeout may keep a shorter one behind it waiting; it holds nobody any more, though.
    pub fn expire(&self, now_ms: u64) {
        for shard in &self.shards {
            lock(shard).expire(now_ms);
        }
    }

    /// How many clients are remembered, those about to be freed included.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).pins.len()).sum()
    }

    /// Whether nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many pins had to make room while they were still good.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.hasher.hash_one(key) as usize % SHARDS])
    }
}

impl Shard {
    /// Makes room for one. Returns whether a good pin had to go.
    fn evict(&mut self, now_ms: u64) -> bool {
        // Everything in the queue may have been renewed: after one round, the head is the one that waited longest.
        for _ in 0..self.queue.len() {
            let Some((key, queued_ms)) = self.queue.pop_front() else { return false };
            match self.pins.get(&key).map(|pin| pin.expires_ms) {
                Some(expires_ms) if expires_ms > now_ms && expires_ms != queued_ms => self.queue.push_back((key, expires_ms)),
                expires_ms => {
                    self.pins.remove(&key);
                    return expires_ms.is_some_and(|expires_ms| expires_ms > now_ms);
                }
            }
        }
        let Some((key, _)) = self.queue.pop_front() else { return false };
        self.pins.remove(&key).is_some()
    }

    fn expire(&mut self, now_ms: u64) {
        while let Some((key, queued_ms)) = self.queue.front().copied() {
            let expires_ms = self.pins.get(&key).map_or(0, |pin| pin.expires_ms);
            if queued_ms > now_ms && expires_ms != 0 {
                break;
            }
            self.queue.pop_front();
            if expires_ms > now_ms {
                self.queue.push_back((key, expires_ms));
            } else {
                self.pins.remove(&key);
            }
        }
    }
}

/// A shard is whole between any two statements, so a panic elsewhere leaves nothing half done.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
