//! Which policy fills a stage of a Service port, and how it is asked for a plan: the version in force, with the version before it as
//! a stand-in; what was planned from the same inputs is not planned again. Settings that it refuses do not undo what worked: those that
//! it planned with last go on.

use std::sync::Arc;

use super::about;
use crate::objects::model::{Diagnostic, Service, Severity, StageOptions};
use crate::objects::reference::Reference;
use crate::policy::catalogue::{Absence, Catalogue, DEFAULT_BALANCER, DEFAULT_SELECTOR, DEFAULT_TRAFFIC_POLICY, Entry};
use crate::policy::contract::{Fault, Planner, Setting, StageKind};
use crate::table::{Planned, PolicyVersion, PortRecord, Stage, VersionId};

/// What a rebuild works with.
pub(super) struct Session<'a> {
    pub(super) planner: &'a mut dyn Planner,
    pub(super) catalogue: &'a Catalogue,
    /// Every fault of the round, for counters.
    pub(super) faults: Vec<(VersionId, Fault)>,
}

/// What a policy is asked for as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// To fill a stage.
    Stage(StageKind),
    /// As the balancer that is tried beside the one in force.
    Shadow,
}

/// The policy of a stage for one Service port.
pub(super) struct Choice {
    role: Role,
    /// As the Service asks for it.
    asked: Arc<str>,
    /// The name and settings in force, which differ where the name asked for does not exist.
    in_force: InForce,
    entry: Option<Entry>,
    /// The Service port as this policy sees it.
    pub(super) record: Arc<PortRecord>,
}

/// A policy's name, and what the Service's annotations say to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InForce {
    pub(super) name: Arc<str>,
    settings: Vec<Setting>,
}

/// What a stage makes of its inputs.
pub(super) trait Output {
    /// Whether a policy was asked for it, and so accepts its settings.
    fn was_asked_for(&self) -> bool {
        true
    }
}

/// What a version made of its inputs.
#[derive(Debug)]
pub(super) struct Memo<T> {
    pub(super) version: Arc<PolicyVersion>,
    record: Arc<PortRecord>,
    pub(super) output: T,
}

/// Settings that a version refused to plan with.
#[derive(Debug)]
struct Refusal {
    version: VersionId,
    record: Arc<PortRecord>,
    why: String,
}

/// A stage of one Service port, between rebuilds.
#[derive(Debug)]
pub(super) struct StageState<T> {
    asked: Arc<str>,
    in_force: Option<InForce>,
    /// What the policy last planned with: in force again where it refuses what the Service says now.
    proven: Option<InForce>,
    refusals: Vec<Refusal>,
    pub(super) current: Option<Memo<T>>,
    pub(super) stand_in: Option<Memo<T>>,
    /// The version in force failed: worth another try later.
    pub(super) faulted: bool,
}

impl<T> Default for StageState<T> {
    fn default() -> Self {
        Self { asked: Arc::from(""), in_force: None, proven: None, refusals: Vec::new(), current: None, stand_in: None, faulted: false }
    }
}

