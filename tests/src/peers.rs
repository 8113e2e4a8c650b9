//! Real servers from Debian's packages, each with a configuration and a folder of its own, on an address of the test's range.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process::{Process, run};
use crate::{load, poll};

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    /// Before the folder, which it would go on writing to.
    _process: Process,
    folder: TempDir,
}

impl Peer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// nginx, answering every request with its name.
pub fn nginx(ip: Ipv4Addr, name: &str) -> Result<Peer> {
    start("nginx", ip, |folder, address| {
        let server = format!("listen {address}; location / {{ return 200 '{name}'; }}");
        nginx_command(folder, &server)
    })
}

/// nginx with a certificate for `host`, signed by itself: `tls.crt` in its folder.
pub fn nginx_tls(ip: Ipv4Addr, name: &str, host: &str) -> Result<Peer> {
    start("nginx", ip, |folder, address| {
        let (key, certificate) = (folder.join("tls.key"), folder.join("tls.crt"));
        let subject = format!("/CN={host}");
        let names = format!("subjectAltName=DNS:{host}");
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2", "-subj", &subject, "-addext", &names]);
        run(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate))?;
        let (key, certificate) = (key.display(), certificate.display());
        let server = format!(
            "listen {address} ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; location / {{ return 200 '{name}'; }}"
        );
        nginx_command(folder, &server)
    })
}

/// MariaDB with a user `app`, password `app`, and a table `whoami.name` that holds `name`.
pub fn mariadb(ip: Ipv4Addr, name: &str) -> Result<Peer> {
    start("mariadbd", ip, |folder, address| {
        let data = folder.join("data");
        let (data_argument, user) = (format!("--datadir={}", data.display()), format!("--user={}", user()?));
        run(Command::new("mariadb-install-db")
            .args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"])
            .args([&data_argument, &user]))?;
        let setup = folder.join("setup.sql");
        let statements = [
            String::from("CREATE USER IF NOT EXISTS app@'%' IDENTIFIED BY 'app';"),
            String::from("GRANT ALL ON *.* TO app@'%';"),
            String::from("CREATE DATABASE IF NOT EXISTS whoami;"),
            String::from("CREATE TABLE IF NOT EXISTS whoami.name (name VARCHAR(64) PRIMARY KEY);"),
            format!("REPLACE INTO whoami.name VALUES ('{name}');"),
        ];
        std::fs::write(&setup, statements.join("\n"))?;
        let mut command = Command::new(sbin("mariadbd"));
        command.args(["--no-defaults", "--skip-name-resolve", "--innodb-buffer-pool-size=8M", "--skip-log-bin", &data_argument, &user]);
        command.arg(format!("--bind-address={}", address.ip())).arg(format!("--port={}", address.port()));
        for (option, file) in [("--socket", "db.sock"), ("--pid-file", "db.pid"), ("--init-file", "setup.sql")] {
            command.arg(format!("{option}={}", folder.join(file).display()));
        }
        Ok(command)
    })
}

/// Redis, without persistence.
pub fn redis(ip: Ipv4Addr) -> Result<Peer> {
    start("redis-server", ip, |folder, address| {
        let mut command = Command::new("redis-server");
        command.args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string(), "--save", "", "--dir"]).arg(folder);
        Ok(command)
    })
}

/// dnsmasq, which knows one name: `whoami.example` is its own, as TXT.
pub fn dnsmasq(ip: Ipv4Addr, name: &str) -> Result<Peer> {
    start("dnsmasq", ip, |folder, address| {
        let mut command = Command::new(sbin("dnsmasq"));
        // Without a configuration of the machine's, and without another server to ask.
        command.args(["--conf-file=/dev/null", "--no-daemon", "--no-resolv", "--no-hosts", "--bind-interfaces"]);
        command.args(["--pid-file=", &format!("--user={}", user()?), &format!("--txt-record=whoami.example,{name}")]);
        command.arg(format!("--listen-address={}", address.ip())).arg(format!("--port={}", address.port())).current_dir(folder);
        Ok(command)
    })
}

fn nginx_command(folder: &Path, server: &str) -> Result<Command> {
    let path = folder.display();
    // Foreground, one process, nothing written outside its folder. Group and other may read it, or nginx's worker can't.
    let configuration = format!(
        "daemon off; master_process off; worker_processes 1; pid {path}/nginx.pid; error_log {path}/error.log;\nevents {{ worker_connections \
         1024; }}\nhttp {{ access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy; fastcgi_temp_path {path}/fastcgi; \
         uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;\n  server {{ {server} }}\n}}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, configuration)?;
    let mut command = Command::new(sbin("nginx"));
    command.arg("-p").arg(folder).arg("-e").arg(folder.join("error.log")).arg("-c").arg(file);
    Ok(command)
}

/// These servers cannot be asked for port 0: a port that was free a moment ago is tried, and another if it was taken meanwhile.
fn start(name: &str, ip: Ipv4Addr, command: impl Fn(&Path, SocketAddr) -> Result<Command>) -> Result<Peer> {
    let mut last = None;
    for _ in 0..3 {
        let folder = tempfile::Builder::new().prefix("pointsman-peer-").tempdir()?;
        let address = TcpListener::bind((ip, 0))?.local_addr()?;
        let mut process = Process::start(name, &mut command(folder.path(), address)?)?;
        let up = poll::until(&format!("{name} to listen on {address}"), || {
            if let Some(status) = process.ended()? {
                return Ok(Some(Err(format!("{name} ended ({status}): {}", process.log().join("\n")))));
            }
            Ok(load::connect(address, None).is_ok().then_some(Ok(())))
        });
        match up {
            Ok(Ok(())) => return Ok(Peer { address, _process: process, folder }),
            Ok(Err(said)) => last = Some(said),
            Err(error) => bail!("{error:#}; it said: {}", process.log().join("\n")),
        }
    }
    bail!("{}", last.unwrap_or_default())
}

/// MariaDB refuses to run as root unless told to.
fn user() -> Result<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::current())?;
    Ok(user.context("this user has no name")?.name)
}

/// Debian keeps servers out of an ordinary user's PATH.
fn sbin(name: &str) -> String {
    let path = format!("/usr/sbin/{name}");
    if Path::new(&path).exists() { path } else { name.to_owned() }
}
