//! The way of a change, without sockets: files → store → controller → planners → table. `run`, `route` and `check` all stand on it, so
//! what they say of a manifest cannot differ.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::control::{Controller, Settings, Update};
use crate::objects::model::Pod;
use crate::objects::reference::{Reference, Repositories};
use crate::objects::{Diagnostic, Kind, Object, ObjectKey, Severity, review};
use crate::oci::{Cache, Client};
use crate::policy::Refusal;
use crate::policy::catalogue::{Absence, Catalogue};
use crate::policy::contract::Node;
use crate::policy::planners::Planners;
use crate::policy::registry::{Registry, Swapped};
use crate::probe::{Flip, Readiness, Watched, Word};
use crate::source::{Files, Loaded};
use crate::store::{Change, Store};

use super::references::References;

/// Everything between the manifests and the table.
pub struct Core {
    files: Files,
    store: Store,
    controller: Controller,
    planners: Planners,
    registry: Arc<Registry>,
    /// As the policies know it.
    node: Node,
    /// What was said of the files last time, so that only news is told.
    told: Vec<Diagnostic>,
    /// What was read and not looked through yet.
    unreviewed: Option<Loaded>,
    /// What probes say; none where nobody probes, and what is written of readiness stands.
    probing: Option<Probing>,
    references: References,
}

struct Probing {
    readiness: Readiness,
    allow_exec: bool,
}

impl Core {
    /// A core that reads these files and folders.
    pub fn new(paths: Vec<PathBuf>, settings: Settings, registry: Arc<Registry>) -> Self {
        let node = settings.node.clone();
        let mut controller = Controller::new(settings);
        controller.catalogue(registry.catalogue());
        Self {
            files: Files::new(paths),
            store: Store::default(),
            controller,
            planners: Planners::new(Arc::clone(&registry)),
            registry,
            node,
            told: vec![],
            unreviewed: None,
            probing: None,
            references: References::new(Vec::new(), false),
        }
    }

    /// The same, where Services may name policies in these repositories. `pulls`: somebody fetches what is [`Core::wanted`].
    pub fn allowing(mut self, allowed: Vec<Repositories>, pulls: bool) -> Self {
        self.references = References::new(allowed, pulls);
        self
    }

    /// The same, of a host that probes: what asks for a probe is not ready until one has succeeded. `allow_exec`: also by commands.
    pub fn probing(mut self, allow_exec: bool) -> Self {
        self.probing = Some(Probing { readiness: Readiness::default(), allow_exec });
        self
    }

    /// Reads the files again. An endpoint that left is masked in the table that comes back, which needs no planner. What is wrong with the
    /// files is told by [`Core::findings`], which may take longer.
    pub fn reload(&mut self, now_ms: u64) -> Option<Update> {
        let Loaded { objects, mut diagnostics } = self.files.reload();
        let changes = self.store.replace(objects.clone());
        let probing = self.probing.as_mut();
        let told = probing.map(|probing| probing.readiness.update(&changes, &self.store, &self.node.name, probing.allow_exec));
        let services_changed = changes.iter().any(of_a_service);
        self.controller.apply(changes, now_ms);
        if services_changed {
            self.name_references();
        }
        if let Some(told) = told {
            diagnostics.extend(told.diagnostics);
            told.words.iter().for_each(|word| self.heard(word, now_ms));
        }
        self.unreviewed = Some(Loaded { objects, diagnostics });
        self.controller.masked_table()
    }

    /// Whether there are so many objects that looking through them would hold up the next change.
    pub fn is_large(&self) -> bool {
        self.store.len() > MANY_OBJECTS
    }

    /// What has come to be wrong: with the files since they were read last, and, of `arisen`, with what their objects ask for. The review
    /// of the objects names the same lack with what nearly matches; once is enough.
    pub fn findings(&mut self, mut arisen: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let mut news = Vec::new();
        if let Some(Loaded { objects, mut diagnostics }) = self.unreviewed.take() {
            diagnostics.extend(review(&objects));
            let known: HashSet<_> = self.told.iter().map(Diagnostic::finding).collect();
            news.extend(diagnostics.iter().filter(|diagnostic| !known.contains(&diagnostic.finding())).cloned());
            drop(known);
            self.told = diagnostics;
        }
        if !arisen.is_empty() {
            let subjects: HashSet<_> = self.told.iter().filter_map(Diagnostic::subject).collect();
            arisen.retain(|diagnostic| diagnostic.subject().is_none_or(|subject| !subjects.contains(&subject)));
        }
        news.extend(arisen);
        news
    }

