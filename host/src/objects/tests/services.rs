//! What Kubernetes accepts and refuses of a Service, rule by rule (kubernetes-semantics, section 1).

use super::*;

/// A Service with one port and this under `spec`, in one line.
fn with_port(spec: &str) -> String {
    service_text(&format!("  {spec}\n  ports: [{{port: 80}}]\n").replace("; ", "\n  "))
}

fn service(text: &str) -> Arc<Service> {
    match object(text) {
        Object::Service(service) => service,
        other => panic!("{other:?}"),
    }
}

#[test]
fn ports_and_their_names() {
    let none: &[&str] = &[];
    check(
        &[
            ("{port: 80, appProtocol: kubernetes.io/h2c}", none),
            ("{port: 80, appProtocol: http}", none),
            (
                "{port: 80, appProtocol: 'h2 c'}",
                &[
                    "spec.ports[0].appProtocol: \"h2 c\" must consist of letters, digits, '-', '_' and '.', and begin and end with a letter or digit",
                ],
            ),
            ("{name: a, port: 53}, {name: b, port: 53, protocol: UDP}", none),
            ("{name: a, port: 53}, {name: b, port: 53, protocol: TCP}", &["spec.ports[1].port: ports[0] has the same port and protocol"]),
            ("{name: 0a, port: 65535, targetPort: 0}", none),
            ("{port: 65536}", &["spec.ports[0].port: 65536 is not a port: 1 to 65535"]),
            ("{port: 80, targetPort: ''}", none),
            ("{port: 80, targetPort: a-b-c-d-e-f-g-h}", none),
            ("{port: 80, targetPort: 70000}", &["spec.ports[0].targetPort: 70000 is not a port: 1 to 65535"]),
            (
                "{port: 80, targetPort: a--b}",
                &[
                    "spec.ports[0].targetPort: \"a--b\" must be lower-case letters, digits and single '-' between them, with at least one letter",
                ],
            ),
            ("{port: 80, protocol: HTTP}", &["spec.ports[0].protocol: \"HTTP\" is not one of TCP, UDP, SCTP"]),
            // Everything at once.
            (
                "{port: 0, protocol: X, appProtocol: ''}, {name: B, port: 1}",
                &[
                    "spec.ports[0].name: a name is required: there is more than one port",
                    "spec.ports[0].port: 0 is not a port: 1 to 65535",
                    "spec.ports[0].protocol: \"X\" is not one of TCP, UDP, SCTP",
                    "spec.ports[0].appProtocol: \"\" has no name",
                    "spec.ports[1].name: \"B\" must consist of lower-case letters, digits and '-', and begin and end with a letter or digit",
                ],
            ),
        ],
        |ports| service_text(&format!("  ports: [{ports}]\n")),
    );
    let port = &service(&service_text("  ports: [{port: 80, appProtocol: kubernetes.io/ws, targetPort: 0}]\n")).ports[0];
    assert_eq!((port.app_protocol.as_deref(), &port.target_port), (Some("kubernetes.io/ws"), &TargetPort::Number(80)));
}

#[test]
fn node_ports_and_the_kubelet_s_port() {
    let none: &[&str] = &[];
    check(
        &[
            ("type: NodePort; ports: [{port: 80, nodePort: 30000}]", none),
            (
                "type: ClusterIP; ports: [{port: 80, nodePort: 30000}]",
                &["spec.ports[0].nodePort: may only be set with type NodePort or LoadBalancer"],
            ),
            (
                "type: ExternalName; externalName: a.example; ports: [{port: 80, nodePort: 30000}]",
                &["warning: spec.ports[0].nodePort: has no effect with type ExternalName"],
            ),
            (
                "type: NodePort; ports: [{name: a, port: 80, nodePort: 30000}, {name: b, port: 81, nodePort: 30000}]",
                &["spec.ports[1].nodePort: ports[0] has the same node port and protocol"],
            ),
            ("type: NodePort; ports: [{name: a, port: 80, nodePort: 30000}, {name: b, port: 80, protocol: UDP, nodePort: 30000}]", none),
            ("type: NodePort; ports: [{port: 10250}]", none),
            (
                "type: LoadBalancer; ports: [{port: 10250}]",
                &["spec.ports[0].port: 10250 is the kubelet's port, which no load balancer may expose"],
            ),
        ],
        |spec| service_text(&format!("  {spec}\n").replace("; ", "\n  ")),
    );
}

