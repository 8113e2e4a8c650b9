//! Each built-in policy as a component, against the same source running natively: same plans, same decisions.

use pointsman_policy_bounded_maglev::BoundedMaglev;
use pointsman_policy_canary::Canary;
use pointsman_policy_first_available::FirstAvailable;
use pointsman_policy_ketama::Ketama;
use pointsman_policy_kubernetes::Kubernetes;
use pointsman_policy_label_selector::LabelSelector;
use pointsman_policy_least_connections::LeastConnections;
use pointsman_policy_maglev::Maglev;
use pointsman_policy_peak_ewma::PeakEwma;
use pointsman_policy_prefer_local::PreferLocal;
use pointsman_policy_random::Random;
use pointsman_policy_rendezvous::Rendezvous;
use pointsman_policy_ring_hash::RingHash;
use pointsman_policy_round_robin::RoundRobin;
use pointsman_policy_two_choices::TwoChoices;
use pointsman_policy_zone_spill::ZoneSpill;
use pointsman_sdk::native::{self, NativeBalancer, NativeSelector, NativeTrafficPolicy};
use pointsman_sdk::{Balancer, LearningBalancer, Selector, TrafficPolicy};

use super::*;
use crate::policy::contract::{Connection, Fault, Label, Node, Outcome, OutcomeKind, Place};
use crate::table::{Conditions, FrontendKind, Locality, Origin};

/// Numbers that are the same in every run (xorshift).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn yes(&mut self) -> bool {
        self.below(2) == 0
    }

    fn endpoints(&mut self, count: u64) -> Vec<Endpoint> {
        let weights: Vec<u32> = (0..count).map(|_| [1, 1, 1, 2, 0, 10][self.below(6) as usize]).collect();
        let mut endpoints = native::endpoints(&weights);
        for endpoint in &mut endpoints {
            endpoint.conditions = Conditions { ready: self.below(4) > 0, serving: self.yes(), terminating: self.below(4) == 0 };
            endpoint.local = self.yes();
            endpoint.node = Some(format!("node-{}", self.below(3)));
            endpoint.zone = Some(format!("zone-{}", self.below(2)));
            endpoint.zone_hints = if self.yes() { vec![format!("zone-{}", self.below(2))] } else { Vec::new() };
            endpoint.ready_since_ms = self.below(100_000);
        }
        endpoints
    }

    fn connection(&mut self, n: u64) -> Connection {
        const FRONTENDS: [FrontendKind; 5] =
            [FrontendKind::ClusterIp, FrontendKind::NodePort, FrontendKind::ExternalIp, FrontendKind::LoadBalancer, FrontendKind::HostPort];
        const ORIGINS: [Origin; 3] = [Origin::Pod, Origin::Node, Origin::Outside];
        Connection {
            frontend: FRONTENDS[self.below(5) as usize],
            origin: ORIGINS[self.below(3) as usize],
            attempt: if self.below(10) == 0 { self.below(4) as u32 } else { 0 },
            client_hash: self.next(),
            now_ms: n * 50,
            random: self.next(),
            ..native::connection(0, n)
        }
    }
}

/// Sizes around the borders of what the policies do differently.
const SIZES: [u64; 6] = [1, 2, 3, 17, 100, 600];

fn balancers_agree<B: Balancer>(name: &str) {
    agree::<B>(name, |_, _, _, _| ());
}

/// The same with what became of the picks, told to both.
fn learning_balancers_agree<B: LearningBalancer>(name: &str) {
    agree::<B>(name, |native, worker, now_ms, outcomes| {
        native.report(now_ms, outcomes);
        worker.report(now_ms, outcomes).unwrap();
    });
}

fn agree<B: Balancer>(name: &str, tell: impl Fn(&mut NativeBalancer<B>, &mut Instance, u64, &[Outcome])) {
    const KINDS: [OutcomeKind; 5] =
        [OutcomeKind::Connected, OutcomeKind::Refused, OutcomeKind::TimedOut, OutcomeKind::Reset, OutcomeKind::Closed];
    let policy = load(name, 0);
    let mut draw = Draw(0x5eed);
    for size in SIZES {
        let endpoints = draw.endpoints(size);
        let mut native = NativeBalancer::<B>::new(&[], 9).unwrap();
        let plan = native.plan(&native::port(0), 0, &endpoints).unwrap();
        assert_eq!(plan_balancer(&policy, &endpoints), plan, "{name}: the plan for {size}");

        let table = balanced(&policy, &endpoints, plan.clone());
        let loads = &table.port(0).unwrap().endpoints;
        let mut worker = policy.instantiate(Place::Worker(9)).unwrap();
        worker.set_table(&table);
        worker.adopt_set(0, 0, &plan).unwrap();
        let mut open = Vec::new();
        let mut outcomes = Vec::new();
        for n in 0..400 {
            let connection = draw.connection(n);
            let load = |_service, slot: u32| loads.get(slot as usize).map_or(0, |endpoint| endpoint.load.active());
            let expected = native.pick(&connection, 0, &load);
            let picked = worker.pick(&connection, 0).unwrap();
            assert_eq!(picked, expected, "{name}: pick {n} of {size}");
            open.extend(picked.filter(|_| n % 3 > 0).map(|slot| loads[slot as usize].load.enter()));
            let kind = KINDS[draw.below(5) as usize];
            let millis = draw.below(2_000) as u32;
            outcomes.extend(picked.map(|slot| Outcome { service: 0, endpoint: loads[slot as usize].hash, kind, millis }));
            if n % 10 == 9 {
                tell(&mut native, &mut worker, n * 50, &outcomes);
                outcomes.clear();
            }
        }
        assert_eq!(worker.pick(&draw.connection(0), 1).unwrap(), None, "{name}: a set without a plan");
    }
}

