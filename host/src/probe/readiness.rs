//! What probes say, folded into what the rest of the host hears: one word a pod, one an endpoint. Pure; it stands beside the controller,
//! so that a pod that asks for a probe is not ready from the very table on in which it first appears.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use imbl::OrdMap;

use super::schedule::Flip;
use super::targets::{Found, Owner, ProbeKey, Scope, Target, of_pod, of_service};
use crate::objects::{Diagnostic, EndpointSlice, Endpoints, Kind, Object, ObjectKey, Service};
use crate::store::{Change, Store};

/// What the prober is given: cheap to clone, and cheap to compare with the one before.
pub type Watched = OrdMap<ProbeKey, Life>;

/// A target and which life of its key this is. A pod that comes back under its name with another address is another pod: what was said of
/// the one before does not count for it, however late it is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Never used twice.
    pub id: u64,
    /// What to probe.
    pub target: Target,
}

/// What the controller is to hear. `ready` is `None` when nobody probes it (any more): what is written of it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Of a pod: ready when all its probed containers are.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        pod: String,
        /// What the probes say.
        ready: Option<bool>,
    },
    /// Of an endpoint written by hand.
    Endpoint {
        /// The Service's namespace.
        namespace: String,
        /// The Service's name.
        service: String,
        /// The endpoint.
        address: SocketAddr,
        /// What the probe says.
        ready: Option<bool>,
    },
}

/// What changes of objects mean for readiness.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// For the controller, before it makes a table of the same changes.
    pub words: Vec<Word>,
    /// For people: probes that are not made. Each is told once, until it changes.
    pub diagnostics: Vec<Diagnostic>,
}

/// Who is probed and what is known of them.
#[derive(Debug, Default)]
pub struct Readiness {
    watched: Watched,
    /// Those found ready. A target that was never asked is not ready, as with the kubelet.
    ready: BTreeSet<ProbeKey>,
    not_probed: BTreeMap<Owner, Vec<Diagnostic>>,
    /// Whether there were Node objects when last looked.
    nodes_exist: bool,
    lives: u64,
}

impl Readiness {
    /// What is to be probed now.
    pub fn watched(&self) -> Watched {
        self.watched.clone()
    }

    /// Takes changes in that are already in the store. Only owners that a change touches are looked at, unless the first
    /// Node came or the last one went.
    pub fn update(&mut self, changes: &[Change], store: &Store, node: &str, allow_exec: bool) -> Told {
        let nodes_exist = store.of_kind(Kind::Node).next().is_some();
        let scope = Scope { node, nodes_exist, allow_exec };
        let toggled = std::mem::replace(&mut self.nodes_exist, nodes_exist) != nodes_exist;
        let owners = if toggled { self.everyone(store) } else { touched(changes, store) };
        let mut told = Told::default();
        for owner in owners {
            let found = look(&owner, store, &scope);
            self.watch(owner, found, &mut told);
        }
        told
    }

    /// Takes an answer in; `None` when it changes nothing that is heard outside.
    pub fn flip(&mut self, flip: &Flip) -> Option<Word> {
        if self.watched.get(&flip.key).is_none_or(|life| life.id != flip.life) {
            return None;
        }
        let owner = flip.key.owner();
        let before = self.words(&owner);
        if flip.ready {
            self.ready.insert(flip.key.clone())
        } else {
            self.ready.remove(&flip.key)
        };
        self.words(&owner).into_iter().find(|word| !before.contains(word))
    }

    fn everyone(&self, store: &Store) -> BTreeSet<Owner> {
        let known = self.watched.keys().map(ProbeKey::owner).chain(self.not_probed.keys().cloned());
        let pods = store.of_kind(Kind::Pod).map(|pod| {
            let meta = pod.meta();
            Owner::Pod { namespace: meta.namespace.clone(), name: meta.name.clone() }
        });
        known.chain(pods).chain(services(store).map(service_owner)).collect()
    }

    /// Replaces an owner's targets.
    fn watch(&mut self, owner: Owner, found: Found, told: &mut Told) {
        let before = self.words(&owner);
        let wanted: BTreeSet<&ProbeKey> = found.targets.iter().map(|target| &target.key).collect();
        let gone: Vec<ProbeKey> = self.keys(&owner).filter(|key| !wanted.contains(key)).cloned().collect();
        for key in &gone {
            self.watched.remove(key);
            self.ready.remove(key);
        }
        for target in found.targets {
            match self.watched.get(&target.key) {
                Some(life) if life.target == target => {}
                // Another way of asking the same one: what is known stands until the new probe says otherwise.
                Some(life) if life.target.address.ip() == target.address.ip() => {
                    let id = life.id;
                    self.watched.insert(target.key.clone(), Life { id, target });
                }
                _ => {
                    self.ready.remove(&target.key);
                    self.lives += 1;
                    self.watched.insert(target.key.clone(), Life { id: self.lives, target });
                }
            }
        }
        let after = self.words(&owner);
        told.words.extend(before.iter().filter_map(|word| word.withdrawn(&after)));
        told.words.extend(after.into_iter().filter(|word| !before.contains(word)));
        let known = self.not_probed.remove(&owner).unwrap_or_default();
        let news = found.diagnostics.iter().filter(|diagnostic| !known.iter().any(|known| known.same_finding(diagnostic)));
        told.diagnostics.extend(news.cloned());
        if !found.diagnostics.is_empty() {
            self.not_probed.insert(owner, found.diagnostics);
        }
    }

