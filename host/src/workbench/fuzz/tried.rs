//! A policy that is fuzzed, of any stage, beside a twin that is told the same.

use pointsman_sdk::types::{Connection, Endpoint, Locality, Outcome, Verdict};

use super::Flaw;
use crate::policy::contract::Fault;
use crate::workbench::component::class;
use crate::workbench::laws::{Selector, TrafficPolicy, labels, varied};
use crate::workbench::subject::{Answer, Subject};

/// One of two that are asked the same.
pub enum Tried {
    /// With one worker.
    Balancer(Box<dyn Subject>),
    /// On one node.
    TrafficPolicy(Box<dyn TrafficPolicy>),
    /// For one Service.
    Selector(Box<dyn Selector>),
}

/// Makes a fresh one, for a Service of this policy.
pub type Make<'a> = dyn FnMut(Locality) -> Result<Tried, String> + 'a;

/// Both, and what they were told.
pub(super) struct Twins {
    policy: Locality,
    one: Tried,
    twin: Tried,
    endpoints: Vec<Endpoint>,
}

/// What both say alike of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A slot, a subset or a group.
    Number(u32),
    /// Nobody, or no opinion.
    None,
}

impl Twins {
    pub(super) fn new(make: &mut Make<'_>, policy: Locality) -> Result<Self, String> {
        Ok(Self { policy, one: make(policy)?, twin: make(policy)?, endpoints: Vec::new() })
    }

    /// These are the endpoints from now on. A balancer is given candidates, which are ready; a traffic policy endpoints of every condition and
    /// place; a selector the labels of their pods.
    pub(super) fn meet(&mut self, endpoints: Vec<Endpoint>) -> Result<(), Flaw> {
        let number = |endpoint: &Endpoint| endpoint.hash as usize % 1000;
        self.endpoints = endpoints;
        match (&mut self.one, &mut self.twin) {
            (Tried::Balancer(one), Tried::Balancer(twin)) => {
                let planned = (one.set_endpoints(&self.endpoints, 0), twin.set_endpoints(&self.endpoints, 0));
                planned.0.map_err(|_| Flaw::Plan)?;
                planned.1.map_err(|_| Flaw::Differs)
            }
            (Tried::TrafficPolicy(one), Tried::TrafficPolicy(twin)) => {
                for endpoint in &mut self.endpoints {
                    *endpoint = varied(endpoint.clone(), number(endpoint));
                }
                same(one.plan(&self.endpoints), twin.plan(&self.endpoints)).map(drop).map_err(in_plan)
            }
            (Tried::Selector(one), Tried::Selector(twin)) => {
                same(one.plan(), twin.plan()).map_err(in_plan)?;
                let mut pods = self.endpoints.iter().map(|endpoint| labels(number(endpoint)));
                pods.try_for_each(|labels| same(one.classify(&labels), twin.classify(&labels)).map(drop))
            }
            _ => Err(Flaw::Differs),
        }
    }

    /// Asks both about a connection; they must agree. `None`: it is not theirs to decide.
    pub(super) fn ask(&mut self, connection: &Connection) -> Result<Option<Said>, Flaw> {
        let first = connection.attempt == 0;
        match (&mut self.one, &mut self.twin) {
            _ if self.endpoints.is_empty() => Ok(None),
            (Tried::Balancer(one), Tried::Balancer(twin)) => {
                let answer = one.pick(0, connection);
                if let Answer::Fault(class) = answer {
                    return Err(Flaw::Fault(class));
                }
                if answer != twin.pick(0, connection) {
                    return Err(Flaw::Differs);
                }
                match answer {
                    Answer::Slot(slot) => Ok(Some(Said::Number(slot))),
                    _ if first && self.endpoints.iter().any(|endpoint| endpoint.weight > 0) => Err(Flaw::NoOpinion),
                    _ => Ok(Some(Said::None)),
                }
            }
            // Another attempt is the balancer's alone.
            _ if !first => Ok(None),
            (Tried::TrafficPolicy(one), Tried::TrafficPolicy(twin)) => match same(one.choose(connection), twin.choose(connection))? {
                Verdict::Forward(subset) => Ok(Some(Said::Number(subset))),
                Verdict::Reject | Verdict::Drop => {
                    let serves = self.policy == Locality::Cluster && self.endpoints.iter().any(|endpoint| endpoint.conditions.ready);
                    if serves { Err(Flaw::Refuses) } else { Ok(Some(Said::None)) }
                }
            },
            (Tried::Selector(one), Tried::Selector(twin)) => {
                let group = same(one.choose(connection), twin.choose(connection))?;
                Ok(Some(group.map_or(Said::None, Said::Number)))
            }
            _ => Err(Flaw::Differs),
        }
    }

    /// An endpoint has so many active connections; balancers alone are told.
    pub(super) fn set_active(&mut self, slot: u32, active: u32) {
        for tried in [&mut self.one, &mut self.twin] {
            if let Tried::Balancer(balancer) = tried {
                balancer.set_active(0, slot, active);
            }
        }
    }

    /// What became of a pick; balancers alone are told.
    pub(super) fn report(&mut self, now_ms: u64, outcome: Outcome) -> Result<(), Flaw> {
        for tried in [&mut self.one, &mut self.twin] {
            if let Tried::Balancer(balancer) = tried {
                balancer.report(0, now_ms, &[outcome]).map_err(Flaw::Fault)?;
            }
        }
        Ok(())
    }
}

/// What both answer, if they answer alike.
fn same<T: PartialEq>(one: Result<T, Fault>, twin: Result<T, Fault>) -> Result<T, Flaw> {
    let answer = one.map_err(|fault| Flaw::Fault(class(&fault)))?;
    if twin.is_ok_and(|other| other == answer) { Ok(answer) } else { Err(Flaw::Differs) }
}

/// A planner's fault.
fn in_plan(flaw: Flaw) -> Flaw {
    if matches!(flaw, Flaw::Fault(_)) { Flaw::Plan } else { flaw }
}
