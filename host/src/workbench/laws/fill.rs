//! What balancers promise that fill one endpoint after the other.

use super::lab::{Lab, equal};
use super::loads::Floor;
use super::{Found, Law};

pub(super) const LAWS: &[Law] = &[
    ("one endpoint is filled before the next is begun, in the order of their keys", in_order),
    ("who has room again is used again", again),
];

/// Few endpoints, and more connections than fill the first few of them.
const ENDPOINTS: usize = 5;
const MOST: u64 = 20_000;

/// Opens connections until so many endpoints, in the order of their keys, have some. Says whether it came to that.
fn open_until(lab: &mut Lab<'_>, floor: &mut Floor, begun: usize, found: &mut Found) -> Result<bool, String> {
    let mut furthest = 0;
    for at in 0..MOST {
        let slot = floor.open(lab, at).ok_or("it picks nobody")?;
        found.unless(slot >= furthest && slot <= furthest + 1, || {
            format!("connection {at} goes to endpoint {slot} by key, though {furthest} was the last one begun")
        });
        furthest = furthest.max(slot);
        if furthest + 1 >= begun {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `equal` lists them in the order of their keys.
fn in_order(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let mut floor = Floor::new(lab.subject(&equal(ENDPOINTS))?, ENDPOINTS);
    open_until(lab, &mut floor, ENDPOINTS, found)?;
    found.measured("connections-of-the-first", "", f64::from(floor.active[0]));
    Ok(())
}

fn again(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let mut floor = Floor::new(lab.subject(&equal(ENDPOINTS))?, ENDPOINTS);
    // What else it finds is the other law's.
    if !open_until(lab, &mut floor, 3, &mut Found::default())? {
        found.skipped = Some(format!("{MOST} connections do not fill two endpoints: try it with less room"));
        return Ok(());
    }
    for closes in [1, 0, 1] {
        floor.change(closes, -1);
        let slot = floor.open(lab, MOST).ok_or("it picks nobody")?;
        found.unless(slot == closes, || format!("a connection of endpoint {closes} by key closes, and the next one goes to {slot}"));
    }
    Ok(())
}
