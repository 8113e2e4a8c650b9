//! Input that production can bring and that no author thinks of. Sets are never empty and name no endpoint twice: the host makes no candidate
//! set of nobody, and endpoints of one address are one endpoint to it.

use pointsman_sdk::types::{Connection, Endpoint, Frontend, Origin, Outcome, OutcomeKind};

use super::Found;
use super::lab::{Lab, endpoints, equal, mixed, renumbered, shown};
use crate::workbench::subject::{Answer, Subject};

/// A subject that is treated ill.
struct Victim<'a> {
    what: &'static str,
    subject: Box<dyn Subject>,
    endpoints: Vec<Endpoint>,
    found: &'a mut Found,
}

impl Victim<'_> {
    fn meet(&mut self, endpoints: Vec<Endpoint>, now_ms: u64) -> Result<(), String> {
        self.subject.set_endpoints(&endpoints, now_ms).map_err(|why| format!("{}: {why}", self.what))?;
        self.endpoints = endpoints;
        Ok(())
    }

    fn ask(&mut self, connection: &Connection) -> Answer {
        let answer = self.subject.pick(0, connection);
        let may = self.endpoints.iter().any(|endpoint| endpoint.weight > 0);
        let good = match &answer {
            Answer::Slot(_) => may,
            Answer::NoOpinion => !may || connection.attempt > 0,
            Answer::Fault(_) => false,
        };
        let Connection { random, now_ms, .. } = connection;
        self.found.unless(good, || format!("{}, random {random:#x}, now {now_ms}: {}", self.what, shown(&Err(answer))));
        answer
    }

    fn ask_all(&mut self, connections: impl IntoIterator<Item = Connection>) {
        for connection in connections {
            self.ask(&connection);
        }
    }

    fn tell(&mut self, now_ms: u64, outcomes: &[Outcome]) {
        if let Err(fault) = self.subject.report(0, now_ms, outcomes) {
            self.found.wrong(|| format!("{}, {} of them, now {now_ms}: {}", self.what, outcomes.len(), shown(&Err(Answer::Fault(fault)))));
        }
    }
}

type Treatment = fn(&mut Lab<'_>, &mut Victim<'_>) -> Result<(), String>;

const TREATMENTS: &[(&str, Treatment)] = &[
    ("one endpoint", |lab, victim| set(lab, victim, equal(1))),
    ("nobody has weight", |lab, victim| set(lab, victim, endpoints(&[0, 0, 0]))),
    ("the largest weights", |lab, victim| set(lab, victim, endpoints(&[u32::MAX, u32::MAX, 1]))),
    ("one of weight among a thousand", |lab, victim| {
        set(lab, victim, endpoints(&(0..1000).map(|at| u32::from(at == 500)).collect::<Vec<_>>()))
    }),
    ("10,000 endpoints, and then two", |lab, victim| {
        set(lab, victim, mixed(10_000))?;
        set(lab, victim, equal(2))
    }),
    ("flapping endpoints", flapping),
    ("a clock that jumps", clock),
    ("a port scan", port_scan),
    ("one hot client", hot_client),
    ("large loads", loads),
    ("strange outcomes", outcomes),
];

pub(super) fn hostile(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    for (what, treatment) in TREATMENTS {
        let endpoints = equal(3);
        let subject = lab.subject(&endpoints)?;
        treatment(lab, &mut Victim { what, subject, endpoints, found })?;
    }
    Ok(())
}

fn set(lab: &mut Lab<'_>, victim: &mut Victim<'_>, endpoints: Vec<Endpoint>) -> Result<(), String> {
    victim.meet(endpoints, 0)?;
    victim.ask_all((0..64).map(extreme).chain(lab.connections(200)));
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

fn flapping(lab: &mut Lab<'_>, victim: &mut Victim<'_>) -> Result<(), String> {
    for n in 0..200_u64 {
        let there = equal(20).into_iter().zip(n..).filter(|(_, at)| at % 3 > 0).map(|(endpoint, _)| endpoint);
        victim.meet(renumbered(there.collect()), n)?;
        victim.ask(&lab.connection(n));
    }
    Ok(())
}

fn clock(lab: &mut Lab<'_>, victim: &mut Victim<'_>) -> Result<(), String> {
    for now_ms in [1_000_000, 999_999, 1, u64::MAX / 2, 2, u64::MAX, 0, 1_000_000] {
        victim.ask_all(lab.connections(20).into_iter().map(|connection| Connection { now_ms, ..connection }));
        let outcomes = of_each(&victim.endpoints, now_ms, 5);
        victim.tell(now_ms, &outcomes);
    }
    Ok(())
}

fn port_scan(lab: &mut Lab<'_>, victim: &mut Victim<'_>) -> Result<(), String> {
    victim.meet(mixed(20), 0)?;
    let one = lab.connection(0);
    victim.ask_all((1..=5000).map(|client_port| Connection { client_port, ..one }));
    Ok(())
}

fn hot_client(lab: &mut Lab<'_>, victim: &mut Victim<'_>) -> Result<(), String> {
    victim.meet(mixed(20), 0)?;
    let one = lab.connection(0);
    for n in 0..5000 {
        let connection =
            Connection { client_hi: one.client_hi, client_lo: one.client_lo, client_hash: one.client_hash, ..lab.connection(n) };
        // All of them stay.
        if let Answer::Slot(slot) = victim.ask(&connection) {
            victim.subject.set_active(0, slot, n as u32);
        }
    }
    Ok(())
}

fn loads(lab: &mut Lab<'_>, victim: &mut Victim<'_>) -> Result<(), String> {
    for (weights, active) in [([1, 1, 1], [u32::MAX; 3]), ([1, 1, 1], [u32::MAX, 0, 1]), ([u32::MAX, 1, 2], [u32::MAX; 3])] {
        victim.meet(endpoints(&weights), 0)?;
        (0..).zip(active).for_each(|(slot, active)| victim.subject.set_active(0, slot, active));
        victim.ask_all(lab.connections(100));
    }
    Ok(())
}

const KINDS: [OutcomeKind; 5] =
    [OutcomeKind::Connected, OutcomeKind::Refused, OutcomeKind::TimedOut, OutcomeKind::Reset, OutcomeKind::Closed];

/// One of every endpoint; the kinds in turn, the first by number.
pub(super) fn of_each(endpoints: &[Endpoint], first: u64, millis: u32) -> Vec<Outcome> {
    let kinds = KINDS.into_iter().cycle().skip((first % 5) as usize);
    endpoints.iter().zip(kinds).map(|(endpoint, kind)| Outcome { service: 0, endpoint: endpoint.hash, kind, millis }).collect()
}

fn outcomes(lab: &mut Lab<'_>, victim: &mut Victim<'_>) -> Result<(), String> {
    // Of endpoints that are there, and of some that have gone or never were.
    let known = mixed(300);
    for (turn, millis) in [0, 1, u32::MAX - 1, u32::MAX].into_iter().enumerate() {
        let outcomes = of_each(&known, turn as u64, millis);
        for outcomes in [&outcomes[..], &[], &outcomes[..1]] {
            victim.tell(u64::from(millis), outcomes);
            victim.ask_all(lab.connections(20));
        }
    }
    Ok(())
}
