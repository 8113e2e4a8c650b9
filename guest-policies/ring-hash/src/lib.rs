//! Each client to the endpoint whose point on a ring of hashes comes next after the client's own (Karger et al., STOC 1997). Rings are
//! Envoy's to the point: the same hashes, the same number of points, the same way of sharing them by weight.
//!
//! The settings `minimum-ring-size` and `maximum-ring-size` (of the Service, or of the host for all Services) say how many points
//! there are. As in Envoy the ring is filled up to its minimum, so the points of each endpoint grow in number as endpoints leave: while
//! they do not, exactly the clients of the one that left move; where they do, the new points draw some clients from the others.

mod ring;

use pointsman_sdk::order::eligible;
use pointsman_sdk::prelude::*;
use pointsman_sdk::settings::only;
use ring::{Ring, Size};

/// The policy `ring-hash`.
#[derive(Debug)]
pub struct RingHash {
    size: Size,
}

impl Balancer for RingHash {
    type Plan = Ring;

    fn configure(_place: Place, _node: &Node, settings: &[Setting]) -> Result<Self, String> {
        Ok(Self { size: size(Size { minimum: MINIMUM, maximum: LARGEST }, settings)? })
    }

    fn plan(&mut self, port: &ServicePort, members: &[Endpoint]) -> Result<Ring, String> {
        only(&port.settings, &[MINIMUM_RING_SIZE, MAXIMUM_RING_SIZE])?;
        let size = size(self.size, &port.settings)?;
        let members = eligible(members);
        if members.len() > size.maximum as usize {
            return Err(format!(
                "{} endpoints do not fit a ring of {} points; {MAXIMUM_RING_SIZE} may be up to {LARGEST}",
                members.len(),
                size.maximum
            ));
        }
        Ok(Ring::of(&members, size))
    }

    fn pick(&mut self, plan: &mut Ring, connection: &Connection, _load: &impl Load) -> Option<Slot> {
        plan.at(connection.client_hash, connection.attempt)
    }
}

/// `size`, as far as `settings` do not say otherwise.
fn size(mut size: Size, settings: &[Setting]) -> Result<Size, String> {
    for setting in settings {
        match setting.key.as_str() {
            MINIMUM_RING_SIZE => size.minimum = points(setting)?,
            MAXIMUM_RING_SIZE => size.maximum = points(setting)?,
            _ => {}
        }
    }
    if size.minimum > size.maximum {
        return Err(format!("{MINIMUM_RING_SIZE} is {}, more than {MAXIMUM_RING_SIZE}, which is {}", size.minimum, size.maximum));
    }
    Ok(size)
}

fn points(setting: &Setting) -> Result<u32, String> {
    let points = setting.value.parse().ok().filter(|points| (1..=LARGEST).contains(points));
    points.ok_or_else(|| format!("{} is `{}`; it must be a whole number from 1 to {LARGEST}", setting.key, setting.value))
}

const MINIMUM_RING_SIZE: &str = "minimum-ring-size";
const MAXIMUM_RING_SIZE: &str = "maximum-ring-size";

/// Envoy's default.
const MINIMUM: u32 = 1024;

/// Envoy allows 8,388,608, which no policy's memory holds. A ring of so many points is 1.6 MB a candidate set.
const LARGEST: u32 = 131_072;

pointsman_sdk::export_balancer!(RingHash);

#[cfg(test)]
mod tests;
