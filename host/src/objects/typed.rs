//! From a tree to one of k8s-openapi's types, strictly: those types skip unknown fields in silence, so the deserializer here
//! notes every field they skip, and it goes on past a value of the wrong type, so that one reading finds all that is wrong.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::problems::MAX_PROBLEMS;
use super::spelling;
use super::tree::{Entry, Field, Mark, Node, OwnedStep, Value};

/// Something wrong at a place.
pub(super) struct Finding {
    pub(super) mark: Option<Mark>,
    pub(super) field: String,
    pub(super) message: String,
    pub(super) remedy: Option<String>,
}

/// Values of a wrong type that one object may have before reading it is given up.
const MAX_MISMATCHES: usize = 20;

/// Reads `root` as a `T`. Values of the wrong type are reported, refused in the tree and then treated as absent.
/// `None` when nothing can be made of it.
pub(super) fn typed<T: DeserializeOwned>(root: &mut Node) -> (Option<T>, Vec<Finding>) {
    let mut findings = Vec::new();
    for _ in 0..MAX_MISMATCHES {
        let unknown = RefCell::new(Vec::new());
        let source = Source { node: root, field: &Field::ROOT, siblings: None, unknown: &unknown };
        match T::deserialize(source) {
            Ok(value) => {
                findings.append(&mut unknown.into_inner());
                return (Some(value), findings);
            }
            Err(mismatch) => {
                let refused = root.refuse(&mismatch.field);
                findings.push(Finding {
                    mark: mismatch.mark,
                    field: mismatch.shown_field,
                    message: mismatch.message,
                    remedy: mismatch.remedy.map(str::to_owned),
                });
                if !refused {
                    findings.append(&mut unknown.into_inner());
                    return (None, findings);
                }
            }
        }
    }
    (None, findings)
}

/// A value that is not what its type asks for.
#[derive(Debug, Default)]
struct Mismatch {
    field: Vec<OwnedStep>,
    shown_field: String,
    mark: Option<Mark>,
    message: String,
    remedy: Option<&'static str>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mismatch {}

impl Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), ..Self::default() }
    }
}

/// The mapping that a value stands in: its entries, the value's position, and the fields its type knows, when it is a struct.
#[derive(Clone, Copy)]
struct Siblings<'a> {
    entries: &'a [Entry],
    position: usize,
    known: &'static [&'static str],
}

/// A value to be read; `'t` is the tree's life, `'p` the path's.
#[derive(Clone, Copy)]
struct Source<'t, 'p> {
    node: &'t Node,
    field: &'p Field<'p>,
    siblings: Option<Siblings<'t>>,
    unknown: &'p RefCell<Vec<Finding>>,
}

impl<'t> Source<'t, '_> {
    fn expected(&self, what: &str) -> Mismatch {
        let remedy = match (what, &self.node.value) {
            (TEXT, Value::Bool(_) | Value::Integer(_) | Value::Float(_)) => Some("put it in quotes"),
            (TEXT, Value::Null) => Some("write a value, or \"\" for an empty one"),
            (WHOLE_NUMBER | TRUE_OR_FALSE, Value::Text(_)) => Some("write it without quotes"),
            (LIST, Value::Map(_)) => Some("begin each item with '- '"),
            (MAPPING, Value::List(_)) => Some("remove the '-' before its keys"),
            (MAPPING, Value::Text(text)) if text.contains(':') => Some("write a blank after each ':'"),
            (MAPPING, Value::Text(_)) => Some("write `key: value`"),
            _ => None,
        };
        Mismatch { remedy, ..Mismatch::custom(format!("expected {what}, found {}", self.node.value)) }
    }

    /// Adds where it was to an error that does not say so yet.
    fn placed(&self, error: Mismatch) -> Mismatch {
        if error.mark.is_some() {
            return error;
        }
        let mark = Some(match (self.siblings, &self.node.value) {
            (Some(siblings), Value::Null | Value::List(_) | Value::Map(_)) => siblings.entries[siblings.position].key_mark,
            _ => self.node.mark,
        });
        Mismatch { field: self.field.owned_steps(), shown_field: self.field.to_string(), mark, ..error }
    }

    fn report_unknown(&self, siblings: Siblings<'t>) {
        if self.unknown.borrow().len() >= MAX_PROBLEMS {
            return;
        }
        let entry = &siblings.entries[siblings.position];
        let emptied = siblings.entries[..siblings.position].iter().rev().find(|before| matches!(before.node.value, Value::Null));
        let remedy = match (emptied, spelling::nearest(&entry.key, siblings.known.iter().copied())) {
            (_, Some(near)) if spelling::is_close(&entry.key, near) => format!("did you mean `{near}`?"),
            (Some(before), _) => format!("`{}` above is empty: if `{}` belongs to it, indent it", before.key, entry.key),
            _ => format!("fields known here: {}", shortened(siblings.known)),
        };
        self.unknown.borrow_mut().push(Finding {
            mark: Some(entry.key_mark),
            field: self.field.to_string(),
            message: format!("unknown field `{}`", entry.key),
            remedy: Some(remedy),
        });
    }

    fn mapping<V: Visitor<'t>>(self, known: &'static [&'static str], visitor: V) -> Result<V::Value, Mismatch> {
        let Value::Map(entries) = &self.node.value else { return Err(self.placed(self.expected(MAPPING))) };
        visitor.visit_map(Mapping { source: self, entries, position: 0, known }).map_err(|error| self.placed(error))
    }

    fn list<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        let Value::List(items) = &self.node.value else { return Err(self.placed(self.expected(LIST))) };
        visitor.visit_seq(Items { source: self, items, position: 0 }).map_err(|error| self.placed(error))
    }
}

