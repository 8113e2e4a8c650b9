use super::*;

const STEADY: &str = "
duration: 10s
workers: 2
arrivals: {poisson: {per-second: 500}}
service-time: {exponential: 50ms}
endpoints: [{count: 4, zone: a}, {count: 4, zone: b}]
";

fn with(event: &str, policy: &str) -> Report {
    run(&format!("{STEADY}events: [{event}]\n"), &[policy], 4)
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let everything = format!(
        "{STEADY}
counters: {{refresh: 50ms}}
lifetime: {{lognormal: {{mean: 500ms, sigma: 1}}}}
request-every: {{exponential: 100ms}}
clients: {{zipf: {{count: 500, exponent: 1.1}}}}
events:
  - {{at: 1s, rolling-restart: {{every: 300ms, starts-in: 1s, drain: 2s, at-a-time: 2}}}}
  - {{at: 2s, flap: {{endpoints: {{count: 2}}, down: 100ms, up: 200ms, times: 5}}}}
  - {{at: 3s, slow: {{endpoints: {{count: 1}}, factor: 5, for: 2s}}}}
  - {{at: 4s, fail: {{endpoints: {{count: 1}}, how: refuse, share: 0.5, for: 1s}}}}
  - {{at: 5s, zone-loss: {{zone: b, for: 2s, noticed-after: 500ms}}}}
  - {{at: 6s, weight: {{endpoints: {{count: 2}}, to: 3}}}}
  - {{at: 6s, clock-jump: -1h}}
  - {{at: 7s, swap: random}}
  - {{at: 8s, add: {{count: 2, weight: 2}}}}
"
    );
    let text = |seed| {
        let report = try_run(&everything, &["two-choices", "maglev"], 3, seed).unwrap();
        (report::json::render(&report), report::html::render(&report), report::text::render(&report, 100))
    };
    assert!(text(7) == text(7));
    assert_ne!(text(7).0, text(8).0);
}

#[test]
fn all_subjects_meet_the_same_arrivals_and_every_run_is_counted() {
    let mut told = Vec::new();
    let subjects = ["random", "maglev"].map(|name| report::Subject { name: name.to_owned(), digest: None });
    let mut factory = |wanted: Wanted<'_>, workers: usize, seed: u64| match wanted {
        Wanted::Tried(which) => built_in(["random", "maglev"][which], workers, seed),
        Wanted::Named(name) => built_in(name, workers, seed),
    };
    let report = simulate(&scenario(STEADY), &subjects, &mut factory, 3, 1, &mut |done, of| told.push((done, of))).unwrap();
    let connections = values(&report, "connections");
    assert_eq!(connections[0], connections[1]);
    assert!((connections[0].mean - 5000.0).abs() < 200.0 && connections[0].samples == 3);
    assert_eq!(told, (0..=6).map(|done| (done, 6)).collect::<Vec<_>>());
    assert_eq!((report.seed, report.subjects.len(), report.plots.len()), (Some(1), 2, 3), "nobody waits, so three plots");
}

#[test]
fn removed_endpoints_are_not_used_and_their_connections_drain() {
    // Without a grace period their connections are reset; the picks in the 10 ms until the plan is there are the host's.
    let gone = with("{at: 5s, remove: {endpoints: {zone: a}, drain: 0s}}", "maglev");
    assert!(mean(&gone, "failed") == 0.0 && mean(&gone, "retried") < 1.0);
    assert!(mean(&gone, "fallback") > 0.0 && mean(&gone, "fallback") < 0.2, "{}", mean(&gone, "fallback"));
    let all = with("{at: 5s, remove: {endpoints: all}}", "maglev");
    assert!((mean(&all, "failed") - 50.0).abs() < 3.0, "nobody is left for the second half: {}", mean(&all, "failed"));
}

#[test]
fn flapping_takes_an_endpoint_out_and_back() {
    let report = with("{at: 1s, flap: {endpoints: {count: 1}, down: 500ms, up: 500ms, times: 8}}", "maglev");
    assert!(mean(&report, "failed") == 0.0 && mean(&report, "herd-ratio") < 3.0);
    // Clients of a flapping endpoint must move, twice each time.
    assert!(mean(&report, "affinity-kept") < 97.0, "{}", mean(&report, "affinity-kept"));
    assert!(mean(&with("{at: 1s, clock-jump: 1h}", "maglev"), "affinity-kept") == 100.0, "and without, nobody does");
}

