//! The frames of one worker, with what they leave to be counted: times and the numbers of connections.

use super::{Block, Recording, Unreadable, damaged, decode};
use crate::policy::contract;
use crate::policy::tape::frame::{self, Frame};

/// Numbers of Service ports are given out from 0, and those that are free first: no host has so many.
const MAX_SERVICE_PORTS: u32 = 1 << 20;

/// Reads the frames of one worker, block by block.
pub struct Frames<'a> {
    recording: &'a Recording,
    blocks: std::iter::Filter<std::slice::Iter<'a, Block>, OfWorker>,
    offset: u64,
    bytes: Vec<u8>,
    at: usize,
    now_ms: u64,
    connections: u64,
    failed: bool,
}

/// A worker's blocks.
type OfWorker = Box<dyn Fn(&&Block) -> bool>;

/// A frame, and what can be said of it beside others.
#[derive(Clone, Debug)]
pub struct Stamped {
    /// Where it stands in the file.
    pub offset: u64,
    /// The time on its worker: of the frame itself, or of the last one that had one.
    pub now_ms: u64,
    /// The connections that its worker had begun by then. A `Fate` or `Ended` is about one of them.
    pub connections: u64,
    /// The frame.
    pub frame: Frame,
}

impl<'a> Frames<'a> {
    pub(super) fn new(recording: &'a Recording, worker: u16) -> Self {
        let of_worker: OfWorker = Box::new(move |block| block.head.worker == worker);
        let blocks = recording.blocks.iter().filter(of_worker);
        Self { recording, blocks, offset: 0, bytes: Vec::new(), at: 0, now_ms: 0, connections: 0, failed: false }
    }

    fn step(&mut self) -> Result<Option<Stamped>, Unreadable> {
        while self.at >= self.bytes.len() {
            let Some(block) = self.blocks.next() else { return Ok(None) };
            self.bytes = self.recording.block(*block)?;
            (self.offset, self.at) = (block.offset, 0);
        }
        let offset = self.offset + self.at as u64;
        let (frame, length) = decode(&self.bytes[self.at..], offset)?;
        self.at += length;
        match &frame {
            Frame::Service { since_ms, .. } | Frame::Ended { since_ms, .. } | Frame::Report { since_ms, .. } => self.pass(*since_ms),
            Frame::Connection(connection) => self.pass(connection.since_ms),
            Frame::Fate { again: None, .. } => {
                let next = self.connections.checked_add(1);
                self.connections = next.ok_or_else(|| damaged(offset, "more connections than can be counted"))?;
            }
            Frame::Lost { now_ms, connections, .. } => (self.now_ms, self.connections) = (*now_ms, *connections),
            Frame::Version(_) | Frame::Plan { .. } | Frame::Endpoint { .. } | Frame::Port { .. } | Frame::End(_) => {
                return Err(damaged(offset, "a frame of nobody's in a worker's block"));
            }
            _ => {}
        }
        if matches!(&frame, Frame::Service { service, .. } if *service >= MAX_SERVICE_PORTS) {
            return Err(damaged(offset, &format!("a Service port beyond the {MAX_SERVICE_PORTS} that there may be")));
        }
        if let Frame::Fate { again: Some(back), .. } | Frame::Ended { back, .. } = &frame
            && *back >= self.connections
        {
            return Err(damaged(offset, "a connection that there was not"));
        }
        Ok(Some(Stamped { offset, now_ms: self.now_ms, connections: self.connections, frame }))
    }

    fn pass(&mut self, since_ms: i64) {
        self.now_ms = self.now_ms.wrapping_add_signed(since_ms);
    }
}

impl Iterator for Frames<'_> {
    type Item = Result<Stamped, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.step();
        self.failed = step.is_err();
        step.transpose()
    }
}

impl Stamped {
    /// The number of the connection that the frame is about, if it is about one that has a number.
    pub fn connection(&self) -> Option<u64> {
        match &self.frame {
            Frame::Fate { again, .. } => Some(self.connections - again.unwrap_or(0)),
            Frame::Ended { back, .. } => Some(self.connections - back),
            _ => None,
        }
    }
}

/// The connection that a frame tells of, as the policies saw it.
pub fn connection(of: &frame::Connection, now_ms: u64) -> contract::Connection {
    let (client_hi, client_lo) = of.client.bits();
    contract::Connection {
        service: of.service,
        client_hi,
        client_lo,
        client_port: of.client_port,
        client_hash: of.client_hash.into(),
        frontend: of.frontend.into(),
        origin: of.origin.into(),
        attempt: of.attempt,
        now_ms,
        random: of.random.into(),
    }
}
