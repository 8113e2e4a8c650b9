//! A recording as JSON lines, for programs that know nothing of the format: the header, what is nobody's, then worker by worker what happened.

use std::io::{self, Write};

use serde::Serialize;

use super::{Ending, Recording, Unreadable};
use crate::policy::tape::frame::Frame;

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The recording.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Where it goes to.
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    now_ms: Option<u64>,
    /// The number of the connection on its worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<u64>,
    #[serde(flatten)]
    frame: &'a Frame,
}

/// Writes it.
///
/// # Errors
/// The recording is damaged, or `out` takes nothing more.
pub fn jsonl(recording: &Recording, out: &mut impl Write) -> Result<(), ExportError> {
    line(out, &serde_json::json!({ "frame": "header", "header": recording.header }))?;
    let nobodys = |frame: &Frame, out: &mut _| line(out, &Line { worker: None, now_ms: None, connection: None, frame });
    for version in recording.versions.values() {
        nobodys(&Frame::Version(version.clone()), out)?;
    }
    for plan in 0..recording.plans.0.len() as u32 {
        nobodys(&Frame::Plan { plan, bytes: recording.plan(plan)? }, out)?;
    }
    for endpoint in 0..recording.endpoints.0.len() as u32 {
        nobodys(&Frame::Endpoint { endpoint, record: recording.endpoint(endpoint)? }, out)?;
    }
    for port in 0..recording.ports.0.len() as u32 {
        nobodys(&Frame::Port { port, record: recording.port(port)? }, out)?;
    }
    for worker in 0..recording.header.workers.len() as u16 {
        for stamped in recording.frames(worker) {
            let stamped = stamped?;
            let connection = stamped.connection();
            line(out, &Line { worker: Some(worker), now_ms: Some(stamped.now_ms), connection, frame: &stamped.frame })?;
        }
    }
    if let Ending::End(end) = &recording.ending {
        nobodys(&Frame::End(end.clone()), out)?;
    }
    Ok(())
}

fn line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}
