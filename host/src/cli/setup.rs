//! What `run`, `route` and `check` read alike from the command line.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use super::args::{ClusterArgs, PolicyArgs};
use super::oci;
use crate::control;
use crate::control::node_ports::{NodePortAddresses, node_port_addresses};
use crate::engine::core::Core;
use crate::policy::Sandbox;
use crate::policy::compile::Compiler;
use crate::policy::contract::Node;
use crate::policy::directory::{DirectoryEvent, PolicyDirectory};
use crate::policy::registry::{Registry, RegistryOptions};
use crate::route::HashKey;
use crate::workbench::bounded;

/// The node and the ranges; `own` are the machine's addresses, as far as they are to count. Nothing is open to a network that nobody asked
/// for: without an option, node ports listen on 127.0.0.1 alone.
pub(super) fn control_settings(args: &ClusterArgs, own: &[IpAddr]) -> anyhow::Result<control::Settings> {
    let node_port_addresses = match (args.node_port_addresses.as_slice(), args.node_ip.as_slice()) {
        ([], []) => vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        ([], node) => node.to_vec(),
        (asked, node) => {
            let asked = asked.join(",");
            // An address that is named is meant, whether or not an interface has it: all of 127.0.0.0/8 can be bound.
            let named = asked.split(',').filter_map(|part| part.trim().parse().ok()).collect::<Vec<IpAddr>>();
            let asked: NodePortAddresses = asked.parse().context("--node-port-addresses")?;
            node_port_addresses(&asked, &[node, own, &named].concat())
        }
    };
    Ok(control::Settings {
        node: Node { name: node_name(args.node_name.as_deref())?, ..Node::default() },
        node_port_addresses,
        node_addresses: args.node_ip.clone(),
        service_ranges: args.service_cidr.clone(),
        node_port_range: args.node_port_range.clone(),
        pod_ranges: args.cluster_cidr.clone(),
        load_balancer_pools: args.load_balancer_pool.clone(),
    })
}

/// A core with a sandbox of its own, for commands that open no socket; and what was refused in `--policy-dir`.
pub(super) fn offline_core(cluster: &ClusterArgs, policies: &PolicyArgs) -> anyhow::Result<(Core, Vec<String>)> {
    let settings = control_settings(cluster, &[])?;
    let sandbox = Sandbox::with_cache(policies.sandbox.limits(), Compiler::of_this_program(), policies.policy_cache.as_deref())?;
    let options = RegistryOptions {
        node: settings.node.clone(),
        wasi_grants: policies.grant_wasi.iter().cloned().collect(),
        large: policies.large_policy.iter().cloned().collect(),
        ..RegistryOptions::default()
    };
    let registry = Registry::new(sandbox, options);
    let mut refused = vec![];
    if let Some(dir) = &policies.policy_dir {
        let (_, events) = PolicyDirectory::open(dir.clone(), Arc::clone(&registry))?;
        refused.extend(events.into_iter().filter_map(|event| match event {
            DirectoryEvent::Refused { name, reason } => Some(format!("policy \"{name}\" was refused: {reason}")),
            DirectoryEvent::Swapped(_) => None,
        }));
    }
    let mut core = Core::new(cluster.files.clone(), settings, registry).allowing(policies.allow_policy_registry.clone(), false);
    if let Some(cache) = oci::kept(policies)? {
        core.reload(0);
        let taken = core.take_cached(&oci::puller(policies), &cache);
        let unfit = taken.into_iter().filter_map(|(reference, result)| Some((reference, result.err()?)));
        refused.extend(unfit.map(|(reference, reason)| format!("policy \"{reference}\" was refused: {reason}")));
    }
    Ok((core, refused))
}

/// The key of `client-hash`: from the secret in the file, else the public one.
pub(super) fn hash_key(file: Option<&Path>) -> anyhow::Result<HashKey> {
    let Some(file) = file else {
        return Ok(HashKey::PUBLIC);
    };
    Ok(HashKey::from_secret(&secret("--hash-secret-file", file)?))
}

/// The secret in a flag's file.
pub(super) fn secret(flag: &str, file: &Path) -> anyhow::Result<String> {
    let secret = bounded::text(file, MAX_SECRET_BYTES, "a secret is a line").context(flag.to_owned())?;
    anyhow::ensure!(!secret.trim().is_empty(), "{flag} {}: the file is empty; write a secret into it", file.display());
    Ok(secret.trim().to_owned())
}

/// Bytes of a secret.
const MAX_SECRET_BYTES: usize = 64 << 10;

/// `--node-name`, else the machine's name in lower case, as Kubernetes does it.
fn node_name(given: Option<&str>) -> anyhow::Result<String> {
    match given {
        Some(name) => Ok(name.to_owned()),
        None => Ok(nix::unistd::gethostname().context("reading the machine's name")?.to_string_lossy().to_lowercase()),
    }
}
