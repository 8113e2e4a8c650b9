//! Whatever the bytes, there is an answer, and soon.

use std::time::Instant;

use super::*;

/// One of each kind, with most of what a manifest can have.
const SAMPLE: &str = "\
%YAML 1.2
---
apiVersion: v1
kind: Service
metadata: {name: web, labels: &labels {app: web}, annotations: {pointsman.dev/balancer.k: 'v', pointsman.dev/max-connection-age: 30m}}
spec:
  selector: *labels
  type: NodePort
  ports:
  - {name: http, port: 80, targetPort: web, nodePort: 31398}
  - name: \"d\\u006es\"
    port: 53
    protocol: UDP
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}
--- # comment
apiVersion: v1
kind: Endpoints
metadata:
  name: >-
    db
subsets:
- addresses: [{ip: 10.0.0.1}]
  ports:
  - port: 3306
...
---
{\"apiVersion\": \"discovery.k8s.io/v1\", \"kind\": \"EndpointSlice\", \"metadata\": {\"name\": \"s\", \"labels\": {\"kubernetes.io/service-name\": \"w\"}},
 \"addressType\": \"IPv4\", \"endpoints\": [{\"addresses\": [\"10.0.0.1\"], \"conditions\": {\"ready\": true}}], \"ports\": [{\"port\": 80}]}
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: p, deletionTimestamp: 2026-01-02T03:05:05Z}
  spec: {containers: [{name: c, ports: [{containerPort: 80, hostPort: 8080, hostIP: 10.0.0.9}], readinessProbe: {httpGet: {port: 80, path: /r}}}]}
  status: {podIP: 10.0.0.2, conditions: [{type: Ready, status: 'True'}]}
- apiVersion: v1
  kind: Node
  metadata: {name: n1}
  status: {allocatable: {cpu: 3920m}}
";

fn survive(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let found = parsed(&text);
    for diagnostic in &found.diagnostics {
        assert!(!diagnostic.to_string().trim_end_matches(|c: char| !c.is_control()).contains('\u{1b}'), "{diagnostic:?}");
    }
    review(&found.objects);
}

#[test]
fn the_sample_is_right() {
    let found = parsed(SAMPLE);
    assert_eq!((shown(&found.diagnostics), found.objects.len(), found.incomplete), (vec![], 5, false));
}

#[test]
fn every_beginning_of_a_file_is_survived() {
    for end in 0..SAMPLE.len() {
        survive(&SAMPLE.as_bytes()[..end]);
    }
}

#[test]
fn changed_bytes_are_survived() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    const INTERESTING: &[u8] = b"{}[]:-,&*!|>'\"%@`#\n\t \0\xff\xc3<=~?09aZ";
    for _ in 0..3_000 {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = INTERESTING[random(INTERESTING.len())],
                1 => bytes.insert(at, INTERESTING[random(INTERESTING.len())]),
                2 => drop(bytes.remove(at)),
                _ => {
                    let end = (at + random(40)).min(bytes.len());
                    let (part, to) = (bytes[at..end].to_vec(), random(bytes.len()));
                    bytes.splice(to..to, part);
                }
            }
        }
        survive(&bytes);
    }
}

#[test]
fn bombs_are_refused() {
    let mut aliases = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let list = vec![format!("*a{}", level - 1); 10].join(",");
        aliases += &format!("a{level}: &a{level} [{list}]\n");
    }
    let found = parsed(&aliases);
    assert!(found.diagnostics[0].remedy.as_deref().unwrap().contains("aliases"), "{:?}", found.diagnostics);
    for deep in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000), (0..500).map(|i| " ".repeat(i) + "a:\n").collect()] {
        let found = parsed(&deep);
        assert!(found.diagnostics[0].is_error() && found.objects.is_empty(), "{}", &deep[..20]);
    }
}

#[test]
fn many_mistakes_in_one_object_are_cut_short() {
    let labels: String = (0..20_000).map(|i| format!("    -{i}: -x\n")).collect();
    let fields: String = (0..20_000).map(|i| format!("  field{i}: x\n")).collect();
    let start = Instant::now();
    let found = parsed(&format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n{fields}  labels:\n{labels}"));
    assert!((100..300).contains(&found.diagnostics.len()), "{}", found.diagnostics.len());
    assert!(start.elapsed().as_secs() < 30, "quadratic? {:?}", start.elapsed());
}

#[test]
fn ten_thousand_services_are_read() {
    let one = |i| {
        let meta = format!("---\napiVersion: v1\nkind: Service\nmetadata:\n  name: web-{i}\n  labels: {{app: web, tier: front}}\n");
        meta + &format!(
            "spec:\n  type: NodePort\n  selector: {{app: web-{i}}}\n  ports:\n  - {{name: http, port: 80}}\n  - {{name: https, port: 443}}\n"
        )
    };
    let found = parsed(&(0..10_000).map(one).collect::<String>());
    assert_eq!((found.objects.len(), found.diagnostics.len()), (10_000, 0));
}
