//! A folder of manifests as a user would write them, and the few shapes that most tests need.

use std::fmt::{Display, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// A folder that an engine watches. Gone when dropped.
#[derive(Debug)]
pub struct Manifests {
    folder: TempDir,
}

impl Manifests {
    /// An empty folder.
    pub fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::Builder::new().prefix("pointsman-manifests-").tempdir()? })
    }

    /// A folder with one file.
    pub fn with(name: &str, text: &str) -> Result<Self> {
        let manifests = Self::new()?;
        manifests.write(name, text)?;
        Ok(manifests)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a file there in one step, as editors and `kubectl` do; the name under which it is written first is not a manifest's.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        let draft = self.path().join(format!(".{name}.draft"));
        std::fs::write(&draft, text).with_context(|| format!("writing {}", draft.display()))?;
        std::fs::rename(&draft, &path)?;
        Ok(path)
    }

    /// Takes a file away.
    pub fn remove(&self, name: &str) -> Result<()> {
        std::fs::remove_file(self.path().join(name)).with_context(|| format!("removing {name}"))
    }
}

/// A Service, as text that grows field by field.
#[derive(Clone, Debug)]
pub struct Service {
    name: String,
    annotations: String,
    spec: String,
    ports: String,
    status: String,
}

impl Service {
    /// A Service of the namespace `default`.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), annotations: String::new(), spec: String::new(), ports: String::new(), status: String::new() }
    }

    /// `pointsman.dev/KEY: "VALUE"`.
    pub fn annotation(mut self, key: &str, value: impl Display) -> Self {
        let _ = writeln!(self.annotations, "    pointsman.dev/{key}: \"{value}\"");
        self
    }

    /// `KEY: VALUE` in the spec.
    pub fn spec(mut self, key: &str, value: impl Display) -> Self {
        let _ = writeln!(self.spec, "  {key}: {value}");
        self
    }

    /// `clusterIP`.
    pub fn cluster_ip(self, ip: Ipv4Addr) -> Self {
        self.spec("clusterIP", ip)
    }

    /// One equality of the selector; may be said once.
    pub fn selector(self, key: &str, value: &str) -> Self {
        self.spec("selector", format!("{{{key}: {value}}}"))
    }

    /// An entry of `ports`, as `{port: 80, targetPort: 8080}`.
    pub fn port(mut self, port: impl Display) -> Self {
        let _ = writeln!(self.ports, "  - {port}");
        self
    }

    /// `status.loadBalancer.ingress`.
    pub fn ingress(mut self, ip: Ipv4Addr) -> Self {
        let _ = write!(self.status, "status:\n  loadBalancer:\n    ingress:\n    - ip: {ip}\n");
        self
    }

    /// The manifest.
    pub fn yaml(&self) -> String {
        let Self { name, annotations, spec, ports, status } = self;
        let annotations = if annotations.is_empty() { String::new() } else { format!("  annotations:\n{annotations}") };
        let ports = if ports.is_empty() { String::new() } else { format!("  ports:\n{ports}") };
        format!("---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n{annotations}spec:\n{spec}{ports}{status}")
    }
}

/// An Endpoints object with these addresses, for a Service with one unnamed port.
pub fn endpoints(name: &str, addresses: &[SocketAddr]) -> String {
    endpoints_with(name, "", addresses, &[])
}

/// An Endpoints object with ready and not-ready addresses, for the Service port of this name.
pub fn endpoints_with(name: &str, port_name: &str, ready: &[SocketAddr], not_ready: &[SocketAddr]) -> String {
    let mut text = format!("---\napiVersion: v1\nkind: Endpoints\nmetadata:\n  name: {name}\nsubsets:");
    if ready.is_empty() && not_ready.is_empty() {
        text.push_str(" []\n");
        return text;
    }
    text.push('\n');
    let port_name = if port_name.is_empty() { String::new() } else { format!(", name: {port_name}") };
    for (field, addresses) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
        for address in addresses {
            let (ip, port) = (address.ip(), address.port());
            let _ = write!(text, "- {field}:\n  - ip: {ip}\n  ports:\n  - {{port: {port}{port_name}}}\n");
        }
    }
    text
}

