//! The command line: what can be said, and help that teaches it.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, ColorChoice, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ipnet::IpNet;

use super::recordings::{DiffArgs, RecordArgs, ReplayArgs};
use super::values::{self, ClientAddress, Target};
use super::{inspect, oci, project, shadow, workbench};
use crate::admin;
use crate::objects::reference::Repositories;
use crate::policy::Limits;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Routes connections to Kubernetes Services; WebAssembly components decide where each one goes.
///
/// Pointsman reads ordinary Kubernetes manifests (Services, Endpoints, EndpointSlices, Pods, Nodes), opens their addresses, and asks three
/// components about every new connection: a selector (which pods back the Service), a traffic policy (which of them this node may use)
/// and a balancer (which one). Each can be replaced while connections flow. No cluster is needed, and no privileges.
#[derive(Debug, Parser)]
#[command(name = "pointsman", version, styles = STYLES, max_term_width = 100, propagate_version = true, after_help = PROGRAM_EXAMPLES)]
pub struct Cli {
    /// Colours in the output: auto means on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const PROGRAM_EXAMPLES: &str = "\
Examples:
  pointsman check -f services/                     look for mistakes; opens nothing
  pointsman run -f services/                       serve, until Ctrl-C
  pointsman route -f services/ --client 10.244.1.9 --to 10.97.72.1:80
                                                   where would this connection go, and why?
  pointsman policy swap my-balancer balancer.wasm  replace a policy in a running engine";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the Services in these files
    ///
    /// Reads the manifests, watches them, and opens every address of their Services: cluster IPs, node ports, external IPs and load-balancer
    /// addresses. Without privileges, an address like 10.97.72.1 is opened as 127.97.72.1 (`--vip-mode loopback`); what was bound stands in the
    /// log and at the admin port. Nothing is open to other machines unless an option says so. SIGTERM or Ctrl-C ends it: no new connections,
    /// and established ones have `--drain-timeout` to finish.
    Run(Box<RunArgs>),
    /// Say where a connection would go, and why; opens no socket
    ///
    /// Builds the same table and runs the same decision code as `run`, and shows each stage: which policy was asked, which endpoints it kept and
    /// which it removed, and why. Ends with 0 whatever the answer is.
    Route(Box<RouteArgs>),
    /// Look for mistakes in manifests; opens no socket
    ///
    /// Errors and warnings name file, line and field, and what to do. Ends with 0 if there is no error, with 1 if there is one.
    Check(Box<CheckArgs>),
    /// Look into policies, and replace them in a running engine
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Answer HTTP requests with who one is: a backend for demos and tests
    ///
    /// GET / answers {"name", "address", "client", "requests"}. GET /readyz answers 200, or 500 after `curl -d readyz=FAIL ADDR/readyz`;
    /// `curl -d readyz=OK ADDR/readyz` mends it. SIGTERM or Ctrl-C ends it.
    Backend(BackendArgs),
    /// Print a shell's completions
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Compile a component: what `run` starts as a child, so that a hostile component cannot take it along
    #[command(hide = true)]
    CompilePolicy,
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  pointsman completions bash > ~/.local/share/bash-completion/completions/pointsman
  pointsman completions zsh > ~/.zfunc/_pointsman
  pointsman completions fish > ~/.config/fish/completions/pointsman.fish";

/// Manifests, and what they are read against: the same in every command that builds a routing table, so that all build the same one.
#[derive(Debug, Args)]
#[command(next_help_heading = "Manifests and the node")]
pub struct ClusterArgs {
    /// A file or a folder of manifests (YAML of one or many documents, or JSON); may be given several times
    #[arg(short = 'f', long = "file", value_name = "PATH", num_args = 1.., required_unless_present = "config")]
    pub files: Vec<PathBuf>,
    /// The node that this host is: its pods are "local"
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// An address of this node: connections from it come from the node, and node ports listen on it
    #[arg(long, value_name = "IP")]
    pub node_ip: Vec<IpAddr>,
    /// Where cluster IPs are allocated for Services that name none; one per IP family
    #[arg(long, value_name = "CIDR", default_value = "10.96.0.0/12")]
    pub service_cidr: Vec<IpNet>,
    /// Where node ports are allocated for Services that name none
    #[arg(long, value_name = "A-B", default_value = "30000-32767", value_parser = values::port_range)]
    pub node_port_range: RangeInclusive<u16>,
    /// Where node ports listen: ranges of the node's addresses, `primary` (the first of each family) or `all` [default: --node-ip, else
    /// 127.0.0.1]
    #[arg(long, value_name = "CIDR,…|primary|all")]
    pub node_port_addresses: Vec<String>,
    /// Where Services of type LoadBalancer get their addresses; one per IP family. Without it, they wait for somebody else's
    #[arg(long, value_name = "CIDR")]
    pub load_balancer_pool: Vec<IpNet>,
    /// Where pods have their addresses: a client in here is a pod
    #[arg(long, value_name = "CIDR")]
    pub cluster_cidr: Vec<IpNet>,
}

/// Where policies come from, and what they may take.
#[derive(Debug, Args)]
#[command(next_help_heading = "Policies")]
pub struct PolicyArgs {
    /// Components in this folder become policies, named by the file's stem; `run` watches it
    #[arg(long, value_name = "DIR")]
    pub policy_dir: Option<PathBuf>,
    /// Keep compiled components here, and what is pulled; made with mode 0700 if missing [default for what is pulled: ~/.cache/pointsman]
    #[arg(long, value_name = "DIR")]
    pub policy_cache: Option<PathBuf>,
    /// Policies may be pulled from this registry, or from below a path in it: annotations then name them by reference
    #[arg(long, value_name = "REGISTRY[/PATH]")]
    pub allow_policy_registry: Vec<Repositories>,
    /// This policy may import WASI: an empty world without files, network, environment or clock of its own
    #[arg(long, value_name = "NAME")]
    pub grant_wasi: Vec<String>,
    /// This policy may bring a language runtime along, as those in JavaScript and Python do: larger, slower to load, more fuel a decision
    #[arg(long, value_name = "NAME")]
    pub large_policy: Vec<String>,
    /// Limits.
    #[command(flatten)]
    pub sandbox: SandboxArgs,
}

/// What `run` is told.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    /// Read options from a YAML file: the same names as the flags, which win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Manifests.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Policies.
    #[command(flatten)]
    pub policies: PolicyArgs,
    /// How Service addresses are opened
    #[arg(help_heading = ADDRESSES, long, value_name = "MODE", default_value = "auto")]
    pub vip_mode: VipMode,
    /// Run the commands of `exec` readiness probes on this host; without it, such pods are as ready as their manifests say
    #[arg(help_heading = ADDRESSES, long)]
    pub allow_exec_probes: bool,
    /// A UDP flow ends after so long without a datagram
    #[arg(help_heading = ADDRESSES, long, value_name = "TIME", default_value = "30s", value_parser = values::duration)]
    pub udp_idle_timeout: Duration,
    /// One that was answered, and used for longer than two seconds, ends after so long
    #[arg(help_heading = ADDRESSES, long, value_name = "TIME", default_value = "2m", value_parser = values::duration)]
    pub udp_stream_idle_timeout: Duration,
    /// UDP flows of one client address, on each worker
    #[arg(help_heading = ADDRESSES, long, value_name = "N", default_value = "1024")]
    pub max_udp_flows_per_client: NonZeroUsize,
    /// Threads that serve connections [default: one a core]
    #[arg(help_heading = ADDRESSES, long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,
    /// Connections at one time; more wait in the kernel's queue [default: what the limit of open files allows]
    #[arg(help_heading = ADDRESSES, long, value_name = "N")]
    pub max_connections: Option<NonZeroU32>,
    /// How long an endpoint has to accept, before the next is tried
    #[arg(help_heading = ADDRESSES, long, value_name = "TIME", default_value = "5s", value_parser = values::duration)]
    pub connect_timeout: Duration,
    /// How long established connections have to finish when the engine ends
    #[arg(help_heading = ADDRESSES, long, value_name = "TIME", default_value = "30s", value_parser = values::duration_or_none)]
    pub drain_timeout: Duration,
    /// The key of `client-hash`, so that clients cannot aim; the same on every node that should agree [default: a public key]
    #[arg(help_heading = ADDRESSES, long, value_name = "FILE")]
    pub hash_secret_file: Option<PathBuf>,
    /// Where health, metrics and policy swaps are served; port 0 takes a free one
    #[arg(help_heading = SEEING, long, value_name = "ADDR:PORT", default_value_t = admin::DEFAULT_ADDRESS)]
    pub admin: SocketAddr,
    /// The secret that changes at the admin port need; required where other machines can reach it
    #[arg(help_heading = SEEING, long, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Write a JSON line for every connection; - is standard output
    #[arg(help_heading = SEEING, long, value_name = "FILE")]
    pub decision_log: Option<PathBuf>,
    /// A recording.
    #[command(flatten)]
    pub record: RecordArgs,
    /// How the engine's own log is written, on standard error
    #[arg(help_heading = SEEING, long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

const ADDRESSES: &str = "Addresses and connections";
const SEEING: &str = "Seeing and steering";

const RUN_EXAMPLES: &str = "\
Examples:
  pointsman run -f services/
  pointsman run -f services/ --node-name node01 --node-ip 192.168.2.6
  pointsman run -f services/ --policy-dir policies/ --decision-log decisions.jsonl
  pointsman run --config pointsman.yaml

A configuration file has the names of the flags, without the dashes in front:
  file: [services/, extra.yaml]
  node-name: node01
  node-ip: [192.168.2.6]
  decision-log: /var/log/pointsman/decisions.jsonl
  drain-timeout: 1m

Then:
  curl http://127.0.0.1:8797/readyz    200 once it serves
  curl http://127.0.0.1:8797/bound     every address that is listened on
  curl http://127.0.0.1:8797/metrics   counters, for Prometheus";

/// How Service addresses are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VipMode {
    /// anyip where the process may (CAP_NET_ADMIN), else loopback
    Auto,
    /// as they are: the kernel is told that the Service CIDR is this machine's
    Anyip,
    /// 10.97.72.1 as 127.97.72.1: needs no privileges, and only this machine reaches them
    Loopback,
}

