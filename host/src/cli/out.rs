//! Standard output. Who reads it may go away (`pointsman route … | head`): that is no fault, and changes no verdict.

use std::io::{self, ErrorKind, Write};

use anyhow::Context;

/// Writes all of a text.
///
/// # Errors
/// It cannot be written although somebody reads it.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = Out(io::stdout().lock());
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("writing to standard output")
}

/// The same for what is written bit by bit.
pub(super) struct Out<W>(pub(super) W);

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        forgive(self.0.write(bytes), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        forgive(self.0.flush(), ())
    }
}

fn forgive<T>(written: io::Result<T>, unread: T) -> io::Result<T> {
    written.or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(unread) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_fault_and_a_full_disk_is() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut out = Out(writer);
        out.write_all(&[0; 100_000]).and_then(|()| out.flush()).unwrap();
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(Out(full).write_all(b"x").unwrap_err().kind(), ErrorKind::StorageFull);
    }
}
