//! Which version of which policy is in force, which one stands behind it, and how a component becomes one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use pointsman_guests::{BUILT_IN, Stage};

use super::catalogue::{Catalogue, Entry};
use super::contract::{Node, Setting, StageKind};
use super::engine::Sandbox;
use super::inspect;
use super::limits::{Grants, Limits, Runtime};
use super::loaded::{Candidate, LoadedPolicy, Surroundings};
use super::refusal::Refusal;
use super::self_test::{self, Cost};
use crate::table::{PolicyVersion, VersionId};

/// What policies are configured with, and what they may do.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// The node that this host serves.
    pub node: Node,
    /// Host-wide settings, by the policy's name.
    pub settings: BTreeMap<String, Vec<Setting>>,
    /// Names of the policies that may import WASI.
    pub wasi_grants: BTreeSet<String>,
    /// Names of the policies that bring a language runtime along.
    pub large: BTreeSet<String>,
}

/// Every policy that can be named. Shared by the control side and the admin port; nothing on a worker touches it.
pub struct Registry {
    sandbox: Arc<Sandbox>,
    node: Arc<ArcSwap<Node>>,
    settings: BTreeMap<String, Vec<Setting>>,
    wasi_grants: BTreeSet<String>,
    large: BTreeSet<String>,
    names: Mutex<Names>,
    /// Held while a component is checked: one at a time, so that two swaps of a name have an order.
    checking: Mutex<()>,
}

struct Names {
    by_name: BTreeMap<Arc<str>, Named>,
    next: u32,
}

struct Named {
    stage: StageKind,
    builtin: bool,
    current: Held,
    previous: Option<Held>,
}

/// A version, loaded or to be loaded when it is first asked for.
#[derive(Clone)]
struct Held {
    version: Arc<PolicyVersion>,
    loaded: Loaded,
    cost: Option<Cost>,
}

#[derive(Clone)]
enum Loaded {
    Ready(Arc<LoadedPolicy>),
    /// Part of this program: compiled when a Service names it, since most hosts use a few of them.
    BuiltIn {
        bytes: &'static [u8],
        once: Arc<OnceLock<Option<Arc<LoadedPolicy>>>>,
    },
}

/// A swap or a rollback that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swapped {
    /// The policy.
    pub name: Arc<str>,
    /// Its stage.
    pub stage: StageKind,
    /// What is in force now.
    pub digest: Arc<str>,
    /// What was in force before, and is kept for `rollback`.
    pub previous: Option<Arc<str>>,
    /// False: the same component was in force already, and nothing was done.
    pub changed: bool,
}

/// One policy, for a list.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PolicyStatus {
    /// Its name in annotations.
    pub name: Arc<str>,
    /// Its stage.
    pub stage: StageKind,
    /// Embedded in the program; the name is reserved.
    pub builtin: bool,
    /// `sha256:…` of the version in force.
    pub digest: Arc<str>,
    /// `sha256:…` of the version that `rollback` brings back.
    pub previous: Option<Arc<str>>,
    /// Its own version and what it says of itself; absent until it is loaded.
    pub version: Option<String>,
    /// One line.
    pub summary: Option<String>,
    /// What the self-test measured; built-in policies were measured before they were built in.
    pub cost: Option<Cost>,
}

impl Registry {
    /// The built-in policies, compiled when they are first asked for.
    pub fn new(sandbox: Arc<Sandbox>, options: RegistryOptions) -> Arc<Self> {
        let mut names = Names { by_name: BTreeMap::new(), next: 0 };
        for component in BUILT_IN {
            let name: Arc<str> = component.name.into();
            let version = names.version(&name, inspect::digest(component.bytes));
            let loaded = Loaded::BuiltIn { bytes: component.bytes, once: Arc::default() };
            let current = Held { version, loaded, cost: None };
            names.by_name.insert(name, Named { stage: stage_kind(component.stage), builtin: true, current, previous: None });
        }
        Arc::new(Self {
            sandbox,
            node: Arc::new(ArcSwap::from_pointee(options.node)),
            settings: options.settings,
            wasi_grants: options.wasi_grants,
            large: options.large,
            names: Mutex::new(names),
            checking: Mutex::new(()),
        })
    }

    /// The limits of its sandbox.
    pub fn sandbox(&self) -> &Arc<Sandbox> {
        &self.sandbox
    }

    /// The limits of the policy of this name.
    pub(super) fn limits_of(&self, name: &str) -> &Limits {
        self.sandbox.limits_of(self.grants(name).runtime)
    }

    fn grants(&self, name: &str) -> Grants {
        let runtime = if self.large.contains(name) { Runtime::Large } else { Runtime::Normal };
        Grants { wasi: self.wasi_grants.contains(name), runtime }
    }

    /// Which version answers to each name.
    pub fn catalogue(&self) -> Catalogue {
        let names = lock(&self.names);
        let entries = names.by_name.iter().map(|(name, named)| {
            let entry = Entry {
                current: Arc::clone(&named.current.version),
                previous: named.previous.as_ref().map(|held| Arc::clone(&held.version)),
            };
            ((named.stage, Arc::clone(name)), entry)
        });
        Catalogue { entries: entries.collect(), absent: BTreeMap::new() }
    }

