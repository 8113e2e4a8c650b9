//! What is simulated: who comes and when, what serves them, and what happens meanwhile. `docs/simulator.md` explains every field.

mod check;
mod time;

use std::path::Path;

use serde::Deserialize;

use crate::objects::Diagnostic;
use crate::workbench::located;

pub use time::{Jump, Time};

/// A scenario, as its file says. `Scenario::read` alone makes one that is known to make sense.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Scenario {
    /// How long new connections come.
    pub duration: Time,
    /// What happens before is not measured (plots over time show it).
    pub warm_up: Time,
    /// Worker threads, each with an instance of the policy; a connection comes to any of them.
    pub workers: u32,
    /// What workers know of loads.
    pub counters: Counters,
    /// How long after a change of endpoints workers have the plan for it; what changes meanwhile is planned along.
    pub propagation: Time,
    /// How often outcomes are told to policies that learn.
    pub feedback_every: Time,
    /// Between a pick and an established connection; a slow endpoint's is longer by its factor.
    pub connect_time: Distribution,
    /// How long an endpoint that does not answer is waited for.
    pub connect_timeout: Time,
    /// When connections come.
    pub arrivals: Arrivals,
    /// Who they come from.
    pub clients: Clients,
    /// What a request takes on an endpoint that has nothing else to do.
    pub service_time: Distribution,
    /// How long a connection stays, though its request may be served long before; none: until it is.
    pub lifetime: Option<Distribution>,
    /// Between the end of a request and the next on the same connection, while it lives; none: one request a connection.
    pub request_every: Option<Distribution>,
    /// Who is there at the start.
    pub endpoints: Vec<Group>,
    /// What happens.
    pub events: Vec<Event>,
    /// What must hold of the first subject; without any, a simulation always holds.
    pub expect: Vec<Expectation>,
}

/// What a worker reads as an endpoint's load.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Counters {
    /// Whose connections count.
    pub of: Scope,
    /// How often a worker looks at the others' connections; 0: at once, as in production.
    pub refresh: Time,
    /// Between two looks, whether a worker knows its own connections at once.
    pub own_at_once: bool,
}

/// Whose connections count as load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// All workers'.
    Host,
    /// The worker's own, as if each were a host of its own.
    Worker,
}

/// A time that varies.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// Always the same.
    Constant(Time),
    /// Exponential with this mean: no memory.
    Exponential(Time),
    /// Long tails.
    Lognormal(Lognormal),
    /// Short ones, and sometimes long ones.
    Bimodal(Bimodal),
}

/// A lognormal distribution.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Lognormal {
    /// Its mean.
    pub mean: Time,
    /// The standard deviation of its logarithm.
    pub sigma: f64,
}

/// Two times.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bimodal {
    /// Most.
    pub short: Time,
    /// The others.
    pub long: Time,
    /// Their part.
    pub long_share: f64,
}

/// When connections come.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// Independently of each other.
    Poisson(Poisson),
    /// In bursts: a Poisson process whose rate changes between two (MMPP).
    Bursty(Bursty),
    /// As listed.
    Trace(Vec<Arrival>),
}

/// A Poisson process.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Poisson {
    /// Connections a second on average.
    pub per_second: f64,
}

/// A Markov-modulated Poisson process with two states, which it leaves after exponential times.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bursty {
    /// Connections a second while it is calm.
    pub calm_per_second: f64,
    /// Connections a second in a burst.
    pub burst_per_second: f64,
    /// How long it is calm on average.
    pub calm_for: Time,
    /// How long a burst is on average.
    pub burst_for: Time,
}

/// One connection of a trace; what it does not say is drawn.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Arrival {
    /// After the start.
    pub at: Time,
    /// Number of the client, from 0.
    pub client: Option<u32>,
    /// What its first request takes.
    pub service_time: Option<Time>,
    /// How long it stays.
    pub lifetime: Option<Time>,
}

/// Who connections come from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clients {
    /// So many, all alike.
    Uniform(u32),
    /// The k-th as often as 1/k^s.
    Zipf(Zipf),
    /// One with a share of its own, the others alike.
    Hot(Hot),
}

/// Popularity by Zipf's law.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Zipf {
    /// How many.
    pub count: u32,
    /// s.
    pub exponent: f64,
}

