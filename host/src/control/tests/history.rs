//! Whatever happened, the table is the one that the objects alone would give. Histories are random; one that fails is cut down to the
//! steps that matter.
//!
//! What somebody was given first is his: objects never ask for one another's addresses here (`scarcity` is about those that do), and what
//! a Service keeps when it says nothing (its family policy) it says always, or never.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::support::*;
use crate::control::Settings;
use crate::objects::model::{
    ClusterIp, IpFamily, IpFamilyPolicy, Kind, Labels, Locality, Meta, Node, ObjectKey, Pod, Protocol, Service, ServicePort, ServiceType,
    TargetPort,
};
use crate::policy::catalogue::{Catalogue, DEFAULT_BALANCER, DEFAULT_SELECTOR, DEFAULT_TRAFFIC_POLICY};
use crate::policy::contract::StageKind;
use crate::store::Change;
use crate::table::VersionId;

/// Steps in all, shared among the kinds of hosts below.
const STEPS: usize = 100_000;
const HOSTS: usize = 4;
/// Of one history, at most.
const LENGTH: usize = 400;

#[test]
fn tables_of_a_single_stack_host() {
    histories(1, &settings());
}

#[test]
fn tables_of_a_dual_stack_host() {
    histories(2, &with_pools(dual_stack()));
}

#[test]
fn tables_of_a_host_that_prefers_ipv6() {
    let mut settings = with_pools(dual_stack());
    settings.service_ranges.reverse();
    settings.load_balancer_pools.pop();
    histories(3, &settings);
}

#[test]
fn tables_of_a_host_without_addresses_of_its_own() {
    histories(4, &Settings { node_port_addresses: vec![], node_addresses: vec![], ..with_pools(settings()) });
}

fn with_pools(settings: Settings) -> Settings {
    let pools = ["198.18.0.0/16", "2001:db8:1::/112"];
    Settings { load_balancer_pools: pools.iter().map(|net| net.parse().unwrap()).collect(), ..settings }
}

/// What happens between two looks at the table.
#[derive(Clone, Debug)]
struct Step {
    changes: Vec<Change>,
    catalogue: Option<Catalogue>,
    masked: bool,
    /// Otherwise more happens first.
    rebuilt: bool,
}

fn step(dual: bool) -> impl Strategy<Value = Step> {
    let seed = || any::<u64>().no_shrink();
    let changes = vec(seed().prop_map(move |seed| random_change(&mut Dice(seed), dual)), 1..=3);
    let catalogue = proptest::option::weighted(0.1, seed().prop_map(|seed| random_catalogue(&mut Dice(seed))));
    let (masked, rebuilt) = (prop::bool::weighted(1.0 / 3.0), prop::bool::weighted(2.0 / 3.0));
    (changes, catalogue, masked, rebuilt).prop_map(|(changes, catalogue, masked, rebuilt)| Step { changes, catalogue, masked, rebuilt })
}

/// The same histories every time.
fn histories(seed: u8, settings: &Settings) {
    let dual = settings.service_ranges.len() > 1;
    // So many node ports that no two names draw the same.
    let settings = Settings { node_port_range: 10_000..=65_000, ..settings.clone() };
    let steps = Cell::new(0);
    for batch in 0_u8.. {
        let config = Config { cases: 16, max_shrink_iters: 2000, failure_persistence: None, ..Config::default() };
        let seed: [u8; 32] = std::array::from_fn(|at| if at == 0 { seed } else { batch });
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        let outcome = runner.run(&vec(step(dual), 1..=LENGTH), |history| {
            steps.set(steps.get() + history.len());
            follow(&settings, history)
        });
        match outcome {
            Ok(()) if steps.get() >= STEPS / HOSTS => return,
            Ok(()) => {}
            Err(TestError::Fail(why, history)) => {
                let steps: Vec<String> = history.iter().map(|step| format!("{step:?}")).collect();
                panic!("{why}\nafter {} steps:\n{}", steps.len(), steps.join("\n"));
            }
            Err(TestError::Abort(why)) => panic!("{why}"),
        }
    }
}

fn follow(settings: &Settings, history: Vec<Step>) -> Result<(), TestCaseError> {
    let mut bench = Bench::of(settings.clone());
    bench.planner = planner();
    let mut objects: BTreeMap<ObjectKey, Change> = BTreeMap::new();
    let mut known = catalogue();
    for (at, step) in history.into_iter().enumerate() {
        for change in &step.changes {
            match change {
                Change::Put(object) => objects.insert(object.key(), change.clone()),
                Change::Delete(key) => objects.remove(key),
            };
        }
        bench.now_ms += 1;
        bench.controller.apply(step.changes, bench.now_ms);
        if let Some(catalogue) = step.catalogue {
            known = catalogue;
            bench.controller.catalogue(known.clone());
        }
        if step.masked {
            bench.controller.masked_table();
        }
        if !step.rebuilt {
            continue;
        }
        bench.rebuild();
        let mut scratch = Bench::of(settings.clone());
        scratch.planner = planner();
        scratch.controller.catalogue(known.clone());
        scratch.change(objects.values().cloned().collect());
        compare(&bench, &scratch, at)?;
    }
    Ok(())
}