impl<T: Output> StageState<T> {
    /// The names that this stage depends on: asked for, and in force.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        std::iter::once(&self.asked).chain(self.in_force.iter().map(|in_force| &in_force.name))
    }

    /// Nothing that was planned may be used again.
    pub(super) fn forget(&mut self) {
        self.refusals.clear();
        self.current = None;
        self.stand_in = None;
    }

    /// Settles which policy it is.
    pub(super) fn choose(
        &self,
        role: Role,
        catalogue: &Catalogue,
        service: &Service,
        base: &PortRecord,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Choice {
        let (stage, options, default) = (role.stage(), role.options(service), role.default());
        let asked: Arc<str> = options.policy.as_deref().unwrap_or(default).into();
        let known = catalogue.entry(stage, &asked);
        let wanted = InForce { name: Arc::clone(&asked), settings: settings(options) };
        // A name that nothing answers to: what the Service had before goes on, else the default; the settings are not meant for it.
        let in_force = match (known, &self.in_force) {
            (Some(_), _) => wanted,
            (None, Some(before)) if catalogue.entry(stage, &before.name).is_some() => before.clone(),
            (None, _) => InForce { name: default.into(), settings: Vec::new() },
        };
        if known.is_none() {
            diagnostics.push(if Reference::is_meant(&asked) {
                absent_policy(role, catalogue, service, &asked, &in_force.name)
            } else {
                unknown_policy(role, catalogue, service, &asked, &in_force.name)
            });
        }
        let record = Arc::new(PortRecord { settings: in_force.settings.clone(), ..base.clone() });
        let entry = catalogue.entry(stage, &in_force.name).cloned();
        Choice { role, asked, in_force, entry, record }
    }

    /// Has the version in force plan, and the one before it, which stands in if it cuts things in the `same` way; where the version in
    /// force fails, the one before it goes on in its place. `attempt` is given what the version made of the same record last time.
    pub(super) fn plan(
        &mut self,
        choice: Choice,
        session: &mut Session<'_>,
        service: &Service,
        diagnostics: &mut Vec<Diagnostic>,
        attempt: impl FnMut(&mut dyn Planner, VersionId, &PortRecord, Option<T>) -> Result<T, Fault>,
        same: impl Fn(&T, &T) -> bool,
    ) {
        let memos = [self.current.take(), self.stand_in.take()];
        let mut refusals = std::mem::take(&mut self.refusals);
        self.faulted = false;
        self.asked = Arc::clone(&choice.asked);
        self.in_force = Some(choice.in_force.clone());
        let Some(entry) = &choice.entry else { return };
        refusals.retain(|refusal| refusal.record == choice.record && versions(entry).any(|version| version == refusal.version));
        let former = self.proven.as_ref().and_then(|proven| choice.with_former(proven));
        let mut asking = Asking { choice: &choice, former, memos, refusals, session, attempt };
        match asking.settle(&entry.current) {
            Ok(current) => {
                let before = entry.previous.as_ref().and_then(|version| asking.ask(version, &current.record).ok());
                self.stand_in = before.filter(|before| same(&before.output, &current.output));
                if current.record != choice.record {
                    diagnostics.extend(asking.refusal(&entry.current).map(|why| refused_settings(&choice, service, why)));
                }
                self.current = Some(current);
            }
            Err(fault) => {
                self.faulted = true;
                self.current = entry.previous.as_ref().and_then(|version| asking.settle(version).ok());
                diagnostics.push(could_not_plan(&choice, service, &fault, self.current.is_some()));
            }
        }
        self.refusals = asking.refusals;
        if let Some(current) = self.current.as_ref().filter(|current| current.output.was_asked_for()) {
            self.proven = Some(InForce { name: choice.in_force.name, settings: current.record.settings.clone() });
        }
    }

    /// The version in force, and the settings that it planned with.
    pub(super) fn planner(&self) -> Option<(VersionId, &[Setting])> {
        self.current.as_ref().map(|memo| (memo.version.id, memo.record.settings.as_slice()))
    }

    /// As the table shows it.
    pub(super) fn stage<P>(&self, plan: impl Fn(&T) -> P) -> Stage<P> {
        let planned =
            |memo: &Option<Memo<T>>| memo.as_ref().map(|memo| Planned { version: Arc::clone(&memo.version), plan: plan(&memo.output) });
        Stage { name: Arc::clone(&self.asked), current: planned(&self.current), stand_in: planned(&self.stand_in) }
    }
}

impl Choice {
    /// The Service port as the policy saw it when it last planned, where that differs from now in the settings.
    fn with_former(&self, proven: &InForce) -> Option<Arc<PortRecord>> {
        let differs = proven.name == self.in_force.name && proven.settings != self.in_force.settings;
        differs.then(|| Arc::new(PortRecord { settings: proven.settings.clone(), ..PortRecord::clone(&self.record) }))
    }
}

/// One round of asking a policy.
struct Asking<'a, 's, T, F> {
    choice: &'a Choice,
    /// With the settings that it last planned with, where they are others.
    former: Option<Arc<PortRecord>>,
    memos: [Option<Memo<T>>; 2],
    refusals: Vec<Refusal>,
    session: &'a mut Session<'s>,
    attempt: F,
}

