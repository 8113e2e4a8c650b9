//! Manifests from files and folders, read again when they change.
//!
//! A file that can't be read, or a document with errors, takes nothing away: what was read of it before stays in use until it is
//! mended. Only a file that is gone takes its objects with it.

mod listing;
mod watch;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use listing::{Listing, Stamp};
use rustc_hash::FxHashMap;
pub use watch::{Watch, watch};

use crate::objects::{Diagnostic, Kind, Manifest, Object, ObjectKey, Severity};

/// All manifests together, in bytes. 10,000 Services have about 3 MB; what is read is held in memory some twenty times over.
pub const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// What the files hold now.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The objects, each key once.
    pub objects: Vec<Object>,
    /// What is wrong with the files.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads files and folders once. A folder's own files count, not those of folders in it, as with `kubectl -f`.
pub fn load(paths: &[PathBuf]) -> Loaded {
    Files::new(paths.to_vec()).reload()
}

/// Files and folders, and what was last read of each file.
#[derive(Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    read: BTreeMap<PathBuf, Contents>,
}

/// What was last read of a file.
#[derive(Debug, Default)]
struct Contents {
    /// Of the file as it was when it was read; `None`: read it again whatever it looks like.
    stamp: Option<Stamp>,
    manifest: Manifest,
    /// As the file says now.
    objects: Vec<Object>,
    /// As it said before, where it now can't be understood.
    kept: Vec<Object>,
    diagnostics: Vec<Diagnostic>,
}

impl Files {
    /// Nothing is read yet.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, read: BTreeMap::new() }
    }

    /// Reads what changed since the last time, and tells all that holds now.
    pub fn reload(&mut self) -> Loaded {
        let listing = Listing::of(&self.paths);
        let listed: HashSet<_> = listing.files.iter().collect();
        self.read.retain(|file, _| listed.contains(file) || listing.is_hidden(file));
        let mut bytes_left = MAX_BYTES;
        for file in &listing.files {
            self.read.entry(file.clone()).or_default().refresh(file, &mut bytes_left);
        }
        let mut diagnostics = listing.diagnostics;
        let in_order = listing.files.iter().chain(self.read.keys().filter(|file| !listed.contains(file)));
        let contents: Vec<_> = in_order.filter_map(|file| self.read.get(file)).collect();
        diagnostics.extend(contents.iter().flat_map(|contents| contents.diagnostics.iter().cloned()));
        let objects = united(&contents, &mut diagnostics);
        Loaded { objects, diagnostics }
    }
}

/// Every key once: the first file wins, and what files say now wins over what was kept.
fn united(contents: &[&Contents], diagnostics: &mut Vec<Diagnostic>) -> Vec<Object> {
    fn key(object: &Object) -> (Kind, &str, &str) {
        let meta = object.meta();
        (object.kind(), &meta.namespace, &meta.name)
    }
    let mut first: FxHashMap<_, &Object> = FxHashMap::default();
    let mut objects = Vec::new();
    for object in contents.iter().flat_map(|contents| &contents.objects) {
        match first.entry(key(object)) {
            Entry::Occupied(other) => diagnostics.push(duplicate(&object.key(), object, other.get())),
            Entry::Vacant(entry) => {
                entry.insert(object);
                objects.push(object.clone());
            }
        }
    }
    for object in contents.iter().flat_map(|contents| &contents.kept) {
        if first.insert(key(object), object).is_none() {
            objects.push(object.clone());
        }
    }
    objects
}

fn duplicate(key: &ObjectKey, object: &Object, first: &Object) -> Diagnostic {
    let first = first.meta().location.as_ref().map_or_else(String::new, |at| format!(" in {at}"));
    Diagnostic {
        remedy: Some("remove one of the two; the first one counts".to_owned()),
        ..Diagnostic::about(key.to_string(), object.meta(), "", Severity::Error, format!("is defined already{first}"))
    }
}

