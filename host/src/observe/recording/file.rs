//! The outside of a recording: its head, and the blocks that hold the frames.
//!
//! A file is `MAGIC`, the schema (`u16`), the length of the header (`u32`), the header, a check of all that (`u32`), and blocks until its end. A
//! block is the worker whose frames it holds (`u16`; `NOBODY`: what all refer to), the length of its frames in bytes (`u32`), a check of both and
//! of the frames (`u32`), and the frames, none of which spans two blocks. A check is the lower half of the xxh64 with seed 0. Integers are
//! little-endian.

use bincode::{Decode, Encode};
use serde::Serialize;

use crate::policy::contract::StageKind;
use crate::policy::limits::Limits;
use crate::policy::tape::frame::{Bits, SCHEMA, Stage, fixed};

/// How a recording begins.
pub const MAGIC: [u8; 8] = *b"PMANREC\n";

/// The worker of blocks that are nobody's.
pub const NOBODY: u16 = u16::MAX;

/// Bytes of a header; with 1,000 workers and 1,000 policies it has 100 KiB.
pub const MAX_HEADER_BYTES: u32 = 16 << 20;

/// What a recording says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Header {
    /// The version of the program that wrote it.
    pub program: String,
    /// One connection in so many is in it.
    pub sample: u32,
    /// Clients' addresses are pseudonyms.
    pub hashed_clients: bool,
    /// By their index.
    pub workers: Vec<WorkerStart>,
    /// What the policies were allowed.
    pub limits: LimitsRecord,
    /// The policies that Services could name at the start.
    pub policies: Vec<PolicyRecord>,
}

/// Where a worker stood when its tape began.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct WorkerStart {
    /// What the seeds of its instances were made from.
    pub seed: Bits,
    /// It had no instance yet: the tape holds everything that each of them saw.
    pub fresh: bool,
}

/// A policy that could be named.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PolicyRecord {
    /// Its stage.
    pub stage: Stage,
    /// Its name.
    pub name: String,
    /// `sha256:…`.
    pub digest: String,
}

/// The limits that decide how a call ends. Deadlines are not among them: whether one is met is the machine's doing.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each is the one of the same name in `policy::Limits`")]
pub struct LimitsRecord {
    pub hot_fuel: u64,
    pub adopt_fuel: u64,
    pub planner_fuel: u64,
    pub memory_bytes: u64,
    pub memories: u64,
    pub tables: u64,
    pub table_elements: u64,
    pub instances: u64,
    pub wasm_stack_bytes: u64,
    pub hot_hostcall_bytes: u64,
    pub planner_hostcall_bytes: u64,
    pub component_bytes: u64,
    pub modules: u64,
    pub functions: u64,
    pub body_bytes: u64,
    pub settings_bytes: u64,
}

/// The head of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BlockHead {
    /// Whose.
    pub worker: u16,
    /// Bytes of frames.
    pub length: u32,
    /// See the module.
    pub check: u32,
}

/// Bytes of a block's head.
pub const BLOCK_HEAD_BYTES: usize = 10;

/// Bytes before the header.
pub const PREAMBLE_BYTES: usize = MAGIC.len() + 2 + 4;

/// Bytes of a check.
pub const CHECK_BYTES: usize = 4;

impl Header {
    /// The head of a file.
    ///
    /// # Errors
    /// It is larger than a reader would take.
    pub fn encode(&self) -> Result<Vec<u8>, bincode::error::EncodeError> {
        let header = bincode::encode_to_vec(self, fixed())?;
        let length = u32::try_from(header.len()).ok().filter(|length| *length <= MAX_HEADER_BYTES);
        let length = length.ok_or(bincode::error::EncodeError::Other("the header is too large"))?;
        let mut head = MAGIC.to_vec();
        head.extend(SCHEMA.to_le_bytes());
        head.extend(length.to_le_bytes());
        head.extend(header);
        head.extend(check(&[&head]).to_le_bytes());
        Ok(head)
    }
}

impl BlockHead {
    /// Of these frames.
    pub fn of(worker: u16, frames: &[u8]) -> Self {
        let length = frames.len() as u32;
        Self { worker, length, check: check(&[&worker.to_le_bytes(), &length.to_le_bytes(), frames]) }
    }

    /// As it stands in the file.
    pub fn to_bytes(self) -> [u8; BLOCK_HEAD_BYTES] {
        let mut bytes = [0; BLOCK_HEAD_BYTES];
        bytes[..2].copy_from_slice(&self.worker.to_le_bytes());
        bytes[2..6].copy_from_slice(&self.length.to_le_bytes());
        bytes[6..].copy_from_slice(&self.check.to_le_bytes());
        bytes
    }

    /// The same backwards.
    pub fn from_bytes(bytes: [u8; BLOCK_HEAD_BYTES]) -> Self {
        let [w0, w1, l0, l1, l2, l3, c0, c1, c2, c3] = bytes;
        Self {
            worker: u16::from_le_bytes([w0, w1]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            check: u32::from_le_bytes([c0, c1, c2, c3]),
        }
    }
}

/// What tells these bytes from what a disk made of them.
pub fn check(parts: &[&[u8]]) -> u32 {
    let mut hash = xxhash_rust::xxh64::Xxh64::new(0);
    parts.iter().for_each(|part| hash.update(part));
    hash.digest() as u32
}

impl PolicyRecord {
    /// A policy of a catalogue.
    pub fn new(stage: StageKind, name: &str, digest: &str) -> Self {
        Self { stage: stage.into(), name: name.to_owned(), digest: digest.to_owned() }
    }
}

impl From<&Limits> for LimitsRecord {
    fn from(limits: &Limits) -> Self {
        Self {
            hot_fuel: limits.hot_fuel,
            adopt_fuel: limits.adopt_fuel,
            planner_fuel: limits.planner_fuel,
            memory_bytes: limits.memory_bytes as u64,
            memories: limits.memories as u64,
            tables: limits.tables as u64,
            table_elements: limits.table_elements as u64,
            instances: limits.instances as u64,
            wasm_stack_bytes: limits.wasm_stack_bytes as u64,
            hot_hostcall_bytes: limits.hot_hostcall_bytes as u64,
            planner_hostcall_bytes: limits.planner_hostcall_bytes as u64,
            component_bytes: limits.component_bytes as u64,
            modules: limits.modules as u64,
            functions: limits.functions as u64,
            body_bytes: limits.body_bytes as u64,
            settings_bytes: limits.settings_bytes as u64,
        }
    }
}
