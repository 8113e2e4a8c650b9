//! Which Services' selectors can match which pods of a namespace, without trying each with each: a Service is filed under the first
//! pair of its selector, a class of pods under every pair of its labels.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::control::index::{ClassId, selects};
use crate::objects::model::Labels;

/// A label's key and value.
type Pair = (String, String);

/// The selectors and the classes of a namespace.
#[derive(Debug, Default)]
pub(in crate::control) struct Selectors {
    of: BTreeMap<String, Labels>,
    services: HashMap<Pair, BTreeSet<String>>,
    classes: HashMap<Pair, BTreeSet<ClassId>>,
}

impl Selectors {
    /// A class came: the Services whose selectors match it.
    pub(in crate::control) fn add_class(&mut self, class: ClassId, labels: &Labels) -> BTreeSet<String> {
        let mut matching = BTreeSet::new();
        for pair in pairs(labels) {
            let filed = self.services.get(&pair).into_iter().flatten();
            matching.extend(filed.filter(|service| self.of.get(*service).is_some_and(|selector| selects(selector, labels))).cloned());
            self.classes.entry(pair).or_default().insert(class);
        }
        matching
    }

    /// A class went.
    pub(in crate::control) fn remove_class(&mut self, class: ClassId, labels: &Labels) {
        for pair in pairs(labels) {
            unfile(&mut self.classes, &pair, &class);
        }
    }

    /// A Service's selector; `None` or an empty one matches nothing (kubernetes-semantics 1.5).
    pub(in crate::control) fn set(&mut self, service: &str, selector: Option<&Labels>) {
        if let Some(pair) = self.of.remove(service).as_ref().and_then(|before| pairs(before).next()) {
            unfile(&mut self.services, &pair, service);
        }
        let Some(selector) = selector else { return };
        if let Some(pair) = pairs(selector).next() {
            self.services.entry(pair).or_default().insert(service.to_owned());
            self.of.insert(service.to_owned(), selector.clone());
        }
    }

    /// The classes that have the first pair of a Service's selector: those that it may match.
    pub(in crate::control) fn candidates(&self, service: &str) -> Vec<ClassId> {
        let pair = self.of.get(service).and_then(|selector| pairs(selector).next());
        pair.and_then(|pair| self.classes.get(&pair)).into_iter().flatten().copied().collect()
    }
}

fn pairs(labels: &Labels) -> impl Iterator<Item = Pair> {
    labels.iter().map(|(key, value)| (key.clone(), value.clone()))
}

fn unfile<T: Ord + std::borrow::Borrow<Q>, Q: Ord + ?Sized>(filed: &mut HashMap<Pair, BTreeSet<T>>, pair: &Pair, entry: &Q) {
    if let Some(entries) = filed.get_mut(pair) {
        entries.remove(entry);
        if entries.is_empty() {
            filed.remove(pair);
        }
    }
}
