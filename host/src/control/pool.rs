//! Load-balancer addresses from the host's own pools (`--load-balancer-pool`; kubernetes-semantics 1.18, 6.1): one for each family that a
//! Service of that type is served in, kept while it wants one. Which it is, is a function of its name while that one is free. A Service
//! that gets none stays pending, and has the next that becomes free.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::allocation::Allocation;
use super::bands::IpRange;
use super::{Family, ServiceName, about};
use crate::objects::model::{Diagnostic, Service, ServiceType, Severity};

/// `spec.loadBalancerClass` of Services that ask for these pools by name.
const LOAD_BALANCER_CLASS: &str = "pointsman.dev/pool";

/// What a Service wants of the pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    families: Vec<Family>,
    /// `spec.loadBalancerIP`.
    asked: Option<IpAddr>,
}

/// Why a Service has fewer addresses than it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// The address that it asks for is in no pool.
    NotInPool(IpAddr),
    /// The Service is not served in the family of the address that it asks for.
    ForeignFamily(IpAddr),
    /// Another has the address that it asks for.
    Taken(IpAddr, ServiceName),
    /// Nothing is free.
    Exhausted(Vec<Family>),
}

/// What a Service was given, the primary family's first, and what it lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) ips: Vec<IpAddr>,
    pub(super) lack: Option<Lack>,
}

/// The pools, and who has what.
#[derive(Debug)]
pub(super) struct Pool {
    ranges: Vec<IpRange>,
    owners: HashMap<IpAddr, ServiceName>,
    given: BTreeMap<ServiceName, Vec<IpAddr>>,
    /// Those that might get more when something becomes free.
    pending: BTreeMap<ServiceName, Wish>,
    /// Something became free since the pending ones were last looked at.
    freed: bool,
}

/// What an admitted Service wants; `None`: nothing, because of its type or class, or because it has addresses from somebody else.
pub(super) fn wish(service: &Service, allocation: &Allocation) -> Option<Wish> {
    let ours = service.load_balancer_class.as_deref().is_none_or(|class| class == LOAD_BALANCER_CLASS);
    let wants = matches!(service.service_type, ServiceType::LoadBalancer { .. }) && ours && service.load_balancer_ips.is_empty();
    let families = allocation.cluster_ips.iter().copied().map(Family::of).collect();
    wants.then_some(Wish { families, asked: service.load_balancer_ip })
}

impl Pool {
    pub(super) fn new(ranges: &[IpNet]) -> Self {
        Self {
            ranges: ranges.iter().copied().map(IpRange::pool).collect(),
            owners: HashMap::new(),
            given: BTreeMap::new(),
            pending: BTreeMap::new(),
            freed: false,
        }
    }

    /// The Service is gone, or wants nothing any more.
    pub(super) fn release(&mut self, name: &ServiceName) {
        self.pending.remove(name);
        for ip in self.given.remove(name).unwrap_or_default() {
            self.owners.remove(&ip);
            self.freed = true;
        }
    }

    /// Grants wishes in the order of names: first those for an address by number, then the rest. Those that were pending try again if
    /// something became free; so there may be more answers than wishes.
    pub(super) fn settle(&mut self, wishes: BTreeMap<ServiceName, Wish>) -> BTreeMap<ServiceName, Given> {
        if self.ranges.is_empty() {
            return wishes.into_keys().map(|name| (name, Given::default())).collect();
        }
        for (name, wish) in &wishes {
            self.give_up(name, wish);
        }
        let mut wishes = wishes;
        if std::mem::take(&mut self.freed) {
            for (name, wish) in std::mem::take(&mut self.pending) {
                wishes.entry(name).or_insert(wish);
            }
        }
        let mut lacks = BTreeMap::new();
        for (name, wish) in &wishes {
            if let Some(lack) = wish.asked.and_then(|asked| self.take(name, wish, asked).err()) {
                lacks.insert(name.clone(), lack);
            }
        }
        let mut answers = BTreeMap::new();
        for (name, wish) in wishes {
            let lack = lacks.remove(&name);
            answers.insert(name.clone(), self.grant(name, wish, lack));
        }
        answers
    }

    /// Frees what the Service no longer wants: addresses of other families, and any other than the one that it asks for, if that is to be
    /// had.
    fn give_up(&mut self, name: &ServiceName, wish: &Wish) {
        let obtainable = |asked: &IpAddr| self.obstacle(name, wish, *asked).is_none();
        let asked = wish.asked.filter(obtainable);
        let wanted = |ip: &IpAddr| {
            let family = Family::of(*ip);
            wish.families.contains(&family) && asked.is_none_or(|asked| asked == *ip || !family.holds(asked))
        };
        let Some(given) = self.given.get_mut(name) else { return };
        let unwanted: Vec<IpAddr> = given.iter().copied().filter(|ip| !wanted(ip)).collect();
        given.retain(|ip| !unwanted.contains(ip));
        for ip in unwanted {
            self.owners.remove(&ip);
            self.freed = true;
        }
    }

