//! The engine under test: the real binary, started as a user starts it, and what it says about itself on its admin port, in its log
//! and in its decision log.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::http::{self, Answer};
use crate::metrics::Metrics;
use crate::netns::Namespace;
use crate::process::{self, Process};
use crate::{Range, poll};

/// Where cargo put the binary: beside this executable, or one folder up from a test.
pub fn binary() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let found = here.ancestors().skip(1).take(2).map(|folder| folder.join("pointsman")).find(|path| path.is_file());
    found.with_context(|| format!("no `pointsman` beside {}: run `cargo xtask test`, which builds it first", here.display()))
}

/// Runs `pointsman` with these arguments to its end and returns what it printed; an error carries what it complained about.
pub fn pointsman<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Result<String> {
    process::run(Command::new(binary()?).args(arguments))
}

/// An engine about to be started.
#[derive(Debug)]
pub struct Launch<'a> {
    prefix: Vec<OsString>,
    arguments: Vec<OsString>,
    namespace: Option<&'a Namespace>,
    scratch: TempDir,
    quiet: bool,
}

/// A running engine. Killed when dropped.
#[derive(Debug)]
pub struct Engine {
    process: Process,
    quiet: bool,
    admin: SocketAddr,
    namespace: Option<String>,
    scratch: TempDir,
}

/// One line of `/bound`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// `default/web:http`.
    pub service: String,
    /// `cluster-ip`, `node-port`, …
    pub frontend: String,
    /// What a client of the Service dials.
    pub address: SocketAddr,
    /// Where that is in this mode.
    pub bound: SocketAddr,
}

impl<'a> Launch<'a> {
    /// `pointsman run -f FOLDER` in loopback mode, with one worker, on this range's addresses, with a decision log and a policy folder.
    pub fn new(range: &Range, manifests: &Path) -> Result<Self> {
        let launch = Self::bare(manifests, "n1", &range.node_ip().to_string(), "loopback")?;
        Ok(launch.arguments(["--service-cidr", &range.service_cidr()]))
    }

