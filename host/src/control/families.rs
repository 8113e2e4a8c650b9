//! In which IP families a Service is (kubernetes-semantics 1.9; `initIPFamilyFields` of pkg/registry/core/service/storage/alloc.go):
//! what it says, completed from its cluster IPs, from what it had, and from the ranges that the host has.

use super::allocation::Allocation;
use super::{Family, about};
use crate::objects::model::{ClusterIp, Diagnostic, IpFamily, IpFamilyPolicy, Service, Severity};

/// The outcome: `spec.ipFamilies` and `spec.ipFamilyPolicy` as they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Families {
    /// The primary first.
    pub(super) families: Vec<Family>,
    pub(super) policy: IpFamilyPolicy,
}

/// Settles them, or tells everything that is wrong. `known`: the families that the host has ranges of, its primary first; `before`: what
/// the Service has, if it exists.
pub(super) fn settle(service: &Service, known: &[Family], before: Option<&Allocation>) -> Result<Families, Vec<Diagnostic>> {
    let by_hand = service.cluster_ip == ClusterIp::Headless && service.selector.is_none();
    let policy = service.ip_family_policy.or(before.and_then(|before| before.family_policy)).unwrap_or(match by_hand {
        true => IpFamilyPolicy::RequireDualStack,
        false => IpFamilyPolicy::SingleStack,
    });
    // What the fields say, of which the objects' own validation knows that they agree.
    let said = service.ip_families.iter().copied().map(Family::from);
    let fixed = fixed_ips(service, policy).iter().copied().map(Family::of);
    let mut families: Vec<Family> = fixed.chain(said).fold(Vec::new(), |mut families, family| {
        if !families.contains(&family) {
            families.push(family);
        }
        families
    });
    if policy == IpFamilyPolicy::SingleStack {
        families.truncate(1);
    }
    let mut problems = Vec::new();
    if families.is_empty() {
        let primary = before.and_then(|before| before.families.first()).copied().map(Family::from);
        families.push(primary.or(known.first().copied()).unwrap_or(Family::V4));
    }
    if by_hand {
        // Nothing is allocated for these and somebody else writes their endpoints: they may be in families that the host lacks.
        if policy != IpFamilyPolicy::SingleStack && families.len() == 1 {
            families.push(families[0].other());
        }
    } else {
        problems = unknown_families(service, known, policy);
        if policy != IpFamilyPolicy::SingleStack && families.len() == 1 && known.contains(&families[0].other()) {
            families.push(families[0].other());
        }
    }
    if problems.is_empty() { Ok(Families { families, policy }) } else { Err(problems) }
}

/// The cluster IPs that a Service asks for by number: one at most where it says SingleStack.
pub(super) fn fixed_ips(service: &Service, policy: IpFamilyPolicy) -> &[std::net::IpAddr] {
    match &service.cluster_ip {
        ClusterIp::Fixed(ips) if policy == IpFamilyPolicy::SingleStack => &ips[..ips.len().min(1)],
        ClusterIp::Fixed(ips) => ips,
        ClusterIp::Allocate | ClusterIp::Headless => &[],
    }
}

fn unknown_families(service: &Service, known: &[Family], policy: IpFamilyPolicy) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    if policy == IpFamilyPolicy::RequireDualStack && known.len() < 2 {
        let message = "this cluster is not configured for dual-stack services".to_owned();
        let remedy = "give the host a second --service-cidr, of the other family, or ask for PreferDualStack";
        problems.push(problem(service, "spec.ipFamilyPolicy", message, remedy));
    }
    for (at, family) in service.ip_families.iter().enumerate().filter(|(_, family)| !known.contains(&Family::from(**family))) {
        let message = format!("{} is not configured on this cluster", Family::from(*family));
        let remedy = format!("give the host a --service-cidr of that family, or leave out spec.ipFamilies[{at}]");
        problems.push(problem(service, &format!("spec.ipFamilies[{at}]"), message, &remedy));
    }
    problems
}

fn problem(service: &Service, field: &str, message: String, remedy: &str) -> Diagnostic {
    Diagnostic { remedy: Some(remedy.to_owned()), ..about(service, field, Severity::Error, message) }
}

impl From<IpFamily> for Family {
    fn from(family: IpFamily) -> Self {
        match family {
            IpFamily::V4 => Self::V4,
            IpFamily::V6 => Self::V6,
        }
    }
}

impl From<Family> for IpFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::V4,
            Family::V6 => Self::V6,
        }
    }
}

/// As in `spec.ipFamilies`.
impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}
