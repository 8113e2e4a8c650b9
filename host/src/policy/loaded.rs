//! A version of a policy that may be used: compiled, linked, and known by what it says of itself.

use std::sync::Arc;

use arc_swap::ArcSwap;
use wasmtime::component::{Component, InstancePre};

use super::contract::{Description, Fault, Node, Place, Setting, StageKind};
use super::engine::Sandbox;
use super::host::{GuestLog, HostData};
use super::inspect::{Inspection, Shape, inspect};
use super::instance::{Instance, Mould};
use super::limits::{Grants, Limits, Runtime};
use super::refusal::Refusal;
use crate::table::{PolicyVersion, VersionId};

/// A version of a policy, from which the planner and every worker make their instance.
pub struct LoadedPolicy {
    version: Arc<PolicyVersion>,
    shape: Shape,
    runtime: Runtime,
    inspection: Inspection,
    description: Description,
    surroundings: Arc<Surroundings>,
    log: Arc<GuestLog>,
    pre: InstancePre<HostData>,
    sandbox: Arc<Sandbox>,
}

/// What a policy is configured with.
pub(super) struct Surroundings {
    /// The node that this host serves.
    pub(super) node: Arc<ArcSwap<Node>>,
    /// The host-wide settings of this policy.
    pub(super) settings: Vec<Setting>,
}

/// A component before it is one.
pub(super) struct Candidate<'a> {
    pub(super) name: Arc<str>,
    pub(super) bytes: &'a [u8],
    pub(super) surroundings: Arc<Surroundings>,
    pub(super) grants: Grants,
}

impl LoadedPolicy {
    /// The whole way of a component from outside, but for the self-test: measure, check, compile apart, link, probe.
    pub(super) fn load(sandbox: &Arc<Sandbox>, candidate: Candidate<'_>, id: VersionId) -> Result<Self, Refusal> {
        let limits = sandbox.limits_of(candidate.grants.runtime);
        Self::prepare(sandbox, candidate, id, |bytes| sandbox.compile(bytes, limits))
    }

    /// The same for a component that is part of this program.
    pub(super) fn load_trusted(sandbox: &Arc<Sandbox>, candidate: Candidate<'_>, id: VersionId) -> Result<Self, Refusal> {
        Self::prepare(sandbox, candidate, id, |bytes| sandbox.compile_trusted(bytes))
    }

    fn prepare(
        sandbox: &Arc<Sandbox>,
        candidate: Candidate<'_>,
        id: VersionId,
        compile: impl FnOnce(&[u8]) -> Result<Component, Refusal>,
    ) -> Result<Self, Refusal> {
        let Candidate { name, bytes, surroundings, grants } = candidate;
        let limits = sandbox.limits_of(grants.runtime);
        let inspection = inspect(bytes, limits)?;
        let shape = inspection.shape(limits, grants.wasi)?;
        let component = compile(bytes)?;
        let linker = if shape.wasi { &sandbox.granted_linker } else { &sandbox.linker };
        let pre = linker.instantiate_pre(&component).map_err(|error| Refusal::Link(format!("{error:#}")))?;
        let mut policy = Self {
            version: Arc::new(PolicyVersion { id, name: Arc::clone(&name), digest: inspection.digest.as_str().into() }),
            shape,
            inspection,
            description: Description { name: String::new(), version: String::new(), summary: String::new() },
            surroundings,
            log: GuestLog::new(name, limits),
            runtime: grants.runtime,
            pre,
            sandbox: Arc::clone(sandbox),
        };
        policy.description = policy.probe()?;
        Ok(policy)
    }

    /// A first instance, of the planner's kind: what it says of itself, and whether it takes its configuration.
    fn probe(&self) -> Result<Description, Refusal> {
        let failed = |call| move |fault| Refusal::Probe { call, fault };
        let mut instance = self.bare(Place::Planner).map_err(|fault| match fault {
            Fault::Refused(why) => Refusal::Link(why),
            fault => Refusal::Probe { call: "start", fault },
        })?;
        let description = instance.describe().map_err(failed("describe"))?;
        instance.configure(Place::Planner, &self.node(), self.settings()).map_err(failed("configure"))?;
        Ok(Description { name: shown(&description.name), version: shown(&description.version), summary: shown(&description.summary) })
    }

    /// A configured instance.
    ///
    /// # Errors
    /// The fault of its start or of `configure`, or a full pool.
    pub(super) fn instantiate(&self, place: Place) -> Result<Instance, Fault> {
        self.instantiate_with(place, &self.node(), &self.surroundings.settings)
    }

    /// The same with another node and other settings than its own.
    pub(super) fn instantiate_with(&self, place: Place, node: &Node, settings: &[Setting]) -> Result<Instance, Fault> {
        let mut instance = self.bare(place)?;
        instance.configure(place, node, settings)?;
        Ok(instance)
    }

    /// The node that instances are configured with now.
    pub(super) fn node(&self) -> Arc<Node> {
        self.surroundings.node.load_full()
    }

    /// The settings that instances are configured with.
    pub(super) fn settings(&self) -> &[Setting] {
        &self.surroundings.settings
    }

    /// What it was granted, as far as it uses it.
    pub(super) fn grants(&self) -> Grants {
        Grants { wasi: self.shape.wasi, runtime: self.runtime }
    }

    fn bare(&self, place: Place) -> Result<Instance, Fault> {
        let mould = Mould {
            engine: &self.sandbox.engine,
            limits: self.limits(),
            pre: &self.pre,
            stage: self.shape.stage,
            learns: self.shape.learns,
            wasi: self.shape.wasi,
            log: &self.log,
        };
        Instance::new(&mould, place)
    }

    /// Its identity.
    pub fn version(&self) -> &Arc<PolicyVersion> {
        &self.version
    }

    /// The stage that it fills.
    pub fn stage(&self) -> StageKind {
        self.shape.stage
    }

    /// Whether it is told what became of its picks.
    pub fn learns(&self) -> bool {
        self.shape.learns
    }

    /// What it says of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// What was measured before it was compiled.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// What it is allowed.
    pub fn limits(&self) -> &Limits {
        self.sandbox.limits_of(self.runtime)
    }

    /// Lines that its log wrote and dropped.
    pub(super) fn log_counts(&self) -> (u64, u64) {
        self.log.counts()
    }
}

/// A guest's words, as far as they go into lists: short, and nothing that a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
