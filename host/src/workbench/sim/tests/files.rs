use super::*;

fn said(text: &str) -> String {
    let mistakes = Scenario::read(Path::new("sim.yaml"), text).expect_err(text);
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn everything_has_a_default() {
    for text in ["", "# nothing\n", "{}"] {
        assert_eq!(scenario(text), Scenario::default(), "{text:?}");
    }
    let read = scenario("duration: 1m30s\nservice-time: {constant: 1500us}\n");
    assert_eq!((read.duration, read.service_time), (Time::seconds(90), Distribution::Constant(Time { nanos: 1_500_000 })));
}

#[test]
fn mistakes_name_file_line_field_and_remedy() {
    for (text, wanted) in [
        ("duraton: 1s\n", "error: sim.yaml:1:1: duraton: there is no `duraton` here\n  help: did you mean `duration`?"),
        ("duration: 5\n", "sim.yaml:1:11: duration: `5` is no time with its unit, like 500ms, 30s or 1m30s"),
        ("duration: -5s\n", "duration: time with its unit"),
        ("duration: 2d\n", "sim.yaml:1:11: duration: "),
        ("\nclients: {zipf: {count: 5}}\n", "sim.yaml:2:18: clients.zipf: `exponent` is missing\n  help: add `exponent`"),
        ("clients: {zipg: {count: 5}}\n", "there is no `zipg` here\n  help: did you mean `zipf`?"),
        ("workers: many\n", "sim.yaml:1:10: workers: "),
        ("workers: 0\n", "sim.yaml:1:10: workers: is 0\n  help: write a number from 1 to 256"),
        ("duration: 1s\nwarm-up: 1s\n", "sim.yaml:2:10: warm-up: is as long as the simulation\n  help: keep it shorter than `duration`"),
        ("counters: {of: worker, refresh: 1s}\n", "counters.refresh: has no meaning with `of: worker`"),
        ("arrivals: {poisson: {per-second: 1e6}}\n", "sim.yaml:1:11: arrivals: about 60000000 requests are too many"),
        (
            "duration: 1us\narrivals: {poisson: {per-second: 1e12}}\n",
            "sim.yaml:2:34: arrivals.poisson.per-second: is 1000000000000\n  help: write a number above 0 and of at most 10000000",
        ),
        ("arrivals: {poisson: {per-second: .nan}}\n", "sim.yaml:1:34: value `.nan` is not a finite number"),
        (
            "arrivals: {poisson: {per-second: 0}}\n",
            "arrivals.poisson.per-second: is 0\n  help: write a number above 0 and of at most 10000000",
        ),
        ("arrivals: {trace: [{at: 5s}, {at: 4s}]}\n", "sim.yaml:1:35: arrivals.trace[1].at: is before the one above"),
        (
            "clients: {uniform: 3}\narrivals: {trace: [{at: 5s, client: 3}]}\n",
            "arrivals.trace[0].client: is 3\n  help: write a number from 0 to 2",
        ),
        ("clients: {hot: {count: 1, share: 2}}\n", "clients.hot.share: is 2\n  help: write a number from 0 to 1"),
        ("endpoints: []\n", "endpoints: is empty\n  help: list endpoints: `- {count: 10}`"),
        ("endpoints:\n  - {key: a}\n  - {key: a}\n", "sim.yaml:3:11: endpoints[1].key: `a` is there twice"),
        ("endpoints: [{key: a, count: 2}]\n", "endpoints[0].key: names one endpoint, and `count` says more"),
        ("endpoints: [{count: 5, slow: 0}]\n", "endpoints[0].slow: is 0"),
        ("endpoints: [{count: 5, capacity: 0}]\n", "endpoints[0].capacity: is 0"),
        ("endpoints: [{count: 20000}]\n", "endpoints[0].count: is 20000\n  help: write a number from 1 to 10000"),
        ("events:\n  - {at: 1s}\n", "sim.yaml:2:5: events[0]: an event has `at` and exactly one of add, remove,"),
        ("events:\n  - {at: 1s, swap: a, clock-jump: 1s}\n", "exactly one of"),
        ("events:\n  - {at: 2m, swap: a}\n", "sim.yaml:2:10: events[0].at: is after the end"),
        ("events:\n  - {at: 1s, remove: {endpoints: {count: 0}}}\n", "events[0].remove.endpoints: names nobody"),
        ("events:\n  - {at: 1s, remove: {endpoint: all}}\n", "there is no `endpoint` here\n  help: did you mean `endpoints`?"),
        ("events:\n  - {at: 1s, rolling-restart: {every: 0s}}\n", "sim.yaml:2:39: events[0].rolling-restart.every: is too short"),
        (
            "events:\n  - {at: 1s, fail: {endpoints: all, how: explode}}\n",
            "there is no `explode` here\n  help: one of these: refuse, time-out, reset",
        ),
        (
            "expect: [{metric: imbalanc, at-most: 1}]\n",
            "expect[0].metric: there is no metric `imbalanc`\n  help: did you mean `imbalance`?",
        ),
        ("expect: [{metric: imbalance}]\n", "expect[0]: has no bound"),
        ("workers: 1\nworkers: 2\n", "`workers` is there twice\n  help: keep one of the two"),
        ("duration: [\n", "error: sim.yaml:"),
        ("- 1\n", "error: sim.yaml:1:1"),
    ] {
        let said = said(text);
        assert!(said.contains(wanted), "{text:?} says\n{said}");
    }
}

/// An event for somebody who is never there would do nothing, and say nothing.
#[test]
fn events_name_who_is_there_at_some_time() {
    let zones = "endpoints: [{count: 2, zone: east}, {key: a}]\nevents:\n";
    for (event, wanted) in [
        (
            "  - {at: 1s, zone-loss: {zone: esat}}\n",
            "sim.yaml:3:32: events[0].zone-loss.zone: no endpoint is ever in the zone `esat`\n  help: did you mean `east`?",
        ),
        (
            "  - {at: 1s, slow: {endpoints: {zone: west}, factor: 2}}\n",
            "events[0].slow.endpoints.zone: no endpoint is ever in the zone `west`\n  help: one of these: east",
        ),
        (
            "  - {at: 1s, fail: {endpoints: {keys: [a, b]}, how: refuse}}\n",
            "sim.yaml:3:43: events[0].fail.endpoints.keys[1]: no endpoint ever has the key `b`\n  help: did you mean `a`?",
        ),
        ("  - {at: 1s, remove: {endpoints: {keys: [\"10.0.0.9:80\"]}}}\n", "no endpoint ever has the key `10.0.0.9:80`"),
    ] {
        let said = said(&format!("{zones}{event}"));
        assert!(said.contains(wanted), "{event:?} says\n{said}");
    }
    for event in [
        "{at: 1s, remove: {endpoints: {keys: [a, \"10.0.0.1:80\"]}}}",
        "{at: 1s, weight: {endpoints: {zone: west}, to: 2}}, {at: 2s, add: {zone: west}}",
        "{at: 1s, rolling-restart: {every: 1s}}, {at: 5s, remove: {endpoints: {keys: [\"10.0.0.4:80\"]}}}",
    ] {
        scenario(&zones.replace("events:\n", &format!("events: [{event}]\n")));
    }
}

#[test]
fn requests_need_a_lifetime() {
    let wanted = "sim.yaml:1:16: request-every: never comes: without a `lifetime`, a connection ends with its first request";
    assert!(said("request-every: {constant: 1s}\n").contains(wanted));
    scenario("request-every: {constant: 1s}\narrivals: {trace: [{at: 0s, lifetime: 5s}]}\n");
}

/// Each of these once ran for minutes, or took gigabytes.
#[test]
fn what_would_take_too_long_is_refused() {
    for (text, wanted) in [
        (
            "duration: 24h\nrequest-every: {constant: 1ms}\narrivals: {trace: [{at: 0s, lifetime: 24h}]}\n",
            "arrivals: about 86400001 requests are too many",
        ),
        ("lifetime: {constant: 10s}\nrequest-every: {lognormal: {mean: 1s, sigma: 10}}\n", "requests are too many"),
        ("lifetime: {constant: 10s}\nrequest-every: {bimodal: {short: 1us, long: 1h, long-share: 1e-6}}\n", "requests are too many"),
        (
            "duration: 24h\nworkers: 256\ncounters: {refresh: 1ms}\narrivals: {poisson: {per-second: 1}}\nendpoints: [{count: 4000}]\n",
            "sim.yaml:3:21: counters.refresh: about 88473600000000 looks at counters are too many",
        ),
        (
            "duration: 24h\narrivals: {poisson: {per-second: 1}}\nendpoints: [{count: 10000}]\n",
            "sim.yaml:1:11: duration: about 8640000000 looks",
        ),
        (
            "duration: 24h\nworkers: 256\narrivals: {poisson: {per-second: 1}}\nfeedback-every: 1ms\n",
            "feedback-every: about 22118400000 looks",
        ),
        (
            "duration: 24h\narrivals: {bursty: {calm-per-second: 1, burst-per-second: 1, calm-for: 1ms, burst-for: 1ms}}\n",
            "arrivals.bursty: the rate changes about 86400000 times",
        ),
        (
            "endpoints: [{count: 10000}]\nevents: [{at: 0s, flap: {endpoints: all, down: 1ms, up: 1ms, times: 10000}}]\n",
            "events: 10000 endpoints are planned anew 20000 times",
        ),
    ] {
        let said = said(text);
        assert!(said.contains(wanted), "{text:?} says\n{said}");
    }
    // Steps past the end take nothing.
    scenario("duration: 1s\nendpoints: [{count: 10000}]\nevents: [{at: 0s, flap: {endpoints: all, down: 10s, up: 10s, times: 10000}}]\n");
    // Long pauses are pauses.
    scenario("lifetime: {exponential: 30s}\nrequest-every: {bimodal: {short: 100ms, long: 5s, long-share: 0.2}}\n");
}

#[test]
fn all_mistakes_are_told_at_once() {
    assert_eq!(said("workers: 0\nfeedback-every: 0s\nclients: {uniform: 0}\n").matches("error: ").count(), 3);
}

/// The examples of the documentation can be read and run; the slow one is checked for what its comment promises.
#[test]
fn the_examples_run() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scenarios"));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let report = try_run(&text, &["two-choices"], 1, 7).unwrap();
        assert!(report.metrics.len() > 15 && report.plots.len() >= 3, "{}", path.display());
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(names, ["hot-key.yaml", "rolling-restart.yaml", "slow-endpoint.yaml", "steady.yaml"]);
}
