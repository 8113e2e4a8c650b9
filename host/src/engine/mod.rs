//! The life of a host: wires source, control, policies, data plane and admin, and ends them in order. `core` is the same without
//! sockets, which `route` and `check` use.

mod addresses;
mod control_loop;
pub mod core;
mod health;
pub mod offline;
mod options;
mod report;
mod run;

use std::collections::BTreeSet;

pub use options::{Options, Record, VipMode};
pub use run::run;

use crate::table::{ServiceId, Table, VersionId};

/// The policy versions that these ports name: every worker needs an instance of each before it uses the table.
pub fn versions(table: &Table, ports: &[ServiceId]) -> BTreeSet<VersionId> {
    let mut versions = BTreeSet::new();
    for port in ports.iter().filter_map(|id| table.port(*id)) {
        versions.extend(port.selector.planned().map(|planned| planned.version.id));
        versions.extend(port.traffic_policy.planned().map(|planned| planned.version.id));
        versions.extend(port.balancer.planned().map(|planned| planned.version.id));
    }
    versions
}
