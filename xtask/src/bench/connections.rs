//! New connections through Pointsman, HAProxy and nginx, side by side: each with one worker, the same three nginx
//! backends, the same `wrk`, in turns, so that a noisy machine is noisy for all. What counts is the ratio.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pointsman_tests::process::Process;

use crate::step::root;

/// Seconds of load a turn, after one that is thrown away.
const SECONDS: u32 = 5;
/// Turns of each contestant.
const TURNS: usize = 5;
/// Connections that `wrk` keeps busy, with one thread (performance.md's method).
const CLIENTS: u32 = 32;

/// One way to the backends.
struct Contestant {
    name: String,
    address: SocketAddr,
    /// `None`: no proxy.
    process: Option<Process>,
    turns: Vec<Turn>,
}

struct Turn {
    connections_per_second: f64,
    /// Processor time of the proxy for one connection, in microseconds.
    microseconds: f64,
}

/// Runs the comparison and prints a table.
pub(super) fn run() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("pointsman-bench-").tempdir()?;
    let backends = (0..3).map(|n| free(Ipv4Addr::new(127, 197, 1, 1 + n))).collect::<Result<Vec<_>>>()?;
    let _backend = start("nginx", backends[0], nginx(folder.path(), "backends", &http(&backends))?)?;
    let mut contestants = vec![
        Contestant { name: "no proxy".into(), address: backends[0], process: None, turns: vec![] },
        pointsman(folder.path(), &backends, "round-robin")?,
        pointsman(folder.path(), &backends, "maglev")?,
        haproxy(folder.path(), &backends)?,
        nginx_stream(folder.path(), &backends)?,
    ];
    for turn in 0..=TURNS {
        for contestant in &mut contestants {
            let measured = contestant.load()?;
            println!(
                "{turn}  {:<24} {:>8.0} connections/s  {:>6.1} µs",
                contestant.name, measured.connections_per_second, measured.microseconds
            );
            if turn > 0 {
                contestant.turns.push(measured);
            }
        }
    }
    let table = table(&contestants);
    println!("\n{table}");
    let file = root().join("target/bench-connections.md");
    std::fs::write(&file, table).with_context(|| format!("writing {}", file.display()))?;
    println!("written to {}", file.display());
    Ok(())
}

impl Contestant {
    fn load(&self) -> Result<Turn> {
        let before = self.processor_time()?;
        let started = Instant::now();
        let output = Command::new("wrk")
            .args([
                "-t1",
                &format!("-c{CLIENTS}"),
                &format!("-d{SECONDS}s"),
                "-H",
                "Connection: close",
                &format!("http://{}/", self.address),
            ])
            .output()
            .context("starting wrk")?;
        let elapsed = started.elapsed().as_secs_f64();
        let used = self.processor_time()?.saturating_sub(before);
        let report = String::from_utf8_lossy(&output.stdout);
        let number =
            |key: &str| report.lines().find_map(|line| line.trim().strip_prefix(key)).and_then(|rest| rest.trim().parse::<f64>().ok());
        let per_second = number("Requests/sec:").with_context(|| format!("wrk printed no rate: {report}"))?;
        if let Some(errors) = report.lines().find(|line| line.contains("Socket errors") || line.contains("Non-2xx")) {
            bail!("{}: {}", self.name, errors.trim());
        }
        Ok(Turn { connections_per_second: per_second, microseconds: used.as_secs_f64() * 1e6 / (per_second * elapsed) })
    }

    /// User and system time of the proxy so far (/proc/PID/stat, fields 14 and 15, in ticks of 10 ms).
    fn processor_time(&self) -> Result<Duration> {
        let Some(process) = &self.process else {
            return Ok(Duration::ZERO);
        };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id()))?;
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11)).context("reading /proc/PID/stat")?;
        let ticks: u64 = fields.take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }
}

fn pointsman(folder: &Path, backends: &[SocketAddr], balancer: &str) -> Result<Contestant> {
    let port = free(Ipv4Addr::new(127, 197, 2, 1))?.port();
    let node_ip = Ipv4Addr::new(127, 197, 2, if balancer == "maglev" { 3 } else { 2 });
    let mut manifest = format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: bench\n  annotations: {{pointsman.dev/balancer: {balancer}}}\nspec:\n  clusterIP: \
         10.96.0.10\n  externalIPs: [{node_ip}]\n  ports: [{{port: {port}}}]\n---\napiVersion: v1\nkind: Endpoints\nmetadata: {{name: bench}}\nsubsets:\n"
    );
    for backend in backends {
        writeln!(manifest, "- addresses: [{{ip: {}}}]\n  ports: [{{port: {}}}]", backend.ip(), backend.port())?;
    }
    let file = folder.join(format!("{balancer}.yaml"));
    std::fs::write(&file, manifest)?;
    let mut command = super::pointsman();
    command.arg("-f").arg(&file).args(["--workers", "1"]);
    let address = SocketAddr::from((node_ip, port));
    let process = start("pointsman", address, command)?;
    Ok(Contestant { name: format!("Pointsman ({balancer})"), address, process: Some(process), turns: vec![] })
}

