//! The policies that come with Pointsman, as components. They are compiled from `guest-policies/` by this package's build script;
//! none is committed.

/// A policy as a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// The name that an annotation gives it.
    pub name: &'static str,
    /// The stage that it fills.
    pub stage: Stage,
    /// The component.
    pub bytes: &'static [u8],
}

/// The stage that a policy fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Which pods.
    Selector,
    /// Which of them this node may use.
    TrafficPolicy,
    /// Which one.
    Balancer,
}

impl Component {
    /// The component of this name, built in or made for tests.
    pub fn named(name: &str) -> Option<&'static Self> {
        BUILT_IN.iter().chain(TEST_ONLY).find(|component| component.name == name)
    }
}

include!(concat!(env!("OUT_DIR"), "/components.rs"));
include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// The contract: `wit/policy.wit`.
pub const CONTRACT: &str = include_str!("../../../wit/policy.wit");

/// The versions of everything that the policies are made of: `guest-policies/Cargo.lock`.
pub const GUEST_LOCK: &str = include_str!("../../../guest-policies/Cargo.lock");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_component_is_one_and_has_a_name_of_its_own() {
        let all: Vec<_> = BUILT_IN.iter().chain(TEST_ONLY).collect();
        for component in &all {
            // The preamble of a component: magic, version 13, layer 1.
            assert_eq!(component.bytes[..8], *b"\0asm\x0d\0\x01\0", "{}", component.name);
            assert_eq!(all.iter().filter(|other| other.name == component.name).count(), 1, "{}", component.name);
            assert_eq!(Component::named(component.name), Some(*component));
        }
    }

    #[test]
    fn built_in_components_are_small_and_import_nothing_but_the_contract() {
        for component in BUILT_IN {
            assert!(component.bytes.len() < 256 << 10, "{} has {} bytes", component.name, component.bytes.len());
            assert!(!component.bytes.windows(5).any(|window| window == b"wasi:"), "{}", component.name);
        }
    }
}
