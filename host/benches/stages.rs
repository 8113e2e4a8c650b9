//! What the three stages cost a connection, and what a change costs the planner and a worker.
//!
//! `cargo bench -p pointsman --bench stages`. Fuel is exact and the same on every machine: one unit is about one Wasm instruction. The
//! processor's instructions are counted by valgrind, where it is installed: this program runs itself under callgrind. Both are printed
//! first; times follow.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a measurement may stop where it fails")]

use std::hint::black_box;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group};
use pointsman::policy::compile::Compiler;
use pointsman::policy::contract::{Connection, Partition, Planner, StageKind};
use pointsman::policy::planners::Planners;
use pointsman::policy::registry::{Registry, RegistryOptions};
use pointsman::policy::worker::WorkerPolicies;
use pointsman::policy::{Limits, Sandbox};
use pointsman::route::{self, By};
use pointsman::table::{self, CandidateSet, Fallback, Load, Planned, PolicyVersion, Port, PortOptions, Slot, Stage, Subset, Table};
use pointsman_sdk::native;
use pointsman_sdk::types::{Endpoint, ServicePort};

const BALANCERS: [&str; 6] = ["round-robin", "random", "two-choices", "maglev", "rendezvous", "least-connections"];
const SIZES: [u32; 3] = [10, 1_000, 10_000];

/// One for all, so that each policy is compiled once.
static REGISTRY: LazyLock<Arc<Registry>> = LazyLock::new(registry);

fn registry() -> Arc<Registry> {
    // A loop that does nothing but decide takes a whole core, which is what this limit is there to stop.
    let limits = Limits { core_share_percent: u32::MAX, ..Limits::default() };
    Registry::new(Sandbox::new(limits, Compiler::InProcess).unwrap(), RegistryOptions::default())
}

/// A Service port with its three policies planned, as the control side makes it.
struct Bench {
    registry: Arc<Registry>,
    planners: Planners,
    record: ServicePort,
    endpoints: Vec<Endpoint>,
    balancer: Arc<PolicyVersion>,
    table: Arc<Table>,
}

impl Bench {
    fn new(balancer: &str, size: u32) -> Self {
        Self::over(&REGISTRY, balancer, size)
    }

    fn over(registry: &Arc<Registry>, balancer: &str, size: u32) -> Self {
        let version = |stage, name: &str| Arc::clone(&registry.catalogue().entry(stage, name).unwrap().current);
        let (selector, traffic_policy) = (version(StageKind::Selector, "label-selector"), version(StageKind::TrafficPolicy, "kubernetes"));
        let balancer = version(StageKind::Balancer, balancer);
        let mut planners = Planners::new(Arc::clone(registry));
        let record = native::port(0);
        let endpoints = native::endpoints(&vec![1; size as usize]);
        let grouping = planners.plan_selector(selector.id, &record).unwrap();
        let Partition { subsets, data } = planners.plan_traffic_policy(traffic_policy.id, &record, &endpoints).unwrap();
        let plan = planners.plan_balancer(balancer.id, &record, &endpoints).unwrap();
        let port = Port {
            selector: stage(&selector, grouping.data.into()),
            traffic_policy: stage(&traffic_policy, data.into()),
            balancer: stage(&balancer, Arc::from([Arc::from(plan)])),
            ..unplanned(&record, &endpoints, subsets)
        };
        let table = Arc::new(Table { generation: 1, ports: [Some(Arc::new(port))].into_iter().collect(), ..Table::default() });
        Self { registry: Arc::clone(registry), planners, record, endpoints, balancer, table }
    }

    fn worker(&self) -> WorkerPolicies {
        let port = self.table.port(0).unwrap();
        let mut worker = WorkerPolicies::new(1);
        let versions = [
            port.selector.current.as_ref().map(|planned| planned.version.id),
            port.traffic_policy.current.as_ref().map(|planned| planned.version.id),
            port.balancer.current.as_ref().map(|planned| planned.version.id),
        ];
        for version in versions.into_iter().flatten() {
            worker.install(self.registry.loaded(version).unwrap(), 0);
        }
        worker.adopt(&self.table, &[0], 0);
        worker
    }
}

fn stage<P>(version: &Arc<PolicyVersion>, plan: P) -> Stage<P> {
    Stage { name: Arc::clone(&version.name), current: Some(Planned { version: Arc::clone(version), plan }), stand_in: None }
}

fn unplanned(record: &ServicePort, endpoints: &[Endpoint], subsets: Vec<Subset>) -> Port {
    let members: Vec<Slot> = subsets.first().map(|subset| subset.members.clone()).unwrap_or_default();
    let none = || Arc::from("none");
    Port {
        id: record.id,
        generation: 1,
        record: Arc::new(record.clone()),
        options: PortOptions::default(),
        endpoints: endpoints.iter().map(endpoint).collect(),
        masked: Arc::from([]),
        groups: Arc::from(["all".to_owned()]),
        subsets: subsets.into(),
        sets: Arc::from([CandidateSet { group: None, subset: 0, members: members.into() }]),
        selector: Stage { name: none(), current: None, stand_in: None },
        traffic_policy: Stage { name: none(), current: None, stand_in: None },
        balancer: Stage { name: none(), current: None, stand_in: None },
        shadow: None,
        fallback: Fallback::default(),
    }
}

