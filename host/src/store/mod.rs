//! The objects that hold now, each with the version of its last change.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::objects::{Kind, Meta, Object, ObjectKey};

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An object is new or different.
    Put(Object),
    /// An object is gone.
    Delete(ObjectKey),
}

/// Versioned objects in memory. Only a change of substance counts: an object that moved within its file has not changed.
#[derive(Debug, Default)]
pub struct Store {
    objects: BTreeMap<ObjectKey, Stored>,
    /// The same by where they stand in memory.
    known: FxHashMap<usize, ObjectKey>,
    version: u64,
}

#[derive(Debug)]
struct Stored {
    object: Object,
    version: u64,
}

impl Store {
    /// Makes `objects` all there is. Tells what that changed, deletions first. Of several objects with one key the first counts.
    ///
    /// Nearly all are the very objects that are here already. Those are known by their place in memory: comparing 20,000 names took longer
    /// than planning what had changed.
    pub fn replace(&mut self, objects: Vec<Object>) -> Vec<Change> {
        let mut kept = FxHashSet::with_capacity_and_hasher(self.known.len(), Default::default());
        let is_kept = |object: &Object| self.known.contains_key(&object.address());
        let fresh: Vec<&Object> = objects.iter().filter(|object| !(is_kept(object) && kept.insert(object.address()))).collect();
        let holder = |object: &Object| self.objects.get(&object.key()).map(|stored| stored.object.address());
        if fresh.iter().any(|object| holder(object).is_some_and(|address| kept.contains(&address))) {
            // Two with one key: which of them is first decides.
            kept.clear();
        }
        let mut wanted = BTreeMap::new();
        for object in objects.iter().filter(|object| !kept.contains(&object.address())) {
            wanted.entry(object.key()).or_insert_with(|| object.clone());
        }
        let gone = self.known.iter().filter(|(address, key)| !kept.contains(address) && !wanted.contains_key(key));
        let gone: BTreeSet<ObjectKey> = gone.map(|(_, key)| key.clone()).collect();
        self.apply(gone.into_iter().map(Change::Delete).chain(wanted.into_values().map(Change::Put)).collect())
    }

    /// Applies changes; gives back those that changed something.
    pub fn apply(&mut self, changes: Vec<Change>) -> Vec<Change> {
        changes.into_iter().filter(|change| self.apply_one(change)).collect()
    }

    fn apply_one(&mut self, change: &Change) -> bool {
        match change {
            Change::Delete(key) => {
                let removed = self.objects.remove(key);
                if let Some(stored) = &removed {
                    self.known.remove(&stored.object.address());
                    self.version += 1;
                }
                removed.is_some()
            }
            Change::Put(object) => {
                let key = object.key();
                let before = self.objects.get(&key);
                let same = before.filter(|stored| is_same(&stored.object, object)).map(|stored| stored.version);
                let version = same.unwrap_or(self.version + 1);
                self.version = self.version.max(version);
                if let Some(before) = before {
                    self.known.remove(&before.object.address());
                }
                self.known.insert(object.address(), key.clone());
                self.objects.insert(key, Stored { object: object.clone(), version });
                same.is_none()
            }
        }
    }

    /// Grows with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The object with this key.
    pub fn object(&self, key: &ObjectKey) -> Option<&Object> {
        self.objects.get(key).map(|stored| &stored.object)
    }

    /// The version in which an object last changed.
    pub fn object_version(&self, key: &ObjectKey) -> Option<u64> {
        self.objects.get(key).map(|stored| stored.version)
    }

    /// All objects, by kind, namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Object> {
        self.objects.values().map(|stored| &stored.object)
    }

    /// The objects of a kind, by namespace and name.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        let first = ObjectKey { kind, namespace: String::new(), name: String::new() };
        self.objects.range(first..).take_while(move |(key, _)| key.kind == kind).map(|(_, stored)| &stored.object)
    }
}

