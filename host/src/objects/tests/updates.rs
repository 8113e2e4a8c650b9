//! What may change in an object that is in force.

use k8s_openapi::api::core::v1 as core;

use super::update::{Allocated, shed_dependent, update};
use super::*;

/// A Service with one port, unless it has `ports`, and this under `spec`.
fn service(spec: &str) -> Arc<Service> {
    let ports = if spec.contains("ports:") { "" } else { "\n  ports: [{port: 80}]" };
    match object(&service_text(&format!("  {}{ports}\n", spec.replace("; ", "\n  ")))) {
        Object::Service(service) => service,
        other => panic!("{other:?}"),
    }
}

fn ips(texts: &[&str]) -> Vec<std::net::IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// `field: message` of every refusal, or the cluster IPs, families and policy of the next version.
fn next(before: &str, allocated: &[&str], now: &str) -> Result<(ClusterIp, Vec<IpFamily>, Option<IpFamilyPolicy>), Vec<String>> {
    let cluster_ips = ips(allocated);
    let allocated = Allocated { cluster_ips: &cluster_ips, ..Allocated::default() };
    let next = update(&service(before), &allocated, &service(now)).map_err(told)?;
    Ok((next.cluster_ip, next.ip_families, next.ip_family_policy))
}

fn told(problems: Vec<Diagnostic>) -> Vec<String> {
    assert!(problems.iter().all(|problem| problem.is_error() && problem.remedy.is_some() && problem.line.is_some()), "{problems:?}");
    problems.into_iter().map(|problem| format!("{}: {}", problem.field.unwrap(), problem.message)).collect()
}

const V4: &str = "10.0.0.1";
const V6: &str = "fd00::1";
const DUAL: &str = "ipFamilyPolicy: PreferDualStack";

#[test]
fn cluster_ips_that_are_kept() {
    let fixed = |texts: &[&str]| ClusterIp::Fixed(ips(texts));
    let cases = [
        ("type: ClusterIP", &[V4][..], "type: NodePort", fixed(&[V4])),
        ("clusterIP: 10.0.0.1", &[V4], "type: ClusterIP", fixed(&[V4])),
        ("type: ClusterIP", &[V4], "clusterIP: 10.0.0.1", fixed(&[V4])),
        ("clusterIP: None", &[], "type: ClusterIP", ClusterIp::Headless),
        ("clusterIP: None", &[], "clusterIP: None", ClusterIp::Headless),
        (DUAL, &[V4, V6], "type: ClusterIP", fixed(&[V4, V6])),
        (DUAL, &[V4, V6], "clusterIP: 10.0.0.1", fixed(&[V4, V6])),
        (DUAL, &[V4, V6], "ipFamilyPolicy: SingleStack", fixed(&[V4])),
        (DUAL, &[V4, V6], "clusterIP: 10.0.0.1; ipFamilyPolicy: SingleStack", fixed(&[V4])),
        ("type: ClusterIP", &[V4], DUAL, fixed(&[V4])),
        (
            "type: ClusterIP",
            &[V4],
            "clusterIP: 10.0.0.1; clusterIPs: [10.0.0.1, 'fd00::7']; ipFamilyPolicy: PreferDualStack",
            fixed(&[V4, "fd00::7"]),
        ),
        // To and from an alias everything is open.
        ("type: ClusterIP", &[V4], "type: ExternalName; externalName: a.example", ClusterIp::Allocate),
        ("type: ExternalName; externalName: a.example", &[], "clusterIP: 10.0.0.9", fixed(&["10.0.0.9"])),
        ("type: ExternalName; externalName: a.example", &[], "clusterIP: None", ClusterIp::Headless),
        // What was never admitted binds nobody.
        ("clusterIP: 10.0.0.1", &[], "clusterIP: 10.0.0.2", fixed(&["10.0.0.2"])),
    ];
    for (before, allocated, now, expected) in cases {
        assert_eq!(next(before, allocated, now).map(|(ip, ..)| ip), Ok(expected), "{before} -> {now}");
    }
}

