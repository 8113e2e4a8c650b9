//! The planner's place: one instance of each policy version, off the data path.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::backoff::Backoff;
use super::contract::{Endpoint, Fault, Grouping, Label, Partition, Place, Planner, ServiceId, ServicePort};
use super::instance::Instance;
use super::registry::Registry;
use crate::table::VersionId;

/// Planner instances by version, made when they are first needed and again after a fault. Lives on one thread at a time.
pub struct Planners {
    registry: Arc<Registry>,
    instances: HashMap<VersionId, Instance>,
    /// What each selector planned last, for an instance that must be made again before it can classify.
    selected: HashMap<(VersionId, ServiceId), Selected>,
    /// Versions that failed the last time that they were asked.
    failing: HashMap<VersionId, Failing>,
    now_ms: u64,
}

/// How often a planner failed in succession, and when it is asked again if that was too often.
struct Failing {
    faults: u32,
    backoff: Backoff,
}

/// A planner that failed so often in succession is left alone for a while: each failure may have taken its whole deadline, and there may
/// be thousands of Services to plan. What breaks with one Service's settings only is asked again for all others.
const FAULTS_IN_SUCCESSION: u32 = 5;

struct Selected {
    port: ServicePort,
    groups: u32,
    /// The instance that stands there now has planned it.
    in_instance: bool,
}

impl Planners {
    /// Planners for the versions of a registry.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, instances: HashMap::new(), selected: HashMap::new(), failing: HashMap::new(), now_ms: 0 }
    }

    /// The time of what is asked from now on.
    pub fn set_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Drops the instances of versions that are not in use any more.
    pub fn retain(&mut self, live: &[VersionId]) {
        let live: HashSet<VersionId> = live.iter().copied().collect();
        self.instances.retain(|version, _| live.contains(version));
        self.selected.retain(|(version, _), _| live.contains(version));
        self.failing.retain(|version, _| live.contains(version));
    }

    /// Makes every instance anew at its next use: the node changed.
    pub fn reconfigure(&mut self) {
        self.instances.clear();
        self.selected.values_mut().for_each(|selected| selected.in_instance = false);
    }

    /// Calls an instance, unless it has failed too often.
    fn ask<R>(&mut self, version: VersionId, call: impl FnOnce(&mut Instance) -> Result<R, Fault>) -> Result<R, Fault> {
        let now_ms = self.now_ms;
        let rests = |failing: &Failing| failing.faults >= FAULTS_IN_SUCCESSION && now_ms < failing.backoff.until_ms();
        if self.failing.get(&version).is_some_and(rests) {
            return Err(Fault::NotAsked("its planner failed again and again"));
        }
        let answer = self.call(version, call);
        match &answer {
            Ok(_) | Err(Fault::Refused(_)) => drop(self.failing.remove(&version)),
            Err(Fault::NotAsked(_)) => {}
            Err(_) => {
                let new = || Failing { faults: 0, backoff: Backoff::new(u64::from(version.0)) };
                let failing = self.failing.entry(version).or_insert_with(new);
                failing.faults += 1;
                if failing.faults >= FAULTS_IN_SUCCESSION {
                    failing.backoff.wait(now_ms);
                }
            }
        }
        answer
    }

    /// Calls an instance, which is made if there is none, and dropped if it faults.
    fn call<R>(&mut self, version: VersionId, call: impl FnOnce(&mut Instance) -> Result<R, Fault>) -> Result<R, Fault> {
        let mut instance = match self.instances.remove(&version) {
            Some(instance) => instance,
            None => {
                let policy = self.registry.loaded(version).ok_or(Fault::NotAsked("not loaded"))?;
                policy.instantiate(Place::Planner)?
            }
        };
        let answer = call(&mut instance);
        if instance.is_dead() {
            let lost = self.selected.iter_mut().filter(|((of, _), _)| *of == version);
            lost.for_each(|(_, selected)| selected.in_instance = false);
        } else {
            self.instances.insert(version, instance);
        }
        answer
    }
}

