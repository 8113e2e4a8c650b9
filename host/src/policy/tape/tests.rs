#![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]

use std::sync::mpsc::{Receiver, sync_channel};

use super::*;
use crate::policy::contract::Verdict;

fn tape() -> (Tape, Receiver<Message>) {
    let (queue, chunks) = sync_channel(8);
    let terms = Terms { sample: NonZeroU32::MIN, clients: Clients::Plain };
    (Tape::new(0, terms, Outbox::new(queue, Arc::default())), chunks)
}

/// The bytes that a tape hands on.
fn written(tape: &mut Tape, chunks: &Receiver<Message>) -> Vec<u8> {
    tape.flush();
    let Ok(Message::Chunk(chunk)) = chunks.try_recv() else { return Vec::new() };
    let frames = |piece| if let Piece::Frames(frames) = piece { frames } else { Vec::new() };
    chunk.pieces.into_iter().flat_map(frames).collect()
}

fn read(bytes: &[u8]) -> Vec<Frame> {
    let (mut at, mut frames) = (0, Vec::new());
    while at < bytes.len() {
        let (frame, length) = bincode::decode_from_slice(&bytes[at..], encoding()).unwrap();
        frames.push(frame);
        at += length;
    }
    frames
}

const V: VersionId = VersionId(3);

#[test]
fn a_connection_is_written_once_for_all_of_its_calls() {
    let (mut tape, chunks) = tape();
    let connection = pointsman_sdk::native::connection(0, 1);
    tape.group(V, &connection, &[], &Ok(None));
    tape.subset(V, &connection, None, &[], &Ok(Verdict::Forward(0)));
    tape.pick(V, &connection, 0, &[4, 5], &Ok(Some(1)));
    tape.decided(&connection, Fate::Forward(1), None);
    let bytes = written(&mut tape, &chunks);
    let frames = read(&bytes);
    assert!(matches!(frames[0], Frame::Connection(_)));
    let rest = [
        Frame::Group { version: 3, answer: Answer::None },
        Frame::Subset { version: 3, group: None, verdict: frame::Verdict::Forward(0) },
        Frame::Loads { answers: vec![4, 5] },
        Frame::Pick { version: 3, set: 0, answer: Answer::Index(1) },
        Frame::Fate { again: None, fate: Fate::Forward(1) },
    ];
    assert_eq!(frames[1..], rest);
    assert!(bytes.len() <= 64, "{} bytes", bytes.len());
}

#[test]
fn a_guest_that_was_not_entered_leaves_nothing() {
    let (mut tape, chunks) = tape();
    let connection = pointsman_sdk::native::connection(0, 1);
    tape.pick(V, &connection, 0, &[], &Err(Fault::NotAsked("being rebuilt")));
    tape.forget(V, 0, &[], &Err(Fault::NotAsked("being rebuilt")));
    assert!(written(&mut tape, &chunks).is_empty());
    tape.pick(V, &connection, 0, &[], &Err(Fault::OutOfFuel));
    let failed = Frame::Pick { version: 3, set: 0, answer: Answer::Failed(Failure::OutOfFuel) };
    assert_eq!(read(&written(&mut tape, &chunks))[1], failed);
}

/// The bytes of one frame of each kind, as docs/recording.md has them: a change of these is a new schema.
#[test]
fn the_bytes_are_those_of_the_schema() {
    let bytes = |frame: Frame| bincode::encode_to_vec(frame, encoding()).unwrap();
    assert_eq!(SCHEMA_OF_THESE, frame::SCHEMA);
    assert_eq!(bytes(Frame::Group { version: 3, answer: Answer::Index(300) }), [12, 3, 1, 251, 44, 1]);
    assert_eq!(bytes(Frame::Loads { answers: vec![0, 7] }), [10, 2, 0, 7]);
    assert_eq!(bytes(Frame::Fate { again: Some(2), fate: Fate::Drop }), [15, 1, 2, 3]);
    assert_eq!(bytes(Frame::Ended { back: 0, since_ms: -1, ending: Ending::Reset }), [16, 0, 1, 2]);
}

const SCHEMA_OF_THESE: u16 = 2;

#[test]
fn the_end_of_a_tape_finds_room() {
    let (queue, chunks) = sync_channel(0);
    let shared = Arc::new(Shared::default());
    let terms = Terms { sample: NonZeroU32::MIN, clients: Clients::Plain };
    let mut tape = Tape::new(0, terms, Outbox::new(queue, Arc::clone(&shared)));
    tape.retire(V);
    drop(tape);
    assert!(chunks.try_recv().is_err());
    let remnants = shared.remnants();
    assert_eq!((remnants.len(), remnants[0].frames, shared.lost()), (1, 1, 0));
}
