//! `cargo xtask demo`: half a minute in which a newcomer sees what Pointsman does. Every step that it shows it also checks.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use pointsman_tests::engine::{Launch, binary, pointsman};
use pointsman_tests::manifest::{Service, endpoints_with};
use pointsman_tests::process::Process;
use pointsman_tests::{Engine, Manifests, Range, http, poll};

use crate::provision;
use crate::step::{Steps, cargo};

/// The whole demo.
pub(crate) fn run() -> Result<()> {
    provision::wasm_toolchain(&mut Steps::default())?;
    println!("Building Pointsman and its policies (a few minutes the first time) …");
    let components = build()?;
    let shop = Shop::open()?;
    shop.rotation()?;
    shop.another_balancer_by_annotation()?;
    shop.another_component_by_command(&components)?;
    shop.a_backend_leaves_and_returns()?;
    shop.why()?;
    println!("\nAll of it held. Next: `target/debug/pointsman run --help`, and docs/.");
    Ok(())
}

/// Builds the binary; returns the folder in which the policies' components are.
fn build() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--quiet", "--package", "pointsman", "--locked", "--message-format", "json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the build failed");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let guests = |message: &serde_json::Value| {
        let ours = message["package_id"].as_str().is_some_and(|id| id.contains("pointsman-guests") || id.contains("host/guests"));
        let executed = message["reason"] == "build-script-executed";
        if ours && executed { message["out_dir"].as_str().map(PathBuf::from) } else { None }
    };
    messages.into_iter().find_map(|message| guests(&message)).context("cargo did not say where the policies were built")
}

/// Three backends, a Service in front of them, and an engine.
struct Shop {
    engine: Engine,
    manifests: Manifests,
    backends: BTreeMap<&'static str, (SocketAddr, Process)>,
    range: Range,
    address: SocketAddr,
}

const BACKENDS: [&str; 3] = ["red", "green", "blue"];

/// Connections in each sample.
const SAMPLE: u64 = 30;

impl Shop {
    fn open() -> Result<Self> {
        let range = Range::claim("demo")?;
        let mut backends = BTreeMap::new();
        for (n, name) in (0..).zip(BACKENDS) {
            let listen = format!("{}:0", range.backend_ip(n));
            let mut backend = Process::start(name, Command::new(binary()?).args(["backend", "--listen", &listen, "--name", name]))?;
            let address = backend.wait_for_line("where it listens", |line| {
                line.split_once("listening on http://")?.1.split_whitespace().next()?.trim_end_matches('/').parse().ok()
            })?;
            backends.insert(name, (address, backend));
        }
        let manifests = Manifests::new()?;
        manifests.write("service.yaml", &service(&range).yaml())?;
        let addresses: Vec<SocketAddr> = backends.values().map(|(address, _)| *address).collect();
        manifests.write("endpoints.yaml", &endpoints_with("shop", "http", &addresses, &[]))?;
        let engine = Launch::new(&range, manifests.path())?.quiet().start()?;
        let address = engine.frontend("default/shop:http", "cluster-ip")?;

        title("A Service, and three backends that have its name");
        println!("  {} backends, each `pointsman backend`: {}", backends.len(), BACKENDS.join(", "));
        println!("  one engine: `pointsman run -f {} --vip-mode loopback`", manifests.path().display());
        println!("  Service default/shop has the cluster IP {}; without privileges that is {address} here", range.cluster_ip(10));
        Ok(Self { engine, manifests, backends, range, address })
    }

    fn rotation(&self) -> Result<()> {
        title("Round robin: every connection is put to three Wasm components, and the third one rotates");
        self.expect(|counts| counts.len() == 3 && counts.values().all(|count| *count == SAMPLE / 3))
    }

    fn another_balancer_by_annotation(&self) -> Result<()> {
        title("Another balancer while connections flow: annotate the Service with `pointsman.dev/balancer: maglev`");
        let traffic = Traffic::start(self.address);
        self.change("service.yaml", &service(&self.range).annotation("balancer", "maglev").yaml())?;
        self.expect(|counts| counts.len() == 1)?;
        println!("  A consistent hash: one client, one backend.");
        traffic.stop()
    }

    fn another_component_by_command(&self, components: &Path) -> Result<()> {
        title("A component of one's own, replaced while connections flow");
        let component = |name: &str| components.join(format!("{name}.wasm"));
        let traffic = Traffic::start(self.address);
        std::fs::copy(component("round-robin"), self.engine.policy_dir().join("mine.wasm"))?;
        poll::until("the policy `mine` to be known", || self.engine.digest("balancer", "mine").map(Some))?;
        self.change("service.yaml", &service(&self.range).annotation("balancer", "mine").yaml())?;
        println!("  `mine.wasm`, dropped into --policy-dir, rotates:");
        let rotates = |counts: &BTreeMap<String, u64>| counts.len() == 3;
        self.expect(rotates)?;
        let admin = self.engine.admin().to_string();
        let hash = component("rendezvous").display().to_string();
        println!("  $ pointsman policy swap mine rendezvous.wasm --admin {admin}");
        indent(&pointsman(["policy", "swap", "mine", &hash, "--admin", &admin])?);
        self.expect(|counts| counts.len() == 1)?;
        println!("  $ pointsman policy rollback mine --admin {admin}");
        indent(&pointsman(["policy", "rollback", "mine", "--admin", &admin])?);
        self.expect(rotates)?;
        traffic.stop()
    }