/// How the engine's own log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// for people
    Text,
    /// one object a line
    Json,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// for people
    Text,
    /// for programs
    Json,
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClientOrigin {
    /// a pod
    Pod,
    /// this node
    Node,
    /// anywhere else
    Outside,
}

/// Limits of each policy; the defaults are those of `policy::Limits`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits of the sandbox, for each policy")]
pub struct SandboxArgs {
    /// Fuel of one decision (a built-in policy uses tens to a few thousand units)
    #[arg(long, value_name = "UNITS", default_value = "50000", value_parser = values::count)]
    pub policy_fuel: u64,
    /// Fuel of one adoption of a plan by a worker
    #[arg(long, value_name = "UNITS", default_value = "10000000", value_parser = values::count, hide_short_help = true)]
    pub policy_adopt_fuel: u64,
    /// Fuel of one call that plans
    #[arg(long, value_name = "UNITS", default_value = "500000000", value_parser = values::count)]
    pub policy_planner_fuel: u64,
    /// Longest call on a worker: a net below the fuel
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = values::duration)]
    pub policy_deadline: Duration,
    /// Longest call that plans
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = values::duration)]
    pub policy_planner_deadline: Duration,
    /// Share of a core that a policy may take of each worker, before its breaker opens
    #[arg(long, value_name = "PERCENT", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub policy_core_share: u32,
    /// Linear memory of one instance
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = values::size)]
    pub policy_memory: u64,
    /// Stack of one call
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = values::size, hide_short_help = true)]
    pub policy_stack: u64,
    /// Bytes that one call on a worker may hand to the host
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = values::size, hide_short_help = true)]
    pub policy_answer_size: u64,
    /// Bytes that one call that plans may hand to the host
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = values::size, hide_short_help = true)]
    pub policy_planner_answer_size: u64,
    /// Size of a component
    #[arg(long, value_name = "SIZE", default_value = "2MiB", value_parser = values::size)]
    pub policy_component_size: u64,
    /// Core modules in a component
    #[arg(long, value_name = "N", default_value_t = 8, hide_short_help = true)]
    pub policy_modules: usize,
    /// Functions in a component
    #[arg(long, value_name = "N", default_value_t = 20_000, hide_short_help = true)]
    pub policy_functions: usize,
    /// Size of one function of a component
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = values::size, hide_short_help = true)]
    pub policy_function_size: u64,
    /// Core instances in one instance
    #[arg(long, value_name = "N", default_value_t = 32, hide_short_help = true)]
    pub policy_core_instances: usize,
    /// Linear memories in one instance
    #[arg(long, value_name = "N", default_value_t = 4, hide_short_help = true)]
    pub policy_memories: usize,
    /// Tables in one instance
    #[arg(long, value_name = "N", default_value_t = 16, hide_short_help = true)]
    pub policy_tables: usize,
    /// Elements of one table
    #[arg(long, value_name = "N", default_value_t = 20_000, hide_short_help = true)]
    pub policy_table_elements: usize,
    /// Instances of all policies, on all workers
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..), hide_short_help = true)]
    pub policy_instances: u32,
    /// Time to compile a component
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::duration, hide_short_help = true)]
    pub policy_compile_time: Duration,
    /// Memory to compile a component
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = values::size, hide_short_help = true)]
    pub policy_compile_memory: u64,
    /// Log lines that a policy may write in a second
    #[arg(long, value_name = "LINES", default_value_t = 10, hide_short_help = true)]
    pub policy_log_rate: u32,
    /// Length of such a line; the rest is cut off
    #[arg(long, value_name = "SIZE", default_value = "256B", value_parser = values::size, hide_short_help = true)]
    pub policy_log_line: u64,
    /// Size of a policy's settings
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = values::size, hide_short_help = true)]
    pub policy_settings_size: u64,
}