    /// What the host is to probe.
    pub fn watched(&self) -> Watched {
        self.probing.as_ref().map(|probing| probing.readiness.watched()).unwrap_or_default()
    }

    /// Takes a probe's answer in. What is no longer ready is masked in the table that comes back.
    pub fn flipped(&mut self, flip: &Flip, now_ms: u64) -> Option<Update> {
        let word = self.probing.as_mut()?.readiness.flip(flip)?;
        self.heard(&word, now_ms);
        self.controller.masked_table()
    }

    fn heard(&mut self, word: &Word, now_ms: u64) {
        match word {
            Word::Pod { namespace, pod, ready } => self.controller.pod_ready(namespace, pod, *ready, now_ms),
            Word::Endpoint { namespace, service, address, ready } => self.controller.endpoint_ready(namespace, service, *address, *ready),
        };
    }

    /// Whether load balancers should send anything to this node (KEP-3836): not when its Node object is gone while others are there, or says
    /// that the autoscaler is about to delete it.
    pub fn node_eligible(&self) -> bool {
        let mut nodes = self.store.of_kind(Kind::Node).peekable();
        nodes.peek().is_none()
            || nodes.any(|object| matches!(object, Object::Node(node) if node.meta.name == self.node.name && !node.to_be_deleted))
    }

    /// The objects of a kind as Kubernetes' API would list them: with what was allocated for Services, with the Endpoints and EndpointSlices
    /// that were made for them beside those that were written, and with what probes say of pods.
    pub fn list(&self, kind: Kind) -> Vec<Object> {
        let written = self.store.of_kind(kind).cloned();
        match kind {
            Kind::Service => written.map(|object| self.with_allocation(object)).collect(),
            Kind::Pod => written.map(|object| self.with_readiness(object)).collect(),
            Kind::Endpoints => instead(written, self.controller.endpoints_objects().cloned().map(Object::Endpoints)),
            Kind::EndpointSlice => instead(written, self.controller.endpoint_slices().cloned().map(Object::EndpointSlice)),
            Kind::Namespace | Kind::Node => written.collect(),
        }
    }

    fn with_allocation(&self, object: Object) -> Object {
        match object {
            Object::Service(service) => match self.controller.allocation(&service.meta.namespace, &service.meta.name) {
                Some(allocation) => Object::Service(Arc::new(allocation.written_into(&service))),
                None => Object::Service(service),
            },
            other => other,
        }
    }

    fn with_readiness(&self, object: Object) -> Object {
        match object {
            Object::Pod(pod) => match self.controller.is_pod_ready(&pod.meta.namespace, &pod.meta.name) {
                Some(ready) if ready != pod.ready => Object::Pod(Arc::new(Pod { ready, ..Pod::clone(&pod) })),
                _ => Object::Pod(pod),
            },
            other => other,
        }
    }

    /// Takes the registry's newest versions into account.
    pub fn policies_changed(&mut self) {
        self.planners.retain(&self.registry.live());
        self.controller.catalogue(Catalogue { absent: self.references.absent(), ..self.registry.catalogue() });
    }

    fn name_references(&mut self) {
        let absent = self.references.absent();
        self.references.name(self.store.of_kind(Kind::Service).filter_map(|object| match object {
            Object::Service(service) => Some(&service.options),
            _ => None,
        }));
        if absent != self.references.absent() {
            self.policies_changed();
        }
    }

    /// The policies that Services name by reference, that may be pulled, and that are not there.
    pub fn wanted(&self) -> BTreeSet<Reference> {
        self.references.wanted()
    }

    /// What became of a policy that was [`Core::wanted`]: it is in the registry, or not, and why.
    pub fn pulled(&mut self, name: &str, absence: Option<Absence>) {
        self.references.settle(name, absence);
        self.policies_changed();
    }

