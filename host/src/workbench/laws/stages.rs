//! What traffic policies promise.

use pointsman_sdk::types::{Conditions, Connection, Endpoint, Locality, Slot, Verdict};

use super::lab::{Lab, equal, renumbered};
use super::{Case, Class, Found, judge};
use crate::policy::contract::Fault;
use crate::workbench::component::{NODE, ZONE};

/// A traffic policy that is tried, on the node `NODE` of `ZONE`.
pub trait TrafficPolicy {
    /// The subsets for these endpoints, as slots.
    ///
    /// # Errors
    /// It faults, or refuses.
    fn plan(&mut self, endpoints: &[Endpoint]) -> Result<Vec<Vec<Slot>>, Fault>;

    /// What becomes of a connection.
    ///
    /// # Errors
    /// It faults, or names a subset that there is not.
    fn choose(&mut self, connection: &Connection) -> Result<Verdict, Fault>;
}

/// Makes a fresh traffic policy, for a Service whose internal and external policies are this.
pub type MakeTrafficPolicy<'a> = dyn FnMut(Locality) -> Result<Box<dyn TrafficPolicy>, Fault> + 'a;
type TrafficLaw = (&'static str, fn(&mut Floor<'_, '_, '_>, &mut Found) -> Result<(), String>);

const TRAFFIC_LAWS: &[TrafficLaw] = &[
    ("no fault on hostile input", hostile),
    ("the same calls, the same answers", deterministic),
    ("the order of the listing does not matter", order),
    ("nobody is refused while an endpoint is ready", serves),
    ("no endpoint that is not ready, while one is", ready_alone),
];

const LOCALITY_LAWS: &[TrafficLaw] =
    &[("this node's endpoints alone, while one is ready", local_alone), ("the others, when none of this node is ready", local_gone)];

const ZONE_LAWS: &[TrafficLaw] = &[
    ("this zone's endpoints alone, while nine of ten are ready", zone_alone),
    ("a zone that is short of endpoints is not overloaded", zone_short),
];

const SERVICE_LAWS: &[TrafficLaw] =
    &[("`Cluster`: every endpoint that is ready", cluster), ("`Local`: this node's endpoints alone, and nobody where none is", local)];

/// Names of all laws here, with their class.
#[cfg(test)]
pub(super) fn names() -> Vec<(Class, &'static str)> {
    let traffic =
        [(Class::All, TRAFFIC_LAWS), (Class::Locality, LOCALITY_LAWS), (Class::Zone, ZONE_LAWS), (Class::ServicePolicy, SERVICE_LAWS)];
    traffic.into_iter().flat_map(|(class, laws)| laws.iter().map(move |(name, _)| (class, *name))).collect()
}

/// Checks a traffic policy: what all promise, and what these classes do.
pub fn check_traffic_policy(classes: &[Class], make: &mut MakeTrafficPolicy<'_>, lab: &mut Lab<'_>) -> Vec<Case> {
    let of = |class: &Class| match class {
        Class::Locality => LOCALITY_LAWS,
        Class::Zone => ZONE_LAWS,
        Class::ServicePolicy => SERVICE_LAWS,
        _ => &[],
    };
    let laws = TRAFFIC_LAWS.iter().chain(classes.iter().flat_map(of));
    laws.map(|(name, law)| judge(name, |found| law(&mut Floor { make: &mut *make, lab: &mut *lab }, found))).collect()
}

/// Where traffic policies are checked.
struct Floor<'a, 'b, 'c> {
    make: &'a mut MakeTrafficPolicy<'b>,
    lab: &'a mut Lab<'c>,
}

/// Endpoints of every condition and place.
fn mixed(count: usize) -> Vec<Endpoint> {
    equal(count).into_iter().map(|endpoint| (endpoint.slot as usize, endpoint)).map(|(at, endpoint)| varied(endpoint, at)).collect()
}

