//! The control side against a native planner that counts what it is asked.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod addresses;
mod endpoints;
mod findings;
mod history;
mod increments;
mod policies;
mod settings;
mod support;
