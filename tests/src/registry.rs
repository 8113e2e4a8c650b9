//! A real OCI registry, Debian's `docker-registry`, which can be stopped and started again with what it holds.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process::{Process, run};
use crate::{load, poll};

/// A registry on an address of the test's own. Killed when dropped.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    process: Option<Process>,
    folder: TempDir,
}

/// Who may use it, and how it is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Anybody, without TLS.
    Nobody,
    /// The user `alice` with the password `wonder`, without TLS.
    Password,
    /// Anybody, with TLS and a certificate of its own: `tls.crt` in its folder.
    Tls,
    /// The same for who has a token; says that tokens are given out at [`TOKENS`].
    Tokens,
}

/// Where nobody is, and without TLS.
pub const TOKENS: &str = "http://127.0.0.1:1/token";

/// `alice`, `wonder`: bcrypt is all that the registry takes, here of the least cost.
const HTPASSWD: &str = "alice:$2b$04$abcdefghijklmnopqrstuuetGRvO6QNMBbbIoo5tpQkbPXg26U9Qu\n";

impl Registry {
    /// One that holds nothing.
    pub fn start(ip: Ipv4Addr, guard: Guard) -> Result<Self> {
        let mut last = None;
        // It cannot be asked for port 0: a port that was free a moment ago is tried, and another if it was taken meanwhile.
        for _ in 0..3 {
            let folder = tempfile::Builder::new().prefix("pointsman-registry-").tempdir()?;
            let address = TcpListener::bind((ip, 0))?.local_addr()?;
            configure(folder.path(), address, guard)?;
            let mut registry = Self { address, process: None, folder };
            match registry.resume() {
                Ok(()) => return Ok(registry),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no registry was tried")?)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its certificate, if it has one.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("tls.crt")
    }

    /// The file of a blob, by the 64 digits of its digest.
    pub fn blob(&self, hex: &str) -> PathBuf {
        self.folder.path().join("data/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// Kills it; what it holds stays.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again, at the same address.
    pub fn resume(&mut self) -> Result<()> {
        let mut command = Command::new("docker-registry");
        let mut process = Process::start("docker-registry", command.arg("serve").arg(self.folder.path().join("config.yml")))?;
        let address = self.address;
        poll::until(&format!("docker-registry to listen on {address}"), || {
            if let Some(status) = process.ended()? {
                return Ok(Some(Err(format!("docker-registry ended ({status}): {}", process.log().join("\n")))));
            }
            Ok(load::connect(address, None).is_ok().then_some(Ok(())))
        })?
        .or_else(|said| bail!(said))?;
        self.process = Some(process);
        Ok(())
    }
}

fn configure(folder: &Path, address: SocketAddr, guard: Guard) -> Result<()> {
    let path = folder.display();
    let (mut http, mut auth) = (String::new(), String::new());
    match guard {
        Guard::Nobody => {}
        Guard::Password => {
            std::fs::write(folder.join("htpasswd"), HTPASSWD)?;
            auth = format!("auth: {{htpasswd: {{realm: private, path: {path}/htpasswd}}}}\n");
        }
        Guard::Tls | Guard::Tokens => {
            let names = format!("subjectAltName=IP:{}", address.ip());
            let mut openssl = Command::new("openssl");
            openssl.args(["req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=registry", "-addext", &names]);
            // A server's certificate is not an authority's.
            openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
            run(openssl.arg("-keyout").arg(folder.join("tls.key")).arg("-out").arg(folder.join("tls.crt")))?;
            http = format!(", tls: {{certificate: {path}/tls.crt, key: {path}/tls.key}}");
            if guard == Guard::Tokens {
                auth = format!("auth: {{token: {{realm: \"{TOKENS}\", service: r, issuer: i, rootcertbundle: {path}/tls.crt}}}}\n");
            }
        }
    }
    let configuration = format!(
        "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {path}/data}}}}\n\
         http: {{addr: \"{address}\"{http}}}\n{auth}"
    );
    std::fs::write(folder.join("config.yml"), configuration).context("writing the registry's configuration")
}
