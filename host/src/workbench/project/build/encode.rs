//! From a core module to a component.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::Made;

/// Wraps a module that says in itself what it exports and imports.
pub(super) fn component(module: &[u8]) -> Made {
    let encoded = ComponentEncoder::default().validate(true).module(module).and_then(|mut encoder| encoder.encode());
    encoded.map_err(|error| {
        let text = format!("{error:#}");
        let remedy = if text.contains("wasi_snapshot_preview1") {
            ": it calls the C library for something that a policy does not have (output, files, time or the environment)"
        } else {
            ""
        };
        format!("the module does not fit the contract{remedy}\n  {text}")
    })
}

/// Tells a module which world of the contract it is for.
pub(super) fn with_types(module: &mut Vec<u8>, contract: &Path, world: &str) -> anyhow::Result<()> {
    let mut resolve = Resolve::default();
    let package = resolve.push_file(contract)?;
    let world = resolve.select_world(&[package], Some(world))?;
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8)
}
