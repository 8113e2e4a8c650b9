//! What a host is told at start.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::admin::Token;
use crate::control;
use crate::dataplane::UdpLimits;
use crate::objects::reference::Repositories;
use crate::oci;
use crate::policy::limits::Limits;
use crate::policy::tape::Terms;
use crate::route::HashKey;

/// How virtual addresses come to this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VipMode {
    /// Routed to the loopback device (CAP_NET_ADMIN): any address can be bound.
    AnyIp,
    /// 10.97.72.1 is bound as 127.97.72.1: no privileges.
    Loopback,
}

/// A recording that is to be made.
#[derive(Clone, Debug)]
pub struct Record {
    /// The file.
    pub file: PathBuf,
    /// It grows to so many bytes.
    pub limit_bytes: u64,
    /// What is in it.
    pub terms: Terms,
}

/// Everything `run` needs.
pub struct Options {
    /// Manifests.
    pub files: Vec<PathBuf>,
    /// Node, ranges, addresses.
    pub control: control::Settings,
    /// Virtual addresses.
    pub vip_mode: VipMode,
    /// Worker threads.
    pub workers: usize,
    /// Policies from files, watched.
    pub policy_dir: Option<PathBuf>,
    /// Compiled policies, kept.
    pub policy_cache: Option<PathBuf>,
    /// Where Services may name policies by reference.
    pub policy_registries: Vec<Repositories>,
    /// By whom they are pulled.
    pub puller: oci::Client,
    /// What was pulled, kept.
    pub pulled: Option<oci::Cache>,
    /// Policies that may import WASI.
    pub wasi_grants: BTreeSet<String>,
    /// Policies that bring a language runtime along.
    pub large_policies: BTreeSet<String>,
    /// The sandbox's limits.
    pub limits: Limits,
    /// Where the admin server listens.
    pub admin: SocketAddr,
    /// Its token.
    pub token: Option<Token>,
    /// `-` is stdout.
    pub decision_log: Option<PathBuf>,
    /// Where decisions are recorded.
    pub record: Option<Record>,
    /// Of `client-hash`.
    pub hash_key: HashKey,
    /// Of this process.
    pub max_connections: Option<usize>,
    /// For one endpoint.
    pub connect_timeout: Duration,
    /// How long SIGTERM waits for connections.
    pub drain_timeout: Duration,
    /// Whether `exec` probes run on this host.
    pub allow_exec_probes: bool,
    /// Of UDP flows.
    pub udp: UdpLimits,
    /// The machine's own addresses, which are bound as they are.
    pub own_addresses: Vec<IpAddr>,
}