#[test]
fn families_and_cluster_ips() {
    let none: &[&str] = &[];
    let dual = "spec.ipFamilyPolicy: must be RequireDualStack or PreferDualStack when there are two ";
    check(
        &[
            ("ipFamilies: [IPv6]", none),
            ("ipFamilies: [IPv6, IPv4]; ipFamilyPolicy: PreferDualStack", none),
            ("ipFamilyPolicy: RequireDualStack", none),
            ("ipFamilies: [IPv4, IPv6]", &[&format!("{dual}IP families")]),
            ("ipFamilies: [IPv4, IPv6]; ipFamilyPolicy: SingleStack", &[&format!("{dual}IP families")]),
            ("clusterIP: 10.0.0.1; clusterIPs: [10.0.0.1, 'fd00::1']", &[&format!("{dual}cluster IPs")]),
            ("clusterIP: 10.0.0.1; clusterIPs: [10.0.0.1, 'fd00::1']; ipFamilyPolicy: RequireDualStack", none),
            ("ipFamilies: [IPv4, IPv4]", &["spec.ipFamilies[1]: IPv4 is there twice"]),
            ("ipFamilies: [ipv4]", &["spec.ipFamilies[0]: \"ipv4\" is not one of IPv4, IPv6"]),
            ("ipFamilyPolicy: Dual", &["spec.ipFamilyPolicy: \"Dual\" is not one of SingleStack, PreferDualStack, RequireDualStack"]),
            (
                "clusterIP: 10.0.0.1; ipFamilies: [IPv6]",
                &["spec.clusterIP: 10.0.0.1 is not an IPv6 address, which ipFamilies[0] says it is"],
            ),
            (
                "clusterIP: 10.0.0.1; clusterIPs: [10.0.0.1, 'fd00::1']; ipFamilies: [IPv6, IPv4]; ipFamilyPolicy: PreferDualStack",
                &[
                    "spec.clusterIPs[0]: 10.0.0.1 is not an IPv6 address, which ipFamilies[0] says it is",
                    "spec.clusterIPs[1]: fd00::1 is not an IPv4 address, which ipFamilies[1] says it is",
                ],
            ),
            ("clusterIPs: [10.0.0.1]", &["spec.clusterIPs: must be empty where clusterIP is not given"]),
            ("clusterIP: 10.0.0.1; clusterIPs: [10.0.0.1, 10.0.0.2]", &["spec.clusterIPs: at most one address of each family"]),
            (
                "clusterIP: 10.0.0.1; clusterIPs: [10.0.0.1, 'fd00::1', 10.0.0.3]; ipFamilyPolicy: PreferDualStack",
                &["spec.clusterIPs: has 3 addresses, 2 are allowed: one of each family"],
            ),
            ("clusterIP: '::ffff:10.0.0.1'", &["spec.clusterIP: \"::ffff:10.0.0.1\" is an IPv4 address in IPv6 form: write 10.0.0.1"]),
            ("clusterIP: None; clusterIPs: [None]", none),
            ("clusterIP: None; clusterIPs: [None, 10.0.0.1]", &["spec.clusterIPs: None must be the only one"]),
            // Headless: without a selector both families are the default.
            ("clusterIP: None; ipFamilies: [IPv6, IPv4]", none),
            ("clusterIP: None; selector: {a: b}; ipFamilies: [IPv6, IPv4]", &[&format!("{dual}IP families")]),
            ("clusterIP: None; type: LoadBalancer", &["spec.clusterIP: may not be None with type NodePort or LoadBalancer"]),
            ("type: ExternalName; externalName: a.example; clusterIP: ''", none),
            (
                "type: ExternalName; externalName: a.example; clusterIP: None; ipFamilyPolicy: SingleStack; ipFamilies: [IPv4]",
                &[
                    "spec.clusterIP: may not be set with type ExternalName",
                    "spec.ipFamilyPolicy: may not be set with type ExternalName",
                    "spec.ipFamilies: may not be set with type ExternalName",
                ],
            ),
        ],
        with_port,
    );
    let read = service(&with_port("ipFamilyPolicy: RequireDualStack; ipFamilies: [IPv6]"));
    assert_eq!((read.ip_family_policy, &read.ip_families), (Some(IpFamilyPolicy::RequireDualStack), &vec![IpFamily::V6]));
}

