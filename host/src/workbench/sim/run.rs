//! One run: a policy meets a scenario under one seed, event after event.

use pointsman_sdk::hash::mix;
use pointsman_sdk::types::{Connection as Asked, Frontend, Origin, Outcome, OutcomeKind};

use super::agenda::{Agenda, What};
use super::arrivals::Process;
use super::churn::Step;
use super::observe::Observed;
use super::random::{Popularity, Stream};
use super::scenario::{Arrivals, Failure, Scenario};
use super::views::Views;
use super::world::{Connection, Connections, Handle, MAX_ATTEMPTS, Node, Stage};
use crate::workbench::metrics::Visit;
use crate::workbench::subject::{Answer, Subject};

/// Where the policies' clock starts, in milliseconds: far enough from 0 to jump back.
const CLOCK_START_MS: i64 = 1_000_000;
/// The requests of a connection follow each other no faster.
pub(super) const MIN_PAUSE_NANOS: u64 = 1000;

/// Makes another subject, by name, for a swap.
pub(super) type Successors<'a> = dyn FnMut(&str) -> Result<Box<dyn Subject>, String> + 'a;

/// A run, and all that it changes.
pub(super) struct Run<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) subject: Box<dyn Subject>,
    pub(super) successors: &'a mut Successors<'a>,
    popularity: &'a Popularity,
    pub(super) now: u64,
    /// What jumps have added to the policies' clock.
    pub(super) jumped_ms: i64,
    pub(super) agenda: Agenda,
    pub(super) steps: Vec<Step>,
    pub(super) nodes: Vec<Node>,
    pub(super) connections: Connections,
    /// Nodes by slot, as the plan in force has them.
    pub(super) members: Vec<u32>,
    /// How many plans there were.
    pub(super) plans: u32,
    /// A plan is on its way.
    pub(super) planning: bool,
    /// Numbers in keys that were given out.
    pub(super) numbered: u32,
    pub(super) views: Views,
    outcomes: Vec<Vec<Outcome>>,
    /// Node and plan that each client had last.
    visits: Vec<Option<(u32, u32)>>,
    pub(super) observed: Observed,
    streams: Streams,
}

/// One for each purpose.
struct Streams {
    clients: Stream,
    policy: Stream,
    sizes: Stream,
    lifetimes: Stream,
    workers: Stream,
    connections: Stream,
    pub(super) events: Stream,
    hash_key: u64,
}

impl Streams {
    fn new(seed: u64) -> Self {
        let stream = |purpose| Stream::new(seed, purpose);
        Self {
            clients: stream("clients"),
            policy: stream("policy"),
            sizes: stream("sizes"),
            lifetimes: stream("lifetimes"),
            workers: stream("workers"),
            connections: stream("connections"),
            events: stream("events"),
            hash_key: stream("client-hash").bits(),
        }
    }
}

impl<'a> Run<'a> {
    pub(super) fn new(
        scenario: &'a Scenario,
        popularity: &'a Popularity,
        subject: Box<dyn Subject>,
        successors: &'a mut Successors<'a>,
        seed: u64,
    ) -> Self {
        let workers = scenario.workers as usize;
        Self {
            scenario,
            subject,
            successors,
            popularity,
            now: 0,
            jumped_ms: 0,
            agenda: Agenda::default(),
            steps: Vec::new(),
            nodes: Vec::new(),
            connections: Connections::default(),
            members: Vec::new(),
            plans: 0,
            planning: false,
            numbered: 0,
            views: Views::new(&scenario.counters, workers),
            outcomes: vec![Vec::new(); workers],
            visits: vec![None; scenario.clients.count() as usize],
            observed: Observed::new(scenario),
            streams: Streams::new(seed),
        }
    }