fn compare(bench: &Bench, scratch: &Bench, at: usize) -> Result<(), TestCaseError> {
    let (kept, anew) = (normalised(bench.table()), normalised(scratch.table()));
    for key in kept.keys().chain(anew.keys()) {
        prop_assert_eq!(kept.get(key), anew.get(key), "step {}: {}", at, key);
    }
    for name in (0..SERVICES).map(|n| format!("s{n}")) {
        prop_assert_eq!(bench.allocation(&name), scratch.allocation(&name), "step {}: {}", at, name);
    }
    let told = |bench: &Bench| {
        let mut told = messages(&bench.controller.diagnostics().into_iter().cloned().collect::<Vec<_>>());
        told.sort();
        told
    };
    prop_assert_eq!(told(bench), told(scratch), "step {}", at);
    Ok(())
}

/// How many names there are.
const SERVICES: usize = 6;
const PODS: usize = 12;
/// This one is headless, always.
const HEADLESS: usize = 4;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }

    fn any<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.roll(choices.len())]
    }
}

fn random_service(dice: &mut Dice, dual: bool) -> Change {
    let number = dice.roll(SERVICES);
    let name = format!("s{number}");
    let all = [
        ServicePort { target_port: TargetPort::Name("http".into()), ..port("http", 80, 0) },
        port("dns", 53, 5353),
        ServicePort { protocol: Protocol::Udp, ..port("dns-udp", 53, 5353) },
    ];
    let ports: Vec<ServicePort> = all.into_iter().filter(|_| !dice.one_in(3)).collect();
    let mut selector = Labels::new();
    selector.insert("app".into(), dice.any(&["a", "b", "c"]).into());
    if dice.one_in(3) {
        selector.insert("track".into(), dice.any(&["x", "y"]).into());
    }
    let mut service = Service {
        ports: if ports.is_empty() { vec![port("http", 80, 8080)] } else { ports },
        selector: (!dice.one_in(4)).then_some(selector),
        publish_not_ready: dice.one_in(4),
        external_ips: if dice.one_in(3) { vec![ip(&format!("198.51.100.{number}"))] } else { vec![] },
        other_proxy: dice.one_in(10),
        ..service(&name)
    };
    let headless = families(&mut service, dice, number, dual);
    exposure(&mut service, dice, number, headless);
    if dice.one_in(3) {
        service.options.selector.settings = labels(&[("split", "track=x,y")]);
    }
    if dice.one_in(3) {
        service.options.balancer.policy = Some("mine".into());
    }
    if dice.one_in(5) {
        service.options.proxy_protocol = true;
    }
    service.put()
}

/// A third of the Services say nothing of families, a third a policy, and a third a policy and a family. True: it is headless when it is
/// of type ClusterIP.
fn families(service: &mut Service, dice: &mut Dice, number: usize, dual: bool) -> bool {
    if number.is_multiple_of(3) {
        return false;
    }
    let policies = [IpFamilyPolicy::SingleStack, IpFamilyPolicy::PreferDualStack, IpFamilyPolicy::RequireDualStack];
    service.ip_family_policy = Some(policies[dice.roll(if dual { 3 } else { 2 })]);
    if number % 3 == 2 {
        service.ip_families = vec![if dual { IpFamily::V6 } else { IpFamily::V4 }];
    }
    number == HEADLESS
}

fn exposure(service: &mut Service, dice: &mut Dice, number: usize, headless: bool) {
    let allocate_node_ports = dice.one_in(2);
    service.service_type = match dice.roll(if headless { 2 } else { 8 }) {
        0 | 1 => ServiceType::ClusterIp,
        2 | 3 => ServiceType::NodePort,
        4 => ServiceType::ExternalName("example.org".into()),
        _ => ServiceType::LoadBalancer { allocate_node_ports },
    };
    match service.service_type {
        ServiceType::ExternalName(_) => {
            (service.ip_family_policy, service.ip_families) = (None, vec![]);
        }
        ServiceType::ClusterIp if headless => service.cluster_ip = ClusterIp::Headless,
        ServiceType::LoadBalancer { .. } => {
            service.load_balancer_class = [None, Some("pointsman.dev/pool"), Some("example.org/x")][number / 2].map(str::to_owned);
            service.load_balancer_ip = (number == 1).then(|| ip("198.18.0.7"));
            service.load_balancer_ips = if dice.one_in(4) { vec![ip(&format!("192.0.2.{}", 100 + number))] } else { vec![] };
            service.load_balancer_source_ranges = if dice.one_in(3) { vec!["192.0.2.0/24".parse().unwrap()] } else { vec![] };
        }
        _ => {}
    }
    service.external_traffic_policy = if dice.one_in(2) { Locality::Local } else { Locality::Cluster };
}

