//! How busy an endpoint is.

use crate::types::{ServiceId, Slot};

/// Live connections of an endpoint, counted by the host from pick to close, over all its workers and Services.
pub trait Load {
    /// How many there are now; 0 for a slot that the Service port does not have.
    fn active(&self, service: ServiceId, slot: Slot) -> u32;

    /// The same for two slots: of a host, for the price of one call.
    fn active_pair(&self, service: ServiceId, one: Slot, other: Slot) -> (u32, u32) {
        (self.active(service, one), self.active(service, other))
    }
}

/// The live connections of each of these slots, in order, asked for two at a time and only as far as the iterator is driven: of a host
/// that is half the calls.
pub fn each<L: Load>(load: &L, service: ServiceId, slots: impl IntoIterator<Item = Slot>) -> impl Iterator<Item = u32> {
    let mut slots = slots.into_iter();
    let mut second = None;
    std::iter::from_fn(move || {
        second.take().or_else(|| {
            let one = slots.next()?;
            let Some(other) = slots.next() else { return Some(load.active(service, one)) };
            let (active, other_active) = load.active_pair(service, one, other);
            second = Some(other_active);
            Some(active)
        })
    })
}

/// For tests: a function is a load.
impl<F: Fn(ServiceId, Slot) -> u32> Load for F {
    fn active(&self, service: ServiceId, slot: Slot) -> u32 {
        self(service, slot)
    }
}

/// For tests: nobody is busy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Idle;

impl Load for Idle {
    fn active(&self, _service: ServiceId, _slot: Slot) -> u32 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_in_order_and_no_further_than_asked() {
        let asked = std::cell::Cell::new(0);
        let load = |_, slot: Slot| {
            asked.set(asked.get() + 1);
            slot * 10
        };
        assert_eq!(each(&load, 0, [3, 1, 4]).collect::<Vec<_>>(), [30, 10, 40]);
        assert_eq!(each(&load, 0, []).count(), 0);
        asked.set(0);
        assert_eq!((each(&load, 0, 0..100).find(|active| *active == 20), asked.get()), (Some(20), 4));
    }
}