    /// From the start to the end.
    pub(super) fn run(mut self, seed: u64) -> Result<Observed, String> {
        let scenario = self.scenario;
        scenario.endpoints.iter().for_each(|group| self.add(group));
        self.adopt()?;
        self.agenda.plan(scenario.warm_up.nanos, What::Measure);
        self.agenda.plan(self.sample_nanos(), What::Sample);
        self.agenda.plan(scenario.feedback_every.nanos, What::Feedback);
        let refresh = scenario.counters.refresh.nanos;
        if refresh > 0 {
            // Workers do not look in step.
            (0..scenario.workers).for_each(|worker| self.agenda.plan(self.streams.events.below(refresh), What::Refresh(worker)));
        }
        for event in &scenario.events {
            self.plan_step(event.at.nanos, Step::Act(event.action.clone()));
        }
        let mut process = Process::new(&scenario.arrivals, Stream::new(seed, "arrivals"), scenario.duration.nanos);
        let mut arrival = process.next();
        loop {
            let (next_at, comes_at) = (self.agenda.next_at(), arrival.map_or(u64::MAX, |(at, _)| at));
            let at = next_at.min(comes_at);
            if at > scenario.duration.nanos {
                self.observed.held(self.subject.memory_peak());
                return Ok(self.observed);
            }
            self.now = at;
            match arrival {
                // What is planned for this very moment goes first.
                Some((at, number)) if at < next_at => {
                    self.come(number);
                    arrival = process.next();
                }
                _ => {
                    if let Some(what) = self.agenda.next() {
                        self.happen(what)?;
                    }
                }
            }
        }
    }

    fn happen(&mut self, what: What) -> Result<(), String> {
        match what {
            What::Connected(handle) => self.connected(handle),
            What::Refused(handle) => self.unreached(handle, OutcomeKind::Refused),
            What::TimedOut(handle) => self.unreached(handle, OutcomeKind::TimedOut),
            What::Served(handle) => self.served(handle),
            What::Request(handle) => self.request(handle),
            What::Close(handle) => self.close(handle, OutcomeKind::Closed),
            What::Refresh(worker) => {
                self.views.look(&mut *self.subject, worker as usize, &self.nodes);
                self.agenda.plan(self.now.saturating_add(self.scenario.counters.refresh.nanos), what);
            }
            What::Feedback => {
                self.tell();
                self.agenda.plan(self.now.saturating_add(self.scenario.feedback_every.nanos), what);
            }
            What::Sample => {
                self.observed.look(&self.nodes, &self.members);
                self.agenda.plan(self.now + self.sample_nanos(), what);
            }
            What::Adopt => return self.adopt(),
            What::Measure => self.observed.measure(),
            What::Step(step) => return self.step(step),
        }
        Ok(())
    }

    /// The clock that policies see.
    pub(super) fn now_ms(&self) -> u64 {
        let elapsed = (self.now / 1_000_000) as i64;
        u64::try_from(CLOCK_START_MS.saturating_add(elapsed).saturating_add(self.jumped_ms)).unwrap_or(0)
    }

    /// A number below `n`, for events.
    pub(super) fn any_below(&mut self, n: usize) -> usize {
        self.streams.events.below(n as u64) as usize
    }

    fn sample_nanos(&self) -> u64 {
        self.observed.sample.as_nanos() as u64
    }

    /// A connection comes. All of its luck is drawn here, so that it does not depend on where it goes.
    fn come(&mut self, number: usize) {
        let (scenario, streams) = (self.scenario, &mut self.streams);
        let listed = match &scenario.arrivals {
            Arrivals::Trace(trace) => trace.get(number),
            Arrivals::Poisson(_) | Arrivals::Bursty(_) => None,
        };
        let client = self.popularity.draw(&mut streams.clients);
        let service = streams.sizes.draw(&scenario.service_time);
        let lifetime = scenario.lifetime.as_ref().map_or(0, |lifetime| streams.lifetimes.draw(lifetime));
        let connection = Connection {
            stage: Stage::Connecting,
            worker: streams.workers.below(u64::from(scenario.workers)) as usize,
            client: listed.and_then(|listed| listed.client).unwrap_or(client),
            bits: streams.policy.bits(),
            chance: streams.connections.branch(),
            service: listed.and_then(|listed| listed.service_time).map_or(service, |time| time.nanos),
            lifetime: listed.and_then(|listed| listed.lifetime).map_or(lifetime, |time| time.nanos),
            tried: [0; MAX_ATTEMPTS],
            attempts: 0,
            asked: self.now,
            begun: self.now,
            plan: self.plans,
            opened: self.now,
            measured: self.observed.came(),
        };
        let handle = self.connections.insert(connection);
        self.attempt(handle);
    }

