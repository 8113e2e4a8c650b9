//! The tape of one worker: what its policies' instances were asked and told, in order, with their answers. A worker writes frames into a
//! buffer of its own and hands it on when it is full, without ever waiting: what finds no room is lost, counted, and marked on the tape.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};

use super::contract::{self, Fault, Node, Outcome, ServiceId, Setting, StageKind};
use super::limits::Grants;
use crate::table::{PolicyVersion, Port, VersionId};

pub use self::clients::{Clients, PseudonymKey};
use self::frame::{Answer, Connection, Failure, Frame, encoding};
pub use self::frame::{Ending, Fate};
use self::records::NodeRecord;

mod clients;
pub mod frame;
pub mod records;

/// What one worker writes.
pub struct Tape {
    worker: u16,
    terms: Terms,
    outbox: Outbox,
    pieces: Vec<Piece>,
    frames: Vec<u8>,
    /// Frames that wait in `pieces` and `frames`.
    waiting: u64,
    /// Frames that found no room, since the last that did.
    lost: u64,
    /// The time of the last frame that had one.
    clock_ms: u64,
    /// Connections so far.
    connections: u64,
    /// The connection that was written last, or is left out.
    current: Option<(contract::Connection, bool)>,
}

/// What is recorded.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// One connection in so many.
    pub sample: NonZeroU32,
    /// How clients are written.
    pub clients: Clients,
}

/// Where tapes leave what they have, and what they share.
#[derive(Clone)]
pub struct Outbox {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
}

/// What the writer takes in.
pub enum Message {
    /// A piece of a worker's tape.
    Chunk(Chunk),
    /// Nothing more comes.
    Close,
}

/// A piece of a worker's tape.
pub struct Chunk {
    /// Whose.
    pub worker: u16,
    /// In order.
    pub pieces: Vec<Piece>,
    /// How many frames they make.
    pub frames: u64,
}

/// Frames, or what the writer makes frames of: it knows what was written before, by any worker, and refers to that.
pub enum Piece {
    /// Frames as they stand in the file.
    Frames(Vec<u8>),
    /// `Frame::Version`.
    Version {
        /// The version.
        version: Arc<PolicyVersion>,
        /// Its stage.
        stage: StageKind,
        /// See `frame::Version`.
        grants: Grants,
    },
    /// `Frame::Adopt`.
    Adopt {
        /// The version.
        version: VersionId,
        /// The Service port.
        service: ServiceId,
        /// The candidate set.
        set: Option<u32>,
        /// The plan.
        plan: Arc<[u8]>,
        /// It could not adopt it.
        failed: Option<Failure>,
    },
    /// `Frame::Service`.
    Service {
        /// See `Frame`.
        since_ms: i64,
        /// Of the table.
        generation: u64,
        /// The Service port.
        service: ServiceId,
        /// None: it is gone.
        port: Option<Arc<Port>>,
    },
}

/// What the tapes and the writer share.
#[derive(Default)]
pub struct Shared {
    /// Frames that no file will hold.
    lost: AtomicU64,
    /// The file is full or cannot be written: there is no point in going on.
    stopped: AtomicBool,
    /// The ends of tapes that found no room; one a worker at most.
    remnants: Mutex<Vec<Chunk>>,
}

/// Bytes of frames after which they are handed on.
const CHUNK_BYTES: usize = 64 << 10;

/// Pieces after which they are handed on. One that is not bytes may refer to a plan of a megabyte, which the table holds anyway.
const CHUNK_PIECES: usize = 256;

impl Shared {
    /// Frames that were lost so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// So many more were lost.
    pub fn count_lost(&self, frames: u64) {
        self.lost.fetch_add(frames, Ordering::Relaxed);
    }