/// One of the conditions and places that there are, by number.
pub(in crate::workbench) fn varied(endpoint: Endpoint, at: usize) -> Endpoint {
    Endpoint {
        conditions: Conditions { ready: at % 5 != 4, serving: at % 7 != 6, terminating: at % 5 == 4 },
        ..at_place(endpoint, at.is_multiple_of(3), at % 2)
    }
}

/// On this node, or on another: of this zone (0) or of that one.
pub(super) fn at_place(endpoint: Endpoint, local: bool, zone: usize) -> Endpoint {
    let node = if local { NODE.to_owned() } else { format!("node-{}", 2 + endpoint.slot % 3) };
    let zone = if local || zone == 0 { ZONE.to_owned() } else { format!("zone-{}", 1 + zone) };
    Endpoint { local, node: Some(node), zone: Some(zone), ..endpoint }
}

pub(super) fn unready(endpoint: Endpoint) -> Endpoint {
    Endpoint { conditions: Conditions { ready: false, serving: false, terminating: false }, ..endpoint }
}

/// The slots that each connection may go to; `None`: it is refused or dropped.
pub(super) fn answers(
    mut policy: Box<dyn TrafficPolicy>,
    endpoints: &[Endpoint],
    connections: &[Connection],
) -> Result<Vec<Option<Vec<Slot>>>, Fault> {
    let subsets = policy.plan(endpoints)?;
    let answer = |connection| match policy.choose(connection)? {
        Verdict::Forward(subset) => match subsets.get(subset as usize) {
            Some(members) => Ok(Some(members.clone())),
            None => Err(Fault::OutOfRange(format!("subset {subset} of {}", subsets.len()))),
        },
        Verdict::Reject | Verdict::Drop => Ok(None),
    };
    connections.iter().map(answer).collect()
}

impl Floor<'_, '_, '_> {
    /// The slots that each connection may go to; `None`: it is refused or dropped.
    fn answers(&mut self, endpoints: &[Endpoint], connections: &[Connection]) -> Result<Vec<Option<Vec<Slot>>>, String> {
        self.answers_with(Locality::Cluster, endpoints, connections)
    }

    fn answers_with(
        &mut self,
        policy: Locality,
        endpoints: &[Endpoint],
        connections: &[Connection],
    ) -> Result<Vec<Option<Vec<Slot>>>, String> {
        let policy = (self.make)(policy)?;
        answers(policy, endpoints, connections).map_err(|why| format!("with {} endpoints: {why}", endpoints.len()))
    }

    /// The part of the connections that may go to endpoints of this kind only; those that end nowhere do not.
    fn part(&mut self, endpoints: &[Endpoint], kind: impl Fn(&Endpoint) -> bool) -> Result<f64, String> {
        let connections = self.lab.connections(2000);
        let answers = self.answers(endpoints, &connections)?;
        let alone = |slots: &[Slot]| !slots.is_empty() && slots.iter().all(|slot| kind(&endpoints[*slot as usize]));
        Ok(answers.iter().flatten().filter(|slots| alone(slots)).count() as f64 / connections.len() as f64)
    }
}

fn hostile(floor: &mut Floor<'_, '_, '_>, found: &mut Found) -> Result<(), String> {
    let none: Vec<Endpoint> = equal(5).into_iter().map(unready).collect();
    for endpoints in [Vec::new(), equal(1), none, mixed(3), mixed(100), mixed(1000)] {
        let connections: Vec<Connection> = (0..64).map(super::hostile::extreme).chain(floor.lab.connections(100)).collect();
        if let Err(why) = floor.answers(&endpoints, &connections) {
            found.wrong(|| why);
        }
    }
    Ok(())
}

fn deterministic(floor: &mut Floor<'_, '_, '_>, found: &mut Found) -> Result<(), String> {
    let (endpoints, connections) = (mixed(30), floor.lab.connections(1000));
    let same = floor.answers(&endpoints, &connections)? == floor.answers(&endpoints, &connections)?;
    found.unless(same, || "two instances that were asked the same differ".to_owned());
    Ok(())
}