#[test]
fn traffic_policies_and_the_health_check_port() {
    let none: &[&str] = &[];
    let outside = "spec.externalTrafficPolicy: may only be set on a Service that is reached from outside";
    let local = "spec.healthCheckNodePort: may only be set with type LoadBalancer and externalTrafficPolicy: Local";
    check(
        &[
            ("externalTrafficPolicy: Cluster", &[outside]),
            ("externalTrafficPolicy: ''", none),
            ("externalTrafficPolicy: Local; externalIPs: [192.0.2.1]", none),
            ("externalTrafficPolicy: Local; type: NodePort", none),
            ("externalTrafficPolicy: local; type: NodePort", &["spec.externalTrafficPolicy: \"local\" is not one of Cluster, Local"]),
            ("internalTrafficPolicy: Local", none),
            ("internalTrafficPolicy: ''", &["spec.internalTrafficPolicy: \"\" is not one of Cluster, Local"]),
            ("type: ExternalName; externalName: a.example; internalTrafficPolicy: Local", none),
            ("type: LoadBalancer; externalTrafficPolicy: Local; healthCheckNodePort: 30100", none),
            ("type: LoadBalancer; externalTrafficPolicy: Local; healthCheckNodePort: 0", none),
            ("type: LoadBalancer; externalTrafficPolicy: Cluster; healthCheckNodePort: 30100", &[local]),
            ("type: NodePort; externalTrafficPolicy: Local; healthCheckNodePort: 30100", &[local]),
            (
                "type: LoadBalancer; externalTrafficPolicy: Local; healthCheckNodePort: 70000",
                &["spec.healthCheckNodePort: 70000 is not a port: 1 to 65535"],
            ),
        ],
        with_port,
    );
    let read = service(&with_port("type: LoadBalancer; externalTrafficPolicy: Local; healthCheckNodePort: 30100"));
    assert_eq!(read.health_check_node_port, Some(30100));
}

#[test]
fn session_affinity() {
    let none: &[&str] = &[];
    let seconds = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
    check(
        &[
            ("sessionAffinity: None", none),
            // Kubernetes' defaulting removes it before validation could see it.
            (
                "sessionAffinity: None; sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}",
                &["warning: spec.sessionAffinityConfig: has no effect with sessionAffinity: None"],
            ),
            ("sessionAffinity: ClientIP; sessionAffinityConfig: {clientIP: {timeoutSeconds: 1}}", none),
            ("sessionAffinity: ClientIP; sessionAffinityConfig: {clientIP: {timeoutSeconds: 86400}}", none),
            (
                "sessionAffinity: ClientIP; sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}",
                &[&format!("{seconds}: 0 is not 1 to 86400")],
            ),
            (
                "sessionAffinity: ClientIP; sessionAffinityConfig: {clientIP: {timeoutSeconds: -1}}",
                &[&format!("{seconds}: -1 is not 1 to 86400")],
            ),
            ("sessionAffinity: Cookie", &["spec.sessionAffinity: \"Cookie\" is not one of None, ClientIP"]),
        ],
        with_port,
    );
}

#[test]
fn external_names_and_external_ips() {
    let none: &[&str] = &[];
    check(
        &[
            ("type: ExternalName; externalName: db.example.", none),
            (
                "type: ExternalName; externalName: Db.example",
                &["spec.externalName: \"Db\" must consist of lower-case letters, digits and '-', and begin and end with a letter or digit"],
            ),
            ("type: ExternalName; externalName: 192.0.2.1", &["warning: spec.externalName: is an address: a DNS alias needs a name"]),
            ("type: ExternalName", &["spec.externalName: externalName is required with type ExternalName"]),
            ("externalName: db.example", &["warning: spec.externalName: is ignored unless type is ExternalName"]),
            ("externalIPs: [192.0.2.1, 'fd00::1', 127.0.0.9]", none),
            (
                "externalIPs: [169.254.1.1, 224.0.0.1, '::', 'fe80::1', 'ff02::1', x]",
                &[
                    "spec.externalIPs[0]: 169.254.1.1 is not an address that traffic can be sent to",
                    "spec.externalIPs[1]: 224.0.0.1 is not an address that traffic can be sent to",
                    "spec.externalIPs[2]: :: is not an address that traffic can be sent to",
                    "spec.externalIPs[3]: fe80::1 is not an address that traffic can be sent to",
                    "spec.externalIPs[4]: ff02::1 is not an address that traffic can be sent to",
                    "spec.externalIPs[5]: \"x\" is not an IP address",
                ],
            ),
        ],
        with_port,
    );
}

