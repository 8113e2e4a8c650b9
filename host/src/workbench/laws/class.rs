//! Classes of policies, and which of them a built-in policy is of.

use std::fmt;

use clap::ValueEnum;

use crate::policy::contract::StageKind;

/// A class of policies; of balancers, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Class {
    /// Every policy
    All,
    /// The endpoint follows from the client and the endpoints, and few clients move when those change
    ConsistentHash,
    /// Shares follow the weights
    Weighted,
    /// Each endpoint exactly as often as its weight says, evenly spread
    RoundRobin,
    /// Fewer live connections are better
    LeastLoaded,
    /// Looks at few endpoints, so that counters that are stale do not send everybody to one
    FewChoices,
    /// No endpoint gets more than so many times the mean
    BoundedLoad,
    /// Endpoints that are quick to connect to are better
    LatencyAware,
    /// One endpoint is filled before the next is begun, in the order of their keys
    FillInOrder,
    /// A traffic policy that stays on the node
    Locality,
    /// A traffic policy that stays in the zone
    Zone,
    /// A traffic policy that does what the Service's `Cluster` and `Local` say
    ServicePolicy,
    /// A selector that takes the pods with all labels of the Service's selector
    Match,
    /// A selector whose setting `share` is the percentage of clients that meet the pods of its setting `canary`
    Share,
}

impl Class {
    /// The stage that such a policy fills; none: it may be any.
    pub fn stage(self) -> Option<StageKind> {
        match self {
            Self::All => None,
            Self::Locality | Self::Zone | Self::ServicePolicy => Some(StageKind::TrafficPolicy),
            Self::Match | Self::Share => Some(StageKind::Selector),
            _ => Some(StageKind::Balancer),
        }
    }

    /// Those that a policy of this stage may be of.
    pub fn of_stage(stage: StageKind) -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied().filter(move |class| class.stage().is_none_or(|own| own == stage))
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

/// What a policy promises.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// Its classes.
    pub classes: &'static [Class],
    /// The most of the clients that a change of one endpoint moves without need.
    pub collateral: f64,
}

/// Of the clients, in the mean of some changes. Maglev with a table of 100 entries an endpoint has some 2 %, of 65,537 entries below 1 %.
pub const COLLATERAL: f64 = 0.025;

/// What a built-in policy promises.
pub fn of_built_in(name: &str) -> Option<Promise> {
    let promise = |classes| Some(Promise { classes, collateral: COLLATERAL });
    let hash = |collateral| Some(Promise { classes: &[Class::ConsistentHash], collateral });
    match name {
        "round-robin" => promise(&[Class::Weighted, Class::RoundRobin]),
        "random" => promise(&[Class::Weighted]),
        "least-connections" => promise(&[Class::LeastLoaded]),
        "two-choices" => promise(&[Class::LeastLoaded, Class::FewChoices]),
        "peak-ewma" => promise(&[Class::LeastLoaded, Class::FewChoices, Class::LatencyAware]),
        "first-available" => promise(&[Class::FillInOrder]),
        "maglev" => hash(COLLATERAL),
        "rendezvous" | "ketama" => hash(0.0),
        // As Envoy's: the ring is filled up to its smallest size, so everybody's points change in number (6.7 % from 10 endpoints to 9).
        "ring-hash" => hash(0.1),
        "bounded-maglev" => promise(&[Class::BoundedLoad]),
        "kubernetes" => promise(&[Class::ServicePolicy]),
        "prefer-local" => promise(&[Class::Locality]),
        "zone-spill" => promise(&[Class::Zone]),
        "label-selector" => promise(&[Class::Match]),
        "canary" => promise(&[Class::Match, Class::Share]),
        _ => None,
    }
}
