//! The balancer that is tried on a Service port, as the table has it.

use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use super::ServiceName;
use super::plans::SetPlans;
use super::stages::StageState;
use crate::objects::model::ServiceOptions;
use crate::policy::contract::Setting;
use crate::table::{Canary, CandidateSet, Shadow, Share, VersionId};

/// Who is compared, with which settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Compared([Option<(VersionId, Vec<Setting>)>; 2]);

/// A comparison, and the generation in which it began.
pub(super) type Comparison = (Compared, u64);

/// The comparison as it stands: the one before, unless somebody else is compared now.
pub(super) fn comparison(
    balancer: &StageState<SetPlans>,
    candidate: &StageState<SetPlans>,
    before: Option<Comparison>,
    generation: u64,
) -> Comparison {
    let planned = |stage: &StageState<SetPlans>| stage.planner().map(|(version, settings)| (version, settings.to_vec()));
    let compared = Compared([planned(balancer), planned(candidate)]);
    match before {
        Some((known, since)) if known == compared => (known, since),
        _ => (compared, generation),
    }
}

/// As the table shows it. `rolled_back`: the candidate is in charge of nobody, whatever is asked.
pub(super) fn entry(
    candidate: &StageState<SetPlans>,
    sets: &[CandidateSet],
    service: &ServiceName,
    options: &ServiceOptions,
    since: u64,
    rolled_back: bool,
) -> Shadow {
    let stage = candidate.stage(|plans| sets.iter().map(|set| plans.get(&set.members).cloned().unwrap_or_default()).collect::<Arc<[_]>>());
    let canary = options.canary.map(|asked| Canary {
        asked,
        in_force: if rolled_back { Share::NONE } else { asked },
        salt: xxh64(service.to_string().as_bytes(), 0),
    });
    Shadow { name: stage.name, planned: stage.current, since, canary }
}