/// One hot client.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hot {
    /// How many, with the hot one.
    pub count: u32,
    /// Its part of the connections.
    pub share: f64,
}

/// Endpoints that are alike.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Group {
    /// How many.
    pub count: u32,
    /// The key of one alone; otherwise they are numbered `10.0.0.0:80`, `10.0.0.1:80`, …
    pub key: Option<String>,
    /// Of each.
    pub weight: u32,
    /// Their zone.
    pub zone: Option<String>,
    /// Requests that each serves at a time, others wait; none: all of them.
    pub capacity: Option<u32>,
    /// What each takes longer than others, as a factor.
    pub slow: f64,
}

/// Something that happens at a time.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "RawEvent")]
pub struct Event {
    /// After the start.
    pub at: Time,
    /// What.
    pub action: Action,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Endpoints join.
    Add(Group),
    /// Endpoints leave, as the host is told.
    Remove(Remove),
    /// Endpoints are not ready, and ready again.
    Flap(Flap),
    /// Endpoints change their weight.
    Weight(Weight),
    /// A zone is cut off, and noticed later.
    ZoneLoss(ZoneLoss),
    /// Endpoints become slow.
    Slow(Slow),
    /// Endpoints fail connections, and nobody notices.
    Fail(Fail),
    /// Endpoints are replaced by new ones, one after the other.
    RollingRestart(RollingRestart),
    /// The policies' clock jumps.
    ClockJump(Jump),
    /// Another policy takes over, with fresh instances.
    Swap(String),
}

/// Which endpoints, of those that are there at the time.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Every one.
    All,
    /// So many at random.
    Count(u32),
    /// Those of a zone.
    Zone(String),
    /// Those with these keys.
    Keys(Vec<String>),
}

/// Endpoints leave.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Remove {
    /// Which.
    pub endpoints: Target,
    /// How long their connections may go on; then they are reset.
    #[serde(default = "drain")]
    pub drain: Time,
}

/// Endpoints flap. Their connections go on.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Flap {
    /// Which.
    pub endpoints: Target,
    /// How long they are not ready.
    pub down: Time,
    /// How long they are ready before the next time.
    pub up: Time,
    /// How often.
    #[serde(default = "once")]
    pub times: u32,
}

/// Endpoints change their weight.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Weight {
    /// Which.
    pub endpoints: Target,
    /// The new weight.
    pub to: u32,
}

/// A zone is cut off: its connections are reset, new ones time out until it is noticed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ZoneLoss {
    /// Which.
    pub zone: String,
    /// How long; none: for good.
    #[serde(rename = "for")]
    pub duration: Option<Time>,
    /// When its endpoints are taken for not ready.
    #[serde(default = "noticed_after")]
    pub noticed_after: Time,
}

/// Endpoints become slow.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Slow {
    /// Which.
    pub endpoints: Target,
    /// What they take longer than before.
    pub factor: f64,
    /// How long; none: for good.
    #[serde(rename = "for")]
    pub duration: Option<Time>,
}

/// Endpoints fail connections.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fail {
    /// Which.
    pub endpoints: Target,
    /// In what way.
    pub how: Failure,
    /// How many of the connections.
    #[serde(default = "all")]
    pub share: f64,
    /// How long; none: for good.
    #[serde(rename = "for")]
    pub duration: Option<Time>,
}

/// How a connection fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// At once.
    Refuse,
    /// After `connect-timeout`.
    TimeOut,
    /// Established, then reset in place of an answer.
    Reset,
}

/// Endpoints are replaced, as a Deployment does with new pods.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RollingRestart {
    /// Which.
    #[serde(default = "everyone")]
    pub endpoints: Target,
    /// Between two steps.
    pub every: Time,
    /// Endpoints a step.
    #[serde(default = "once")]
    pub at_a_time: u32,
    /// How long after an endpoint left its successor is ready; 0: the successor is there first.
    #[serde(default)]
    pub starts_in: Time,
    /// How long connections of those that left may go on; then they are reset.
    #[serde(default = "drain")]
    pub drain: Time,
}

/// What must hold of a metric's mean.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Expectation {
    /// Which metric.
    pub metric: String,
    /// Its upper bound.
    pub at_most: Option<f64>,
    /// Its lower bound.
    pub at_least: Option<f64>,
}

