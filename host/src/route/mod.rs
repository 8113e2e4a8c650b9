//! The decision core: (connection, table, policies) → decision, with reasons. No I/O, no clock, no randomness of its own; the data
//! plane, `pointsman route` and the tests call the same functions.

mod client;
pub mod explain;
mod shadow;
mod source;
mod unserved;
mod why;

pub use client::{HashKey, connection, origin};
pub use shadow::Shadowed;
pub use unserved::unserved;

use crate::policy::contract::{Connection, Decider, Fault, Slot, Verdict};
use crate::policy::fallback;
use crate::table::{FrontendKind, Planned, Port, Stage};

/// A connection is offered to at most this many endpoints: the first, and three more (architecture.md, "the way of a connection").
pub const MAX_ATTEMPTS: u32 = 4;

/// What was decided for one connection, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Stage 1: the group; `None`: any.
    pub group: Option<u32>,
    /// Who chose the group.
    pub selector: By,
    /// Stage 2, with the subset as an index into the port's subsets.
    pub verdict: Verdict,
    /// Who chose the verdict.
    pub traffic_policy: By,
    /// The candidate set, when there is one.
    pub set: Option<u32>,
    /// Who chose the endpoint.
    pub balancer: By,
    /// Where the connection goes.
    pub fate: Fate,
    /// What the balancer that is tried said of it, where one is tried and the balancer was asked. Apart, since every open connection holds a
    /// decision and few Services try anybody.
    pub shadow: Option<Box<Shadowed>>,
}

/// Where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// To this slot.
    Forward(Slot),
    /// Refused: the client sees a reset.
    Reject(Reason),
    /// Left unanswered.
    Drop(Reason),
}

/// Why a connection goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The traffic policy said so.
    TrafficPolicy,
    /// Group and subset have no endpoint in common, or none that is still there.
    NoCandidates,
    /// Every candidate was tried, or has weight 0.
    NoneLeft,
    /// A policy failed, and the Service says `pointsman.dev/on-failure: refuse`.
    OnFailure,
    /// The client is outside `spec.loadBalancerSourceRanges`.
    SourceRange,
    /// A Service's cluster IP, at a port or protocol that the Service does not have.
    NoSuchPort,
    /// Inside the service ranges, and no Service's.
    NoSuchService,
}

impl Reason {
    /// For logs.
    pub fn text(self) -> &'static str {
        match self {
            Self::TrafficPolicy => "the traffic policy said so",
            Self::NoCandidates => "no candidate endpoint",
            Self::NoneLeft => "no endpoint is left to try",
            Self::OnFailure => "a policy failed and the Service says on-failure: refuse",
            Self::SourceRange => "the client is outside loadBalancerSourceRanges",
            Self::NoSuchPort => "the Service at this cluster IP has no such port",
            Self::NoSuchService => "no Service has this address of the service range",
        }
    }
}

/// Who made a stage's choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// The version in force.
    Current,
    /// The version before it, after this fault.
    StandIn(Box<Fault>),
    /// The host's native fallback, after this fault.
    Fallback(Box<Fault>),
    /// The balancer that is tried, in charge of this client.
    Canary,
    /// Nobody: the stage was not asked, and why.
    NotAsked(&'static str),
}

/// Decides a new connection. `pinned` is the endpoint that session affinity holds for this client, if it holds one.
pub fn decide<D: Decider + ?Sized>(port: &Port, decider: &mut D, connection: &Connection, pinned: Option<Slot>) -> Decision {
    if let Some(decision) = outside_source_ranges(port, connection) {
        return decision;
    }
    let (group, selector) = ask(&port.selector, |planned| decider.choose_group(planned.version.id, connection), || None);
    let group = port.group_or_any(group);
    let (verdict, traffic_policy) = ask(
        &port.traffic_policy,
        |planned| decider.choose_subset(planned.version.id, connection, group),
        || native_verdict(port, connection, group),
    );
    let mut decision = Decision {
        group,
        selector,
        verdict,
        traffic_policy,
        set: None,
        balancer: By::NotAsked(""),
        fate: Fate::Reject(Reason::NoCandidates),
        shadow: None,
    };
    if port.options.refuse_on_failure && (failed(&decision.selector) || failed(&decision.traffic_policy)) {
        return decision.ended(Fate::Reject(Reason::OnFailure));
    }
    let subset = match verdict {
        Verdict::Forward(subset) => subset,
        Verdict::Reject => return decision.ended(Fate::Reject(Reason::TrafficPolicy)),
        Verdict::Drop => return decision.ended(Fate::Drop(Reason::TrafficPolicy)),
    };
    let Some((set, candidates)) = port.set(group, subset) else {
        return decision.ended(Fate::Reject(Reason::NoCandidates));
    };
    decision.set = Some(set);
    if let Some(slot) = pinned.filter(|slot| candidates.members.binary_search(slot).is_ok() && !port.masked.contains(slot)) {
        decision.balancer = By::NotAsked("session affinity");
        decision.fate = Fate::Forward(slot);
        return decision;
    }
    choose_endpoint(port, decider, connection, &mut decision, &[]);
    decision
}

