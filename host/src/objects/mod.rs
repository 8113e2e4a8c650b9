//! Kubernetes objects: parsed strictly, defaulted, validated. What comes out cannot be wrong by itself; what is wrong is said with
//! file, line, field and remedy, and stops neither the other documents of its file nor the other files.
//!
//! text → `yaml` documents with positions → `typed` k8s-openapi types → one validator a kind → `model`.

mod annotations;
mod diagnostic;
mod endpoints;
mod kinds;
mod metadata;
pub mod model;
mod node;
mod places;
mod pod;
mod probe_annotations;
mod probes;
mod problems;
mod quantity;
pub mod reference;
mod review;
mod service;
mod service_addresses;
mod service_ports;
mod slice;
mod spelling;
mod syntax;
mod tree;
mod typed;
pub mod update;
mod write;
mod yaml;

#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use kinds::{Meaning, meaning};
use metadata::Identity;
pub use model::*;
use problems::{Checks, Problems};
pub use review::review;
use tree::{Field, Node as Tree, Value};
use typed::typed;
pub use write::{MANAGED_BY, MIRRORING_CONTROLLER, SERVICE_NAME, SLICE_CONTROLLER, list_to_json, to_json};

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The objects that are right.
    pub objects: Vec<Object>,
    /// Everything that is wrong or suspicious.
    pub diagnostics: Vec<Diagnostic>,
    /// Objects that are in the file, but have errors.
    pub failed: Vec<ObjectKey>,
    /// The file may hold more objects than can be told: a document is unreadable, or the last one has errors, as in a file that
    /// is still being written.
    pub incomplete: bool,
}

impl Parsed {
    /// Whether there is nothing in the file, not even something wrong or foreign.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.diagnostics.is_empty() && !self.incomplete
    }
}

/// Reads the manifests of one file: YAML or JSON, any number of documents, Lists taken apart.
pub fn parse(file: &Path, text: &str) -> Parsed {
    Manifest::default().parse(file, text, &[])
}

/// One file that is read again and again: a document that stands where it stood, as it was, is not read again. (Of the 8 ms that a file of
/// 100 Services and their Endpoints took, nearly all went into YAML.)
#[derive(Debug, Default)]
pub struct Manifest {
    documents: FxHashMap<(TextDigest, u32), Piece>,
}

/// SHA-256.
type TextDigest = [u8; 32];

/// The objects in use, found by key when one is asked for.
struct Before<'a> {
    objects: &'a [Object],
    by_key: OnceCell<FxHashMap<ObjectKey, &'a Object>>,
}

impl<'a> Before<'a> {
    fn object(&self, key: &ObjectKey) -> Option<&'a Object> {
        self.by_key.get_or_init(|| self.objects.iter().map(|object| (object.key(), object)).collect()).get(key).copied()
    }
}

/// What one document holds.
#[derive(Clone, Debug)]
struct Piece {
    parsed: Parsed,
    outcome: Outcome,
}

impl Manifest {
    /// What the file holds now. `before`: its objects that are in use, which an update may not change at will.
    pub fn parse(&mut self, file: &Path, text: &str, before: &[Object]) -> Parsed {
        let mut known = std::mem::take(&mut self.documents);
        let before = Before { objects: before, by_key: OnceCell::new() };
        let mut whole = Parsed::default();
        let (mut unclear, mut last_is_wrong) = (false, false);
        for document in yaml::documents(text) {
            let key = (Sha256::digest(document.text).into(), document.lines_before);
            let piece = known.remove(&key).unwrap_or_else(|| read_document(file, &document, &before));
            unclear |= piece.outcome == Outcome::Unknown;
            last_is_wrong = piece.parsed.diagnostics.iter().any(Diagnostic::is_error);
            whole.objects.extend_from_slice(&piece.parsed.objects);
            whole.diagnostics.extend_from_slice(&piece.parsed.diagnostics);
            whole.failed.extend_from_slice(&piece.parsed.failed);
            self.documents.insert(key, piece);
        }
        whole.incomplete = unclear || last_is_wrong;
        whole
    }
}

fn read_document(file: &Path, document: &yaml::Document<'_>, before: &Before<'_>) -> Piece {
    let name = file.display().to_string();
    let mut reader = Reader { file: Arc::from(file), name: &name, before, parsed: Parsed::default() };
    let outcome = match document.read() {
        Ok(root) => reader.document(root, document.lines_before),
        Err(error) => reader.unreadable(error, document.lines_before),
    };
    Piece { parsed: reader.parsed, outcome }
}

/// What became of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is an object, right or wrong, or nothing of ours.
    Told,
    /// It can't be told which object it is.
    Unknown,
}

struct Reader<'a, 'b> {
    file: Arc<Path>,
    name: &'a str,
    before: &'a Before<'b>,
    parsed: Parsed,
}

impl Reader<'_, '_> {
    fn unreadable(&mut self, error: yaml::SyntaxError, lines_before: u32) -> Outcome {
        self.parsed.diagnostics.push(Diagnostic {
            severity: Severity::Error,
            file: Some(self.name.to_owned()),
            line: error.mark.map(|mark| mark.line + lines_before),
            column: error.mark.map(|mark| mark.column),
            object: None,
            field: None,
            message: error.message,
            remedy: Some(error.remedy.to_owned()),
        });
        Outcome::Unknown
    }

