//! What every balancer promises, by the contract (wit/policy.wit).

use pointsman_sdk::types::{Connection, Endpoint, Frontend, Origin};

use super::lab::{Lab, endpoints, equal, place, places, renumbered, shown};
use super::{Found, Law};
use crate::workbench::subject::Answer;

pub(super) const LAWS: &[Law] = &[
    ("answers are endpoints of the set, never of weight 0", valid),
    ("the same calls, the same answers", deterministic),
    ("no fault on hostile input", hostile),
    ("planning again changes nothing", idempotent),
    ("the order of the listing does not matter", order),
    ("an endpoint of weight 0 changes nothing", idle_endpoint),
    ("a decision at 10,000 endpoints stays within its fuel", large),
    ("memory does not grow with changes", memory),
];

/// Weights of every size, among them 0.
const MIXED: [u32; 7] = [1, 5, 0, 2, 1, 100, 0];

fn mixed(count: usize) -> Vec<Endpoint> {
    endpoints(&(0..count).map(|at| MIXED[at % MIXED.len()]).collect::<Vec<_>>())
}

fn valid(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    for size in [1, 2, 3, 10, 100, 1000] {
        let endpoints = mixed(size);
        let mut subject = lab.subject(&endpoints)?;
        for connection in lab.connections(2000) {
            let answer = subject.pick(0, &connection);
            let good = matches!(answer, Answer::Slot(slot) if endpoints.get(slot as usize).is_some_and(|endpoint| endpoint.weight > 0));
            found.unless(good, || format!("of {size} endpoints: {answer:?}"));
        }
    }
    Ok(())
}

fn deterministic(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let endpoints = mixed(50);
    let connections = lab.connections(5000);
    let (mut one, mut other) = (lab.subject(&endpoints)?, lab.subject(&endpoints)?);
    let (one, other) = (places(&mut *one, 0, &endpoints, &connections), places(&mut *other, 0, &endpoints, &connections));
    for (at, (one, other)) in one.iter().zip(&other).enumerate() {
        found.unless(one == other, || format!("connection {at} ends on {} and, on a twin, on {}", shown(one), shown(other)));
    }
    Ok(())
}

/// Sets that production can bring: one endpoint, nobody with weight, the largest weight, thousands.
fn hostile(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let mut subject = lab.subject(&equal(3))?;
    let sets: [(&str, Vec<Endpoint>); 6] = [
        ("one endpoint", equal(1)),
        ("nobody has weight", endpoints(&[0, 0, 0])),
        ("the largest weights", endpoints(&[u32::MAX, u32::MAX, 1])),
        ("one of weight among a thousand", endpoints(&(0..1000).map(|at| u32::from(at == 500)).collect::<Vec<_>>())),
        ("10,000 endpoints", mixed(10_000)),
        ("back to two", equal(2)),
    ];
    for (what, endpoints) in &sets {
        subject.set_endpoints(endpoints, 0).map_err(|why| format!("{what}: {why}"))?;
        let may = endpoints.iter().any(|endpoint| endpoint.weight > 0);
        for connection in (0..64).map(extreme).chain(lab.connections(200)) {
            let answer = place(&mut *subject, 0, endpoints, &connection);
            let good = match &answer {
                Ok(_) => may,
                Err(Answer::NoOpinion) => !may || connection.attempt > 0,
                Err(_) => false,
            };
            found.unless(good, || format!("{what}, random {:#x}, now {}: {}", connection.random, connection.now_ms, shown(&answer)));
        }
    }
    for n in 0..200 {
        let flapping: Vec<Endpoint> = equal(20).into_iter().enumerate().filter(|(at, _)| (n + at) % 3 > 0).map(|(_, e)| e).collect();
        let flapping = renumbered(flapping);
        subject.set_endpoints(&flapping, n as u64).map_err(|why| format!("flapping: {why}"))?;
        // The clock jumps there and back.
        let connection = Connection { now_ms: if n % 2 == 0 { 1 } else { u64::MAX / 2 }, ..lab.connection(0) };
        let answer = place(&mut *subject, 0, &flapping, &connection);
        found.unless(answer.is_ok(), || format!("flapping endpoints: {}", shown(&answer)));
    }
    Ok(())
}

