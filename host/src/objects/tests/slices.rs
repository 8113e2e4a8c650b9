//! What Kubernetes accepts and refuses of EndpointSlices and Endpoints (kubernetes-semantics 2.14).

use super::*;

fn slice(rest: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s, labels: {{kubernetes.io/service-name: w}}}}\n{rest}\n"
    )
}

fn list(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(", ")
}

#[test]
fn limits() {
    let endpoints = |count| slice(&format!("addressType: IPv4\nendpoints: [{}]", list(count, |_| "{addresses: [10.0.0.1]}".to_owned())));
    assert_eq!(findings(&endpoints(1_000)), [""; 0]);
    assert_eq!(findings(&endpoints(1_001)), ["endpoints: has 1001 endpoints, 1000 are allowed"]);
    let ports = |count| slice(&format!("addressType: IPv4\nports: [{}]", list(count, |at| format!("{{name: p{at}, port: 1}}"))));
    assert_eq!(findings(&ports(20_000)), [""; 0]);
    assert_eq!(findings(&ports(20_001)), ["ports: has 20001 ports, 20000 are allowed"]);
    let addresses = |count| {
        let addresses = list(count, |at| format!("10.0.1.{at}"));
        slice(&format!("addressType: IPv4\nendpoints: [{{addresses: [{addresses}]}}]"))
    };
    assert_eq!(findings(&addresses(100)), [""; 0]);
    assert_eq!(findings(&addresses(101)), ["endpoints[0].addresses: has 101 addresses, 100 are allowed"]);
    for (hints, field) in [("forZones", "endpoints[0].hints.forZones"), ("forNodes", "endpoints[0].hints.forNodes")] {
        let hinted = |count| {
            let names = list(count, |at| format!("{{name: z{at}}}"));
            slice(&format!("addressType: IPv4\nendpoints: [{{addresses: [10.0.0.1], hints: {{{hints}: [{names}]}}}}]"))
        };
        assert_eq!(findings(&hinted(8)), [""; 0]);
        assert_eq!(findings(&hinted(9)), [format!("{field}: has 9 hints, 8 are allowed")]);
    }
    let topology = list(17, |at| format!("l{at}: x"));
    let labelled = slice(&format!("addressType: IPv4\nendpoints: [{{addresses: [10.0.0.1], deprecatedTopology: {{{topology}}}}}]"));
    assert_eq!(findings(&labelled), ["endpoints[0].deprecatedTopology: has 17 labels, 16 are allowed"]);
}

#[test]
fn endpoints_of_slices() {
    let none: &[&str] = &[];
    let label = "must consist of lower-case letters, digits and '-', and begin and end with a letter or digit";
    check(
        &[
            ("addressType: IPv4\nendpoints: [{addresses: [127.0.0.1]}]", none),
            (
                "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1, x, 169.254.0.1]}]",
                &[
                    "endpoints[0].addresses[1]: \"x\" is not an IP address",
                    "endpoints[0].addresses[2]: 169.254.0.1 is not an address that traffic can be sent to",
                ],
            ),
            ("addressType: FQDN\nendpoints: [{addresses: [a.example, b.example.]}]", none),
            (
                "addressType: FQDN\nendpoints: [{addresses: [a]}]",
                &["endpoints[0].addresses[0]: \"a\" must have two labels at least, such as db.example"],
            ),
            ("addressType: FQDN\nendpoints: [{}]", &["endpoints[0].addresses: an endpoint needs an address"]),
            (
                "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], hostname: A, nodeName: N1}]",
                &[&format!("endpoints[0].hostname: \"A\" {label}"), &format!("endpoints[0].nodeName: \"N1\" {label}")],
            ),
            (
                "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], hints: {forZones: [{name: a}, {name: a}], forNodes: [{name: N1}]}}]",
                &[
                    "endpoints[0].hints.forZones[1].name: \"a\" is there twice",
                    &format!("endpoints[0].hints.forNodes[0].name: \"N1\" {label}"),
                ],
            ),
            ("addressType: IPv4\nports: [{port: 1}, {name: a, port: 2}]", none),
            (
                "addressType: IPv4\nports: [{name: a, port: 1}, {name: a, port: 2, protocol: UDP}]",
                &["ports[1].name: another port has the same name"],
            ),
            ("addressType: IPv4\nports: [{port: 1}, {port: 2}]", &["ports[1].name: a name is required: there is more than one port"]),
            ("addressType: IPv4\nports: [{port: 1, appProtocol: kubernetes.io/wss}]", none),
            ("addressType: IPv4\nports: [{port: 1, appProtocol: ''}]", &["ports[0].appProtocol: \"\" has no name"]),
            ("addressType: IPv4\nports: [{port: 1, protocol: ICMP}]", &["ports[0].protocol: \"ICMP\" is not one of TCP, UDP, SCTP"]),
        ],
        slice,
    );
    let Object::EndpointSlice(read) = object(&slice("addressType: IPv6\nports: [{port: 1, appProtocol: http}]")) else { panic!("a slice") };
    assert_eq!((read.family, read.ports[0].app_protocol.as_deref()), (Some(IpFamily::V6), Some("http")));
}

#[test]
fn endpoints_by_hand() {
    let text = |subset: &str| format!("apiVersion: v1\nkind: Endpoints\nmetadata: {{name: db}}\nsubsets: [{{{subset}}}]\n");
    let none: &[&str] = &[];
    check(
        &[
            ("addresses: [{ip: 127.0.0.1, hostname: a, nodeName: n.example}], ports: [{port: 1, appProtocol: http}]", none),
            (
                "addresses: [{ip: 10.0.0.1, hostname: a.b, nodeName: N1}], ports: [{port: 1}]",
                &[
                    "subsets[0].addresses[0].hostname: \"a.b\" must consist of lower-case letters, digits and '-', and begin and end with a letter or digit",
                    "subsets[0].addresses[0].nodeName: \"N1\" must consist of lower-case letters, digits and '-', and begin and end with a letter or digit",
                ],
            ),
            (
                "notReadyAddresses: [{ip: 'fe80::1'}], ports: [{port: 1}]",
                &["subsets[0].notReadyAddresses[0].ip: fe80::1 is not an address that traffic can be sent to"],
            ),
            (
                "addresses: [{ip: 10.0.0.1}], ports: [{port: 1}, {name: b, port: 2}]",
                &["subsets[0].ports[0].name: a name is required: there is more than one port"],
            ),
            ("addresses: [{ip: 10.0.0.1}], ports: [{port: 0}]", &["subsets[0].ports[0].port: 0 is not a port: 1 to 65535"]),
            (
                "addresses: [{ip: 10.0.0.1}], ports: [{port: 1, appProtocol: 'a b'}]",
                &[
                    "subsets[0].ports[0].appProtocol: \"a b\" must consist of letters, digits, '-', '_' and '.', and begin and end with a letter or digit",
                ],
            ),
        ],
        text,
    );
    let target = "addresses: [{ip: 10.0.0.1, targetRef: {kind: Pod, name: p-1}}, {ip: 10.0.0.2, targetRef: {kind: Node, name: n1}}], ports: [{port: 1, appProtocol: http}]";
    let Object::Endpoints(read) = object(&text(target)) else { panic!("Endpoints") };
    let pods: Vec<_> = read.subsets[0].addresses.iter().map(|address| address.pod.as_deref()).collect();
    assert_eq!((pods, read.subsets[0].ports[0].app_protocol.as_deref()), (vec![Some("p-1"), None], Some("http")));
}
