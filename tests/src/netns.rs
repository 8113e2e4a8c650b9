//! Network namespaces: nodes of their own on one machine, made and removed by the test that needs them.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::process::run;

/// A network namespace with its loopback up. Removed when dropped, with the links in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one; the name carries this process's id, so that no two runs meet.
    pub fn new(purpose: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pm-{}-{}-{purpose}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.run("ip", ["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Why namespaces cannot be made here; `None`: they can.
    pub fn unavailable() -> Option<String> {
        match Self::new("probe") {
            Ok(_) => None,
            Err(error) => Some(format!("network namespaces need root and iproute2 here: {error:#}")),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs inside it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Self::command_in(&self.name, program)
    }

    /// A command that runs inside the namespace of this name.
    pub fn command_in(name: &str, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", name]).arg(program);
        command
    }

    /// Runs a command inside it to its end.
    pub fn run<I: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = I>) -> Result<String> {
        run(self.command(program).args(arguments))
    }

    /// `sysctl -w net.KEY=VALUE`, the key with dots: `ipv4.ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{}", key.replace('.', "/"));
        self.enter(|| std::fs::write(&path, value).with_context(|| format!("writing {path}")))
    }

    /// An address on one of its links. IPv6 looks for no duplicates, so that it can be used at once.
    pub fn address(&self, link: &str, address: impl Into<IpAddr>, prefix: u8) -> Result<()> {
        let address = address.into();
        let nodad = if address.is_ipv6() { &["nodad"][..] } else { &[] };
        let address = format!("{address}/{prefix}");
        self.run("ip", ["addr", "add", &address, "dev", link].iter().chain(nodad)).map(drop)
    }

    /// `ip route add ROUTE`, in the family that the words say.
    pub fn route(&self, route: &str) -> Result<()> {
        let family = if route.contains("::") { "-6" } else { "-4" };
        self.run("ip", [family, "route", "add"].into_iter().chain(route.split(' '))).map(drop)
    }

    /// A cable to another: one link here, one there, both up.
    pub fn cable(&self, link: &str, other: &Self, other_link: &str) -> Result<()> {
        self.run("ip", ["link", "add", link, "type", "veth", "peer", "name", other_link, "netns", other.name()])?;
        self.run("ip", ["link", "set", link, "up"])?;
        other.run("ip", ["link", "set", other_link, "up"]).map(drop)
    }

    /// Runs `work` on a thread that has entered the namespace, so that its sockets belong there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = format!("/run/netns/{}", self.name);
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                let file = std::fs::File::open(path)?;
                nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)?;
                work()
            });
            match inside.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// Joins each namespace to a switch by a link named `eth0` there, with this address (`10.60.0.1/24`).
///
/// The switch is a bridge in a namespace of its own, so that the machine's network stays as it is.
pub fn switch(members: &[(&Namespace, &str)]) -> Result<Namespace> {
    let switch = Namespace::new("sw")?;
    switch.run("ip", ["link", "add", "br0", "type", "bridge"])?;
    switch.run("ip", ["link", "set", "br0", "up"])?;
    for (n, (namespace, address)) in members.iter().enumerate() {
        let port = format!("port{n}");
        switch.run("ip", ["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", namespace.name()])?;
        switch.run("ip", ["link", "set", &port, "master", "br0", "up"])?;
        namespace.run("ip", ["addr", "add", address, "dev", "eth0"])?;
        namespace.run("ip", ["link", "set", "eth0", "up"])?;
    }
    Ok(switch)
}
