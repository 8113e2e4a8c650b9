//! Says when files may have changed.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// Beside the notifications, which network file systems and full inotify tables don't give.
const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// A file is looked at when nothing happened for this long, so that it is seldom met half written (which would do no harm).
const QUIET: Duration = Duration::from_millis(5);
/// But no later than this: something may change all the time, and an endpoint that left is still used until then.
const MAX_WAIT: Duration = Duration::from_millis(40);

/// Watches as long as it lives.
#[derive(Debug)]
pub struct Watch {
    signals: Sender<Signal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Changed,
    Stop,
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Fails only when the thread has ended already.
        let _ = self.signals.send(Signal::Stop);
    }
}

/// Calls `changed`, on a thread of its own, whenever one of the files or folders may have changed, and now and then without a reason.
///
/// # Errors
/// When the system has no thread left.
pub fn watch(paths: &[PathBuf], changed: impl Fn() + Send + 'static) -> std::io::Result<Watch> {
    let (signals, received) = channel();
    let folders = folders(paths);
    let from_system = signals.clone();
    let on_event = move |event: notify::Result<Event>| {
        if event.map_or(true, |event| is_change(event.kind)) {
            // Fails only when the thread has ended already.
            let _ = from_system.send(Signal::Changed);
        }
    };
    let mut watcher = notify::recommended_watcher(on_event)
        .inspect_err(|error| tracing::warn!("no notice of changed files ({error}): they are looked at every {POLL_INTERVAL:?}"))
        .ok();
    watch_folders(watcher.as_mut(), &folders);
    std::thread::Builder::new().name("files".to_owned()).spawn(move || follow(&received, changed, watcher, &folders))?;
    Ok(Watch { signals })
}

/// Reading a file is an event too; ours must not wake us.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// Folders are watched, not files: editors replace files, and a mounted ConfigMap replaces a link beside them.
fn folders(paths: &[PathBuf]) -> Vec<PathBuf> {
    let folder = |path: &PathBuf| match path.parent() {
        _ if path.is_dir() => path.clone(),
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut folders: Vec<_> = paths.iter().map(folder).collect();
    folders.sort();
    folders.dedup();
    folders
}

/// Watching a folder again does no harm, and finds one that was replaced.
fn watch_folders(watcher: Option<&mut RecommendedWatcher>, folders: &[PathBuf]) {
    let Some(watcher) = watcher else { return };
    for folder in folders {
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            tracing::debug!("{}: {error}", folder.display());
        }
    }
}

fn follow(signals: &Receiver<Signal>, changed: impl Fn(), mut watcher: Option<RecommendedWatcher>, folders: &[PathBuf]) {
    loop {
        match signals.recv_timeout(POLL_INTERVAL) {
            Ok(Signal::Changed) if is_quiet(signals) => {}
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => watch_folders(watcher.as_mut(), folders),
        }
        changed();
    }
}

/// Waits until nothing happens. False: it is time to stop.
fn is_quiet(signals: &Receiver<Signal>) -> bool {
    let end = Instant::now() + MAX_WAIT;
    while Instant::now() < end {
        match signals.recv_timeout(QUIET) {
            Ok(Signal::Changed) => {}
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => return true,
        }
    }
    true
}