    /// Why the Service cannot have this very address.
    fn obstacle(&self, name: &ServiceName, wish: &Wish, asked: IpAddr) -> Option<Lack> {
        if !self.ranges.iter().any(|range| range.contains(asked)) {
            return Some(Lack::NotInPool(asked));
        }
        if !wish.families.contains(&Family::of(asked)) {
            return Some(Lack::ForeignFamily(asked));
        }
        self.owners.get(&asked).filter(|owner| *owner != name).map(|owner| Lack::Taken(asked, owner.clone()))
    }

    fn take(&mut self, name: &ServiceName, wish: &Wish, asked: IpAddr) -> Result<(), Lack> {
        match self.obstacle(name, wish, asked) {
            Some(lack) => Err(lack),
            None => {
                self.assign(name, asked);
                Ok(())
            }
        }
    }

    fn assign(&mut self, name: &ServiceName, ip: IpAddr) {
        self.owners.insert(ip, name.clone());
        let given = self.given.entry(name.clone()).or_default();
        if !given.contains(&ip) {
            given.push(ip);
        }
    }

    /// Draws what is left to draw. Who asks for an address that is not to be had gets no other in its place, but keeps what it has.
    fn grant(&mut self, name: ServiceName, wish: Wish, lack: Option<Lack>) -> Given {
        let mut exhausted = Vec::new();
        for family in &wish.families {
            let served = self.given.get(&name).is_some_and(|ips| ips.iter().any(|ip| family.holds(*ip)));
            if served || lack.is_some() {
                continue;
            }
            match self.draw(&name, *family) {
                Some(ip) => self.assign(&name, ip),
                None => exhausted.push(*family),
            }
        }
        let mut ips = self.given.get(&name).cloned().unwrap_or_default();
        ips.sort_by_key(|ip| wish.families.iter().position(|family| family.holds(*ip)));
        // A family without a pool is lacked only by a Service that has nothing else.
        exhausted.retain(|family| ips.is_empty() || self.ranges_of(*family).next().is_some());
        let lack = lack.or_else(|| Some(Lack::Exhausted(exhausted)).filter(|lack| *lack != Lack::Exhausted(Vec::new())));
        if matches!(lack, Some(Lack::Taken(..) | Lack::Exhausted(_))) {
            self.pending.insert(name, wish);
        } else {
            self.pending.remove(&name);
        }
        Given { ips, lack }
    }

    fn draw(&self, name: &ServiceName, family: Family) -> Option<IpAddr> {
        let order = |range: &'_ IpRange| {
            let range = *range;
            range.bands.order(&format!("load-balancer/{name}")).map(move |at| range.address(at))
        };
        self.ranges_of(family).flat_map(order).find(|ip| !self.owners.contains_key(ip))
    }

    fn ranges_of(&self, family: Family) -> impl Iterator<Item = &IpRange> {
        self.ranges.iter().filter(move |range| family.holds(range.net.network()))
    }

    /// What to tell of a lack; `place`: where the owner of an address stands, in brackets.
    pub(super) fn diagnostic(&self, service: &Service, lack: &Lack, place: impl Fn(&ServiceName) -> String) -> Diagnostic {
        let pools = self.ranges.iter().map(|range| range.net.to_string()).collect::<Vec<_>>().join(", ");
        let another = "ask for another address, or leave out spec.loadBalancerIP to have one given";
        let (field, message, remedy) = match lack {
            Lack::NotInPool(ip) => (ASKED, format!("{ip} is no usable address of the load-balancer pools ({pools}): not given"), another),
            Lack::ForeignFamily(ip) => (ASKED, format!("{ip} is not given: no cluster IP of its family"), another),
            Lack::Taken(ip, owner) => {
                (ASKED, format!("{ip} is already the load-balancer address of Service {owner}{}: not given", place(owner)), another)
            }
            Lack::Exhausted(families) => {
                let families: BTreeSet<String> = families.iter().map(ToString::to_string).collect();
                let families = families.into_iter().collect::<Vec<_>>().join(" and ");
                let message = format!("stays pending: no {families} address is free in the load-balancer pools ({pools})");
                ("status.loadBalancer", message, "give the host a larger --load-balancer-pool, or another one")
            }
        };
        Diagnostic { remedy: Some(remedy.to_owned()), ..about(service, field, Severity::Warning, message) }
    }
}

const ASKED: &str = "spec.loadBalancerIP";
