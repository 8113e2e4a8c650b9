//! The workbench: policies are tried, measured and compared here, without sockets, in the sandbox and by the code that production uses.
//!
//! `subject` is what is tried; `metrics` what is measured; `report` what every command says about it.

pub mod metrics;
pub mod report;
pub mod subject;