#[test]
fn round_robin() {
    balancers_agree::<RoundRobin>("round-robin");
}

#[test]
fn random() {
    balancers_agree::<Random>("random");
}

#[test]
fn least_connections() {
    balancers_agree::<LeastConnections>("least-connections");
}

#[test]
fn two_choices() {
    balancers_agree::<TwoChoices>("two-choices");
}

#[test]
fn maglev() {
    balancers_agree::<Maglev>("maglev");
}

#[test]
fn rendezvous() {
    balancers_agree::<Rendezvous>("rendezvous");
}

#[test]
fn ring_hash() {
    balancers_agree::<RingHash>("ring-hash");
}

#[test]
fn ketama() {
    balancers_agree::<Ketama>("ketama");
}

#[test]
fn first_available() {
    balancers_agree::<FirstAvailable>("first-available");
}

#[test]
fn peak_ewma() {
    learning_balancers_agree::<PeakEwma>("peak-ewma");
}

#[test]
fn bounded_maglev() {
    balancers_agree::<BoundedMaglev>("bounded-maglev");
}

fn traffic_policies_agree<T: TrafficPolicy>(name: &str) {
    let node = Node { name: "node-1".into(), zone: Some("zone-1".into()), labels: Vec::new() };
    let policy = load(name, 0);
    let mut draw = Draw(0x5eed);
    for round in 0..60 {
        let endpoints = draw.endpoints(SIZES[round % SIZES.len()]);
        let local = |yes| if yes { Locality::Local } else { Locality::Cluster };
        let port = ServicePort {
            internal_traffic_policy: local(draw.yes()),
            external_traffic_policy: local(draw.yes()),
            traffic_distribution: draw.yes().then(|| "PreferSameZone".into()),
            ..native::port(0)
        };
        let mut native = NativeTrafficPolicy::<T>::new(&node, &[], 9).unwrap();
        let expected = native.plan(&port, &endpoints).unwrap();
        let mut planner = planner(&policy);
        planner.configure(Place::Planner, &node, &[]).unwrap();
        let partition = planner.plan_traffic_policy(&port, &endpoints).unwrap();
        assert_eq!(partition, expected, "{name}: round {round}");

        let mut worker = policy.instantiate(Place::Worker(9)).unwrap();
        worker.configure(Place::Worker(9), &node, &[]).unwrap();
        worker.adopt(0, &partition.data).unwrap();
        for n in 0..100 {
            let connection = draw.connection(n);
            let group = draw.yes().then_some(0);
            assert_eq!(worker.choose_subset(&connection, group).unwrap(), native.choose(&connection, group), "{name}: {round}, {n}");
        }
    }
}

#[test]
fn kubernetes() {
    traffic_policies_agree::<Kubernetes>("kubernetes");
}

#[test]
fn prefer_local() {
    traffic_policies_agree::<PreferLocal>("prefer-local");
}

#[test]
fn zone_spill() {
    traffic_policies_agree::<ZoneSpill>("zone-spill");
}

/// Service ports whose settings are these in turn, and pods, with labels k0, k1, … of values 0 and 1.
fn selectors_agree<S: Selector>(name: &str, settings: &[&[(&str, &str)]]) {
    let policy = load(name, 0);
    let mut draw = Draw(0x5eed);
    let mut labels = |most: u64| -> Vec<Label> {
        let count = draw.below(most);
        (0..count).map(|n| Label { key: format!("k{n}"), value: draw.below(2).to_string() }).collect()
    };
    for round in 0..50 {
        let settings = settings[round % settings.len()].iter().map(|(key, value)| native::setting(key, value)).collect();
        let port = ServicePort { selector: (round % 10 > 0).then(|| labels(3)), settings, ..native::port(0) };
        let mut native = NativeSelector::<S>::new(&[], 9).unwrap();
        let (mut planner, mut worker) = (planner(&policy), policy.instantiate(Place::Worker(9)).unwrap());
        let expected = native.plan(&port);
        let grouping = match planner.plan_selector(&port) {
            Err(Fault::Refused(why)) => {
                assert_eq!(Err(why), expected, "{name}: round {round}");
                continue;
            }
            grouping => grouping.unwrap(),
        };
        assert_eq!(Ok(&grouping), expected.as_ref(), "{name}: round {round}");
        worker.adopt(0, &grouping.data).unwrap();
        for n in 0..20 {
            let pod = labels(4);
            assert_eq!(planner.classify(0, &pod).unwrap(), native.classify(0, &pod), "{:?} of {pod:?}", port.selector);
            let connection = native::connection(0, n);
            assert_eq!(worker.choose_group(&connection).unwrap(), native.choose(&connection));
        }
    }
}

#[test]
fn label_selector() {
    selectors_agree::<LabelSelector>("label-selector", &[&[], &[("expression", "k0 in (0, 2), !k2")], &[("expression", "k1 notin (1)")]]);
}

#[test]
fn canary() {
    let five = [("canary", "k0=1"), ("share", "5%")];
    selectors_agree::<Canary>(
        "canary",
        &[&[], &five, &[("canary", "k0=1,!k2"), ("share", "50%")], &[("canary", "k0 in"), ("share", "50%")]],
    );
}