#[test]
fn cluster_ips_that_may_not_change() {
    let once = |field: &str, had: &str| vec![format!("spec.{field}: may not change once set: it is {had}")];
    let cases = [
        ("type: ClusterIP", &[V4][..], "clusterIP: 10.0.0.2", once("clusterIP", V4)),
        ("type: ClusterIP", &[V4], "type: LoadBalancer; clusterIP: 10.0.0.2", once("clusterIP", V4)),
        ("type: ClusterIP", &[V4], "clusterIP: None", once("clusterIP", V4)),
        ("clusterIP: None", &[], "clusterIP: 10.0.0.2", once("clusterIP", "None")),
        (
            DUAL,
            &[V4, V6],
            "clusterIP: 10.0.0.1; clusterIPs: [10.0.0.1, 'fd00::7']; ipFamilyPolicy: PreferDualStack",
            once("clusterIPs[1]", V6),
        ),
        (
            DUAL,
            &[V4, V6],
            "clusterIP: 10.0.0.7; clusterIPs: [10.0.0.7, 'fd00::7']; ipFamilyPolicy: PreferDualStack",
            [once("clusterIP", V4), once("clusterIPs[1]", V6)].concat(),
        ),
        (
            "clusterIP: None",
            &[],
            "type: NodePort",
            vec!["spec.clusterIP: stays None, which type NodePort or LoadBalancer may not have".to_owned()],
        ),
    ];
    for (before, allocated, now, expected) in cases {
        assert_eq!(next(before, allocated, now), Err(expected), "{before} -> {now}");
    }
}