    fn a_backend_leaves_and_returns(&self) -> Result<()> {
        title("A backend turns unready, leaves the rotation, and returns");
        let (red, _) = self.backends.get("red").context("no backend red")?;
        let others: Vec<SocketAddr> = self.backends.values().map(|(address, _)| *address).filter(|address| address != red).collect();
        let all: Vec<SocketAddr> = self.backends.values().map(|(address, _)| *address).collect();
        println!("  $ curl -d readyz=FAIL http://{red}/readyz");
        http::post(*red, "/readyz", b"readyz=FAIL")?;
        ensure!(http::get(*red, "/readyz")?.status != 200, "red is still ready");
        println!("  and so its address moves to notReadyAddresses of the Endpoints:");
        self.change("endpoints.yaml", &endpoints_with("shop", "http", &others, &[*red]))?;
        self.expect(|counts| counts.len() == 2 && !counts.contains_key("red"))?;
        println!("  $ curl -d readyz=OK http://{red}/readyz");
        http::post(*red, "/readyz", b"readyz=OK")?;
        self.change("endpoints.yaml", &endpoints_with("shop", "http", &all, &[]))?;
        self.expect(|counts| counts.len() == 3)
    }

    fn why(&self) -> Result<()> {
        let to = format!("{}:8080", self.range.cluster_ip(10));
        title(&format!("Why would a connection go where it goes? `pointsman route --client 198.51.100.7 --to {to}`"));
        let (files, cidr) = (self.manifests.path().display().to_string(), self.range.service_cidr());
        let policies = self.engine.policy_dir().display().to_string();
        let arguments = ["--service-cidr", &cidr, "--policy-dir", &policies, "--client", "198.51.100.7", "--to", &to];
        let explained = pointsman(["route", "-f", &files].iter().chain(&arguments))?;
        for stage in ["selector", "traffic-policy", "balancer"] {
            ensure!(explained.contains(stage), "the explanation leaves out the {stage}:\n{explained}");
        }
        indent(&explained);
        Ok(())
    }

    /// Writes a file and waits until a table made of it is in force.
    fn change(&self, name: &str, text: &str) -> Result<()> {
        let before = self.engine.generation()?;
        self.manifests.write(name, text)?;
        poll::until("the change to take force", || Ok((self.engine.generation()? > before).then_some(())))
    }

    /// Shows where a sample of connections goes, and fails unless that is as it should be.
    fn expect(&self, holds: impl Fn(&BTreeMap<String, u64>) -> bool) -> Result<()> {
        let mut counts = BTreeMap::new();
        for _ in 0..SAMPLE {
            *counts.entry(ask(self.address)?).or_insert(0) += 1;
        }
        for name in BACKENDS {
            let count = counts.get(name).copied().unwrap_or(0);
            println!("    {name:<6} {:<30} {count:>2}", "█".repeat(count as usize));
        }
        ensure!(holds(&counts), "that is not as it should be");
        Ok(())
    }
}

fn service(range: &Range) -> Service {
    Service::new("shop").cluster_ip(range.cluster_ip(10)).port("{name: http, port: 8080}")
}

/// The name of the backend that one connection reaches.
fn ask(address: SocketAddr) -> Result<String> {
    let answer = http::get(address, "/")?.json()?;
    answer["name"].as_str().map(str::to_owned).with_context(|| format!("the backend does not say its name: {answer}"))
}

/// Connections in the background, none of which may fail.
struct Traffic {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    thread: JoinHandle<Vec<String>>,
}

impl Traffic {
    fn start(address: SocketAddr) -> Self {
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&made));
        let thread = std::thread::spawn(move || {
            let mut failures = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                failures.extend(from_elsewhere(address).err().map(|error| format!("{error:#}")));
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
            failures
        });
        Self { stop, made, thread }
    }

    fn stop(self) -> Result<()> {
        let target = self.made.load(Ordering::Relaxed) + 20;
        poll::until("connections in the background", || Ok((self.made.load(Ordering::Relaxed) >= target).then_some(())))?;
        self.stop.store(true, Ordering::Relaxed);
        let Ok(failures) = self.thread.join() else { bail!("the background traffic broke down") };
        println!("  Meanwhile {} connections were made, and {} failed.", self.made.load(Ordering::Relaxed), failures.len());
        ensure!(failures.is_empty(), "{}", failures.join("\n"));
        Ok(())
    }
}

/// The background's connections come from another address, so that they do not move the samples' client.
fn from_elsewhere(address: SocketAddr) -> Result<()> {
    use std::io::{Read, Write};
    let source: IpAddr = pointsman_tests::range::client(1);
    let mut stream = pointsman_tests::load::connect(address, Some(source))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "answered {answer:?}");
    Ok(())
}

fn title(text: &str) {
    let (bold, plain) = if std::io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    println!("\n{bold}{text}{plain}");
}

fn indent(text: impl Display) {
    for line in text.to_string().lines() {
        println!("    {line}");
    }
}