#[test]
fn what_belongs_to_load_balancers() {
    let none: &[&str] = &[];
    check(
        &[
            ("type: LoadBalancer; loadBalancerClass: pointsman.dev/pool; loadBalancerIP: 192.0.2.1", none),
            ("loadBalancerClass: pointsman.dev/pool", &["spec.loadBalancerClass: may only be used with type LoadBalancer"]),
            (
                "type: LoadBalancer; loadBalancerClass: a/b/c",
                &[
                    "spec.loadBalancerClass: \"b/c\" must consist of letters, digits, '-', '_' and '.', and begin and end with a letter or digit",
                ],
            ),
            ("loadBalancerIP: 192.0.2.1", &["warning: spec.loadBalancerIP: is ignored unless type is LoadBalancer"]),
            ("type: LoadBalancer; loadBalancerIP: soon", &["warning: spec.loadBalancerIP: is ignored: \"soon\" is not an IP address"]),
            ("allocateLoadBalancerNodePorts: false", &["spec.allocateLoadBalancerNodePorts: may only be used with type LoadBalancer"]),
            ("type: LoadBalancer; loadBalancerSourceRanges: [' 10.0.0.0/8 ', 'fd00::/8']", none),
            (
                "type: LoadBalancer; loadBalancerSourceRanges: [10.0.0.0]",
                &["spec.loadBalancerSourceRanges[0]: \"10.0.0.0\" is not a range such as 10.0.0.0/8"],
            ),
            (
                "type: LoadBalancer; loadBalancerSourceRanges: [10.1.2.3/8]",
                &["warning: spec.loadBalancerSourceRanges[0]: 10.1.2.3/8 has bits beyond its prefix, which do not count"],
            ),
            (
                "type: NodePort; loadBalancerSourceRanges: [10.0.0.0/8]",
                &["spec.loadBalancerSourceRanges: may only be used with type LoadBalancer"],
            ),
        ],
        with_port,
    );
    let read = service(&with_port("type: LoadBalancer; loadBalancerClass: pointsman.dev/pool; loadBalancerIP: 192.0.2.1"));
    assert_eq!(
        (read.load_balancer_class.as_deref(), read.load_balancer_ip),
        (Some("pointsman.dev/pool"), Some("192.0.2.1".parse().unwrap()))
    );
}