/// Every scalar at one end of its range or the other.
pub(super) fn extreme(bits: u32) -> Connection {
    let wide = |bit: u32| if bits >> bit & 1 == 1 { u64::MAX } else { 0 };
    Connection {
        service: 0,
        client_hi: wide(0),
        client_lo: wide(0),
        client_port: wide(1) as u16,
        client_hash: wide(2),
        frontend: Frontend::ClusterIp,
        origin: Origin::Outside,
        attempt: if wide(3) > 0 { 3 } else { 0 },
        now_ms: wide(4),
        random: wide(5),
    }
}

fn idempotent(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let endpoints = mixed(20);
    let connections = lab.connections(1000);
    let (mut once, mut twice) = (lab.subject(&endpoints)?, lab.subject(&endpoints)?);
    twice.set_endpoints(&endpoints, 1)?;
    let (once, twice) = (places(&mut *once, 0, &endpoints, &connections), places(&mut *twice, 0, &endpoints, &connections));
    for (at, (once, twice)) in once.iter().zip(&twice).enumerate() {
        found.unless(once == twice, || format!("connection {at} ends on {}, after planning twice on {}", shown(once), shown(twice)));
    }
    Ok(())
}

fn order(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let endpoints = mixed(20);
    let connections = lab.connections(1000);
    let mut straight = lab.subject(&endpoints)?;
    let expected = places(&mut *straight, 0, &endpoints, &connections);
    for _ in 0..3 {
        let shuffled = renumbered(lab.shuffled(&endpoints));
        let mut subject = lab.subject(&shuffled)?;
        let seen = places(&mut *subject, 0, &shuffled, &connections);
        for (at, (expected, seen)) in expected.iter().zip(&seen).enumerate() {
            found.unless(expected == seen, || {
                format!(
                    "connection {at} ends on {}, and on {} where the endpoints are listed in another order",
                    shown(expected),
                    shown(seen)
                )
            });
        }
    }
    Ok(())
}

/// Metamorphic: who is never picked leaves no trace.
fn idle_endpoint(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let without = equal(9);
    let mut with = without.clone();
    with.push(Endpoint { weight: 0, ..equal(10).remove(9) });
    let connections = lab.connections(2000);
    let (mut one, mut other) = (lab.subject(&without)?, lab.subject(&with)?);
    let (one, other) = (places(&mut *one, 0, &without, &connections), places(&mut *other, 0, &with, &connections));
    for (at, (one, other)) in one.iter().zip(&other).enumerate() {
        found
            .unless(one == other, || format!("connection {at} ends on {}, beside an endpoint of weight 0 on {}", shown(one), shown(other)));
    }
    Ok(())
}

fn large(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let endpoints = equal(10_000);
    let mut subject = lab.subject(&endpoints)?;
    let mut most = 0;
    for connection in lab.connections(500) {
        let answer = place(&mut *subject, 0, &endpoints, &connection);
        found.unless(answer.is_ok(), || shown(&answer));
        most = most.max(subject.last_fuel());
    }
    found.measured("fuel-max", "fuel", most as f64);
    Ok(())
}

/// The most that memory may grow between the first tenth of the changes and the rest: one page is what an allocator may need yet.
const GROWTH_BYTES: u64 = 2 * 65_536;
const CHANGES: u64 = 10_000;

fn memory(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let mut subject = lab.subject(&equal(4))?;
    let mut after_a_tenth = 0;
    for change in 0..CHANGES {
        let count = 3 + (change % 3) as usize;
        subject.set_endpoints(&equal(count), change)?;
        let connection = lab.connection(change);
        subject.pick(0, &connection);
        if change == CHANGES / 10 {
            after_a_tenth = subject.memory_peak();
        }
    }
    let peak = subject.memory_peak();
    if peak == 0 {
        found.skipped = Some("nothing measures memory here".to_owned());
        return Ok(());
    }
    found.measured("memory-peak", "bytes", peak as f64);
    found.unless(peak <= after_a_tenth + GROWTH_BYTES, || {
        format!("{after_a_tenth} bytes after {} changes, {peak} after {CHANGES}: something is kept of each", CHANGES / 10)
    });
    Ok(())
}
