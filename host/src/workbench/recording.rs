//! Reading recordings. A file may be anybody's: nothing is believed of it, and what is allocated is bounded by what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bincode::error::DecodeError;

pub use self::frames::{Frames, Stamped, connection};
use crate::observe::recording::file::{
    BLOCK_HEAD_BYTES, BlockHead, CHECK_BYTES, Header, MAGIC, MAX_HEADER_BYTES, NOBODY, PREAMBLE_BYTES, check,
};
use crate::policy::tape::frame::{End, Frame, MAX_FRAME_BYTES, SCHEMA, Version, encoding, fixed};
use crate::policy::tape::records::{EndpointRecord, PortRecord};

pub mod export;
mod frames;

/// An open recording: its header, and where everything stands.
pub struct Recording {
    file: File,
    /// What it says of itself.
    pub header: Header,
    /// The policy versions in it, by number.
    pub versions: BTreeMap<u32, Version>,
    /// How it ended.
    pub ending: Ending,
    plans: Index,
    endpoints: Index,
    ports: Index,
    blocks: Vec<Block>,
    bytes: u64,
}

/// How a recording ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In order.
    End(End),
    /// In the middle: the writer was killed, or the disk was full. The offset is where the last whole block ends.
    CutOff(u64),
}

/// Why a file cannot be read as a recording.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It cannot be read at all.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("this is not a recording: it begins with other bytes than `pointsman run --record` writes")]
    NotARecording,
    /// Of another schema.
    #[error("it has schema {found}, and this program reads schema {SCHEMA}: read it with the pointsman that wrote it")]
    Schema {
        /// Its schema.
        found: u16,
    },
    /// It is not what it was.
    #[error("it is damaged at byte {offset}: {what}")]
    Damaged {
        /// Where.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
}

#[derive(Clone, Copy)]
struct Block {
    head: BlockHead,
    /// Of its frames.
    offset: u64,
}

/// Where the frames of a kind stand, by their numbers, which count from 0.
#[derive(Default)]
struct Index(Vec<Span>);

#[derive(Clone, Copy)]
struct Span {
    offset: u64,
    length: u32,
}

impl Recording {
    /// Opens a file, and finds out where everything in it stands: reads what is nobody's, and looks at the heads of the rest.
    ///
    /// # Errors
    /// Why it is no recording that could be read.
    pub fn open(path: &Path) -> Result<Self, Unreadable> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let (header, end) = header(&file, bytes)?;
        let mut recording = Self {
            file,
            header,
            versions: BTreeMap::new(),
            ending: Ending::CutOff(end),
            plans: Index::default(),
            endpoints: Index::default(),
            ports: Index::default(),
            blocks: Vec::new(),
            bytes,
        };
        recording.look_through(end)?;
        Ok(recording)
    }

    /// The frames of a worker, in order.
    pub fn frames(&self, worker: u16) -> Frames<'_> {
        Frames::new(self, worker)
    }

    /// A plan.
    ///
    /// # Errors
    /// It is damaged, or not there.
    pub fn plan(&self, number: u32) -> Result<Vec<u8>, Unreadable> {
        match self.common(&self.plans, number, "plan")? {
            (Frame::Plan { bytes, .. }, _) => Ok(bytes),
            (_, offset) => Err(damaged(offset, "another frame than its number says")),
        }
    }

    /// An endpoint.
    ///
    /// # Errors
    /// As `plan`.
    pub fn endpoint(&self, number: u32) -> Result<EndpointRecord, Unreadable> {
        match self.common(&self.endpoints, number, "endpoint")? {
            (Frame::Endpoint { record, .. }, _) => Ok(record),
            (_, offset) => Err(damaged(offset, "another frame than its number says")),
        }
    }

    /// A Service port.
    ///
    /// # Errors
    /// As `plan`.
    pub fn port(&self, number: u32) -> Result<PortRecord, Unreadable> {
        match self.common(&self.ports, number, "port")? {
            (Frame::Port { record, .. }, offset) => {
                // What is made of a port is as long as its list: no endpoint stands in it twice.
                let distinct: BTreeSet<u32> = record.endpoints.iter().copied().collect();
                if distinct.len() < record.endpoints.len() {
                    return Err(damaged(offset, "a Service port that has an endpoint twice"));
                }
                Ok(record)
            }
            (_, offset) => Err(damaged(offset, "another frame than its number says")),
        }
    }

    /// Frames that were lost, as its end counts them; 0 where it was cut off.
    pub fn lost(&self) -> u64 {
        match &self.ending {
            Ending::End(end) => end.lost,
            Ending::CutOff(_) => 0,
        }
    }

    /// The size of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn common(&self, index: &Index, number: u32, what: &str) -> Result<(Frame, u64), Unreadable> {
        let span = index.0.get(number as usize);
        let span = span.ok_or_else(|| damaged(self.bytes, &format!("{what} {number} is referred to, and not in it")))?;
        let bytes = read(&self.file, span.offset, span.length as usize)?;
        Ok((decode(&bytes, span.offset)?.0, span.offset))
    }

    fn look_through(&mut self, mut offset: u64) -> Result<(), Unreadable> {
        loop {
            let frames_at = offset + BLOCK_HEAD_BYTES as u64;
            if frames_at > self.bytes {
                self.ending = Ending::CutOff(offset);
                return Ok(());
            }
            let mut head = [0; BLOCK_HEAD_BYTES];
            self.file.read_exact_at(&mut head, offset)?;
            let head = BlockHead::from_bytes(head);
            if head.length as usize > MAX_FRAME_BYTES {
                return Err(damaged(offset, &format!("a block of {} bytes, of at most {MAX_FRAME_BYTES}", head.length)));
            }
            if head.worker != NOBODY && usize::from(head.worker) >= self.header.workers.len() {
                return Err(damaged(offset, &format!("a block of worker {}, of {}", head.worker, self.header.workers.len())));
            }
            if frames_at + u64::from(head.length) > self.bytes {
                self.ending = Ending::CutOff(offset);
                return Ok(());
            }
            let block = Block { head, offset: frames_at };
            offset = frames_at + u64::from(head.length);
            if head.worker != NOBODY {
                self.blocks.push(block);
            } else if let Some(end) = self.note(block)? {
                if offset != self.bytes {
                    return Err(damaged(offset, "something follows the end"));
                }
                self.ending = Ending::End(end);
                return Ok(());
            }
        }
    }

    /// Notes where the frames of a block that is nobody's stand.
    fn note(&mut self, block: Block) -> Result<Option<End>, Unreadable> {
        let frames = self.block(block)?;
        let mut at = 0;
        while at < frames.len() {
            let offset = block.offset + at as u64;
            let (frame, length) = decode(&frames[at..], offset)?;
            let span = Span { offset, length: length as u32 };
            match frame {
                Frame::Version(version) => drop(self.versions.insert(version.version, version)),
                Frame::Plan { plan, .. } => self.plans.add(plan, span)?,
                Frame::Endpoint { endpoint, .. } => self.endpoints.add(endpoint, span)?,
                Frame::Port { port, .. } => self.ports.add(port, span)?,
                Frame::End(end) => return Ok(Some(end)),
                _ => return Err(damaged(offset, "a worker's frame in a block of nobody's")),
            }
            at += length;
        }
        Ok(None)
    }

    /// The frames of a block, as they were written.
    fn block(&self, block: Block) -> Result<Vec<u8>, Unreadable> {
        let frames = read(&self.file, block.offset, block.head.length as usize)?;
        if BlockHead::of(block.head.worker, &frames) != block.head {
            return Err(damaged(block.offset, "its bytes are not those that were written"));
        }
        Ok(frames)
    }
}

