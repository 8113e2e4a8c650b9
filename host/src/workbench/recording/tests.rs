#![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::workbench::fixture::{all, day, file, header, rewrite};

struct Day {
    folder: tempfile::TempDir,
    bytes: Vec<u8>,
}

fn a_day() -> Day {
    let folder = tempfile::tempdir().unwrap();
    day(&file(&folder), all());
    let bytes = std::fs::read(file(&folder)).unwrap();
    Day { folder, bytes }
}

impl Day {
    fn with(&self, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join("other.rec");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn refused(&self, bytes: &[u8]) -> String {
        match Recording::open(&self.with(bytes)) {
            Ok(_) => "it was read".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

/// Reads everything in it, as far as it goes.
fn read_all(recording: &Recording) -> Result<u64, Unreadable> {
    let mut frames = 0;
    for worker in 0..recording.header.workers.len() as u16 {
        for stamped in recording.frames(worker) {
            match stamped?.frame {
                Frame::Adopt { plan, .. } => drop(recording.plan(plan)?),
                Frame::Service { port: Some(port), .. } => {
                    for endpoint in recording.port(port)?.endpoints {
                        recording.endpoint(endpoint)?;
                    }
                }
                _ => {}
            }
            frames += 1;
        }
    }
    Ok(frames)
}

#[test]
fn what_was_written_is_read() {
    let day = a_day();
    let recording = Recording::open(&file(&day.folder)).unwrap();
    assert_eq!(recording.header, header(all(), 2));
    assert_eq!(recording.ending, Ending::End(End { full: false, lost: 0 }));
    assert!(read_all(&recording).unwrap() > 20_000);
    let mut lines = Vec::new();
    export::jsonl(&recording, &mut lines).unwrap();
    let lines: Vec<serde_json::Value> =
        lines.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect();
    assert_eq!(lines[0]["frame"], "header");
    assert_eq!(lines.last().unwrap()["frame"], "end");
    let connections = lines.iter().filter(|line| line["frame"] == "connection").count();
    let connection = lines.iter().find(|line| line["frame"] == "connection").unwrap();
    assert_eq!(connections, 4_800);
    assert!(connection["client"].as_str().unwrap().starts_with("10."), "{connection}");
    // The target is some 64 bytes a decision, all that policies were told included.
    let per = day.bytes.len() / connections;
    assert!(per < 100, "{per} bytes a connection");
}

#[test]
fn other_files_and_other_schemas_are_refused() {
    let day = a_day();
    assert!(day.refused(b"").starts_with("this is not a recording"));
    assert!(day.refused(b"{\"at\": 1}, and so on and so forth").starts_with("this is not a recording"));
    let mut newer = day.bytes.clone();
    newer[8] = 3;
    assert_eq!(day.refused(&newer), "it has schema 3, and this program reads schema 2: read it with the pointsman that wrote it");
    let mut long = day.bytes.clone();
    long[10..14].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(day.refused(&long), "it is damaged at byte 14: a header of 4294967295 bytes");
}

#[test]
fn a_recording_that_was_cut_off_is_read_as_far_as_it_goes() {
    let day = a_day();
    let whole = Recording::open(&file(&day.folder)).unwrap();
    let cut = Recording::open(&day.with(&day.bytes[..day.bytes.len() - 20])).unwrap();
    assert!(matches!(cut.ending, Ending::CutOff(offset) if offset < day.bytes.len() as u64 - 20));
    assert!(read_all(&cut).unwrap() <= read_all(&whole).unwrap());
    let first_block = header(all(), 2).encode().unwrap().len();
    for length in (first_block..day.bytes.len()).step_by(day.bytes.len() / 97) {
        let cut = Recording::open(&day.with(&day.bytes[..length])).unwrap();
        assert!(matches!(cut.ending, Ending::CutOff(_)), "{length}");
    }
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let day = a_day();
    // Everything at the beginning and in the heads of blocks, and samples of the frames.
    let mut places: Vec<usize> = (0..day.bytes.len()).step_by(day.bytes.len() / 211).collect();
    let mut head = header(all(), 2).encode().unwrap().len();
    places.extend(0..head);
    while head < day.bytes.len() {
        places.extend([0, 1, 2, 4, 6, 9].map(|byte| head + byte));
        let length = BlockHead::from_bytes(day.bytes[head..head + BLOCK_HEAD_BYTES].try_into().unwrap()).length;
        head += BLOCK_HEAD_BYTES + length as usize;
    }
    for at in places {
        let mut bytes = day.bytes.clone();
        bytes[at] ^= 0x10;
        let read = Recording::open(&day.with(&bytes)).and_then(|recording| {
            let frames = read_all(&recording)?;
            Ok((recording, frames))
        });
        if let Ok((recording, _)) = read {
            // A length may point behind the end.
            assert!(matches!(recording.ending, Ending::CutOff(_)), "byte {at}");
        }
    }
}

#[test]
fn what_is_referred_to_must_be_there() {
    let day = a_day();
    let other = day.folder.path().join("other.rec");
    rewrite(&file(&day.folder), &other, &mut |frame| {
        if let Frame::Adopt { plan, .. } = frame {
            *plan += 1_000_000;
        }
    });
    let error = read_all(&Recording::open(&other).unwrap()).unwrap_err().to_string();
    assert!(error.contains("is referred to, and not in it"), "{error}");
    rewrite(&file(&day.folder), &other, &mut |frame| {
        if let Frame::Ended { back, .. } = frame {
            *back = u64::MAX;
        }
    });
    let error = read_all(&Recording::open(&other).unwrap()).unwrap_err().to_string();
    assert!(error.ends_with("a connection that there was not"), "{error}");
    rewrite(&file(&day.folder), &other, &mut |frame| {
        if let Frame::Port { port, .. } = frame {
            *port = 7;
        }
    });
    let error = Recording::open(&other).map(|_| ()).unwrap_err().to_string();
    assert!(error.ends_with("number 7, where 0 is the next"), "{error}");
}

proptest! {
    /// Blocks of any bytes under a good header: an error, never more.
    #[test]
    fn no_bytes_are_believed(bytes in prop::collection::vec(any::<u8>(), 0..300), worker in prop::sample::select(vec![0_u16, 1, 2, NOBODY])) {
        let folder = tempfile::tempdir().unwrap();
        let mut recording = header(all(), 2).encode().unwrap();
        recording.extend(BlockHead::of(worker, &bytes).to_bytes());
        recording.extend(&bytes);
        std::fs::write(file(&folder), recording).unwrap();
        if let Ok(recording) = Recording::open(&file(&folder)) {
            let _ = read_all(&recording);
        }
    }
}
