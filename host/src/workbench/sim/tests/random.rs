use super::super::arrivals::Process;
use super::super::random::{Popularity, Stream};
use super::*;

fn stream() -> Stream {
    Stream::new(7, "test")
}

/// Mean and standard deviation of 200,000 draws, in milliseconds.
fn moments(distribution: &Distribution) -> (f64, f64) {
    let mut stream = stream();
    let draws: Vec<f64> = (0..200_000).map(|_| stream.draw(distribution) as f64 / 1e6).collect();
    let mean = draws.iter().sum::<f64>() / draws.len() as f64;
    (mean, (draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64).sqrt())
}

#[test]
fn distributions_have_the_moments_that_theory_gives() {
    let ms = Time::millis;
    // A lognormal's deviation is its mean times √(exp(σ²) − 1).
    let lognormal = Distribution::Lognormal(Lognormal { mean: ms(20), sigma: 0.5 });
    let bimodal = Distribution::Bimodal(Bimodal { short: ms(10), long: ms(110), long_share: 0.1 });
    for (distribution, mean, deviation) in [
        (Distribution::Constant(ms(20)), 20.0, 0.0),
        (Distribution::Exponential(ms(20)), 20.0, 20.0),
        (lognormal, 20.0, 20.0 * (0.25f64.exp() - 1.0).sqrt()),
        (bimodal, 20.0, 30.0),
    ] {
        let found = moments(&distribution);
        assert!((found.0 - mean).abs() < 0.3 && (found.1 - deviation).abs() < 0.5, "{distribution:?}: {found:?}");
    }
}

#[test]
fn streams_differ_by_purpose_and_seed_and_repeat() {
    let first = |seed, purpose| Stream::new(seed, purpose).bits();
    assert_eq!(first(1, "a"), first(1, "a"));
    assert!(first(1, "a") != first(1, "b") && first(1, "a") != first(2, "a"));
    let mut stream = stream();
    assert!((0..10_000).all(|_| stream.below(3) < 3 && (0.0..1.0).contains(&stream.unit())));
    assert_eq!(stream.below(0), 0);
}

#[test]
fn clients_are_as_popular_as_the_scenario_says() {
    let shares = |clients: &Clients| {
        let (popularity, mut stream) = (Popularity::new(clients), stream());
        let mut shares = vec![0.0; clients.count() as usize];
        (0..200_000).for_each(|_| shares[popularity.draw(&mut stream) as usize] += 1.0 / 200_000.0);
        shares
    };
    let near = |found: &[f64], expected: &[f64]| found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 0.005);
    assert!(near(&shares(&Clients::Uniform(4)), &[0.25; 4]));
    let hot = shares(&Clients::Hot(Hot { count: 4, share: 0.4 }));
    assert!(near(&hot, &[0.4, 0.2, 0.2, 0.2]), "{hot:?}");
    // 1/1, 1/2, 1/3, 1/4 of their sum, 25/12.
    let zipf = shares(&Clients::Zipf(Zipf { count: 4, exponent: 1.0 }));
    assert!(near(&zipf, &[0.48, 0.24, 0.16, 0.12]), "{zipf:?}");
}

/// Times of the arrivals of 1,000 s.
fn arrivals(arrivals: &Arrivals) -> Vec<f64> {
    let mut process = Process::new(arrivals, stream(), Time::seconds(1000).nanos);
    std::iter::from_fn(|| process.next()).map(|(at, _)| at as f64 / 1e9).take_while(|at| *at < 1000.0).collect()
}

/// The variance of the count in a second by its mean: 1 for Poisson, more for bursts.
fn dispersion(times: &[f64]) -> f64 {
    let mut counts = vec![0.0; 1000];
    times.iter().for_each(|at| counts[*at as usize] += 1.0);
    let mean = counts.iter().sum::<f64>() / 1000.0;
    counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / 1000.0 / mean
}

#[test]
fn poisson_arrivals_have_their_rate_and_no_memory() {
    let times = arrivals(&Arrivals::Poisson(Poisson { per_second: 50.0 }));
    assert!((times.len() as f64 - 50_000.0).abs() < 1000.0, "{}", times.len());
    assert!((dispersion(&times) - 1.0).abs() < 0.15, "{}", dispersion(&times));
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
}

#[test]
fn bursts_have_their_mean_rate_and_clump() {
    let bursty = Bursty { calm_per_second: 10.0, burst_per_second: 410.0, calm_for: Time::seconds(9), burst_for: Time::seconds(1) };
    let times = arrivals(&Arrivals::Bursty(bursty));
    // 0.9 × 10 + 0.1 × 410 a second; about 100 bursts, so a tenth or two off.
    assert!((times.len() as f64 / 1000.0 - 50.0).abs() < 15.0, "{}", times.len());
    assert!(dispersion(&times) > 50.0, "{}", dispersion(&times));
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
}

/// Phases that no connection comes in are passed over as far as the end, and no further: it never came to one.
#[test]
fn bursts_that_never_come_end_with_the_time() {
    let ms = Time::millis(1);
    let bursty = Arrivals::Bursty(Bursty { calm_per_second: 1e-9, burst_per_second: 1e-9, calm_for: ms, burst_for: ms });
    let mut process = Process::new(&bursty, stream(), Time::seconds(1).nanos);
    assert_eq!(process.next(), None);
}

#[test]
fn a_trace_is_followed() {
    let text = "
duration: 1s
warm-up: 0s
endpoints: [{count: 2}]
service-time: {constant: 1ms}
arrivals: {trace: [{at: 0s, client: 3}, {at: 10ms, client: 3, service-time: 7ms}, {at: 2s}]}
";
    let report = run(text, &["maglev"], 1);
    assert_eq!((mean(&report, "connections"), mean(&report, "affinity-kept")), (2.0, 100.0));
    assert_eq!((mean(&report, "latency-p50"), mean(&report, "latency-p99")), (2.0, 8.0), "1 ms to connect, then 1 and 7 ms");
}
