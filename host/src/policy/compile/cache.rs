//! Machine code on disk. Whoever could write it could run code in this process, so the folder is the owner's alone, and each file
//! carries an HMAC over its name and content under a random key that never leaves the host.

use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tempfile::NamedTempFile;

use crate::policy::refusal::Refusal;

/// A folder of machine code.
pub struct Cache {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
}

/// One block of SHA-256.
const KEY_BYTES: usize = 64;
const TAG_BYTES: usize = 32;
const KEY_FILE: &str = "host.key";

impl Cache {
    /// The folder, made if it is missing, with its key, drawn if it is missing.
    ///
    /// # Errors
    /// `Refusal::File` when the folder is open to others, or cannot be used.
    pub fn open(folder: &Path) -> Result<Self, Refusal> {
        let failed = |error: std::io::Error| Refusal::file(folder, &error);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let metadata = fs::metadata(folder).map_err(failed)?;
        if metadata.uid() != nix::unistd::geteuid().as_raw() {
            let why = "another user owns it, and what it holds is run as code: choose a folder of your own";
            return Err(Refusal::file(folder, &why));
        }
        let mode = metadata.mode();
        if mode & 0o077 != 0 {
            let why = format!("others may reach it (mode {:o}), and what it holds is run as code: `chmod 700` it", mode & 0o777);
            return Err(Refusal::file(folder, &why));
        }
        let key = key(folder).map_err(failed)?;
        Ok(Self { folder: folder.to_owned(), key })
    }

    /// The machine code under this name, if it is there and ours.
    pub(super) fn read(&self, name: &str) -> Option<Vec<u8>> {
        let mut content = fs::read(self.folder.join(name)).ok()?;
        let code = content.split_off(content.len().min(TAG_BYTES));
        match self.mac(name, &code).verify_slice(&content) {
            Ok(()) => Some(code),
            Err(_) => {
                tracing::warn!("{}: not written by this host, left alone", self.folder.join(name).display());
                None
            }
        }
    }

    /// Keeps machine code. A failure costs a compilation at the next start, no more.
    pub(super) fn write(&self, name: &str, code: &[u8]) {
        let tag = self.mac(name, code).finalize().into_bytes();
        let written = beside(&self.folder, &[tag.as_slice(), code]);
        if let Err(error) = written.and_then(|file| Ok(file.persist(self.folder.join(name))?)) {
            tracing::warn!("{}: machine code was not kept: {error}", self.folder.display());
        }
    }

    fn mac(&self, name: &str, code: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new(&self.key.into());
        mac.update(name.as_bytes());
        mac.update(code);
        mac
    }
}

/// The first to come draws the key; whoever comes at the same time reads that one.
fn key(folder: &Path) -> std::io::Result<[u8; KEY_BYTES]> {
    let path = folder.join(KEY_FILE);
    let mut key = [0; KEY_BYTES];
    if !path.exists() {
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        match beside(folder, &[&key])?.persist_noclobber(&path) {
            Err(error) if error.error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.error),
            _ => {}
        }
    }
    File::open(path)?.read_exact(&mut key)?;
    Ok(key)
}

/// A file to be renamed into place, so that a reader sees the old one or the new one; its mode is 0600.
fn beside(folder: &Path, parts: &[&[u8]]) -> std::io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new_in(folder)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("cache");
        (dir, folder)
    }

    #[test]
    fn what_was_written_is_read_back_also_after_a_restart() {
        let (_dir, folder) = folder();
        Cache::open(&folder).unwrap().write("name", b"code");
        assert_eq!(Cache::open(&folder).unwrap().read("name").unwrap(), b"code");
        assert_eq!(fs::metadata(folder.join("name")).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_changed_moved_or_cut_file_is_not_read() {
        let (_dir, folder) = folder();
        let cache = Cache::open(&folder).unwrap();
        cache.write("name", b"code");
        let good = fs::read(folder.join("name")).unwrap();
        fs::write(folder.join("other"), &good).unwrap();
        assert_eq!(cache.read("other"), None, "under another name");
        let mut changed = good.clone();
        *changed.last_mut().unwrap() ^= 1;
        fs::write(folder.join("name"), &changed).unwrap();
        assert_eq!(cache.read("name"), None, "one bit changed");
        fs::write(folder.join("name"), &good[..10]).unwrap();
        assert_eq!(cache.read("name"), None, "cut");
        assert_eq!(cache.read("nothing"), None);
    }

    #[test]
    fn a_folder_that_others_can_reach_is_refused() {
        let (_dir, folder) = folder();
        Cache::open(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Cache::open(&folder).err().unwrap().to_string().contains("chmod 700"));
    }
}
