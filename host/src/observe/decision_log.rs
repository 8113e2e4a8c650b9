//! The decision log: one JSON line a connection, written by a thread of its own. A worker never waits for it: when the writer falls
//! behind, records are dropped, counted, and a line `{"dropped":n}` stands where they are missing.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::entry;
use super::record::ConnectionRecord;

/// Records that may wait for the writer. At some 600 bytes each that is 10 MB, and a third of a second at 50,000 connections a second.
pub const MAX_WAITING: usize = 16_384;

/// Lines are handed to the file in pieces of about this size, or as soon as nothing waits.
const BATCH_BYTES: usize = 64 * 1024;

/// How long the end of the log may take, when whoever reads it has stopped.
const MAX_CLOSE: Duration = Duration::from_secs(5);

/// The writer of the decision log.
pub struct DecisionLog {
    sender: LogSender,
    writer: JoinHandle<()>,
}

/// Where workers leave their records.
#[derive(Clone)]
pub struct LogSender {
    queue: SyncSender<Message>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    written: AtomicU64,
    dropped: AtomicU64,
}

enum Message {
    Record(Box<ConnectionRecord>),
    Close,
}

impl DecisionLog {
    /// Appends to the file (made when it is not there); `-` is standard output.
    pub fn open(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            return Self::start(io::stdout());
        }
        Self::start(File::options().create(true).append(true).open(path)?)
    }

    /// Writes to `out`.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        Self::with_capacity(out, MAX_WAITING)
    }

    fn with_capacity(out: impl Write + Send + 'static, capacity: usize) -> io::Result<Self> {
        let (queue, records) = sync_channel(capacity);
        let counts = Arc::new(Counts::default());
        let writer = Writer { out, counts: Arc::clone(&counts), dropped_told: 0, failing: false };
        let writer = std::thread::Builder::new().name("decision-log".into()).spawn(move || writer.run(&records))?;
        Ok(Self { sender: LogSender { queue, counts }, writer })
    }

    /// For a worker.
    pub fn sender(&self) -> LogSender {
        self.sender.clone()
    }

    /// Lines written.
    pub fn written(&self) -> u64 {
        self.sender.counts.written.load(Ordering::Relaxed)
    }

    /// Records that were dropped: the queue was full, or the file could not be written.
    pub fn dropped(&self) -> u64 {
        self.sender.counts.dropped.load(Ordering::Relaxed)
    }

    /// Writes what waits and ends; a reader that takes nothing more is given `MAX_CLOSE`. Call when the workers have ended: what they send
    /// later is dropped.
    pub fn close(self) {
        let Self { sender, writer } = self;
        let (closed, seen) = sync_channel(0);
        let closing = std::thread::spawn(move || {
            // An error means that the writer is gone already; a panic of it has been printed.
            let _ = sender.queue.send(Message::Close);
            let _ = writer.join();
            let _ = closed.send(());
        });
        if seen.recv_timeout(MAX_CLOSE).is_err() && !closing.is_finished() {
            tracing::warn!("the decision log takes nothing more: its last lines are lost");
        }
    }
}

impl LogSender {
    /// Leaves a record to be written, or drops and counts it. Never waits.
    pub fn send(&self, record: Box<ConnectionRecord>) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.queue.try_send(Message::Record(record)) {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Writer<W> {
    out: W,
    counts: Arc<Counts>,
    /// How many drops a line has been written for.
    dropped_told: u64,
    /// The last write failed: say so once, not for every batch.
    failing: bool,
}

impl<W: Write> Writer<W> {
    fn run(mut self, records: &Receiver<Message>) {
        let mut batch = Vec::with_capacity(BATCH_BYTES + 4096);
        let mut open = true;
        while open {
            let Ok(mut message) = records.recv() else { break };
            let mut lines = 0;
            open = loop {
                match message {
                    Message::Record(record) => entry::write_line(&record, &mut batch),
                    Message::Close => break false,
                }
                lines += 1;
                if batch.len() >= BATCH_BYTES {
                    break true;
                }
                match records.try_recv() {
                    Ok(next) => message = next,
                    Err(_) => break true,
                }
            };
            self.write(&mut batch, lines);
        }
    }

    fn write(&mut self, batch: &mut Vec<u8>, lines: u64) {
        let dropped = self.counts.dropped.load(Ordering::Relaxed);
        if dropped > self.dropped_told {
            batch.extend_from_slice(format!("{{\"dropped\":{}}}\n", dropped - self.dropped_told).as_bytes());
        }
        match self.out.write_all(batch).and_then(|()| self.out.flush()) {
            Ok(()) => {
                self.counts.written.fetch_add(lines, Ordering::Relaxed);
                self.dropped_told = dropped;
                self.failing = false;
            }
            Err(error) => {
                self.counts.dropped.fetch_add(lines, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!("the decision log cannot be written and loses connections until it can: {error}");
                }
            }
        }
        batch.clear();
    }
}

#[cfg(test)]
mod tests;
