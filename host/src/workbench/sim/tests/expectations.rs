//! What is known of policies from theory and from others' measurements (docs/simulator.md names the sources), seen again here.

use super::*;

/// So many connections that stay.
fn balls(count: u32, bins: u32) -> String {
    format!(
        "
duration: 3s
warm-up: 2s
workers: 1
connect-time: {{constant: 0s}}
arrivals: {{trace: [{}]}}
lifetime: {{constant: 1h}}
endpoints: [{{count: {bins}}}]
",
        (0..count).map(|n| format!("{{at: {}us}}", 100 * n)).collect::<Vec<_>>().join(", ")
    )
}

/// n balls in n bins: the fullest has about 6.6 with one choice and 3.0 with two (n = 10,000; Azar et al. 1994). 10,000 balls in 100
/// bins: 24.4 and 2.0 above the mean (Berenbrink et al. 2000 for the law, measured over 16 seeds here).
#[test]
fn the_gaps_of_one_and_of_two_choices() {
    let report = run(&balls(10_000, 100), &["random", "two-choices"], 16);
    let gaps = values(&report, "in-flight-gap");
    assert!((20.0..29.0).contains(&gaps[0].mean), "{gaps:?}");
    assert!(gaps[1].mean <= 4.0 && gaps[1].mean >= 1.0, "{gaps:?}");
    let report = run(&balls(10_000, 10_000), &["random", "two-choices"], 4);
    let gaps = values(&report, "in-flight-gap");
    assert!((5.0..6.5).contains(&gaps[0].mean) && (1.8..2.3).contains(&gaps[1].mean), "6.6 and 3.0 less the mean: {gaps:?}");
}

/// Two choices with replacement, one endpoint always busier: it is picked only when drawn twice, one time in 9 of 3 endpoints, one in 4 of 2
/// (Envoy's simulation test). Whoever gets the first connection, which stays, is the busy one; the others end as they begin.
#[test]
fn two_choices_avoid_who_is_busy() {
    let arrival = |n: u32| format!("{{at: {n}ms{}}}", if n == 0 { ", lifetime: 1h" } else { "" });
    let trace = (0..61_000).map(arrival).collect::<Vec<_>>().join(", ");
    for (endpoints, expected) in [(3, 1.0 / 9.0), (2, 0.25)] {
        let text = format!(
            "
duration: 61s
warm-up: 1s
workers: 1
connect-time: {{constant: 0s}}
service-time: {{constant: 0s}}
arrivals: {{trace: [{trace}]}}
endpoints: [{{count: {endpoints}}}]
"
        );
        let least = mean(&run(&text, &["two-choices"], 4), "min-to-mean") / f64::from(endpoints);
        assert!((least - expected).abs() < 0.01, "{endpoints} endpoints: {least}, not {expected}");
    }
}

/// A server of one place at load ρ: a request waits ρ/(1−ρ) of its service time on average if that is exponential (M/M/1), half of that if it
/// is constant (M/D/1), and the wait's 99 % quantile is ln(100 ρ) / (μ (1 − ρ)).
#[test]
fn queues_are_those_of_theory() {
    let text = |service: &str| {
        format!(
            "
duration: 1000s
warm-up: 10s
workers: 1
connect-time: {{constant: 0s}}
service-time: {{{service}: 10ms}}
arrivals: {{poisson: {{per-second: 80}}}}
endpoints: [{{count: 1, capacity: 1}}]
"
        )
    };
    let report = run(&text("exponential"), &["random"], 8);
    let (p99, p50) = (mean(&report, "queue-wait-p99"), mean(&report, "queue-wait-p50"));
    // μ = 0.1/ms, ρ = 0.8: P(wait > t) = 0.8 exp(−0.02 t).
    assert!((p99 - 80f64.ln() / 0.02).abs() < 22.0, "{p99}");
    assert!((p50 - 1.6f64.ln() / 0.02).abs() < 2.0, "{p50}");
    let constant = run(&text("constant"), &["random"], 8);
    assert!(mean(&constant, "queue-wait-p99") < 0.65 * p99, "{}", mean(&constant, "queue-wait-p99"));
}

/// Sixteen workers with counters a second old run together to whoever looked idle; two choices do not (Mitzenmacher 2000, "How useful is
/// old information?"). With exact counters the least of all is the better one.
#[test]
fn least_of_all_herds_on_stale_counters_and_two_choices_do_not() {
    let text = |refresh: &str| {
        format!(
            "
duration: 30s
warm-up: 5s
workers: 16
counters: {{refresh: {refresh}, own-at-once: false}}
arrivals: {{poisson: {{per-second: 2000}}}}
service-time: {{exponential: 200ms}}
endpoints: [{{count: 50}}]
"
        )
    };
    let stale = run(&text("1s"), &["least-connections", "two-choices"], 16);
    let (gaps, bursts) = (values(&stale, "in-flight-gap"), values(&stale, "burst"));
    assert!(gaps[0].low > 3.0 * gaps[1].high, "{gaps:?}");
    assert!(bursts[0].low > bursts[1].high, "{bursts:?}");
    let differs = |report: &Report, name: &str| report.metrics.iter().find(|metric| metric.name == name).unwrap().differs;
    assert_eq!((differs(&stale, "in-flight-gap"), differs(&stale, "connections")), (Some(true), Some(false)));
    let exact = run(&text("0s"), &["least-connections", "two-choices"], 16);
    let gaps = values(&exact, "in-flight-gap");
    assert!(gaps[0].high < gaps[1].low, "{gaps:?}");
}

