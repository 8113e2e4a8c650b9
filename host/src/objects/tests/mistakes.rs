//! What people get wrong, and what they are told.

use super::*;

#[track_caller]
fn told(text: &str, expected: &[&str]) {
    let parsed = parsed(text);
    assert_eq!(shown(&parsed.diagnostics), expected, "\n{text}");
    let wrong = parsed.diagnostics.iter().any(Diagnostic::is_error);
    assert_eq!(parsed.objects.is_empty(), wrong, "an object with errors is not applied, one with warnings is");
}

#[test]
fn a_misspelt_kind() {
    told(
        "apiVersion: v1\nkind: Endpoint\nmetadata: {name: a}\n",
        &["error: a:2:7: kind: unknown kind \"Endpoint\"\n  help: did you mean Endpoints?"],
    );
    told(
        "apiVersion: v1\nkind: service\nmetadata: {name: a}\n",
        &["error: a:2:7: kind: unknown kind \"service\"\n  help: did you mean Service?"],
    );
}

#[test]
fn a_misspelt_field_is_named_with_the_right_one_and_all_are_found_at_once() {
    let text = "\
apiVersion: v1
kind: Service
metadata:
  name: web
  lables: {app: web}
spec:
  type: nodeport
  selectr: {app: web}
  ports:
  - port: '80'
    nodeport: 31000
    potato: 1
";
    told(
        text,
        &[
            "error: a:5:3: metadata.lables: unknown field `lables`\n  help: did you mean `labels`?",
            "error: a:7:9: spec.type: \"nodeport\" is not one of ClusterIP, NodePort, LoadBalancer, ExternalName\n  help: did you mean NodePort?",
            "error: a:8:3: spec.selectr: unknown field `selectr`\n  help: did you mean `selector`?",
            "error: a:10:11: spec.ports[0].port: expected a whole number, found the text \"80\"\n  help: write it without quotes",
            "error: a:11:5: spec.ports[0].nodeport: unknown field `nodeport`\n  help: did you mean `nodePort`?",
            "error: a:12:5: spec.ports[0].potato: unknown field `potato`\n  help: fields known here: appProtocol, name, nodePort, port, protocol, targetPort",
        ],
    );
}

#[test]
fn lost_indentation() {
    told(
        "apiVersion: v1\nkind: Service\nmetadata:\nname: web\nspec:\n  ports:\n  - port: 80\n",
        &[
            "error: a:3:1: metadata.name: a name is required\n  help: add metadata.name",
            "error: a:4:1: name: unknown field `name`\n  help: `metadata` above is empty: if `name` belongs to it, indent it",
        ],
    );
    let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n spec:\n  ports:\n  - port: 80\n";
    let found = parsed(text);
    let (line, remedy) = (found.diagnostics[0].line, found.diagnostics[0].remedy.as_deref().unwrap());
    assert_eq!((line, found.incomplete), (Some(5), true));
    assert!(remedy.contains("indented"), "{remedy}");
    let tab = parsed("apiVersion: v1\nkind: Service\nmetadata:\n\tname: web\n");
    assert!(tab.diagnostics[0].remedy.as_deref().unwrap().contains("tab"), "{:?}", tab.diagnostics);
}

#[test]
fn a_key_twice() {
    told(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  name: db\nspec: {ports: [{port: 80}]}\n",
        &["error: a:5:3: `name` is there twice in one mapping\n  help: keep one of the two"],
    );
}

#[test]
fn the_wrong_version() {
    told(
        "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {name: a}\n",
        &[
            "error: a:1:13: apiVersion: \"discovery.k8s.io/v1beta1\" is not the apiVersion of EndpointSlice\n  help: write apiVersion: discovery.k8s.io/v1",
        ],
    );
    told("kind: Namespace\nmetadata: {name: a}\n", &["error: a:1:7: apiVersion: `apiVersion` is missing\n  help: add apiVersion: v1"]);
}

#[test]
fn other_kinds_are_left_alone() {
    for (text, message) in [
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n", "Deployment is ignored"),
        ("apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\n", "Service of serving.knative.dev/v1 is ignored"),
        ("apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: a}\n", "Role is ignored"),
    ] {
        let found = parsed(text);
        assert_eq!(found.diagnostics.len(), 1, "{text}");
        assert_eq!((found.diagnostics[0].message.as_str(), found.diagnostics[0].severity), (message, Severity::Warning));
        assert!(!found.incomplete);
    }
}

