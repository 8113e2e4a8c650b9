//! What every balancer promises, by the contract (wit/policy.wit).

use pointsman_sdk::types::Endpoint;
use xxhash_rust::xxh64::xxh64;

use super::hostile::{hostile, of_each};
use super::lab::{Lab, equal, mixed, place, places, renumbered, shown};
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

/// Before the first connection and between two of them: whoever keeps a place in a round, loads, times or a draw goes on with them.
fn idempotent(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let endpoints = mixed(20);
    let connections = lab.connections(1000);
    for replan_every in [u64::MAX, 1, 37] {
        let (mut once, mut again) = (lab.subject(&endpoints)?, lab.subject(&endpoints)?);
        again.set_endpoints(&endpoints, 0)?;
        for (at, connection) in (1..).zip(&connections) {
            let (straight, other) = (place(&mut *once, 0, &endpoints, connection), place(&mut *again, 0, &endpoints, connection));
            found.unless(straight == other, || {
                format!(
                    "connection {at} ends on {}, and on {} where the same endpoints were planned again",
                    shown(&straight),
                    shown(&other)
                )
            });
            for subject in [&mut once, &mut again] {
                subject.set_active(0, (at % 20) as u32, at as u32 % 7);
                subject
                    .report(0, at, &of_each(&endpoints[..1 + at as usize % 20], at, at as u32 % 50))
                    .map_err(|fault| format!("told of an outcome: a fault ({fault:?})"))?;
            }
            if at % replan_every == 0 {
                again.set_endpoints(&endpoints, at)?;
            }
        }
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

/// The most that memory may grow between the first tenth of the changes and the rest. A map may double yet, and what it leaves behind is not
/// used at once; of the 9,000 changes between, 30 bytes each would be more.
const GROWTH_BYTES: u64 = 4 * 65_536;
const CHANGES: u64 = 10_000;
/// Between two changes: whoever keeps what was not used for some minutes may forget it.
const BETWEEN_MS: u64 = 10_000;

/// A rollout without end: nobody is there for longer than one change.
fn memory(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let mut subject = lab.subject(&equal(7))?;
    let mut after_a_tenth = 0;
    for change in 0..CHANGES {
        let now_ms = change * BETWEEN_MS;
        let endpoints: Vec<Endpoint> = (0..7 + change as u32 % 3).map(|slot| newcomer(slot, change as u32 * 9 + slot)).collect();
        subject.set_endpoints(&endpoints, now_ms)?;
        let connection = lab.connection(now_ms);
        subject.pick(0, &connection);
        subject
            .report(0, now_ms, &of_each(&endpoints, change, 3))
            .map_err(|fault| format!("told of outcomes after {change} changes: a fault ({fault:?})"))?;
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

/// An endpoint that was never there before.
fn newcomer(slot: u32, number: u32) -> Endpoint {
    let key = format!("{}:80", std::net::Ipv4Addr::from_bits(0x0a00_0000 + number));
    Endpoint { slot, hash: xxh64(key.as_bytes(), 0), key, ..equal(1).remove(0) }
}