fn order(floor: &mut Floor<'_, '_, '_>, found: &mut Found) -> Result<(), String> {
    let (endpoints, connections) = (mixed(30), floor.lab.connections(1000));
    let named = |endpoints: &[Endpoint], answers: Vec<Option<Vec<Slot>>>| -> Vec<Option<Vec<String>>> {
        let names = |slots: Vec<Slot>| {
            let mut names: Vec<String> = slots.into_iter().map(|slot| endpoints[slot as usize].key.clone()).collect();
            names.sort();
            names
        };
        answers.into_iter().map(|answer| answer.map(names)).collect()
    };
    let straight = floor.answers(&endpoints, &connections)?;
    let shuffled = renumbered(floor.lab.shuffled(&endpoints));
    let other = floor.answers(&shuffled, &connections)?;
    let same = named(&endpoints, straight) == named(&shuffled, other);
    found.unless(same, || "the same endpoints, listed in another order, are cut in another way".to_owned());
    Ok(())
}

fn serves(floor: &mut Floor<'_, '_, '_>, found: &mut Found) -> Result<(), String> {
    for ready in [0, 7] {
        let endpoints: Vec<Endpoint> = mixed(10)
            .into_iter()
            .map(
                |endpoint| {
                    if endpoint.slot == ready { at_place(equal(10).remove(ready as usize), ready == 0, 1) } else { unready(endpoint) }
                },
            )
            .collect();
        let connections = floor.lab.connections(500);
        let refused = floor.answers(&endpoints, &connections)?.iter().filter(|answer| answer.as_ref().is_none_or(Vec::is_empty)).count();
        found.unless(refused == 0, || format!("{refused} of 500 connections are refused, though endpoint {ready} of 10 is ready"));
    }
    Ok(())
}

fn ready_alone(floor: &mut Floor<'_, '_, '_>, found: &mut Found) -> Result<(), String> {
    let endpoints: Vec<Endpoint> =
        equal(12).into_iter().map(|e| at_place(e, false, 0)).map(|e| if e.slot % 2 == 0 { unready(e) } else { e }).collect();
    let part = floor.part(&endpoints, |endpoint| endpoint.conditions.ready)?;
    found.unless(part >= 1.0, || format!("{:.1} % of the connections may meet an endpoint that is not ready", (1.0 - part) * 100.0));
    Ok(())
}

fn local_alone(floor: &mut Floor<'_, '_, '_>, found: &mut Found) -> Result<(), String> {
    let endpoints: Vec<Endpoint> = equal(10)
        .into_iter()
        .map(|e| {
            let local = e.slot < 2;
            at_place(e, local, 1)
        })
        .collect();
    let part = floor.part(&endpoints, |endpoint| endpoint.local)?;
    found.unless(part >= 1.0, || {
        format!("{:.1} % of the connections may leave the node, though two of its endpoints are ready", (1.0 - part) * 100.0)
    });
    Ok(())
}

fn local_gone(floor: &mut Floor<'_, '_, '_>, found: &mut Found) -> Result<(), String> {
    let gone = |e: Endpoint| if e.slot < 2 { unready(at_place(e, true, 0)) } else { at_place(e, false, 1) };
    let endpoints: Vec<Endpoint> = equal(10).into_iter().map(gone).collect();
    let part = floor.part(&endpoints, |endpoint| !endpoint.local && endpoint.conditions.ready)?;
    found.unless(part >= 1.0, || {
        format!("{:.1} % of the connections do not get to the ready endpoints of other nodes", (1.0 - part) * 100.0)
    });
    Ok(())
}

fn in_zone(endpoint: &Endpoint) -> bool {
    endpoint.zone.as_deref() == Some(ZONE)
}