fn haproxy(folder: &Path, backends: &[SocketAddr]) -> Result<Contestant> {
    let address = free(Ipv4Addr::new(127, 197, 3, 1))?;
    let mut configuration = format!(
        "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\nlisten bench\n  bind \
         {address}\n  balance roundrobin\n"
    );
    for (n, backend) in backends.iter().enumerate() {
        writeln!(configuration, "  server s{n} {backend}")?;
    }
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, configuration)?;
    let mut command = Command::new("/usr/sbin/haproxy");
    command.arg("-db").arg("-f").arg(file);
    Ok(Contestant { name: "HAProxy (mode tcp)".into(), address, process: Some(start("haproxy", address, command)?), turns: vec![] })
}

fn nginx_stream(folder: &Path, backends: &[SocketAddr]) -> Result<Contestant> {
    let address = free(Ipv4Addr::new(127, 197, 4, 1))?;
    let servers: String = backends.iter().map(|backend| format!("server {backend}; ")).collect();
    let stream = format!("stream {{ upstream b {{ {servers} }} server {{ listen {address} reuseport; proxy_pass b; }} }}");
    let process = start("nginx", address, nginx(folder, "stream", &stream)?)?;
    Ok(Contestant { name: "nginx (stream, reuseport)".into(), address, process: Some(process), turns: vec![] })
}

fn http(backends: &[SocketAddr]) -> String {
    let listens: String = backends.iter().map(|backend| format!("listen {backend}; ")).collect();
    format!("http {{ access_log off; server {{ {listens} location / {{ return 200 'ok'; }} }} }}")
}

/// nginx in the foreground, in one process, so that its processor time is one number.
fn nginx(folder: &Path, name: &str, body: &str) -> Result<Command> {
    let folder = folder.join(name);
    std::fs::create_dir(&folder)?;
    let path = folder.display();
    let configuration = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off; master_process off; pid {path}/pid; error_log \
         {path}/error.log;\nevents {{ worker_connections 8192; }}\n{body}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, configuration)?;
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-p").arg(&folder).arg("-e").arg(folder.join("error.log")).arg("-c").arg(file);
    Ok(command)
}

/// Starts a server and waits until it accepts.
fn start(name: &str, address: SocketAddr, mut command: Command) -> Result<Process> {
    let mut process = Process::start(name, &mut command)?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        if process.ended()?.is_some() || Instant::now() > deadline {
            bail!("{name} does not listen on {address}: {}", process.log().join("\n"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(process)
}

fn free(ip: Ipv4Addr) -> Result<SocketAddr> {
    Ok(TcpListener::bind((ip, 0))?.local_addr()?)
}

/// Median, least and most of each contestant, with the ratio of the medians to the better of HAProxy and nginx.
fn table(contestants: &[Contestant]) -> String {
    let rate = |c: &Contestant| median(c.turns.iter().map(|turn| turn.connections_per_second));
    let cost = |c: &Contestant| median(c.turns.iter().map(|turn| turn.microseconds));
    let rivals = || contestants.iter().filter(|c| c.process.is_some() && !c.name.starts_with("Pointsman"));
    let best_rate = rivals().map(rate).fold(0.0, f64::max);
    let best_cost = rivals().map(cost).fold(f64::INFINITY, f64::min);
    let mut table = String::from(
        "| | connections/s: median (least–most) | ratio | processor time of the proxy per connection | ratio |\n|---|---|---|---|---|\n",
    );
    for contestant in contestants {
        let rates = || contestant.turns.iter().map(|turn| turn.connections_per_second);
        let (least, most) = (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max));
        let rate = rate(contestant);
        let (cost, cost_ratio) = match contestant.process {
            Some(_) => (format!("{:.1} µs", cost(contestant)), format!("{:.2}", cost(contestant) / best_cost)),
            None => ("–".into(), "–".into()),
        };
        // Writing to a String cannot fail.
        let _ =
            writeln!(table, "| {} | {rate:.0} ({least:.0}–{most:.0}) | {:.2} | {cost} | {cost_ratio} |", contestant.name, rate / best_rate);
    }
    table
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