/// Equal but for where they were read.
fn is_same(a: &Object, b: &Object) -> bool {
    fn moved<T: Clone>(a: &T, to: &Meta, meta: fn(&mut T) -> &mut Meta) -> T {
        let mut a = a.clone();
        meta(&mut a).location.clone_from(&to.location);
        a
    }
    if a.meta().location == b.meta().location {
        return a == b;
    }
    match (a, b) {
        (Object::Namespace(a), Object::Namespace(b)) => moved(&**a, b, |meta| meta) == **b,
        (Object::Node(a), Object::Node(b)) => moved(&**a, &b.meta, |node| &mut node.meta) == **b,
        (Object::Pod(a), Object::Pod(b)) => moved(&**a, &b.meta, |pod| &mut pod.meta) == **b,
        (Object::Service(a), Object::Service(b)) => moved(&**a, &b.meta, |service| &mut service.meta) == **b,
        (Object::Endpoints(a), Object::Endpoints(b)) => moved(&**a, &b.meta, |endpoints| &mut endpoints.meta) == **b,
        (Object::EndpointSlice(a), Object::EndpointSlice(b)) => moved(&**a, &b.meta, |slice| &mut slice.meta) == **b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::objects::{Location, Node};

    fn node(name: &str, zone: &str, line: u32) -> Object {
        let location = Some(Location { file: Arc::from(std::path::Path::new("nodes.yaml")), line, fields: Arc::default() });
        let meta = Meta { name: name.to_owned(), location, ..Meta::default() };
        Object::Node(Arc::new(Node { meta, zone: Some(zone.to_owned()), ..Node::default() }))
    }

    fn namespace(name: &str) -> Object {
        Object::Namespace(Arc::new(Meta { name: name.to_owned(), ..Meta::default() }))
    }

    #[test]
    fn replacing_tells_only_what_changed() {
        let mut store = Store::default();
        assert_eq!(store.replace(vec![node("a", "x", 1), node("b", "x", 2), namespace("n")]).len(), 3);
        let changes = store.replace(vec![node("b", "y", 2), namespace("n"), node("c", "x", 3)]);
        let a = node("a", "x", 1).key();
        assert_eq!(changes, [Change::Delete(a.clone()), Change::Put(node("b", "y", 2)), Change::Put(node("c", "x", 3))]);
        assert_eq!(store.object(&a), None);
        assert_eq!(store.version(), 6);
        assert_eq!(store.object_version(&namespace("n").key()), Some(1));
        assert_eq!(store.of_kind(Kind::Node).count(), 2);
        assert_eq!(store.of_kind(Kind::Pod).count(), 0);
        assert_eq!(store.iter().count(), 3);
    }

    #[test]
    fn a_moved_object_has_not_changed_but_its_place_is_known() {
        let mut store = Store::default();
        store.replace(vec![node("a", "x", 1)]);
        assert_eq!(store.replace(vec![node("a", "x", 7)]), []);
        assert_eq!(store.version(), 1);
        assert_eq!(store.object(&node("a", "x", 7).key()), Some(&node("a", "x", 7)));
    }

    #[test]
    fn the_first_of_two_counts() {
        let mut store = Store::default();
        assert_eq!(store.replace(vec![node("a", "x", 1), node("a", "y", 2)]), [Change::Put(node("a", "x", 1))]);
    }

    #[test]
    fn an_object_that_comes_first_takes_the_place_of_one_that_is_known() {
        let (known, first) = (node("a", "x", 1), node("a", "y", 2));
        let mut store = Store::default();
        store.replace(vec![namespace("n"), known.clone()]);
        assert_eq!(store.replace(vec![namespace("n"), known.clone()]), []);
        assert_eq!(store.replace(vec![namespace("n"), first.clone(), known.clone()]), [Change::Put(first.clone())]);
        assert_eq!(store.replace(vec![namespace("n"), known.clone(), first]), [Change::Put(known.clone())]);
        assert_eq!(store.replace(vec![known]), [Change::Delete(namespace("n").key())]);
    }

    #[test]
    fn deleting_what_is_not_there_changes_nothing() {
        let mut store = Store::default();
        assert_eq!(store.apply(vec![Change::Delete(namespace("n").key())]), []);
        assert_eq!(store.version(), 0);
    }
}
