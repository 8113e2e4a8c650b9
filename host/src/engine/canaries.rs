//! Balancers that are tried on some clients: watched, and rolled back when they fail. The workers count, the control side decides here, and
//! the table carries what holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::admin::{CanaryStatus, ShadowStatus};
use crate::observe::ShadowKey;
use crate::policy::counters::{FAULT_CLASSES, PolicyCounters};
use crate::table::{Port, Shadow, Share, Table, VersionId};

/// A candidate with so many faults on a Service is rolled back there, even if they come too seldom for its breaker: a sound balancer has none.
pub(super) const MAX_CANARY_FAULTS: u64 = 10;

/// What is watched, and what was rolled back.
#[derive(Default)]
pub(super) struct Canaries {
    watched: BTreeMap<ShadowKey, Watched>,
    /// Those that are rolled back, or will be by the table that is to come.
    ended: BTreeMap<ShadowKey, Ended>,
    /// How often, of every Service that somebody is tried on.
    rollbacks: BTreeMap<ShadowKey, u64>,
}

/// A canary that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trial {
    version: VersionId,
    share: Share,
    since: u64,
}

struct Watched {
    trial: Trial,
    /// Openings of the candidate's breakers, and its faults, before it was in charge.
    opened: u64,
    faults: u64,
}

struct Ended {
    trial: Trial,
    why: String,
}

/// What the workers counted: one list a worker, and the candidates' faults by Service.
pub(super) struct Counts<'a> {
    pub(super) policies: &'a [Vec<PolicyCounters>],
    pub(super) faults: &'a BTreeMap<ShadowKey, u64>,
}

/// A canary that must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RollBack {
    pub(super) service: ShadowKey,
    pub(super) message: String,
}

impl Canaries {
    /// Whether a table has other canaries than are watched: what they did before they are in charge is to be counted first.
    pub(super) fn differ(&self, table: &Table) -> bool {
        let running = running(table);
        running.len() != self.watched.len() || running.iter().any(|(key, trial)| self.watched.get(key).is_none_or(|w| w.trial != *trial))
    }

    /// Takes a table's canaries in; `counts` are those of before it was in force.
    pub(super) fn begin(&mut self, table: &Table, counts: &Counts<'_>) {
        let mut before = std::mem::take(&mut self.watched);
        for (key, trial) in running(table) {
            let known = before.remove(&key).filter(|watched| watched.trial == trial);
            let opened = counts.opened(trial.version);
            let fresh = || Watched { trial, opened, faults: counts.faults_on(&key) };
            let watched = known.unwrap_or_else(fresh);
            self.watched.insert(key, watched);
        }
        self.tidy(table);
    }

    /// Forgets what no table knows any more.
    pub(super) fn tidy(&mut self, table: &Table) {
        let running = running(table);
        let mut tried: BTreeMap<ShadowKey, bool> = BTreeMap::new();
        for (port, shadow) in table.shadowed() {
            *tried.entry(key(port)).or_default() |= rolled_back(shadow);
        }
        self.rollbacks.retain(|key, _| tried.contains_key(key));
        // The same trial in force: its Service has not been planned since.
        self.ended.retain(|key, ended| tried.get(key) == Some(&true) || running.get(key) == Some(&ended.trial));
    }

    /// The canaries that must end, by what the workers counted. Each is told once.
    pub(super) fn look(&mut self, table: &Table, counts: &Counts<'_>) -> Vec<RollBack> {
        let mut ended = Vec::new();
        for (port, shadow) in table.shadowed() {
            let key = key(port);
            let Some(watched) = self.watched.get_mut(&key).filter(|_| !self.ended.contains_key(&key)) else { continue };
            // A worker's instance that was made anew counts from nothing.
            let (opened, faults) = (counts.opened(watched.trial.version), counts.faults_on(&key));
            watched.opened = watched.opened.min(opened);
            watched.faults = watched.faults.min(faults);
            let why = if opened > watched.opened {
                "its breaker opened".to_owned()
            } else if faults - watched.faults >= MAX_CANARY_FAULTS {
                format!("it failed {} times on this Service, {MAX_CANARY_FAULTS} are too many", faults - watched.faults)
            } else {
                continue;
            };
            let trial = watched.trial;
            self.watched.remove(&key);
            ended.push(self.end(key, trial, shadow, &port.balancer.name, &why, counts));
        }
        ended
    }