impl<T, F: FnMut(&mut dyn Planner, VersionId, &PortRecord, Option<T>) -> Result<T, Fault>> Asking<'_, '_, T, F> {
    /// What a version makes of the Service's settings or, where it refuses them, of those before.
    fn settle(&mut self, version: &Arc<PolicyVersion>) -> Result<Memo<T>, Fault> {
        let choice = self.choice;
        let Some(former) = self.former.clone() else { return self.ask(version, &choice.record) };
        // What a selector says of settings hangs on them alone; what the others say, on the endpoints too: they may think better of it.
        let known =
            self.refusal(version).filter(|_| choice.role == Role::Stage(StageKind::Selector)).map(|why| Fault::Refused(why.to_owned()));
        let refused = match known {
            Some(refused) => refused,
            None => match self.ask(version, &choice.record) {
                Err(fault @ Fault::Refused(_)) => fault,
                settled => return settled,
            },
        };
        self.ask(version, &former).map_err(|_| refused)
    }

    /// Why a version does not plan with the Service's settings.
    fn refusal(&self, version: &Arc<PolicyVersion>) -> Option<&str> {
        let known = |refusal: &&Refusal| refusal.version == version.id && refusal.record == self.choice.record;
        self.refusals.iter().find(known).map(|refusal| refusal.why.as_str())
    }

    fn ask(&mut self, version: &Arc<PolicyVersion>, record: &Arc<PortRecord>) -> Result<Memo<T>, Fault> {
        let usable =
            |memo: &&mut Option<Memo<T>>| memo.as_ref().is_some_and(|memo| memo.version.id == version.id && memo.record == *record);
        let memo = self.memos.iter_mut().find(usable).and_then(Option::take).map(|memo| memo.output);
        let planned = (self.attempt)(&mut *self.session.planner, version.id, record, memo);
        self.refusals.retain(|refusal| refusal.version != version.id || refusal.record != *record);
        planned.map(|output| Memo { version: Arc::clone(version), record: Arc::clone(record), output }).inspect_err(|fault| {
            self.session.faults.push((version.id, fault.clone()));
            if let Fault::Refused(why) = fault {
                self.refusals.push(Refusal { version: version.id, record: Arc::clone(record), why: why.clone() });
            }
            if self.choice.role == Role::Stage(StageKind::Selector) {
                // Asked for another plan, its planner no longer knows the one that it made: it could not put labels to groups.
                self.memos
                    .iter_mut()
                    .filter(|memo| memo.as_ref().is_some_and(|memo| memo.version.id == version.id))
                    .for_each(|memo| *memo = None);
            }
        })
    }
}

impl Role {
    fn stage(self) -> StageKind {
        match self {
            Self::Stage(stage) => stage,
            Self::Shadow => StageKind::Balancer,
        }
    }

    /// The annotation that names the policy, after its prefix.
    fn annotation(self) -> &'static str {
        match self {
            Self::Stage(stage) => stage.name(),
            Self::Shadow => "balancer-shadow",
        }
    }

    fn options(self, service: &Service) -> &StageOptions {
        match self {
            Self::Stage(StageKind::Selector) => &service.options.selector,
            Self::Stage(StageKind::TrafficPolicy) => &service.options.traffic_policy,
            Self::Stage(StageKind::Balancer) => &service.options.balancer,
            Self::Shadow => &service.options.shadow,
        }
    }

    /// The policy where the Service names none; nothing goes by the empty name.
    fn default(self) -> &'static str {
        match self {
            Self::Stage(StageKind::Selector) => DEFAULT_SELECTOR,
            Self::Stage(StageKind::TrafficPolicy) => DEFAULT_TRAFFIC_POLICY,
            Self::Stage(StageKind::Balancer) => DEFAULT_BALANCER,
            Self::Shadow => "",
        }
    }
}

fn versions(entry: &Entry) -> impl Iterator<Item = VersionId> {
    std::iter::once(&entry.current).chain(&entry.previous).map(|version| version.id)
}

fn settings(options: &StageOptions) -> Vec<Setting> {
    options.settings.iter().map(|(key, value)| Setting { key: key.clone(), value: value.clone() }).collect()
}

