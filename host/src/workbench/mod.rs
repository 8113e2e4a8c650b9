//! The workbench: policies are tried, measured and compared here, without sockets, in the sandbox and by the code that production uses.
//!
//! `subject` is what is tried; `report` is what every command says about it. A `recording` is read here, and seen again in a `replay`, with
//! the `components` that it names; a `diff` tries another balancer on its connections.

pub mod components;
pub mod diff;
#[cfg(test)]
mod fixture;
pub mod recording;
pub mod replay;
pub mod report;
pub mod subject;
