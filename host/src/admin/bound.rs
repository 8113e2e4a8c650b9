//! What is listened on, and what is not.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The answer of `/bound`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Every frontend with a listener.
    pub frontends: Vec<BoundFrontend>,
    /// The admin port, with its real number where 0 was asked.
    pub admin: Option<SocketAddr>,
    /// Every frontend without one, and why.
    pub not_served: Vec<NotServed>,
}

/// A frontend with a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundFrontend {
    /// `default/web:http`.
    pub service: String,
    /// `cluster-ip`, `node-port`, `external-ip`, `load-balancer` or `host-port`.
    pub frontend: String,
    /// What the objects name.
    pub address: SocketAddr,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Where it listens: another address with `--vip-mode loopback`.
    pub bound: SocketAddr,
}

/// A frontend without a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotServed {
    /// What the objects name.
    pub address: SocketAddr,
    /// `default/web:http`.
    pub service: String,
    /// For people: what is in the way, and what to do.
    pub why: String,
}
