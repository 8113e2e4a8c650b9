//! Between the component's exports and the policy: conversions, and nothing else. Generated bindings stay in here.
//!
//! Bindings are generated for each interface on its own, because an interface may be bound only once in a crate. A component
//! exports several, and the encoder unites what they declare: that is the world of `wit/policy.wit`.

pub mod balancer;
pub mod feedback;
pub mod lifecycle;
pub mod selector;
pub mod traffic_policy;

mod convert;

use crate::load::Load;
use crate::log::Level;
use crate::types::{Description, Node, Place, ServiceId, Setting, Slot};

/// What every world imports. The other bindings share these types.
pub mod shared {
    #![allow(missing_docs, unreachable_pub, unused_qualifications, reason = "generated")]
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package pointsman:sdk;
            world shared {
                import pointsman:policy/types@0.1.0;
                import pointsman:policy/load@0.1.0;
                import pointsman:policy/log@0.1.0;
            }
        ",
        world: "pointsman:sdk/shared",
        generate_all,
    });
}

/// The one instance of the policy in this component; `export_policy!` implements it.
pub trait Home {
    /// The author's type.
    type Policy;
    /// The policy with its plans.
    type Instance;
    /// Calls `act` with the instance.
    fn with<R>(act: impl FnOnce(&mut Self::Instance) -> R) -> R;
    /// Who the policy is.
    fn describe() -> Description;
    /// First call.
    fn configure(place: Place, node: &Node, settings: &[Setting]) -> Result<(), String>;
}

/// What Cargo.toml says; the built-in policies' package names carry a prefix that their names don't.
pub fn package(name: &str, version: &str, summary: &str) -> Description {
    let name = name.strip_prefix("pointsman-policy-").unwrap_or(name);
    Description { name: name.to_owned(), version: version.to_owned(), summary: summary.to_owned() }
}

/// A line to the host's log.
pub(crate) fn log(level: Level, message: &str) {
    use shared::pointsman::policy::log;
    let level = match level {
        Level::Debug => log::Level::Debug,
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        Level::Error => log::Level::Error,
    };
    log::log(level, message);
}

/// The host's counters.
pub(crate) struct HostLoad;

impl Load for HostLoad {
    #[inline]
    fn active(&self, service: ServiceId, slot: Slot) -> u32 {
        shared::pointsman::policy::load::active(service, slot)
    }

    #[inline]
    fn active_pair(&self, service: ServiceId, one: Slot, other: Slot) -> (u32, u32) {
        shared::pointsman::policy::load::active_pair(service, one, other)
    }
}

/// A panic traps without a word; this tells the host's log where and why first.
pub(crate) fn report_panics() {
    std::panic::set_hook(Box::new(|panic| crate::log::error(&panic.to_string())));
}