    /// Asks the policy, and connects to where it says.
    fn attempt(&mut self, handle: Handle) {
        let Some(at) = self.decide(handle) else {
            let connection = self.connections.remove(handle);
            self.observed.failed(connection.is_some_and(|connection| connection.measured));
            return;
        };
        let Some(connection) = self.connections.find(handle) else { return };
        let node = &mut self.nodes[at as usize];
        connection.tried[connection.attempts] = at;
        connection.attempts += 1;
        connection.begun = self.now;
        connection.plan = self.plans;
        let answers_in = (connection.chance.draw(&self.scenario.connect_time) as f64 * node.slowness(self.now)) as u64;
        let fails = node.fails(self.now, false, &mut connection.chance);
        let (takes, what) = match fails {
            _ if node.gone > 0 => (self.scenario.connect_timeout.nanos, What::TimedOut(handle)),
            Some(Failure::Refuse) => (answers_in, What::Refused(handle)),
            Some(Failure::TimeOut) => (self.scenario.connect_timeout.nanos, What::TimedOut(handle)),
            _ if answers_in > self.scenario.connect_timeout.nanos => (self.scenario.connect_timeout.nanos, What::TimedOut(handle)),
            Some(Failure::Reset) | None => (answers_in, What::Connected(handle)),
        };
        node.active += 1;
        node.own[connection.worker] += 1;
        self.views.changed(&mut *self.subject, connection.worker, at as usize, node);
        self.agenda.plan(self.now.saturating_add(takes), what);
    }

    /// The node that a connection is to try: the policy's, or the host's own choice where the policy has none, or one that has been
    /// tried or has just left, as the data plane has it.
    fn decide(&mut self, handle: Handle) -> Option<u32> {
        let now_ms = self.now_ms();
        let hash_key = self.streams.hash_key;
        let connection = self.connections.find(handle)?;
        if connection.attempts == MAX_ATTEMPTS || self.members.is_empty() {
            return None;
        }
        let asked = Asked {
            service: 0,
            client_hi: 0,
            client_lo: 0xffff_0a00_0000 | u64::from(connection.client),
            client_port: 32_768 + (mix(connection.bits) % 28_232) as u16,
            client_hash: mix(hash_key ^ mix(u64::from(connection.client).wrapping_add(hash_key))),
            frontend: Frontend::ClusterIp,
            origin: Origin::Outside,
            attempt: connection.attempts as u32,
            now_ms,
            random: connection.bits,
        };
        let answer = self.subject.pick(connection.worker, &asked);
        self.observed.answered_by(connection.measured, answer, self.subject.last_fuel());
        let nodes = &self.nodes;
        let usable = |at: u32| {
            let node = &nodes[at as usize];
            node.is_ready() && node.endpoint.weight > 0 && !connection.has_tried(at)
        };
        let own = match answer {
            Answer::Slot(slot) => self.members.get(slot as usize).copied().filter(|at| usable(*at)),
            Answer::NoOpinion | Answer::Fault(_) => None,
        };
        let at = own.or_else(|| {
            let left = self.members.iter().filter(|at| usable(**at)).count() as u64;
            let bits = asked.random.rotate_left(asked.attempt * 16) >> 32;
            self.members.iter().copied().filter(|at| usable(*at)).nth(((bits * left) >> 32) as usize)
        })?;
        self.observed.picked(connection.measured && own.is_none(), at as usize, self.now / 1_000_000);
        Some(at)
    }

    fn connected(&mut self, handle: Handle) {
        let now = self.now;
        let Some(connection) = self.connections.find(handle) else { return };
        let (at, client, begun, plan) = (connection.node(), connection.client, connection.begun, connection.plan);
        let node = &self.nodes[at];
        if node.gone > 0 {
            return self.unreached(handle, OutcomeKind::Refused);
        }
        connection.stage = Stage::Established;
        connection.opened = now;
        let (worker, hash) = (connection.worker, node.endpoint.hash);
        if let Some(last) = self.visits.get_mut(client as usize) {
            if let Some((before, seen)) = *last {
                let left = !self.nodes[before as usize].is_ready();
                self.observed.visit(Visit::of(&(before as usize), &at, left, node.joined > seen), plan != seen);
            }
            *last = Some((at as u32, plan));
        }
        self.learn(worker, hash, OutcomeKind::Connected, now - begun);
        self.queue(handle);
    }

