//! The components of a recording: built in, or given as files, found by digest.

use std::collections::BTreeMap;
use std::sync::Arc;

use pointsman_guests::BUILT_IN;

use super::recording::Recording;
use crate::observe::recording::file::Header;
use crate::policy::inspect::digest;
use crate::policy::tape::frame::Version;
use crate::policy::{Grants, Limits, LoadedPolicy, Refusal, Runtime, Sandbox, replica};
use crate::table::VersionId;

/// Components that can be had, by digest.
#[derive(Default)]
pub struct Components(BTreeMap<String, Component>);

struct Component {
    /// The file.
    name: String,
    bytes: Vec<u8>,
}

/// A component of a recording that is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// Nobody has it.
    #[error(
        "the {stage} \"{name}\" of this recording is not built in, and none of the files given is it: give the component with digest {digest}"
    )]
    Component {
        /// Its stage.
        stage: &'static str,
        /// Its name.
        name: String,
        /// `sha256:…`.
        digest: String,
    },
    /// Somebody has it, and it is refused.
    #[error("the policy \"{name}\" ({digest}): {why}")]
    Refused {
        /// Its name.
        name: String,
        /// `sha256:…`.
        digest: String,
        /// Why.
        why: Refusal,
    },
    /// It is not in the recording.
    #[error(
        "{name} ({digest}) is not a policy of this recording, which has {known}; to try another than was recorded: pointsman policy diff"
    )]
    Stranger {
        /// The file.
        name: String,
        /// `sha256:…`.
        digest: String,
        /// What there is.
        known: String,
    },
}

impl Components {
    /// Adds a file's bytes.
    pub fn add(&mut self, name: &str, bytes: Vec<u8>) {
        self.0.insert(digest(&bytes), Component { name: name.to_owned(), bytes });
    }

    /// Every version of a recording, by number.
    pub(super) fn load_all(&self, recording: &Recording, sandbox: &Arc<Sandbox>) -> Result<BTreeMap<u32, Arc<LoadedPolicy>>, Missing> {
        for (digest, component) in &self.0 {
            if !recording.versions.values().any(|version| version.digest == *digest) {
                let known: Vec<String> =
                    recording.versions.values().map(|version| format!("{} ({})", version.name, version.digest)).collect();
                return Err(Missing::Stranger { name: component.name.clone(), digest: digest.clone(), known: known.join(", ") });
            }
        }
        recording.versions.values().map(|version| Ok((version.version, self.load(version, sandbox)?))).collect()
    }

    fn load(&self, version: &Version, sandbox: &Arc<Sandbox>) -> Result<Arc<LoadedPolicy>, Missing> {
        let given = self.0.get(&version.digest).map(|component| component.bytes.as_slice());
        let built_in = || BUILT_IN.iter().map(|built_in| built_in.bytes).find(|bytes| digest(bytes) == version.digest);
        let bytes = given.or_else(built_in).ok_or_else(|| Missing::Component {
            stage: crate::policy::contract::StageKind::from(version.stage).name(),
            name: version.name.clone(),
            digest: version.digest.clone(),
        })?;
        let runtime = if version.large { Runtime::Large } else { Runtime::Normal };
        let grants = Grants { wasi: version.wasi, runtime };
        let loaded = replica::load(sandbox, &version.name, bytes, VersionId(version.version), grants);
        loaded.map_err(|why| Missing::Refused { name: version.name.clone(), digest: version.digest.clone(), why })
    }
}

/// The limits under which a recording was made. Deadlines are as long as they may be: a slow machine must not change an answer.
pub fn limits(header: &Header) -> Limits {
    let record = &header.limits;
    let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let defaults = Limits::default();
    Limits {
        worker_deadline: REPLAY_DEADLINE,
        planner_deadline: REPLAY_DEADLINE,
        hot_fuel: record.hot_fuel,
        adopt_fuel: record.adopt_fuel,
        planner_fuel: record.planner_fuel,
        // What the pool is made of is bounded by what a host may be told on its command line, not by what a file says.
        memory_bytes: size(record.memory_bytes).min(MAX_MEMORY_BYTES),
        memories: size(record.memories).min(MAX_OF_ANY),
        tables: size(record.tables).min(MAX_OF_ANY),
        table_elements: size(record.table_elements).min(MAX_TABLE_ELEMENTS),
        instances: size(record.instances).min(MAX_OF_ANY),
        wasm_stack_bytes: size(record.wasm_stack_bytes).min(MAX_STACK_BYTES),
        hot_hostcall_bytes: size(record.hot_hostcall_bytes),
        planner_hostcall_bytes: size(record.planner_hostcall_bytes),
        component_bytes: size(record.component_bytes),
        modules: size(record.modules),
        functions: size(record.functions),
        body_bytes: size(record.body_bytes),
        settings_bytes: size(record.settings_bytes),
        pool_instances: REPLAY_INSTANCES + 2 * header.workers.len() as u32,
        ..defaults
    }
}

/// A call that takes so long on any machine is held by its fuel first.
const REPLAY_DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// Two of each of 32 policies and more: replays go worker by worker. Comparisons have two sides on every worker besides.
const REPLAY_INSTANCES: u32 = 128;

/// The address space of a memory of a component: wasm32 has no more.
const MAX_MEMORY_BYTES: usize = 4 << 30;
const MAX_TABLE_ELEMENTS: usize = 10_000_000;
const MAX_OF_ANY: usize = 1_000;
/// Half of a thread's stack.
const MAX_STACK_BYTES: usize = 1 << 20;
