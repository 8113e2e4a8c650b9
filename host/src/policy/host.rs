//! What stands around a guest: its store's data, the limiter of its memory, and the two interfaces that it may import.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use wasmtime::component::{Linker, WasmStr};
use wasmtime::{ResourceLimiter, StoreContextMut, UpdateDeadline};

use super::clock::processor_time;
use super::limits::Limits;
use super::wasi::Wasi;
use super::wire::LogLevel;
use crate::table::{ServiceId, Slot, Table};

/// The data of one instance's store.
pub(super) struct HostData {
    /// What `load.active` reads.
    pub(super) table: Arc<Table>,
    pub(super) loads: Loads,
    pub(super) limiter: Limiter,
    pub(super) log: Arc<GuestLog>,
    /// Half of the current call's deadline: epochs, and processor time.
    pub(super) half_deadline: (u64, Duration),
    /// The processor time at which the first half had passed. Cleared before each call.
    pub(super) overdue: Option<Duration>,
    /// Made at its first use, by a policy that was granted WASI.
    pub(super) wasi: Option<Box<Wasi>>,
}

/// Where the answers of `load` come from, and where they go besides.
pub(super) enum Loads {
    /// From the table.
    Live,
    /// From the table; they are noted, for a tape.
    Noted(Vec<u32>),
    /// From a tape, in the order in which they were given then. `short`: more was asked than then.
    Given { answers: std::vec::IntoIter<u32>, short: bool },
}

impl HostData {
    pub(super) fn new(limits: &Limits, log: Arc<GuestLog>) -> Self {
        Self {
            table: Arc::default(),
            loads: Loads::Live,
            limiter: Limiter::new(limits),
            log,
            half_deadline: (0, Duration::ZERO),
            overdue: None,
            wasi: None,
        }
    }

    /// Live connections of slots; 0 of one that the Service port does not have.
    #[inline]
    fn active<const N: usize>(&mut self, service: ServiceId, slots: [Slot; N]) -> [u32; N] {
        let live = match self.table.port(service) {
            Some(port) => slots.map(|slot| port.endpoints.get(slot as usize).map_or(0, |endpoint| endpoint.load.active())),
            None => [0; N],
        };
        match &mut self.loads {
            Loads::Live => live,
            Loads::Noted(noted) => {
                noted.extend(live);
                live
            }
            Loads::Given { answers, short } => slots.map(|_| {
                answers.next().unwrap_or_else(|| {
                    *short = true;
                    0
                })
            }),
        }
    }
}

/// What happens when half of a call's deadline has passed, and again for each half after that. A guest that has been running since the
/// first is stopped; one whose thread was waiting for a core gets the time that it missed.
pub(super) fn deadline(data: &mut HostData) -> UpdateDeadline {
    let (ticks, half) = data.half_deadline;
    let now = processor_time();
    let since = *data.overdue.get_or_insert(now);
    if now.saturating_sub(since) >= half / 2 { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(ticks) }
}

/// Defines the imports of the contract.
pub(super) fn link(linker: &mut Linker<HostData>) -> wasmtime::Result<()> {
    let mut load = linker.instance(LOAD)?;
    load.func_wrap("active", |mut store: StoreContextMut<'_, HostData>, (service, slot): (ServiceId, Slot)| {
        let [active] = store.data_mut().active(service, [slot]);
        Ok((active,))
    })?;
    load.func_wrap("active-pair", |mut store: StoreContextMut<'_, HostData>, (service, one, other): (ServiceId, Slot, Slot)| {
        let [one, other] = store.data_mut().active(service, [one, other]);
        Ok(((one, other),))
    })?;
    linker.instance(LOG)?.func_wrap("log", |store: StoreContextMut<'_, HostData>, (level, message): (LogLevel, WasmStr)| {
        let log = Arc::clone(&store.data().log);
        // The text is read only when it will be written: a flood costs a counter.
        if log.admit() {
            log.write(level, &message.to_str(&store)?);
        }
        Ok(())
    })
}

const LOAD: &str = "pointsman:policy/load@0.1.0";
const LOG: &str = "pointsman:policy/log@0.1.0";

/// Counts memory over all of an instance's memories, and remembers what it denied so that the trap that follows can be explained.
pub(super) struct Limiter {
    memory_limit: usize,
    table_limit: usize,
    memories: usize,
    tables: usize,
    instances: usize,
    memory: usize,
    /// The most that it ever held.
    pub(super) memory_peak: usize,
    /// Set when a growth was denied; cleared before each call.
    pub(super) denied: Option<Denied>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Denied {
    Memory { asked: usize, limit: usize },
    Table { asked: usize, limit: usize },
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory { asked, limit } => write!(f, "{asked} bytes of memory, of at most {limit}"),
            Self::Table { asked, limit } => write!(f, "a table of {asked} elements, of at most {limit}"),
        }
    }
}

