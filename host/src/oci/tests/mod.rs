//! The client against registries that are made up: good ones, strict ones and liars. The real one is asked by the process-level tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod fake;
mod rights;
mod slowness;

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Artifact, Cache, Client, Error, Login, Logins, Options, Pulled};
use crate::objects::reference::Reference;

/// Not a component: the client does not look inside.
fn artifact() -> Artifact {
    Artifact::of_component(Bytes::from_static(b"a component"), &[], &[]).unwrap()
}

fn client(logins: Logins) -> Client {
    Client::new(options(logins))
}

fn options(logins: Logins) -> Options {
    Options { plain_http: false, logins, max_component_bytes: 1 << 20, max_large_bytes: 2 << 20, large: BTreeSet::new() }
}

fn alice() -> Logins {
    Logins::Given(Login::new("alice", "wonder").unwrap())
}

fn reference(address: std::net::SocketAddr, rest: &str) -> Reference {
    format!("{address}/{rest}").parse().unwrap()
}

async fn pull(reference: &Reference) -> Result<Pulled, Error> {
    client(Logins::Nobody).pull(reference, None).await
}

/// What the error says of every failure that a user may meet.
fn said<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}
