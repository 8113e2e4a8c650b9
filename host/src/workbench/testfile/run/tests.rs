#![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]

use std::path::Path;
use std::sync::LazyLock;

use super::*;
use crate::policy::registry::RegistryOptions;
use crate::workbench::fixture::{SANDBOX, component};
use crate::workbench::testfile::parse;

static REGISTRY: LazyLock<Arc<Registry>> = LazyLock::new(|| {
    let registry = Registry::new(Arc::clone(&SANDBOX), RegistryOptions::default());
    registry.swap("planted", component("planted")).unwrap();
    registry
});

/// What is found in a test with these fields, of a balancer.
fn findings(policy: &str, test: &str) -> Vec<String> {
    let endpoints = "[{key: a:80, weight: 5}, {key: b:80}, {key: c:80, ready: false}]";
    let text = format!("endpoints: {endpoints}\ntests:\n- name: x (1)\n  {}\n", test.replace('\n', "\n  "));
    let file = parse(Path::new("FILE"), &text).unwrap();
    let subject = Subject { name: policy, stage: StageKind::Balancer };
    run(&file, &file.tests[0], subject, &REGISTRY, seed(&file.tests[0], None)).unwrap().findings
}

/// Each expectation holds where it should, and what cannot be is found: the only finding, beside how to see it again.
#[test]
fn every_expectation_can_fail() {
    for (policy, before, holds, fails, finding) in [
        ("round-robin", "", "never: [c:80]", "never: [b:80]", "never b:80: 100 of 600 connections ended there"),
        ("round-robin", "", "only: [a:80, b:80]", "only: [a:80]", "only a:80: 100 of 600 connections ended on b:80"),
        (
            "round-robin",
            "unreachable: [a:80, b:80]",
            "refused: 600",
            "{only: [a:80], refused: 600}",
            "only a:80: 600 of 600 connections ended on no endpoint",
        ),
        (
            "round-robin",
            "",
            "share: {b:80: 0.1667 ± 0.001}",
            "share: {b:80: 0.5}",
            "share of b:80: 0.5 is expected, 0.1667 was seen (100 of 600)",
        ),
        ("round-robin", "", "share: {c:80: 0}", "share: {c:80: ≥ 0.1}", "share of c:80: ≥ 0.1 is expected, 0.0000 was seen (0 of 600)"),
        (
            "first-available",
            "",
            "sequence: [a:80, a:80]",
            "sequence: [a:80, b:80]",
            "the sequence a:80 b:80 is expected, a:80 a:80 was seen",
        ),
        (
            "first-available",
            "unreachable: [a:80, b:80]\npicks: 1",
            "refused: 1",
            "{sequence: [a:80], refused: 1}",
            "the sequence a:80 is expected, nobody was seen",
        ),
        ("round-robin", "", "imbalance: 1", "imbalance: ≤ 0.5", "imbalance: ≤ 0.5 is expected, 1 was seen"),
        ("round-robin", "", "fuel: ≤ 1000", "fuel: ≤ 1", "fuel: ≤ 1 is expected, "),
        ("round-robin", "", "refused: 0", "refused: ≥ 1", "refused: ≥ 1 are expected, 0 were seen"),
        (
            "round-robin",
            "endpoints: [{key: a:80, weight: 0}]",
            "{no-opinion: 600, refused: 600}",
            "{no-opinion: 0, refused: 600}",
            "no-opinion: 0 is expected, 600 was seen",
        ),
        ("planted", "settings: {fault: random-max}", "faults: 0", "faults: ≥ 1", "faults: ≥ 1 are expected, 0 were seen: "),
        ("round-robin", "", "refused: 0", "plan-error: never", "the plan is accepted, where an error with \"never\" is expected"),
        ("maglev", "settings: {table-size: \"1000\"}", "plan-error: prime", "plan-error: other", "where \"other\" is expected"),
        ("maglev", "settings: {table-size: \"1000\"}", "plan-error: prime", "{}", "must be a prime"),
        // What changes.
        (
            "rendezvous",
            "churn: [{remove: b:80}]",
            "{collateral: 0, disruption: ≤ 0.3, only: [a:80]}",
            "collateral: ≥ 0.1",
            "collateral: ≥ 0.1 is expected, 0 was seen",
        ),
        ("rendezvous", "churn: [{remove: b:80}]", "never: [b:80]", "disruption: 0", "disruption: 0 is expected, 0."),
        ("rendezvous", "churn: [{add: {key: d:80, weight: 9}}]", "share: {d:80: 0.6 ± 0.1}", "never: [d:80]", "never d:80: "),
        ("rendezvous", "churn: [{ready: c:80}]", "share: {c:80: 0.143 ± 0.05}", "never: [c:80]", "never c:80: "),
        ("rendezvous", "churn: [{unready: a:80}]", "only: [b:80]", "only: [a:80]", "only a:80: 600 of 600 connections ended on b:80"),
        ("round-robin", "churn: [{weight: {a:80: 1}}]", "share: {a:80: 0.5}", "share: {a:80: 0.8333 ± 0.01}", "share of a:80: "),
        ("round-robin", "churn: [{weight: {a:80: 1}}]", "{}", "collateral: 0", "collateral: 0 is expected, "),
        // Who connects, and what is open before.
        ("least-connections", "active: {a:80: 10000}", "only: [b:80]", "only: [a:80]", "only a:80: 600 of 600 connections ended on b:80"),
        (
            "least-connections",
            "connections: {count: 600, hold: true}",
            "share: {a:80: 0.8333 ± 0.01}",
            "share: {a:80: 1}",
            "share of a:80: 1 is expected",
        ),
        ("rendezvous", "connections: {count: 600, clients: one}", "imbalance: ≥ 1.5", "imbalance: ≤ 1.1", "imbalance: ≤ 1.1 is expected"),
        (
            "round-robin",
            "connections: {count: 600, frontend: node-port, origin: outside}\nservice: {spec: {externalTrafficPolicy: Local, type: NodePort}}\nendpoints: [{key: a:80, node: far}]",
            "refused: 600",
            "refused: 0",
            "refused: 0 are expected, 600 were seen: ",
        ),
    ] {
        let before =
            if before.contains("connections:") || before.contains("picks:") { before.to_owned() } else { format!("{before}\npicks: 600") };
        let expecting = |expect: &str| {
            let expect = if expect.starts_with('{') { expect.to_owned() } else { format!("{{{expect}}}") };
            findings(policy, format!("{before}\nexpect: {expect}").trim())
        };
        assert_eq!(expecting(holds), Vec::<String>::new(), "{policy}: {before}: {holds}");
        let found = expecting(fails);
        assert!(found.len() == 2 && found[0].contains(finding), "{policy}: {before}: {fails}: {found:?}");
        assert_eq!(found[1], "again: --run 'x \\(1\\)' --seed 1");
    }
}

#[test]
fn faults_are_counted_and_told() {
    let seven = "endpoints: [{key: a:80}, {key: b:80}, {key: c:80}, {key: d:80}, {key: e:80}, {key: f:80}, {key: g:80}]";
    let found = findings("planted", &format!("settings: {{fault: seven}}\n{seven}\npicks: 3\nexpect: {{}}"));
    assert!(found[0].starts_with("faults: 0 are expected, ") && found[0].contains("trap"), "{found:?}");
}

/// A file's mistake is not the policy's refusal.
#[test]
fn an_unknown_policy_of_another_stage_is_a_mistake_of_the_file() {
    let text = "endpoints: [{key: a:80}]\nservice: {annotations: {pointsman.dev/traffic-policy: prefer-locl}}\ntests:\n- name: x\n  \
                expect: {plan-error: prefer-locl}\n";
    let file = parse(Path::new("FILE"), text).unwrap();
    let subject = Subject { name: "maglev", stage: StageKind::Balancer };
    let error = run(&file, &file.tests[0], subject, &REGISTRY, 1).unwrap_err().to_string();
    assert!(error.contains("prefer-locl"), "{error}");
}
