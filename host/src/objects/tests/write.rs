//! Objects out as JSON: as the API shows them, and such that they can be read again.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

fn meta(name: &str, labels: &[(&str, &str)]) -> Meta {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Meta { namespace: "shop".into(), name: name.into(), labels, ..Meta::default() }
}

fn port(name: &str) -> EndpointPort {
    EndpointPort { name: name.into(), protocol: Protocol::Tcp, port: 8080, app_protocol: Some("kubernetes.io/h2c".into()) }
}

/// Of a pod and complete.
fn endpoint(address: &str) -> SliceEndpoint {
    SliceEndpoint {
        ip: address.parse().unwrap(),
        conditions: Conditions { ready: false, serving: true, terminating: true },
        node: Some("n1".into()),
        zone: Some("east".into()),
        hostname: Some("h1".into()),
        zone_hints: vec!["east".into()],
        node_hints: vec!["n1".into()],
        weight: None,
        pod: Some("web-1".into()),
    }
}

fn slice(manager: &str, endpoints: Vec<SliceEndpoint>, ports: Vec<EndpointPort>) -> EndpointSlice {
    let meta = meta("web-bcdfg", &[(SERVICE_NAME, "web"), (MANAGED_BY, manager)]);
    EndpointSlice { meta, service: Some("web".into()), family: Some(IpFamily::V4), endpoints, ports }
}

/// A UID is there and looks like one; it is what differs from Kubernetes' own.
fn without_uids(mut value: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(members) => {
                if let Some(uid) = members.remove("uid") {
                    let uid = uid.as_str().unwrap().to_owned();
                    let parts: Vec<usize> = uid.split('-').map(str::len).collect();
                    assert_eq!(parts, [8, 4, 4, 4, 12], "{uid}");
                    assert!(uid.as_bytes()[14] == b'8' && b"89ab".contains(&uid.as_bytes()[19]), "{uid}");
                }
                members.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut value);
    value
}

#[test]
fn a_slice_as_the_controller_writes_it() {
    let written = to_json(&Object::EndpointSlice(Arc::new(slice(SLICE_CONTROLLER, vec![endpoint("10.244.0.1")], vec![port("http")]))));
    let expected = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "shop",
            "name": "web-bcdfg",
            "generateName": "web-",
            "labels": { "kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io" },
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Service", "name": "web", "controller": true, "blockOwnerDeletion": true }],
        },
        "addressType": "IPv4",
        "endpoints": [{
            "addresses": ["10.244.0.1"],
            "conditions": { "ready": false, "serving": true, "terminating": true },
            "hostname": "h1",
            "nodeName": "n1",
            "zone": "east",
            "targetRef": { "kind": "Pod", "namespace": "shop", "name": "web-1" },
            "hints": { "forZones": [{ "name": "east" }], "forNodes": [{ "name": "n1" }] },
        }],
        "ports": [{ "name": "http", "protocol": "TCP", "port": 8080, "appProtocol": "kubernetes.io/h2c" }],
    });
    assert_eq!(without_uids(written), expected);
}

#[test]
fn a_mirrored_slice_belongs_to_its_endpoints_and_says_less() {
    let written = to_json(&Object::EndpointSlice(Arc::new(slice(MIRRORING_CONTROLLER, vec![endpoint("10.244.0.1")], vec![]))));
    assert_eq!(written["metadata"]["ownerReferences"][0]["kind"], "Endpoints");
    assert_eq!(written["endpoints"][0]["conditions"], json!({ "ready": false }));
    let by_hand = to_json(&Object::EndpointSlice(Arc::new(slice("me", vec![endpoint("10.244.0.1")], vec![]))));
    assert_eq!((by_hand["metadata"].get("ownerReferences"), by_hand["metadata"].get("generateName")), (None, None));
}

#[test]
fn an_identity_is_the_same_wherever_it_is_told() {
    let slice = to_json(&Object::EndpointSlice(Arc::new(slice(SLICE_CONTROLLER, vec![endpoint("10.244.0.1")], vec![]))));
    let pod = to_json(&Object::Pod(Arc::new(Pod { meta: meta("web-1", &[]), ..Pod::default() })));
    assert_eq!(slice["endpoints"][0]["targetRef"]["uid"], pod["metadata"]["uid"]);
    let other = to_json(&Object::Pod(Arc::new(Pod { meta: meta("web-2", &[]), ..Pod::default() })));
    assert_ne!(other["metadata"]["uid"], pod["metadata"]["uid"]);
}

#[test]
fn endpoints_as_the_controller_writes_them() {
    let address = |ip: &str, ready| EndpointAddress {
        ip: ip.parse().unwrap(),
        ready,
        node: Some("n1".into()),
        hostname: Some("h1".into()),
        pod: Some("web-1".into()),
    };
    let subset = EndpointSubset { addresses: vec![address("10.244.0.1", true), address("10.244.0.2", false)], ports: vec![port("")] };
    let object = Object::Endpoints(Arc::new(Endpoints { meta: meta("web", &[("a", "b")]), subsets: vec![subset] }));
    let shown = |ip: &str| json!({ "ip": ip, "hostname": "h1", "nodeName": "n1", "targetRef": { "kind": "Pod", "namespace": "shop", "name": "web-1" } });
    let expected = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": { "namespace": "shop", "name": "web", "labels": { "a": "b" } },
        "subsets": [{
            "addresses": [shown("10.244.0.1")],
            "notReadyAddresses": [shown("10.244.0.2")],
            "ports": [{ "protocol": "TCP", "port": 8080, "appProtocol": "kubernetes.io/h2c" }],
        }],
    });
    assert_eq!(without_uids(to_json(&object)), expected);
}