impl SandboxArgs {
    /// As the sandbox takes them. The period of the epoch, which the deadlines are counted in, has no flag.
    pub fn limits(&self) -> Limits {
        let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        Limits {
            worker_deadline: self.policy_deadline,
            planner_deadline: self.policy_planner_deadline,
            hot_fuel: self.policy_fuel,
            adopt_fuel: self.policy_adopt_fuel,
            planner_fuel: self.policy_planner_fuel,
            core_share_percent: self.policy_core_share,
            memory_bytes: bytes(self.policy_memory),
            wasm_stack_bytes: bytes(self.policy_stack),
            hot_hostcall_bytes: bytes(self.policy_answer_size),
            planner_hostcall_bytes: bytes(self.policy_planner_answer_size),
            component_bytes: bytes(self.policy_component_size),
            modules: self.policy_modules,
            functions: self.policy_functions,
            body_bytes: bytes(self.policy_function_size),
            instances: self.policy_core_instances,
            memories: self.policy_memories,
            tables: self.policy_tables,
            table_elements: self.policy_table_elements,
            pool_instances: self.policy_instances,
            log_line_bytes: bytes(self.policy_log_line),
            compile_time: self.policy_compile_time,
            compile_memory_bytes: self.policy_compile_memory,
            log_lines_per_second: self.policy_log_rate,
            settings_bytes: bytes(self.policy_settings_size),
            ..Limits::default()
        }
    }
}

