//! Node.

use k8s_openapi::api::core::v1 as core;

use super::metadata::meta;
use super::model::{Kind, Location, Node};
use super::problems::Checks;
use super::syntax;
use super::tree::Field;

/// The label that names a node's zone.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

pub(super) fn node(typed: core::Node, location: Location, checks: &mut Checks<'_, '_>) -> Node {
    let meta = meta(Kind::Node, typed.metadata, location, checks);
    let (status, zone) = (Field::ROOT.key("status"), meta.labels.get(ZONE_LABEL).cloned());
    let field = status.key("addresses");
    let mut addresses = Vec::new();
    for (index, address) in typed.status.and_then(|status| status.addresses).unwrap_or_default().into_iter().enumerate() {
        if matches!(address.type_.as_str(), "InternalIP" | "ExternalIP") {
            addresses.extend(checks.accept(&field.index(index).key("address"), syntax::ip(&address.address)));
        }
    }
    Node { meta, zone, addresses, ..Node::default() }
}