#[test]
fn a_broken_document_stops_no_other() {
    let good = |name: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
    let found = parsed(&format!("{}---\nkind: [\n---\n{}...\n# nothing\n---\n", good("a"), good("b")));
    let names: Vec<_> =
        found.objects.iter().map(|object| (object.meta().name.as_str(), object.meta().location.as_ref().unwrap().line)).collect();
    assert_eq!(names, [("a", 1), ("b", 7)]);
    assert_eq!(found.diagnostics.len(), 1);
    assert!(found.incomplete);
}

#[test]
fn ports() {
    for (ports, expected) in [
        ("  ports: []\n", "error: a:6:3: spec.ports: at least one port is required\n  help: add ports: with - port: NUMBER"),
        ("  ports:\n  - name: x\n", "error: a:7:5: spec.ports[0].port: port is required\n  help: add the port that clients dial"),
        ("  ports:\n  - port: 0\n", "error: a:7:11: spec.ports[0].port: 0 is not a port: 1 to 65535"),
        ("  ports:\n  - port: 70000\n", "error: a:7:11: spec.ports[0].port: 70000 is not a port: 1 to 65535"),
        ("  ports:\n  - {port: 80, protocol: tcp}\n", "error: a:7:26: spec.ports[0].protocol: \"tcp\" must be written TCP"),
        (
            "  ports:\n  - {port: 80, nodePort: 31000}\n",
            "error: a:7:26: spec.ports[0].nodePort: may only be set with type NodePort or LoadBalancer\n  help: add type: NodePort to spec, or remove nodePort",
        ),
        (
            "  ports:\n  - {port: 80, targetPort: Web_}\n",
            "error: a:7:28: spec.ports[0].targetPort: \"Web_\" must be lower-case letters, digits and single '-' between them, with at least one letter",
        ),
        (
            "  ports:\n  - {port: 80, targetPort: '80'}\n",
            "error: a:7:28: spec.ports[0].targetPort: \"80\" is text, so it names a port\n  help: write the number without quotes",
        ),
        (
            "  ports:\n  - {port: 80, name: a}\n  - {port: 81, name: a}\n",
            "error: a:8:22: spec.ports[1].name: ports[0] has the same name\n  help: choose another",
        ),
        (
            "  ports:\n  - {port: 80, name: a}\n  - {port: 80, name: b}\n",
            "error: a:8:12: spec.ports[1].port: ports[0] has the same port and protocol\n  help: a Service has each port once for each protocol",
        ),
    ] {
        told(&service_text(ports), &[expected]);
    }
    let unnamed =
        "a name is required: there is more than one port\n  help: give every port a name: a Service with several ports needs them";
    told(
        &service_text("  ports:\n  - port: 80\n  - port: 443\n"),
        &[&format!("error: a:7:5: spec.ports[0].name: {unnamed}"), &format!("error: a:8:5: spec.ports[1].name: {unnamed}")],
    );
}