    fn document(&mut self, root: Tree, lines_before: u32) -> Outcome {
        let kind = root.child("kind").and_then(Tree::text);
        match kind.and_then(kinds::list_of) {
            Some(items_are) => self.list(root, items_are, lines_before),
            None => self.object(root, None, lines_before),
        }
    }

    fn list(&mut self, root: Tree, items_are: Option<Kind>, lines_before: u32) -> Outcome {
        let Value::Map(entries) = root.value else { return Outcome::Unknown };
        let mut outcome = Outcome::Told;
        for item in entries.into_iter().filter(|entry| entry.key == "items").flat_map(|entry| match entry.node.value {
            Value::List(items) => items,
            _ => Vec::new(),
        }) {
            if self.object(item, items_are, lines_before) == Outcome::Unknown {
                outcome = Outcome::Unknown;
            }
        }
        outcome
    }

    /// One object; `known` is its kind where a list says it for all its items.
    fn object(&mut self, mut root: Tree, known: Option<Kind>, lines_before: u32) -> Outcome {
        let mut problems = Problems::new(self.name, lines_before);
        let (outcome, object) = match meaning(&root, known, &mut problems) {
            Meaning::Ours(kind) => {
                let identity = Identity::of(kind, &root);
                problems.about(identity.to_string());
                let key = identity.key();
                let (file, fields) = (Arc::clone(&self.file), places::places(kind, &root, lines_before));
                let location = Location { file, line: root.mark.line + lines_before, fields };
                let before = key.as_ref().and_then(|key| self.before.object(key));
                let object = build(kind, &mut root, location, &mut problems, before).filter(|_| !problems.has_errors());
                if object.is_none() {
                    self.parsed.failed.extend(key.clone());
                }
                (if key.is_some() { Outcome::Told } else { Outcome::Unknown }, object)
            }
            Meaning::Foreign if root.child("metadata").is_some() => (Outcome::Told, None),
            // No object either, so far: `kind: Ser` may still become one.
            Meaning::Foreign => (Outcome::Unknown, None),
            Meaning::Unclear => (Outcome::Unknown, None),
        };
        self.parsed.objects.extend(object);
        self.parsed.diagnostics.append(&mut problems.into_diagnostics());
        outcome
    }
}

/// `None` when nothing can be made of it; otherwise an object, which counts if no error was found. `before` is what it was.
fn build(kind: Kind, root: &mut Tree, location: Location, problems: &mut Problems<'_>, before: Option<&Object>) -> Option<Object> {
    use k8s_openapi::api::core::v1 as core;
    use k8s_openapi::api::discovery::v1 as discovery;
    let object = match kind {
        Kind::Namespace => {
            let (typed, mut checks) = read::<core::Namespace>(root, problems)?;
            Object::Namespace(Arc::new(metadata::meta(kind, typed.metadata, location, &mut checks)))
        }
        Kind::Node => {
            let (typed, mut checks) = read::<core::Node>(root, problems)?;
            Object::Node(Arc::new(node::node(typed, location, &mut checks)))
        }
        Kind::Pod => {
            let (typed, mut checks) = read::<core::Pod>(root, problems)?;
            Object::Pod(Arc::new(pod::pod(typed, location, &mut checks)))
        }
        Kind::Service => {
            let (mut typed, mut checks) = read::<core::Service>(root, problems)?;
            if let (Some(before), Some(now)) = (before, &mut typed.spec) {
                change_type(before, now, &mut checks);
            }
            Object::Service(Arc::new(service::service(typed, location, &mut checks)))
        }
        Kind::Endpoints => {
            let (typed, mut checks) = read::<core::Endpoints>(root, problems)?;
            Object::Endpoints(Arc::new(endpoints::endpoints(typed, location, &mut checks)))
        }
        Kind::EndpointSlice => {
            let (typed, mut checks) = read::<discovery::EndpointSlice>(root, problems)?;
            let slice = slice::slice(typed, location, &mut checks);
            if let Some(Object::EndpointSlice(before)) = before {
                update::check_slice(before, &slice, &mut checks);
            }
            Object::EndpointSlice(Arc::new(slice))
        }
    };
    Some(object)
}

/// Leaves out what only the Service's old type needed.
fn change_type(before: &Object, now: &mut k8s_openapi::api::core::v1::ServiceSpec, checks: &mut Checks<'_, '_>) {
    let before = serde_json::from_value::<k8s_openapi::api::core::v1::Service>(to_json(before));
    let Some(before) = before.ok().and_then(|service| service.spec) else { return };
    let shed = update::shed_dependent(&before, now);
    if !shed.is_empty() {
        let message = format!("is no longer {}: {} is left out", before.type_.unwrap_or_default(), shed.join(", "));
        checks.warning(&Field::SPEC.key("type"), message, "remove it: a new Service of this type may not have it".to_owned());
    }
}

fn read<'a, 'p, T: DeserializeOwned>(root: &'a mut Tree, problems: &'a mut Problems<'p>) -> Option<(T, Checks<'a, 'p>)> {
    let (value, findings) = typed::<T>(root);
    for finding in findings {
        problems.report(Severity::Error, finding);
    }
    Some((value?, Checks { root, problems }))
}
