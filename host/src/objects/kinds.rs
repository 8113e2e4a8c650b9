//! Which documents are ours: the kinds that Pointsman reads, those it leaves alone, and those that are probably misspelt.

use super::model::{Kind, Severity};
use super::problems::Problems;
use super::spelling;
use super::tree::{Node, Value};
use super::typed::Finding;

/// What a document is to us.
pub(super) enum Meaning {
    /// An object that Pointsman reads.
    Ours(Kind),
    /// Something else.
    Foreign,
    /// A mistake, already reported.
    Unclear,
}

const KINDS: [(Kind, &str, &str); 6] = [
    (Kind::Service, "Service", "v1"),
    (Kind::Endpoints, "Endpoints", "v1"),
    (Kind::EndpointSlice, "EndpointSlice", "discovery.k8s.io/v1"),
    (Kind::Pod, "Pod", "v1"),
    (Kind::Node, "Node", "v1"),
    (Kind::Namespace, "Namespace", "v1"),
];

impl Kind {
    /// As in a manifest's `kind`.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(kind, ..)| *kind == self).map_or("", |(_, name, _)| name)
    }

    /// Whether its objects live in a namespace.
    pub fn is_namespaced(self) -> bool {
        !matches!(self, Self::Node | Self::Namespace)
    }
}

/// `List`: items that each say what they are (`Some(None)`); `ServiceList` and the like: items of that kind.
pub(super) fn list_of(kind: &str) -> Option<Option<Kind>> {
    let item = kind.strip_suffix("List")?;
    if item.is_empty() { Some(None) } else { KINDS.iter().find(|(_, name, _)| *name == item).map(|(kind, ..)| Some(*kind)) }
}

/// Tells from `kind` and `apiVersion` what a document is. `known`: what its list says.
pub(super) fn meaning(root: &Node, known: Option<Kind>, problems: &mut Problems<'_>) -> Meaning {
    let mut error = |node: &Node, field: &str, message: String, remedy: String| {
        let finding = Finding { mark: Some(node.mark), field: field.to_owned(), message, remedy: Some(remedy) };
        problems.report(Severity::Error, finding);
    };
    if !matches!(root.value, Value::Map(_)) {
        error(root, "", format!("expected an object, found {}", root.value), "an object begins with apiVersion: and kind:".to_owned());
        return Meaning::Unclear;
    }
    let Some(kind_node) = root.child("kind") else {
        return match known {
            Some(kind) => Meaning::Ours(kind),
            None => {
                error(root, "", "`kind` is missing".to_owned(), "an object begins with apiVersion: and kind:".to_owned());
                Meaning::Unclear
            }
        };
    };
    let Some(kind_name) = kind_node.text() else {
        error(kind_node, "kind", format!("expected text, found {}", kind_node.value), format!("one of {}", names()));
        return Meaning::Unclear;
    };
    let version = root.child("apiVersion");
    let Some((kind, name, right_version)) = KINDS.into_iter().find(|(_, name, _)| *name == kind_name) else {
        if let Some(near) = spelling::suggestion(kind_name, KINDS.map(|(_, name, _)| name)) {
            error(kind_node, "kind", format!("unknown kind \"{kind_name}\""), format!("did you mean {near}?"));
            return Meaning::Unclear;
        }
        ignored(kind_node, format!("{kind_name} is ignored"), problems);
        return Meaning::Foreign;
    };
    match version {
        None if known.is_some() => Meaning::Ours(kind),
        None => {
            error(kind_node, "apiVersion", "`apiVersion` is missing".to_owned(), format!("add apiVersion: {right_version}"));
            Meaning::Ours(kind)
        }
        Some(version) => match version.text() {
            Some(text) if text == right_version => Meaning::Ours(kind),
            Some(text) if is_foreign_group(text) => {
                ignored(kind_node, format!("{name} of {text} is ignored"), problems);
                Meaning::Foreign
            }
            text => {
                let found = text.map_or_else(|| version.value.to_string(), |text| format!("\"{text}\""));
                let message = format!("{found} is not the apiVersion of {name}");
                error(version, "apiVersion", message, format!("write apiVersion: {right_version}"));
                Meaning::Unclear
            }
        },
    }
}

fn ignored(kind: &Node, message: String, problems: &mut Problems<'_>) {
    let remedy = Some(format!("Pointsman reads {}", names()));
    problems.report(Severity::Warning, Finding { mark: Some(kind.mark), field: "kind".to_owned(), message, remedy });
}

/// `serving.knative.dev/v1` has a Service of its own; Kubernetes' own groups have no dot or end in `.k8s.io`.
fn is_foreign_group(version: &str) -> bool {
    version.split_once('/').is_some_and(|(group, _)| group.contains('.') && !group.ends_with(".k8s.io"))
}

fn names() -> String {
    KINDS.map(|(_, name, _)| name).join(", ")
}
