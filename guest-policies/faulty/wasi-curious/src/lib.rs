//! For tests of grants: a balancer that asks WASI for randomness and the time in every pick, instead of taking what the
//! connection brings. Without a grant it is refused; with one it meets an empty, deterministic world.

use pointsman_sdk::prelude::*;

#[cfg(target_arch = "wasm32")]
mod wasi {
    //! Bindings of the two functions.
    #![allow(missing_docs, unreachable_pub, unused_qualifications, reason = "generated")]
    wit_bindgen::generate!({ path: "wit", world: "curious", generate_all });
}

/// The policy `wasi-curious`.
#[derive(Debug)]
pub struct WasiCurious;

impl Balancer for WasiCurious {
    type Plan = Packed<Slot>;

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&mut self, _port: &ServicePort, members: &[Endpoint]) -> Result<Self::Plan, String> {
        Ok(members.iter().filter(|endpoint| endpoint.weight > 0).map(|endpoint| endpoint.slot).collect())
    }

    fn pick(&mut self, plan: &mut Self::Plan, connection: &Connection, _load: &impl Load) -> Option<Slot> {
        plan.at(entropy(connection).checked_rem(plan.len() as u64)? as usize)
    }
}

#[cfg(target_arch = "wasm32")]
fn entropy(_connection: &Connection) -> u64 {
    let now = wasi::wasi::clocks::wall_clock::now();
    wasi::wasi::random::random::get_random_u64() ^ now.seconds ^ u64::from(now.nanoseconds)
}

/// Natively there is no WASI to ask.
#[cfg(not(target_arch = "wasm32"))]
fn entropy(connection: &Connection) -> u64 {
    connection.random ^ connection.now_ms
}

pointsman_sdk::export_balancer!(WasiCurious);