    /// The same without a range: the caller says which addresses and which mode.
    pub fn bare(manifests: &Path, node: &str, node_ip: &str, vip_mode: &str) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("pointsman-engine-").tempdir()?;
        std::fs::create_dir(scratch.path().join(POLICIES))?;
        let (decisions, policies) = (scratch.path().join(DECISIONS), scratch.path().join(POLICIES));
        let launch = Self { prefix: Vec::new(), arguments: vec!["run".into()], namespace: None, scratch, quiet: false };
        Ok(launch
            .arguments([OsStr::new("-f"), manifests.as_os_str()])
            .arguments(["--admin", "127.0.0.1:0", "--vip-mode", vip_mode, "--node-name", node, "--node-ip", node_ip, "--workers", "1"])
            .arguments([OsStr::new("--decision-log"), decisions.as_os_str(), OsStr::new("--policy-dir"), policies.as_os_str()]))
    }

    /// More arguments.
    pub fn arguments<I: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = I>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Another number of workers than one.
    pub fn workers(mut self, workers: u32) -> Self {
        if let Some(at) = self.arguments.iter().position(|argument| argument == "--workers") {
            self.arguments[at + 1] = workers.to_string().into();
        }
        self
    }

    /// A command that runs it: `prlimit --nofile=64`.
    pub fn under<I: AsRef<OsStr>>(mut self, command: impl IntoIterator<Item = I>) -> Self {
        self.prefix.extend(command.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Does not print the engine's log at its end, which test runners show for tests that failed.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// In a network namespace.
    pub fn inside(mut self, namespace: &'a Namespace) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// Puts a policy into the policy folder before the start.
    pub fn policy(self, name: &str, component: &[u8]) -> Result<Self> {
        std::fs::write(self.scratch.path().join(POLICIES).join(format!("{name}.wasm")), component)?;
        Ok(self)
    }

    /// Starts it, and waits until it serves.
    pub fn start(self) -> Result<Engine> {
        let mut words = self.prefix;
        words.push(binary()?.into());
        words.extend(self.arguments);
        let mut command = match self.namespace {
            Some(namespace) => namespace.command(&words[0]),
            None => Command::new(&words[0]),
        };
        let mut process = Process::start("pointsman", command.args(&words[1..]))?;
        let admin = process.wait_for_line("`admin listening on http://…`", |line| {
            let (_, address) = line.split_once("admin listening on http://")?;
            address.split_whitespace().next()?.trim_end_matches('/').parse().ok()
        })?;
        let namespace = self.namespace.map(|namespace| namespace.name().to_owned());
        let mut engine = Engine { process, quiet: self.quiet, admin, namespace, scratch: self.scratch };
        engine.wait_until_ready()?;
        Ok(engine)
    }
}

impl Engine {
    /// Its admin port.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has written to standard error so far.
    pub fn log(&self) -> Vec<String> {
        self.process.log()
    }

    /// The folder of `--policy-dir`.
    pub fn policy_dir(&self) -> PathBuf {
        self.scratch.path().join(POLICIES)
    }

    /// A `GET` on the admin port.
    pub fn get(&self, path: &str) -> Result<Answer> {
        match &self.namespace {
            None => http::get(self.admin, path),
            Some(namespace) => {
                let url = format!("http://{}{path}", self.admin);
                let mut curl = Namespace::command_in(namespace, "curl");
                let text = process::run(curl.args(["-sS", "--max-time", "10", "-w", "\n%{http_code}", &url]))?;
                let (body, status) = text.rsplit_once('\n').context("curl printed no status")?;
                Ok(Answer { status: status.parse()?, body: body.to_owned() })
            }
        }
    }

    /// A `POST` on the admin port.
    pub fn post(&self, path: &str, body: &[u8]) -> Result<Answer> {
        http::post(self.admin, path, body)
    }

    /// Everything it listens on.
    pub fn bound(&self) -> Result<Vec<Bound>> {
        let answer = self.get("/bound")?.json()?;
        let frontends = answer["frontends"].as_array().context("/bound has no `frontends`")?;
        let text = |line: &Value, key: &str| line[key].as_str().map(str::to_owned).with_context(|| format!("/bound: no `{key}` in {line}"));
        let bound = frontends.iter().map(|line| {
            let (address, bound) = (text(line, "address")?.parse()?, text(line, "bound")?.parse()?);
            Ok(Bound { service: text(line, "service")?, frontend: text(line, "frontend")?, address, bound })
        });
        bound.collect()
    }

    /// Where a Service port's frontend of this kind listens, as soon as it does.
    pub fn frontend(&self, service: &str, kind: &str) -> Result<SocketAddr> {
        poll::until(&format!("a {kind} listener of {service} in /bound"), || {
            let bound = self.bound()?;
            let found = bound.iter().find(|line| line.service == service && line.frontend == kind).map(|line| line.bound);
            if found.is_none() { bail!("/bound says {bound:?}") } else { Ok(found) }
        })
    }

    /// Waits until a Service port has no listener of this kind.
    pub fn frontend_gone(&self, service: &str, kind: &str) -> Result<()> {
        poll::until(&format!("no {kind} listener of {service} in /bound"), || {
            let gone = !self.bound()?.iter().any(|line| line.service == service && line.frontend == kind);
            Ok(gone.then_some(()))
        })
    }

    /// Warnings and errors so far.
    pub fn events(&self) -> Result<Vec<Value>> {
        let answer = self.get("/events")?.json()?;
        Ok(answer["events"].as_array().context("/events has no `events`")?.clone())
    }

    /// Waits for an event that satisfies `fits`.
    pub fn event(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        poll::until(&format!("an event: {what}"), || {
            let events = self.events()?;
            match events.iter().find(|event| fits(event)) {
                Some(event) => Ok(Some(event.clone())),
                None => bail!("/events says {}", Value::from(events)),
            }
        })
    }

    /// A scrape.
    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::parse(&self.get("/metrics")?.body)
    }

    /// The generation of the table in force.
    pub fn generation(&self) -> Result<f64> {
        Ok(self.metrics()?.sum("pointsman_table_generation", &[]))
    }

    /// The digest of the policy of this name in this stage (`balancer`), in force now.
    pub fn digest(&self, stage: &str, name: &str) -> Result<String> {
        let policies = self.get("/policies")?.json()?;
        let list = policies.as_array().or_else(|| policies["policies"].as_array()).context("/policies is not a list")?;
        let fits = |policy: &&Value| policy["name"] == name && policy["stage"] == stage;
        let policy = list.iter().find(fits).with_context(|| format!("/policies has no {stage} `{name}`: {policies}"))?;
        policy["digest"].as_str().map(str::to_owned).with_context(|| format!("no digest in {policy}"))
    }

    /// Every decision in the log so far.
    pub fn decisions(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.scratch.path().join(DECISIONS)).context("reading the decision log")?;
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).with_context(|| format!("not JSON in the decision log: {line}"))).collect()
    }

    /// Waits until the log holds at least `count` decisions.
    pub fn decisions_at_least(&self, count: usize) -> Result<Vec<Value>> {
        poll::until(&format!("{count} decisions in the log"), || {
            let decisions = self.decisions()?;
            if decisions.len() < count { bail!("there are {}", decisions.len()) } else { Ok(Some(decisions)) }
        })
    }

    /// Sends a signal to it.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Waits for its end by itself.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.process.wait()
    }

    /// Fails if it has ended.
    pub fn still_runs(&mut self) -> Result<()> {
        match self.process.ended()? {
            None => Ok(()),
            Some(status) => bail!("the engine ended ({status}):\n{}", self.log().join("\n")),
        }
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let ready = poll::until("/readyz to answer 200", || {
            self.still_runs()?;
            let answer = self.get("/readyz")?;
            if answer.status == 200 { Ok(Some(())) } else { bail!("{} {}", answer.status, answer.body) }
        });
        ready.with_context(|| format!("the engine wrote:\n{}", self.log().join("\n")))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.quiet {
            println!("--- the engine wrote:\n{}", self.log().join("\n"));
        }
    }
}

/// The decision log, inside the engine's own folder.
const DECISIONS: &str = "decisions.jsonl";

/// The policy folder, likewise.
const POLICIES: &str = "policies";