fn endpoint(of: &Endpoint) -> table::Endpoint {
    table::Endpoint {
        address: of.key.parse().unwrap(),
        key: of.key.as_str().into(),
        hash: of.hash,
        conditions: of.conditions,
        weight: of.weight,
        local: of.local,
        node: None,
        zone: None,
        node_hints: Vec::new(),
        zone_hints: Vec::new(),
        labels: Arc::default(),
        group: of.group,
        ready_since_ms: 0,
        load: Arc::new(Load::default()),
    }
}

/// Connections from many clients, made beforehand.
fn connections() -> Vec<Connection> {
    (0..4096).map(|n| native::connection(0, n)).collect()
}

fn three_stages(criterion: &mut Criterion) {
    println!(
        "\n{:<28} {:>10} {:>10}   fuel of the balancer's decision; selector and traffic policy beside",
        "policy/endpoints", "mean", "most"
    );
    let connections = connections();
    let mut group = criterion.benchmark_group("three-stages");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    for balancer in BALANCERS {
        for size in SIZES {
            let bench = Bench::new(balancer, size);
            let mut worker = bench.worker();
            let port = bench.table.port(0).unwrap();
            for connection in &connections {
                let decision = route::decide(port, &mut worker, connection, None);
                let by = [&decision.selector, &decision.traffic_policy, &decision.balancer];
                assert!(by.iter().all(|by| matches!(by, By::Current)), "{balancer}/{size}: {decision:?}");
            }
            let fuel: Vec<String> =
                worker.counters().iter().map(|c| format!("{:>10} {:>10}", c.fuel_total / c.calls().max(1), c.fuel_max)).collect();
            println!("{:<28} {}   {}   {}", format!("{balancer}/{size}"), fuel[2], fuel[0], fuel[1]);
            let mut at = 0;
            group.bench_function(BenchmarkId::new(balancer, size), |bencher| {
                bencher.iter(|| {
                    at = (at + 1) % connections.len();
                    black_box(route::decide(port, &mut worker, black_box(&connections[at]), None))
                });
            });
            assert!(
                worker.counters().iter().all(|c| c.faults.iter().sum::<u64>() == 0),
                "{balancer}/{size}: what was timed was a fallback"
            );
        }
    }
    group.finish();
}

/// One endpoint changed: the planner plans the set anew, a worker adopts the plan.
fn change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("change");
    group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300)).sample_size(10);
    for balancer in BALANCERS {
        for size in SIZES {
            let mut bench = Bench::new(balancer, size);
            let mut worker = bench.worker();
            group.bench_function(BenchmarkId::new(format!("plan/{balancer}"), size), |bencher| {
                bencher.iter(|| black_box(bench.planners.plan_balancer(bench.balancer.id, &bench.record, &bench.endpoints).unwrap()));
            });
            group.bench_function(BenchmarkId::new(format!("adopt/{balancer}"), size), |bencher| {
                bencher.iter(|| worker.adopt(black_box(&bench.table), &[0], 0));
            });
        }
    }
    group.finish();
}

/// From nothing to the three default policies, planned and adopted: what a start pays.
fn start(criterion: &mut Criterion) {
    let began = Instant::now();
    let bench = Bench::over(&registry(), "round-robin", 10);
    let worker = bench.worker();
    println!("\nsandbox, three policies compiled, planned and adopted: {:?} ({} versions)", began.elapsed(), worker.counters().len());
    let policy = bench.registry.loaded(bench.balancer.id).unwrap();
    criterion.bench_function("instance/round-robin", |bencher| {
        bencher.iter(|| {
            let mut worker = WorkerPolicies::new(1);
            worker.install(Arc::clone(&policy), 0);
            worker
        });
    });
}

/// Decisions that callgrind counts, after as many that it does not.
const COUNTED: usize = 4096;

/// What callgrind counts: it collects inside this function only, which is found by its name.
#[inline(never)]
fn counted_decisions(port: &Port, worker: &mut WorkerPolicies, connections: &[Connection]) {
    for connection in connections {
        black_box(route::decide(port, worker, black_box(connection), None));
    }
}

/// `--count BALANCER ENDPOINTS`: this program under callgrind.
fn count(balancer: &str, size: &str) {
    let bench = Bench::new(balancer, size.parse().unwrap());
    let (mut worker, port) = (bench.worker(), bench.table.port(0).unwrap());
    let connections: Vec<Connection> = connections().into_iter().cycle().take(COUNTED).collect();
    for connection in &connections {
        black_box(route::decide(port, &mut worker, connection, None));
    }
    counted_decisions(port, &mut worker, &connections);
}

/// Instructions of a decision, all three stages and the host's part.
fn instructions(balancer: &str, size: u32) -> Option<u64> {
    let program = std::env::current_exe().ok()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted_decisions*"])
        .arg(program)
        .args(["--count", balancer, &size.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let collected = text.lines().find_map(|line| line.split_once("Collected :"))?.1;
    Some(collected.trim().parse::<u64>().ok()? / COUNTED as u64)
}

fn print_instructions() {
    println!("\n{:<28} {:>12}   instructions of a decision, its three stages and the host's part", "policy/endpoints", "instructions");
    for (balancer, size) in BALANCERS.iter().flat_map(|balancer| SIZES.map(|size| (balancer, size))) {
        match instructions(balancer, size) {
            Some(count) => println!("{:<28} {count:>12}", format!("{balancer}/{size}")),
            None => return println!("not counted: valgrind is not installed, or does not run here"),
        }
    }
}

criterion_group!(benches, three_stages, change, start);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "--count", balancer, size] => return count(balancer, size),
        // Asked for some benchmarks only, or to list them: the counts can wait.
        [_] | [_, "--bench"] => print_instructions(),
        _ => {}
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
