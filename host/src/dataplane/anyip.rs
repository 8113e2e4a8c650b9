//! Virtual addresses by AnyIP: `ip route add local 10.96.0.0/12 dev lo` makes every address of a range this machine's own. Needs
//! CAP_NET_ADMIN; what was added is removed at exit.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder, new_connection};
use tokio::task::JoinHandle;

/// The index of `lo` in every network namespace: it is made first.
const LOOPBACK_INDEX: u32 = 1;
/// The kernel's table of this machine's addresses (`rtnetlink(7)`, RT_TABLE_LOCAL).
const LOCAL_TABLE: u32 = 255;
/// `linux/ipv6_route.h`.
const RTF_LOCAL: u128 = 0x8000_0000;
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
        IpNet::V4(range) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(range.network(), range.prefix_len())
            .output_interface(LOOPBACK_INDEX)
            .table_id(LOCAL_TABLE)
            .kind(RouteType::Local)
            .scope(RouteScope::Host)
            .build(),
        IpNet::V6(range) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(range.network(), range.prefix_len())
            .output_interface(LOOPBACK_INDEX)
            .table_id(LOCAL_TABLE)
            .kind(RouteType::Local)
            .scope(RouteScope::Universe)
            .build(),
    }
}

/// Whether a local route covers this address.
pub(super) fn is_local(address: Ipv6Addr) -> bool {
    covers(&std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default(), address)
}

/// Lines of `net/ipv6/route.c`, `rt6_info_route`: destination, prefix length, source and its length, next hop, metric, two counts, flags,
/// interface; numbers in hexadecimal.
fn covers(routes: &str, address: Ipv6Addr) -> bool {
    routes.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [destination, length, .., flags, _interface] = fields[..] else { return false };
        let number = |text| u128::from_str_radix(text, 16).ok();
        let (Some(destination), Some(length), Some(flags)) = (number(destination), number(length), number(flags)) else { return false };
        let differing = (destination ^ address.to_bits()).leading_zeros();
        flags & RTF_LOCAL != 0 && u128::from(differing) >= length
    })
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
    #[test]
    fn only_local_routes_make_an_address_this_machines() {
        let routes = "\
fd000010000000000000000000000000 70 00000000000000000000000000000000 00 00000000000000000000000000000000 00000400 00000001 00000000 80000001       lo
fd000020000000000000000000000000 70 00000000000000000000000000000000 00 00000000000000000000000000000000 00000400 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
";
        let covers = |address: &str| covers(routes, address.parse().unwrap());
        assert!(covers("fd00:10::5") && covers("fd00:10::ffff"));
        assert!(!covers("fd00:10::1:0") && !covers("fd00:20::5") && !covers("::2"));
    }
}
