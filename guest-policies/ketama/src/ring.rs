//! The ring, and how it is made.

use pointsman_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::crc32::Crc32;

/// Points in ascending order, none twice, and whose they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    points: Packed<u32>,
    /// For each point, an index into `slots`.
    owners: Packed<u16>,
    slots: Packed<Slot>,
}

impl Ring {
    /// A ring for endpoints in order, whose weight is not 0; there are at most 65,536 of them.
    pub(crate) fn of(members: &[&Endpoint]) -> Self {
        // A point in the upper half, whose it is in the lower: where points coincide, the first endpoint keeps it.
        let mut points: Vec<u64> = Vec::new();
        let total: u64 = members.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
        for (endpoint, index) in members.iter().zip(0u64..) {
            let count = points_of(endpoint.weight, total);
            points.extend(chain(&endpoint.key).take(count).map(|point| (u64::from(point) << 32) | index));
        }
        points.sort_unstable();
        points.dedup_by_key(|point| *point >> 32);
        Self {
            points: points.iter().map(|point| (point >> 32) as u32).collect(),
            owners: points.iter().map(|point| *point as u16).collect(),
            slots: members.iter().map(|endpoint| endpoint.slot).collect(),
        }
    }

    /// The endpoint of the first point that is not below `hash`; for another attempt the next on the ring that is none of those before.
    pub(crate) fn at(&self, hash: u32, attempt: u32) -> Option<Slot> {
        let (mut low, mut high) = (0, self.points.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.points.at(middle)? < hash { low = middle + 1 } else { high = middle }
        }
        let mut passed = [0; TRIES];
        let mut count = 0;
        for step in 0..TRIES {
            let owner = self.owners.at((low + step).checked_rem(self.points.len())?)?;
            if !passed[..count].contains(&owner) {
                if count as u32 == attempt {
                    return self.slots.at(owner.into());
                }
                passed[count] = owner;
                count += 1;
            }
        }
        None
    }

    #[cfg(test)]
    pub(crate) fn points(&self) -> Vec<(u32, Slot)> {
        self.points.iter().zip(self.owners.iter().filter_map(|owner| self.slots.at(owner.into()))).collect()
    }
}

/// An endpoint's points: each is the checksum of host, a zero, port, and the point before, lowest byte first.
fn chain(key: &str) -> impl Iterator<Item = u32> {
    let (host, port) = key.rsplit_once(':').unwrap_or((key, ""));
    let base = Crc32::new().and(host.as_bytes()).and(&[0]).and(port.as_bytes());
    let next = move |point: u32| base.and(&point.to_le_bytes()).value();
    std::iter::successors(Some(next(0)), move |point| Some(next(*point)))
}

/// How many points an endpoint of this weight has, where the weights come to `total`: nginx's number while the ring can hold them
/// all, else its share of the ring, and at least one.
fn points_of(weight: u32, total: u64) -> usize {
    let (weight, points) = (u64::from(weight), u64::from(POINTS));
    let count = if total <= LARGEST / points { weight * points } else { weight * LARGEST / total };
    count.max(1) as usize
}

/// For each unit of weight.
const POINTS: u32 = 160;

/// A ring of so many points is 1.6 MB a candidate set. It has 160 for each unit of weight while those come to 1,638 at most.
const LARGEST: u64 = 1 << 18;

/// nginx looks at the point and 20 more, then gives up the ring.
const TRIES: usize = 21;