    /// What is said of an owner now.
    fn words(&self, owner: &Owner) -> Vec<Word> {
        match owner {
            Owner::Pod { namespace, name } => {
                let ready = self.keys(owner).map(|key| self.ready.contains(key)).reduce(|all, ready| all && ready);
                let word = ready.map(|ready| Word::Pod { namespace: namespace.clone(), pod: name.clone(), ready: Some(ready) });
                word.into_iter().collect()
            }
            Owner::Service { namespace, name } => {
                let addresses = self.keys(owner).filter_map(|key| match key {
                    ProbeKey::Endpoint { address, .. } => Some((*address, self.ready.contains(key))),
                    ProbeKey::Container { .. } => None,
                });
                let word =
                    |(address, ready)| Word::Endpoint { namespace: namespace.clone(), service: name.clone(), address, ready: Some(ready) };
                addresses.map(word).collect()
            }
        }
    }

    /// An owner's targets: they stand beside each other.
    fn keys<'a>(&'a self, owner: &'a Owner) -> impl Iterator<Item = &'a ProbeKey> {
        let first = match owner {
            Owner::Pod { namespace, name } => {
                ProbeKey::Container { namespace: namespace.clone(), pod: name.clone(), container: String::new() }
            }
            Owner::Service { namespace, name } => {
                ProbeKey::Endpoint { namespace: namespace.clone(), service: name.clone(), address: LEAST_ADDRESS }
            }
        };
        self.watched.range(first..).map(|(key, _)| key).take_while(move |key| key.is_of(owner))
    }
}

impl Word {
    /// What to say when nobody says anything about the same any more.
    fn withdrawn(&self, after: &[Self]) -> Option<Self> {
        let mut withdrawn = self.clone();
        match &mut withdrawn {
            Self::Pod { ready, .. } | Self::Endpoint { ready, .. } => *ready = None,
        }
        (!after.iter().any(|word| word.same_subject(self))).then_some(withdrawn)
    }

    fn same_subject(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pod { namespace: a, pod: b, .. }, Self::Pod { namespace: c, pod: d, .. }) => (a, b) == (c, d),
            (Self::Endpoint { namespace: a, service: b, address: c, .. }, Self::Endpoint { namespace: d, service: e, address: f, .. }) => {
                (a, b, c) == (d, e, f)
            }
            _ => false,
        }
    }
}

/// The owners whose targets may differ after these changes.
fn touched(changes: &[Change], store: &Store) -> BTreeSet<Owner> {
    let (mut touched, mut namespaces) = (BTreeSet::new(), BTreeSet::new());
    for change in changes {
        let ObjectKey { kind, namespace, name } = match change {
            Change::Put(object) => object.key(),
            Change::Delete(key) => key.clone(),
        };
        match kind {
            Kind::Pod => touched.extend([Owner::Pod { namespace, name }]),
            Kind::Service | Kind::Endpoints => touched.extend([Owner::Service { namespace, name }]),
            // A slice that is gone does not say whose it was.
            Kind::EndpointSlice => namespaces.extend([namespace]),
            Kind::Node | Kind::Namespace => {}
        }
    }
    if !namespaces.is_empty() {
        touched.extend(services(store).filter(|service| namespaces.contains(&service.meta.namespace)).map(service_owner));
    }
    touched
}

/// What is to be probed of an owner as it stands in the store.
fn look(owner: &Owner, store: &Store, scope: &Scope<'_>) -> Found {
    let object =
        |kind, namespace: &String, name: &String| store.object(&ObjectKey { kind, namespace: namespace.clone(), name: name.clone() });
    match owner {
        Owner::Pod { namespace, name } => match object(Kind::Pod, namespace, name) {
            Some(Object::Pod(pod)) => of_pod(pod, scope),
            _ => Found::default(),
        },
        Owner::Service { namespace, name } => {
            let Some(Object::Service(service)) = object(Kind::Service, namespace, name) else { return Found::default() };
            // Few Services are probed, and the slices of a Service are looked for among all.
            if service.options.probe.is_none() {
                return Found::default();
            }
            let endpoints: Option<&Endpoints> = match object(Kind::Endpoints, namespace, name) {
                Some(Object::Endpoints(endpoints)) => Some(endpoints),
                _ => None,
            };
            of_service(service, endpoints, slices(store, service), scope)
        }
    }
}

fn slices<'a>(store: &'a Store, service: &'a Service) -> impl Iterator<Item = &'a EndpointSlice> {
    store.of_kind(Kind::EndpointSlice).filter_map(move |object| match object {
        Object::EndpointSlice(slice) => {
            let of_it = slice.meta.namespace == service.meta.namespace && slice.service.as_deref() == Some(&service.meta.name);
            of_it.then_some(&**slice)
        }
        _ => None,
    })
}

/// The Services that ask for a probe.
fn services(store: &Store) -> impl Iterator<Item = &Service> {
    store.of_kind(Kind::Service).filter_map(|object| match object {
        Object::Service(service) if service.options.probe.is_some() => Some(&**service),
        _ => None,
    })
}

fn service_owner(service: &Service) -> Owner {
    Owner::Service { namespace: service.meta.namespace.clone(), name: service.meta.name.clone() }
}

/// No address is ordered before it.
const LEAST_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