#[test]
fn addresses_and_policies_of_a_service() {
    for (spec, expected) in [
        ("  clusterIP: 10.96.0.300\n", "error: a:6:14: spec.clusterIP: \"10.96.0.300\" is not an IP address"),
        (
            "  clusterIP: 10.0.0.1\n  clusterIPs: [10.0.0.1, 10.0.0.2]\n",
            "error: a:7:3: spec.clusterIPs: at most one address of each family",
        ),
        (
            "  clusterIP: 10.0.0.1\n  clusterIPs: [10.0.0.2]\n",
            "error: a:7:16: spec.clusterIPs[0]: 10.0.0.2 is not clusterIP, 10.0.0.1\n  help: the first of clusterIPs repeats clusterIP",
        ),
        (
            "  clusterIP: None\n  type: NodePort\n",
            "error: a:6:14: spec.clusterIP: may not be None with type NodePort or LoadBalancer\n  help: remove clusterIP, or use type ClusterIP",
        ),
        ("  externalIPs: [0.0.0.0]\n", "error: a:6:17: spec.externalIPs[0]: 0.0.0.0 is not an address that traffic can be sent to"),
        (
            "  externalTrafficPolicy: Local\n",
            "error: a:6:26: spec.externalTrafficPolicy: may only be set on a Service that is reached from outside\n  \
             help: use type NodePort or LoadBalancer, or externalIPs; for the cluster IP there is internalTrafficPolicy",
        ),
        (
            "  internalTrafficPolicy: local\n",
            "error: a:6:26: spec.internalTrafficPolicy: \"local\" is not one of Cluster, Local\n  help: did you mean Local?",
        ),
        (
            "  sessionAffinity: ClientIP\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}\n",
            "error: a:7:54: spec.sessionAffinityConfig.clientIP.timeoutSeconds: 86401 is not 1 to 86400",
        ),
        (
            "  trafficDistribution: Near\n",
            "error: a:6:24: spec.trafficDistribution: \"Near\" is not one of PreferClose, PreferSameZone, PreferSameNode",
        ),
        (
            "  loadBalancerSourceRanges: [10.0.0.0/8]\n",
            "error: a:6:3: spec.loadBalancerSourceRanges: may only be used with type LoadBalancer",
        ),
        ("  selector: {app: 1}\n", "error: a:6:19: spec.selector.app: expected text, found the number 1\n  help: put it in quotes"),
        (
            "  selector: {}\n",
            "warning: a:6:3: spec.selector: an empty selector selects no pods\n  help: add labels, or remove it if the endpoints are written by hand",
        ),
    ] {
        told(&service_text(&format!("{spec}  ports: [{{port: 80}}]\n")), &[expected]);
    }
    told(
        &service_text("  type: ExternalName\n"),
        &[
            "error: a:5:1: spec.externalName: externalName is required with type ExternalName\n  help: add the DNS name that this Service stands for",
        ],
    );
}

#[test]
fn names_and_labels() {
    let digits = "error: a:3:18: metadata.name: \"1a\" must begin with a letter";
    told("apiVersion: v1\nkind: Service\nmetadata: {name: 1a}\nspec: {ports: [{port: 80}]}\n", &[digits]);
    let underscore = "must consist of lower-case letters, digits and '-', and begin and end with a letter or digit";
    told("apiVersion: v1\nkind: Namespace\nmetadata: {name: a_b}\n", &[&format!("error: a:3:18: metadata.name: \"a_b\" {underscore}")]);
    told(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {a/b/c: d, e: -f}}\n",
        &[
            "error: a:3:37: metadata.labels[a/b/c]: \"b/c\" must consist of letters, digits, '-', '_' and '.', and begin and end with a letter or digit",
            "error: a:3:43: metadata.labels.e: \"-f\" must consist of letters, digits, '-', '_' and '.', and begin and end with a letter or digit",
        ],
    );
}

#[test]
fn annotations() {
    let annotated = |annotation: &str| {
        format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  annotations:\n    {annotation}\nspec: {{ports: [{{port: 80}}]}}\n")
    };
    for (annotation, expected) in [
        (
            "pointsman.dev/balencer: maglev",
            "balencer]: unknown annotation pointsman.dev/balencer\n  help: did you mean pointsman.dev/balancer?",
        ),
        ("pointsman.dev/weight: '3'", "weight]: unknown annotation pointsman.dev/weight\n  help: a weight belongs on a Pod"),
        ("pointsman.dev/max-connection-age: soon", "max-connection-age]: \"soon\" is not a time with its unit, such as 90s, 30m or 1h30m"),
        ("pointsman.dev/max-connection-age: 0s", "max-connection-age]: \"0s\" is not a time with its unit, such as 90s, 30m or 1h30m"),
        ("pointsman.dev/proxy-protocol: v1", "proxy-protocol]: \"v1\" is not known here\n  help: write v2"),
        ("pointsman.dev/on-failure: ignore", "on-failure]: \"ignore\" is not known here\n  help: write refuse or fallback"),
        (
            "pointsman.dev/balancer: maglev.wasm",
            "balancer]: \"maglev.wasm\" is not a policy's name: 1 to 63 letters, digits, '-', '_' and '.'\n  help: a policy is named as its file, without .wasm",
        ),
        (
            "pointsman.dev/balancer: team/maglev:1.0",
            "balancer]: \"team\" does not look like a registry\n  help: begin with its host: registry.example/team/policy:1.0; one without a dot needs its port",
        ),
        (
            "pointsman.dev/selector: registry.example/team/p",
            "selector]: \"registry.example/team/p\" names no version\n  help: add a tag, registry.example/team/p:1.0, or a digest, registry.example/team/p@sha256:…",
        ),
    ] {
        let found = shown(&parsed(&annotated(annotation)).diagnostics);
        let column = 7 + annotation.find(':').unwrap();
        assert_eq!(found, [format!("error: a:6:{column}: metadata.annotations[pointsman.dev/{expected}")]);
    }
    let found = shown(&parsed(&annotated("pointsman.dev/colour: blue")).diagnostics);
    assert!(found[0].contains("unknown annotation pointsman.dev/colour\n  help: known here: pointsman.dev/selector, "), "{found:?}");
    let long = "x".repeat(64 * 1024);
    let found = shown(&parsed(&annotated(&format!("pointsman.dev/balancer.x: {long}"))).diagnostics);
    assert_eq!(found, ["error: a:5:3: metadata.annotations: the settings pointsman.dev/balancer.… have 65537 bytes, 65536 are allowed"]);
}

