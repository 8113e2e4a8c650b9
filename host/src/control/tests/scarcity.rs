//! Services that ask for one another's addresses, where there are too few: nobody has what another has, nobody loses what he has while he
//! still wants it, and nothing is lost for good.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::support::*;
use crate::control::{Allocation, Settings};
use crate::objects::model::{ClusterIp, IpFamilyPolicy, Kind, Locality, Protocol, Service, ServicePort, ServiceType};

/// 6 cluster IPs of IPv4 and 2 of IPv6, 7 node ports, 2 load-balancer addresses, for 10 Services.
fn few() -> Settings {
    let nets = |texts: &[&str]| texts.iter().map(|net| net.parse().unwrap()).collect();
    Settings {
        service_ranges: nets(&["10.96.0.0/29", "fd00::/126"]),
        node_port_range: 30000..=30006,
        load_balancer_pools: nets(&["203.0.113.8/30"]),
        ..settings()
    }
}

const SERVICES: u8 = 10;

fn wanted() -> impl Strategy<Value = Service> {
    let addresses = proptest::option::weighted(0.3, 1..=6_u8);
    let number = || proptest::option::weighted(0.3, 30000..=30006_u16);
    let policy = proptest::option::of(prop_oneof![Just(IpFamilyPolicy::SingleStack), Just(IpFamilyPolicy::RequireDualStack)]);
    let kind = (0..4_u8, any::<bool>(), proptest::option::weighted(0.3, 9..=10_u8));
    (0..SERVICES, addresses, number(), number(), policy, kind).prop_map(|(name, address, node_port, health, policy, kind)| {
        let (kind, local, asked) = kind;
        Service {
            cluster_ip: address.map_or(ClusterIp::Allocate, |last| ClusterIp::Fixed(vec![ip(&format!("10.96.0.{last}"))])),
            ip_family_policy: policy,
            ports: vec![
                ServicePort { node_port: node_port.filter(|_| kind > 0), ..port("tcp", 53, 53) },
                ServicePort { protocol: Protocol::Udp, ..port("udp", 53, 53) },
            ],
            service_type: match kind {
                0 => ServiceType::ClusterIp,
                1 => ServiceType::NodePort,
                _ => ServiceType::LoadBalancer { allocate_node_ports: kind == 2 },
            },
            external_traffic_policy: if local { Locality::Local } else { Locality::Cluster },
            health_check_node_port: health.filter(|_| kind > 1 && local),
            load_balancer_ip: asked.filter(|_| kind > 1).map(|last| ip(&format!("203.0.113.{last}"))),
            ..service(&format!("s{name}"))
        }
    })
}