impl Planner for Planners {
    fn plan_selector(&mut self, version: VersionId, port: &ServicePort) -> Result<Grouping, Fault> {
        self.selected.remove(&(version, port.id));
        let grouping = self.ask(version, |instance| instance.plan_selector(port)).and_then(check_grouping)?;
        let selected = Selected { port: port.clone(), groups: grouping.groups.len() as u32, in_instance: true };
        self.selected.insert((version, port.id), selected);
        Ok(grouping)
    }

    fn classify(&mut self, version: VersionId, service: ServiceId, labels: &[Label]) -> Result<Option<u32>, Fault> {
        let selected = self.selected.get_mut(&(version, service)).ok_or(Fault::NotAsked("it has no plan for this Service"))?;
        let groups = selected.groups;
        // Set before the call: if the plan faults, `ask` takes it back.
        let again = (!std::mem::replace(&mut selected.in_instance, true)).then(|| selected.port.clone());
        let group = self.ask(version, |instance| {
            if let Some(port) = again {
                instance.plan_selector(&port)?;
            }
            instance.classify(service, labels)
        })?;
        match group {
            Some(group) if group >= groups => Err(Fault::OutOfRange(format!("group {group} of {groups}"))),
            group => Ok(group),
        }
    }

    fn plan_traffic_policy(&mut self, version: VersionId, port: &ServicePort, endpoints: &[Endpoint]) -> Result<Partition, Fault> {
        let partition = self.ask(version, |instance| instance.plan_traffic_policy(port, endpoints))?;
        check_partition(partition, endpoints.len())
    }

    fn plan_balancer(&mut self, version: VersionId, port: &ServicePort, members: &[Endpoint]) -> Result<Vec<u8>, Fault> {
        self.ask(version, |instance| instance.plan_balancer(port, members))
    }

    fn forget(&mut self, service: ServiceId) {
        self.selected.retain(|(_, of), _| *of != service);
        let mut dead = Vec::new();
        for (version, instance) in &mut self.instances {
            if let Err(fault) = instance.forget(service) {
                tracing::warn!("a planner faulted in `forget`, and is made anew: {fault}");
                dead.push(*version);
            }
        }
        for version in dead {
            self.instances.remove(&version);
            let lost = self.selected.iter_mut().filter(|((of, _), _)| *of == version);
            lost.for_each(|(_, selected)| selected.in_instance = false);
        }
    }
}

/// Names for people, of a bounded number.
pub(super) fn check_grouping(mut grouping: Grouping) -> Result<Grouping, Fault> {
    at_most("groups", grouping.groups.len())?;
    grouping.groups.iter_mut().for_each(|name| *name = label(name));
    Ok(grouping)
}

/// Each member a slot, none twice, in a bounded number of subsets.
pub(super) fn check_partition(mut partition: Partition, endpoints: usize) -> Result<Partition, Fault> {
    at_most("subsets", partition.subsets.len())?;
    let mut seen = vec![usize::MAX; endpoints];
    for (at, subset) in partition.subsets.iter_mut().enumerate() {
        subset.name = label(&subset.name);
        for slot in &subset.members {
            match seen.get_mut(*slot as usize) {
                Some(last) if *last != at => *last = at,
                Some(_) => return Err(Fault::OutOfRange(format!("slot {slot} twice in subset {at}"))),
                None => return Err(Fault::OutOfRange(format!("slot {slot} of {endpoints} in subset {at}"))),
            }
        }
    }
    Ok(partition)
}

fn at_most(what: &str, count: usize) -> Result<(), Fault> {
    if count <= crate::table::MAX_CANDIDATE_SETS {
        return Ok(());
    }
    Err(Fault::OutOfRange(format!("{count} {what}, of at most {}", crate::table::MAX_CANDIDATE_SETS)))
}

/// A guest's name for something, as far as it is shown.
fn label(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(63).collect()
}