    fn unreached(&mut self, handle: Handle, kind: OutcomeKind) {
        let Some(connection) = self.connections.find(handle) else { return };
        let (at, worker, took, measured) = (connection.node(), connection.worker, self.now - connection.begun, connection.measured);
        self.leave(at, worker);
        self.learn(worker, self.nodes[at].endpoint.hash, kind, took);
        self.observed.unreached(measured);
        self.attempt(handle);
    }

    /// Another request on an established connection.
    fn request(&mut self, handle: Handle) {
        let now = self.now;
        let Some(connection) = self.connections.find(handle) else { return };
        connection.asked = now;
        connection.service = connection.chance.draw(&self.scenario.service_time);
        self.queue(handle);
    }

    /// A request reaches its endpoint, which serves it or lets it wait.
    fn queue(&mut self, handle: Handle) {
        let Some(connection) = self.connections.find(handle) else { return };
        connection.begun = self.now;
        let at = connection.node();
        if self.nodes[at].busy < self.nodes[at].capacity {
            self.serve(handle);
        } else {
            self.nodes[at].waiting.push_back(handle);
        }
    }

    fn serve(&mut self, handle: Handle) {
        let Some(connection) = self.connections.find(handle) else { return };
        let node = &mut self.nodes[connection.node()];
        node.busy += 1;
        self.observed.waited_for(self.now - connection.begun);
        let takes = (connection.service as f64 * node.slowness(self.now)) as u64;
        self.agenda.plan(self.now.saturating_add(takes), What::Served(handle));
    }

    fn served(&mut self, handle: Handle) {
        let Some(connection) = self.connections.find(handle) else { return };
        let (at, now) = (connection.node(), self.now);
        let node = &mut self.nodes[at];
        node.busy -= 1;
        let resets = node.fails(now, true, &mut connection.chance).is_some();
        let until = connection.opened.saturating_add(connection.lifetime);
        let next = self.scenario.request_every.as_ref().map(|every| now.saturating_add(connection.chance.draw(every).max(MIN_PAUSE_NANOS)));
        if resets {
            self.close(handle, OutcomeKind::Reset);
        } else {
            self.observed.answered(now - connection.asked);
            match next {
                _ if until <= now => self.close(handle, OutcomeKind::Closed),
                Some(next) if next < until => self.agenda.plan(next, What::Request(handle)),
                _ => self.agenda.plan(until, What::Close(handle)),
            }
        }
        // Those that wait may have ended meanwhile.
        while let Some(waiting) = self.nodes[at].waiting.pop_front() {
            if self.connections.find(waiting).is_some() {
                return self.serve(waiting);
            }
        }
    }

    pub(super) fn close(&mut self, handle: Handle, kind: OutcomeKind) {
        let Some(connection) = self.connections.remove(handle) else { return };
        self.leave(connection.node(), connection.worker);
        let hash = self.nodes[connection.node()].endpoint.hash;
        self.learn(connection.worker, hash, kind, self.now - connection.opened);
    }

    fn leave(&mut self, at: usize, worker: usize) {
        let node = &mut self.nodes[at];
        node.active -= 1;
        node.own[worker] -= 1;
        self.views.changed(&mut *self.subject, worker, at, node);
    }

    fn learn(&mut self, worker: usize, endpoint: u64, kind: OutcomeKind, nanos: u64) {
        let millis = u32::try_from(nanos / 1_000_000).unwrap_or(u32::MAX);
        self.outcomes[worker].push(Outcome { service: 0, endpoint, kind, millis });
    }

    fn tell(&mut self) {
        let now_ms = self.now_ms();
        for (worker, outcomes) in self.outcomes.iter_mut().enumerate().filter(|(_, outcomes)| !outcomes.is_empty()) {
            if self.subject.report(worker, now_ms, outcomes).is_err() {
                self.observed.failed_to_learn();
            }
            outcomes.clear();
        }
    }
}
