//! Policies that Services name by reference: which of them may be pulled, and what became of each. No I/O: who pulls is told what is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::objects::model::ServiceOptions;
use crate::objects::reference::{Reference, Repositories};
use crate::policy::catalogue::Absence;

/// The references that Services name now, and those that they named.
pub(super) struct References {
    allowed: Vec<Repositories>,
    /// Of a reference that nobody has tried to pull yet.
    untried: Absence,
    /// `None`: in force.
    named: BTreeMap<Arc<str>, Option<Absence>>,
    /// In force, and named by no Service any more.
    left: BTreeSet<Arc<str>>,
}

impl References {
    /// Of a host that may pull from these repositories; or, if it opens no socket, may use what was pulled from there before.
    pub(super) fn new(allowed: Vec<Repositories>, pulls: bool) -> Self {
        let untried = if pulls { Absence::Awaited } else { Absence::NotKept };
        Self { allowed, untried, named: BTreeMap::new(), left: BTreeSet::new() }
    }

    /// Services say what they name.
    pub(super) fn name<'a>(&mut self, services: impl Iterator<Item = &'a ServiceOptions>) {
        let policies = services.flat_map(|options| [&options.selector, &options.traffic_policy, &options.balancer, &options.shadow]);
        let names = policies.filter_map(|stage| stage.policy.as_deref()).filter(|name| Reference::is_meant(name));
        let mut before = std::mem::take(&mut self.named);
        for name in names {
            if self.named.contains_key(name) {
                continue;
            }
            let state = before.remove(name).unwrap_or_else(|| match self.left.remove(name) {
                true => None,
                false => Some(self.judge(name)),
            });
            self.named.insert(name.into(), state);
        }
        self.left.extend(before.into_iter().filter(|(_, absence)| absence.is_none()).map(|(name, _)| name));
    }

    fn judge(&self, name: &str) -> Absence {
        let allowed = name.parse().is_ok_and(|reference| self.allowed.iter().any(|repositories| repositories.contain(&reference)));
        if allowed { self.untried.clone() } else { Absence::NotAllowed }
    }

    /// What is to be pulled.
    pub(super) fn wanted(&self) -> BTreeSet<Reference> {
        let absent = self.named.iter().filter(|(_, absence)| !matches!(absence, None | Some(Absence::NotAllowed | Absence::Refused(_))));
        absent.filter_map(|(name, _)| name.parse().ok()).collect()
    }

    /// Why what is named is not here, where it is not.
    pub(super) fn absent(&self) -> BTreeMap<Arc<str>, Absence> {
        let absence = |(name, absence): (&Arc<str>, &Option<Absence>)| Some((Arc::clone(name), absence.clone()?));
        self.named.iter().filter_map(absence).collect()
    }

    /// It is in force, or not here for this reason.
    pub(super) fn settle(&mut self, name: &str, absence: Option<Absence>) {
        match (self.named.get_mut(name), absence) {
            (Some(state), absence) => *state = absence,
            // No Service names it any more, now that it has come.
            (None, None) => drop(self.left.insert(name.into())),
            (None, Some(_)) => {}
        }
    }

    /// In force, and perhaps of no use: nobody names it, but a Service may go on with it until what it names is there.
    pub(super) fn left(&self) -> &BTreeSet<Arc<str>> {
        &self.left
    }

    /// These are gone.
    pub(super) fn forget(&mut self, gone: &BTreeSet<Arc<str>>) {
        self.left.retain(|name| !gone.contains(name));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::objects::model::StageOptions;

    fn services(policies: &[&str]) -> Vec<ServiceOptions> {
        let service = |policy: &&str| {
            let mut options = ServiceOptions::default();
            options.balancer.policy = Some((*policy).to_owned());
            options
        };
        policies.iter().map(service).collect()
    }

    fn references(pulls: bool) -> References {
        References::new(vec!["r.example/team".parse().unwrap()], pulls)
    }

    fn wanted(references: &References) -> Vec<String> {
        references.wanted().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_allowed_is_wanted_until_it_is_settled() {
        let mut references = references(true);
        let named = services(&["maglev", "r.example/team/p:1", "r.example/other/p:1", "r.example/team/p:1", "r.example/team/q:1"]);
        references.name(named.iter());
        assert_eq!(wanted(&references), ["r.example/team/p:1", "r.example/team/q:1"]);
        let absent = references.absent();
        assert_eq!(absent["r.example/other/p:1"], Absence::NotAllowed);
        assert_eq!(absent["r.example/team/p:1"], Absence::Awaited);
        references.settle("r.example/team/p:1", Some(Absence::Failed("down".into())));
        references.settle("r.example/team/q:1", Some(Absence::Refused("unsound".into())));
        assert_eq!(wanted(&references), ["r.example/team/p:1"], "a failure is tried again, a refusal is not");
        references.settle("r.example/team/p:1", None);
        references.name(named.iter());
        assert_eq!(wanted(&references), Vec::<String>::new());
        assert_eq!(references.absent().len(), 2, "what became of each is known as long as it is named");
    }

    /// Whatever a Service names a policy for, a balancer that is only tried among it.
    #[test]
    fn every_stage_is_looked_at() {
        let stages: [fn(&mut ServiceOptions) -> &mut StageOptions; 4] =
            [|o| &mut o.selector, |o| &mut o.traffic_policy, |o| &mut o.balancer, |o| &mut o.shadow];
        for (stage, at) in stages.into_iter().zip(0..) {
            for (name, absence) in [("r.example/team/p:1", Absence::Awaited), ("r.example/other/p:1", Absence::NotAllowed)] {
                let (mut references, mut options) = (references(true), ServiceOptions::default());
                stage(&mut options).policy = Some(name.to_owned());
                references.name([&options].into_iter());
                assert_eq!(references.absent().get(name), Some(&absence), "{at} {name}");
            }
        }
    }

    #[test]
    fn what_nobody_names_any_more_is_left_and_found_again() {
        let mut references = references(true);
        let (both, one) = (services(&["r.example/team/p:1", "r.example/team/q:1"]), services(&["r.example/team/q:1"]));
        references.name(both.iter());
        references.settle("r.example/team/p:1", None);
        references.name(one.iter());
        assert_eq!(references.left().iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["r.example/team/p:1"]);
        references.name(both.iter());
        assert_eq!((references.left().len(), wanted(&references)), (0, vec!["r.example/team/q:1".to_owned()]), "it is still in force");
        references.name([].into_iter());
        references.settle("r.example/team/q:1", None);
        assert_eq!(references.left().len(), 2, "what comes when nobody names it any more is left, too");
        let gone = references.left().clone();
        references.forget(&gone);
        references.name(one.iter());
        assert_eq!(wanted(&references), ["r.example/team/q:1"], "forgotten, it is pulled anew");
    }

    #[test]
    fn without_sockets_nothing_is_awaited() {
        let mut references = references(false);
        references.name(services(&["r.example/team/p:1"]).iter());
        assert_eq!(references.absent()["r.example/team/p:1"], Absence::NotKept);
    }
}