    /// The versions in force and those behind them; no other can be planned with any more.
    pub fn live(&self) -> Vec<VersionId> {
        lock(&self.names).held().map(|(_, held)| held.version.id).collect()
    }

    /// A version that is live. A built-in one is compiled at its first use, which takes some 15 ms.
    pub fn loaded(&self, version: VersionId) -> Option<Arc<LoadedPolicy>> {
        let held = lock(&self.names).held().find(|(_, held)| held.version.id == version).map(|(_, held)| held.clone())?;
        match held.loaded {
            Loaded::Ready(policy) => Some(policy),
            Loaded::BuiltIn { bytes, once } => once.get_or_init(|| self.load_built_in(&held.version, bytes)).clone(),
        }
    }

    /// Puts a component in force under a name, if it gets through every check and the self-test; otherwise the one in force stays.
    /// Compiles, so it takes up to seconds: not for a thread that has other things to do.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn swap(&self, name: &str, bytes: &[u8]) -> Result<Swapped, Refusal> {
        check_name(name)?;
        self.put_in_force(name, bytes)
    }

    /// The same for a component that was pulled, under the reference by which annotations name it: never a plain name, so it is in nobody's
    /// way.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn swap_pulled(&self, reference: &str, bytes: &[u8]) -> Result<Swapped, Refusal> {
        self.put_in_force(reference, bytes)
    }

    /// Takes out a policy that was pulled, and that nothing uses any more.
    pub fn forget_pulled(&self, reference: &str) {
        lock(&self.names).by_name.retain(|name, named| named.builtin || **name != *reference);
    }

    fn put_in_force(&self, name: &str, bytes: &[u8]) -> Result<Swapped, Refusal> {
        let _turn = lock(&self.checking);
        let digest = inspect::check_size(bytes.len() as u64, self.limits_of(name)).map(|()| inspect::digest(bytes))?;
        let before = self.before(name, &digest)?;
        if let Before::Same(swapped) = before {
            return Ok(swapped);
        }
        let name: Arc<str> = name.into();
        let id = lock(&self.names).fresh();
        let policy = LoadedPolicy::load(&self.sandbox, self.candidate(&name, bytes), id)?;
        if let Before::Other(stage) = before
            && stage != policy.stage()
        {
            return Err(Refusal::other_stage(&name, stage, policy.stage()));
        }
        let cost = self_test::run(&policy)?;
        Ok(self.put(name, Arc::new(policy), cost))
    }

    /// Puts the version before in force again; the one in force is kept in its place, so a second rollback undoes the first.
    ///
    /// # Errors
    /// `Unknown` and `NothingToRollBack`.
    pub fn rollback(&self, name: &str) -> Result<Swapped, Refusal> {
        let mut names = lock(&self.names);
        let known = names.known();
        let (name, named) = match names.by_name.iter_mut().find(|(n, _)| ***n == *name) {
            Some((name, named)) => (Arc::clone(name), named),
            None => return Err(Refusal::Unknown { name: name.to_owned(), known }),
        };
        let previous = named.previous.take().ok_or_else(|| Refusal::NothingToRollBack(name.to_string()))?;
        named.previous = Some(std::mem::replace(&mut named.current, previous));
        Ok(named.swapped(name, true))
    }

    /// Every policy, by name.
    pub fn list(&self) -> Vec<PolicyStatus> {
        let names = lock(&self.names);
        let status = |(name, named): (&Arc<str>, &Named)| {
            let description = named.current.loaded.peek().map(|policy| policy.description().clone());
            PolicyStatus {
                name: Arc::clone(name),
                stage: named.stage,
                builtin: named.builtin,
                digest: Arc::clone(&named.current.version.digest),
                previous: named.previous.as_ref().map(|held| Arc::clone(&held.version.digest)),
                version: description.as_ref().map(|d| d.version.clone()),
                summary: description.map(|d| d.summary),
                cost: named.current.cost.clone(),
            }
        };
        names.by_name.iter().map(status).collect()
    }

    /// The node's zone or labels changed. Instances that exist keep the old ones until `Planners::reconfigure` and
    /// `WorkerPolicies::reconfigure`.
    pub fn set_node(&self, node: Node) {
        self.node.store(Arc::new(node));
    }

    fn candidate<'a>(&self, name: &Arc<str>, bytes: &'a [u8]) -> Candidate<'a> {
        let settings = self.settings.get(&**name).cloned().unwrap_or_default();
        Candidate {
            name: Arc::clone(name),
            bytes,
            surroundings: Arc::new(Surroundings { node: Arc::clone(&self.node), settings }),
            grants: self.grants(name),
        }
    }

    fn load_built_in(&self, version: &PolicyVersion, bytes: &[u8]) -> Option<Arc<LoadedPolicy>> {
        let loaded = LoadedPolicy::load_trusted(&self.sandbox, self.candidate(&version.name, bytes), version.id);
        let failed = |refusal: &Refusal| tracing::error!("the built-in policy \"{}\" cannot be used: {refusal}", version.name);
        loaded.inspect_err(failed).ok().map(Arc::new)
    }

    /// What a swap meets under the name.
    fn before(&self, name: &str, digest: &str) -> Result<Before, Refusal> {
        let names = lock(&self.names);
        match names.by_name.get_key_value(name) {
            None => Ok(Before::Nothing),
            Some((_, named)) if named.builtin => Err(Refusal::Reserved(name.to_owned())),
            Some((name, named)) if *named.current.version.digest == *digest => Ok(Before::Same(named.swapped(Arc::clone(name), false))),
            Some((_, named)) => Ok(Before::Other(named.stage)),
        }
    }

    fn put(&self, name: Arc<str>, policy: Arc<LoadedPolicy>, cost: Cost) -> Swapped {
        let mut names = lock(&self.names);
        let stage = policy.stage();
        let held = Held { version: Arc::clone(policy.version()), loaded: Loaded::Ready(policy), cost: Some(cost) };
        let named = match names.by_name.remove(&name) {
            Some(before) => Named { previous: Some(before.current), current: held, ..before },
            None => Named { stage, builtin: false, current: held, previous: None },
        };
        let swapped = named.swapped(Arc::clone(&name), true);
        names.by_name.insert(name, named);
        swapped
    }
}