/// What `route` is asked.
#[derive(Debug, Args)]
#[command(after_help = ROUTE_EXAMPLES)]
pub struct RouteArgs {
    /// Who connects; without a port, each connection has another
    #[arg(long, value_name = "IP[:PORT]")]
    pub client: ClientAddress,
    /// Where the client is [default: what its address says]
    #[arg(long, value_name = "WHERE")]
    pub origin: Option<ClientOrigin>,
    /// What is dialled
    #[arg(long, value_name = "IP:PORT[/tcp|/udp]")]
    pub to: Target,
    /// Decide this many connections and count where they go
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub connections: Option<u64>,
    /// Draw random numbers from this seed, so that the answer is the same again [default: one is drawn and shown]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How the answer is written
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
    /// Read options from a YAML file, as `run` does; what only `run` knows is passed over
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The key of `client-hash`, as `run` has it
    #[arg(long, value_name = "FILE")]
    pub hash_secret_file: Option<PathBuf>,
    /// Manifests.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Policies.
    #[command(flatten)]
    pub policies: PolicyArgs,
}

const ROUTE_EXAMPLES: &str = "\
Examples:
  pointsman route -f services/ --client 10.244.1.9 --to 10.97.72.1:80
  pointsman route -f services/ --client 203.0.113.7 --to 192.168.2.6:31398 --node-name node01 --node-ip 192.168.2.6
  pointsman route -f services/ --client 10.244.1.9 --to 10.97.72.1:80 --connections 3000 --seed 1 -o json";

/// What `check` is told.
#[derive(Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub struct CheckArgs {
    /// How the findings are written
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
    /// Read options from a YAML file, as `run` does; what only `run` knows is passed over
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Manifests.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Policies.
    #[command(flatten)]
    pub policies: PolicyArgs,
}

const CHECK_EXAMPLES: &str = "\
Examples:
  pointsman check -f services/
  pointsman check -f services/ -o json";

