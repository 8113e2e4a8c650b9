//! The export `selector`.
#![allow(missing_docs, unreachable_pub, unused_qualifications, reason = "generated")]

use super::shared::pointsman::policy::types as shared;
use super::{Home, convert};
use crate::{Selector, SelectorInstance};
use exports::pointsman::policy::selector::{Grouping, Guest};

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package pointsman:sdk;
        world exports-selector { import pointsman:policy/log@0.1.0; export pointsman:policy/selector@0.1.0; }
    ",
    world: "pointsman:sdk/exports-selector",
    with: {
        "pointsman:policy/types@0.1.0": crate::glue::shared::pointsman::policy::types,
        "pointsman:policy/log@0.1.0": crate::glue::shared::pointsman::policy::log,
    },
    pub_export_macro: true,
    export_macro_name: "export",
    default_bindings_module: "pointsman_sdk::glue::selector",
});

impl<H> Guest for H
where
    H: Home<Instance = SelectorInstance<<H as Home>::Policy>>,
    H::Policy: Selector,
{
    fn plan(port: shared::ServicePort) -> Result<Grouping, String> {
        let grouping = H::with(|instance| instance.plan(&convert::service_port(port)))?;
        Ok(Grouping { groups: grouping.groups, data: grouping.data })
    }

    fn classify(service: u32, labels: Vec<shared::Label>) -> Option<u32> {
        let labels = convert::each(labels, convert::label);
        H::with(|instance| instance.classify(service, &labels))
    }

    fn adopt(service: u32, data: Vec<u8>) {
        H::with(|instance| instance.adopt(service, &data));
    }

    fn choose(connection: shared::Connection) -> Option<u32> {
        H::with(|instance| instance.choose(&convert::connection(connection)))
    }

    fn forget(service: u32) {
        H::with(|instance| instance.forget(service));
    }
}
