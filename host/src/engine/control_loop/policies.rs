//! What the control side does about policies that change: by their files, by pulls, and by the admin port.

use std::sync::Arc;

use super::{ControlLoop, Event};
use crate::admin::{PolicyReply, PolicyRequest};
use crate::engine::pulls::Outcome;
use crate::engine::report;
use crate::policy::Refusal;
use crate::policy::catalogue::Absence;
use crate::policy::directory::DirectoryEvent;
use crate::policy::registry::{Registry, Swapped};

/// What the registry is asked to do with a name.
type Check = Box<dyn FnOnce(&Registry, &str) -> Result<Swapped, Refusal> + Send>;

impl ControlLoop {
    pub(super) fn policy_file(&mut self, event: DirectoryEvent) {
        match event {
            DirectoryEvent::Swapped(swapped) => {
                report::swapped(&self.wiring.events, &swapped, "its file");
                self.count(&swapped.name, if swapped.changed { "swapped" } else { "unchanged" });
                self.core.policies_changed();
            }
            DirectoryEvent::Refused { name, reason } => {
                self.count(&name, "refused");
                report::refused(&self.wiring.events, &name, &reason);
            }
        }
    }

    /// Says what is to be pulled.
    pub(super) fn want(&self) {
        let wanted = self.core.wanted();
        self.wiring.wanted.send_if_modified(|known| {
            let differs = *known != wanted;
            *known = wanted;
            differs
        });
    }

    /// What was pulled before this host started is in force from its first table on.
    pub(super) fn take_cached(&mut self) {
        let options = &self.wiring.options;
        let Some(cache) = &options.pulled else { return };
        for (reference, result) in self.core.take_cached(&options.puller, cache) {
            let name = reference.to_string();
            match result {
                Ok(swapped) => self.pulled_in_force(&swapped, "the cache of what was pulled"),
                Err(refusal) => self.pulled_refused(&name, &refusal),
            }
        }
        self.want();
    }

    pub(super) fn pulled(&mut self, name: &str, outcome: Outcome) {
        let absence = match outcome {
            Outcome::InForce { swapped, pinned } => {
                self.pulled_in_force(&swapped, &format!("a pull of {pinned}"));
                None
            }
            Outcome::Refused(refusal) => {
                self.pulled_refused(name, &refusal);
                Some(Absence::Refused(refusal.to_string().into()))
            }
            Outcome::Failed(error) => Some(Absence::Failed(error.to_string().into())),
        };
        self.core.pulled(name, absence);
        self.want();
    }

    fn pulled_in_force(&mut self, swapped: &Swapped, by: &str) {
        report::swapped(&self.wiring.events, swapped, by);
        self.count(&swapped.name, if swapped.changed { "swapped" } else { "unchanged" });
    }

    fn pulled_refused(&mut self, name: &str, refusal: &Refusal) {
        self.count(name, "refused");
        report::refused(&self.wiring.events, name, refusal);
    }

    pub(super) fn checked(&mut self, name: &str, result: Result<Swapped, Refusal>, verb: &'static str) -> PolicyReply {
        match result {
            Ok(swapped) => {
                report::swapped(&self.wiring.events, &swapped, "the admin port");
                self.count(&swapped.name, if swapped.changed { verb } else { "unchanged" });
                if swapped.changed {
                    self.core.policies_changed();
                }
                Ok(report::reply(&swapped))
            }
            Err(refusal) => {
                // A name that nothing goes by is anybody's invention: it gets no series of its own.
                let known = self.wiring.registry.list().iter().any(|policy| *policy.name == *name);
                self.count(if known { name } else { "(other)" }, "refused");
                report::refused(&self.wiring.events, name, &refusal);
                Err(report::refusal(&refusal))
            }
        }
    }

    pub(super) async fn asked(&mut self, request: PolicyRequest) {
        let registry = Arc::clone(&self.wiring.registry);
        let changes = self.wiring.changes.clone();
        // A swap compiles and tests for as long as a second: off this thread, and back as an event.
        let check = move |name: String, verb, reply, work: Check| {
            tokio::task::spawn_blocking(move || {
                let result = work(&registry, &name);
                let _ = changes.blocking_send(Event::Checked { name, result, verb, reply });
            });
        };
        match request {
            PolicyRequest::List { reply } => {
                let (_, counters) = self.plane.snapshot().await;
                let _ = reply.send(report::policies(&self.wiring.registry.list(), &counters));
            }
            PolicyRequest::Swap { name, component, reply } => {
                check(name, "swapped", reply, Box::new(move |registry, name| registry.swap(name, &component.bytes)));
            }
            PolicyRequest::Rollback { name, reply } => check(name, "rolled-back", reply, Box::new(Registry::rollback)),
        }
    }
}
