//! Pointsman: a service router whose decisions are made by sandboxed WebAssembly components.
//!
//! Modules stand in the order in which data flows; each may import only what ARCHITECTURE.md says (`tests/tidy.rs` checks).

pub mod admin;
pub mod cli;
pub mod control;
pub mod dataplane;
pub mod engine;
pub mod objects;
pub mod observe;
pub mod policy;
pub mod probe;
pub mod route;
pub mod source;
pub mod store;
pub mod sys;
pub mod table;
pub mod workbench;
