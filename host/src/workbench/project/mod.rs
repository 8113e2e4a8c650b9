//! Policy projects: folders with a policy's source, its manifest and its tests.
//!
//! `new` writes one, `build` makes its component with the language's own toolchain, and `runner` is what cargo runs a Rust project's
//! `#[test]`s with, in the sandbox.

pub mod build;
pub mod manifest;
pub mod new;
pub mod runner;
mod templates;