#[test]
fn addresses_that_a_load_balancer_has() {
    let none: &[&str] = &[];
    let text = |ingress: &str| {
        let balancer = format!("status: {{loadBalancer: {{ingress: [{ingress}]}}}}\n");
        with_port("type: LoadBalancer") + &balancer
    };
    let at = "status.loadBalancer.ingress[0]";
    check(
        &[
            ("{ip: 192.0.2.1}, {ip: 192.0.2.2, ipMode: Proxy}, {hostname: lb.example}", none),
            ("{hostname: lb.example, ipMode: VIP}", &[&format!("{at}.ipMode: may not be set without ip")]),
            ("{ip: 192.0.2.1, ipMode: Vip}", &[&format!("{at}.ipMode: \"Vip\" is not one of VIP, Proxy")]),
            ("{ip: x}", &[&format!("{at}.ip: \"x\" is not an IP address")]),
            ("{hostname: 192.0.2.1}", &[&format!("{at}.hostname: 192.0.2.1 is an address, not a name")]),
        ],
        text,
    );
    let read = service(&text("{ip: 192.0.2.1}, {ip: 192.0.2.2, ipMode: Proxy}, {hostname: lb.example}"));
    assert_eq!(read.load_balancer_ips, ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
    let idle = with_port("type: NodePort") + "status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}\n";
    assert_eq!(findings(&idle), ["warning: status.loadBalancer.ingress: is ignored unless type is LoadBalancer"]);
}

/// With these annotations and labels.
fn annotated(spec: &str, annotations: &str) -> String {
    with_port(spec).replace("  name: web\n", &format!("  name: web\n  {annotations}\n"))
}

#[test]
fn source_ranges_as_they_were_written_once() {
    let legacy = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let ranges = |spec: &str, text: &str| {
        service(&annotated(spec, &format!("annotations: {{{legacy}: '{text}'}}"))).load_balancer_source_ranges.clone()
    };
    let net = |text: &str| -> ipnet::IpNet { text.parse().unwrap() };
    assert_eq!(ranges("type: LoadBalancer", " 10.0.0.0/8, 192.168.0.0/16 "), [net("10.0.0.0/8"), net("192.168.0.0/16")]);
    assert_eq!(ranges("type: LoadBalancer", " "), []);
    assert_eq!(ranges("type: LoadBalancer; loadBalancerSourceRanges: [172.16.0.0/12]", "nonsense"), [net("172.16.0.0/12")]);
    let field = format!("metadata.annotations[{legacy}]");
    let wrong = findings(&annotated("type: LoadBalancer", &format!("annotations: {{{legacy}: '10.0.0.0/8,'}}")));
    assert_eq!(wrong, [format!("{field}: \"\" is not a range such as 10.0.0.0/8")]);
    let idle = findings(&annotated("type: NodePort", &format!("annotations: {{{legacy}: '10.0.0.0/8'}}")));
    assert_eq!(idle, [format!("{field}: may only be used with type LoadBalancer")]);
}

#[test]
fn hints_by_annotation_and_other_proxies() {
    let (mode, hints) = ("service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints");
    let cases = [
        (format!("{mode}: Auto"), true),
        (format!("{mode}: auto"), true),
        (format!("{hints}: Auto"), true),
        (format!("{mode}: auto, {hints}: auto"), true),
        (format!("{mode}: Disabled"), false),
        ("other: x".to_owned(), false),
    ];
    for (annotations, expected) in cases {
        let read = service(&annotated("sessionAffinity: None", &format!("annotations: {{{annotations}}}")));
        assert_eq!(read.topology_aware, expected, "{annotations}");
    }
    let field = format!("metadata.annotations[{mode}]");
    let told = |spec: &str, annotations: &str| findings(&annotated(spec, &format!("annotations: {{{annotations}}}")));
    assert_eq!(told("sessionAffinity: None", &format!("{mode}: aUto")), [format!("warning: {field}: \"aUto\" is ignored")]);
    let differ = told("sessionAffinity: None", &format!("{mode}: Auto, {hints}: auto"));
    assert_eq!(differ, [format!("{field}: must match annotations[{hints}], which is \"auto\"")]);
    let both = told("trafficDistribution: PreferClose", &format!("{mode}: Auto"));
    assert_eq!(both, [format!("warning: spec.trafficDistribution: is ignored: the annotation {mode} comes first")]);

    let label = |labels: &str| service(&annotated("sessionAffinity: None", &format!("labels: {{{labels}}}"))).other_proxy;
    assert!(label("service.kubernetes.io/service-proxy-name: ''"));
    assert!(label("service.kubernetes.io/service-proxy-name: cilium"));
    assert!(!label("service.kubernetes.io/headless: ''"), "headless Services have no listener anyway");
}

#[test]
fn distribution() {
    let none: &[&str] = &[];
    let wrong = |text: &str| format!("spec.trafficDistribution: \"{text}\" is not one of PreferClose, PreferSameZone, PreferSameNode");
    check(
        &[
            ("trafficDistribution: PreferClose", none),
            ("trafficDistribution: PreferSameNode", none),
            ("trafficDistribution: preferClose", &[&wrong("preferClose")]),
            ("trafficDistribution: ''", &[&wrong("")]),
        ],
        with_port,
    );
}

#[test]
fn names_and_selectors() {
    let none: &[&str] = &[];
    let syntax = "must consist of letters, digits, '-', '_' and '.', and begin and end with a letter or digit";
    let long = "a".repeat(64);
    check(
        &[
            ("web", none),
            (&"a".repeat(63), none),
            ("1web", &["metadata.name: \"1web\" must begin with a letter"]),
            (
                "a.b",
                &["metadata.name: \"a.b\" must consist of lower-case letters, digits and '-', and begin and end with a letter or digit"],
            ),
            (&long, &[&format!("metadata.name: \"{long}\" must have 1 to 63 characters")]),
        ],
        |name| with_port("type: ClusterIP").replace("name: web", &format!("name: {name}")),
    );
    check(
        &[
            ("selector: {app: ''}", none),
            ("selector: {'a b': c}", &[&format!("spec.selector[a b]: \"a b\" {syntax}")]),
            ("selector: {app: -x}", &[&format!("spec.selector.app: \"-x\" {syntax}")]),
        ],
        with_port,
    );
}