impl Contents {
    /// Reads the file again if it changed; keeps what can't be read any more.
    fn refresh(&mut self, file: &Path, bytes_left: &mut u64) {
        let now = SystemTime::now();
        match listing::stamp(file) {
            Ok(stamp) if self.stamp == Some(stamp) => *bytes_left = bytes_left.saturating_sub(stamp.bytes),
            Ok(stamp) => match read(file, *bytes_left) {
                Ok(text) => {
                    *bytes_left = bytes_left.saturating_sub(text.len() as u64);
                    self.update(file, &text);
                    // Within a clock tick a file can change twice and look the same: one that is this fresh is read again.
                    let age = stamp.modified.and_then(|modified| now.duration_since(modified).ok());
                    self.stamp = Some(stamp).filter(|stamp| age.is_some_and(|age| age > clock_tick(stamp)));
                }
                Err(diagnostic) => self.keep_all(*diagnostic),
            },
            Err(error) => self.keep_all(about_file(file, format!("can't be read: {error}"), None)),
        }
    }

    fn update(&mut self, file: &Path, text: &str) {
        let before: Vec<Object> = self.objects.drain(..).chain(self.kept.drain(..)).collect();
        let parsed = self.manifest.parse(file, text, &before);
        if parsed.is_empty() && !before.is_empty() {
            self.kept = before;
            let message = "holds nothing: what it held before stays in use".to_owned();
            let remedy = Some("remove the file to remove its objects".to_owned());
            self.diagnostics = vec![Diagnostic { severity: Severity::Warning, ..about_file(file, message, remedy) }];
            return;
        }
        let failed: HashSet<_> = parsed.failed.into_iter().collect();
        let read: HashSet<_> = parsed.objects.iter().map(Object::key).collect();
        let is_kept = |object: &Object| {
            let key = object.key();
            !read.contains(&key) && (parsed.incomplete || failed.contains(&key))
        };
        self.kept = before.into_iter().filter(is_kept).collect();
        self.objects = parsed.objects;
        self.diagnostics = parsed.diagnostics;
        if !self.kept.is_empty() {
            let message = match self.kept.len() {
                1 => "1 object as read before stays in use until the errors here are mended".to_owned(),
                kept => format!("{kept} objects as read before stay in use until the errors here are mended"),
            };
            self.diagnostics.push(Diagnostic { severity: Severity::Warning, ..about_file(file, message, None) });
        }
    }

    fn keep_all(&mut self, diagnostic: Diagnostic) {
        self.stamp = None;
        self.kept.append(&mut self.objects);
        self.diagnostics = vec![diagnostic];
    }
}

/// How far apart two changes of a file may be and have the same stamp.
fn clock_tick(stamp: &Stamp) -> Duration {
    let fraction =
        stamp.modified.and_then(|modified| modified.duration_since(SystemTime::UNIX_EPOCH).ok()).map(|since| since.subsec_nanos());
    match fraction {
        // The coarsest that file systems stamp with (FAT).
        None | Some(0) => Duration::from_secs(2),
        // Others have the kernel's clock, which ticks every 10 ms at the slowest.
        Some(_) => Duration::from_millis(20),
    }
}

fn read(file: &Path, bytes_left: u64) -> Result<String, Box<Diagnostic>> {
    let failed = |error: std::io::Error| Box::new(about_file(file, format!("can't be read: {error}"), None));
    let mut bytes = Vec::new();
    File::open(file).map_err(failed)?.take(bytes_left + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bytes_left {
        let message = format!("with this file the manifests have more than {} MiB, the most that is read", MAX_BYTES / 1024 / 1024);
        return Err(Box::new(about_file(file, message, Some("leave out files that hold no manifests".to_owned()))));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count() + 1;
        let remedy = Some("save it as UTF-8".to_owned());
        Box::new(Diagnostic { line: u32::try_from(line).ok(), ..about_file(file, "is not UTF-8 text".to_owned(), remedy) })
    })
}

fn about_file(file: &Path, message: String, remedy: Option<String>) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        file: Some(file.display().to_string()),
        line: None,
        column: None,
        object: None,
        field: None,
        message,
        remedy,
    }
}

#[cfg(test)]
mod tests;
