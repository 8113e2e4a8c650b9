//! Virtual addresses by AnyIP: `ip route add local 10.96.0.0/12 dev lo` makes every address of a range this machine's own. Needs
//! CAP_NET_ADMIN; what was added is removed at exit.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder, new_connection};
use tokio::task::JoinHandle;

/// The index of `lo` in every network namespace: it is made first.
pub(super) const LOOPBACK_INDEX: u32 = 1;
/// The kernel's table of this machine's addresses (`rtnetlink(7)`, RT_TABLE_LOCAL).
const LOCAL_TABLE: u32 = 255;
/// Whose routes these are, in a number that `rtnetlink(7)` leaves to users: the kernel deletes a route only under the number that it
/// was added with. `ip route show table local proto 112` lists them.
pub(super) const PROTOCOL: RouteProtocol = RouteProtocol::Other(112);
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
    wanted: BTreeSet<IpNet>,
}

impl AnyIp {
    /// Opens netlink. Needs a tokio runtime.
    pub fn open() -> io::Result<Self> {
        let (connection, handle, _) = new_connection()?;
        Ok(Self { handle, netlink: tokio::spawn(connection), added: BTreeSet::new(), wanted: BTreeSet::new() })
    }

    /// Makes these ranges local, and in the end no others that this process made so before. Returns those that failed, with the reason. A
    /// range that somebody else made local is left alone, now and at the end.
    pub async fn ensure(&mut self, wanted: &[IpNet]) -> Vec<(IpNet, String)> {
        self.wanted = wanted.iter().map(IpNet::trunc).collect();
        let mut failed = Vec::new();
        for range in self.wanted.difference(&self.added.clone()) {
            match self.add(*range).await {
                Ok(true) => drop(self.added.insert(*range)),
                Ok(false) => {}
                Err(error) => failed.push((*range, format!("cannot make {range} local (`ip route add local {range} dev lo`): {error}"))),
            }
        }
        self.tidy().await;
        failed
    }

    /// Removes the routes that are not wanted any more, once no connection lives on their addresses: it would stall without. To be called
    /// now and then.
    pub async fn tidy(&mut self) {
        let unwanted: Vec<IpNet> = self.added.difference(&self.wanted).copied().collect();
        if unwanted.is_empty() {
            return;
        }
        let live = live_addresses();
        for range in unwanted {
            if !live.iter().any(|address| range.contains(address)) {
                self.delete(range).await;
                self.added.remove(&range);
            }
        }
    }

    /// Removes what was added.
    pub async fn remove(mut self) {
        for range in std::mem::take(&mut self.added) {
            self.delete(range).await;
        }
        self.netlink.abort();
    }

    /// Adds a route. False: somebody else has it. One that a host left behind when it was killed is known by its protocol, and taken over.
    async fn add(&self, range: IpNet) -> Result<bool, rtnetlink::Error> {
        let add = || self.handle.route().add(route(range)).execute();
        match add().await {
            Err(error) if exists(&error) => match self.handle.route().del(route(range)).execute().await {
                Ok(()) => add().await.map(|()| true),
                Err(_) => Ok(false),
            },
            added => added.map(|()| true),
        }
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
            .protocol(PROTOCOL)
            .kind(RouteType::Local)
            .scope(RouteScope::Host)
            .build(),
        IpNet::V6(range) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(range.network(), range.prefix_len())
            .output_interface(LOOPBACK_INDEX)
            .table_id(LOCAL_TABLE)
            .protocol(PROTOCOL)
            .kind(RouteType::Local)
            .scope(RouteScope::Universe)
            .build(),
    }
}

/// The machine's addresses that TCP connections live on.
fn live_addresses() -> BTreeSet<IpAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"].into_iter().flat_map(|path| local_addresses(&read(path))).collect()
}

/// Lines of `net/ipv4/tcp_ipv4.c`, `get_tcp4_sock`, and its like for IPv6: number, local address and port, remote ones, state. An address
/// is one or four words of the machine's own byte order, in hexadecimal. Sockets that listen or wait for their end do not count.
fn local_addresses(sockets: &str) -> BTreeSet<IpAddr> {
    let address = |line: &str| {
        let mut fields = line.split_whitespace();
        let (local, state) = (fields.nth(1)?.split_once(':')?.0, fields.nth(1)?);
        let words = local.as_bytes().chunks(8).map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok());
        let bytes: Vec<u8> = words.collect::<Option<Vec<u32>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
        let address = match bytes.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
            _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
        };
        (![LISTEN, TIME_WAIT].contains(&state)).then_some(address)
    };
    sockets.lines().filter_map(address).collect()
}

/// States of `net/tcp_states.h`, as `/proc` writes them.
const LISTEN: &str = "0A";
const TIME_WAIT: &str = "06";

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
    fn addresses_of_live_connections_are_read_from_proc() {
        let sockets = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0000000000000000 100 0 0 10 0
   1: 0602A8C0:0050 0501A8C0:C35A 01 00000000:00000000 00:00000000 00000000     0        0 12346 1 0000000000000000 20 4 30 10 -1
   2: 0702A8C0:0050 0501A8C0:C35B 06 00000000:00000000 00:00000000 00000000     0        0 0 3 0000000000000000
   3: 000000FD00000000000000000500000A:0050 000000FD000000000000000006000000:C35B 01 00000000:00000000 00:00000000 00000000     0
   4: 0000000000000000FFFF00000802A8C0:0050 0000000000000000FFFF00000501A8C0:C35C 04 00000000:00000000 00:00000000 00000000     0
";
        let expected: BTreeSet<IpAddr> =
            ["192.168.2.6", "fd00::a00:5", "192.168.2.8"].into_iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(local_addresses(sockets), expected);
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
