//! The life of a host: wires source, control, policies, data plane and admin, and ends them in order. `core` is the same without
//! sockets, which `route` and `check` use.

mod addresses;
mod canaries;
mod control_loop;
pub mod core;
mod health;
pub mod offline;
mod options;
mod pulls;
mod references;
mod report;
mod run;

pub use options::{Options, Record, VipMode};
pub use run::run;
