//! Whatever happened, the table is the one that the objects alone would give.

use std::collections::BTreeMap;

use super::support::*;
use crate::objects::model::{Kind, Labels, Meta, ObjectKey, Pod, Protocol, Service, ServicePort, ServiceType, TargetPort};
use crate::policy::catalogue::{Catalogue, DEFAULT_BALANCER, DEFAULT_SELECTOR, DEFAULT_TRAFFIC_POLICY};
use crate::policy::contract::StageKind;
use crate::store::Change;
use crate::table::VersionId;

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

fn random_service(dice: &mut Dice) -> Change {
    let name = format!("s{}", dice.roll(6));
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
        service_type: if dice.one_in(2) { ServiceType::NodePort } else { ServiceType::ClusterIp },
        ports: if ports.is_empty() { vec![port("http", 80, 8080)] } else { ports },
        selector: (!dice.one_in(4)).then_some(selector),
        publish_not_ready: dice.one_in(4),
        external_ips: if dice.one_in(3) {
            vec![ip(&format!("198.51.100.{}", name.len() + usize::from(name.as_bytes()[1])))]
        } else {
            vec![]
        },
        ..service(&name)
    };
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

fn random_pod(dice: &mut Dice) -> Change {
    let name = format!("p{}", dice.roll(12));
    let mut own = labels(&[("app", dice.any(&["a", "b", "c"]))]);
    if dice.one_in(2) {
        own.insert("track".into(), dice.any(&["x", "y", "z"]).into());
    }
    if dice.one_in(4) {
        own.insert("unique".into(), name.clone());
    }
    let meta = Meta { labels: own, terminating: dice.one_in(5), ..meta(&name) };
    Pod {
        meta,
        ready: !dice.one_in(3),
        finished: dice.one_in(10),
        addresses: if dice.one_in(10) { vec![] } else { vec![ip(&format!("10.244.0.{}", dice.roll(14)))] },
        node: (!dice.one_in(4)).then(|| dice.any(&["here", "there", "gone"]).into()),
        ports: if dice.one_in(4) { vec![] } else { vec![container_port("http", 8000 + dice.roll(2) as u16)] },
        weight: dice.one_in(6).then_some(3),
        ..Pod::default()
    }
    .put()
}

fn random_written(dice: &mut Dice) -> Change {
    let service = format!("s{}", dice.roll(6));
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
        0 => delete(Kind::Service, &format!("s{}", dice.roll(6))),
        1 => delete(Kind::Pod, &format!("p{}", dice.roll(12))),
        2 => delete(Kind::Endpoints, &format!("s{}", dice.roll(6))),
        3 => delete(Kind::EndpointSlice, &format!("e{}", dice.roll(5))),
        _ => delete(Kind::Node, dice.any(&["here", "there"])),
    }
}

fn random_change(dice: &mut Dice) -> Change {
    match dice.roll(12) {
        0..=2 => random_service(dice),
        3..=7 => random_pod(dice),
        8 => random_written(dice),
        9 => node(dice.any(&["here", "there"]), dice.any(&["a", "b"])).put(),
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

fn run(seed: u64, steps: usize) {
    let mut dice = Dice(seed);
    let mut bench = Bench::new();
    bench.planner = planner();
    let mut objects: BTreeMap<ObjectKey, Change> = BTreeMap::new();
    let mut known = random_catalogue(&mut dice);
    bench.controller.catalogue(known.clone());
    for step in 0..steps {
        let mut changes = Vec::new();
        for _ in 0..=dice.roll(3) {
            let change = random_change(&mut dice);
            match &change {
                Change::Put(object) => objects.insert(object.key(), change.clone()),
                Change::Delete(key) => objects.remove(key),
            };
            changes.push(change);
        }
        bench.now_ms += 1;
        bench.controller.apply(changes, bench.now_ms);
        if dice.one_in(10) {
            known = random_catalogue(&mut dice);
            bench.controller.catalogue(known.clone());
        }
        if dice.one_in(3) {
            bench.controller.masked_table();
        }
        if dice.one_in(3) {
            continue;
        }
        bench.rebuild();
        let mut scratch = Bench::new();
        scratch.planner = planner();
        scratch.controller.catalogue(known.clone());
        scratch.change(objects.values().cloned().collect());
        let (kept, anew) = (normalised(bench.table()), normalised(scratch.table()));
        for key in kept.keys().chain(anew.keys()) {
            assert_eq!(kept.get(key), anew.get(key), "seed {seed}, step {step}: {key}");
        }
        let told = |bench: &Bench| {
            let mut told = messages(&bench.controller.diagnostics().into_iter().cloned().collect::<Vec<_>>());
            told.sort();
            told
        };
        assert_eq!(told(&bench), told(&scratch), "seed {seed}, step {step}");
    }
}

#[test]
fn a_table_does_not_depend_on_its_history() {
    for seed in 0..8 {
        run(seed, 500);
    }
}
