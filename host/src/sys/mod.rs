//! The only module with `unsafe`: small safe wrappers around what neither the standard library nor a kept crate offers safely.

pub mod artifact;
pub mod datagrams;
pub mod watch;
