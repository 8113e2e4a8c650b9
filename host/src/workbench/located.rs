//! YAML into types, with mistakes that say file, line, field and remedy.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Error, Location, MessageFormatter as _, Options, Spanned, UserMessageFormatter};

use super::bounded;
use crate::objects::{Diagnostic, Severity};

/// Bytes of a file.
const MAX_BYTES: usize = 16 << 20;
/// Values in a file: a trace of some 100,000 connections.
const MAX_NODES: usize = 1_000_000;
/// Values that aliases may add.
const MAX_ALIASED: usize = 100_000;
/// Nesting; the deepest field of a scenario stands 6 levels down.
const MAX_DEPTH: usize = 32;

/// Where everything in a file stands.
pub(crate) struct Places {
    file: String,
    /// In the order of the file.
    places: Vec<Place>,
}

/// Where a key, an item or a value begins.
struct Place {
    path: String,
    at: (u32, u32),
    is_key: bool,
}

/// The text of a file that `read` takes.
///
/// # Errors
/// It cannot be read, or is too long.
pub(crate) fn text(file: &Path) -> anyhow::Result<String> {
    bounded::text(file, MAX_BYTES, "split it")
}

/// Reads a file's text. Where it has no content, everything has its default.
pub(crate) fn read<T: DeserializeOwned>(file: &Path, text: &str) -> Result<(T, Places), Box<Diagnostic>> {
    let mut places = Places { file: file.display().to_string(), places: Vec::new() };
    let empty = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    let text = if empty { "{}" } else { text };
    let tree: Spanned<Tree> = serde_saphyr::from_str_with_options(text, options()).map_err(|error| Box::new(places.said(&error)))?;
    places.note(String::new(), &tree);
    let value = serde_saphyr::from_str_with_options(text, options()).map_err(|error| Box::new(places.said(&error)))?;
    Ok((value, places))
}

impl Places {
    /// Something is wrong with a field, given as `events[2].remove.drain`; it is looked for as deep as it is written.
    pub(crate) fn mistake(&self, field: &str, what: String, remedy: String) -> Diagnostic {
        let mut known = field;
        let place = loop {
            // The last of a path is its value, which is what is wrong.
            match self.places.iter().rfind(|place| place.path == known) {
                Some(place) => break Some(place.at),
                None if known.is_empty() => break None,
                None => known = known.rfind(['.', '[']).map_or("", |at| &known[..at]),
            }
        };
        self.diagnostic(place, field.to_owned(), what, remedy)
    }

    fn diagnostic(&self, place: Option<(u32, u32)>, field: String, message: String, remedy: String) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            file: Some(self.file.clone()),
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
            object: None,
            field: Some(field).filter(|field| !field.is_empty()),
            message,
            remedy: Some(remedy),
        }
    }

    /// What the library says.
    fn said(&self, error: &Error) -> Diagnostic {
        let error = error.without_snippet();
        let error = match error {
            Error::AliasError { error, .. } => error.without_snippet(),
            error => error,
        };
        let place = error.location().map(at).filter(|(line, _)| *line > 0);
        let field = place.map_or(String::new(), |place| self.field_at(place, error));
        let (message, remedy) = match error {
            Error::SerdeUnknownField { field, expected, .. } | Error::SerdeUnknownVariant { variant: field, expected, .. } => {
                (format!("there is no `{}` here", field.escape_debug()), instead_of(field, expected))
            }
            Error::SerdeMissingField { field, .. } => (format!("`{field}` is missing"), format!("add `{field}`")),
            Error::DuplicateMappingKey { key, .. } => {
                (format!("`{}` is there twice", key.as_deref().unwrap_or("a key").escape_debug()), "keep one of the two".to_owned())
            }
            other => {
                let message = UserMessageFormatter.format_message(other).escape_debug().to_string();
                (message, "docs/simulator.md and docs/testing.md say what each field takes".to_owned())
            }
        };
        self.diagnostic(place, field, message, remedy)
    }

    /// The path of what begins at a place, or of the last thing that begins before it.
    fn field_at(&self, at: (u32, u32), error: &Error) -> String {
        let mut here = self.places.iter().filter(|place| place.at == at);
        // A mapping begins where its first key does.
        let exact = match error {
            Error::SerdeUnknownField { .. } | Error::SerdeMissingField { .. } | Error::DuplicateMappingKey { .. } => here.next_back(),
            _ => here.next(),
        };
        let before = || self.places.iter().rfind(|place| place.at <= at);
        let Some(place) = exact.or_else(before) else { return String::new() };
        // What lacks a field is the mapping, not its first key.
        match error {
            Error::SerdeMissingField { .. } if place.is_key => place.path.rsplit_once('.').map_or("", |(mapping, _)| mapping).to_owned(),
            _ => place.path.clone(),
        }
    }

    fn note(&mut self, path: String, node: &Spanned<Tree>) {
        self.places.push(Place { path: path.clone(), at: at(node.referenced), is_key: false });
        match &node.value {
            Tree::Scalar => {}
            Tree::List(items) => items.iter().enumerate().for_each(|(n, item)| self.note(format!("{path}[{n}]"), item)),
            Tree::Map(entries) => {
                for (key, value) in entries {
                    let path = if path.is_empty() { key.value.clone() } else { format!("{path}.{}", key.value) };
                    self.places.push(Place { path: path.clone(), at: at(key.referenced), is_key: true });
                    self.note(path, value);
                }
            }
        }
    }
}

/// What to write in place of a name that is not known.
pub(crate) fn instead_of(name: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|known| (strsim::osa_distance(name, known), known)).min();
    match nearest {
        Some((distance, near)) if distance <= (name.len() / 3).max(1) => format!("did you mean `{near}`?"),
        _ => format!("one of these: {}", known.join(", ")),
    }
}

fn at(location: Location) -> (u32, u32) {
    let clamp = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    (clamp(location.line()), clamp(location.column()))
}

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

/// A file without its values.
enum Tree {
    Scalar,
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key()? {
            entries.push((key, access.next_value()?));
        }
        Ok(Tree::Map(entries))
    }
}