    fn end(&mut self, key: ShadowKey, trial: Trial, shadow: &Shadow, balancer: &str, why: &str, counts: &Counts<'_>) -> RollBack {
        let why = format!("{why} ({})", counts.told(trial.version));
        let digest = shadow.planned.as_ref().map_or("-", |planned| &planned.version.digest);
        let share = trial.share;
        let message = format!(
            "the canary of Service {}/{} is rolled back: balancer \"{}\" ({digest}) was in charge of {share} of its clients, and {why}; \
             {balancer} decides for all of them",
            key.namespace, key.service, shadow.name
        );
        *self.rollbacks.entry(key.clone()).or_default() += 1;
        self.ended.insert(key.clone(), Ended { trial, why });
        RollBack { service: key, message }
    }

    /// Why a Service's canary was rolled back.
    pub(super) fn reason(&self, key: &ShadowKey) -> Option<&str> {
        self.ended.get(key).map(|ended| ended.why.as_str())
    }

    /// Everybody who is tried, by Service.
    pub(super) fn status(&self, table: &Table) -> Vec<ShadowStatus> {
        let services: BTreeMap<ShadowKey, (&Arc<Port>, &Shadow)> =
            table.shadowed().map(|(port, shadow)| (key(port), (port, shadow))).collect();
        let status = |(key, (port, shadow)): (ShadowKey, (&Arc<Port>, &Shadow))| ShadowStatus {
            namespace: key.namespace.to_string(),
            name: key.service.to_string(),
            balancer: port.balancer.name.to_string(),
            candidate: shadow.name.to_string(),
            digest: shadow.planned.as_ref().map(|planned| planned.version.digest.to_string()),
            canary: shadow.canary.map(|canary| CanaryStatus {
                asked: canary.asked.to_string(),
                in_force: canary.in_force.to_string(),
                share: f64::from(canary.in_force.millionths()) / f64::from(Share::WHOLE),
                rolled_back: self.reason(&key).filter(|_| rolled_back(shadow)).map(str::to_owned),
                rollbacks: self.rollbacks.get(&key).copied().unwrap_or(0),
            }),
        };
        services.into_iter().map(status).collect()
    }
}

impl Counts<'_> {
    fn of(&self, version: VersionId) -> impl Iterator<Item = &PolicyCounters> {
        self.policies.iter().flatten().filter(move |counters| counters.candidate && counters.version.id == version)
    }

    fn opened(&self, version: VersionId) -> u64 {
        self.of(version).map(|counters| counters.breaker_opened).sum()
    }

    fn faults_on(&self, key: &ShadowKey) -> u64 {
        self.faults.get(key).copied().unwrap_or(0)
    }

    /// A version's answers and faults, as a candidate anywhere on this host.
    fn told(&self, version: VersionId) -> String {
        let (mut answered, mut faults) = (0, [0; FAULT_CLASSES.len()]);
        for counters in self.of(version) {
            answered += counters.answered;
            faults.iter_mut().zip(counters.faults).for_each(|(sum, more)| *sum += more);
        }
        let classes = FAULT_CLASSES.iter().zip(faults).filter(|(_, count)| *count > 0).map(|(class, count)| format!(", {class} {count}"));
        format!("answered {answered}{}", classes.collect::<String>())
    }
}

/// The Service of a port.
pub(super) fn key(port: &Port) -> ShadowKey {
    ShadowKey { namespace: port.record.namespace.as_str().into(), service: port.record.name.as_str().into() }
}

fn rolled_back(shadow: &Shadow) -> bool {
    shadow.canary.is_some_and(|canary| canary.rolled_back())
}

/// The canaries that are in charge of somebody.
fn running(table: &Table) -> BTreeMap<ShadowKey, Trial> {
    let mut running = BTreeMap::new();
    for (port, shadow) in table.shadowed() {
        let (Some(planned), Some(canary)) = (&shadow.planned, shadow.canary) else { continue };
        if canary.in_force > Share::NONE {
            let trial = Trial { version: planned.version.id, share: canary.in_force, since: shadow.since };
            running.entry(key(port)).or_insert(trial);
        }
    }
    running
}

#[cfg(test)]
mod tests;