/// An Endpoints object for Service ports with protocols: of each its name, its protocol and its ready addresses.
pub fn endpoints_of(name: &str, ports: &[(&str, &str, &[SocketAddr])]) -> String {
    let mut text = format!("---\napiVersion: v1\nkind: Endpoints\nmetadata:\n  name: {name}\nsubsets:\n");
    for (port_name, protocol, addresses) in ports {
        let port_name = if port_name.is_empty() { String::new() } else { format!(", name: {port_name}") };
        for address in *addresses {
            let (ip, port) = (address.ip(), address.port());
            let _ = write!(text, "- addresses:\n  - ip: \"{ip}\"\n  ports:\n  - {{port: {port}, protocol: {protocol}{port_name}}}\n");
        }
    }
    text
}

/// A pod that runs at an address.
#[derive(Clone, Debug)]
pub struct Pod {
    name: String,
    labels: String,
    ip: String,
    node: Option<String>,
    ports: String,
    ready: bool,
    annotations: String,
    readiness_probe: String,
    host_network: bool,
}

impl Pod {
    /// A ready pod of the namespace `default`; `labels` as `app: web, tier: front`.
    pub fn new(name: &str, labels: &str, ip: impl Display) -> Self {
        let (name, labels) = (name.to_owned(), labels.to_owned());
        Self {
            name,
            labels,
            ip: ip.to_string(),
            node: None,
            ports: String::new(),
            ready: true,
            annotations: String::new(),
            readiness_probe: String::new(),
            host_network: false,
        }
    }

    /// `spec.nodeName`.
    pub fn node(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    /// A named container port.
    pub fn port(mut self, name: &str, port: u16) -> Self {
        let _ = writeln!(self.ports, "    - {{name: {name}, containerPort: {port}}}");
        self
    }

    /// A named container port that is a port of the node, too.
    pub fn host_port(mut self, name: &str, port: u16, host_port: u16) -> Self {
        let _ = writeln!(self.ports, "    - {{name: {name}, containerPort: {port}, hostPort: {host_port}}}");
        self
    }

    /// On the node's own network.
    pub fn host_network(mut self) -> Self {
        self.host_network = true;
        self
    }

    /// `readinessProbe`, as `{httpGet: {path: /readyz, port: http}, periodSeconds: 1}`.
    pub fn readiness_probe(mut self, probe: impl Display) -> Self {
        self.readiness_probe = format!("    readinessProbe: {probe}\n");
        self
    }

    /// `pointsman.dev/weight`.
    pub fn weight(mut self, weight: u32) -> Self {
        self.annotations = format!("  annotations: {{pointsman.dev/weight: \"{weight}\"}}\n");
        self
    }

    /// Its `Ready` condition.
    pub fn ready(mut self, ready: bool) -> Self {
        self.ready = ready;
        self
    }

    /// The manifest.
    pub fn yaml(&self) -> String {
        let Self { name, labels, ip, node, ports, ready, annotations, readiness_probe, host_network } = self;
        let host_network = if *host_network { "  hostNetwork: true\n" } else { "" };
        let node = node.as_ref().map(|node| format!("  nodeName: {node}\n")).unwrap_or_default();
        let ports = if ports.is_empty() { String::new() } else { format!("    ports:\n{ports}") };
        let status = if *ready { "True" } else { "False" };
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels: {{{labels}}}\n{annotations}spec:\n{node}{host_network}  containers:\n  - name: main\n    \
             image: example\n{ports}{readiness_probe}status:\n  phase: Running\n  podIP: {ip}\n  podIPs:\n  - ip: {ip}\n  conditions:\n  - {{type: Ready, status: \
             \"{status}\"}}\n"
        )
    }
}