#[test]
fn a_lost_zone_times_out_until_it_is_noticed() {
    let text = |noticed: &str| format!("{{at: 2s, zone-loss: {{zone: b, for: 5s, noticed-after: {noticed}}}}}");
    let (soon, late) = (with(&text("100ms"), "random"), with(&text("3s"), "random"));
    // Half of the picks for 100 ms of 10 s; with 3 s, of those too that are tried again 5 s later.
    assert!(mean(&soon, "retried") > 0.2 && mean(&soon, "retried") < 1.5, "{}", mean(&soon, "retried"));
    assert!(mean(&late, "retried") > 5.0, "{}", mean(&late, "retried"));
    assert!(mean(&late, "latency-p99") > 5000.0 && mean(&soon, "latency-p50") < 60.0);
}

#[test]
fn weights_change_shares() {
    let report = with("{at: 0s, weight: {endpoints: {zone: a}, to: 3}}", "random");
    assert!(mean(&report, "imbalance") < 1.3 && mean(&report, "weight-error") < 2.0, "shares are held against the new weights");
    let nobody = with("{at: 0s, weight: {endpoints: all, to: 0}}", "random");
    assert!(mean(&nobody, "failed") > 99.0 && mean(&nobody, "declined") > 99.0, "who has no weight is not picked, by the host neither");
}

#[test]
fn failures_are_retried_elsewhere() {
    let refuse = with("{at: 0s, fail: {endpoints: {count: 1}, how: refuse}}", "random");
    assert!(mean(&refuse, "failed") == 0.0 && (mean(&refuse, "retried") - 100.0 / 9.0).abs() < 1.5, "{}", mean(&refuse, "retried"));
    let everybody = with("{at: 0s, fail: {endpoints: all, how: refuse, share: 0.5}}", "random");
    assert!((mean(&everybody, "failed") - 100.0 / 16.0).abs() < 1.5, "four tries of one half: {}", mean(&everybody, "failed"));
    let reset = with("{at: 0s, fail: {endpoints: {count: 4}, how: reset}}", "random");
    assert!(mean(&reset, "failed") == 0.0 && mean(&reset, "retried") == 0.0, "a reset comes too late to try another");
}

#[test]
fn a_swap_takes_another_policy_by_name() {
    let report = with("{at: 5s, swap: random}", "round-robin");
    assert!(mean(&report, "schedule-deviation") > 5.0, "the second half is by chance: {}", mean(&report, "schedule-deviation"));
    assert!(mean(&with("{at: 5s, clock-jump: 1s}", "round-robin"), "schedule-deviation") < 3.0);
    let error = try_run(&format!("{STEADY}events: [{{at: 5s, swap: nobody}}]\n"), &["random"], 1, 7).unwrap_err();
    assert!(error.to_string().contains("there is no policy `nobody`"), "{error}");
}

#[test]
fn own_counters_alone_are_worse_than_everybodys() {
    let text = |of: &str| {
        format!(
            "{{duration: 20s, warm-up: 5s, workers: 16, counters: {{of: {of}}}, service-time: {{exponential: 200ms}}, endpoints: [{{count: 20}}]}}"
        )
    };
    let (host, worker) = (run(&text("host"), &["least-connections"], 4), run(&text("worker"), &["least-connections"], 4));
    assert!(mean(&worker, "in-flight-gap") > 2.0 * mean(&host, "in-flight-gap"));
}

#[test]
fn lifetimes_and_requests_keep_connections_busy() {
    let text = "
duration: 20s
warm-up: 10s
arrivals: {poisson: {per-second: 50}}
lifetime: {constant: 2s}
service-time: {constant: 10ms}
request-every: {constant: 90ms}
endpoints: [{count: 1, capacity: 1000}]
expect: [{metric: imbalance, at-most: 1}, {metric: latency-p50, at-most: 11}, {metric: herd-share, at-most: 5}]
";
    let report = run(text, &["random"], 2);
    // 100 connections live at a time by Little's law, and each asks ten times a second: all is answered as if alone.
    assert_eq!((mean(&report, "latency-p50"), mean(&report, "queue-wait-p99")), (10.0, 0.0));
    let verdicts: Vec<_> = report.cases.iter().map(|case| (case.name.as_str(), case.verdict)).collect();
    use crate::workbench::report::Verdict::{Fails, Holds};
    assert_eq!(
        verdicts,
        [("imbalance at most 1", Holds), ("latency-p50 at most 11", Holds), ("herd-share at most 5", Fails)],
        "nobody joined, so nothing is known of a herd"
    );
    assert_eq!(report.verdict, Fails);
}

