//! Which packages of the guest workspace become components.

/// A package that becomes a component.
pub(crate) struct Policy {
    /// The name that an annotation gives it.
    pub(crate) name: &'static str,
    /// The stage, as `Stage` spells it.
    pub(crate) stage: &'static str,
    /// The package in `guest-policies/`.
    pub(crate) package: &'static str,
}

const fn policy(name: &'static str, stage: &'static str, package: &'static str) -> Policy {
    Policy { name, stage, package }
}

pub(crate) const BUILT_IN: &[Policy] = &[
    policy("label-selector", "Selector", "pointsman-policy-label-selector"),
    policy("canary", "Selector", "pointsman-policy-canary"),
    policy("kubernetes", "TrafficPolicy", "pointsman-policy-kubernetes"),
    policy("prefer-local", "TrafficPolicy", "pointsman-policy-prefer-local"),
    policy("zone-spill", "TrafficPolicy", "pointsman-policy-zone-spill"),
    policy("round-robin", "Balancer", "pointsman-policy-round-robin"),
    policy("random", "Balancer", "pointsman-policy-random"),
    policy("least-connections", "Balancer", "pointsman-policy-least-connections"),
    policy("two-choices", "Balancer", "pointsman-policy-two-choices"),
    policy("maglev", "Balancer", "pointsman-policy-maglev"),
    policy("rendezvous", "Balancer", "pointsman-policy-rendezvous"),
    policy("ring-hash", "Balancer", "pointsman-policy-ring-hash"),
    policy("ketama", "Balancer", "pointsman-policy-ketama"),
    policy("first-available", "Balancer", "pointsman-policy-first-available"),
    policy("peak-ewma", "Balancer", "pointsman-policy-peak-ewma"),
    policy("bounded-maglev", "Balancer", "pointsman-policy-bounded-maglev"),
];

pub(crate) const TEST_ONLY: &[Policy] = &[
    policy("always-trap", "Balancer", "pointsman-policy-always-trap"),
    policy("always-loop", "Balancer", "pointsman-policy-always-loop"),
    policy("faulty-balancer", "Balancer", "pointsman-policy-faulty-balancer"),
    policy("faulty-selector", "Selector", "pointsman-policy-faulty-selector"),
    policy("faulty-traffic-policy", "TrafficPolicy", "pointsman-policy-faulty-traffic-policy"),
    policy("planted", "Balancer", "pointsman-policy-planted"),
    policy("learner", "Balancer", "pointsman-policy-learner"),
    policy("wasi-curious", "Balancer", "pointsman-policy-wasi-curious"),
];