/// Known fields that a message lists; a Pod's spec has more than anyone reads.
const SHOWN_FIELDS: usize = 12;

fn shortened(known: &[&str]) -> String {
    let shown = known.iter().take(SHOWN_FIELDS).copied().collect::<Vec<_>>().join(", ");
    if known.len() > SHOWN_FIELDS { format!("{shown}, …") } else { shown }
}

const TEXT: &str = "text";
const WHOLE_NUMBER: &str = "a whole number";
const TRUE_OR_FALSE: &str = "true or false";
const LIST: &str = "a list";
const MAPPING: &str = "a mapping";

/// Numbers all read alike: the visitor checks the range.
macro_rules! whole_numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            match &self.node.value {
                Value::Integer(value) => visitor.visit_i64(*value).map_err(|_: Mismatch| self.placed(Mismatch::custom(format!("{value} is out of range")))),
                _ => Err(self.placed(self.expected(WHOLE_NUMBER))),
            }
        }
    )*};
}

impl<'t> Deserializer<'t> for Source<'t, '_> {
    type Error = Mismatch;

    whole_numbers! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 }

    fn deserialize_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        let read = match &self.node.value {
            Value::Null | Value::Refused => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(_) => return self.list(visitor),
            Value::Map(_) => return self.mapping(&[], visitor),
        };
        read.map_err(|error| self.placed(error))
    }

    fn deserialize_bool<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match &self.node.value {
            Value::Bool(value) => visitor.visit_bool(*value).map_err(|error| self.placed(error)),
            _ => Err(self.placed(self.expected(TRUE_OR_FALSE))),
        }
    }

    fn deserialize_str<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match &self.node.value {
            Value::Text(text) => visitor.visit_borrowed_str(text).map_err(|error| self.placed(error)),
            _ => Err(self.placed(self.expected(TEXT))),
        }
    }

    fn deserialize_string<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match &self.node.value {
            Value::Null | Value::Refused => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'t>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self).map_err(|error| self.placed(error))
    }

    fn deserialize_seq<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.list(visitor)
    }

    fn deserialize_map<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.mapping(&[], visitor)
    }

    fn deserialize_struct<V: Visitor<'t>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.mapping(fields, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        if let Some(siblings) = self.siblings {
            self.report_unknown(siblings);
        }
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { <V: Visitor<'t>> i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier }
}

struct Mapping<'t, 'p> {
    source: Source<'t, 'p>,
    entries: &'t [Entry],
    position: usize,
    known: &'static [&'static str],
}

impl<'t> MapAccess<'t> for Mapping<'t, '_> {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'t>>(&mut self, seed: K) -> Result<Option<K::Value>, Mismatch> {
        while self.entries.get(self.position).is_some_and(|entry| matches!(entry.node.value, Value::Refused)) {
            self.position += 1;
        }
        let Some(entry) = self.entries.get(self.position) else { return Ok(None) };
        seed.deserialize(entry.key.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'t>>(&mut self, seed: S) -> Result<S::Value, Mismatch> {
        let position = self.position;
        let Some(entry) = self.entries.get(position) else { return Err(Mismatch::custom("a value without a key")) };
        self.position += 1;
        let field = self.source.field.key(&entry.key);
        let siblings = Some(Siblings { entries: self.entries, position, known: self.known });
        seed.deserialize(Source { node: &entry.node, field: &field, siblings, unknown: self.source.unknown })
    }
}

struct Items<'t, 'p> {
    source: Source<'t, 'p>,
    items: &'t [Node],
    position: usize,
}

impl<'t> SeqAccess<'t> for Items<'t, '_> {
    type Error = Mismatch;

    fn next_element_seed<S: DeserializeSeed<'t>>(&mut self, seed: S) -> Result<Option<S::Value>, Mismatch> {
        let Some(node) = self.items.get(self.position) else { return Ok(None) };
        let field = self.source.field.index(self.position);
        self.position += 1;
        seed.deserialize(Source { node, field: &field, siblings: None, unknown: self.source.unknown }).map(Some)
    }
}
