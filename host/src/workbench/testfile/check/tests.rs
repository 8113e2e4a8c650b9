#![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]

use std::path::Path;

use crate::workbench::testfile::parse;

/// What is said of a file with these endpoints, and one test with these fields.
fn said(endpoints: &str, test: &str) -> String {
    let text = format!("endpoints: [{endpoints}]\ntests:\n- name: x\n  {}\n", test.replace('\n', "\n  "));
    parse(Path::new("FILE"), &text).map_or_else(|error| error.to_string(), |_| String::new())
}

const TWO: &str = "{key: a:80}, {key: b:80}";

#[test]
fn keys_are_names_or_addresses_with_a_port_and_each_is_there_once() {
    for (endpoints, words) in [
        ("{key: a}", ["FILE:1:19: endpoints[0].key: \"a\" is no endpoint's key", "a:80, say"]),
        ("{key: \":80\"}", ["endpoints[0].key", "a:80, say"]),
        ("{key: a:0}", ["endpoints[0].key", "a:80, say"]),
        ("{key: \"10.0.0.1:0\"}", ["endpoints[0].key", "0 is no port"]),
        ("{key: \"[fd00::1]:80\"}", ["endpoints[0].key", "IPv4 addresses, or names"]),
        ("{key: \"fd00::1:80\"}", ["endpoints[0].key", "a:80, say"]),
        ("{key: \"10.0.0.1:080\"}", ["endpoints[0].key", "write 10.0.0.1:80"]),
        ("{key: \"198.18.0.1:80\"}", ["endpoints[0].key", "198.18.0.0/15"]),
        ("{key: a:80}, {key: a:80}", ["endpoints[1].key: a:80 is there twice", "keep one"]),
        ("{key: a:80, zone: z}", ["endpoints[0].zone", "add `node:`"]),
        ("{key: a:80, node: n, zone: z}, {key: b:80, node: n, zone: y}", ["endpoints[1].zone: n is in the zone z already", "another node"]),
        ("{key: a:80, ready: false, serving: true}", ["endpoints[0].serving", "terminating: true"]),
        ("{key: a:80, labels: {\"no label\": x}}", ["endpoints[0]:", "label"]),
    ] {
        let said = said(endpoints, "expect: {}");
        assert!(words.iter().all(|word| said.contains(word)), "{endpoints}: {said}");
    }
    for endpoints in [
        "{key: a.b:80}, {key: a-b:80}",
        "{key: \"127.0.0.1:90\"}, {key: \"127.0.0.1:91\"}",
        "{key: a:80, terminating: true, serving: true}",
    ] {
        assert_eq!(said(endpoints, "expect: {}"), "");
    }
}

#[test]
fn keys_that_nobody_has_are_named_with_their_place() {
    for (test, words) in [
        ("active: {c:80: 1}\nexpect: {}", ["FILE:4:18: tests[0].active.c:80: there is no endpoint c:80", "did you mean `"]),
        ("unreachable: [c:80]\nexpect: {}", ["tests[0].unreachable[0]: there is no endpoint c:80", "did you mean `"]),
        ("churn: [{remove: c:80}]\nexpect: {}", ["tests[0].churn[0].remove: there is no endpoint c:80", "did you mean `"]),
        ("churn: [{remove: a:80}, {unready: a:80}]\nexpect: {}", ["tests[0].churn[1].unready: there is no", "did you mean `b:80`?"]),
        ("churn: [{ready: x:80}]\nexpect: {}", ["tests[0].churn[0].ready", "x:80"]),
        ("churn: [{weight: {c:80: 2}}]\nexpect: {}", ["tests[0].churn[0].weight.c:80: there is no", "did you mean `"]),
        ("churn: [{add: {key: c:80, labels: {no label: x}}}]\nexpect: {}", ["FILE:4:10: tests[0].churn:", "label"]),
        ("churn: [{add: {key: a:80}}]\nexpect: {}", ["tests[0].churn[0].add.key: a:80 is there already", "remove it first"]),
        ("churn: [{add: {key: c}}]\nexpect: {}", ["tests[0].churn.key: ", "a:80, say"]),
        ("expect: {never: [c:80]}", ["tests[0].expect.never[0]", "did you mean `"]),
        ("expect: {only: [a:80, c:80]}", ["tests[0].expect.only[1]", "did you mean `"]),
        ("expect: {sequence: [a:80, c:80]}", ["tests[0].expect.sequence[1]", "did you mean `"]),
        ("expect: {share: {c:80: 1}}", ["FILE:4:26: tests[0].expect.share.c:80", "did you mean `"]),
        ("expect: {collateral: 0}", ["tests[0].expect.collateral", "add `churn:`"]),
        ("expect: {disruption: 0}", ["tests[0].expect.disruption", "add `churn:`"]),
    ] {
        let said = said(TWO, test);
        assert!(words.iter().all(|word| said.contains(word)), "{test}: {said}");
    }
    // One that left is a fair thing to name, and so is one that came.
    assert_eq!(said(TWO, "churn: [{remove: a:80}, {add: {key: c:80}}]\nunreachable: [c:80]\nexpect: {never: [a:80, c:80]}"), "");
}

#[test]
fn numbers_are_bounded_and_services_are_ones() {
    for (test, words) in [
        ("connections: {count: 4294967295}\nexpect: {}", ["tests[0].connections.count: 4294967295 connections", "1 to 1000000"]),
        ("connections: {count: 0}\nexpect: {}", ["tests[0].connections.count: 0 connections", "1 to 1000000"]),
        ("picks: 0\nexpect: {}", ["tests[0].picks", "1 to 1000000"]),
        ("connections: {clients: []}\nexpect: {}", ["tests[0].connections.clients: nobody connects", "list addresses"]),
        ("active: {a:80: 1000000, b:80: 1}\nexpect: {}", ["tests[0].active: 1000001 connections", "at most 1000000"]),
        ("service: {spec: {internalTrafficPolicy: Lokal}}\nexpect: {}", ["tests[0].service.spec.internalTrafficPolicy", "Lokal"]),
        ("endpoints: [{key: a}]\nexpect: {}", ["tests[0].endpoints[0].key", "a:80, say"]),
    ] {
        let said = said(TWO, test);
        assert!(words.iter().all(|word| said.contains(word)), "{test}: {said}");
    }
    let all = said("{key: a}", "expect: {only: [b]}\npicks: 0");
    assert_eq!(all.matches("help: ").count(), 3, "every mistake is said: {all}");
}
