//! A document as read, before it is given a type: values with the place they stand at, and the paths that name them.

use std::fmt;

/// 1-based line and column, relative to the document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// A value and where it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) mark: Mark,
}

#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Was of the wrong type: reported once, and treated as absent from then on.
    Refused,
}

impl Value {
    /// Nothing, or a mapping without keys.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Map(entries) => entries.is_empty(),
            _ => false,
        }
    }
}

/// One key of a mapping.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_mark: Mark,
    pub(super) node: Node,
}

impl Node {
    /// The value under a key of a mapping.
    pub(super) fn child(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// One step further down.
    pub(super) fn step(&self, step: Step<'_>) -> Option<&Node> {
        match step {
            Step::Key(key) => self.child(key),
            Step::Index(index) => self.items().get(index),
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// Where a message about `field` should point: at a scalar itself, else at the key it stands under; at the closest
    /// ancestor where the field is missing. `None` when something on the way was refused already.
    pub(super) fn locate(&self, field: &Field<'_>) -> Option<Mark> {
        let (mut node, mut mark) = (self, self.mark);
        for step in field.steps() {
            let (next, at) = match step {
                Step::Key(key) => match node.entry(key) {
                    Some(entry) => (&entry.node, if entry.node.is_scalar() { entry.node.mark } else { entry.key_mark }),
                    None => break,
                },
                Step::Index(index) => match node.items().get(index) {
                    Some(item) => (item, item.mark),
                    None => break,
                },
            };
            if matches!(next.value, Value::Refused) {
                return None;
            }
            (node, mark) = (next, at);
        }
        Some(mark)
    }

    /// Whether there is something at `field`.
    pub(super) fn has(&self, field: &Field<'_>) -> bool {
        self.at(field).is_some_and(|node| !matches!(node.value, Value::Null))
    }

    /// The value at `field`.
    pub(super) fn at(&self, field: &Field<'_>) -> Option<&Node> {
        field.steps().into_iter().try_fold(self, Node::step)
    }

    /// Marks the innermost mapping value that encloses `field` as refused. False when there is none.
    pub(super) fn refuse(&mut self, field: &[OwnedStep]) -> bool {
        let Some(last_key) = field.iter().rposition(|step| matches!(step, OwnedStep::Key(_))) else { return false };
        let mut node = self;
        for step in &field[..=last_key] {
            let next = match (step, &mut node.value) {
                (OwnedStep::Key(key), Value::Map(entries)) => {
                    entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.node)
                }
                (OwnedStep::Index(index), Value::List(items)) => items.get_mut(*index),
                _ => None,
            };
            let Some(next) = next else { return false };
            node = next;
        }
        node.value = Value::Refused;
        true
    }

    fn is_scalar(&self) -> bool {
        matches!(self.value, Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_))
    }
}

/// What a value is, in words.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null | Self::Refused => f.write_str("nothing"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "the number {value}"),
            Self::Float(value) => write!(f, "the number {value}"),
            Self::Text(text) if text.chars().count() > SHOWN_TEXT => {
                write!(f, "the text \"{}…\"", text.chars().take(SHOWN_TEXT).collect::<String>())
            }
            Self::Text(text) => write!(f, "the text \"{text}\""),
            Self::List(_) => f.write_str("a list"),
            Self::Map(_) => f.write_str("a mapping"),
        }
    }
}

/// Characters of a text that a message repeats.
const SHOWN_TEXT: usize = 40;

/// The path to a value, as a list that grows on the stack: `spec.ports[1].nodePort`.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    parent: Option<&'a Field<'a>>,
    step: Option<Step<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// A [`Step`] that outlives the tree it was taken from.
#[derive(Clone, Debug)]
pub(super) enum OwnedStep {
    Key(String),
    Index(usize),
}

impl<'a> Field<'a> {
    /// The document itself.
    pub(super) const ROOT: Field<'static> = Field { parent: None, step: None };
    /// `spec`.
    pub(super) const SPEC: Field<'static> = Field { parent: Some(&Self::ROOT), step: Some(Step::Key("spec")) };

    pub(super) fn key(&'a self, key: &'a str) -> Field<'a> {
        Field { parent: Some(self), step: Some(Step::Key(key)) }
    }

    pub(super) fn index(&'a self, index: usize) -> Field<'a> {
        Field { parent: Some(self), step: Some(Step::Index(index)) }
    }

    /// From the root to here.
    pub(super) fn steps(&self) -> Vec<Step<'a>> {
        let mut steps = Vec::new();
        let mut field = Some(*self);
        while let Some(Field { parent, step }) = field {
            steps.extend(step);
            field = parent.copied();
        }
        steps.reverse();
        steps
    }

    pub(super) fn owned_steps(&self) -> Vec<OwnedStep> {
        let own = |step: Step<'_>| match step {
            Step::Key(key) => OwnedStep::Key(key.to_owned()),
            Step::Index(index) => OwnedStep::Index(index),
        };
        self.steps().into_iter().map(own).collect()
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.steps().into_iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_') => {
                    write!(f, "{}{key}", if position == 0 { "" } else { "." })?;
                }
                Step::Key(key) => write!(f, "[{key}]")?,
            }
        }
        Ok(())
    }
}
