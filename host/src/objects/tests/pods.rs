//! What Kubernetes accepts and refuses of a Pod, as far as it matters to a Service; and Nodes.

use std::time::Duration;

use super::*;

/// A Pod with this under `spec`, in flow style.
fn text(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{{spec}}}\n")
}

fn pod(spec: &str) -> Arc<Pod> {
    match object(&text(spec)) {
        Object::Pod(pod) => pod,
        other => panic!("{other:?}"),
    }
}

/// One container `c` with ports `web` (8080) and `53/UDP`, and this probe.
fn probed(probe: &str) -> String {
    format!(
        "containers: [{{name: c, ports: [{{name: web, containerPort: 8080}}, {{containerPort: 53, protocol: UDP}}], readinessProbe: {probe}}}]"
    )
}

#[test]
fn probes() {
    let action = |probe: &str| pod(&probed(probe)).readiness_probes[0].probe.action.clone();
    let http = |tls, host: Option<&str>, path: &str, headers: &[(&str, &str)]| ProbeAction::Http {
        tls,
        host: host.map(str::to_owned),
        port: Some(8080),
        path: path.to_owned(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    for (probe, expected) in [
        ("{httpGet: {port: web}}", http(false, None, "/", &[])),
        ("{httpGet: {port: 8080, path: readyz, scheme: HTTPS, host: ''}}", http(true, None, "/readyz", &[])),
        (
            "{httpGet: {port: 8080, host: 10.0.0.9, path: '/é?x=1', httpHeaders: [{name: X-A, value: b}]}}",
            http(false, Some("10.0.0.9"), "/%C3%A9?x=1", &[("X-A", "b")]),
        ),
        ("{tcpSocket: {port: web}}", ProbeAction::Tcp { host: None, port: Some(8080) }),
        ("{grpc: {port: 9000, service: s}}", ProbeAction::Grpc { port: Some(9000), service: "s".to_owned() }),
        ("{exec: {command: [cat, /ready]}}", ProbeAction::Exec { command: vec!["cat".to_owned(), "/ready".to_owned()] }),
    ] {
        assert_eq!(action(probe), expected, "{probe}");
    }
}

#[test]
fn probe_times_and_thresholds() {
    let times = |probe: &str| {
        let probe = pod(&probed(probe)).readiness_probes[0].probe.clone();
        let seconds = [probe.initial_delay, probe.period, probe.timeout].map(|time| time.as_secs());
        (seconds, probe.success_threshold, probe.failure_threshold)
    };
    assert_eq!(times("{grpc: {port: 1}}"), ([0, 10, 1], 1, 3));
    let zero = "{grpc: {port: 1}, initialDelaySeconds: 0, periodSeconds: 0, timeoutSeconds: 0, successThreshold: 0, failureThreshold: 0}";
    assert_eq!(times(zero), ([0, 10, 1], 1, 3), "zero is not given");
    let given = "{grpc: {port: 1}, initialDelaySeconds: 5, periodSeconds: 6, timeoutSeconds: 7, successThreshold: 8, failureThreshold: 9}";
    assert_eq!(times(given), ([5, 6, 7], 8, 9));
    assert_eq!(Probe::new(ProbeAction::Tcp { host: None, port: None }).period, Duration::from_secs(10));
}

#[test]
fn probes_that_are_refused() {
    let at = "spec.containers[0].readinessProbe";
    let cases: [(&str, &[&str]); 13] = [
        ("{}", &[": a probe needs a handler"]),
        ("{httpGet: {port: 1}, tcpSocket: {port: 1}}", &[".tcpSocket: there is httpGet already"]),
        ("{grpc: {port: 1}, exec: {command: [a]}}", &[".grpc: there is exec already"]),
        ("{httpGet: {path: /}}", &[".httpGet.port: port is required"]),
        ("{httpGet: {port: 0}}", &[".httpGet.port: 0 is not a port: 1 to 65535"]),
        ("{tcpSocket: {port: wbe}}", &[".tcpSocket.port: this container has no port named \"wbe\""]),
        (
            "{tcpSocket: {port: '80'}}",
            &[".tcpSocket.port: \"80\" must be lower-case letters, digits and single '-' between them, with at least one letter"],
        ),
        ("{httpGet: {port: 1, scheme: https}}", &[".httpGet.scheme: \"https\" is not one of HTTP, HTTPS"]),
        (
            "{httpGet: {port: 1, httpHeaders: [{name: 'a b', value: \"c\\r\\nd: e\"}]}}",
            &[
                ".httpGet.httpHeaders[0].name: \"a b\" is not a header's name: letters, digits and '-'",
                ".httpGet.httpHeaders[0].value: a header's value is one line without control characters",
            ],
        ),
        ("{grpc: {port: 70000}}", &[".grpc.port: 70000 is not a port: 1 to 65535"]),
        ("{exec: {}}", &[".exec.command: a command is required"]),
        ("{grpc: {port: 1}, terminationGracePeriodSeconds: 5}", &[".terminationGracePeriodSeconds: may not be set for a readinessProbe"]),
        (
            "{grpc: {port: 1}, initialDelaySeconds: -1, periodSeconds: -2, timeoutSeconds: -3, successThreshold: -4, failureThreshold: -5}",
            &[
                ".initialDelaySeconds: -1 must not be negative",
                ".periodSeconds: -2 must not be negative",
                ".timeoutSeconds: -3 must not be negative",
                ".successThreshold: -4 must not be negative",
                ".failureThreshold: -5 must not be negative",
            ],
        ),
    ];
    for (probe, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|message| format!("{at}{message}")).collect();
        assert_eq!(findings(&text(&probed(probe))), expected, "{probe}");
    }
    let near = parsed(&text(&probed("{tcpSocket: {port: wbe}}")));
    assert_eq!(near.diagnostics[0].remedy.as_deref(), Some("did you mean web?"));
}

#[test]
fn which_containers_have_probes() {
    let spec = "initContainers: [{name: a, restartPolicy: Always, ports: [{name: side, containerPort: 2}], readinessProbe: {tcpSocket: {port: side}}}], \
                containers: [{name: b}, {name: c, readinessProbe: {grpc: {port: 3}}}]";
    let probes: Vec<_> = pod(spec).readiness_probes.iter().map(|probe| probe.container.clone()).collect();
    assert_eq!(probes, ["c", "a"]);
    let none: &[&str] = &[];
    check(
        &[
            (
                "initContainers: [{name: a, readinessProbe: {grpc: {port: 1}}}], containers: []",
                &["spec.initContainers[0].readinessProbe: may not be set for a container that ends before the pod is ready"],
            ),
            // A port's name is looked up in the container itself.
            (
                "containers: [{name: a, ports: [{name: web, containerPort: 1}]}, {name: b, readinessProbe: {tcpSocket: {port: web}}}]",
                &["spec.containers[1].readinessProbe.tcpSocket.port: this container has no port named \"web\""],
            ),
            ("containers: [{readinessProbe: {grpc: {port: 1}}}]", &["spec.containers[0].name: a container with a probe needs a name"]),
            ("containers: [{ports: [{containerPort: 1}]}]", none),
            ("containers: [{name: a}, {name: a}]", &["spec.containers[1].name: another container has the same name"]),
            ("initContainers: [{name: a}], containers: [{name: a}]", &["spec.initContainers[0].name: another container has the same name"]),
        ],
        text,
    );
}

#[test]
fn host_ports() {
    let host = |spec: &str| {
        let ports = pod(spec).ports.clone();
        ports.into_iter().map(|port| (port.host_port, port.host_ip.map(|ip| ip.to_string()))).collect::<Vec<_>>()
    };
    let at = |ip: &str| Some(ip.to_owned());
    assert_eq!(
        host("containers: [{ports: [{containerPort: 80}, {containerPort: 81, hostPort: 8081}]}]"),
        [(None, None), (Some(8081), None)]
    );
    assert_eq!(
        host(
            "containers: [{ports: [{containerPort: 80, hostPort: 80, hostIP: 10.0.0.1}, {containerPort: 81, hostPort: 80, hostIP: 0.0.0.0}]}]"
        ),
        [(Some(80), at("10.0.0.1")), (Some(80), None)]
    );
    let network = "hostNetwork: true, containers: [{ports: [{containerPort: 80}, {containerPort: 81, hostPort: 81}]}]";
    assert_eq!(host(network), [(Some(80), None), (Some(81), None)]);
    assert!(pod(network).host_network);
    let none: &[&str] = &[];
    let again = |port: &str| format!("spec.containers[1].ports[0].hostPort: another port of this pod has host port {port} too");
    check(
        &[
            (
                "hostNetwork: true, containers: [{ports: [{containerPort: 80, hostPort: 8080}]}]",
                &["spec.containers[0].ports[0].hostPort: must be 80, the containerPort, as hostNetwork is true"],
            ),
            (
                "containers: [{ports: [{containerPort: 80, hostPort: 70000}]}]",
                &["spec.containers[0].ports[0].hostPort: 70000 is not a port: 1 to 65535"],
            ),
            (
                "containers: [{ports: [{containerPort: 80, hostPort: 8080, hostIP: x}]}]",
                &["spec.containers[0].ports[0].hostIP: \"x\" is not an IP address"],
            ),
            ("containers: [{ports: [{containerPort: 80, hostPort: 80}]}, {ports: [{containerPort: 81, hostPort: 80}]}]", &[&again("80")]),
            (
                "containers: [{ports: [{containerPort: 80, hostPort: 80}]}, {ports: [{containerPort: 81, hostPort: 80, protocol: UDP}]}]",
                none,
            ),
            (
                "containers: [{ports: [{containerPort: 80, hostPort: 80}]}, {ports: [{containerPort: 81, hostPort: 80, hostIP: 10.0.0.1}]}]",
                none,
            ),
            ("hostNetwork: true, containers: [{ports: [{containerPort: 80}]}, {ports: [{containerPort: 80}]}]", &[&again("80")]),
            ("containers: [{ports: [{containerPort: 80}]}, {ports: [{containerPort: 80}]}]", none),
            (
                "containers: [{ports: [{name: a, containerPort: 80}, {name: a, containerPort: 81}]}]",
                &["spec.containers[0].ports[1].name: another port of this container has the same name"],
            ),
        ],
        text,
    );
}

#[test]
fn names_in_a_pod() {
    let label = "must consist of lower-case letters, digits and '-', and begin and end with a letter or digit";
    check(
        &[
            (
                "containers: [], nodeName: N1, hostname: a.b, subdomain: _",
                &[
                    &format!("spec.nodeName: \"N1\" {label}"),
                    &format!("spec.hostname: \"a.b\" {label}"),
                    &format!("spec.subdomain: \"_\" {label}"),
                ],
            ),
            (
                "containers: [], readinessGates: [{conditionType: example.org/warm}, {conditionType: ''}]",
                &["spec.readinessGates[1].conditionType: \"\" has no name"],
            ),
        ],
        text,
    );
    let status = |status: &str| findings(&(text("containers: []") + &format!("status: {{{status}}}\n")));
    assert_eq!(status("podIPs: [{ip: 10.0.0.1}, {ip: 10.0.0.2}]"), ["status.podIPs: at most one address of each family"]);
    assert_eq!(status("podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.1}]"), ["status.podIP: 10.0.0.2 is not the first of podIPs, 10.0.0.1"]);
}

#[test]
fn nodes() {
    let node = |labels: &str, rest: &str| {
        let text = format!("apiVersion: v1\nkind: Node\nmetadata: {{name: n1, labels: {{{labels}}}}}\n{rest}");
        match object(&text) {
            Object::Node(node) => node,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(*node("", ""), Node { meta: node("", "").meta.clone(), ..Node::default() });
    for (condition, expected) in [("True", true), ("False", false), ("Unknown", false)] {
        let status = format!("status: {{conditions: [{{type: DiskPressure, status: 'True'}}, {{type: Ready, status: '{condition}'}}]}}\n");
        assert_eq!(node("", &status).ready, expected, "{condition}");
    }
    for (cpu, expected) in [("4", 4_000), ("'4'", 4_000), ("3920m", 3_920), ("1.5", 1_500)] {
        let status = format!("status: {{allocatable: {{cpu: {cpu}, memory: 1Gi}}, capacity: {{cpu: 64}}}}\n");
        assert_eq!(node("", &status).cpu_millis, Some(expected), "{cpu}");
    }
    assert!(node("node-role.kubernetes.io/control-plane: ''", "").control_plane);
    assert!(node("node-role.kubernetes.io/master: ''", "").control_plane);
    assert!(!node("node-role.kubernetes.io/worker: ''", "").control_plane);
    let taint = |key: &str| node("", &format!("spec: {{taints: [{{key: {key}, effect: NoSchedule}}]}}\n")).to_be_deleted;
    assert!(taint("ToBeDeletedByClusterAutoscaler") && !taint("node.kubernetes.io/unreachable"));
    assert_eq!(
        findings(
            "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {allocatable: {cpu: many}, addresses: [{type: InternalIP, address: x}]}\n"
        ),
        [
            "status.allocatable.cpu: \"many\" is not an amount such as 4, 3920m or 1.5",
            "status.addresses[0].address: \"x\" is not an IP address"
        ]
    );
}
