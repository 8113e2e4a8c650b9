//! What the types do not say: bounds, and fields that do not go together.

mod size;

use std::collections::BTreeSet;

use super::{Action, Arrivals, Clients, Distribution, Fail, Flap, Group, RollingRestart, Scenario, Scope, Slow, Target, Time};
use crate::workbench::located::instead_of;
use crate::workbench::sim::METRICS;

/// How long a simulation may be.
const MAX_DURATION: Time = Time::seconds(24 * 3600);
/// Worker threads.
const MAX_WORKERS: u32 = 256;
/// Clients: each is remembered with the endpoint that it had.
const MAX_CLIENTS: u32 = 1_000_000;
/// Endpoints at the start, and over all events; a rolling restart counts everybody.
const MAX_ENDPOINTS: u64 = 10_000;
/// Endpoints over all events, replaced ones with their successors.
const MAX_ENDPOINTS_EVER: u64 = 100_000;
/// Connections a second: times are whole nanoseconds.
const MAX_RATE: f64 = 1e7;
/// Times that an endpoint may flap in one event.
const MAX_FLAPS: u32 = 10_000;
/// Beyond, exp and powers leave the numbers behind.
const MAX_SHAPE: f64 = 10.0;
/// A factor for slow endpoints.
const MAX_SLOWNESS: f64 = 1e6;
/// What happens regularly (refreshes, feedback, steps of a restart, requests) does not happen more often.
const MIN_INTERVAL: Time = Time::millis(1);

/// Something wrong.
pub(super) struct Wrong {
    pub(super) field: String,
    pub(super) what: String,
    pub(super) remedy: String,
}

/// Everything that is wrong.
pub(super) fn mistakes(scenario: &Scenario) -> Vec<Wrong> {
    let mut check = Check { wrong: Vec::new() };
    check.times(scenario);
    check.load(scenario);
    let there = check.endpoints(scenario);
    for (n, event) in scenario.events.iter().enumerate() {
        let at = format!("events[{n}]");
        check.that(
            event.at <= scenario.duration,
            &format!("{at}.at"),
            || "is after the end",
            || "lengthen `duration`, or let it happen earlier".to_owned(),
        );
        check.action(&at, &event.action);
        check.is_there(&at, &event.action, &there);
    }
    check.expectations(scenario);
    // Of numbers that make sense.
    if check.wrong.is_empty() {
        check.size(scenario);
    }
    check.wrong
}

/// Who is there at some time.
struct There<'a> {
    keys: BTreeSet<&'a str>,
    zones: BTreeSet<&'a str>,
    /// As many may have a number for a key, at most.
    numbered: u64,
}

impl There<'_> {
    fn has(&self, key: &str) -> bool {
        let number = || {
            let address: std::net::Ipv4Addr = key.strip_suffix(":80")?.parse().ok()?;
            let [ten, a, b, c] = address.octets();
            (ten == 10).then_some(u64::from(u32::from_be_bytes([0, a, b, c])))
        };
        // Numbers that keys have are passed over.
        self.keys.contains(key) || number().is_some_and(|number| number < self.numbered + self.keys.len() as u64)
    }
}

struct Check {
    wrong: Vec<Wrong>,
}

