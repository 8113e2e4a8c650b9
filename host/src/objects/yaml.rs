//! The only place where the YAML library is used: text → documents with positions, within budgets. JSON is read as the YAML it is.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Error, Location, MessageFormatter as _, Options, Spanned, UserMessageFormatter};

use super::tree::{Entry, Mark, Node, Value};

/// One document of a stream.
pub(super) struct Document<'a> {
    /// Lines of the file before it; adds to every [`Mark`] in it.
    pub(super) lines_before: u32,
    pub(super) text: &'a str,
}

/// Why a document cannot be read.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) mark: Option<Mark>,
    pub(super) message: String,
    pub(super) remedy: &'static str,
}

/// Every document, not read yet: one that is broken does not stop the others. Documents without content are left out.
pub(super) fn documents(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let documents = json_values(text).unwrap_or_else(|| split(text));
    documents.into_iter().map(|(lines_before, text)| Document { lines_before, text }).collect()
}

impl Document<'_> {
    pub(super) fn read(&self) -> Result<Node, SyntaxError> {
        read(self.text)
    }
}

/// Cuts at the lines that begin with `---` or `...`: YAML gives these no other meaning anywhere.
fn split(text: &str) -> Vec<(u32, &str)> {
    let mut documents = Vec::new();
    let (mut begin, mut begin_line, mut position) = (0, 0, 0);
    for (line_number, line) in (0..).zip(text.split_inclusive('\n')) {
        let after = position + line.len();
        if is_marker(line, "---") {
            documents.push((begin_line, &text[begin..position]));
            (begin, begin_line) = (position, line_number);
        } else if is_marker(line, "...") {
            documents.push((begin_line, &text[begin..position]));
            (begin, begin_line) = (after, line_number + 1);
        }
        position = after;
    }
    documents.push((begin_line, &text[begin..]));
    documents.retain(|(_, text)| has_content(text));
    documents
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

fn has_content(document: &str) -> bool {
    let document = document.strip_prefix("---").unwrap_or(document);
    document.lines().map(str::trim_start).any(|line| !line.is_empty() && !line.starts_with(['#', '%']))
}

/// JSON files may hold several values one after the other.
fn json_values(text: &str) -> Option<Vec<(u32, &str)>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let (mut documents, mut begin, mut line) = (Vec::new(), 0, 0);
    while let Some(value) = values.next() {
        value.ok()?;
        let end = values.byte_offset();
        let value = text.get(begin..end)?;
        documents.push((line, value));
        line += value.matches('\n').count() as u32;
        begin = end;
    }
    Some(documents)
}

fn read(text: &str) -> Result<Node, SyntaxError> {
    let read: Result<Spanned<Value>, Error> = serde_saphyr::from_str_with_options(text, options());
    read.map(Node::from).map_err(|error| syntax_error(&error, text))
}

/// What a message says to do when nothing better is known: lost indentation is what people meet most.
const LOOK_AT_INDENTATION: &str =
    "look at this line and the one above: keys of one mapping begin in the same column, what belongs to a key is indented below it";

fn syntax_error(error: &Error, text: &str) -> SyntaxError {
    let error = error.without_snippet();
    let cause = match error {
        Error::AliasError { error, .. } => error.without_snippet(),
        error => error,
    };
    let mark = error.location().map(Mark::from).filter(|mark| mark.line > 0);
    let message = match cause {
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("`{}` is there twice in one mapping", key.escape_debug()),
        cause => UserMessageFormatter.format_message(cause).escape_debug().to_string(),
    };
    let line = mark.and_then(|mark| text.lines().nth(mark.line as usize - 1)).unwrap_or_default();
    let remedy = match cause {
        Error::DuplicateMappingKey { .. } => "keep one of the two",
        Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } | Error::AliasReplayStackDepthExceeded { .. } => {
            "split the file, or write out what its aliases stand for"
        }
        Error::Eof { .. } => "the file ends too early: is it still being written?",
        _ if line.trim_start_matches(' ').starts_with('\t') => "YAML is indented with spaces, this line has a tab",
        _ => LOOK_AT_INDENTATION,
    };
    SyntaxError { mark, message, remedy }
}

/// Values a document may hold: a List of 10,000 Services as `kubectl get -o yaml` prints it has about 1,500,000.
const MAX_NODES: usize = 4_000_000;
/// Values that aliases may add to a document; manifests hardly use them, and bombs need billions.
const MAX_ALIASED: usize = 100_000;
/// Nesting. A Pod's deepest field stands about 15 levels down.
const MAX_DEPTH: usize = 64;

fn options() -> Options {
    let mut options = Options::default();
    options.with_snippet = false;
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    options.alias_limits.max_total_replayed_events = MAX_ALIASED;
    let mut budget = serde_saphyr::Budget::default();
    budget.max_depth = MAX_DEPTH;
    budget.max_nodes = MAX_NODES;
    budget.max_events = 2 * MAX_NODES;
    options.budget = Some(budget);
    options
}

impl From<Location> for Mark {
    fn from(location: Location) -> Self {
        let clamp = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Mark { line: clamp(location.line()), column: clamp(location.column()) }
    }
}

impl From<Spanned<Value>> for Node {
    fn from(spanned: Spanned<Value>) -> Self {
        Node { value: spanned.value, mark: spanned.referenced.into() }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element::<Spanned<Value>>()? {
            items.push(item.into());
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            let node = access.next_value::<Spanned<Value>>()?.into();
            entries.push(Entry { key: key.value, key_mark: key.referenced.into(), node });
        }
        Ok(Value::Map(entries))
    }
}