/// A newcomer that everybody sees idle: the least of all sends it everything until it has caught up, two choices twice its share at most.
#[test]
fn a_newcomer_meets_a_herd() {
    let text = "
duration: 20s
arrivals: {poisson: {per-second: 500}}
lifetime: {exponential: 5s}
endpoints: [{count: 20}]
events: [{at: 15s, add: {count: 1}}]
";
    let report = run(text, &["least-connections", "two-choices", "round-robin"], 16);
    let ratios = values(&report, "herd-ratio");
    // About 2,500 live connections, 120 each: all of the first hundred go to the newcomer, 21 times its share.
    assert!(ratios[0].mean > 15.0, "{ratios:?}");
    assert!((1.5..2.2).contains(&ratios[1].mean) && (0.5..1.5).contains(&ratios[2].mean), "{ratios:?}");
}

/// One endpoint of 10 turns ten times slower: by the number of connections it is given less, in turn it is not.
#[test]
fn least_loaded_sheds_a_slow_endpoint() {
    let text = "
duration: 40s
warm-up: 20s
arrivals: {poisson: {per-second: 400}}
service-time: {exponential: 20ms}
endpoints: [{key: slow, capacity: 4}, {count: 9, capacity: 4}]
events: [{at: 10s, slow: {endpoints: {keys: [slow]}, factor: 10}}]
";
    let report = run(text, &["least-connections", "two-choices", "round-robin"], 16);
    let (share, waits) = (values(&report, "min-to-mean"), values(&report, "queue-wait-p99"));
    // Its share is the smallest. In turn it gets what the others get, and its queue of 40 a second where 20 are served grows without end.
    assert!(share[0].mean < 0.5 && share[1].mean < 0.6 && share[2].mean > 0.95, "{share:?}");
    assert!(waits[0].high < 200.0 && waits[2].low > 5000.0, "{waits:?}");
}

/// A rolling restart of 100 endpoints: tables by hash keep almost every client whose endpoint stays, balancing by load hardly any.
#[test]
fn affinity_through_a_rolling_restart() {
    let text = "
duration: 30s
propagation: 0s
arrivals: {poisson: {per-second: 1000}}
clients: {uniform: 3000}
endpoints: [{count: 100}]
events: [{at: 5s, rolling-restart: {every: 200ms}}]
";
    let report = run(text, &["maglev", "rendezvous", "two-choices"], 16);
    let (kept, collateral, failed) = (values(&report, "affinity-kept"), values(&report, "collateral"), values(&report, "failed"));
    // Rendezvous moves nobody without need. Maglev's tables of 16,381 entries move 1.34 % when one of 100 endpoints leaves and about as
    // many when its successor comes, which often is back again; a client returns after about 15 such changes.
    assert_eq!(collateral[1].mean, 0.0);
    let (disruption, minimal) = (values(&report, "disruption"), values(&report, "minimal"));
    for n in 0..3 {
        assert!((disruption[n].mean - minimal[n].mean - collateral[n].mean).abs() < 1e-6, "{disruption:?} {minimal:?}");
    }
    assert!(disruption[1].mean == minimal[1].mean && minimal[1].mean > 5.0, "{minimal:?}");
    assert!(collateral[0].mean > 1.0 && collateral[0].mean < 20.0, "{collateral:?}");
    assert!(kept[1].low > kept[0].high && kept[0].low > 60.0 && kept[2].high < 5.0, "{kept:?}");
    assert!(failed.iter().all(|failed| failed.mean == 0.0), "nobody is lost when endpoints drain: {failed:?}");
}

#[test]
fn round_robin_of_one_worker_keeps_the_ideal_schedule() {
    let text = |workers: u32| format!("{{duration: 5s, workers: {workers}, endpoints: [{{weight: 5}}, {{weight: 1}}, {{weight: 1}}]}}");
    let one = run(&text(1), &["round-robin", "random"], 4);
    let (deviation, error) = (values(&one, "schedule-deviation"), values(&one, "weight-error"));
    // Two states of the cycle a a b a c a a, each within 4/7 of the ideal: a worker starts somewhere in it.
    assert!(deviation[0].mean <= 8.0 / 7.0 + 1e-6 && deviation[1].mean > 10.0, "{deviation:?}");
    assert!(error[0].high < 0.05 && values(&one, "chi-square-p")[0].mean > 0.99, "{error:?}");
    assert!(mean(&run(&text(8), &["round-robin"], 4), "schedule-deviation") > 1.0, "eight workers do not take turns with each other");
}