#[test]
fn families_and_their_policy() {
    let (v4, v6) = (IpFamily::V4, IpFamily::V6);
    let both = "ipFamilies: [IPv4, IPv6]; ipFamilyPolicy: RequireDualStack";
    let (single, require, prefer) =
        (Some(IpFamilyPolicy::SingleStack), Some(IpFamilyPolicy::RequireDualStack), Some(IpFamilyPolicy::PreferDualStack));
    let cases = [
        (both, "type: ClusterIP", Ok((vec![v4, v6], require))),
        (both, "ipFamilyPolicy: SingleStack", Ok((vec![v4], single))),
        (both, "ipFamilyPolicy: SingleStack; ipFamilies: [IPv4]", Ok((vec![v4], single))),
        (both, DUAL, Ok((vec![v4, v6], prefer))),
        ("ipFamilies: [IPv4]", "ipFamilyPolicy: PreferDualStack; ipFamilies: [IPv4, IPv6]", Ok((vec![v4, v6], prefer))),
        (both, "ipFamilies: [IPv4]", Err(vec!["spec.ipFamilyPolicy: must be SingleStack to release the secondary IP family"])),
        (both, "ipFamilyPolicy: SingleStack; ipFamilies: [IPv6]", Err(vec!["spec.ipFamilies[0]: may not change once set: it is IPv4"])),
        // The primary family is that of the address, where none was written.
        (DUAL, "ipFamilies: [IPv6]", Err(vec!["spec.ipFamilies[0]: may not change once set: it is IPv4"])),
        (
            both,
            "ipFamilies: [IPv6, IPv4]; ipFamilyPolicy: PreferDualStack",
            Err(vec!["spec.ipFamilies[0]: may not change once set: it is IPv4"]),
        ),
    ];
    for (before, now, expected) in cases {
        let expected = expected.map_err(|problems| problems.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(next(before, &[V4, V6], now).map(|(_, families, policy)| (families, policy)), expected, "{before} -> {now}");
    }
    let headless = next("clusterIP: None; ipFamilies: [IPv4]", &[], "clusterIP: None; ipFamilies: [IPv6]");
    assert_eq!(headless.map(|(_, families, _)| families), Ok(vec![v6]), "a headless Service may change its families");
    let open = next("ipFamilies: [IPv4]", &[], "ipFamilies: [IPv6]");
    assert_eq!(open.map(|(_, families, _)| families), Ok(vec![v6]), "what was never admitted binds nobody");
}

#[test]
fn node_ports_by_the_name_of_their_port() {
    let had = [("a", 30_001), ("b", 30_002)];
    let numbers = |before: &str, now: &str| {
        let allocated = Allocated { node_ports: &had, ..Allocated::default() };
        let next = update(&service(before), &allocated, &service(now)).unwrap();
        next.ports.iter().map(|port| port.node_port).collect::<Vec<_>>()
    };
    let two = "type: NodePort; ports: [{name: a, port: 1}, {name: b, port: 2}]";
    let (a, b) = (Some(30_001), Some(30_002));
    for (now, expected) in [
        (two, vec![a, b]),
        ("type: NodePort; ports: [{name: b, port: 7}, {name: a, port: 8}]", vec![b, a]),
        ("type: LoadBalancer; ports: [{name: a, port: 1}, {name: c, port: 2}]", vec![a, None]),
        // Kubernetes' documentation: to give them up, remove their entries.
        ("type: LoadBalancer; allocateLoadBalancerNodePorts: false; ports: [{name: a, port: 1}]", vec![None]),
        ("type: NodePort; ports: [{name: a, port: 1, nodePort: 30009}]", vec![Some(30_009)]),
        // Another port asks for it now.
        ("type: NodePort; ports: [{name: a, port: 1}, {name: c, port: 2, nodePort: 30001}]", vec![None, a]),
        ("type: ClusterIP; ports: [{name: a, port: 1}]", vec![None]),
    ] {
        assert_eq!(numbers(two, now), expected, "{now}");
    }
    assert_eq!(numbers("ports: [{name: a, port: 1}]", two), [None, None], "there were none to keep");
    let shared = Allocated { node_ports: &[("a", 30_001), ("b", 30_001)], ..Allocated::default() };
    let before = service("type: NodePort; ports: [{name: a, port: 53}, {name: b, port: 53, protocol: UDP}]");
    let now =
        |protocol: &str| service(&format!("type: NodePort; ports: [{{name: a, port: 53}}, {{name: b, port: 54, protocol: {protocol}}}]"));
    let numbers = |now: &Service| update(&before, &shared, now).unwrap().ports.iter().map(|port| port.node_port).collect::<Vec<_>>();
    assert_eq!(numbers(&now("UDP")), [a, a]);
    assert_eq!(numbers(&now("TCP")), [a, None], "one protocol has a number once");
}

#[test]
fn health_check_ports_and_load_balancer_classes() {
    let local = "type: LoadBalancer; externalTrafficPolicy: Local";
    let allocated = Allocated { health_check_node_port: Some(30_100), ..Allocated::default() };
    let port =
        |before: &str, now: &str| update(&service(before), &allocated, &service(now)).map(|next| next.health_check_node_port).map_err(told);
    assert_eq!(port(local, local), Ok(Some(30_100)));
    assert_eq!(port(local, &format!("{local}; healthCheckNodePort: 30100")), Ok(Some(30_100)));
    let changed = "spec.healthCheckNodePort: may not change once set: it is 30100".to_owned();
    assert_eq!(port(local, &format!("{local}; healthCheckNodePort: 30200")), Err(vec![changed]));
    assert_eq!(port(local, "type: LoadBalancer"), Ok(None), "no longer needed");
    assert_eq!(port("type: LoadBalancer", &format!("{local}; healthCheckNodePort: 30200")), Ok(Some(30_200)), "newly needed");

    let class = |before: &str, now: &str| update(&service(before), &Allocated::default(), &service(now)).map(|_| ()).map_err(told);
    let (a, b) = ("type: LoadBalancer; loadBalancerClass: a.example/x", "type: LoadBalancer; loadBalancerClass: b.example/x");
    let refused = |had: &str| Err(vec![format!("spec.loadBalancerClass: may not change while type is LoadBalancer: it is {had}")]);
    assert_eq!(class(a, a), Ok(()));
    assert_eq!(class(a, b), refused("a.example/x"));
    assert_eq!(class(a, "type: LoadBalancer"), refused("a.example/x"));
    assert_eq!(class("type: LoadBalancer", a), refused("not set"));
    assert_eq!(class(a, "type: NodePort"), Ok(()));
    assert_eq!(class("type: NodePort", b), Ok(()));
}

#[test]
fn everything_that_may_not_change_is_told_at_once() {
    let before = service("type: LoadBalancer; externalTrafficPolicy: Local; loadBalancerClass: a.example/x; ipFamilies: [IPv4]");
    let now = "type: LoadBalancer; externalTrafficPolicy: Local; loadBalancerClass: b.example/x; ipFamilies: [IPv6]; \
               healthCheckNodePort: 30200; clusterIP: 'fd00::9'";
    let cluster_ips = ips(&[V4]);
    let allocated = Allocated { cluster_ips: &cluster_ips, node_ports: &[], health_check_node_port: Some(30_100) };
    let problems = update(&before, &allocated, &service(now)).unwrap_err();
    let fields: Vec<_> = problems.iter().map(|problem| (problem.field.as_deref().unwrap(), problem.line.unwrap())).collect();
    assert_eq!(
        fields,
        [("spec.clusterIP", 11), ("spec.ipFamilies[0]", 9), ("spec.healthCheckNodePort", 10), ("spec.loadBalancerClass", 8)],
        "each with its line"
    );
}

#[test]
fn a_change_of_type_sheds_what_only_the_old_one_needs() {
    let spec = |text: &str| -> core::ServiceSpec { serde_json::from_str(text).unwrap() };
    let balancer = r#""type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30100,
        "allocateLoadBalancerNodePorts": true, "loadBalancerClass": "a.example/x""#;
    let before = spec(&format!("{{{balancer}, \"ports\": [{{\"port\": 80, \"nodePort\": 30001}}]}}"));
    let shed = |change: &dyn Fn(&mut core::ServiceSpec)| {
        let mut now = before.clone();
        change(&mut now);
        shed_dependent(&before, &mut now);
        now
    };
    let cluster = |now: &mut core::ServiceSpec| now.type_ = Some("ClusterIP".to_owned());
    let alias = |now: &mut core::ServiceSpec| now.type_ = Some("ExternalName".to_owned());
    let expected = spec(
        r#"{"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "ports": [{"port": 80}]}"#,
    );
    assert_eq!(shed(&cluster), expected);
    assert_eq!(shed(&alias), spec(r#"{"type": "ExternalName", "ports": [{"port": 80}]}"#));
    let node_port = shed(&|now| now.type_ = Some("NodePort".to_owned()));
    let kept = (node_port.ports.unwrap()[0].node_port, node_port.external_traffic_policy.as_deref().map(str::to_owned));
    assert_eq!(kept, (Some(30_001), Some("Local".to_owned())), "a node port's Service has these too");
    assert_eq!((node_port.health_check_node_port, node_port.load_balancer_class), (None, None));
    assert_eq!(shed(&|_| {}), before, "the same type keeps everything");
    // What the client touched is its own doing: validation is to refuse it.
    let touched = shed(&|now| {
        cluster(now);
        now.load_balancer_class = Some("b.example/x".to_owned());
        now.health_check_node_port = Some(30_200);
        now.external_traffic_policy = Some("Cluster".to_owned());
        now.allocate_load_balancer_node_ports = Some(false);
        now.ports.iter_mut().flatten().for_each(|port| port.node_port = Some(30_002));
    });
    assert_eq!(touched.load_balancer_class.as_deref(), Some("b.example/x"));
    assert_eq!((touched.health_check_node_port, touched.external_traffic_policy.as_deref()), (Some(30_200), Some("Cluster")));
    assert_eq!((touched.allocate_load_balancer_node_ports, touched.ports.unwrap()[0].node_port), (Some(false), Some(30_002)));
    let readdressed = shed(&|now| {
        alias(now);
        now.cluster_ip = Some("10.0.0.2".to_owned());
    });
    assert_eq!(readdressed.cluster_ip.as_deref(), Some("10.0.0.2"));
    let exposed = shed(&|now| {
        cluster(now);
        now.external_ips = Some(vec!["192.0.2.1".to_owned()]);
    });
    assert_eq!(exposed.external_traffic_policy.as_deref(), Some("Local"), "external IPs are reached from outside");
}