#[derive(Clone, Debug)]
enum Event {
    Put(Box<Service>),
    Delete(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![3 => wanted().prop_map(|service| Event::Put(Box::new(service))), 1 => (0..SERVICES).prop_map(Event::Delete)]
}

/// What an allocation holds, as text, each with its kind.
fn holdings(service: &Service, allocation: &Allocation) -> Vec<String> {
    let ips = allocation.cluster_ips.iter().map(|ip| format!("cluster IP {ip}"));
    let ports = service.ports.iter().zip(&allocation.node_ports);
    let ports = ports.filter_map(|(port, number)| Some(format!("node port {:?} {}", port.protocol, (*number)?)));
    let health = allocation.health_check_node_port.map(|number| format!("node port Tcp {number}"));
    let balancers = allocation.load_balancer_ips.iter().map(|ip| format!("load balancer {ip}"));
    ips.chain(ports).chain(health).chain(balancers).collect()
}

fn counted(held: &BTreeMap<String, String>, what: &str) -> usize {
    held.keys().filter(|key| key.starts_with(what)).count()
}

fn follow(rounds: Vec<Vec<Event>>) -> Result<(), TestCaseError> {
    let mut bench = Bench::of(few());
    // As they are in force.
    let mut in_force: BTreeMap<String, (Service, Allocation)> = BTreeMap::new();
    for (at, events) in rounds.into_iter().enumerate() {
        let mut touched = BTreeMap::new();
        for event in &events {
            match event {
                Event::Put(service) => touched.insert(service.meta.name.clone(), Some(service)),
                Event::Delete(number) => touched.insert(format!("s{number}"), None),
            };
        }
        let changes = events.iter().map(|event| match event {
            Event::Put(service) => Service::clone(service).put(),
            Event::Delete(number) => delete(Kind::Service, &format!("s{number}")),
        });
        bench.change(changes.collect());
        let (mut held, mut now) = (BTreeMap::new(), BTreeMap::new());
        for name in (0..SERVICES).map(|number| format!("s{number}")) {
            let Some(applied) = bench.controller.services.get(&crate::control::ServiceName::of(&meta(&name))) else { continue };
            for holding in holdings(&applied.service, &applied.allocation) {
                let other = held.insert(holding.clone(), name.clone());
                prop_assert_eq!(other, None, "round {}: {} is {}'s too", at, holding, name);
            }
            if let Some((service, before)) = in_force.get(&name).filter(|_| !touched.contains_key(&name)) {
                let (kept, had) = (holdings(&applied.service, &applied.allocation), holdings(service, before));
                let lost: Vec<_> = had.iter().filter(|holding| !kept.contains(holding)).collect();
                // A wish that was refused may be granted since; else all is kept.
                prop_assert!(*applied.service != *service || lost.is_empty(), "round {}: {} lost {:?}", at, name, lost);
            }
            now.insert(name, (Service::clone(&applied.service), applied.allocation.clone()));
        }
        in_force = now;
        let told = messages(&bench.controller.diagnostics().into_iter().cloned().collect::<Vec<_>>());
        let (v4, v6) = (counted(&held, "cluster IP 10."), counted(&held, "cluster IP fd"));
        for text in told {
            prop_assert!(
                !text.contains("no cluster IP is free in the service range (10.") || v4 == 6,
                "round {}: {}, with {}",
                at,
                text,
                v4
            );
            prop_assert!(
                !text.contains("no cluster IP is free in the service range (fd") || v6 == 2,
                "round {}: {}, with {}",
                at,
                text,
                v6
            );
            // One Service may want two of TCP: the second for its health check.
            let full = counted(&held, "node port Tcp") >= 6 || counted(&held, "node port Udp") == 7;
            prop_assert!(!text.contains("no node port is free") || full, "round {}: {}: {:?}", at, text, held);
            let full = counted(&held, "load balancer") == 2;
            prop_assert!(!text.contains("stays pending") || full, "round {}: {}: {:?}", at, text, held);
        }
    }
    everything_is_free_again(bench)
}

/// When all are gone, one can have each of what there is.
fn everything_is_free_again(mut bench: Bench) -> Result<(), TestCaseError> {
    bench.change((0..SERVICES).map(|number| delete(Kind::Service, &format!("s{number}"))).collect());
    prop_assert_eq!(bench.controller.diagnostics().len(), 0);
    let asks = |at: u8| Service {
        cluster_ip: ClusterIp::Fixed(vec![ip(&format!("10.96.0.{at}"))]),
        ports: vec![ServicePort { node_port: Some(30000 + u16::from(at)), ..port("", 80, 80) }],
        service_type: ServiceType::LoadBalancer { allocate_node_ports: true },
        load_balancer_ip: (at < 3).then(|| ip(&format!("203.0.113.{}", 8 + at))),
        load_balancer_class: (at > 2).then(|| "example.org/other".to_owned()),
        ..service(&format!("s{at}"))
    };
    bench.change((1..=6).map(|at| asks(at).put()).collect());
    let all: BTreeSet<_> = (1..=6).flat_map(|at| holdings(&asks(at), &bench.allocation(&format!("s{at}")))).collect();
    prop_assert_eq!(all.len(), 6 + 6 + 2);
    Ok(())
}

#[test]
fn nobody_has_what_another_has_and_nothing_is_lost() {
    let config = Config { cases: 400, max_shrink_iters: 2000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    runner.run(&vec(vec(event(), 1..=3), 1..=50), follow).unwrap();
}
