//! The export `balancer`.
#![allow(missing_docs, unreachable_pub, unused_qualifications, reason = "generated")]

use super::shared::pointsman::policy::types as shared;
use super::{Home, HostLoad, convert};
use crate::{Balancer, BalancerInstance};
use exports::pointsman::policy::balancer::Guest;

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package pointsman:sdk;
        world exports-balancer {
            import pointsman:policy/load@0.1.0;
            import pointsman:policy/log@0.1.0;
            export pointsman:policy/balancer@0.1.0;
        }
    ",
    world: "pointsman:sdk/exports-balancer",
    with: {
        "pointsman:policy/types@0.1.0": crate::glue::shared::pointsman::policy::types,
        "pointsman:policy/load@0.1.0": crate::glue::shared::pointsman::policy::load,
        "pointsman:policy/log@0.1.0": crate::glue::shared::pointsman::policy::log,
    },
    pub_export_macro: true,
    export_macro_name: "export",
    default_bindings_module: "pointsman_sdk::glue::balancer",
});

impl<H> Guest for H
where
    H: Home<Instance = BalancerInstance<<H as Home>::Policy>>,
    H::Policy: Balancer,
{
    fn plan(port: shared::ServicePort, members: Vec<shared::Endpoint>) -> Result<Vec<u8>, String> {
        let (port, members) = (convert::service_port(port), convert::each(members, convert::endpoint));
        H::with(|instance| instance.plan(&port, &members))
    }

    fn adopt(service: u32, set: u32, data: Vec<u8>) {
        H::with(|instance| instance.adopt(service, set, &data));
    }

    fn pick(connection: shared::Connection, set: u32) -> Option<u32> {
        H::with(|instance| instance.pick(&convert::connection(connection), set, &HostLoad))
    }

    fn forget(service: u32) {
        H::with(|instance| instance.forget(service));
    }
}
