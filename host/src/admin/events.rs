//! What happened, for people: the newest events, bounded.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Events that are kept; older ones are dropped.
const MAX_EVENTS: usize = 1_000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is not served as asked.
    Error,
    /// Probably not what was meant.
    Warning,
    /// Good to know.
    Info,
}

/// Something that happened, or is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub time: SystemTime,
    /// How bad it is.
    pub severity: Severity,
    /// The file it is about.
    pub file: Option<String>,
    /// The line in it, from 1.
    pub line: Option<u32>,
    /// The object it is about: `Service default/web`.
    pub object: Option<String>,
    /// The field: `spec.ports[1].nodePort`.
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: Option<String>,
}

impl Event {
    fn same(&self, other: &Self) -> bool {
        let Self { time: _, severity, file, line, object, field, message, remedy } = self;
        (severity, file, line, object, field, message, remedy)
            == (&other.severity, &other.file, &other.line, &other.object, &other.field, &other.message, &other.remedy)
    }
}

/// The newest events. An event that was there before is counted, not repeated.
#[derive(Debug, Default)]
pub struct EventLog(Mutex<VecDeque<(Event, u64)>>);

impl EventLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event; the oldest makes room.
    pub fn record(&self, event: Event) {
        let mut events = self.events();
        let before = events.iter().position(|(other, _)| other.same(&event)).and_then(|at| events.remove(at));
        let count = before.map_or(0, |(_, count)| count) + 1;
        if events.len() == MAX_EVENTS {
            events.pop_front();
        }
        events.push_back((event, count));
    }

    /// The answer of `/events`: oldest first.
    pub fn report(&self) -> Vec<EventReport> {
        self.events().iter().map(|(event, count)| EventReport::new(event, *count)).collect()
    }

    fn events(&self) -> MutexGuard<'_, VecDeque<(Event, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An event as `/events` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventReport {
    /// RFC 3339, UTC; the last time, if there were several.
    pub time: String,
    /// How often.
    pub count: u64,
    /// How bad it is.
    pub severity: Severity,
    /// See [`Event::file`].
    pub file: Option<String>,
    /// See [`Event::line`].
    pub line: Option<u32>,
    /// See [`Event::object`].
    pub object: Option<String>,
    /// See [`Event::field`].
    pub field: Option<String>,
    /// See [`Event::message`].
    pub message: String,
    /// See [`Event::remedy`].
    pub remedy: Option<String>,
}

impl EventReport {
    fn new(event: &Event, count: u64) -> Self {
        let Event { time, severity, file, line, object, field, message, remedy } = event.clone();
        let time = jiff::Timestamp::try_from(time).unwrap_or_default();
        Self { time: format!("{time:.3}"), count, severity, file, line, object, field, message, remedy }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn event(second: u64, message: &str) -> Event {
        Event {
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
            severity: Severity::Warning,
            file: None,
            line: None,
            object: None,
            field: None,
            message: message.to_owned(),
            remedy: None,
        }
    }

    #[test]
    fn repeated_events_are_counted_and_move_to_the_end() {
        let log = EventLog::new();
        log.record(event(1, "a"));
        log.record(event(2, "b"));
        log.record(event(3, "a"));
        let report: Vec<_> = log.report().into_iter().map(|event| (event.message, event.count, event.time)).collect();
        assert_eq!(
            report,
            [("b".to_owned(), 1, "1970-01-01T00:00:02.000Z".to_owned()), ("a".to_owned(), 2, "1970-01-01T00:00:03.000Z".to_owned())]
        );
    }

    #[test]
    fn the_oldest_make_room() {
        let log = EventLog::new();
        for n in 0..MAX_EVENTS + 10 {
            log.record(event(0, &n.to_string()));
        }
        let report = log.report();
        assert_eq!((report.len(), report[0].message.as_str()), (MAX_EVENTS, "10"));
    }
}
