//! Recordings: the writer of the tapes of all workers into one file. A worker never waits for it, and a disk that fails ends the recording
//! and nothing else.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use self::file::Header;
use self::writer::Writer;
use crate::policy::tape::{Message, Outbox, Shared, Tape, Terms};

pub mod file;
mod writer;

/// Chunks that may wait for the writer: with 64 KiB each, 16 MiB, which is a quarter of a million connections.
const MAX_WAITING: usize = 256;

/// What the file buffer gathers.
const BUFFER_BYTES: usize = 256 << 10;

/// How long the end of a recording may take on a disk that does not answer.
const MAX_CLOSE: Duration = Duration::from_secs(5);

/// A file of at least so many bytes holds a header and its end.
pub const MIN_LIMIT_BYTES: u64 = 1 << 20;

/// The writer of a recording.
pub struct Recorder {
    outbox: Outbox,
    queue: std::sync::mpsc::SyncSender<Message>,
    shared: Arc<Shared>,
    terms: Terms,
    thread: JoinHandle<()>,
}

impl Recorder {
    /// Writes into this file, which nobody else may read; one that is there is replaced. It grows to at most `limit_bytes`.
    ///
    /// # Errors
    /// The file cannot be made, or its head cannot be written.
    pub fn create(path: &Path, limit_bytes: u64, terms: Terms, header: &Header) -> io::Result<Self> {
        let file = File::options().create(true).write(true).truncate(true).mode(0o600).open(path)?;
        // One that was there keeps its mode otherwise; a pipe or a device is somebody else's.
        if file.metadata()?.is_file() {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Self::start(BufWriter::with_capacity(BUFFER_BYTES, file), limit_bytes, terms, header)
    }

    /// Writes to `out`.
    ///
    /// # Errors
    /// The head cannot be written.
    pub fn start(out: impl Write + Send + 'static, limit_bytes: u64, terms: Terms, header: &Header) -> io::Result<Self> {
        Self::with_capacity(out, limit_bytes, terms, header, MAX_WAITING)
    }

    /// The same, with room for so many chunks.
    pub(crate) fn with_capacity(
        out: impl Write + Send + 'static,
        limit_bytes: u64,
        terms: Terms,
        header: &Header,
        capacity: usize,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writer = Writer::start(out, limit_bytes, header, Arc::clone(&shared))?;
        let (queue, chunks) = sync_channel(capacity);
        let thread = std::thread::Builder::new().name("recording".into()).spawn(move || run(writer, &chunks))?;
        Ok(Self { outbox: Outbox::new(queue.clone(), Arc::clone(&shared)), queue, shared, terms, thread })
    }

    /// For a worker that is about to start.
    pub fn tape(&self, worker: u16) -> Tape {
        Tape::new(worker, self.terms, self.outbox.clone())
    }

    /// Frames that were lost: the writer could not keep up, or the file cannot be written.
    pub fn lost(&self) -> u64 {
        self.shared.lost()
    }

    /// Writes what waits, and the end. Call when the workers have ended: what they have later is lost.
    pub fn close(self) {
        let Self { queue, thread, .. } = self;
        let (ended, seen) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // A writer that has ended already takes nothing.
            let _ = queue.send(Message::Close);
            let _ = thread.join();
            let _ = ended.send(());
        });
        if seen.recv_timeout(MAX_CLOSE).is_err() {
            tracing::warn!("the recording takes nothing more: its end is lost");
        }
    }
}

fn run<W: Write>(mut writer: Writer<W>, chunks: &Receiver<Message>) {
    loop {
        let message = match chunks.try_recv() {
            Ok(message) => message,
            Err(_) => {
                // Nothing waits: what there is goes to the disk.
                writer.flush();
                match chunks.recv() {
                    Ok(message) => message,
                    Err(_) => break,
                }
            }
        };
        match message {
            Message::Chunk(chunk) => writer.chunk(chunk),
            Message::Close => break,
        }
    }
    writer.end();
}

#[cfg(test)]
mod tests;
