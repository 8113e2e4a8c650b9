//! A file that is read again says what it says when it is read for the first time.

use std::path::Path;

use super::*;
use crate::objects::{Manifest, Parsed};

/// Documents of every outcome: right, wrong, foreign, a List, unreadable, unclear, empty.
const DOCUMENTS: [&str; 8] = [
    "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec:\n  ports:\n  - port: 81\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: wrong}\nspec: {ports: [{port: 70000}]}\n",
    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: foreign}\n",
    "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Node\n  metadata: {name: one}\n- apiVersion: v1\n  kind: Node\n  metadata: {name: two}\n",
    "apiVersion: v1\nkind: [Service\n",
    "kind: Ser\n",
    "# nothing\n",
];

fn said(parsed: &Parsed) -> String {
    format!("{parsed:#?}")
}

#[test]
fn a_document_that_was_read_before_says_the_same() {
    let file = Path::new("a.yaml");
    let mut manifest = Manifest::default();
    let mut random = fastrand::Rng::with_seed(7);
    let mut documents: Vec<usize> = (0..DOCUMENTS.len()).collect();
    for step in 0..300 {
        match random.u8(..3) {
            0 if documents.len() > 1 => drop(documents.remove(random.usize(..documents.len()))),
            1 => documents.insert(random.usize(..=documents.len()), random.usize(..DOCUMENTS.len())),
            _ => random.shuffle(&mut documents),
        }
        documents.truncate(12);
        let text: Vec<&str> = documents.iter().map(|at| DOCUMENTS[*at]).collect();
        let text = text.join("---\n");
        assert_eq!(said(&manifest.parse(file, &text, &[])), said(&parse(file, &text)), "step {step}:\n{text}");
    }
}

#[test]
fn what_stands_where_it_stood_is_not_read_again() {
    let file = Path::new("a.yaml");
    let text = |port: u16| format!("{}---\n{}", DOCUMENTS[0], DOCUMENTS[1].replace("81", &port.to_string()));
    let mut manifest = Manifest::default();
    let addresses = |parsed: &Parsed| -> Vec<usize> { parsed.objects.iter().map(Object::address).collect() };
    let before = manifest.parse(file, &text(81), &[]);
    let after = manifest.parse(file, &text(82), &before.objects);
    assert_eq!(addresses(&before)[0], addresses(&after)[0]);
    assert_ne!(addresses(&before)[1], addresses(&after)[1]);
}

/// What a file says after it said something else.
fn changed(before: &str, now: &str) -> (Parsed, Vec<String>) {
    let file = Path::new("a.yaml");
    let mut manifest = Manifest::default();
    let before = manifest.parse(file, before, &[]);
    assert_eq!(shown(&before.diagnostics), [""; 0]);
    let now = manifest.parse(file, now, &before.objects);
    let findings = shown(&now.diagnostics);
    (now, findings)
}

#[test]
fn a_change_of_type_leaves_out_what_only_the_old_one_needed() {
    let service = |kind: &str, port: u16| {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: w}}\nspec:\n  type: {kind}\n  ports: [{{port: 80, nodePort: {port}}}]\n")
    };
    let (now, findings) = changed(&service("NodePort", 30_001), &service("ClusterIP", 30_001));
    assert_eq!(
        findings,
        ["warning: a:5:9: spec.type: is no longer NodePort: ports[].nodePort is left out\n  \
          help: remove it: a new Service of this type may not have it"]
    );
    let Object::Service(service_now) = &now.objects[0] else { panic!("{now:?}") };
    assert_eq!((&service_now.service_type, service_now.ports[0].node_port), (&ServiceType::ClusterIp, None));
    // One that was not there before was asked for.
    let (now, findings) = changed(&service("NodePort", 30_001), &service("ClusterIP", 30_002));
    assert!(now.objects.is_empty() && findings[0].contains("nodePort"), "{findings:?}");
}

#[test]
fn a_slice_keeps_its_address_type() {
    let slice = |family: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s, labels: {{kubernetes.io/service-name: w}}}}\naddressType: {family}\nendpoints: []\n"
        )
    };
    for (before, now) in [("IPv4", "IPv6"), ("FQDN", "IPv6")] {
        let (parsed, findings) = changed(&slice(before), &slice(now));
        assert!(parsed.objects.is_empty());
        assert!(findings[0].contains(&format!("addressType: may not change once set: it is {before}")), "{findings:?}");
    }
}