/// Decides again after an endpoint could not be reached: the same candidate set, less the slots already tried. `connection.attempt`
/// has been raised by the caller.
pub fn retry<D: Decider + ?Sized>(port: &Port, decider: &mut D, connection: &Connection, decision: &mut Decision, tried: &[Slot]) {
    choose_endpoint(port, decider, connection, decision, tried);
}

impl Decision {
    fn ended(mut self, fate: Fate) -> Self {
        self.balancer = By::NotAsked(match fate {
            Fate::Forward(_) => "",
            Fate::Reject(Reason::NoCandidates) => "no candidate endpoint",
            Fate::Reject(Reason::OnFailure) => "on-failure: refuse",
            Fate::Reject(_) => "rejected",
            Fate::Drop(_) => "dropped",
        });
        self.fate = fate;
        self
    }
}

/// A load-balancer address answers only clients inside its source ranges, pods too (kubernetes-semantics 3.10); this is the host's
/// business. Ranges of the other family say nothing of this one.
fn outside_source_ranges(port: &Port, connection: &Connection) -> Option<Decision> {
    let ranges = &port.options.source_ranges;
    if connection.frontend != FrontendKind::LoadBalancer || ranges.is_empty() {
        return None;
    }
    let client = connection.client();
    let mut of_family = ranges.iter().filter(|range| range.addr().is_ipv4() == client.is_ipv4()).peekable();
    if of_family.peek().is_none() || of_family.any(|range| range.contains(&client)) {
        return None;
    }
    let unasked = || By::NotAsked("outside loadBalancerSourceRanges");
    Some(Decision {
        group: None,
        selector: unasked(),
        verdict: Verdict::Drop,
        traffic_policy: unasked(),
        set: None,
        balancer: unasked(),
        fate: Fate::Drop(Reason::SourceRange),
        shadow: None,
    })
}

/// Asks the version in force, then the one that stands in, then the native fallback.
fn ask<P, T>(stage: &Stage<P>, mut call: impl FnMut(&Planned<P>) -> Result<T, Fault>, fallback: impl FnOnce() -> T) -> (T, By) {
    let mut fault = None;
    for (at, planned) in stage.planned().enumerate() {
        match call(planned) {
            Ok(answer) => return (answer, answered(at, stage, fault)),
            Err(why) => fault = Some(fault.unwrap_or(why)),
        }
    }
    (fallback(), By::Fallback(Box::new(fault.unwrap_or(Fault::NotAsked("no version could plan")))))
}

fn answered<P>(at: usize, stage: &Stage<P>, fault: Option<Fault>) -> By {
    match fault {
        Some(fault) => By::StandIn(Box::new(fault)),
        None if at == 0 && stage.current.is_some() => By::Current,
        None => By::StandIn(Box::new(Fault::NotAsked("the version in force could not plan"))),
    }
}

fn failed(by: &By) -> bool {
    matches!(by, By::Fallback(_))
}

fn native_verdict(port: &Port, connection: &Connection, group: Option<u32>) -> Verdict {
    match fallback::judge(&port.fallback.plan, connection, group) {
        Verdict::Forward(subset) => match port.fallback.subsets.get(subset as usize) {
            Some(subset) => Verdict::Forward(*subset),
            None => Verdict::Reject,
        },
        verdict => verdict,
    }
}

/// What stage 3 chooses from.
struct Choice<'a> {
    port: &'a Port,
    connection: &'a Connection,
    set: u32,
    members: &'a [Slot],
    tried: &'a [Slot],
}

