//! What was pulled, kept in files that are named by their digests. Nothing read from there is believed: it is hashed again, so a folder
//! that somebody else wrote to costs a pull and nothing more. Bounded; what was used longest ago goes first.

use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use tempfile::NamedTempFile;

use super::digest;
use super::error::Error;
use crate::objects::reference::Digest;

/// Manifests and components that were pulled.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
    capacity: u64,
}

/// All files together, in bytes: a hundred policies of the usual limit, eight of the largest.
const CAPACITY: u64 = 256 << 20;

/// Below the cache folder, beside compiled code.
const FOLDER: &str = "registry/sha256";

/// Where the cache is when nobody says where: `$XDG_CACHE_HOME/pointsman`, else `~/.cache/pointsman` (XDG Base Directory specification, by
/// which a path that is not absolute does not count).
pub fn default_folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(caches.join("pointsman"))
}

impl Cache {
    /// The cache below this folder, made if it is missing.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let folder = folder.join(FOLDER);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|error| Error::File { path: folder.display().to_string(), why: error.to_string() })?;
        Ok(Self { folder, capacity: CAPACITY })
    }

    /// The bytes of this digest, if they are there, whole, and no more than `limit`.
    pub(super) fn read(&self, wanted: Digest, limit: u64) -> Option<Bytes> {
        let path = self.folder.join(wanted.hex());
        let file = File::open(&path).ok()?;
        if file.metadata().ok()?.len() > limit {
            return None;
        }
        let mut bytes = Vec::new();
        (&file).take(limit).read_to_end(&mut bytes).ok()?;
        if digest(&bytes) != wanted {
            tracing::warn!("{}: not what its name says, removed", path.display());
            let _ = fs::remove_file(&path);
            return None;
        }
        // A cache that cannot be written to is still good to read.
        let _ = file.set_modified(SystemTime::now());
        Some(bytes.into())
    }

    /// Keeps bytes. A failure costs another pull, no more.
    pub(super) fn write(&self, bytes: &[u8]) {
        let path = self.folder.join(digest(bytes).hex());
        let written = NamedTempFile::new_in(&self.folder).and_then(|mut file| {
            file.write_all(bytes)?;
            Ok(file.persist(&path)?)
        });
        if let Err(error) = written.map(drop).and_then(|()| self.prune(&path)) {
            tracing::warn!("{}: what was pulled is not kept: {error}", self.folder.display());
        }
    }

    /// Removes what was used longest ago until the rest fits.
    fn prune(&self, newest: &Path) -> std::io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // Another process may have removed it since.
            let Ok(metadata) = entry.metadata() else { continue };
            files.push((metadata.modified()?, metadata.len(), entry.path()));
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in files.into_iter().filter(|(.., path)| path != newest) {
            if total <= self.capacity {
                break;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => total -= bytes,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Duration;

    use super::*;

    fn cache(capacity: u64) -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { capacity, ..Cache::open(dir.path()).unwrap() };
        (dir, cache)
    }

    fn age(cache: &Cache, bytes: &[u8], seconds: u64) {
        let file = File::open(cache.folder.join(digest(bytes).hex())).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn what_was_kept_is_found_by_its_digest() {
        let (dir, cache) = cache(CAPACITY);
        cache.write(b"bytes");
        assert_eq!(cache.read(digest(b"bytes"), 5).unwrap(), &b"bytes"[..]);
        assert_eq!(Cache::open(dir.path()).unwrap().read(digest(b"bytes"), 5).unwrap(), &b"bytes"[..]);
        assert_eq!(cache.read(digest(b"others"), 5), None);
    }

    #[test]
    fn what_was_altered_is_not_believed_and_goes() {
        let (_dir, cache) = cache(CAPACITY);
        let path = cache.folder.join(digest(b"bytes").hex());
        for altered in [&b"bytez"[..], b"byte", b"bytesbytes", b""] {
            fs::write(&path, altered).unwrap();
            assert_eq!(cache.read(digest(b"bytes"), 10), None, "{altered:?}");
            assert!(!path.exists(), "{altered:?}");
        }
        cache.write(b"bytes");
        assert_eq!(cache.read(digest(b"bytes"), 4), None, "over the limit of who asks");
        assert!(path.exists(), "and within that of others");
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let (_dir, cache) = cache(10);
        cache.write(b"aaaa");
        cache.write(b"bbbb");
        age(&cache, b"aaaa", 100);
        age(&cache, b"bbbb", 50);
        assert!(cache.read(digest(b"aaaa"), 4).is_some(), "and used again by that");
        cache.write(b"cccc");
        let there = |bytes: &[u8]| cache.folder.join(digest(bytes).hex()).exists();
        assert_eq!((there(b"aaaa"), there(b"bbbb"), there(b"cccc")), (true, false, true));
        cache.write(b"larger than all of it");
        assert!(there(b"larger than all of it") && !there(b"aaaa") && !there(b"cccc"), "the newest stays whatever it takes");
    }
}
