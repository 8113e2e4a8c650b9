//! `metadata`.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::model::{Kind, Labels, Location, Meta, ObjectKey};
use super::problems::Checks;
use super::syntax;
use super::tree::{Field, Node};

/// The namespace of an object that names none.
const DEFAULT_NAMESPACE: &str = "default";
/// All keys and values of an object's annotations, in bytes (apimachinery `TotalAnnotationSizeLimitB`).
const MAX_ANNOTATION_BYTES: usize = 256 * 1024;

/// Who a document says it is, before anything of it was checked.
pub(super) struct Identity<'a> {
    kind: Kind,
    namespace: &'a str,
    name: Option<&'a str>,
}

impl<'a> Identity<'a> {
    pub(super) fn of(kind: Kind, root: &'a Node) -> Self {
        let text = |key| root.child("metadata").and_then(|metadata| metadata.child(key)).and_then(Node::text);
        let namespace = if kind.is_namespaced() { text("namespace").unwrap_or(DEFAULT_NAMESPACE) } else { "" };
        Self { kind, namespace, name: text("name").filter(|name| !name.is_empty()) }
    }

    pub(super) fn key(&self) -> Option<ObjectKey> {
        Some(ObjectKey { kind: self.kind, namespace: self.namespace.to_owned(), name: self.name?.to_owned() })
    }
}

impl fmt::Display for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name, self.namespace) {
            (None, _) => write!(f, "{} without a name", self.kind.name()),
            (Some(name), "") => write!(f, "{} {name}", self.kind.name()),
            (Some(name), namespace) => write!(f, "{} {namespace}/{name}", self.kind.name()),
        }
    }
}

/// `Service default/web`, `Node n1`.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Identity { kind: self.kind, namespace: &self.namespace, name: Some(&self.name) }.fmt(f)
    }
}

/// Checks names, labels and annotations.
pub(super) fn meta(kind: Kind, metadata: ObjectMeta, location: Location, checks: &mut Checks<'_, '_>) -> Meta {
    let field = Field::ROOT.key("metadata");
    let name = metadata.name.unwrap_or_default();
    check_name(kind, &name, metadata.generate_name.is_some(), checks);
    let namespace = match metadata.namespace.filter(|namespace| !namespace.is_empty()) {
        _ if !kind.is_namespaced() => String::new(),
        None => DEFAULT_NAMESPACE.to_owned(),
        Some(namespace) => {
            checks.accept(&field.key("namespace"), syntax::dns_1123_label(&namespace));
            namespace
        }
    };
    let labels = metadata.labels.unwrap_or_default();
    check_labels(&labels, &field.key("labels"), checks);
    let annotations = metadata.annotations.unwrap_or_default();
    check_annotations(&annotations, &field.key("annotations"), checks);
    Meta { namespace, name, labels, annotations, terminating: metadata.deletion_timestamp.is_some(), location: Some(location) }
}

fn check_name(kind: Kind, name: &str, generated: bool, checks: &mut Checks<'_, '_>) {
    let metadata = Field::ROOT.key("metadata");
    let field = metadata.key("name");
    if name.is_empty() {
        let remedy = if generated { "generateName needs an API server: write a name" } else { "add metadata.name" };
        checks.error(&field, "a name is required", remedy.to_owned());
        return;
    }
    let checked = match kind {
        Kind::Service => syntax::dns_1035_label(name),
        Kind::Namespace => syntax::dns_1123_label(name),
        Kind::Node | Kind::Pod | Kind::Endpoints | Kind::EndpointSlice => syntax::dns_1123_subdomain(name),
    };
    checks.accept(&field, checked);
}

/// Keys and values of labels, or of a selector.
pub(super) fn check_labels(labels: &Labels, field: &Field<'_>, checks: &mut Checks<'_, '_>) {
    for (key, value) in labels {
        let field = field.key(key);
        checks.accept(&field, syntax::qualified_name(key));
        checks.accept(&field, syntax::label_value(value));
    }
}

fn check_annotations(annotations: &Labels, field: &Field<'_>, checks: &mut Checks<'_, '_>) {
    for key in annotations.keys() {
        checks.accept(&field.key(key), syntax::qualified_name(&key.to_lowercase()));
    }
    let bytes: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_ANNOTATION_BYTES {
        checks.error(field, format!("annotations have {bytes} bytes, {MAX_ANNOTATION_BYTES} are allowed"), None);
    }
}