/// One reason that ends leaves the other: each lasts as long as it says.
#[test]
fn failures_overlap() {
    let one = "{at: 0s, fail: {endpoints: all, how: refuse, for: 2s}}";
    let other = "{at: 1s, fail: {endpoints: all, how: refuse, for: 4s}}";
    for events in [format!("{one}, {other}"), format!("{other}, {one}")] {
        let failed = mean(&with(&events, "random"), "failed");
        assert!((failed - 50.0).abs() < 3.0, "5 s of 10: {failed}");
    }
    let both = "{at: 0s, fail: {endpoints: all, how: reset}}, {at: 0s, fail: {endpoints: all, how: refuse}}";
    assert!(mean(&with(both, "random"), "failed") > 99.0, "who is refused is not reset");
}

/// A pod that is replaced while it is slow has a successor that is not, and is replaced with the weight that it has then.
#[test]
fn a_successor_is_made_when_its_time_comes() {
    let text = |events: &str| {
        let text = "{duration: 20s, warm-up: 10s, arrivals: {poisson: {per-second: 200}}, service-time: {constant: 10ms}";
        run(&format!("{text}, endpoints: [{{count: 4, zone: a, weight: 2}}, {{count: 4, zone: b}}], events: [{events}]}}"), &["random"], 2)
    };
    let restart = "{at: 2s, rolling-restart: {every: 500ms, starts-in: 100ms, drain: 100ms}}";
    let slow = text(&format!("{{at: 1s, slow: {{endpoints: all, factor: 50, for: 3s}}}}, {restart}"));
    assert!(mean(&slow, "latency-p99") < 12.0, "{}", mean(&slow, "latency-p99"));
    let weight = "{at: 2300ms, weight: {endpoints: {zone: a}, to: 0}}, {at: 9s, remove: {endpoints: {zone: b}, drain: 0s}}";
    let weightless = text(&format!("{restart}, {weight}"));
    assert_eq!(mean(&weightless, "failed"), 100.0, "successors of zone a weigh nothing, too");
    let gone = text(&format!("{{at: 2300ms, remove: {{endpoints: all, drain: 0s}}}}, {restart}"));
    assert_eq!(mean(&gone, "failed"), 100.0, "who has left has no successor");
}

