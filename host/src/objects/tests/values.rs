//! What objects mean: defaults, and every field that is read.

use std::time::Duration;

use super::*;

fn service(spec: &str) -> Arc<Service> {
    match object(&service_text(spec)) {
        Object::Service(service) => service,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_service_by_default() {
    let service = service("  ports: [{port: 80}]\n");
    let meta = Meta { namespace: "default".to_owned(), name: "web".to_owned(), location: service.meta.location.clone(), ..Meta::default() };
    let expected = Service {
        meta,
        service_type: ServiceType::ClusterIp,
        cluster_ip: ClusterIp::Allocate,
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 80,
            target_port: TargetPort::Number(80),
            node_port: None,
            app_protocol: None,
        }],
        selector: None,
        external_ips: vec![],
        load_balancer_ips: vec![],
        load_balancer_source_ranges: vec![],
        internal_traffic_policy: Locality::Cluster,
        external_traffic_policy: Locality::Cluster,
        traffic_distribution: None,
        affinity: None,
        ip_family_policy: None,
        ip_families: vec![],
        load_balancer_ip: None,
        load_balancer_class: None,
        health_check_node_port: None,
        topology_aware: false,
        other_proxy: false,
        publish_not_ready: false,
        options: ServiceOptions::default(),
    };
    assert_eq!(*service, expected);
}

#[test]
fn a_service_with_everything() {
    let text = "\
apiVersion: v1
kind: Service
metadata:
  namespace: shop
  name: web
  annotations:
    pointsman.dev/selector: label-selector
    pointsman.dev/traffic-policy: prefer-local
    pointsman.dev/balancer: maglev
    pointsman.dev/balancer.table-size: '65537'
    pointsman.dev/max-connection-age: 1h30m
    pointsman.dev/proxy-protocol: v2
    pointsman.dev/on-failure: refuse
    kubernetes.io/description: not ours
spec:
  type: LoadBalancer
  allocateLoadBalancerNodePorts: false
  clusterIP: 10.97.72.1
  clusterIPs: [10.97.72.1, 'fd00::1']
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: web, nodePort: 31398}
  - {name: dns, port: 80, protocol: UDP, targetPort: 5353}
  externalIPs: [192.168.2.6, 127.0.0.9]
  loadBalancerSourceRanges: [' 10.0.0.0/8 ']
  externalTrafficPolicy: Local
  internalTrafficPolicy: Local
  trafficDistribution: PreferSameZone
  sessionAffinity: ClientIP
  publishNotReadyAddresses: true
status:
  loadBalancer:
    ingress: [{ip: 146.148.47.155}, {ip: 146.148.47.156, ipMode: Proxy}, {hostname: lb.example}]
