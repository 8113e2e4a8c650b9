//! The workbench: policies are tried, measured and compared here, without sockets, in the sandbox and by the code that production uses.
//!
//! `subject` is what is tried; `report` is what every command says about it; `project`
//! is where policies are written and built.

pub mod project;
pub mod report;
pub mod subject;
