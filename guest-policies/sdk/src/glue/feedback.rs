//! The export `feedback`.
#![allow(missing_docs, unreachable_pub, unused_qualifications, reason = "generated")]

use super::{Home, convert};
use crate::{BalancerInstance, LearningBalancer, types};
use exports::pointsman::policy::feedback as wit;

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package pointsman:sdk;
        world exports-feedback { export pointsman:policy/feedback@0.1.0; }
    ",
    world: "pointsman:sdk/exports-feedback",
    with: {
        "pointsman:policy/types@0.1.0": crate::glue::shared::pointsman::policy::types,
    },
    pub_export_macro: true,
    export_macro_name: "export",
    default_bindings_module: "pointsman_sdk::glue::feedback",
});

impl<H> wit::Guest for H
where
    H: Home<Instance = BalancerInstance<<H as Home>::Policy>>,
    H::Policy: LearningBalancer,
{
    fn report(now_ms: u64, outcomes: Vec<wit::Outcome>) {
        let outcomes = convert::each(outcomes, outcome);
        H::with(|instance| instance.report(now_ms, &outcomes));
    }
}

fn outcome(outcome: wit::Outcome) -> types::Outcome {
    let kind = match outcome.kind {
        wit::OutcomeKind::Connected => types::OutcomeKind::Connected,
        wit::OutcomeKind::Refused => types::OutcomeKind::Refused,
        wit::OutcomeKind::TimedOut => types::OutcomeKind::TimedOut,
        wit::OutcomeKind::Reset => types::OutcomeKind::Reset,
        wit::OutcomeKind::Closed => types::OutcomeKind::Closed,
    };
    types::Outcome { service: outcome.service, endpoint: outcome.endpoint, kind, millis: outcome.millis }
}