    /// Tells the tapes to end.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Takes what tapes left here at their end.
    pub fn remnants(&self) -> Vec<Chunk> {
        std::mem::take(&mut self.remnants.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Outbox {
    /// One for all tapes of a recording.
    pub fn new(queue: SyncSender<Message>, shared: Arc<Shared>) -> Self {
        Self { queue, shared }
    }
}

impl Tape {
    /// The tape of a worker whose policies are about to begin.
    pub fn new(worker: u16, terms: Terms, outbox: Outbox) -> Self {
        Self {
            worker,
            terms,
            outbox,
            pieces: Vec::new(),
            frames: Vec::new(),
            waiting: 0,
            lost: 0,
            clock_ms: 0,
            connections: 0,
            current: None,
        }
    }

    /// Whether nobody listens any more.
    pub(super) fn is_over(&self) -> bool {
        self.outbox.shared.stopped.load(Ordering::Relaxed)
    }

    pub(super) fn version(&mut self, version: &Arc<PolicyVersion>, stage: StageKind, grants: Grants) {
        self.piece(Piece::Version { version: Arc::clone(version), stage, grants });
    }

    pub(super) fn instance(&mut self, version: VersionId, seed: u64, node: &Node, settings: &[Setting], fault: Option<&Fault>) {
        let failed = fault.and_then(Failure::of);
        let settings = settings.iter().map(Into::into).collect();
        self.frame(&Frame::Instance { version: version.0, seed: seed.into(), node: NodeRecord::of(node), settings, failed });
        self.settle();
    }

    pub(super) fn adopt(
        &mut self,
        version: VersionId,
        service: ServiceId,
        set: Option<u32>,
        plan: &Arc<[u8]>,
        loads: &[u32],
        adopted: &Result<(), Fault>,
    ) {
        if let Some(failed) = outcome(adopted) {
            self.loads(loads);
            self.piece(Piece::Adopt { version, service, set, plan: Arc::clone(plan), failed });
            self.settle();
        }
    }

    pub(super) fn forget(&mut self, version: VersionId, service: ServiceId, loads: &[u32], forgotten: &Result<(), Fault>) {
        if let Some(failed) = outcome(forgotten) {
            self.loads(loads);
            self.frame(&Frame::Forget { version: version.0, service, failed });
            self.settle();
        }
    }

    pub(super) fn retire(&mut self, version: VersionId) {
        self.frame(&Frame::Retire { version: version.0 });
        self.settle();
    }

    pub(super) fn service(&mut self, now_ms: u64, generation: u64, service: ServiceId, port: Option<&Arc<Port>>) {
        let since_ms = self.since(now_ms);
        self.piece(Piece::Service { since_ms, generation, service, port: port.cloned() });
        self.settle();
    }

    pub(super) fn report(&mut self, version: VersionId, now_ms: u64, outcomes: &[Outcome], loads: &[u32], reported: &Result<(), Fault>) {
        if let Some(failed) = outcome(reported) {
            self.loads(loads);
            let since_ms = self.since(now_ms);
            let outcomes = outcomes.iter().copied().map(Into::into).collect();
            self.frame(&Frame::Report { version: version.0, since_ms, outcomes, failed });
            self.settle();
        }
    }

    pub(super) fn group(
        &mut self,
        version: VersionId,
        connection: &contract::Connection,
        loads: &[u32],
        answer: &Result<Option<u32>, Fault>,
    ) {
        if let Some(answer) = Answer::of(answer)
            && self.about(connection)
        {
            self.loads(loads);
            self.frame(&Frame::Group { version: version.0, answer });
            self.settle();
        }
    }

    pub(super) fn subset(
        &mut self,
        version: VersionId,
        connection: &contract::Connection,
        group: Option<u32>,
        loads: &[u32],
        verdict: &Result<contract::Verdict, Fault>,
    ) {
        if let Some(verdict) = frame::Verdict::of(verdict)
            && self.about(connection)
        {
            self.loads(loads);
            self.frame(&Frame::Subset { version: version.0, group, verdict });
            self.settle();
        }
    }

    pub(super) fn pick(
        &mut self,
        version: VersionId,
        connection: &contract::Connection,
        set: u32,
        loads: &[u32],
        answer: &Result<Option<u32>, Fault>,
    ) {
        if let Some(answer) = Answer::of(answer)
            && self.about(connection)
        {
            self.loads(loads);
            self.frame(&Frame::Pick { version: version.0, set, answer });
            self.settle();
        }
    }

    /// The fate of a connection; `again` is what this returned before, where it could not be reached. Returns its number, or nothing if it is
    /// not in the sample.
    pub(super) fn decided(&mut self, connection: &contract::Connection, fate: Fate, again: Option<NonZeroU64>) -> Option<NonZeroU64> {
        if !self.about(connection) {
            return None;
        }
        self.begin();
        if again.is_none() {
            self.connections += 1;
        }
        self.frame(&Frame::Fate { again: again.map(|number| self.connections - number.get()), fate });
        self.settle();
        again.or(NonZeroU64::new(self.connections))
    }

    /// A connection with this number has ended.
    pub(super) fn ended(&mut self, number: u64, now_ms: u64, ending: Ending) {
        let since_ms = self.since(now_ms);
        self.frame(&Frame::Ended { back: self.connections - number, since_ms, ending });
        self.settle();
    }

    /// Hands on what there is.
    pub(super) fn flush(&mut self) {
        if let Some(chunk) = self.chunk() {
            let frames = chunk.frames;
            match self.outbox.queue.try_send(Message::Chunk(chunk)) {
                Ok(()) => self.lost = 0,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    // The mark of an earlier loss was among them, and is none.
                    self.lose(frames - u64::from(self.lost > 0));
                    // What comes next is to be readable without what was lost.
                    self.current = None;
                }
            }
        }
    }

    /// Everything that waits, with the mark of what was lost before it.
    fn chunk(&mut self) -> Option<Chunk> {
        self.seal();
        if self.pieces.is_empty() {
            return None;
        }
        Some(Chunk { worker: self.worker, pieces: std::mem::take(&mut self.pieces), frames: std::mem::take(&mut self.waiting) })
    }

    /// Frames that were handed to nobody. What is lost is told at the head of the next chunk.
    fn lose(&mut self, frames: u64) {
        self.lost += frames;
        self.outbox.shared.count_lost(frames);
    }

    /// Whether this connection is in the sample; writes it if it is another than the last.
    fn about(&mut self, connection: &contract::Connection) -> bool {
        if let Some((current, sampled)) = &self.current
            && current == connection
        {
            return *sampled;
        }
        let sampled = self.terms.sample.get() == 1 || mixed(connection.random).is_multiple_of(self.terms.sample.get().into());
        self.current = Some((*connection, sampled));
        if sampled {
            let frame = Connection {
                service: connection.service,
                client: self.terms.clients.written(connection.client_hi, connection.client_lo),
                client_port: connection.client_port,
                client_hash: connection.client_hash.into(),
                frontend: connection.frontend.into(),
                origin: connection.origin.into(),
                attempt: connection.attempt,
                since_ms: self.since(connection.now_ms),
                random: connection.random.into(),
            };
            self.frame(&Frame::Connection(frame));
        }
        sampled
    }

    fn loads(&mut self, answers: &[u32]) {
        if !answers.is_empty() {
            self.frame(&Frame::Loads { answers: answers.to_vec() });
        }
    }

    fn since(&mut self, now_ms: u64) -> i64 {
        // A mark names the time before this.
        self.begin();
        let since_ms = now_ms.wrapping_sub(self.clock_ms).cast_signed();
        self.clock_ms = now_ms;
        since_ms
    }

    fn frame(&mut self, frame: &Frame) {
        self.begin();
        // Only a frame that is too large could fail, and these are small; it would be missing, and so is counted.
        match bincode::encode_into_std_write(frame, &mut self.frames, encoding()) {
            Ok(_) => self.waiting += 1,
            Err(_) => self.lose(1),
        }
    }

    /// Hands on what there is, if it is much. Not between what belongs together: a connection and the first call about it, the answers of
    /// `load` and the call that got them.
    fn settle(&mut self) {
        if self.frames.len() >= CHUNK_BYTES || self.pieces.len() >= CHUNK_PIECES {
            self.flush();
        }
    }

    fn piece(&mut self, piece: Piece) {
        self.begin();
        self.seal();
        self.pieces.push(piece);
        self.waiting += 1;
    }

    /// Marks a loss at the head of what is written after it.
    fn begin(&mut self) {
        if self.lost > 0 && self.waiting == 0 {
            let lost = Frame::Lost { frames: self.lost, now_ms: self.clock_ms, connections: self.connections };
            if bincode::encode_into_std_write(lost, &mut self.frames, encoding()).is_ok() {
                self.waiting += 1;
            }
        }
    }

    fn seal(&mut self) {
        if !self.frames.is_empty() {
            self.pieces.push(Piece::Frames(std::mem::take(&mut self.frames)));
        }
    }
}

/// What is left goes to the writer even where the queue is full: there is one such remnant a worker.
impl Drop for Tape {
    fn drop(&mut self) {
        if let Some(chunk) = self.chunk() {
            self.outbox.shared.remnants.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
        }
    }
}

/// `None`: the guest was not entered; else how it failed, if it did.
fn outcome(result: &Result<(), Fault>) -> Option<Option<Failure>> {
    match result {
        Ok(()) => Some(None),
        Err(fault) => Failure::of(fault).map(Some),
    }
}

/// The sample must not be told by the bits that policies draw from: splitmix64's finalizer (Steele, Lea, Flood 2014).
fn mixed(random: u64) -> u64 {
    let bits = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests;
