//! An input: what happens to a policy, step by step. The ends of every range come more often than chance would have them.

use std::fmt;

use pointsman_sdk::native;
use pointsman_sdk::types::{Connection, Endpoint, Frontend, Origin, Outcome, OutcomeKind};
use xxhash_rust::xxh64::xxh64;

/// One thing that happens.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// The Service's policies are `Local`, all along.
    Local,
    /// The candidate set is these: the number in the address, and the weight.
    Endpoints(Vec<(u32, u32)>),
    /// An endpoint has so many active connections.
    Active(u32, u32),
    /// A connection.
    Pick(Connection),
    /// What became of a pick.
    Report(u64, Outcome),
}

/// Address and weight → the record.
pub(super) fn endpoints(named: &[(u32, u32)]) -> Vec<Endpoint> {
    let endpoint = |(slot, (number, weight)): (u32, &(u32, u32))| {
        let key = key(*number);
        let hash = xxh64(key.as_bytes(), 0);
        Endpoint { slot, hash, key, weight: *weight, ..native::endpoints(&[1]).remove(0) }
    };
    (0..).zip(named).map(endpoint).collect()
}

fn key(number: u32) -> String {
    format!("{}:80", std::net::Ipv4Addr::from_bits(0x0af4_0000 + number))
}

/// An input from a seed.
pub(super) fn draw(seed: u64) -> Vec<Step> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut steps = if seed.is_multiple_of(4) { vec![Step::Local] } else { Vec::new() };
    for _ in 0..random.usize(1..6) {
        let named = set(&mut random);
        let count = named.len();
        steps.push(Step::Endpoints(named.clone()));
        let mut now = edge(&mut random, 1 << 40);
        for _ in 0..random.usize(1..120) {
            now = match random.u8(..20) {
                0 => edge(&mut random, 1 << 40),
                _ => now.saturating_add(random.u64(..50)),
            };
            let large = random.u8(..8) == 0;
            steps.push(match random.u8(..10) {
                0 if count > 0 => {
                    Step::Active(random.u32(..count as u32), edge(&mut random, if large { u64::from(u32::MAX) } else { 1000 }) as u32)
                }
                1 if count > 0 => {
                    let kind =
                        [OutcomeKind::Connected, OutcomeKind::Refused, OutcomeKind::TimedOut, OutcomeKind::Reset, OutcomeKind::Closed]
                            [random.usize(..5)];
                    let endpoint = xxh64(key(named[random.usize(..count)].0).as_bytes(), 0);
                    Step::Report(
                        now,
                        Outcome {
                            service: 0,
                            endpoint,
                            kind,
                            millis: edge(&mut random, if large { u64::from(u32::MAX) } else { 5000 }) as u32,
                        },
                    )
                }
                _ => Step::Pick(connection(&mut random, now)),
            });
            if random.u8(..100) == 0 {
                steps.extend(one_client(&mut random, now));
            }
        }
    }
    steps
}

/// A set: mostly small, now and then large; weights mostly alike.
fn set(random: &mut fastrand::Rng) -> Vec<(u32, u32)> {
    let count = match random.u8(..20) {
        0 => 1,
        1 => random.u32(200..2000),
        2..=5 => random.u32(20..200),
        _ => random.u32(1..20),
    };
    let weights = random.u8(..6);
    let weight = |random: &mut fastrand::Rng| match weights {
        0..=2 => 1,
        3 => random.u32(..10),
        4 => 0,
        _ => [0, 1, 2, 100, u32::MAX - 1, u32::MAX][random.usize(..6)],
    };
    let first = random.u32(..1000);
    (0..count).map(|at| (first + at, weight(random))).collect()
}

/// Many connections of one client: from one port after the other, as a scan has them, or from any, as a busy proxy does.
fn one_client(random: &mut fastrand::Rng, now_ms: u64) -> Vec<Step> {
    let one = connection(random, now_ms);
    let scan = random.bool();
    let nth = |n: u16| Connection {
        client_port: if scan { one.client_port.wrapping_add(n) } else { random.u16(..) },
        random: random.u64(..),
        attempt: 0,
        ..one
    };
    (0..100).map(nth).map(Step::Pick).collect()
}

fn connection(random: &mut fastrand::Rng, now_ms: u64) -> Connection {
    // Few clients, so that they come back.
    let client = random.u32(..64);
    let hash = if random.u8(..10) == 0 { edge(random, u64::MAX) } else { xxh64(&client.to_be_bytes(), 0) };
    let (client_hi, client_lo) = match client % 4 {
        // 2001:db8::/32
        0 => (0x2001_0db8_0000_0000 | u64::from(client), edge(random, u64::MAX)),
        _ => (0, 0xffff_0000_0000 | u64::from(0x6440_0000 + client)),
    };
    Connection {
        service: 0,
        client_hi,
        client_lo,
        client_port: edge(random, 65_535) as u16,
        client_hash: hash,
        frontend: [Frontend::ClusterIp, Frontend::NodePort, Frontend::ExternalIp, Frontend::LoadBalancer, Frontend::HostPort]
            [random.usize(..5)],
        origin: [Origin::Pod, Origin::Node, Origin::Outside][random.usize(..3)],
        attempt: if random.u8(..10) == 0 { random.u32(..4) } else { 0 },
        now_ms,
        random: edge(random, u64::MAX),
    }
}

/// Anything up to a number; its ends and their neighbours every fourth time.
fn edge(random: &mut fastrand::Rng, most: u64) -> u64 {
    match random.u8(..16) {
        0 => 0,
        1 => 1,
        2 => most,
        3 => most - 1,
        _ => random.u64(..=most),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => write!(f, "service: internalTrafficPolicy and externalTrafficPolicy are Local"),
            Self::Endpoints(named) if named.len() <= 12 => {
                let shown: Vec<String> =
                    named.iter().map(|(number, weight)| format!("{{key: {}, weight: {weight}}}", key(*number))).collect();
                write!(f, "endpoints: [{}]", shown.join(", "))
            }
            Self::Endpoints(named) => {
                let ((first, _), (last, _)) = (named[0], named[named.len() - 1]);
                let weights: std::collections::BTreeSet<u32> = named.iter().map(|(_, weight)| *weight).collect();
                write!(f, "endpoints: {} of them, {} to {}, of weights {weights:?}", named.len(), key(first), key(last))
            }
            Self::Active(slot, active) => write!(f, "active: slot {slot} has {active}"),
            Self::Pick(c) => write!(
                f,
                "pick: client {} port {} hash {:#x}, {:?}, {:?}, attempt {}, now {} ms, random {:#x}",
                c.client(),
                c.client_port,
                c.client_hash,
                c.frontend,
                c.origin,
                c.attempt,
                c.now_ms,
                c.random
            ),
            Self::Report(now, outcome) => {
                write!(f, "report: {:?} of {:#x} after {} ms, at {now} ms", outcome.kind, outcome.endpoint, outcome.millis)
            }
        }
    }
}
