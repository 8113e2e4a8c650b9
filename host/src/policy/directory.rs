//! `--policy-dir`: each `NAME.wasm` is a policy, put in force when it appears and swapped when it changes. A file that is refused is tried
//! again when it changes; one that is removed stays in force until the host ends, since Services may name it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use notify::{RecursiveMode, Watcher};

use super::inspect;
use super::refusal::Refusal;
use super::registry::{Registry, Swapped};

/// The folder, and what was last seen of each file.
pub struct PolicyDirectory {
    folder: PathBuf,
    registry: Arc<Registry>,
    seen: BTreeMap<PathBuf, Stamp>,
}

/// What happened to a file.
#[derive(Clone, Debug)]
pub enum DirectoryEvent {
    /// It is in force.
    Swapped(Swapped),
    /// It is not, and what was in force still is.
    Refused {
        /// The file's stem.
        name: String,
        /// Why.
        reason: Refusal,
    },
}

/// Tells a file from what it was: a writer may keep the size or the time, hardly both and the inode too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

/// Ends the watch when it is dropped.
pub struct DirectoryWatch {
    _watcher: notify::RecommendedWatcher,
}

/// A writer is given this long to finish.
const SETTLE: Duration = Duration::from_millis(50);
/// Some file systems report nothing.
const POLL: Duration = Duration::from_secs(5);

impl PolicyDirectory {
    /// Loads what is there.
    ///
    /// # Errors
    /// `Refusal::File` when the folder cannot be read. A file that is refused is an event, not an error.
    pub fn open(folder: PathBuf, registry: Arc<Registry>) -> Result<(Self, Vec<DirectoryEvent>), Refusal> {
        let mut directory = Self { folder, registry, seen: BTreeMap::new() };
        let events = directory.scan()?;
        Ok((directory, events))
    }

    /// Watches from a thread of its own, and tells what changes.
    ///
    /// # Errors
    /// `Refusal::File` when the folder cannot be watched.
    pub fn watch(self, told: impl FnMut(DirectoryEvent) + Send + 'static) -> Result<DirectoryWatch, Refusal> {
        let folder = self.folder.clone();
        let failed = |error: &dyn std::fmt::Display| Refusal::file(&folder, error);
        // The sender goes with the watcher, and the thread ends with the sender.
        let (wake, woken) = mpsc::channel();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the files is an event too, and would wake the scan that reads them.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = wake.send(());
            }
        })
        .map_err(|e| failed(&e))?;
        watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(|e| failed(&e))?;
        let thread = std::thread::Builder::new().name("policy-dir".into());
        thread.spawn(move || self.run(&woken, told)).map_err(|e| failed(&e))?;
        Ok(DirectoryWatch { _watcher: watcher })
    }

    fn run(mut self, woken: &mpsc::Receiver<()>, mut told: impl FnMut(DirectoryEvent)) {
        loop {
            match woken.recv_timeout(POLL) {
                Ok(()) => while woken.recv_timeout(SETTLE).is_ok() {},
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            match self.scan() {
                Ok(events) => events.into_iter().for_each(&mut told),
                Err(refusal) => tracing::warn!("policies are not read: {refusal}"),
            }
        }
    }

    /// Puts every new or changed file to the registry.
    fn scan(&mut self) -> Result<Vec<DirectoryEvent>, Refusal> {
        let failed = |error: std::io::Error| Refusal::file(&self.folder, &error);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "wasm") {
                files.push(path);
            }
        }
        files.sort();
        let seen = &mut self.seen;
        seen.retain(|path, _| files.contains(path));
        let mut events = Vec::new();
        for path in files {
            let Some(stamp) = stamp(&path) else { continue };
            if self.seen.insert(path.clone(), stamp) == Some(stamp) {
                continue;
            }
            let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let swapped = self.read(&name, &path, stamp).and_then(|bytes| self.registry.swap(&name, &bytes));
            events.push(match swapped {
                Ok(swapped) => DirectoryEvent::Swapped(swapped),
                Err(reason) => DirectoryEvent::Refused { name, reason },
            });
        }
        Ok(events)
    }

    /// The bytes, unless there are more than a component may have: a file of 100 MB is not read.
    fn read(&self, name: &str, path: &Path, stamp: Stamp) -> Result<Vec<u8>, Refusal> {
        let limits = self.registry.limits_of(name);
        inspect::check_size(stamp.bytes, limits)?;
        let failed = |error: std::io::Error| Refusal::file(path, &error);
        let mut bytes = Vec::new();
        let file = fs::File::open(path).map_err(failed)?;
        file.take(limits.component_bytes as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }
}

/// Follows links, as a mounted ConfigMap has them. `None`: it is gone again, or no file.
fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some(Stamp { bytes: metadata.len(), modified: metadata.modified().ok(), inode: metadata.ino() })
}
