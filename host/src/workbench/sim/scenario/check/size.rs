//! How much there is to simulate: a scenario that would take minutes or all memory is refused before it runs.

use super::{Action, Arrivals, Check, Distribution, Scenario, Time};
use crate::workbench::sim::MIN_PAUSE_NANOS;
use crate::workbench::sim::random::Stream;

/// Connections, requests and changes of a rate that a simulation may expect: about 20 s and 2 GB.
const MAX_REQUESTS: f64 = 2e7;
/// Looks of workers and of the report at an endpoint's load, and of workers at their outcomes, some 10 ns each.
const MAX_LOOKS: f64 = 4e9;
/// Endpoints that are planned anew, over all changes; most policies take a microsecond for one, and some three.
const MAX_PLANNED: f64 = 1e8;
/// What varies is looked at so often to see what it comes to.
const DRAWS: u32 = 10_000;

impl Check {
    /// What is wrong with the scenario as a whole.
    pub(super) fn size(&mut self, scenario: &Scenario) {
        let duration = scenario.duration.as_seconds();
        let expected = requests(scenario);
        self.that(
            expected <= MAX_REQUESTS,
            "arrivals",
            || format!("about {expected:.0} requests are too many to simulate"),
            || format!("keep rate × duration (× requests a connection) below {MAX_REQUESTS}"),
        );
        if let Arrivals::Bursty(bursty) = &scenario.arrivals {
            let phases = 2.0 * duration / (bursty.calm_for.as_seconds() + bursty.burst_for.as_seconds());
            self.that(
                phases <= MAX_REQUESTS,
                "arrivals.bursty",
                || format!("the rate changes about {phases:.0} times, which is too often to simulate"),
                || "lengthen `calm-for` or `burst-for`".to_owned(),
            );
        }
        let (workers, endpoints) = (f64::from(scenario.workers), endpoints(scenario));
        let looks = [
            ("duration", endpoints * (duration * 10.0).max(100.0), "shorten it, or have fewer endpoints"),
            ("feedback-every", workers * duration / scenario.feedback_every.as_seconds(), "lengthen it, or have fewer workers"),
            (
                "counters.refresh",
                if scenario.counters.refresh == Time::default() {
                    0.0
                } else {
                    workers * endpoints * duration / scenario.counters.refresh.as_seconds()
                },
                "lengthen it, or have fewer workers or endpoints",
            ),
        ];
        for (field, looks, remedy) in looks {
            let what = || format!("about {looks:.0} looks at counters are too many to simulate");
            self.that(looks <= MAX_LOOKS, field, what, || remedy.to_owned());
        }
        let changes: f64 = scenario.events.iter().map(|event| changes(scenario, event.at, &event.action, endpoints)).sum();
        let planned = changes * endpoints;
        self.that(
            planned <= MAX_PLANNED,
            "events",
            || format!("{endpoints} endpoints are planned anew {changes:.0} times, which is too often to simulate"),
            || format!("keep endpoints × changes below {MAX_PLANNED}"),
        );
    }
}

/// Those that may be there at a time.
fn endpoints(scenario: &Scenario) -> f64 {
    let added = scenario.events.iter().filter_map(|event| if let Action::Add(group) = &event.action { Some(group) } else { None });
    scenario.endpoints.iter().chain(added).map(|group| f64::from(group.count)).sum()
}

/// How often an event changes who is there, or what is known of them.
fn changes(scenario: &Scenario, at: Time, action: &Action, endpoints: f64) -> f64 {
    let left = scenario.duration.as_seconds() - at.as_seconds();
    let within = |steps: f64, interval: Time| steps.min(left / interval.as_seconds() + 1.0);
    match action {
        Action::Add(_) | Action::Remove(_) | Action::Weight(_) | Action::Swap(_) => 1.0,
        Action::ZoneLoss(_) => 2.0,
        Action::Flap(flap) => 2.0 * within(f64::from(flap.times), Time { nanos: flap.down.nanos.saturating_add(flap.up.nanos) }),
        Action::RollingRestart(restart) => 2.0 * within(endpoints / f64::from(restart.at_a_time), restart.every),
        Action::Slow(_) | Action::Fail(_) | Action::ClockJump(_) => 0.0,
    }
}

/// Requests that are to be expected; the first of a connection comes with it.
fn requests(scenario: &Scenario) -> f64 {
    let seconds = scenario.duration.as_seconds();
    let lifetime = scenario.lifetime.as_ref().map_or(0.0, |lifetime| mean(lifetime, Time::default(), scenario.duration));
    let of_each = |lifetime: f64| 1.0 + scenario.request_every.as_ref().map_or(0.0, |every| follow(every, lifetime));
    match &scenario.arrivals {
        Arrivals::Poisson(poisson) => poisson.per_second * seconds * of_each(lifetime),
        Arrivals::Bursty(bursty) => {
            let (calm, burst) = (bursty.calm_for.as_seconds(), bursty.burst_for.as_seconds());
            (bursty.calm_per_second * calm + bursty.burst_per_second * burst) / (calm + burst) * seconds * of_each(lifetime)
        }
        Arrivals::Trace(trace) => {
            let own: f64 = trace.iter().filter_map(|arrival| arrival.lifetime).map(|time| time.min(scenario.duration).as_seconds()).sum();
            let others = trace.iter().filter(|arrival| arrival.lifetime.is_none()).count() as f64;
            let all = trace.len().max(1) as f64;
            trace.len() as f64 * of_each((own + others * lifetime) / all)
        }
    }
}

/// How many pauses fit a lifetime. One that is cut off by its end is as long as the lifetime at most, so that few long ones do not hide how
/// many short ones come before them.
fn follow(every: &Distribution, lifetime: f64) -> f64 {
    if lifetime <= 0.0 {
        return 0.0;
    }
    lifetime / mean(every, Time { nanos: MIN_PAUSE_NANOS }, Time { nanos: (lifetime * 1e9) as u64 })
}

/// Seconds on average, when what is drawn is held within bounds.
fn mean(distribution: &Distribution, least: Time, most: Time) -> f64 {
    let mut stream = Stream::new(0, "size");
    let sum: f64 = (0..DRAWS).map(|_| Time { nanos: stream.draw(distribution) }.min(most).max(least).as_seconds()).sum();
    sum / f64::from(DRAWS)
}
