//! What health-check node ports answer (kubernetes-semantics 3.15): how many endpoints of a Service on this node are ready.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Controller, Family, ServiceName};
use crate::table::{HealthCheck, Port, Slot, Table};

impl Controller {
    /// Brings the health checks of these Services into the table. True if one differs from before.
    pub(super) fn settle_health_checks(&mut self, touched: &BTreeSet<ServiceName>, table: &mut Table) -> bool {
        let mut differs = false;
        let wanted: BTreeMap<_, _> = touched.iter().filter_map(|name| Some((name, self.health_check(name)?))).collect();
        // First what is given up: two Services may have changed their numbers.
        for name in touched {
            let Some(applied) = self.services.get_mut(name) else { continue };
            let now = wanted.get(name).map(|(number, _)| *number);
            if let Some(before) = std::mem::replace(&mut applied.health_check, now).filter(|before| Some(*before) != now) {
                forget(table, name, before);
                differs = true;
            }
        }
        for (number, check) in wanted.into_values() {
            if table.health_checks.get(&number) != Some(&check) {
                table.health_checks.insert(number, check);
                differs = true;
            }
        }
        differs
    }

    fn health_check(&self, name: &ServiceName) -> Option<(u16, HealthCheck)> {
        let applied = self.services.get(name)?;
        let number = applied.allocation.health_check_node_port.filter(|_| !applied.service.other_proxy)?;
        let count = |family: Family| {
            let ports = applied.ports.iter().filter(|(key, _)| key.family == family);
            local_endpoints(ports.filter_map(|(_, id)| self.ports.get(id)?.entry.as_deref()))
        };
        let local_endpoints = count(Family::V4).max(count(Family::V6));
        Some((number, HealthCheck { namespace: name.namespace.clone(), name: name.name.clone(), local_endpoints }))
    }
}

/// The Service answers there no more, unless another has the number by now.
pub(super) fn forget(table: &mut Table, name: &ServiceName, number: u16) {
    let own = |check: &HealthCheck| check.namespace == name.namespace && check.name == name.name;
    if table.health_checks.get(&number).is_some_and(own) {
        table.health_checks.remove(&number);
    }
}

/// Unique addresses, whatever their ports, of local endpoints that are ready: those that terminate are not.
fn local_endpoints<'a>(ports: impl Iterator<Item = &'a Port>) -> u32 {
    let there = |port: &'a Port| {
        let slots = port.endpoints.iter().enumerate().filter(|(slot, _)| !port.masked.contains(&(*slot as Slot)));
        slots.map(|(_, endpoint)| endpoint).filter(|endpoint| endpoint.local && endpoint.conditions.ready)
    };
    let addresses: BTreeSet<IpAddr> = ports.flat_map(there).map(|endpoint| endpoint.address.ip()).collect();
    addresses.len() as u32
}
