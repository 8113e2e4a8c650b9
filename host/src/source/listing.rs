//! Which files there are.

use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::about_file;
use crate::objects::Diagnostic;

/// What a file in a folder must be called to be read.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The files that some paths stand for.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// In the order of the paths, then by name; each file once.
    pub(super) files: Vec<PathBuf>,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Folders that can't be looked into now.
    hidden: Vec<PathBuf>,
    seen: HashSet<PathBuf>,
}

/// Tells whether a file changed without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) bytes: u64,
    pub(super) modified: Option<SystemTime>,
    inode: (u64, u64),
}

/// Links are followed: a mounted ConfigMap changes by exchanging one.
pub(super) fn stamp(file: &Path) -> io::Result<Stamp> {
    let metadata = fs::metadata(file)?;
    Ok(Stamp { bytes: metadata.len(), modified: metadata.modified().ok(), inode: (metadata.dev(), metadata.ino()) })
}

impl Listing {
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        let mut listing = Self::default();
        for path in paths {
            match fs::metadata(path) {
                Ok(metadata) if metadata.is_dir() => listing.add_folder(path),
                Ok(metadata) if metadata.is_file() => listing.add_file(path.clone()),
                Ok(_) => listing.diagnostics.push(about_file(path, "is neither a file nor a folder".to_owned(), None)),
                Err(error) => listing.unreadable(path, &error),
            }
        }
        listing
    }

    /// Whether a file stands where nobody can look now: it may still be there.
    pub(super) fn is_hidden(&self, file: &Path) -> bool {
        self.hidden.iter().any(|hidden| file.starts_with(hidden))
    }

    fn add_file(&mut self, file: PathBuf) {
        let canonical = fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
        if self.seen.insert(canonical) {
            self.files.push(file);
        }
    }

    fn add_folder(&mut self, folder: &Path) {
        let entries = fs::read_dir(folder).and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect());
        let mut entries: Vec<PathBuf> = match entries {
            Ok(entries) => entries,
            Err(error) => return self.unreadable(folder, &error),
        };
        entries.sort();
        // A link that points nowhere is listed too, so that it is reported; folders and pipes (which would be waited for) are not.
        let odd = |entry: &Path| fs::metadata(entry).is_ok_and(|metadata| !metadata.is_file());
        for file in entries.into_iter().filter(|entry| is_manifest(entry) && !odd(entry)) {
            self.add_file(file);
        }
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        if error.kind() == ErrorKind::NotFound {
            self.diagnostics.push(about_file(path, "does not exist".to_owned(), None));
        } else {
            self.hidden.push(path.to_owned());
            self.diagnostics.push(about_file(path, format!("can't be read: {error}"), None));
        }
    }
}

/// Names that begin with a dot are left out: editors' files, and the `..data` of a mounted ConfigMap.
fn is_manifest(file: &Path) -> bool {
    let shown = file.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."));
    let extension = file.extension().and_then(|extension| extension.to_str());
    shown && extension.is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()))
}
