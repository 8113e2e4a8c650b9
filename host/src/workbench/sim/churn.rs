//! What happens to endpoints, to the clock and to the policy.

use std::rc::Rc;

use pointsman_sdk::types::{Endpoint, OutcomeKind, Slot};

use super::agenda::What;
use super::run::Run;
use super::scenario::{Action, Flap, Group, RollingRestart, Target, Time};
use super::world::{Failing, Node, Slowed};

/// Something that an event does, at once or later. Endpoints are numbers of nodes.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// As the scenario says.
    Act(Action),
    /// They leave, and successors take their places so many nanoseconds later; connections may go on for so many.
    Replace(Nodes, u64, u64),
    /// The connections that they still have are reset.
    Cut(Nodes),
    /// They join.
    Join(Vec<Group>),
    /// They are known not to be ready.
    NotReady(Nodes),
    /// They are ready again, as far as this reason goes.
    Ready(Nodes),
    /// Somebody answers there again.
    Back(Nodes),
}

/// Shared by the steps of an event.
type Nodes = Rc<[usize]>;

impl Run<'_> {
    /// Has something done at a time, if the run lasts until then.
    pub(super) fn plan_step(&mut self, at: u64, step: Step) {
        if at > self.scenario.duration.nanos {
            return;
        }
        self.agenda.plan(at, What::Step(self.steps.len() as u32));
        self.steps.push(step);
    }

    fn plan_later(&mut self, nanos: Option<u64>, step: Step) {
        if let Some(nanos) = nanos {
            self.plan_step(self.now.saturating_add(nanos), step);
        }
    }

    /// Does it.
    pub(super) fn step(&mut self, number: u32) -> Result<(), String> {
        match self.steps[number as usize].clone() {
            Step::Act(action) => return self.act(action),
            Step::Replace(nodes, starts_in, drain) => self.replace(&nodes, starts_in, drain),
            Step::Cut(nodes) => self.cut(&nodes),
            Step::Join(groups) => {
                groups.iter().for_each(|group| self.add(group));
                self.changed();
            }
            Step::NotReady(nodes) => {
                self.each(&nodes, |node| node.not_ready += 1);
                self.changed();
            }
            Step::Ready(nodes) => {
                let now_ms = self.now_ms();
                self.each(&nodes, |node| {
                    node.not_ready -= 1;
                    node.endpoint.ready_since_ms = now_ms;
                });
                self.changed();
            }
            Step::Back(nodes) => self.each(&nodes, |node| node.gone -= 1),
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Add(group) => {
                self.add(&group);
                self.changed();
            }
            Action::Remove(remove) => {
                let nodes = self.targets(&remove.endpoints);
                self.remove(nodes, remove.drain.nanos);
            }
            Action::Flap(flap) => self.flap(&flap),
            Action::Weight(weight) => {
                let nodes = self.targets(&weight.endpoints);
                self.each(&nodes, |node| node.endpoint.weight = weight.to);
                self.changed();
            }
            Action::ZoneLoss(loss) => {
                let nodes = self.targets(&Target::Zone(loss.zone));
                self.cut(&nodes);
                let noticed = loss.noticed_after.nanos;
                let back = loss.duration.map(|duration| duration.nanos);
                if back.is_none_or(|back| noticed < back) {
                    self.plan_later(Some(noticed), Step::NotReady(nodes.clone()));
                    self.plan_later(back, Step::Ready(nodes.clone()));
                }
                self.plan_later(back, Step::Back(nodes));
            }
            Action::Slow(slow) => {
                let (nodes, until) = (self.targets(&slow.endpoints), self.until(slow.duration));
                self.each(&nodes, |node| node.slowed.push(Slowed { factor: slow.factor, until }));
            }
            Action::Fail(fail) => {
                let (nodes, until) = (self.targets(&fail.endpoints), self.until(fail.duration));
                self.each(&nodes, |node| node.failing.push(Failing { how: fail.how, share: fail.share, until }));
            }
            Action::RollingRestart(restart) => self.restart(&restart),
            Action::ClockJump(jump) => self.jumped_ms = self.jumped_ms.saturating_add(jump.millis),
            Action::Swap(policy) => {
                self.observed.held(self.subject.memory_peak());
                self.subject = (self.successors)(&policy)?;
                if !self.members.is_empty() {
                    self.tell_endpoints()?;
                }
                self.views.show_all(&mut *self.subject, &self.nodes);
            }
        }
        Ok(())
    }

    /// Endpoints of a group join. They take part with the next plan.
    pub(super) fn add(&mut self, group: &Group) {
        let (workers, now_ms) = (self.scenario.workers as usize, self.now_ms());
        for _ in 0..group.count {
            let key = group.key.clone().unwrap_or_else(|| self.next_key());
            self.nodes.push(Node::new(group, &key, workers, now_ms));
        }
    }

    /// `10.0.0.0:80`, `10.0.0.1:80`, …, less those that the scenario gives to somebody.
    fn next_key(&mut self) -> String {
        let added = self.scenario.events.iter().filter_map(|event| if let Action::Add(group) = &event.action { Some(group) } else { None });
        let groups: Vec<&Group> = self.scenario.endpoints.iter().chain(added).collect();
        loop {
            let [_, a, b, c] = self.numbered.to_be_bytes();
            self.numbered += 1;
            let key = format!("10.{a}.{b}.{c}:80");
            if groups.iter().all(|group| group.key.as_ref() != Some(&key)) {
                return key;
            }
        }
    }

    /// When something ends that lasts so long; none: never.
    fn until(&self, lasts: Option<Time>) -> u64 {
        lasts.map_or(u64::MAX, |time| self.now.saturating_add(time.nanos))
    }

    /// The nodes that are meant, of those that did not leave for good.
    fn targets(&mut self, target: &Target) -> Nodes {
        let nodes = self.nodes.iter().enumerate().filter(|(_, node)| !node.removed);
        let with = |wanted: &dyn Fn(&Node) -> bool| nodes.clone().filter(|(_, node)| wanted(node)).map(|(at, _)| at).collect::<Vec<_>>();
        let meant = match target {
            Target::All => with(&|_| true),
            Target::Zone(zone) => with(&|node| node.endpoint.zone.as_ref() == Some(zone)),
            Target::Keys(keys) => with(&|node| keys.contains(&node.endpoint.key)),
            Target::Count(count) => {
                let mut all = with(&|_| true);
                let count = (*count as usize).min(all.len());
                // The first steps of a Fisher-Yates shuffle.
                for n in 0..count {
                    let other = n + self.any_below(all.len() - n);
                    all.swap(n, other);
                }
                all.truncate(count);
                all
            }
        };
        meant.into()
    }

    fn each(&mut self, nodes: &[usize], change: impl Fn(&mut Node)) {
        nodes.iter().for_each(|at| change(&mut self.nodes[*at]));
    }

    /// The host knows at once that they left; workers have a plan without them later, and until then the host picks another for them.
    fn remove(&mut self, nodes: Nodes, drain: u64) {
        self.each(&nodes, |node| node.removed = true);
        self.plan_later(Some(drain), Step::Cut(nodes));
        self.changed();
    }

    /// Who has left meanwhile is not replaced; the others' successors are as they are now, but for what befell them.
    fn replace(&mut self, nodes: &[usize], starts_in: u64, drain: u64) {
        let leaving: Nodes = nodes.iter().copied().filter(|at| !self.nodes[*at].removed).collect();
        let successors = leaving.iter().map(|at| self.nodes[*at].successor()).collect();
        self.plan_later(Some(starts_in), Step::Join(successors));
        self.remove(leaving, drain);
    }

    /// Nobody answers any more, and established connections are reset.
    fn cut(&mut self, nodes: &[usize]) {
        for at in nodes {
            let node = &mut self.nodes[*at];
            node.gone += 1;
            node.waiting.clear();
            node.busy = 0;
            for handle in self.connections.established_with(*at) {
                self.close(handle, OutcomeKind::Reset);
            }
        }
    }

    fn flap(&mut self, flap: &Flap) {
        let nodes = self.targets(&flap.endpoints);
        let period = flap.down.nanos.saturating_add(flap.up.nanos);
        for n in 0..u64::from(flap.times) {
            let begins = period.saturating_mul(n);
            self.plan_later(Some(begins), Step::NotReady(Rc::clone(&nodes)));
            self.plan_later(Some(begins.saturating_add(flap.down.nanos)), Step::Ready(Rc::clone(&nodes)));
        }
    }

    fn restart(&mut self, restart: &RollingRestart) {
        let nodes = self.targets(&restart.endpoints);
        for (n, batch) in (0..).zip(nodes.chunks(restart.at_a_time as usize)) {
            let step = Step::Replace(batch.into(), restart.starts_in.nanos, restart.drain.nanos);
            self.plan_later(Some(restart.every.nanos.saturating_mul(n)), step);
        }
    }

    /// A plan for what has changed is on its way, unless one was already.
    fn changed(&mut self) {
        if !self.planning {
            self.planning = true;
            self.agenda.plan(self.now.saturating_add(self.scenario.propagation.nanos), What::Adopt);
        }
    }

    /// Workers have a plan for the endpoints that are ready now. Where the policy refuses it, the one before stays in force.
    pub(super) fn adopt(&mut self) -> Result<(), String> {
        self.planning = false;
        let ready: Vec<u32> = self.nodes.iter().enumerate().filter(|(_, node)| node.is_ready()).map(|(at, _)| at as u32).collect();
        let before = std::mem::replace(&mut self.members, ready);
        let first = self.plans == 0;
        // Without anybody the host rejects, and no policy is asked.
        if !self.members.is_empty()
            && let Err(why) = self.tell_endpoints()
        {
            if first {
                return Err(why);
            }
            self.members = before;
            self.observed.refused_plan();
            return Ok(());
        }
        self.plans += 1;
        self.joined_and_left(first);
        self.views.show_all(&mut *self.subject, &self.nodes);
        Ok(())
    }

    /// Slots as the plan has them, and what is counted for who came and went.
    fn joined_and_left(&mut self, first: bool) {
        let had: Vec<bool> = self.nodes.iter().map(|node| node.slot.is_some()).collect();
        self.nodes.iter_mut().for_each(|node| node.slot = None);
        for (slot, at) in self.members.iter().enumerate() {
            self.nodes[*at as usize].slot = Some(slot as Slot);
        }
        let weight = |at: usize| f64::from(self.nodes[at].endpoint.weight);
        let all: f64 = self.members.iter().map(|at| weight(*at as usize)).sum();
        self.observed.members(self.members.iter().map(|at| (*at as usize, weight(*at as usize))));
        for (at, had) in had.into_iter().enumerate() {
            match (had, self.nodes[at].slot) {
                (false, Some(_)) => {
                    self.nodes[at].joined = self.plans;
                    let fair = f64::from(self.nodes[at].endpoint.weight) / all;
                    if !first && fair > 0.0 {
                        self.observed.joined(at, fair);
                    }
                }
                (true, None) => self.observed.herd.leave(at),
                _ => {}
            }
        }
    }

    fn tell_endpoints(&mut self) -> Result<(), String> {
        let now_ms = self.now_ms();
        let endpoint = |(slot, at): (usize, &u32)| Endpoint { slot: slot as Slot, ..self.nodes[*at as usize].endpoint.clone() };
        let endpoints: Vec<Endpoint> = self.members.iter().enumerate().map(endpoint).collect();
        self.subject.set_endpoints(&endpoints, now_ms)?;
        self.observed.planned(self.subject.update_fuel());
        Ok(())
    }
}
