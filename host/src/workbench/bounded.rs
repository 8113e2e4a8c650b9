//! Reading files of which nobody knows how long they are.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Context, bail};

/// A file's bytes, or a pipe's, if there are no more than `max`; `remedy` says what to do where there are. Devices are no files: some never end.
///
/// # Errors
/// It cannot be read, or is too long.
pub(crate) fn bytes(path: &Path, max: usize, remedy: &str) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("reading {shown}"))?;
    let kind = file.metadata().with_context(|| format!("reading {shown}"))?.file_type();
    if !kind.is_file() && !kind.is_fifo() {
        bail!("{shown} is {}: name a file", if kind.is_dir() { "a folder" } else { "a device" });
    }
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes).with_context(|| format!("reading {shown}"))?;
    if bytes.len() > max {
        bail!("{shown} is larger than {}: {remedy}", size(max));
    }
    Ok(bytes)
}

/// The same, where it is text.
///
/// # Errors
/// As for `bytes`; it is not text.
pub(crate) fn text(path: &Path, max: usize, remedy: &str) -> anyhow::Result<String> {
    String::from_utf8(bytes(path, max, remedy)?).with_context(|| format!("{} is not text in UTF-8", path.display()))
}

fn size(bytes: usize) -> String {
    if bytes.is_multiple_of(1 << 20) { format!("{} MiB", bytes >> 20) } else { format!("{bytes} bytes") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]

    use super::*;

    #[test]
    fn what_never_ends_is_not_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "four").unwrap();
        assert_eq!(text(&path, 4, "").unwrap(), "four");
        assert!(text(&path, 3, "split it").unwrap_err().to_string().ends_with("is larger than 3 bytes: split it"));
        assert!(bytes(Path::new("/dev/zero"), 1 << 20, "").unwrap_err().to_string().contains("/dev/zero is a device"));
        assert!(bytes(folder.path(), 1, "").unwrap_err().to_string().contains("is a folder"));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(text(&path, 3, "").unwrap_err().to_string().contains("not text"));
        // As a shell hands over what another command writes.
        let (reader, mut writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut writer, &[b'x'; 9]).unwrap();
        let handed = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        assert!(text(Path::new(&handed), 8, "").unwrap_err().to_string().contains("larger than 8 bytes"));
    }
}
