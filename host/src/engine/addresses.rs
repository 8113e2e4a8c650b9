//! Where frontends are bound, and what had to be added to the machine for it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use ipnet::IpNet;

use super::{Options, VipMode};
use crate::control::vip::Loopback;
use crate::dataplane::anyip::AnyIp;
use crate::dataplane::transparent::{self, Transparent};
use crate::table::{Frontend, FrontendKey, FrontendKind, ServiceId, Table};

/// The mode, with what it has done so far.
pub(super) enum Addresses {
    AnyIp { routes: AnyIp, ranges: Vec<IpNet>, own: Vec<IpAddr>, kept: Kept },
    Loopback(Loopback),
}

impl Addresses {
    /// `in_force` tells the workers whether clients' addresses can be kept.
    pub(super) fn new(options: &Options, in_force: Arc<AtomicBool>) -> anyhow::Result<Self> {
        Ok(match options.vip_mode {
            VipMode::AnyIp => Self::AnyIp {
                routes: AnyIp::open().context("opening netlink for --vip-mode anyip")?,
                ranges: options.control.service_ranges.clone(),
                own: options.own_addresses.clone(),
                kept: Kept { rules: None, failed: false, in_force },
            },
            VipMode::Loopback => Self::Loopback(Loopback::new(options.own_addresses.iter().map(|address| IpNet::from(*address)))),
        })
    }

    /// Makes the addresses of `next` bindable. Work only where the frontends changed.
    pub(super) async fn prepare(&mut self, before: &Table, next: &Table) -> Vec<String> {
        if next.generation > 1 && before.frontends.ptr_eq(&next.frontends) {
            return vec![];
        }
        match self {
            Self::AnyIp { routes, ranges, own, .. } => {
                let beyond = next.frontends.iter().filter(|(key, frontend)| {
                    matches!(frontend.kind, FrontendKind::ExternalIp | FrontendKind::LoadBalancer)
                        && !own.contains(&key.ip)
                        && !key.ip.is_loopback()
                        && !ranges.iter().any(|range| range.contains(&key.ip))
                });
                let hosts: BTreeSet<IpNet> = beyond.map(|(key, _)| IpNet::from(key.ip)).collect();
                let wanted: Vec<IpNet> = ranges.iter().copied().chain(hosts).collect();
                let failed = routes.ensure(&wanted).await;
                failed.into_iter().map(|(range, why)| format!("{range} could not be routed to this machine: {why}")).collect()
            }
            Self::Loopback(map) => {
                let addresses = next.frontends.keys().map(|key| key.ip).collect();
                map.assign(&addresses).iter().map(ToString::to_string).collect()
            }
        }
    }

    /// Sets up what keeping clients' addresses needs, where a changed Service asks for it.
    pub(super) async fn keep_clients(&mut self, table: &Table, changed: &[ServiceId]) -> Option<String> {
        let asks = |id: &ServiceId| table.port(*id).is_some_and(|port| transparent::wanted(port));
        match self {
            Self::AnyIp { kept, .. } if changed.iter().any(asks) => kept.set_up().await,
            _ => None,
        }
    }

    pub(super) async fn tidy(&mut self) {
        if let Self::AnyIp { routes, .. } = self {
            routes.tidy().await;
        }
    }

    pub(super) fn bound(&self, key: &FrontendKey, _: &Frontend) -> Result<SocketAddr, String> {
        let ip = match self {
            Self::AnyIp { .. } => key.ip,
            Self::Loopback(map) => map.bound(key.ip).ok_or_else(|| "no loopback address stands for it; use --vip-mode anyip".to_owned())?,
        };
        Ok(SocketAddr::new(ip, key.port))
    }

    pub(super) async fn remove(self) {
        if let Self::AnyIp { routes, kept, .. } = self {
            routes.remove().await;
            if let Some(rules) = kept.rules {
                rules.remove().await;
            }
        }
    }
}

/// The rules by which endpoints see clients' addresses: added when the first Service asks for it.
pub(super) struct Kept {
    rules: Option<Transparent>,
    failed: bool,
    in_force: Arc<AtomicBool>,
}

impl Kept {
    /// Why it cannot be had, the first time.
    async fn set_up(&mut self) -> Option<String> {
        if self.rules.is_some() || self.failed {
            return None;
        }
        match Transparent::install().await {
            Ok(rules) => {
                self.rules = Some(rules);
                self.in_force.store(true, Ordering::Relaxed);
                tracing::info!("clients' addresses are kept for externalTrafficPolicy: Local (nftables table `inet pointsman`)");
                None
            }
            Err(why) => {
                self.failed = true;
                Some(format!("externalTrafficPolicy: Local cannot keep clients' addresses, endpoints see this node: {why}"))
            }
        }
    }
}
