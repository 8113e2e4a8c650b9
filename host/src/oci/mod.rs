//! Policies as artifacts in OCI registries: what they look like there, the client that pushes and pulls them, and what was pulled, kept
//! by digest. References themselves are [`crate::objects::reference`]'s: annotations are written in them.
//!
//! The protocol is the OCI distribution specification 1.1 with Docker's token authentication; the form of the artifact is the one that
//! the CNCF's Wasm working group settled, so other tools read what is pushed here.

mod artifact;
mod cache;
mod challenge;
mod client;
mod error;
mod helper;
mod http;
mod logins;
mod session;
mod tls;
mod url;

#[cfg(test)]
mod tests;

use sha2::{Digest as _, Sha256};

pub use artifact::Artifact;
pub use cache::{Cache, default_folder};
pub use client::{Client, Options, Pulled};
pub use error::Error;
pub use logins::{Login, Logins};

use crate::objects::reference::Digest;

/// The digest by which registries know these bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}
