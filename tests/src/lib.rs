//! The harness of the end-to-end tests, and of `cargo xtask demo`: it starts the real `pointsman` beside real and in-process backends,
//! all on addresses of 127.0.0.0/8 that belong to one test alone, and reads what the engine says about itself.

pub mod accounts;
pub mod backend;
pub mod cluster;
pub mod engine;
pub mod http;
pub mod load;
pub mod manifest;
pub mod metrics;
pub mod netns;
pub mod peers;
pub mod poll;
pub mod process;
pub mod range;
pub mod registry;
pub mod udp;

pub use backend::Backend;
pub use engine::{Bound, Engine};
pub use manifest::Manifests;
pub use range::Range;
