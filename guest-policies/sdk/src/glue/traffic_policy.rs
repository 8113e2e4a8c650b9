//! The export `traffic-policy`.
#![allow(missing_docs, unreachable_pub, unused_qualifications, reason = "generated")]

use super::shared::pointsman::policy::types as shared;
use super::{Home, convert};
use crate::{TrafficPolicy, TrafficPolicyInstance};
use exports::pointsman::policy::traffic_policy as wit;

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package pointsman:sdk;
        world exports-traffic-policy { import pointsman:policy/log@0.1.0; export pointsman:policy/traffic-policy@0.1.0; }
    ",
    world: "pointsman:sdk/exports-traffic-policy",
    with: {
        "pointsman:policy/types@0.1.0": crate::glue::shared::pointsman::policy::types,
        "pointsman:policy/log@0.1.0": crate::glue::shared::pointsman::policy::log,
    },
    pub_export_macro: true,
    export_macro_name: "export",
    default_bindings_module: "pointsman_sdk::glue::traffic_policy",
});

impl<H> wit::Guest for H
where
    H: Home<Instance = TrafficPolicyInstance<<H as Home>::Policy>>,
    H::Policy: TrafficPolicy,
{
    fn plan(port: shared::ServicePort, endpoints: Vec<shared::Endpoint>) -> Result<wit::Partition, String> {
        let (port, endpoints) = (convert::service_port(port), convert::each(endpoints, convert::endpoint));
        let partition = H::with(|instance| instance.plan(&port, &endpoints))?;
        let subset = |subset: crate::types::Subset| wit::Subset { name: subset.name, members: subset.members };
        Ok(wit::Partition { subsets: convert::each(partition.subsets, subset), data: partition.data })
    }

    fn adopt(service: u32, data: Vec<u8>) {
        H::with(|instance| instance.adopt(service, &data));
    }

    fn choose(connection: shared::Connection, group: Option<u32>) -> wit::Verdict {
        match H::with(|instance| instance.choose(&convert::connection(connection), group)) {
            crate::types::Verdict::Forward(subset) => wit::Verdict::Forward(subset),
            crate::types::Verdict::Reject => wit::Verdict::Reject,
            crate::types::Verdict::Drop => wit::Verdict::Drop,
        }
    }

    fn forget(service: u32) {
        H::with(|instance| instance.forget(service));
    }
}