";
    let Object::Service(service) = object(text) else { panic!("a Service") };
    assert_eq!(service.meta.namespace, "shop");
    assert_eq!(service.service_type, ServiceType::LoadBalancer { allocate_node_ports: false });
    assert_eq!(service.cluster_ip, ClusterIp::Fixed(vec!["10.97.72.1".parse().unwrap(), "fd00::1".parse().unwrap()]));
    assert_eq!(service.ports[0].target_port, TargetPort::Name("web".to_owned()));
    assert_eq!((service.ports[0].node_port, service.ports[1].protocol), (Some(31398), Protocol::Udp));
    assert_eq!(service.selector.as_ref().unwrap()["app"], "web");
    assert_eq!(service.external_ips.len(), 2);
    assert_eq!(service.load_balancer_ips, ["146.148.47.155".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(service.load_balancer_source_ranges, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!((service.internal_traffic_policy, service.external_traffic_policy), (Locality::Local, Locality::Local));
    assert_eq!(service.traffic_distribution.as_deref(), Some("PreferSameZone"));
    assert_eq!(service.affinity, Some(Duration::from_secs(10_800)));
    assert!(service.publish_not_ready);
    let options = &service.options;
    assert_eq!(options.selector.policy.as_deref(), Some("label-selector"));
    assert_eq!(options.traffic_policy.policy.as_deref(), Some("prefer-local"));
    assert_eq!(options.balancer.policy.as_deref(), Some("maglev"));
    assert_eq!(options.balancer.settings, Labels::from([("table-size".to_owned(), "65537".to_owned())]));
    assert_eq!(options.max_connection_age, Some(Duration::from_secs(5_400)));
    assert!(options.proxy_protocol && options.refuse_on_failure);
}

#[test]
fn headless_and_external_names() {
    assert_eq!(service("  clusterIP: None\n").cluster_ip, ClusterIp::Headless);
    let service = service("  type: ExternalName\n  externalName: db.example.\n  selector: {a: b}\n");
    assert_eq!((&service.service_type, &service.selector), (&ServiceType::ExternalName("db.example.".to_owned()), &None));
}

#[test]
fn an_external_traffic_policy_goes_with_external_ips_too() {
    let service = service("  ports: [{port: 80}]\n  externalIPs: [192.168.2.6]\n  externalTrafficPolicy: Local\n");
    assert_eq!(service.external_traffic_policy, Locality::Local);
}

#[test]
fn endpoints_keep_ready_and_not_ready_apart() {
    let text = "\
apiVersion: v1
kind: Endpoints
metadata: {name: db}
subsets:
- addresses: [{ip: 127.0.0.5, nodeName: n1}]
  notReadyAddresses: [{ip: 172.17.0.4}]
  ports: [{port: 3306, name: mysql}, {port: 53, name: dns, protocol: UDP}]
";
    let Object::Endpoints(endpoints) = object(text) else { panic!("Endpoints") };
    let subset = &endpoints.subsets[0];
    let addresses: Vec<_> =
        subset.addresses.iter().map(|address| (address.ip.to_string(), address.ready, address.node.as_deref())).collect();
    assert_eq!(addresses, [("127.0.0.5".to_owned(), true, Some("n1")), ("172.17.0.4".to_owned(), false, None)]);
    assert_eq!(subset.ports[1], EndpointPort { name: "dns".to_owned(), protocol: Protocol::Udp, port: 53, app_protocol: None });
}

#[test]
fn conditions_left_out_have_their_defaults() {
    let text = "\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  labels: {kubernetes.io/service-name: web}
  annotations: {service.cilium.io/weight: '3'}
addressType: IPv4
endpoints:
- addresses: [10.0.0.1, 10.0.0.9]
- addresses: [10.0.0.2]
  conditions: {ready: false, serving: true, terminating: true}
  nodeName: n1
  zone: z1
  hostname: h
  hints: {forZones: [{name: z2}], forNodes: [{name: n2}]}
  targetRef: {kind: Pod, name: web-2}
ports:
- {name: http, port: 8080}
- {name: any}
";
    let Object::EndpointSlice(slice) = object(text) else { panic!("an EndpointSlice") };
    let conditions: Vec<_> = slice.endpoints.iter().map(|endpoint| endpoint.conditions).collect();
    let by_default = Conditions { ready: true, serving: true, terminating: false };
    assert_eq!(conditions, [by_default, Conditions { ready: false, serving: true, terminating: true }]);
    let second = SliceEndpoint {
        ip: "10.0.0.2".parse().unwrap(),
        conditions: conditions[1],
        node: Some("n1".to_owned()),
        zone: Some("z1".to_owned()),
        hostname: Some("h".to_owned()),
        zone_hints: vec!["z2".to_owned()],
        node_hints: vec!["n2".to_owned()],
        weight: Some(3),
        pod: Some("web-2".to_owned()),
    };
    assert_eq!(slice.endpoints[1], second);
    assert_eq!((slice.service.as_deref(), slice.ports.len()), (Some("web"), 1));
    let names = text.replace("IPv4", "FQDN").replace("10.0.0", "a.example");
    let Object::EndpointSlice(slice) = object(&names) else { panic!("an EndpointSlice") };
    assert_eq!(slice.endpoints, []);
}

#[test]
fn a_pod_as_kubectl_prints_it() {
    let text = "\
apiVersion: v1
kind: Pod
metadata:
  name: web-1
  creationTimestamp: \"2026-01-02T03:04:05Z\"
  deletionTimestamp: 2026-01-02T03:05:05Z
  managedFields: [{manager: kubectl, fieldsV1: {'f:spec': {'k:{\"a\":1}': {.: {}}}}}]
  labels: {app: web}
  annotations: {pointsman.dev/weight: '5'}
spec:
  nodeName: node01
  hostname: h
  subdomain: s
  initContainers:
  - {name: once, ports: [{containerPort: 1}]}
  - {name: sidecar, restartPolicy: Always, ports: [{containerPort: 2, name: side}]}
  containers:
  - name: c
    resources: {limits: {cpu: 1, memory: 64Mi}}
    ports: [{containerPort: 8080, name: web}, {containerPort: 53, protocol: UDP}]
    readinessProbe: {httpGet: {path: /readyz, port: web}}
  readinessGates: [{conditionType: example.org/warm}]
status:
  phase: Running
  podIP: 10.244.2.5
  podIPs: [{ip: 10.244.2.5}, {ip: 'fd00::5'}]
  conditions: [{type: Initialized, status: 'True'}, {type: Ready, status: 'True'}]
";
    let Object::Pod(pod) = object(text) else { panic!("a Pod") };
    let port = |port, name: Option<&str>, protocol| ContainerPort {
        name: name.map(str::to_owned),
        port,
        protocol,
        host_port: None,
        host_ip: None,
    };
    let expected = Pod {
        meta: pod.meta.clone(),
        node: Some("node01".to_owned()),
        addresses: vec!["10.244.2.5".parse().unwrap(), "fd00::5".parse().unwrap()],
        ready: true,
        finished: false,
        ports: vec![port(8080, Some("web"), Protocol::Tcp), port(53, None, Protocol::Udp), port(2, Some("side"), Protocol::Tcp)],
        hostname: Some("h".to_owned()),
        subdomain: Some("s".to_owned()),
        weight: Some(5),
        host_network: false,
        readiness_probes: vec![ReadinessProbe {
            container: "c".to_owned(),
            probe: Probe {
                action: ProbeAction::Http { tls: false, host: None, port: Some(8080), path: "/readyz".to_owned(), headers: vec![] },
                initial_delay: Duration::ZERO,
                period: Duration::from_secs(10),
                timeout: Duration::from_secs(1),
                success_threshold: 1,
                failure_threshold: 3,
            },
        }],
    };
    assert_eq!(*pod, expected);
    assert!(pod.meta.terminating);
    let Object::Pod(pod) = object("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: []}\nstatus: {phase: Failed}\n")
    else {
        panic!("a Pod")
    };
    assert!(pod.addresses.is_empty() && pod.finished && !pod.ready);
}

#[test]
fn nodes_and_namespaces_have_no_namespace() {
    let text = "\
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/zone: z1}}
status: {addresses: [{type: Hostname, address: n1}, {type: InternalIP, address: 10.0.0.1}, {type: ExternalIP, address: 192.0.2.1}]}
";
    let Object::Node(node) = object(text) else { panic!("a Node") };
    assert_eq!((node.zone.as_deref(), node.addresses.len(), node.meta.namespace.as_str()), (Some("z1"), 2, ""));
    let namespace = object("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n");
    assert_eq!(namespace.key().to_string(), "Namespace a");
}

#[test]
fn lists_are_taken_apart_and_json_is_read_too() {
    let item = |name: &str| format!("{{\"apiVersion\": \"v1\", \"kind\": \"Namespace\",\n\t\"metadata\": {{\"name\": \"{name}\"}}}}");
    let list = format!(
        "{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"metadata\": {{}}, \"items\": [\n{},\n{}]}}\n{}",
        item("a"),
        item("b"),
        item("c")
    );
    let found = parsed(&list);
    assert_eq!(shown(&found.diagnostics), [""; 0]);
    let places: Vec<_> =
        found.objects.iter().map(|object| (object.meta().name.as_str(), object.meta().location.as_ref().unwrap().line)).collect();
    assert_eq!(places, [("a", 2), ("b", 4), ("c", 6)]);
    let found = parsed("apiVersion: v1\nkind: NamespaceList\nitems:\n- metadata: {name: a}\n- metadata: {name: _}\n");
    assert_eq!((found.objects.len(), found.diagnostics.len()), (1, 1));
    assert_eq!(found.diagnostics[0].object.as_deref(), Some("Namespace _"));
}

#[test]
fn aliases_and_merges_are_followed() {
    let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  labels: &l {app: web}\nspec:\n  selector: {<<: *l, tier: front}\n  ports: [{port: 80}]\n";
    let Object::Service(service) = object(text) else { panic!("a Service") };
    assert_eq!(service.selector.as_ref().unwrap().len(), 2);
}
