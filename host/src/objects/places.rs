//! Where the fields of an object stand that only a look at other objects finds wrong: kept with the object, as its text is not. Only
//! what is written and may be complained about, as there are many objects.

use std::sync::Arc;

use super::annotations;
use super::model::{FieldPlace, Kind};
use super::tree::{Field, Mark, Node};

/// The places of such fields.
pub(super) fn places(kind: Kind, root: &Node, lines_before: u32) -> Arc<[FieldPlace]> {
    let mut places = Places { root, lines_before, found: Vec::new() };
    let metadata = Field::ROOT.key("metadata");
    match kind {
        Kind::Service => places.service(),
        Kind::Endpoints => places.note(&metadata.key("name")),
        Kind::EndpointSlice => {
            places.note(&metadata.key("labels").key("kubernetes.io/service-name"));
            places.note(&Field::ROOT.key("addressType"));
        }
        Kind::Pod | Kind::Node | Kind::Namespace => {}
    }
    places.found.into()
}

struct Places<'a> {
    root: &'a Node,
    lines_before: u32,
    found: Vec<FieldPlace>,
}

impl Places<'_> {
    fn service(&mut self) {
        let spec = Field::SPEC;
        let (metadata, selector) = (Field::ROOT.key("metadata"), spec.key("selector"));
        for policy in annotations::POLICIES {
            self.note(&metadata.key("annotations").key(&annotations::name(policy)));
        }
        self.note(&selector);
        self.note(&spec.key("clusterIP"));
        self.note(&spec.key("clusterIPs").index(1));
        for key in ["ipFamilyPolicy", "loadBalancerIP", "loadBalancerClass", "healthCheckNodePort"] {
            self.note(&spec.key(key));
        }
        self.each(&spec.key("ipFamilies"), |places, field| places.note(field));
        self.each(&spec.key("externalIPs"), |places, field| places.note(field));
        let (status, ports) = (Field::ROOT.key("status"), spec.key("ports"));
        self.each(&status.key("loadBalancer").key("ingress"), |places, field| places.note(&field.key("ip")));
        // Pods are found by the target's name, endpoints that are written by hand by the port's.
        let by_hand = !self.root.has(&selector);
        self.each(&ports, |places, field| {
            places.note(&field.key("nodePort"));
            if by_hand {
                places.note_nearest(&field.key("name"));
            } else if places.root.at(&field.key("targetPort")).and_then(Node::text).is_some() {
                places.note(&field.key("targetPort"));
            }
        });
    }

    fn each(&mut self, list: &Field<'_>, note: impl Fn(&mut Self, &Field<'_>)) {
        for index in 0..self.root.at(list).map_or(0, |list| list.items().len()) {
            note(self, &list.index(index));
        }
    }

    fn note(&mut self, field: &Field<'_>) {
        if self.root.has(field) {
            self.note_nearest(field);
        }
    }

    /// A field, or where it would stand.
    fn note_nearest(&mut self, field: &Field<'_>) {
        if let Some(mark) = self.root.locate(field) {
            self.put(field, mark);
        }
    }

    fn put(&mut self, field: &Field<'_>, mark: Mark) {
        if mark != Mark::default() {
            let field = field.to_string().into_boxed_str();
            self.found.push(FieldPlace { field, line: mark.line + self.lines_before, column: mark.column });
        }
    }
}
