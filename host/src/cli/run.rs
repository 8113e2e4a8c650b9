//! `pointsman run`: from the command line to the engine's options.

use std::io;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::thread;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use super::args::{LogFormat, RunArgs, VipMode};
use super::{color, oci, setup};
use crate::admin::Token;
use crate::dataplane::{UdpLimits, anyip};
use crate::engine::{self, Options};

/// Runs the host until it is told to end.
pub(super) fn run(args: RunArgs, color: clap::ColorChoice) -> anyhow::Result<()> {
    start_log(args.log_format, color::wanted(color, &io::stderr()));
    let options = options(args)?;
    super::block_on(engine::run(options))
}

fn options(args: RunArgs) -> anyhow::Result<Options> {
    let (cluster, policies) = (&args.cluster, &args.policies);
    let vip_mode = match args.vip_mode {
        VipMode::Anyip => engine::VipMode::AnyIp,
        VipMode::Loopback => engine::VipMode::Loopback,
        VipMode::Auto if anyip::permitted() => engine::VipMode::AnyIp,
        VipMode::Auto => engine::VipMode::Loopback,
    };
    match vip_mode {
        engine::VipMode::AnyIp => tracing::info!("virtual addresses: routed to the loopback device (anyip)"),
        engine::VipMode::Loopback => tracing::info!("virtual addresses: 10.97.72.1 is bound as 127.97.72.1, and so on (loopback)"),
    }
    let own_addresses = own_addresses()?;
    let mut control = setup::control_settings(cluster, &own_addresses)?;
    if vip_mode == engine::VipMode::AnyIp {
        control.node_addresses.extend(own_addresses.iter().filter(|own| !cluster.node_ip.contains(own)));
    }
    if args.hash_secret_file.is_none() {
        tracing::info!("client hashes use the public key: a client could choose its endpoint under a hash policy (--hash-secret-file)");
    }
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Ok(Options {
        control,
        vip_mode,
        workers: args.workers.map_or(cores, NonZeroUsize::get),
        limits: policies.sandbox.limits(),
        policy_dir: policies.policy_dir.clone(),
        policy_cache: policies.policy_cache.clone(),
        policy_registries: policies.allow_policy_registry.clone(),
        puller: oci::puller(policies),
        pulled: oci::kept(policies)?,
        wasi_grants: policies.grant_wasi.iter().cloned().collect(),
        large_policies: policies.large_policy.iter().cloned().collect(),
        admin: args.admin,
        token: args.admin_token_file.as_deref().map(Token::from_file).transpose()?,
        decision_log: args.decision_log.clone(),
        record: args.record.options(args.hash_secret_file.is_some())?,
        hash_key: setup::hash_key(args.hash_secret_file.as_deref())?,
        max_connections: args.max_connections.map(|n| n.get() as usize),
        connect_timeout: args.connect_timeout,
        drain_timeout: args.drain_timeout,
        allow_exec_probes: args.allow_exec_probes,
        udp: UdpLimits {
            idle_timeout: args.udp_idle_timeout,
            stream_idle_timeout: args.udp_stream_idle_timeout,
            max_flows_per_client: args.max_udp_flows_per_client.get(),
        },
        own_addresses,
        files: cluster.files.clone(),
    })
}

fn own_addresses() -> anyhow::Result<Vec<IpAddr>> {
    let interfaces = nix::ifaddrs::getifaddrs().context("listing the machine's addresses")?;
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    Ok(interfaces.filter_map(address).collect())
}

fn start_log(format: LogFormat, color: bool) {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    // A log that cannot be set up twice is a fault of tests alone; the command sets it once.
    let _ = match format {
        LogFormat::Text => log.with_ansi(color).try_init(),
        LogFormat::Json => log.json().with_ansi(false).try_init(),
    };
}
