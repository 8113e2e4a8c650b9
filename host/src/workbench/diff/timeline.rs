//! The frames of all workers in the order of their clock, which all of them share; at the same millisecond, worker by worker.

use std::iter::Peekable;

use crate::workbench::recording::{Frames, Recording, Stamped, Unreadable};

pub(super) struct Timeline<'a>(Vec<Peekable<Frames<'a>>>);

impl<'a> Timeline<'a> {
    pub(super) fn new(recording: &'a Recording) -> Self {
        Self((0..recording.header.workers.len() as u16).map(|worker| recording.frames(worker).peekable()).collect())
    }
}

impl Iterator for Timeline<'_> {
    type Item = Result<(u16, Stamped), Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut first = None;
        for (worker, frames) in self.0.iter_mut().enumerate() {
            let at = match frames.peek() {
                None => continue,
                // To be met at once.
                Some(Err(_)) => 0,
                Some(Ok(stamped)) => stamped.now_ms,
            };
            if first.is_none_or(|(_, earliest)| at < earliest) {
                first = Some((worker, at));
            }
        }
        let (worker, _) = first?;
        Some(self.0[worker].next()?.map(|stamped| (worker as u16, stamped)))
    }
}
