//! The workbench: policies are tried, measured and compared here, without sockets, in the sandbox and by the code that production uses.
//!
//! `subject` is what is tried, `component` makes one of a component; `stand` is a whole Service with everything that decides for it;
//! `laws` is what policies of a class promise, `metrics` what is measured; `report` is what every command says.

pub mod component;
pub mod fuzz;
pub mod laws;
pub mod metrics;
pub mod report;
pub mod stand;
pub mod subject;
pub mod testfile;
