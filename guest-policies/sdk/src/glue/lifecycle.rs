//! The export `lifecycle`, the same in every stage.
#![allow(missing_docs, unreachable_pub, unused_qualifications, reason = "generated")]

use super::shared::pointsman::policy::types as shared;
use super::{Home, convert};
use crate::types;
use exports::pointsman::policy::lifecycle::{Description, Guest, Place};

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package pointsman:sdk;
        world exports-lifecycle { export pointsman:policy/lifecycle@0.1.0; }
    ",
    world: "pointsman:sdk/exports-lifecycle",
    with: {
        "pointsman:policy/types@0.1.0": crate::glue::shared::pointsman::policy::types,
    },
    pub_export_macro: true,
    export_macro_name: "export",
    default_bindings_module: "pointsman_sdk::glue::lifecycle",
});

impl<H: Home> Guest for H {
    fn describe() -> Description {
        let it = H::describe();
        Description { name: it.name, version: it.version, summary: it.summary }
    }

    fn configure(place: Place, node: shared::Node, settings: Vec<shared::Setting>) -> Result<(), String> {
        super::report_panics();
        let place = match place {
            Place::Planner => types::Place::Planner,
            Place::Worker(seed) => types::Place::Worker(seed),
        };
        H::configure(place, &convert::node(node), &convert::each(settings, convert::setting))
    }
}
