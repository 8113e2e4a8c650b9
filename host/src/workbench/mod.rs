//! The workbench: policies are tried, measured and compared here, without sockets, in the sandbox and by the code that production uses.
//!
//! `subject` is what is tried, `native` one that needs no sandbox; `metrics` what is measured; `sim` the simulator; `report` what every
//! command says about it; `located` reads files.

mod located;
pub mod metrics;
pub mod native;
pub mod report;
pub mod sim;
pub mod subject;