#[test]
fn endpoints_whose_ports_stand_beside_their_addresses() {
    let endpoints = |subsets: &str| format!("apiVersion: v1\nkind: Endpoints\nmetadata: {{name: db}}\nsubsets:\n{subsets}");
    told(
        &endpoints("- addresses:\n  - ip: 172.17.0.3\n- ports:\n  - port: 80\n"),
        &["error: a:7:3: subsets[1]: has ports but no addresses, and subsets[0] has addresses but no ports\n  \
           help: write ports: without the '-', in the same item as addresses:"],
    );
    told(
        &endpoints("- ports:\n  - port: 80\n"),
        &["error: a:5:3: subsets[0]: a subset needs addresses\n  help: add addresses: or notReadyAddresses: to this item"],
    );
    told(
        &endpoints("- addresses:\n  - ip: 172.17.0.3\n"),
        &["warning: a:5:3: subsets[0]: a subset without ports forwards nothing\n  help: add ports: to this item"],
    );
    told(
        &endpoints("- addresses:\n  - ip: db.example\n  - hostname: x\n  ports: [{port: 3306}]\n"),
        &[
            "error: a:6:9: subsets[0].addresses[0].ip: \"db.example\" is not an IP address",
            "error: a:7:5: subsets[0].addresses[1].ip: \"\" is not an IP address",
        ],
    );
}

#[test]
fn slices() {
    let slice = |rest: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s, labels: {{kubernetes.io/service-name: w}}}}\n{rest}"
        )
    };
    told(&slice("endpoints: []\n"), &["error: a:1:1: addressType: addressType is required\n  help: add addressType: IPv4"]);
    told(
        &slice("addressType: IPV4\n"),
        &["error: a:4:14: addressType: \"IPV4\" is not one of IPv4, IPv6, FQDN\n  help: did you mean IPv4?"],
    );
    told(
        &slice("addressType: IPv6\nendpoints:\n- addresses: [10.0.0.1]\n- conditions: {ready: true}\n"),
        &[
            "error: a:6:15: endpoints[0].addresses[0]: 10.0.0.1 is not an IPv6 address, which addressType says it is",
            "error: a:7:3: endpoints[1].addresses: an endpoint needs an address\n  help: add addresses: with one address",
        ],
    );
    told(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s}\naddressType: IPv4\n",
        &["warning: a:3:1: metadata.labels: belongs to no Service\n  help: add the label kubernetes.io/service-name: NAME"],
    );
}

#[test]
fn pods() {
    let pod = |rest: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\n{rest}");
    told(&pod(""), &["error: a:1:1: spec: spec is required"]);
    told(
        &pod(
            "spec: {containers: [{name: c, ports: [{containerPort: 0}, {containerPort: 80, name: way-too-long-a-name}]}]}\nstatus: {podIP: x}\n",
        ),
        &[
            "error: a:4:55: spec.containers[0].ports[0].containerPort: 0 is not a port: 1 to 65535",
            "error: a:4:85: spec.containers[0].ports[1].name: \"way-too-long-a-name\" must have 1 to 15 characters",
            "error: a:5:17: status.podIP: \"x\" is not an IP address",
        ],
    );
    let found = parsed(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  annotations: {pointsman.dev/weight: '-1', pointsman.dev/wieght: '1'}\nspec: {containers: []}\n",
    );
    let messages: Vec<_> = found.diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
    assert_eq!(messages, ["\"-1\" is not a weight: a whole number, 0 or more", "unknown annotation pointsman.dev/wieght"]);
}
