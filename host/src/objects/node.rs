//! Node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::metadata::meta;
use super::model::{Kind, Location, Node};
use super::problems::Checks;
use super::quantity;
use super::syntax;
use super::tree::Field;

/// The label that names a node's zone.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// The labels of nodes that carry no ordinary pods.
const CONTROL_PLANE_LABELS: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];
/// The cluster autoscaler is about to remove the node.
const AUTOSCALER_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

pub(super) fn node(typed: core::Node, location: Location, checks: &mut Checks<'_, '_>) -> Node {
    let meta = meta(Kind::Node, typed.metadata, location, checks);
    let (spec, status) = (typed.spec.unwrap_or_default(), typed.status.unwrap_or_default());
    let conditions = status.conditions.unwrap_or_default();
    Node {
        zone: meta.labels.get(ZONE_LABEL).cloned(),
        addresses: addresses(status.addresses, checks),
        ready: conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        cpu_millis: status.allocatable.as_ref().and_then(|resources| cpu_millis(resources, checks)),
        control_plane: CONTROL_PLANE_LABELS.iter().any(|label| meta.labels.contains_key(*label)),
        to_be_deleted: spec.taints.unwrap_or_default().iter().any(|taint| taint.key == AUTOSCALER_TAINT),
        meta,
    }
}

fn addresses(addresses: Option<Vec<core::NodeAddress>>, checks: &mut Checks<'_, '_>) -> Vec<IpAddr> {
    let status = Field::ROOT.key("status");
    let field = status.key("addresses");
    let mut read = Vec::new();
    for (index, address) in addresses.unwrap_or_default().into_iter().enumerate() {
        if matches!(address.type_.as_str(), "InternalIP" | "ExternalIP") {
            read.extend(checks.accept(&field.index(index).key("address"), syntax::ip(&address.address)));
        }
    }
    read
}

fn cpu_millis(allocatable: &BTreeMap<String, Quantity>, checks: &mut Checks<'_, '_>) -> Option<u64> {
    let status = Field::ROOT.key("status");
    let field = status.key("allocatable");
    checks.accept(&field.key("cpu"), quantity::millis(&allocatable.get("cpu")?.0))
}
