#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use pointsman_sdk::native::{NativeSelector, connection, port, setting};

const STABLE: Option<u32> = Some(0);
const NEW: Option<u32> = Some(1);
const CLIENTS: u64 = 100_000;

fn set(settings: &[(&str, &str)]) -> ServicePort {
    ServicePort { settings: settings.iter().map(|(key, value)| setting(key, value)).collect(), ..port(0) }
}

fn policy(share: &str) -> NativeSelector<Canary> {
    let mut policy = NativeSelector::new(&[], 0).unwrap();
    assert_eq!(policy.plan(&set(&[("canary", "version=v2"), ("share", share)])).unwrap().groups, ["stable", "canary"]);
    policy
}

fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
    pairs.iter().map(|(key, value)| Label { key: (*key).to_owned(), value: (*value).to_owned() }).collect()
}

/// Which clients are on the new side.
fn chosen(policy: &mut NativeSelector<Canary>) -> Vec<u64> {
    (0..CLIENTS).filter(|n| policy.choose(&connection(0, *n)) == NEW).collect()
}

#[test]
fn pods_are_divided_by_their_labels() {
    let mut policy = policy("5%");
    assert_eq!(policy.classify(0, &labels(&[("app", "web"), ("version", "v1")])), STABLE);
    assert_eq!(policy.classify(0, &labels(&[("app", "web")])), STABLE);
    assert_eq!(policy.classify(0, &labels(&[("app", "web"), ("version", "v2")])), NEW);
    assert_eq!(policy.classify(0, &labels(&[("app", "db"), ("version", "v2")])), None, "the Service does not select it");
    policy.plan(&set(&[("canary", "version notin (v1), track in (next, edge)"), ("share", "1%")])).unwrap();
    assert_eq!(policy.classify(0, &labels(&[("app", "web"), ("track", "edge")])), NEW);
    assert_eq!(policy.classify(0, &labels(&[("app", "web"), ("track", "edge"), ("version", "v1")])), STABLE);
}

/// Within five standard deviations.
#[test]
fn the_share_is_that_of_the_clients() {
    for (text, share) in [("0%", 0.0), ("0.25%", 0.0025), ("5%", 0.05), ("50%", 0.5), ("99.9%", 0.999), ("100%", 1.0)] {
        let count = chosen(&mut policy(text)).len() as f64;
        let expected = share * CLIENTS as f64;
        let deviation = (expected * (1.0 - share)).sqrt();
        println!("{text} of {CLIENTS} clients: {count}");
        assert!((count - expected).abs() <= 5.0 * deviation, "{text}: {count}");
    }
}

#[test]
fn a_client_stays_on_its_side_and_a_larger_share_adds_clients() {
    let (five, ten) = (chosen(&mut policy("5%")), chosen(&mut policy("10%")));
    assert!(five.iter().all(|client| ten.binary_search(client).is_ok()));
    let mut policy = policy("5%");
    for n in 0..1_000 {
        let first = connection(0, n);
        let later = Connection { client_port: 7, attempt: 2, now_ms: 99, random: 0, frontend: Frontend::NodePort, ..first };
        assert_eq!(policy.choose(&later), policy.choose(&first));
    }
}

#[test]
fn other_ports_have_the_same_clients_and_other_services_others() {
    let settings = set(&[("canary", "version=v2"), ("share", "5%")]);
    let chosen_of = |port: &ServicePort| {
        let mut policy = NativeSelector::new(&[], 0).unwrap();
        policy.plan(port).unwrap();
        chosen(&mut policy)
    };
    let first = chosen_of(&settings);
    assert_eq!(chosen_of(&ServicePort { port: 443, port_name: "tls".to_owned(), ..settings.clone() }), first);
    let other = chosen_of(&ServicePort { name: "shop".to_owned(), ..settings });
    let both = other.iter().filter(|client| first.binary_search(client).is_ok()).count();
    assert!((150..350).contains(&both), "5 % of 5 % by chance, 250: {both}");
}

/// The balancer has the same hash to go by.
#[test]
fn either_side_has_every_kind_of_hash() {
    let clients = chosen(&mut policy("5%"));
    for modulus in [2, 7, 251] {
        let mut counts = vec![0u32; modulus as usize];
        clients.iter().for_each(|n| counts[(connection(0, *n).client_hash % modulus) as usize] += 1);
        let expected = clients.len() as f64 / modulus as f64;
        // Chi-square, by its mean and five standard deviations.
        let chi: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
        let freedom = modulus as f64 - 1.0;
        assert!(chi < freedom + 5.0 * (2.0 * freedom).sqrt(), "modulo {modulus}: {chi}");
    }
}

#[test]
fn without_settings_all_pods_are_alike() {
    let mut policy = NativeSelector::<Canary>::new(&[], 0).unwrap();
    assert_eq!(policy.plan(&port(0)).unwrap().groups, ["all"]);
    assert_eq!(policy.classify(0, &labels(&[("app", "web"), ("version", "v2")])), Some(0));
    assert_eq!(policy.classify(0, &labels(&[("app", "db")])), None);
    assert_eq!(policy.choose(&connection(0, 0)), None);
    policy.plan(&ServicePort { selector: None, ..port(0) }).unwrap();
    assert_eq!(policy.classify(0, &labels(&[("app", "web")])), None);
}

#[test]
fn what_cannot_be_is_refused() {
    let mut policy = NativeSelector::<Canary>::new(&[], 0).unwrap();
    for wrong in ["", "5", "%", "-1%", "100.1%", "101%", "1.23456%", "1.%", ".5%", "5 %", "five%", "99999999999%", "1e1%"] {
        let refused = policy.plan(&set(&[("canary", "a"), ("share", wrong)])).unwrap_err();
        assert_eq!(refused, format!("share is `{wrong}`; it must be a percentage from 0% to 100%, such as 5% or 0.25%"));
    }
    for (settings, expected) in [
        (&[("canary", "a")][..], "canary is set and share is not: it is the percentage of clients, such as 5%"),
        (&[("share", "5%")], "share is set and canary is not: it says which pods, such as version=v2"),
        (&[("canary", " "), ("share", "5%")], "canary is empty, which all pods are; it says which pods, such as version=v2"),
        (&[("canary", "v in 2"), ("share", "5%")], "canary is `v in 2`; at character 6: found `2`, expected `(`"),
        (&[("canary", "a"), ("weight", "5")], "there is no setting `weight`; there is canary, share"),
    ] {
        assert_eq!(policy.plan(&set(settings)).unwrap_err(), expected);
    }
    let by_hand = ServicePort { selector: None, ..set(&[("canary", "a"), ("share", "5%")]) };
    assert_eq!(policy.plan(&by_hand).unwrap_err(), "canary is asked of pods, and the Service has no selector");
    assert_eq!(["0%", "0.25%", "12.3456%", "100%", "007.5%"].map(share), [0, 2_500, 123_456, 1_000_000, 75_000].map(Ok));
}