fn random_pod(dice: &mut Dice) -> Change {
    let number = dice.roll(PODS);
    let name = format!("p{number}");
    let mut own = labels(&[("app", dice.any(&["a", "b", "c"]))]);
    if dice.one_in(2) {
        own.insert("track".into(), dice.any(&["x", "y", "z"]).into());
    }
    if dice.one_in(4) {
        own.insert("unique".into(), name.clone());
    }
    let meta = Meta { labels: own, terminating: dice.one_in(5), ..meta(&name) };
    let mut addresses = if dice.one_in(10) { vec![] } else { vec![ip(&format!("10.244.0.{}", dice.roll(14)))] };
    if dice.one_in(3) {
        addresses.push(ip(&format!("fd00::{}", dice.roll(14))));
    }
    let mut ports = if dice.one_in(4) { vec![] } else { vec![container_port("http", 8000 + dice.roll(2) as u16)] };
    for port in &mut ports {
        port.host_port = dice.one_in(2).then_some(9000 + number as u16);
        port.host_ip = dice.one_in(3).then(|| ip("192.0.2.1"));
    }
    Pod {
        meta,
        ready: !dice.one_in(3),
        finished: dice.one_in(10),
        addresses,
        node: (!dice.one_in(4)).then(|| dice.any(&["here", "there", "gone"]).into()),
        ports,
        weight: dice.one_in(6).then_some(3),
        host_network: dice.one_in(8),
        ..Pod::default()
    }
    .put()
}

fn random_node(dice: &mut Dice) -> Change {
    let addresses = if dice.one_in(2) { vec![ip(&format!("192.0.2.{}", dice.roll(3)))] } else { vec![] };
    Node { addresses, ..node(dice.any(&["here", "there"]), dice.any(&["a", "b"])) }.put()
}

fn random_written(dice: &mut Dice) -> Change {
    let service = format!("s{}", dice.roll(SERVICES));
    let addresses: Vec<String> = (0..dice.roll(4)).map(|_| format!("203.0.113.{}", dice.roll(6))).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let port_name = dice.any(&["http", "dns", "other"]);
    if dice.one_in(2) {
        let mut endpoints = written(&service, &addresses, port_name, 9000);
        if let Some(first) = endpoints.subsets[0].addresses.first_mut() {
            first.ready = dice.one_in(2);
            first.node = Some("there".into());
        }
        endpoints.put()
    } else {
        slice(&format!("e{}", dice.roll(5)), &service, &addresses, port_name, 9000).put()
    }
}

fn random_delete(dice: &mut Dice) -> Change {
    match dice.roll(5) {
        0 => delete(Kind::Service, &format!("s{}", dice.roll(SERVICES))),
        1 => delete(Kind::Pod, &format!("p{}", dice.roll(PODS))),
        2 => delete(Kind::Endpoints, &format!("s{}", dice.roll(SERVICES))),
        3 => delete(Kind::EndpointSlice, &format!("e{}", dice.roll(5))),
        _ => delete(Kind::Node, dice.any(&["here", "there"])),
    }
}

fn random_change(dice: &mut Dice, dual: bool) -> Change {
    match dice.roll(12) {
        0..=2 => random_service(dice, dual),
        3..=7 => random_pod(dice),
        8 => random_written(dice),
        9 => random_node(dice),
        _ => random_delete(dice),
    }
}

/// Any of eight versions for each name, with or without one before it.
fn random_catalogue(dice: &mut Dice) -> Catalogue {
    let mut known = catalogue();
    for (stage, name) in [
        (StageKind::Selector, DEFAULT_SELECTOR),
        (StageKind::TrafficPolicy, DEFAULT_TRAFFIC_POLICY),
        (StageKind::Balancer, DEFAULT_BALANCER),
        (StageKind::Balancer, "mine"),
    ] {
        let current = VersionId(100 + dice.roll(8) as u32);
        let previous = dice.one_in(2).then(|| VersionId(100 + dice.roll(8) as u32)).filter(|previous| *previous != current);
        swap(&mut known, stage, name, current, previous);
    }
    known
}

/// One version fails at everything, one names two groups.
fn planner() -> Native {
    let mut planner = Native::default();
    planner.faulty.insert(VersionId(105));
    planner.groups.insert(VersionId(106), 2);
    planner
}