/// What is measured is what came while it was: a connection that was begun before does not count when it fails later.
#[test]
fn failures_belong_to_the_connections_that_are_measured() {
    let before = (0..100).map(|_| "{at: 1ms}, ").collect::<String>();
    let text = format!(
        "{{duration: 30s, warm-up: 16s, arrivals: {{trace: [{before}{{at: 17s}}]}}, events: [{{at: 0s, fail: {{endpoints: all, how: time-out, for: 17s}}}}]}}"
    );
    let report = run(&text, &["random"], 1);
    assert_eq!(["connections", "failed", "retried", "fallback"].map(|name| mean(&report, name)), [1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn newcomers_and_refusals_before_it_is_measured_do_not_count() {
    let text = |at: &str| {
        let text = "duration: 20s, warm-up: 10s, arrivals: {poisson: {per-second: 500}}, lifetime: {exponential: 1s}";
        run(&format!("{{{text}, events: [{{at: {at}, add: {{}}}}]}}"), &["least-connections"], 1)
    };
    let has = |report: &Report, name: &str| report.metrics.iter().any(|metric| metric.name == name);
    assert!(has(&text("15s"), "herd-ratio") && !has(&text("5s"), "herd-ratio"));
}

/// The longest times that can be written end a run where it ends.
#[test]
fn times_may_be_as_long_as_numbers_go() {
    let long = "5124095h34m33s";
    let text = format!(
        "{{duration: 1s, connect-timeout: {long}, feedback-every: {long}, propagation: {long}, counters: {{refresh: {long}}}, lifetime: {{constant: {long}}}, events: [{{at: 100ms, fail: {{endpoints: all, how: time-out, for: {long}}}}}, {{at: 100ms, remove: {{endpoints: {{count: 1}}, drain: {long}}}}}]}}"
    );
    assert!(mean(&run(&text, &["random"], 2), "connections") > 900.0);
}

/// Events in any order, at the same endpoints and at the same time: counters never go below zero (which would end the test), nobody is
/// counted twice, and it repeats.
#[test]
fn events_may_overlap_in_any_way() {
    let mut stream = Stream::new(7, "overlap");
    let kinds = [
        "add: {count: 2, zone: a, capacity: 1}",
        "remove: {endpoints: {count: 2}, drain: 200ms}",
        "remove: {endpoints: {zone: b}, drain: 0s}",
        "flap: {endpoints: {count: 3}, down: 100ms, up: 50ms, times: 4}",
        "weight: {endpoints: {count: 2}, to: 0}",
        "weight: {endpoints: all, to: 2}",
        "zone-loss: {zone: a, for: 300ms, noticed-after: 100ms}",
        "zone-loss: {zone: a, for: 100ms, noticed-after: 300ms}",
        "zone-loss: {zone: b}",
        "slow: {endpoints: {count: 2}, factor: 30, for: 400ms}",
        "fail: {endpoints: {count: 2}, how: time-out, share: 0.5, for: 500ms}",
        "fail: {endpoints: all, how: reset, share: 0.2}",
        "rolling-restart: {every: 50ms, at-a-time: 2, starts-in: 70ms, drain: 100ms}",
        "rolling-restart: {endpoints: {count: 3}, every: 1ms, drain: 0s}",
        "clock-jump: -2h",
        "swap: two-choices",
    ];
    for _ in 0..100 {
        let mut event = || format!("{{at: {}ms, {}}}", stream.below(1900), kinds[stream.below(kinds.len() as u64) as usize]);
        let events = (0..8).map(|_| event()).collect::<Vec<_>>().join(", ");
        let text = format!(
            "
duration: 2s
workers: 3
counters: {{refresh: 20ms}}
connect-timeout: 100ms
lifetime: {{exponential: 200ms}}
request-every: {{exponential: 20ms}}
arrivals: {{poisson: {{per-second: 300}}}}
endpoints: [{{count: 4, zone: a, capacity: 2}}, {{count: 4, zone: b}}]
events: [{events}]
"
        );
        let report = run(&text, &["least-connections"], 1);
        assert!((0.0..=100.0).contains(&mean(&report, "failed")) && (450.0..750.0).contains(&mean(&report, "connections")), "{events}");
        assert_eq!(report, run(&text, &["least-connections"], 1), "{events}");
    }
}

/// A policy that takes no endpoints after the first time.
struct Stubborn(Box<dyn Subject>, u32);

impl Subject for Stubborn {
    fn name(&self) -> &str {
        "stubborn"
    }
    fn workers(&self) -> usize {
        self.0.workers()
    }
    fn set_endpoints(&mut self, endpoints: &[pointsman_sdk::types::Endpoint], now_ms: u64) -> Result<(), String> {
        self.1 = self.1.checked_sub(1).ok_or("no more")?;
        self.0.set_endpoints(endpoints, now_ms)
    }
    fn pick(&mut self, worker: usize, connection: &pointsman_sdk::types::Connection) -> crate::workbench::subject::Answer {
        self.0.pick(worker, connection)
    }
    fn last_fuel(&self) -> u64 {
        17
    }
    fn update_fuel(&self) -> (u64, u64) {
        (1000 * u64::from(self.1 + 1), 50)
    }
    fn memory_peak(&self) -> u64 {
        65_536
    }
    fn set_active(&mut self, worker: usize, slot: u32, active: u32) {
        self.0.set_active(worker, slot, active);
    }
    fn report(
        &mut self,
        worker: usize,
        now_ms: u64,
        outcomes: &[pointsman_sdk::types::Outcome],
    ) -> Result<(), crate::workbench::subject::FaultClass> {
        self.0.report(worker, now_ms, outcomes)
    }
}

#[test]
fn a_refused_plan_leaves_the_one_before_in_force() {
    let subjects = [report::Subject { name: "stubborn".to_owned(), digest: None }];
    let text = format!("{STEADY}events: [{{at: 5s, remove: {{endpoints: {{zone: a}}}}}}]\n");
    let attempt = |text: &str, plans| {
        let mut factory = |_: Wanted<'_>, workers: usize, seed: u64| -> Result<Box<dyn Subject>, String> {
            Ok(Box::new(Stubborn(built_in("random", workers, seed)?, plans)))
        };
        simulate(&scenario(text), &subjects, &mut factory, 1, 7, &mut |_, _| {})
    };
    let report = attempt(&text, 1).unwrap();
    assert_eq!((mean(&report, "refused-plans"), mean(&report, "failed"), mean(&report, "fuel-p99")), (1.0, 0.0, 17.0));
    assert!((mean(&report, "fallback") - 25.0).abs() < 2.0, "the host chooses for half of the second half: {}", mean(&report, "fallback"));
    assert_eq!(mean(&attempt(&text, 2).unwrap(), "refused-plans"), 0.0);
    let cost = ["plan-fuel", "adopt-fuel", "memory-peak"].map(|name| mean(&attempt(&text, 2).unwrap(), name));
    assert_eq!(cost, [2000.0, 50.0, 65_536.0], "the most that a plan took");
    let text = text.replace("duration: 10s", "duration: 10s\nwarm-up: 6s");
    assert_eq!(mean(&attempt(&text, 1).unwrap(), "refused-plans"), 0.0, "that was before it was measured");
    assert!(attempt(&text, 0).unwrap_err().to_string().ends_with("no more"));
}