#[test]
fn a_service_shows_what_was_filled_in() {
    let Object::Service(read) = object(&service_text(
        "  type: LoadBalancer\n  selector: {app: web}\n  externalTrafficPolicy: Local\n  sessionAffinity: ClientIP\n  ports:\n  - {name: http, port: 80, targetPort: web}\n",
    )) else {
        return assert_eq!("a Service", "something else");
    };
    let mut filled = Service { cluster_ip: ClusterIp::Fixed(vec!["10.96.0.7".parse().unwrap()]), ..Service::clone(&read) };
    filled.ports[0].node_port = Some(30123);
    filled.load_balancer_ips = vec!["203.0.113.5".parse().unwrap()];
    let expected_spec = json!({
        "type": "LoadBalancer",
        "clusterIP": "10.96.0.7",
        "clusterIPs": ["10.96.0.7"],
        "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": "web", "nodePort": 30123 }],
        "selector": { "app": "web" },
        "allocateLoadBalancerNodePorts": true,
        "internalTrafficPolicy": "Cluster",
        "externalTrafficPolicy": "Local",
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 10800 } },
    });
    let written = to_json(&Object::Service(Arc::new(filled)));
    assert_eq!(written["spec"], expected_spec);
    assert_eq!(written["status"], json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.5", "ipMode": "VIP" }] } }));
}

/// Without where it was read.
fn anywhere(object: &Object) -> Object {
    fn bare(meta: &Meta) -> Meta {
        Meta { location: None, ..meta.clone() }
    }
    match object {
        Object::Namespace(meta) => Object::Namespace(Arc::new(bare(meta))),
        Object::Node(node) => Object::Node(Arc::new(Node { meta: bare(&node.meta), ..Node::clone(node) })),
        Object::Pod(pod) => Object::Pod(Arc::new(Pod { meta: bare(&pod.meta), ..Pod::clone(pod) })),
        Object::Service(service) => Object::Service(Arc::new(Service { meta: bare(&service.meta), ..Service::clone(service) })),
        Object::Endpoints(object) => Object::Endpoints(Arc::new(Endpoints { meta: bare(&object.meta), ..Endpoints::clone(object) })),
        Object::EndpointSlice(slice) => {
            Object::EndpointSlice(Arc::new(EndpointSlice { meta: bare(&slice.meta), ..EndpointSlice::clone(slice) }))
        }
    }
}

#[test]
fn what_is_written_can_be_read() {
    let texts = [
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels: {a: b}\n",
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: n1\n  labels: {topology.kubernetes.io/zone: east}\nspec: {}\nstatus:\n  addresses:\n  - {type: InternalIP, address: 192.0.2.1}\n",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web-1\n  labels: {app: web}\nspec:\n  nodeName: n1\n  hostname: h\n  subdomain: web\n  containers:\n  - name: main\n    ports:\n    - {name: http, containerPort: 8080}\nstatus:\n  phase: Running\n  podIPs: [{ip: 10.244.0.1}, {ip: 'fd00::1'}]\n  podIP: 10.244.0.1\n  conditions: [{type: Ready, status: 'True'}]\n",
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  selector: {app: web}\n  externalIPs: [203.0.113.9]\n  externalTrafficPolicy: Local\n  publishNotReadyAddresses: true\n  ports:\n  - {name: a, port: 53, protocol: UDP}\n  - {name: b, port: 53, targetPort: dns}\n",
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: alias\nspec:\n  type: ExternalName\n  externalName: example.com\n",
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: db\nspec:\n  clusterIP: None\n  selector: {app: db}\n  ports:\n  - port: 3306\n",
        "apiVersion: v1\nkind: Endpoints\nmetadata:\n  name: db\nsubsets:\n- addresses: [{ip: 203.0.113.1, nodeName: n1}]\n  notReadyAddresses: [{ip: 203.0.113.2}]\n  ports: [{port: 3306}]\n",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: db-1\n  labels: {kubernetes.io/service-name: db}\naddressType: IPv6\nendpoints:\n- addresses: ['fd00::1']\n  conditions: {ready: false}\n  hints: {forZones: [{name: east}]}\nports:\n- {name: sql, port: 3306, protocol: TCP}\n",
    ];
    let read: Vec<Object> = texts.iter().map(|text| object(text)).collect();
    let again = parsed(&list_to_json(&read).to_string());
    assert_eq!(shown(&again.diagnostics), [""; 0]);
    let bare = |objects: &[Object]| objects.iter().map(anywhere).collect::<Vec<_>>();
    assert_eq!(bare(&again.objects), bare(&read));
}

#[test]
fn a_placeholder_is_a_slice_with_empty_lists() {
    let written = to_json(&Object::EndpointSlice(Arc::new(slice(SLICE_CONTROLLER, vec![], vec![]))));
    assert_eq!((&written["endpoints"], &written["ports"]), (&json!([]), &json!([])));
}
