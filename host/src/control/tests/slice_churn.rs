//! Random histories of pods: whatever happens, every endpoint stands in one slice of its ports, no slice is too large, and little is
//! written for it.

use std::collections::{BTreeMap, BTreeSet};

use super::slices::slices;
use super::support::*;
use crate::objects::model::{EndpointSlice, Kind, Node, Pod, Service, ServicePort, TargetPort};
use crate::store::Change;

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % sides
    }
}

fn random_pod(dice: &mut Dice, at: u64) -> Pod {
    let mut pod = pod(&format!("p{at:04}"), "web", &format!("10.244.{}.{}", at / 250, at % 250 + 1));
    pod.ready = dice.roll(5) > 0;
    pod.meta.terminating = dice.roll(8) == 0;
    pod.ports = vec![container_port("http", if dice.roll(4) == 0 { 9090 } else { 8080 })];
    pod.node = Some(["n-a", "n-b", "n-c"][dice.roll(3) as usize].into());
    pod
}

fn web(topology_aware: bool) -> Service {
    let ports = vec![ServicePort { target_port: TargetPort::Name("http".into()), ..port("", 80, 0) }];
    Service { ports, topology_aware, traffic_distribution: Some("PreferClose".into()), ..service("web") }
}

/// Slices by name.
fn by_name(bench: &Bench) -> BTreeMap<String, EndpointSlice> {
    let all = slices(bench);
    let count = all.len();
    let named: BTreeMap<_, _> = all.into_iter().map(|slice| (slice.meta.name.clone(), slice)).collect();
    assert_eq!(named.len(), count, "two slices of one name");
    named
}

/// Every pod stands once, as it is, in a slice of its port.
fn check(bench: &Bench, pods: &BTreeMap<String, Pod>) {
    let mut seen = BTreeSet::new();
    for slice in slices(bench) {
        assert!(slice.endpoints.len() <= 100);
        for endpoint in &slice.endpoints {
            let name = endpoint.pod.clone().unwrap();
            let pod = &pods[&name];
            let (serving, terminating) = (pod.ready, pod.meta.terminating);
            assert_eq!((endpoint.conditions.serving, endpoint.conditions.terminating), (serving, terminating));
            assert_eq!(endpoint.conditions.ready, serving && !terminating);
            assert_eq!(slice.ports[0].port, pod.ports[0].port);
            assert!(seen.insert(name), "twice");
        }
    }
    assert_eq!(seen, pods.keys().cloned().collect());
    // The table says of hints what the slices say.
    let hints: BTreeMap<_, _> = slices(bench).into_iter().flat_map(|slice| slice.endpoints).map(|e| (e.ip, e.zone_hints)).collect();
    for endpoint in bench.port("web:80").endpoints.iter() {
        assert_eq!(endpoint.zone_hints, hints[&endpoint.address.ip()]);
    }
}

fn run(seed: u64, topology_aware: bool) {
    let mut dice = Dice(seed * 2 + 1);
    let node = |name: &str, zone: &str| Node { ready: true, cpu_millis: Some(1000), ..node(name, zone) };
    let mut bench = Bench::with(vec![web(topology_aware).put(), node("n-a", "a").put(), node("n-b", "b").put(), node("n-c", "c").put()]);
    let mut pods: BTreeMap<String, Pod> = BTreeMap::new();
    for _ in 0..40 {
        let mut changes: Vec<Change> = Vec::new();
        let many = if dice.roll(6) == 0 { 120 } else { 5 };
        for _ in 0..=dice.roll(many) {
            let at = dice.roll(600);
            let name = format!("p{at:04}");
            if dice.roll(3) == 0 && pods.remove(&name).is_some() {
                changes.push(delete(Kind::Pod, &name));
            } else {
                let pod = random_pod(&mut dice, at);
                pods.insert(name, pod.clone());
                changes.push(pod.put());
            }
        }
        let (before, old, touched) = (bench.controller.object_writes(), by_name(&bench), changes.len() as u64);
        bench.change(changes);
        check(&bench, &pods);
        let (after, new) = (bench.controller.object_writes(), by_name(&bench));
        // What was counted is what differs: no slice is written for nothing.
        let created = new.keys().filter(|name| !old.contains_key(*name)).count() as u64;
        let deleted = old.keys().filter(|name| !new.contains_key(*name)).count() as u64;
        let updated = new.iter().filter(|(name, slice)| old.get(*name).is_some_and(|old| old != *slice)).count() as u64;
        let endpoints = after.updated + after.created - before.updated - before.created - created - updated;
        assert!(endpoints <= 1 && after.deleted - before.deleted == deleted, "Endpoints are written once at most");
        if !topology_aware {
            // A pod's change touches the slice it is in and the one it comes to. What fits nowhere needs a slice for each group.
            assert!(created + updated + deleted <= 2 * touched + 2, "{created} + {updated} + {deleted} for {touched}");
        }
        // Read again, nothing is written.
        let again: Vec<Change> = pods.values().cloned().map(Put::put).chain([web(topology_aware).put()]).collect();
        bench.change(again);
        assert_eq!(bench.controller.object_writes(), after);
    }
    assert!(slices(&bench).len() > 2, "the history was long enough to matter");
}

#[test]
fn any_history_of_pods_is_packed_well() {
    for seed in 0..3 {
        run(seed, false);
        run(seed, true);
    }
}
