//! Tapes become a file: what many workers were given alike, plans above all, is written once and referred to.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::sync::Arc;

use bincode::Encode;
use sha2::{Digest, Sha256};

use super::file::{BLOCK_HEAD_BYTES, BlockHead, Header, NOBODY};
use crate::policy::Runtime;
use crate::policy::tape::frame::{End, Frame, MAX_FRAME_BYTES, Version, encoding};
use crate::policy::tape::records::{EndpointRecord, PortRecord};
use crate::policy::tape::{Chunk, Piece, Shared};
use crate::table::{Port, ServiceId};

/// Kept free of the limit, for the frame that says how the recording ended.
const END_BYTES: u64 = 64;

/// What all refer to is written after so many bytes at the latest.
const COMMON_BYTES: usize = 1 << 20;

pub(super) struct Writer<W> {
    out: W,
    shared: Arc<Shared>,
    written: u64,
    limit_bytes: u64,
    /// It failed, or is full.
    over: bool,
    failed: bool,
    /// Frames that may not have reached the file yet.
    unflushed: u64,
    versions: BTreeSet<u32>,
    plans: Numbers,
    endpoints: Numbers,
    ports: Numbers,
    /// The newest port of each Service and its number: a worker names the one that another has named just before.
    newest: HashMap<ServiceId, (Arc<Port>, u32)>,
    /// Frames that go before the chunk's own.
    common: Vec<u8>,
}

/// Numbers of what was written, by content.
#[derive(Default)]
struct Numbers(HashMap<[u8; 32], u32>);

impl Numbers {
    /// The number, and whether it is a new one.
    fn of(&mut self, content: &[u8]) -> (u32, bool) {
        let next = self.0.len() as u32;
        let mut new = false;
        let number = *self.0.entry(Sha256::digest(content).into()).or_insert_with(|| {
            new = true;
            next
        });
        (number, new)
    }
}

impl<W: Write> Writer<W> {
    pub(super) fn start(mut out: W, limit_bytes: u64, header: &Header, shared: Arc<Shared>) -> io::Result<Self> {
        let head = header.encode().map_err(io::Error::other)?;
        out.write_all(&head).and_then(|()| out.flush())?;
        Ok(Self {
            out,
            shared,
            written: head.len() as u64,
            limit_bytes,
            over: false,
            failed: false,
            unflushed: 0,
            versions: BTreeSet::new(),
            plans: Numbers::default(),
            endpoints: Numbers::default(),
            ports: Numbers::default(),
            newest: HashMap::new(),
            common: Vec::new(),
        })
    }

    pub(super) fn chunk(&mut self, chunk: Chunk) {
        if self.over {
            if self.failed {
                self.shared.count_lost(chunk.frames);
            }
            return;
        }
        self.unflushed += chunk.frames;
        let mut own = Vec::new();
        let mut result = Ok(());
        for piece in chunk.pieces {
            result = result.and_then(|()| self.piece(piece, &mut own));
        }
        if !self.common.is_empty() {
            result = result.and_then(|()| self.common());
        }
        if !own.is_empty() {
            result = result.and_then(|()| self.block(chunk.worker, &own));
        }
        if let Err(error) = result {
            self.fail(&error);
        }
    }

    pub(super) fn flush(&mut self) {
        if self.over {
            return;
        }
        match self.out.flush() {
            Ok(()) => self.unflushed = 0,
            Err(error) => self.fail(&error),
        }
    }

    /// Writes what tapes left at their end, and how the recording ended.
    pub(super) fn end(&mut self) {
        for chunk in self.shared.remnants() {
            self.chunk(chunk);
        }
        if !self.over {
            let ended = self.write_end(false);
            if let Err(error) = ended {
                self.fail(&error);
            }
        }
    }