impl Limiter {
    fn new(limits: &Limits) -> Self {
        Self {
            memory_limit: limits.memory_bytes,
            table_limit: limits.table_elements,
            memories: limits.memories,
            tables: limits.tables,
            instances: limits.instances,
            memory: 0,
            memory_peak: 0,
            denied: None,
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_sub(current).saturating_add(desired);
        if total > self.memory_limit {
            self.denied = Some(Denied::Memory { asked: total, limit: self.memory_limit });
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.memory = total;
        self.memory_peak = self.memory_peak.max(total);
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.table_limit {
            self.denied = Some(Denied::Table { asked: desired, limit: self.table_limit });
            return Ok(false);
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.tables
    }

    fn memories(&self) -> usize {
        self.memories
    }
}

/// The log of one policy: a token bucket that all of its instances share.
pub(super) struct GuestLog {
    policy: Arc<str>,
    lines_per_second: u32,
    line_bytes: usize,
    bucket: Mutex<Bucket>,
}

struct Bucket {
    tokens: u32,
    refilled: Instant,
    /// Lines written and lines not written, for the counters.
    written: u64,
    dropped: u64,
}

impl GuestLog {
    pub(super) fn new(policy: Arc<str>, limits: &Limits) -> Arc<Self> {
        let bucket = Bucket { tokens: limits.log_lines_per_second, refilled: Instant::now(), written: 0, dropped: 0 };
        Arc::new(Self {
            policy,
            lines_per_second: limits.log_lines_per_second,
            line_bytes: limits.log_line_bytes,
            bucket: Mutex::new(bucket),
        })
    }

    /// Whether a line may be written now. Workers don't wait for one another: whoever finds the bucket taken loses the line.
    pub(super) fn admit(&self) -> bool {
        let Ok(mut bucket) = self.bucket.try_lock() else { return false };
        if bucket.refilled.elapsed().as_millis() >= 1000 {
            bucket.refilled = Instant::now();
            bucket.tokens = self.lines_per_second;
        }
        let admitted = bucket.tokens > 0;
        if admitted {
            bucket.tokens -= 1;
            bucket.written += 1;
        } else {
            bucket.dropped += 1;
        }
        admitted
    }

    pub(super) fn write(&self, level: LogLevel, message: &str) {
        let policy = &*self.policy;
        let line = clean(message, self.line_bytes);
        match level {
            LogLevel::Debug => tracing::debug!(target: "pointsman::guest", policy, "{line}"),
            LogLevel::Info => tracing::info!(target: "pointsman::guest", policy, "{line}"),
            LogLevel::Warn => tracing::warn!(target: "pointsman::guest", policy, "{line}"),
            LogLevel::Error => tracing::error!(target: "pointsman::guest", policy, "{line}"),
        }
    }

    /// Lines written, and lines dropped by the bucket.
    pub(super) fn counts(&self) -> (u64, u64) {
        self.bucket.lock().map(|bucket| (bucket.written, bucket.dropped)).unwrap_or_default()
    }
}

/// At most `bytes` of `text`, on one line and without control characters: nothing that a terminal would obey.
fn clean(text: &str, bytes: usize) -> String {
    let end = text.floor_char_boundary(bytes);
    text[..end].trim_end().chars().map(|c| if c == '\n' { ' ' } else { c }).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]
    use super::*;

    #[test]
    fn a_line_is_cut_at_a_character_and_loses_escapes() {
        assert_eq!(clean("\x1b[31mred\x07\r\n", 256), "[31mred");
        assert_eq!(clean("panicked at a.rs:1:2:\nno", 256), "panicked at a.rs:1:2: no");
        assert_eq!(clean("ééé", 3), "é");
        assert_eq!(clean("abc", 2), "ab");
    }

    #[test]
    fn the_bucket_admits_its_lines_and_no_more() {
        let log = GuestLog::new("p".into(), &Limits::default());
        let admitted = (0..1000).filter(|_| log.admit()).count();
        assert_eq!(admitted, 10);
        assert_eq!(log.counts(), (10, 990));
    }

    #[test]
    fn memory_is_counted_over_all_memories() {
        let mut limiter = Limiter::new(&Limits { memory_bytes: 100, ..Limits::default() });
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert!(!limiter.memory_growing(40, 50, None).unwrap());
        assert_eq!(limiter.memory_peak, 100);
        assert!(matches!(limiter.denied, Some(Denied::Memory { asked: 110, limit: 100 })));
    }
}
