//! The workbench: policies are tried, measured and compared here, without sockets, in the sandbox and by the code that production uses.
//!
//! `project` is where policies are written and built. `subject` is what is tried: `component` makes one of a component, `native` one that needs no
//! sandbox. `stand` is a whole Service with everything that decides for it; `testfile` tests as data, `laws` what policies of a class promise,
//! `cost`, `fuzz` and `sim` what they are called. A `recording` is read here, and seen again in a `replay`, with the `components` that it names; a
//! `diff` tries another balancer on its connections, `shadow` is what a running host counted of one that it tries. `metrics` is what is measured,
//! `report` what every command says of it; `bounded` and `located` read files.

pub(crate) mod bounded;
pub mod component;
pub mod components;
pub mod cost;
pub mod diff;
#[cfg(test)]
mod fixture;
pub mod fuzz;
pub mod laws;
pub(crate) mod located;
pub mod metrics;
pub mod native;
pub mod project;
pub mod recording;
pub mod replay;
pub mod report;
pub mod shadow;
pub mod sim;
pub mod stand;
pub mod subject;
pub mod testfile;