impl Choice<'_> {
    /// Neither tried nor just left, and of some weight.
    fn usable(&self, slot: Slot) -> bool {
        let Self { port, tried, .. } = self;
        !tried.contains(&slot) && !port.masked.contains(&slot) && port.endpoints.get(slot as usize).is_some_and(|e| e.weight > 0)
    }

    /// A balancer's slot, if it may be picked at all.
    fn checked(&self, slot: Slot) -> Result<Slot, Fault> {
        let in_set = self.members.binary_search(&slot).is_ok();
        if !in_set || self.port.endpoints.get(slot as usize).is_none_or(|e| e.weight == 0) {
            return Err(Fault::OutOfRange(format!("slot {slot}")));
        }
        Ok(slot)
    }

    /// A slot that was tried or has just left is an honest answer to the plan: the host picks among the rest.
    fn usable_or_other(&self, slot: Slot) -> Option<Slot> {
        if self.usable(slot) { Some(slot) } else { self.random() }
    }

    fn random(&self) -> Option<Slot> {
        random_among(self.members, |slot| self.usable(slot), self.connection)
    }
}

/// What the balancer in force chose, or who stands in for it.
struct InForce {
    slot: Option<Slot>,
    by: By,
    /// The balancer's own answer, before it was held against what is left.
    picked: Option<Slot>,
    /// What the first version asked used.
    fuel: u64,
}

impl InForce {
    fn decided(self) -> (Option<Slot>, By) {
        (self.slot, self.by)
    }

    /// The answer of the version in force, or why there is none.
    fn own(&self) -> Result<Slot, Box<Fault>> {
        match (&self.by, self.picked) {
            (By::Current, Some(slot)) => Ok(slot),
            (By::StandIn(fault) | By::Fallback(fault), _) => Err(fault.clone()),
            _ => Err(Box::new(Fault::NoOpinion)),
        }
    }
}

/// Asks the balancer in force, then who stands in for it, then the host.
fn in_force<D: Decider + ?Sized>(choice: &Choice<'_>, decider: &mut D) -> InForce {
    let (mut picked, mut fuel) = (None, None);
    let (slot, by) = ask(
        &choice.port.balancer,
        |planned| {
            let version = planned.version.id;
            let answer = decider.pick(version, choice.connection, choice.set);
            fuel = fuel.or_else(|| Some(decider.fuel()));
            let slot = choice.checked(answer?.ok_or(Fault::NoOpinion)?).inspect_err(|fault| decider.blame(version, fault))?;
            picked = Some(slot);
            Ok(choice.usable_or_other(slot))
        },
        || choice.random(),
    );
    InForce { slot, by, picked, fuel: fuel.unwrap_or(0) }
}

/// Stage 3, with the host's own choice among what is left when the policy's is not to be had.
fn choose_endpoint<D: Decider + ?Sized>(port: &Port, decider: &mut D, connection: &Connection, decision: &mut Decision, tried: &[Slot]) {
    let Some((set, candidates)) = decision.set.and_then(|set| Some((set, port.sets.get(set as usize)?))) else {
        decision.fate = Fate::Reject(Reason::NoCandidates);
        return;
    };
    let choice = Choice { port, connection, set, members: &candidates.members, tried };
    let (slot, by) = match &port.shadow {
        None => in_force(&choice, decider).decided(),
        Some(shadow) => shadow::beside(shadow, &choice, decider, &mut decision.shadow),
    };
    decision.fate = match slot {
        _ if port.options.refuse_on_failure && failed(&by) => Fate::Reject(Reason::OnFailure),
        Some(slot) => Fate::Forward(slot),
        None if choice.members.iter().all(|slot| port.masked.contains(slot)) => Fate::Reject(Reason::NoCandidates),
        None => Fate::Reject(Reason::NoneLeft),
    };
    decision.balancer = by;
}

/// Uniform among the usable members, from the connection's own random bits. It never fails while there is one.
fn random_among(members: &[Slot], usable: impl Fn(Slot) -> bool, connection: &Connection) -> Option<Slot> {
    let left = members.iter().filter(|slot| usable(**slot)).count() as u64;
    // Multiply-shift keeps the bias below 2⁻³² for any table that fits in memory; the rotation gives each attempt fresh bits.
    let bits = connection.random.rotate_left(connection.attempt * 16) >> 32;
    let at = (bits * left) >> 32;
    members.iter().copied().filter(|slot| usable(*slot)).nth(at as usize)
}

#[cfg(test)]
mod matrix;
#[cfg(test)]
mod tests;