    fn piece(&mut self, piece: Piece, own: &mut Vec<u8>) -> io::Result<()> {
        match piece {
            Piece::Frames(frames) => own.extend(frames),
            Piece::Version { version, stage, grants } => {
                if self.versions.insert(version.id.0) {
                    let (name, digest) = (version.name.to_string(), version.digest.to_string());
                    let version = Version {
                        version: version.id.0,
                        stage: stage.into(),
                        name,
                        digest,
                        wasi: grants.wasi,
                        large: grants.runtime == Runtime::Large,
                    };
                    encode(Frame::Version(version), &mut self.common)?;
                }
            }
            Piece::Adopt { version, service, set, plan, failed } => {
                let (number, new) = self.plans.of(&plan);
                if new {
                    encode(Frame::Plan { plan: number, bytes: plan.to_vec() }, &mut self.common)?;
                }
                encode(Frame::Adopt { version: version.0, service, set, plan: number, failed }, own)?;
            }
            Piece::Service { since_ms, generation, service, port } => {
                let port = match port {
                    Some(port) => Some(self.port(service, &port)?),
                    None => {
                        self.newest.remove(&service);
                        None
                    }
                };
                encode(Frame::Service { since_ms, generation, service, port }, own)?;
            }
        }
        if self.common.len() > COMMON_BYTES {
            self.common()?;
        }
        Ok(())
    }

    fn port(&mut self, service: ServiceId, port: &Arc<Port>) -> io::Result<u32> {
        if let Some((newest, number)) = self.newest.get(&service)
            && Arc::ptr_eq(newest, port)
        {
            return Ok(*number);
        }
        let mut endpoints = Vec::with_capacity(port.endpoints.len());
        for endpoint in port.endpoints.iter() {
            let record = EndpointRecord::of(endpoint);
            let (number, new) = self.endpoints.of(&bytes(&record)?);
            if new {
                encode(Frame::Endpoint { endpoint: number, record }, &mut self.common)?;
            }
            endpoints.push(number);
        }
        let record = PortRecord::of(port, endpoints);
        let (number, new) = self.ports.of(&bytes(&record)?);
        if new {
            encode(Frame::Port { port: number, record }, &mut self.common)?;
        }
        self.newest.insert(service, (Arc::clone(port), number));
        Ok(number)
    }

    fn common(&mut self) -> io::Result<()> {
        let common = std::mem::take(&mut self.common);
        self.block(NOBODY, &common)
    }

    /// Writes a block, or the end if it does not fit.
    fn block(&mut self, worker: u16, frames: &[u8]) -> io::Result<()> {
        if self.over {
            return Ok(());
        }
        let bytes = (BLOCK_HEAD_BYTES + frames.len()) as u64;
        if frames.len() > MAX_FRAME_BYTES {
            tracing::warn!("the recording ends here, after {} bytes: a plan is larger than the {MAX_FRAME_BYTES} that fit", self.written);
            return self.write_end(true);
        }
        if self.written + bytes + END_BYTES > self.limit_bytes {
            tracing::warn!("the recording has reached its limit (--record-limit) and ends here, after {} bytes", self.written);
            return self.write_end(true);
        }
        self.out.write_all(&BlockHead::of(worker, frames).to_bytes())?;
        self.out.write_all(frames)?;
        self.written += bytes;
        Ok(())
    }

    fn write_end(&mut self, full: bool) -> io::Result<()> {
        self.over = true;
        self.shared.stop();
        let mut end = Vec::new();
        encode(Frame::End(End { full, lost: self.shared.lost() }), &mut end)?;
        self.out.write_all(&BlockHead::of(NOBODY, &end).to_bytes())?;
        self.out.write_all(&end)?;
        self.out.flush()
    }

    fn fail(&mut self, error: &io::Error) {
        tracing::error!("the recording cannot be written and ends here: {error}; connections are served as before");
        (self.over, self.failed) = (true, true);
        self.shared.count_lost(self.unflushed);
        self.shared.stop();
    }
}

fn encode(frame: Frame, into: &mut Vec<u8>) -> io::Result<()> {
    bincode::encode_into_std_write(frame, into, encoding()).map(drop).map_err(io::Error::other)
}

fn bytes(record: &impl Encode) -> io::Result<Vec<u8>> {
    bincode::encode_to_vec(record, encoding()).map_err(io::Error::other)
}