    /// Puts in force what the cache has of the policies that are wanted. Compiles and tests them: for the start, before anything is served.
    /// What is told of each that was found.
    pub fn take_cached(&mut self, client: &Client, cache: &Cache) -> Vec<(Reference, Result<Swapped, Refusal>)> {
        let kept = self.wanted().into_iter().filter_map(|reference| Some((client.cached(&reference, cache)?, reference)));
        let mut told = Vec::new();
        for (pulled, reference) in kept.collect::<Vec<_>>() {
            let name = reference.to_string();
            let swapped = self.registry.swap_pulled(&name, &pulled.component);
            self.references.settle(&name, swapped.as_ref().err().map(|refusal| Absence::Refused(refusal.to_string().into())));
            told.push((reference, swapped));
        }
        if !told.is_empty() {
            self.policies_changed();
        }
        told
    }

    /// Lets go of policies that were pulled and that no Service uses any more.
    fn forget_pulled(&mut self) {
        let unused = |name: &&Arc<str>| !self.controller.uses_policy(name);
        let gone: BTreeSet<Arc<str>> = self.references.left().iter().filter(unused).cloned().collect();
        if gone.is_empty() {
            return;
        }
        gone.iter().for_each(|name| self.registry.forget_pulled(name));
        self.references.forget(&gone);
        self.policies_changed();
    }

    /// Whether the node's zone or labels changed: its policies are told, and the workers' instances must be made anew.
    pub fn node_changed(&mut self) -> bool {
        let changed = *self.controller.node() != self.node;
        if changed {
            self.node = self.controller.node().clone();
            self.registry.set_node(self.node.clone());
            self.planners.reconfigure();
        }
        changed
    }

    /// Marks what a policy could not plan to be planned again; false when there is nothing of the kind.
    pub fn retry_faulted(&mut self) -> bool {
        self.controller.retry_faulted()
    }

    /// Takes a Service's clients back from the balancer that is tried on some of them; see [`Controller::roll_back`].
    pub fn roll_back(&mut self, namespace: &str, name: &str) -> bool {
        self.controller.roll_back(namespace, name)
    }

    /// Whether there is something to plan.
    pub fn is_dirty(&self) -> bool {
        self.controller.is_dirty()
    }

    /// Plans what is dirty; `None` when nothing is. `keep_going` is asked after each Service port; what is left then stays dirty.
    pub fn rebuild(&mut self, now_ms: u64, keep_going: &mut dyn FnMut() -> bool) -> Option<Update> {
        let update = self.is_dirty().then(|| {
            self.planners.set_now(now_ms);
            self.controller.rebuild_while(&mut self.planners, now_ms, keep_going)
        });
        if !self.is_dirty() {
            self.forget_pulled();
        }
        update
    }

    /// All that is wrong with the files and with what they ask for, in one pass: for `check`.
    pub fn check(&mut self) -> (usize, Vec<Diagnostic>) {
        self.reload(0);
        self.node_changed();
        let arisen = self.rebuild(0, &mut || true).map(|update| update.diagnostics);
        let mut diagnostics = self.findings(arisen.unwrap_or_default());
        diagnostics.sort_by(|a, b| (&a.file, a.line, b.severity).cmp(&(&b.file, b.line, a.severity)));
        (self.store.len(), diagnostics)
    }

    /// The registry that the plans come from.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }
}

fn of_a_service(change: &Change) -> bool {
    match change {
        Change::Put(object) => matches!(object, Object::Service(_)),
        Change::Delete(key) => key.kind == Kind::Service,
    }
}

/// What was made stands instead of what was written under the same name, as where Kubernetes' controllers write over it.
fn instead(written: impl Iterator<Item = Object>, made: impl Iterator<Item = Object>) -> Vec<Object> {
    let made: BTreeMap<ObjectKey, Object> = made.map(|object| (object.key(), object)).collect();
    let written = written.filter(|object| !made.contains_key(&object.key())).collect::<Vec<_>>();
    written.into_iter().chain(made.into_values()).collect()
}

/// Looking through 20,000 objects takes some 20 ms.
const MANY_OBJECTS: usize = 2_000;

/// Whether there is an error among these.
pub fn any_error(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
}