impl Check {
    fn that<W: Into<String>>(&mut self, holds: bool, field: &str, what: impl FnOnce() -> W, remedy: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(Wrong { field: field.to_owned(), what: what().into(), remedy: remedy() });
        }
    }

    fn within<T: PartialOrd + std::fmt::Display>(&mut self, value: T, low: T, high: T, field: &str) {
        let holds = value >= low && value <= high;
        self.that(holds, field, || format!("is {value}"), || format!("write a number from {low} to {high}"));
    }

    fn interval(&mut self, time: Time, field: &str) {
        self.that(time >= MIN_INTERVAL, field, || "is too short", || "write at least 1ms".to_owned());
    }

    fn times(&mut self, scenario: &Scenario) {
        let longest = || "write a time above 0s and of at most 24h".to_owned();
        let duration = scenario.duration;
        self.that(
            duration > Time::default() && duration <= MAX_DURATION,
            "duration",
            || format!("is {} s", duration.as_seconds()),
            longest,
        );
        self.that(
            scenario.warm_up < duration,
            "warm-up",
            || "is as long as the simulation",
            || "keep it shorter than `duration`".to_owned(),
        );
        self.within(scenario.workers, 1, MAX_WORKERS, "workers");
        self.interval(scenario.feedback_every, "feedback-every");
        let refresh = scenario.counters.refresh;
        self.that(
            refresh == Time::default() || refresh >= MIN_INTERVAL,
            "counters.refresh",
            || "is too short",
            || "write 0s, or at least 1ms".to_owned(),
        );
        let stale = scenario.counters.of == Scope::Worker && refresh > Time::default();
        self.that(
            !stale,
            "counters.refresh",
            || "has no meaning with `of: worker`: a worker's own counters are never stale",
            || "leave it out, or write `of: host`".to_owned(),
        );
    }

    fn load(&mut self, scenario: &Scenario) {
        for (field, distribution) in [("connect-time", Some(&scenario.connect_time)), ("service-time", Some(&scenario.service_time))] {
            self.distribution(distribution, field);
        }
        self.distribution(scenario.lifetime.as_ref(), "lifetime");
        self.distribution(scenario.request_every.as_ref(), "request-every");
        if let Some(every) = &scenario.request_every {
            self.that(
                every.mean() >= MIN_INTERVAL.as_seconds(),
                "request-every",
                || "is too short",
                || "write at least 1ms on average".to_owned(),
            );
        }
        let own =
            |arrivals: &Arrivals| matches!(arrivals, Arrivals::Trace(trace) if trace.iter().any(|arrival| arrival.lifetime.is_some()));
        self.that(
            scenario.request_every.is_none() || scenario.lifetime.is_some() || own(&scenario.arrivals),
            "request-every",
            || "never comes: without a `lifetime`, a connection ends with its first request",
            || "add `lifetime`, or leave it out".to_owned(),
        );
        self.arrivals(scenario);
        self.clients(scenario);
    }

    fn distribution(&mut self, distribution: Option<&Distribution>, field: &str) {
        match distribution {
            Some(Distribution::Lognormal(shape)) => self.within(shape.sigma, 0.0, MAX_SHAPE, &format!("{field}.lognormal.sigma")),
            Some(Distribution::Bimodal(shape)) => self.within(shape.long_share, 0.0, 1.0, &format!("{field}.bimodal.long-share")),
            _ => {}
        }
    }

    fn arrivals(&mut self, scenario: &Scenario) {
        match &scenario.arrivals {
            Arrivals::Poisson(poisson) => self.rate(poisson.per_second, "arrivals.poisson.per-second"),
            Arrivals::Bursty(bursty) => {
                self.rate(bursty.calm_per_second, "arrivals.bursty.calm-per-second");
                self.rate(bursty.burst_per_second, "arrivals.bursty.burst-per-second");
                self.interval(bursty.calm_for, "arrivals.bursty.calm-for");
                self.interval(bursty.burst_for, "arrivals.bursty.burst-for");
            }
            Arrivals::Trace(trace) => {
                self.that(!trace.is_empty(), "arrivals.trace", || "is empty", || "list connections: `- {at: 0s}`".to_owned());
                for (n, arrival) in trace.iter().enumerate() {
                    let field = format!("arrivals.trace[{n}]");
                    let sorted = n == 0 || trace[n - 1].at <= arrival.at;
                    self.that(sorted, &format!("{field}.at"), || "is before the one above", || "list connections by time".to_owned());
                    self.within(arrival.client.unwrap_or(0), 0, scenario.clients.count().saturating_sub(1), &format!("{field}.client"));
                }
            }
        }
    }

    fn rate(&mut self, rate: f64, field: &str) {
        let holds = rate > 0.0 && rate <= MAX_RATE;
        self.that(holds, field, || format!("is {rate}"), || format!("write a number above 0 and of at most {MAX_RATE}"));
    }

    fn clients(&mut self, scenario: &Scenario) {
        let (least, field) = match &scenario.clients {
            Clients::Uniform(_) => (1, "clients.uniform"),
            Clients::Zipf(zipf) => {
                self.within(zipf.exponent, 0.0, MAX_SHAPE, "clients.zipf.exponent");
                (1, "clients.zipf.count")
            }
            Clients::Hot(hot) => {
                self.within(hot.share, 0.0, 1.0, "clients.hot.share");
                (2, "clients.hot.count")
            }
        };
        self.within(scenario.clients.count(), least, MAX_CLIENTS, field);
    }

    /// Who is ever there.
    fn endpoints<'a>(&mut self, scenario: &'a Scenario) -> There<'a> {
        let (mut keys, mut zones, mut count, mut ever) = (BTreeSet::new(), BTreeSet::new(), 0, 0);
        let added = scenario.events.iter().enumerate().filter_map(|(n, event)| match &event.action {
            Action::Add(group) => Some((format!("events[{n}].add"), group)),
            _ => None,
        });
        let there = scenario.endpoints.iter().enumerate().map(|(n, group)| (format!("endpoints[{n}]"), group));
        for (field, group) in there.chain(added) {
            self.group(&field, group);
            count += u64::from(group.count);
            zones.extend(group.zone.as_deref());
            if let Some(key) = &group.key {
                self.that(
                    group.count == 1,
                    &format!("{field}.key"),
                    || "names one endpoint, and `count` says more",
                    || "leave one of the two out".to_owned(),
                );
                self.that(
                    keys.insert(key.as_str()),
                    &format!("{field}.key"),
                    || format!("`{}` is there twice", key.escape_debug()),
                    || "name each once".to_owned(),
                );
            }
        }
        self.that(!scenario.endpoints.is_empty(), "endpoints", || "is empty", || "list endpoints: `- {count: 10}`".to_owned());
        self.that(
            count <= MAX_ENDPOINTS,
            "endpoints",
            || format!("{count} endpoints are too many"),
            || format!("have at most {MAX_ENDPOINTS}"),
        );
        for event in &scenario.events {
            ever += if matches!(event.action, Action::RollingRestart(_)) { count } else { 0 };
        }
        self.that(
            count + ever <= MAX_ENDPOINTS_EVER,
            "events",
            || "replace too many endpoints",
            || format!("keep endpoints × rolling restarts below {MAX_ENDPOINTS_EVER}"),
        );
        There { keys, zones, numbered: count + ever }
    }

    fn group(&mut self, field: &str, group: &Group) {
        self.within(u64::from(group.count), 1, MAX_ENDPOINTS, &format!("{field}.count"));
        self.that(group.capacity != Some(0), &format!("{field}.capacity"), || "is 0", || "write at least 1, or leave it out".to_owned());
        self.slowness(group.slow, &format!("{field}.slow"));
    }

    fn slowness(&mut self, factor: f64, field: &str) {
        let holds = factor > 0.0 && factor <= MAX_SLOWNESS;
        self.that(holds, field, || format!("is {factor}"), || format!("write a factor above 0 and of at most {MAX_SLOWNESS}"));
    }

    fn action(&mut self, at: &str, action: &Action) {
        match action {
            Action::Add(_) | Action::ZoneLoss(_) | Action::ClockJump(_) => {}
            Action::Remove(remove) => self.target(&remove.endpoints, &format!("{at}.remove")),
            Action::Weight(weight) => self.target(&weight.endpoints, &format!("{at}.weight")),
            Action::Flap(Flap { endpoints, down, up, times }) => {
                self.target(endpoints, &format!("{at}.flap"));
                self.interval(*down, &format!("{at}.flap.down"));
                self.interval(*up, &format!("{at}.flap.up"));
                self.within(*times, 1, MAX_FLAPS, &format!("{at}.flap.times"));
            }
            Action::Slow(Slow { endpoints, factor, .. }) => {
                self.target(endpoints, &format!("{at}.slow"));
                self.slowness(*factor, &format!("{at}.slow.factor"));
            }
            Action::Fail(Fail { endpoints, share, .. }) => {
                self.target(endpoints, &format!("{at}.fail"));
                self.within(*share, 0.0, 1.0, &format!("{at}.fail.share"));
            }
            Action::RollingRestart(RollingRestart { endpoints, every, at_a_time, .. }) => {
                self.target(endpoints, &format!("{at}.rolling-restart"));
                self.interval(*every, &format!("{at}.rolling-restart.every"));
                self.within(*at_a_time, 1, MAX_ENDPOINTS as u32, &format!("{at}.rolling-restart.at-a-time"));
            }
            Action::Swap(policy) => self.that(!policy.is_empty(), &format!("{at}.swap"), || "is empty", || "name a policy".to_owned()),
        }
    }

    fn target(&mut self, target: &Target, field: &str) {
        let empty = matches!(target, Target::Count(0)) || matches!(target, Target::Keys(keys) if keys.is_empty());
        self.that(
            !empty,
            &format!("{field}.endpoints"),
            || "names nobody",
            || "write all, {count: 1}, {zone: a} or {keys: [10.0.0.1:80]}".to_owned(),
        );
    }

    /// An event that names somebody who is never there would do nothing.
    fn is_there(&mut self, at: &str, action: &Action, there: &There<'_>) {
        let (field, target) = match action {
            Action::ZoneLoss(loss) => return self.zone(&format!("{at}.zone-loss.zone"), &loss.zone, there),
            Action::Remove(remove) => ("remove", &remove.endpoints),
            Action::Flap(flap) => ("flap", &flap.endpoints),
            Action::Weight(weight) => ("weight", &weight.endpoints),
            Action::Slow(slow) => ("slow", &slow.endpoints),
            Action::Fail(fail) => ("fail", &fail.endpoints),
            Action::RollingRestart(restart) => ("rolling-restart", &restart.endpoints),
            Action::Add(_) | Action::ClockJump(_) | Action::Swap(_) => return,
        };
        let field = format!("{at}.{field}.endpoints");
        match target {
            Target::Zone(zone) => self.zone(&format!("{field}.zone"), zone, there),
            Target::Keys(keys) => {
                for (n, key) in keys.iter().enumerate() {
                    self.that(
                        there.has(key),
                        &format!("{field}.keys[{n}]"),
                        || format!("no endpoint ever has the key `{}`", key.escape_debug()),
                        || match there.keys.is_empty() {
                            true => "endpoints without a key of their own are 10.0.0.0:80, 10.0.0.1:80, …".to_owned(),
                            false => instead_of(key, &there.keys.iter().copied().collect::<Vec<_>>()),
                        },
                    );
                }
            }
            Target::All | Target::Count(_) => {}
        }
    }

    fn zone(&mut self, field: &str, zone: &str, there: &There<'_>) {
        let known: Vec<&str> = there.zones.iter().copied().collect();
        self.that(
            known.contains(&zone),
            field,
            || format!("no endpoint is ever in the zone `{}`", zone.escape_debug()),
            || match known.is_empty() {
                true => "give a group of endpoints a `zone`".to_owned(),
                false => instead_of(zone, &known),
            },
        );
    }

    fn expectations(&mut self, scenario: &Scenario) {
        for (n, expectation) in scenario.expect.iter().enumerate() {
            let field = format!("expect[{n}]");
            let known: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
            let name = expectation.metric.as_str();
            self.that(
                known.contains(&name),
                &format!("{field}.metric"),
                || format!("there is no metric `{}`", name.escape_debug()),
                || instead_of(name, &known),
            );
            let bounded = expectation.at_most.is_some() || expectation.at_least.is_some();
            self.that(bounded, &field, || "has no bound", || "add `at-most` or `at-least`".to_owned());
        }
    }
}

impl Distribution {
    /// Seconds.
    fn mean(&self) -> f64 {
        match self {
            Self::Constant(time) | Self::Exponential(time) => time.as_seconds(),
            Self::Lognormal(shape) => shape.mean.as_seconds(),
            Self::Bimodal(shape) => shape.long.as_seconds() * shape.long_share + shape.short.as_seconds() * (1.0 - shape.long_share),
        }
    }
}

impl Clients {
    /// How many there are.
    pub(in crate::workbench::sim) fn count(&self) -> u32 {
        match self {
            Self::Uniform(count) => *count,
            Self::Zipf(zipf) => zipf.count,
            Self::Hot(hot) => hot.count,
        }
    }
}