impl Scenario {
    /// Reads a scenario's file.
    ///
    /// # Errors
    /// What is wrong with it, each with its place and what to do.
    pub fn read(file: &Path, text: &str) -> Result<Self, Vec<Diagnostic>> {
        let (scenario, places) = located::read::<Self>(file, text).map_err(|mistake| vec![*mistake])?;
        let wrong: Vec<Diagnostic> =
            check::mistakes(&scenario).into_iter().map(|wrong| places.mistake(&wrong.field, wrong.what, wrong.remedy)).collect();
        if wrong.is_empty() { Ok(scenario) } else { Err(wrong) }
    }

    /// The policies that take over, by name, with the numbers of their events.
    pub fn swaps(&self) -> impl Iterator<Item = (usize, &str)> {
        self.events
            .iter()
            .enumerate()
            .filter_map(|(n, event)| if let Action::Swap(name) = &event.action { Some((n, name.as_str())) } else { None })
    }

    /// Something wrong with a field of a scenario that was read from this text, which its reader alone could see.
    pub fn mistake(file: &Path, text: &str, field: &str, what: String, remedy: &str) -> Diagnostic {
        match located::read::<Self>(file, text) {
            Ok((_, places)) => places.mistake(field, what, remedy.to_owned()),
            Err(mistake) => *mistake,
        }
    }
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            duration: Time::seconds(60),
            warm_up: Time::seconds(0),
            workers: 4,
            counters: Counters::default(),
            propagation: Time::millis(10),
            feedback_every: Time::millis(100),
            connect_time: Distribution::Constant(Time::millis(1)),
            connect_timeout: Time::seconds(5),
            arrivals: Arrivals::Poisson(Poisson { per_second: 1000.0 }),
            clients: Clients::Uniform(10_000),
            service_time: Distribution::Exponential(Time::millis(20)),
            lifetime: None,
            request_every: None,
            endpoints: vec![Group { count: 10, ..Group::default() }],
            events: Vec::new(),
            expect: Vec::new(),
        }
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self { of: Scope::Host, refresh: Time::seconds(0), own_at_once: true }
    }
}

impl Default for Group {
    fn default() -> Self {
        Self { count: 1, key: None, weight: 1, zone: None, capacity: None, slow: 1.0 }
    }
}

/// As `pointsman run --drain-timeout` has it.
fn drain() -> Time {
    Time::seconds(30)
}

fn once() -> u32 {
    1
}

/// Three probes of a second each, as Kubernetes has it by default for `failureThreshold`, with `periodSeconds: 1`.
fn noticed_after() -> Time {
    Time::seconds(3)
}

fn all() -> f64 {
    1.0
}

fn everyone() -> Target {
    Target::All
}

/// An event as it is written: `at`, and one of the others.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawEvent {
    at: Time,
    add: Option<Group>,
    remove: Option<Remove>,
    flap: Option<Flap>,
    weight: Option<Weight>,
    zone_loss: Option<ZoneLoss>,
    slow: Option<Slow>,
    fail: Option<Fail>,
    rolling_restart: Option<RollingRestart>,
    clock_jump: Option<Jump>,
    swap: Option<String>,
}

impl TryFrom<RawEvent> for Event {
    type Error = &'static str;

    fn try_from(raw: RawEvent) -> Result<Self, Self::Error> {
        let written = [
            raw.add.map(Action::Add),
            raw.remove.map(Action::Remove),
            raw.flap.map(Action::Flap),
            raw.weight.map(Action::Weight),
            raw.zone_loss.map(Action::ZoneLoss),
            raw.slow.map(Action::Slow),
            raw.fail.map(Action::Fail),
            raw.rolling_restart.map(Action::RollingRestart),
            raw.clock_jump.map(Action::ClockJump),
            raw.swap.map(Action::Swap),
        ];
        let mut actions = written.into_iter().flatten();
        match (actions.next(), actions.next()) {
            (Some(action), None) => Ok(Self { at: raw.at, action }),
            _ => Err(
                "an event has `at` and exactly one of add, remove, flap, weight, zone-loss, slow, fail, rolling-restart, clock-jump, swap",
            ),
        }
    }
}
