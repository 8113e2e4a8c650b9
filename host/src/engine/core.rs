//! The way of a change, without sockets: files → store → controller → planners → table. `run`, `route` and `check` all stand on it, so
//! what they say of a manifest cannot differ.

use std::path::PathBuf;
use std::sync::Arc;

use crate::control::{Controller, Settings, Update};
use crate::objects::{Diagnostic, Severity, review};
use crate::policy::contract::Node;
use crate::policy::planners::Planners;
use crate::policy::registry::Registry;
use crate::source::Files;
use crate::store::Store;

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
        }
    }

    /// Reads the files again. An endpoint that left is masked in the first table, which needs no planner.
    pub fn reload(&mut self, now_ms: u64) -> (Option<Update>, Vec<Diagnostic>) {
        let loaded = self.files.reload();
        let mut diagnostics = loaded.diagnostics;
        diagnostics.extend(review(&loaded.objects));
        self.controller.apply(self.store.replace(loaded.objects), now_ms);
        let news = diagnostics.iter().filter(|diagnostic| !self.told.iter().any(|told| told.same_finding(diagnostic))).cloned().collect();
        self.told = diagnostics;
        (self.controller.masked_table(), news)
    }

    /// Takes the registry's newest versions into account.
    pub fn policies_changed(&mut self) {
        self.planners.retain(&self.registry.live());
        self.controller.catalogue(self.registry.catalogue());
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

    /// Whether there is something to plan.
    pub fn is_dirty(&self) -> bool {
        self.controller.is_dirty()
    }

    /// Plans what is dirty; `None` when nothing is. `keep_going` is asked after each Service port; what is left then stays dirty.
    pub fn rebuild(&mut self, now_ms: u64, keep_going: &mut dyn FnMut() -> bool) -> Option<Update> {
        if !self.is_dirty() {
            return None;
        }
        self.planners.set_now(now_ms);
        let mut update = self.controller.rebuild_while(&mut self.planners, now_ms, keep_going);
        // The review of the objects names the same lack with what nearly matches; once is enough.
        let told = |diagnostic: &Diagnostic| self.told.iter().any(|told| told.same_subject(diagnostic));
        update.diagnostics.retain(|diagnostic| !told(diagnostic));
        Some(update)
    }

    /// All that is wrong with the files and with what they ask for, in one pass: for `check`.
    pub fn check(&mut self) -> (usize, Vec<Diagnostic>) {
        let (_, mut diagnostics) = self.reload(0);
        self.node_changed();
        if let Some(update) = self.rebuild(0, &mut || true) {
            diagnostics.extend(update.diagnostics);
        }
        diagnostics.sort_by(|a, b| (&a.file, a.line, b.severity).cmp(&(&b.file, b.line, a.severity)));
        (self.store.len(), diagnostics)
    }

    /// The registry that the plans come from.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }
}

/// Whether there is an error among these.
pub fn any_error(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
}
