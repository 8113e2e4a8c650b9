//! Where connections go, to be drawn: by place for a traffic policy, by group for a selector.

use pointsman_sdk::types::{Endpoint, Locality};

use super::lab::{Lab, equal};
use super::selectors::MakeSelector;
use super::stages::{MakeTrafficPolicy, answers, at_place, unready};
use crate::policy::contract::Fault;
use crate::workbench::report::{Line, Plot};

/// Endpoints on this node, beside it in its zone, and in another zone: so many each.
const EACH: u32 = 10;
/// Connections for each point of a line.
const CONNECTIONS: u64 = 2000;
/// Clients that come one after the other.
const CLIENTS: u64 = 5000;
/// Between two points of a line.
const EVERY: usize = 25;

/// What becomes of connections as fewer and fewer of the zone's endpoints are ready: for Services of either policy.
///
/// # Errors
/// The policy's fault.
pub fn by_place(make: &mut MakeTrafficPolicy<'_>, lab: &mut Lab<'_>) -> Result<Vec<Plot>, Fault> {
    let mut plots = Vec::new();
    for (policy, name) in [(Locality::Cluster, "Cluster"), (Locality::Local, "Local")] {
        let labels = ["on this node", "in its zone", "in another zone", "nowhere"];
        let mut lines = labels.map(|label| Line { label: label.to_owned(), points: Vec::new() });
        for ready in 0..=EACH {
            let parts = parts(&answers(make(policy)?, &zone_with(ready), &lab.connections(CONNECTIONS))?);
            lines.iter_mut().zip(parts).for_each(|(line, part)| line.points.push((f64::from(ready * 100 / EACH), part * 100.0)));
        }
        plots.push(Plot {
            title: format!("Where connections go, with {name}"),
            x: "endpoints of this zone that are ready (%)".to_owned(),
            y: "connections (%)".to_owned(),
            logarithmic: false,
            lines: lines.into(),
        });
    }
    Ok(plots)
}

/// This node's endpoints, its zone's, and another zone's, which are all ready.
fn zone_with(ready: u32) -> Vec<Endpoint> {
    let place = |endpoint: Endpoint| {
        let (place, at) = (endpoint.slot / EACH, endpoint.slot % EACH);
        let endpoint = at_place(endpoint, place == 0, usize::from(place == 2));
        if place == 2 || at < ready { endpoint } else { unready(endpoint) }
    };
    equal(3 * EACH as usize).into_iter().map(place).collect()
}

/// The part of the connections that ends at each of the three places, and nowhere.
fn parts(answers: &[Option<Vec<u32>>]) -> [f64; 4] {
    let mut parts = [0.0; 4];
    let one = 1.0 / answers.len() as f64;
    for slots in answers {
        match slots {
            Some(slots) if !slots.is_empty() => slots.iter().for_each(|slot| parts[(slot / EACH) as usize] += one / slots.len() as f64),
            _ => parts[3] += one,
        }
    }
    parts
}

/// The share of the clients that each group but the largest gets, the more of them come. Nothing where there is one group.
///
/// # Errors
/// The selector's fault.
pub fn by_group(make: &mut MakeSelector<'_>, lab: &mut Lab<'_>) -> Result<Option<Plot>, Fault> {
    let mut selector = make(&[])?;
    let groups = selector.plan()?;
    let mut counts = vec![0_u64; groups.len()];
    let mut lines: Vec<Line> = groups.into_iter().map(|label| Line { label, points: Vec::new() }).collect();
    for (at, connection) in (1..).zip(lab.connections(CLIENTS)) {
        if let Some(count) = selector.choose(&connection)?.and_then(|group| counts.get_mut(group as usize)) {
            *count += 1;
        }
        if at % EVERY == 0 {
            let point = |count: &u64| (at as f64, *count as f64 * 100.0 / at as f64);
            lines.iter_mut().zip(&counts).for_each(|(line, count)| line.points.push(point(count)));
        }
    }
    // It would take the others' room, and says nothing more.
    if let Some(largest) = (0..counts.len()).max_by_key(|group| counts[*group]) {
        lines.remove(largest);
    }
    Ok(Some(lines).filter(|lines| !lines.is_empty()).map(|lines| Plot {
        title: "Clients of each group but the largest".to_owned(),
        x: "clients that came".to_owned(),
        y: "of them (%)".to_owned(),
        logarithmic: false,
        lines,
    }))
}
