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
