//! Virtual addresses by AnyIP: `ip route add local 10.96.0.0/12 dev lo` makes every address of a range this machine's own. Needs
//! CAP_NET_ADMIN; what was added is removed at exit.

use std::collections::BTreeSet;
use std::io;

use ipnet::IpNet;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder, new_connection};
use tokio::task::JoinHandle;

/// The index of `lo` in every network namespace: it is made first.
const LOOPBACK_INDEX: u32 = 1;
/// The kernel's table of this machine's addresses (`rtnetlink(7)`, RT_TABLE_LOCAL).
const LOCAL_TABLE: u32 = 255;
/// `capabilities(7)`.
const CAP_NET_ADMIN: u32 = 12;

/// Whether this process may change routes.
pub fn permitted() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective(&status) & (1 << CAP_NET_ADMIN) != 0
}

/// The local routes of this process.
pub struct AnyIp {
    handle: Handle,
    netlink: JoinHandle<()>,
    added: BTreeSet<IpNet>,
}

impl AnyIp {
    /// Opens netlink. Needs a tokio runtime.
    pub fn open() -> io::Result<Self> {
        let (connection, handle, _) = new_connection()?;
        Ok(Self { handle, netlink: tokio::spawn(connection), added: BTreeSet::new() })
    }

    /// Makes these ranges local, and no others that this process made so before. Returns those that failed, with the reason. A range
    /// that somebody else made local is left alone, now and at the end.
    pub async fn ensure(&mut self, wanted: &[IpNet]) -> Vec<(IpNet, String)> {
        let wanted: BTreeSet<IpNet> = wanted.iter().map(IpNet::trunc).collect();
        let mut failed = Vec::new();
        for range in wanted.difference(&self.added.clone()) {
            match self.handle.route().add(route(*range)).execute().await {
                Ok(()) => drop(self.added.insert(*range)),
                Err(error) if exists(&error) => {}
                Err(error) => failed.push((*range, format!("cannot make {range} local (`ip route add local {range} dev lo`): {error}"))),
            }
        }
        let unwanted: Vec<IpNet> = self.added.difference(&wanted).copied().collect();
        for range in unwanted {
            self.delete(range).await;
            self.added.remove(&range);
        }
        failed
    }

    /// Removes what was added.
    pub async fn remove(mut self) {
        for range in std::mem::take(&mut self.added) {
            self.delete(range).await;
        }
        self.netlink.abort();
    }

    async fn delete(&self, range: IpNet) {
        if let Err(error) = self.handle.route().del(route(range)).execute().await {
            tracing::warn!("cannot remove the local route of {range} (`ip route del local {range} dev lo`): {error}");
        }
    }
}

fn route(range: IpNet) -> RouteMessage {
    match range {
        IpNet::V4(range) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .destination_prefix(range.network(), range.prefix_len())
            .output_interface(LOOPBACK_INDEX)
            .table_id(LOCAL_TABLE)
            .kind(RouteType::Local)
            .scope(RouteScope::Host)
            .build(),
        IpNet::V6(range) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .destination_prefix(range.network(), range.prefix_len())
            .output_interface(LOOPBACK_INDEX)
            .table_id(LOCAL_TABLE)
            .kind(RouteType::Local)
            .scope(RouteScope::Universe)
            .build(),
    }
}

fn exists(error: &rtnetlink::Error) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -(nix::errno::Errno::EEXIST as i32))
}

fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_effective_mask() {
        let status = |mask: &str| format!("Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t{mask}\nCapBnd:\t000001ffffffffff\n");
        assert_eq!(effective(&status("0000000000001000")) & (1 << CAP_NET_ADMIN), 1 << CAP_NET_ADMIN);
        assert_eq!(effective(&status("000001ffffffefff")) & (1 << CAP_NET_ADMIN), 0);
        assert_eq!(effective(""), 0);
    }
}