impl Index {
    fn add(&mut self, number: u32, span: Span) -> Result<(), Unreadable> {
        if number as usize != self.0.len() {
            return Err(damaged(span.offset, &format!("number {number}, where {} is the next", self.0.len())));
        }
        self.0.push(span);
        Ok(())
    }
}

/// The header, and where it ends.
fn header(file: &File, bytes: u64) -> Result<(Header, u64), Unreadable> {
    let mut preamble = [0; PREAMBLE_BYTES];
    if bytes < PREAMBLE_BYTES as u64 {
        return Err(Unreadable::NotARecording);
    }
    file.read_exact_at(&mut preamble, 0)?;
    let (magic, rest) = preamble.split_at(MAGIC.len());
    let [s0, s1, l0, l1, l2, l3] = rest else { return Err(Unreadable::NotARecording) };
    if magic != MAGIC {
        return Err(Unreadable::NotARecording);
    }
    let found = u16::from_le_bytes([*s0, *s1]);
    if found != SCHEMA {
        return Err(Unreadable::Schema { found });
    }
    let length = u32::from_le_bytes([*l0, *l1, *l2, *l3]);
    let at = PREAMBLE_BYTES as u64;
    let end = at + u64::from(length) + CHECK_BYTES as u64;
    if length > MAX_HEADER_BYTES || end > bytes {
        return Err(damaged(at, &format!("a header of {length} bytes")));
    }
    let mut header = read(file, at, length as usize + CHECK_BYTES)?;
    let found = header.split_off(length as usize);
    if found != check(&[&preamble, &header]).to_le_bytes() {
        return Err(damaged(at, "the header's bytes are not those that were written"));
    }
    let (header, used): (Header, usize) =
        bincode::decode_from_slice(&header, fixed()).map_err(|error| damaged(at, &format!("the header: {error}")))?;
    if used != length as usize {
        return Err(damaged(at + used as u64, "something follows the header"));
    }
    if header.workers.len() >= usize::from(NOBODY) || header.sample == 0 {
        return Err(damaged(at, "the header: an impossible number of workers, or a sample of none"));
    }
    Ok((header, end))
}

fn read(file: &File, offset: u64, length: usize) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn decode(frames: &[u8], offset: u64) -> Result<(Frame, usize), Unreadable> {
    bincode::decode_from_slice(frames, encoding()).map_err(|error| {
        let what = match error {
            DecodeError::UnexpectedEnd { .. } => "a frame that goes on beyond its block".to_owned(),
            error => format!("a frame that is none: {error}"),
        };
        damaged(offset, &what)
    })
}

fn damaged(offset: u64, what: &str) -> Unreadable {
    Unreadable::Damaged { offset, what: what.to_owned() }
}

#[cfg(test)]
mod tests;