/// What can be done with policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Write a project: a policy that builds, with tests
    New(project::NewArgs),
    /// Build a project's component, with the language's own toolchain
    Build(project::BuildArgs),
    /// Run a Rust project's tests in the sandbox; cargo calls this
    RunTests(Box<project::RunTestsArgs>),
    /// Show what a component is, what it needs, and whether it is fit to serve
    Inspect(Box<inspect::Args>),
    /// Run a policy's tests
    ///
    /// A test is data: which endpoints there are, who connects, what changes, what must hold (docs/testing.md). Each runs with fresh instances,
    /// on the way of a real connection (objects, plans, the three stages), without sockets.
    Test(Box<workbench::test::Args>),
    /// Hold a policy to the laws of its class
    ///
    /// Every policy answers the same to the same calls, and does not fail, whatever it is given; and each class promises more: that few clients
    /// move, that shares follow weights, that connections stay in the zone, that a share of the clients is what was asked. docs/testing.md has
    /// them all.
    Check(Box<workbench::check::Args>),
    /// Measure what a policy costs, by the number of endpoints
    ///
    /// Fuel of plans, adoptions and decisions is the same on every machine; nanoseconds are this machine's, and change from run to run. Ends with
    /// 1 where something is over its budget: the host's limits, or what the flags say.
    Cost(Box<workbench::cost::Args>),
    /// Simulate a balancer in a scenario, alone or against others
    ///
    /// Connections, endpoints and what happens to them, in virtual time, under many seeds: closed-loop, so a policy's own choices are the load that
    /// it meets (docs/simulator.md).
    Sim(Box<workbench::sim::Args>),
    /// Look for input that makes a policy fault, and make it small
    ///
    /// Draws tables, loads, outcomes and connections with the ends of every range in them, until something goes wrong: a trap, a limit, a slot
    /// that is not of the set, no opinion without need, two instances that differ. Shows the smallest input that still does it.
    Fuzz(Box<workbench::fuzz::Args>),
    /// Put a component in force under a name, in a running engine
    ///
    /// The engine checks, compiles and tests it first; if it is not fit, the version in force goes on and the reason is shown. Established
    /// connections are not touched, and no new one fails. Services use it once their annotation names it, for example
    /// `pointsman.dev/balancer: NAME`.
    Swap(SwapArgs),
    /// Put the version before in force again, in a running engine
    ///
    /// It was kept warm: this takes effect at once. Rolling back twice brings the newer version back.
    Rollback(RollbackArgs),
    /// List the policies of a running engine
    List(AdminArgs),
    /// Put a component into a registry
    ///
    /// Looks whether it is a policy, uploads what the registry does not have, and prints the reference with its digest: what an annotation had
    /// best name, since nobody can change what it stands for. The same component has the same digest everywhere.
    Push(oci::PushArgs),
    /// Fetch a component from a registry
    ///
    /// Writes it to a file and prints the reference with the digest that was found. What comes is checked against its digest, and kept: by
    /// digest, it is not asked for again.
    Pull(oci::PullArgs),
    /// Make a recording's policies decide again, and compare
    Replay(Box<ReplayArgs>),
    /// Try another balancer on a recording's connections, and compare
    Diff(Box<DiffArgs>),
    /// Show what came of a balancer that a running engine tries beside the one in force
    ///
    /// A Service names it by `pointsman.dev/balancer-shadow`, and by `pointsman.dev/balancer-canary` the share of clients that it is in charge of
    /// (docs/shadow.md). Ends with 1 where the candidate fails, or was rolled back.
    Shadow(shadow::Args),
}

/// Where the running engine is.
#[derive(Clone, Debug, Args)]
pub struct AdminArgs {
    /// The engine's admin port
    #[arg(long, value_name = "ADDR:PORT", default_value_t = admin::DEFAULT_ADDRESS)]
    pub admin: SocketAddr,
    /// The file that the engine was given as `--admin-token-file`
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// What `policy swap` is told.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  pointsman policy swap my-balancer target/my_balancer.wasm")]
pub struct SwapArgs {
    /// The policy's name, as in annotations
    pub name: String,
    /// The component
    pub file: PathBuf,
    /// The engine.
    #[command(flatten)]
    pub engine: AdminArgs,
}

/// What `policy rollback` is told.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  pointsman policy rollback my-balancer")]
pub struct RollbackArgs {
    /// The policy's name, as in annotations
    pub name: String,
    /// The engine.
    #[command(flatten)]
    pub engine: AdminArgs,
}

/// What `backend` is told.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  pointsman backend --listen 127.1.0.1:8080 --name web-1 --listen 127.1.0.2:8080 --name web-2")]
pub struct BackendArgs {
    /// Where it listens; port 0 takes a free one; several make several backends
    #[arg(long = "listen", value_name = "ADDR:PORT", required = true)]
    pub listen: Vec<SocketAddr>,
    /// What it calls itself, in the order of the addresses [default: its address]
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<String>,
}
