//! The control side against a native planner that counts what it is asked.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod addresses;
mod endpoints;
mod families;
mod findings;
mod health_checks;
mod hints;
mod history;
mod host_ports;
mod increments;
mod load_balancers;
mod mirroring;
mod policies;
mod probes;
mod scarcity;
mod settings;
mod shadows;
mod slice_churn;
mod slices;
mod support;
