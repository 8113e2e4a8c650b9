//! The control side against a native planner that counts what it is asked.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod addresses;
mod endpoints;
mod findings;
mod hints;
mod history;
mod increments;
mod mirroring;
mod policies;
mod probes;
mod settings;
mod slice_churn;
mod slices;
mod support;
