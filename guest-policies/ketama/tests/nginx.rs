//! The same clients put to an nginx with `hash $remote_addr consistent` and to `ketama`: decision by decision, the same endpoint.
//!
//! The nginx is Debian's (`apt-get install nginx-light`), without privileges, listening at a Unix socket; each request says in a PROXY
//! protocol header which client it comes from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it fails")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs, process, thread};

use pointsman_policy_ketama::Ketama;
use pointsman_sdk::hash::mix;
use pointsman_sdk::native::{NativeBalancer, connection, endpoint, port};
use pointsman_sdk::prelude::*;

const CLIENTS: u64 = 2_000;

#[test]
fn endpoints_of_one_weight() {
    compare("one-weight", &[1; 8], &[]);
}

#[test]
fn endpoints_by_weight() {
    compare("by-weight", &[1, 2, 5, 1, 3], &[]);
}

/// Who meets an endpoint that refuses goes on to the same one as with nginx, twice if need be.
#[test]
fn endpoints_that_refuse() {
    let tried = compare("refusing", &[1; 6], &[1, 4]);
    assert!(tried[1] > 200 && tried[2] > 20, "clients by attempts: {tried:?}");
}

/// Asks both for each client. Servers whose index is in `refusing` are not there. Returns how many clients came to whom they came to
/// at once, at the second attempt, …
fn compare(name: &str, weights: &[u32], refusing: &[usize]) -> [u32; 3] {
    let servers: Vec<TcpListener> = weights.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let mut servers: Vec<(SocketAddr, Option<TcpListener>)> =
        servers.into_iter().map(|server| (server.local_addr().unwrap(), Some(server))).collect();
    // In the order of their keys, as the policy sorts them: it matters where two points coincide.
    servers.sort_by_key(|(address, _)| address.to_string());
    let addresses: Vec<SocketAddr> = servers.iter().map(|(address, _)| *address).collect();
    for (index, (address, server)) in servers.iter_mut().enumerate() {
        if let Some(server) = server.take().filter(|_| !refusing.contains(&index)) {
            let address = *address;
            thread::spawn(move || serve(&server, address));
        }
    }
    let nginx = Nginx::start(name, &addresses, weights);

    let mut policy = NativeBalancer::<Ketama>::new(&[], 0).unwrap();
    let members: Vec<Endpoint> =
        addresses.iter().zip(weights).zip(0..).map(|((address, weight), slot)| endpoint(slot, &address.to_string(), *weight)).collect();
    policy.plan(&port(0), 0, &members).unwrap();

    let mut tried = [0; 3];
    for n in 0..CLIENTS {
        let client = client(n);
        let bits = match client {
            IpAddr::V4(client) => client.to_ipv6_mapped().to_bits(),
            IpAddr::V6(client) => client.to_bits(),
        };
        let connection = Connection { client_hi: (bits >> 64) as u64, client_lo: bits as u64, ..connection(0, n) };
        let answer = nginx.ask(client);
        let (attempt, slot) = (0..3)
            .map(|attempt| (attempt, policy.pick(&Connection { attempt, ..connection }, 0, &Idle).unwrap() as usize))
            .find(|(_, slot)| !refusing.contains(slot))
            .expect("two of the endpoints refuse");
        assert_eq!(addresses[slot].to_string(), answer, "{client}, {weights:?}, attempt {attempt}: policy, then nginx");
        tried[attempt as usize] += 1;
    }
    tried
}

/// Two of three in IPv4.
fn client(n: u64) -> IpAddr {
    let bits = mix(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    if n % 3 > 0 {
        return IpAddr::V4(Ipv4Addr::from_bits(bits as u32));
    }
    // Of some, groups in the middle are zero.
    let high = (0x2001_0db8_u64 << 32) | (bits & 0xffff_ffff & (n % 4).wrapping_neg());
    IpAddr::V6(Ipv6Addr::from_bits((u128::from(high) << 64) | u128::from(bits >> (n % 50))))
}

/// Answers each request with its own address.
fn serve(server: &TcpListener, address: SocketAddr) {
    for stream in server.incoming() {
        let mut stream = BufReader::new(stream.unwrap());
        let mut line = String::new();
        while stream.read_line(&mut line).unwrap() > 2 {
            line.clear();
        }
        let body = address.to_string();
        write!(stream.get_mut(), "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    }
}

/// A running nginx; killed when dropped.
struct Nginx {
    child: Child,
    folder: PathBuf,
}

impl Nginx {
    fn start(name: &str, servers: &[SocketAddr], weights: &[u32]) -> Self {
        let program = program();
        // Not in the target folder: the path of a Unix socket has 108 bytes at most.
        let folder = env::temp_dir().join(format!("ketama-{name}-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("nginx.conf"), configuration(&folder, servers, weights)).unwrap();
        let mut command = Command::new(&program);
        command.arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf")).args(["-e", "stderr"]).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()));
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut lines = String::new();
        // It says so once it listens.
        while !lines.contains("event method") {
            let read = said.read_line(&mut lines).unwrap();
            assert!(read > 0, "nginx ended:\n{lines}");
        }
        // It must not find the pipe full.
        thread::spawn(move || said.read_to_end(&mut Vec::new()));
        Self { child, folder }
    }

    /// Which server answers this client.
    fn ask(&self, client: IpAddr) -> String {
        let family = if client.is_ipv4() { 4 } else { 6 };
        let mut stream = UnixStream::connect(self.folder.join("socket")).unwrap();
        // In one piece: nginx does not wait for the rest of a PROXY header.
        let request = format!("PROXY TCP{family} {client} {client} 40000 80\r\nGET / HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        body.to_owned()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Nothing is to be saved of it, and the test has its result.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn program() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian's stands where only root's PATH leads.
    let mut folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.find_map(|folder| Some(folder.join("nginx")).filter(|program| program.is_file()));
    found.expect("this test compares with nginx, which is not here: apt-get install nginx-light")
}

fn configuration(folder: &Path, servers: &[SocketAddr], weights: &[u32]) -> String {
    let mut upstream = String::new();
    for (server, weight) in servers.iter().zip(weights) {
        writeln!(upstream, "server {server} weight={weight} max_fails=0;").unwrap();
    }
    let folder = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|what| format!("{what}_temp_path {folder}/{what};")).concat();
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log stderr notice;
         events {{ worker_connections 256; }}
         http {{
             access_log off; {temporary}
             set_real_ip_from unix:; real_ip_header proxy_protocol;
             upstream servers {{ hash $remote_addr consistent; {upstream} }}
             server {{
                 listen unix:{folder}/socket proxy_protocol;
                 location / {{ proxy_pass http://servers; proxy_next_upstream_tries 0; }}
             }}
         }}"
    )
}