fn field(role: Role) -> String {
    format!("metadata.annotations[pointsman.dev/{}]", role.annotation())
}

/// Of a policy that cannot be had, for which this one takes over; empty: nobody.
fn consequence(instead: &str) -> String {
    if instead.is_empty() { "nobody is tried".to_owned() } else { format!("{instead} is used instead") }
}

fn unknown_policy(role: Role, catalogue: &Catalogue, service: &Service, asked: &str, instead: &str) -> Diagnostic {
    let stage = role.stage();
    let names: Vec<&str> = catalogue.names(stage).collect();
    let near = names.iter().map(|name| (strsim::osa_distance(asked, name), name)).min().filter(|(edits, _)| *edits <= 3);
    let near = near.map_or(String::new(), |(_, name)| format!("did you mean {name}? "));
    let message = format!("there is no {} named {asked}; {}", stage.name(), consequence(instead));
    Diagnostic {
        remedy: Some(format!("{near}Known: {}. More come from --policy-dir", names.join(", "))),
        ..about(service, &field(role), Severity::Error, message)
    }
}

/// About a policy in a registry.
fn absent_policy(role: Role, catalogue: &Catalogue, service: &Service, asked: &str, instead: &str) -> Diagnostic {
    let name = role.stage().name();
    let (severity, what, remedy) = match (catalogue.stage_of(asked), catalogue.absent.get(asked)) {
        (Some(other), _) => {
            (Severity::Error, format!("is a {}, not a {name}", other.name()), format!("name it in pointsman.dev/{}", other.name()))
        }
        (None, None | Some(Absence::Awaited)) => {
            (Severity::Warning, "is being pulled".to_owned(), "nothing: it takes over when it is there".to_owned())
        }
        (None, Some(Absence::NotAllowed)) => {
            let registry = asked.split('/').next().unwrap_or_default();
            (
                Severity::Error,
                "is in a registry that policies may not be pulled from".to_owned(),
                format!("start the host with --allow-policy-registry {registry}, or with a path in it"),
            )
        }
        (None, Some(Absence::NotKept)) => (
            Severity::Warning,
            "is not in the cache, and this command opens no socket".to_owned(),
            format!("`pointsman policy pull {asked}` fetches it; by tag, only a running host looks it up"),
        ),
        (None, Some(Absence::Failed(why))) => {
            (Severity::Error, format!("could not be pulled: {why}"), "it is tried again by itself".to_owned())
        }
        (None, Some(Absence::Refused(why))) => {
            (Severity::Error, format!("was pulled and refused: {why}"), "name a version that is sound".to_owned())
        }
    };
    let message = format!("{name} {asked} {what}; {}", consequence(instead));
    Diagnostic { remedy: Some(remedy), ..about(service, &field(role), severity, message) }
}

fn refused_settings(choice: &Choice, service: &Service, why: &str) -> Diagnostic {
    let record = &choice.record;
    let message = format!(
        "{} {} refused the settings of Service {}/{} port {}: {why}; the settings before stay in force",
        choice.role.stage().name(),
        choice.in_force.name,
        record.namespace,
        record.name,
        record.port
    );
    Diagnostic {
        remedy: Some("mend the settings: after a restart the host does not know those before".to_owned()),
        ..about(service, &field(choice.role), Severity::Error, message)
    }
}

fn could_not_plan(choice: &Choice, service: &Service, fault: &Fault, before_goes_on: bool) -> Diagnostic {
    let record = &choice.record;
    let consequence = match choice.role {
        _ if before_goes_on => "the version before it goes on",
        Role::Stage(_) => "the host's fallback is in force",
        Role::Shadow => "it is not tried",
    };
    let message = format!(
        "{} {} could not plan Service {}/{} port {}: {fault}; {consequence}",
        choice.role.stage().name(),
        choice.in_force.name,
        record.namespace,
        record.name,
        record.port
    );
    Diagnostic {
        remedy: Some("mend the policy or its settings, or name another".to_owned()),
        ..about(service, &field(choice.role), Severity::Error, message)
    }
}