/// Puts a component through every check and the self-test, and in force nowhere.
///
/// # Errors
/// Why it would be refused.
pub fn try_out(sandbox: &Arc<Sandbox>, name: &str, bytes: &[u8], grants: Grants) -> Result<(LoadedPolicy, Cost), Refusal> {
    let surroundings = Arc::new(Surroundings { node: Arc::default(), settings: Vec::new() });
    let candidate = Candidate { name: name.into(), bytes, surroundings, grants };
    let policy = LoadedPolicy::load(sandbox, candidate, VersionId(0))?;
    let cost = self_test::run(&policy)?;
    Ok((policy, cost))
}

/// A policy on this node, in force nowhere and without a self-test: for the workbench, which has tests of its own. `trusted`: part
/// of this program.
///
/// # Errors
/// Why it would be refused.
pub fn apart(sandbox: &Arc<Sandbox>, name: &str, bytes: &[u8], node: Node, grants: Grants, trusted: bool) -> Result<LoadedPolicy, Refusal> {
    let surroundings = Arc::new(Surroundings { node: Arc::new(ArcSwap::from_pointee(node)), settings: Vec::new() });
    let candidate = Candidate { name: name.into(), bytes, surroundings, grants };
    let load = if trusted { LoadedPolicy::load_trusted } else { LoadedPolicy::load };
    load(sandbox, candidate, VersionId(0))
}

enum Before {
    Nothing,
    Same(Swapped),
    Other(StageKind),
}

impl Names {
    fn fresh(&mut self) -> VersionId {
        let id = VersionId(self.next);
        self.next += 1;
        id
    }

    fn version(&mut self, name: &Arc<str>, digest: String) -> Arc<PolicyVersion> {
        Arc::new(PolicyVersion { id: self.fresh(), name: Arc::clone(name), digest: digest.into() })
    }

    fn held(&self) -> impl Iterator<Item = (&Arc<str>, &Held)> {
        self.by_name.iter().flat_map(|(name, named)| std::iter::once(&named.current).chain(&named.previous).map(move |held| (name, held)))
    }

    fn known(&self) -> String {
        let names: Vec<&str> = self.by_name.keys().map(AsRef::as_ref).collect();
        names.join(", ")
    }
}

impl Named {
    fn swapped(&self, name: Arc<str>, changed: bool) -> Swapped {
        Swapped {
            name,
            stage: self.stage,
            digest: Arc::clone(&self.current.version.digest),
            previous: self.previous.as_ref().map(|held| Arc::clone(&held.version.digest)),
            changed,
        }
    }
}

impl Loaded {
    /// The policy, if it has been loaded.
    fn peek(&self) -> Option<&Arc<LoadedPolicy>> {
        match self {
            Self::Ready(policy) => Some(policy),
            Self::BuiltIn { once, .. } => once.get()?.as_ref(),
        }
    }
}

fn stage_kind(stage: Stage) -> StageKind {
    match stage {
        Stage::Selector => StageKind::Selector,
        Stage::TrafficPolicy => StageKind::TrafficPolicy,
        Stage::Balancer => StageKind::Balancer,
    }
}

/// What an annotation can name and a file can be called; cargo writes `my_policy.wasm`, so `_` is among it.
fn check_name(name: &str) -> Result<(), Refusal> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ok = (1..=63).contains(&name.len()) && name.chars().all(fits) && !name.starts_with(['-', '.']);
    if ok { Ok(()) } else { Err(Refusal::BadName(name.chars().filter(|c| !c.is_control()).take(100).collect())) }
}

/// What the mutexes guard is whole between any two statements that can panic, so a poisoned one is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
