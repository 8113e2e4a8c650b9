//! Which version of which policy answers to a name: what the control side plans with. A snapshot; the registry makes a new one
//! with every swap.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::contract::StageKind;
use crate::table::PolicyVersion;

/// The policy of a stage where the Service names none.
pub const DEFAULT_SELECTOR: &str = "label-selector";
/// The policy of a stage where the Service names none.
pub const DEFAULT_TRAFFIC_POLICY: &str = "kubernetes";
/// The policy of a stage where the Service names none.
pub const DEFAULT_BALANCER: &str = "round-robin";

/// The policies that can be named, by stage and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// By stage and name.
    pub entries: BTreeMap<(StageKind, Arc<str>), Entry>,
    /// Policies in registries that Services name and that are not here, by reference.
    pub absent: BTreeMap<Arc<str>, Absence>,
}

/// Why a policy in a registry is not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The operator has not allowed its registry.
    NotAllowed,
    /// It is on its way.
    Awaited,
    /// It is not in the cache, and nobody fetches it: in commands that open no socket.
    NotKept,
    /// It could not be pulled, and that is tried again.
    Failed(Arc<str>),
    /// It was pulled, and is not fit to serve.
    Refused(Arc<str>),
}

/// What a name stands for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The version in force.
    pub current: Arc<PolicyVersion>,
    /// The version before it, while it is kept warm for rollback and as a stand-in.
    pub previous: Option<Arc<PolicyVersion>>,
}

impl Catalogue {
    /// What `name` stands for in a stage.
    pub fn entry(&self, stage: StageKind, name: &str) -> Option<&Entry> {
        self.entries.get(&(stage, Arc::from(name)))
    }

    /// The stage of a policy of this name, whichever it is.
    pub fn stage_of(&self, name: &str) -> Option<StageKind> {
        self.entries.keys().find(|(_, known)| **known == *name).map(|(stage, _)| *stage)
    }

    /// The names that a stage can be given.
    pub fn names(&self, stage: StageKind) -> impl Iterator<Item = &str> {
        self.entries.keys().filter(move |(s, _)| *s == stage).map(|(_, name)| name.as_ref())
    }
}
