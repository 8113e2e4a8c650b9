//! Canaries that were rolled back: their share stays 0 until something else is tried, however often the Service is planned in between.

use std::collections::{BTreeMap, BTreeSet};

use super::ServiceName;
use crate::objects::model::{ServiceOptions, Share, StageOptions};
use crate::table::VersionId;

/// The Services whose canary was rolled back, and what they tried then.
#[derive(Debug, Default)]
pub(super) struct Rollbacks(BTreeMap<ServiceName, Trial>);

/// What a Service tries on some of its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Trial {
    shadow: StageOptions,
    canary: Option<Share>,
    /// Of each of its ports: where a new one could not plan, the one before it goes on.
    versions: BTreeSet<VersionId>,
}

impl Rollbacks {
    /// The candidate of a Service is no longer in charge of anybody.
    pub(super) fn roll_back(&mut self, name: ServiceName, options: &ServiceOptions, versions: BTreeSet<VersionId>) {
        self.0.insert(name, Trial { shadow: options.shadow.clone(), canary: options.canary, versions });
    }

    /// Whether a rollback stands: the annotations say what they said then, and no other version has planned since.
    pub(super) fn stands(&self, name: &ServiceName, options: &ServiceOptions, version: Option<VersionId>) -> bool {
        self.0.get(name).is_some_and(|trial| {
            trial.shadow == options.shadow
                && trial.canary == options.canary
                && version.is_none_or(|version| trial.versions.contains(&version))
        })
    }

    /// Forgets a rollback that stands no more: what was tried then may be tried again.
    pub(super) fn tidy(&mut self, name: &ServiceName, options: &ServiceOptions, version: Option<VersionId>) {
        if !self.stands(name, options, version) {
            self.forget(name);
        }
    }

    /// The Service is gone.
    pub(super) fn forget(&mut self, name: &ServiceName) {
        self.0.remove(name);
    }
}
