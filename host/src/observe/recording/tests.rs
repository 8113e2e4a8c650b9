#![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]

use std::num::NonZeroU32;
use std::num::NonZeroU64;
use std::sync::Mutex;
use std::sync::mpsc;

use super::file::{BLOCK_HEAD_BYTES, BlockHead, NOBODY};
use super::*;
use crate::policy::contract::Connection;
use crate::policy::limits::Limits;
use crate::policy::tape::frame::{End, Frame, encoding};
use crate::policy::tape::{Clients, Ending, Fate};
use crate::policy::worker::WorkerPolicies;

fn header() -> Header {
    let limits = (&Limits::default()).into();
    Header { program: "test".into(), sample: 1, hashed_clients: false, workers: vec![], limits, policies: vec![] }
}

fn terms(sample: u32) -> Terms {
    Terms { sample: NonZeroU32::new(sample).unwrap(), clients: Clients::Plain }
}

/// A file that takes bytes as it is let.
#[derive(Clone)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    gate: Option<Arc<Mutex<Receiver<()>>>>,
    full_at: usize,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(gate) = &self.gate {
            // Closed until its other end is dropped.
            let _ = gate.lock().unwrap().recv();
        }
        let mut all = self.bytes.lock().unwrap();
        if all.len() + bytes.len() > self.full_at {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        all.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn disk() -> Disk {
    Disk { bytes: Arc::default(), gate: None, full_at: usize::MAX }
}

/// Every frame in the file, with its worker.
fn frames(disk: &Disk) -> Vec<(u16, Frame)> {
    let bytes = disk.bytes.lock().unwrap();
    let mut at = header().encode().unwrap().len();
    let mut frames = Vec::new();
    while at + BLOCK_HEAD_BYTES <= bytes.len() {
        let head = BlockHead::from_bytes(bytes[at..at + BLOCK_HEAD_BYTES].try_into().unwrap());
        at += BLOCK_HEAD_BYTES;
        let end = at + head.length as usize;
        if end > bytes.len() {
            // It is being written.
            break;
        }
        while at < end {
            let (frame, length) = bincode::decode_from_slice(&bytes[at..end], encoding()).unwrap();
            frames.push((head.worker, frame));
            at += length;
        }
    }
    frames
}

fn connection(n: u64) -> Connection {
    Connection { random: n.wrapping_mul(0x9e37_79b9_7f4a_7c15), now_ms: n, ..pointsman_sdk::native::connection(0, n) }
}

#[test]
fn a_connection_comes_back_with_its_time_and_number() {
    let disk = disk();
    let recorder = Recorder::start(disk.clone(), 1 << 30, terms(1), &header()).unwrap();
    let mut worker = WorkerPolicies::recorded(1, recorder.tape(0));
    let first = worker.decided(&connection(1_000), Fate::Forward(3), None);
    let second = worker.decided(&connection(1_500), Fate::Reject, None);
    assert_eq!((first, second), (NonZeroU64::new(1), NonZeroU64::new(2)));
    let again = Connection { attempt: 1, ..connection(1_000) };
    assert_eq!(worker.decided(&again, Fate::Forward(4), first), first);
    worker.ended(1, 1_700, Ending::Closed);
    drop(worker);
    recorder.close();
    let frames = frames(&disk);
    let times: Vec<i64> =
        frames.iter().filter_map(|(_, frame)| if let Frame::Connection(c) = frame { Some(c.since_ms) } else { None }).collect();
    assert_eq!(times, [1_000, 500, -500]);
    let fates: Vec<_> =
        frames.iter().filter_map(|(_, frame)| if let Frame::Fate { again, fate } = frame { Some((*again, *fate)) } else { None }).collect();
    assert_eq!(fates, [(None, Fate::Forward(3)), (None, Fate::Reject), (Some(1), Fate::Forward(4))]);
    assert!(frames.contains(&(0, Frame::Ended { back: 1, since_ms: 700, ending: Ending::Closed })));
    assert_eq!(frames.last().unwrap(), &(NOBODY, Frame::End(End { full: false, lost: 0 })));
}

#[test]
fn a_sample_is_drawn_from_no_bits_that_policies_draw_from() {
    let disk = disk();
    let recorder = Recorder::start(disk.clone(), 1 << 30, terms(100), &header()).unwrap();
    let mut worker = WorkerPolicies::recorded(1, recorder.tape(0));
    let written = (0..100_000).filter(|n| worker.decided(&connection(*n), Fate::Forward(0), None).is_some()).count();
    drop(worker);
    recorder.close();
    // Binomial with a standard deviation of 31.
    assert!((850..1_150).contains(&written), "{written}");
    let low = frames(&disk).iter().filter(|(_, frame)| matches!(frame, Frame::Connection(c) if u64::from(c.random) % 2 == 0)).count();
    assert!((400..600).contains(&low), "{low} of {written} are even");
}

#[test]
fn a_worker_does_not_wait_for_a_disk_and_the_loss_is_marked() {
    let mut disk = disk();
    let head = Recorder::start(disk.clone(), 1 << 30, terms(1), &header()).unwrap();
    head.close();
    disk.bytes.lock().unwrap().clear();
    let (open, gate) = mpsc::channel::<()>();
    // The head passes; from then on the gate is closed.
    open.send(()).unwrap();
    disk.gate = Some(Arc::new(Mutex::new(gate)));
    let recorder = Recorder::with_capacity(disk.clone(), 1 << 30, terms(1), &header(), 1).unwrap();
    let mut worker = WorkerPolicies::recorded(1, recorder.tape(0));
    let mut connections = 0;
    while recorder.lost() == 0 {
        connections += 1;
        worker.decided(&connection(connections), Fate::Forward(0), None);
    }
    let lost = recorder.lost();
    drop(open);
    // From here on the disk keeps up: what comes after the loss gets through.
    while frames(&disk).iter().all(|(_, frame)| !matches!(frame, Frame::Lost { .. })) {
        for _ in 0..10_000 {
            connections += 1;
            worker.decided(&connection(connections), Fate::Forward(0), None);
        }
        assert!(connections < 100_000_000, "nothing gets through any more");
    }
    worker.ended(connections, connections + 5, Ending::Closed);
    drop(worker);
    recorder.close();
    let frames = frames(&disk);
    let missing: u64 =
        frames.iter().filter_map(|(_, frame)| if let Frame::Lost { frames, .. } = frame { Some(*frames) } else { None }).sum();
    assert!(missing >= lost, "{missing} of {lost}");
    // On a busy machine there may be several.
    let at = frames.iter().rposition(|(_, frame)| matches!(frame, Frame::Lost { .. })).unwrap();
    let Frame::Lost { now_ms, connections: begun, .. } = frames[at].1 else { unreachable!() };
    // What follows the mark can be read by itself: the next connection is the one after those that had begun.
    assert!(
        matches!(&frames[at + 1].1, Frame::Connection(c) if now_ms.wrapping_add_signed(c.since_ms) == begun + 1),
        "{:?}",
        frames[at + 1]
    );
    let fates = frames.iter().skip(at).filter(|(_, frame)| matches!(frame, Frame::Fate { .. })).count() as u64;
    assert_eq!(begun + fates, connections);
}

#[test]
fn a_full_file_ends_in_order_and_the_tape_with_it() {
    let disk = disk();
    let recorder = Recorder::start(disk.clone(), MIN_LIMIT_BYTES, terms(1), &header()).unwrap();
    let mut worker = WorkerPolicies::recorded(1, recorder.tape(0));
    let mut n = 0;
    loop {
        n += 1;
        if worker.decided(&connection(n), Fate::Forward(0), None).is_none() {
            break;
        }
        worker.mend(n);
        assert!(n < 10_000_000, "the tape goes on for ever");
    }
    drop(worker);
    recorder.close();
    assert!(disk.bytes.lock().unwrap().len() as u64 <= MIN_LIMIT_BYTES);
    assert!(matches!(frames(&disk).last().unwrap().1, Frame::End(End { full: true, .. })));
}

#[test]
fn a_disk_that_fails_ends_the_recording_and_nothing_else() {
    let mut disk = disk();
    disk.full_at = 100_000;
    let recorder = Recorder::start(disk, 1 << 30, terms(1), &header()).unwrap();
    let mut worker = WorkerPolicies::recorded(1, recorder.tape(0));
    let mut n = 0;
    while worker.decided(&connection(n), Fate::Forward(0), None).is_some() {
        n += 1;
        worker.mend(n);
        assert!(n < 10_000_000, "the tape goes on for ever");
    }
    assert!(recorder.lost() > 0, "what could not be written is counted");
    drop(worker);
    recorder.close();
}

#[test]
fn nobody_else_may_read_a_recording() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("day.rec");
    for before in [None, Some(0o644)] {
        if let Some(mode) = before {
            std::fs::write(&path, "older").unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
        Recorder::create(&path, 1 << 30, terms(1), &header()).unwrap().close();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{before:?}");
    }
}

#[test]
fn a_path_that_cannot_be_written_is_an_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Recorder::create(folder.path(), 1 << 30, terms(1), &header()).is_err());
}