fn zone_alone(floor: &mut Floor<'_, '_, '_>, found: &mut Found) -> Result<(), String> {
    for gone in [0, 1] {
        // Ten in this zone, and ten in each of two others, which are all ready.
        let endpoints: Vec<Endpoint> = equal(30)
            .into_iter()
            .map(|e| {
                let (zone, at) = (e.slot as usize / 10, e.slot);
                let e = at_place(e, false, zone);
                if at < gone { unready(e) } else { e }
            })
            .collect();
        let part = floor.part(&endpoints, in_zone)?;
        found.unless(part >= 1.0, || {
            format!(
                "{:.1} % of the connections may leave the zone, though {} of its 10 endpoints are ready",
                (1.0 - part) * 100.0,
                10 - gone
            )
        });
    }
    Ok(())
}

/// The most that an endpoint may get, times the mean: what is left of a zone gets 1.4 times its share (Envoy's over-provisioning), and a little
/// for chance.
const MOST_OVERLOAD: f64 = 2.0;

fn zone_short(floor: &mut Floor<'_, '_, '_>, found: &mut Found) -> Result<(), String> {
    // Five in this zone, of which one is ready; five in the next.
    let short = |e: Endpoint| match e.slot {
        0 => at_place(e, false, 0),
        1..5 => unready(at_place(e, false, 0)),
        _ => at_place(e, false, 1),
    };
    let endpoints: Vec<Endpoint> = equal(10).into_iter().map(short).collect();
    let connections = floor.lab.connections(5000);
    let mut loads = vec![0.0_f64; endpoints.len()];
    for slots in floor.answers(&endpoints, &connections)?.iter().flatten() {
        slots.iter().for_each(|slot| loads[*slot as usize] += 1.0 / slots.len() as f64);
    }
    let mean = loads.iter().sum::<f64>() / 6.0;
    let most = loads.iter().copied().fold(0.0, f64::max) / mean.max(f64::MIN_POSITIVE);
    found.measured("overload", "", most);
    found.unless(most <= MOST_OVERLOAD, || {
        format!("the last ready endpoint of its zone gets {most:.1} times the mean of all that are ready")
    });
    Ok(())
}

/// Endpoints of this node and of others; every third is not ready.
fn here_and_there() -> Vec<Endpoint> {
    let place = |e: Endpoint| {
        let at = e.slot as usize;
        let e = at_place(e, at < 4, at % 2);
        if at % 3 == 2 { unready(e) } else { e }
    };
    equal(12).into_iter().map(place).collect()
}

fn cluster(floor: &mut Floor<'_, '_, '_>, found: &mut Found) -> Result<(), String> {
    let (endpoints, connections) = (here_and_there(), floor.lab.connections(200));
    let all: Vec<Slot> = endpoints.iter().filter(|endpoint| endpoint.conditions.ready).map(|endpoint| endpoint.slot).collect();
    for mut slots in floor.answers(&endpoints, &connections)?.into_iter().map(Option::unwrap_or_default) {
        slots.sort_unstable();
        found.unless(slots == all, || format!("a connection may go to the endpoints {slots:?}, and {all:?} are ready"));
    }
    Ok(())
}

fn local(floor: &mut Floor<'_, '_, '_>, found: &mut Found) -> Result<(), String> {
    let connections = floor.lab.connections(200);
    let endpoints = here_and_there();
    let nobody: Vec<Endpoint> = endpoints.iter().cloned().map(|e| if e.local { unready(e) } else { e }).collect();
    for endpoints in [endpoints, nobody] {
        let here: Vec<Slot> = endpoints.iter().filter(|e| e.local && e.conditions.ready).map(|endpoint| endpoint.slot).collect();
        for mut slots in floor.answers_with(Locality::Local, &endpoints, &connections)?.into_iter().map(Option::unwrap_or_default) {
            slots.sort_unstable();
            found.unless(slots == here, || {
                format!("a connection may go to the endpoints {slots:?}; those of this node that are ready are {here:?}")
            });
        }
    }
    Ok(())
}
