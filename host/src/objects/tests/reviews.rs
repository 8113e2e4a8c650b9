//! Mistakes that show between objects.

use super::*;

fn reviewed(text: &str) -> Vec<String> {
    let parsed = parsed(text);
    assert_eq!(shown(&parsed.diagnostics), [""; 0], "{text}");
    shown(&review(&parsed.objects))
}

fn service(name: &str, spec: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn pod(name: &str, labels: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {labels}}}\n\
         spec: {{containers: [{{name: c, ports: [{{name: http, containerPort: 8080}}]}}]}}\n"
    )
}

fn endpoints(name: &str, ports: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Endpoints\nmetadata: {{name: {name}}}\nsubsets: [{{addresses: [{{ip: 10.0.0.1}}], ports: {ports}}}]\n"
    )
}

#[test]
fn a_selector_that_nearly_matches() {
    let cases = [
        ("{app: ngin}", "{app: nginx}", "pod web-1 has app=nginx, the selector says app=ngin"),
        ("{app: nginx, tier: front}", "{app: nginx, tier: back}", "pod web-1 has tier=back, the selector says tier=front"),
        ("{app: nginx, tier: front}", "{app: nginx, teir: front}", "pod web-1 has teir=front, the selector says tier=front"),
        ("{app: nginx}", "{app: database}", "compare it with the labels of the pods"),
    ];
    for (selector, labels, help) in cases {
        let text = service("web", &format!("{{selector: {selector}, ports: [{{port: 80}}]}}")) + &pod("web-1", labels);
        let said = selector.trim_matches(['{', '}']).replace(": ", "=").replace(", ", ",");
        assert_eq!(reviewed(&text), [format!("warning: a:5:8: spec.selector: no pod in namespace default has {said}\n  help: {help}")]);
    }
}

#[test]
fn a_selector_without_pods_or_with_pods_elsewhere() {
    let web = service("web", "{selector: {app: nginx}, ports: [{port: 80}]}");
    let none = "warning: a:5:8: spec.selector: no pod in namespace default has app=nginx\n  help: ";
    assert_eq!(reviewed(&web), [format!("{none}there are no pods in namespace default: add their manifests, with status.podIP")]);
    let elsewhere = pod("web-1", "{app: nginx}").replace("{name: web-1", "{namespace: shop, name: web-1");
    assert_eq!(reviewed(&(web.clone() + &elsewhere)), [format!("{none}pod shop/web-1 has, but a Service selects in its own namespace")]);
    assert_eq!(reviewed(&(web + &pod("web-1", "{app: nginx, more: x}"))), [""; 0]);
}

#[test]
fn a_target_port_that_no_pod_has() {
    let text = service("web", "{selector: {app: nginx}, ports: [{port: 80, targetPort: htp}]}") + &pod("web-1", "{app: nginx}");
    let found = reviewed(&text);
    assert_eq!(
        found,
        ["warning: a:5:63: spec.ports[0].targetPort: the selected pod has no TCP port named \"htp\"\n  help: did you mean http?"]
    );
    let two = text.clone() + &pod("web-2", "{app: nginx}");
    assert!(reviewed(&two)[0].contains("none of the 2 selected pods has a TCP port named \"htp\""));
    assert_eq!(reviewed(&text.replace("targetPort: htp", "targetPort: http")), [""; 0]);
    assert!(reviewed(&text.replace("htp}", "metrics}"))[0].ends_with("help: they have: http"));
}

#[test]
fn endpoints_and_slices_of_no_service() {
    let text = service("mysql-external", "{ports: [{port: 3366}]}") + &endpoints("mysql-externl", "[{port: 3306}]");
    assert_eq!(
        reviewed(&text),
        ["warning: a:9:18: metadata.name: there is no Service default/mysql-externl\n  help: did you mean mysql-external?"]
    );
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\n";
    let found = reviewed(slice);
    assert_eq!(
        found,
        ["warning: a:4:58: metadata.labels[kubernetes.io/service-name]: there is no Service default/web\n  help: write the Service's name"]
    );
}

#[test]
fn endpoints_of_a_service_with_a_selector() {
    let text = service("web", "{selector: {app: a}, ports: [{port: 80}]}") + &pod("p", "{app: a}") + &endpoints("web", "[{port: 80}]");
    assert_eq!(
        reviewed(&text),
        [
            "warning: a:12: ignored: the Service of this name has a selector\n  help: remove the Service's selector to write its endpoints by hand"
        ]
    );
}

#[test]
fn endpoints_of_an_alias() {
    let alias = service("db", "{type: ExternalName, externalName: db.example}");
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: db}}\naddressType: IPv4\n";
    let ignored = "ignored: Service db is of type ExternalName, an alias of db.example\n  \
                   help: remove type and externalName from the Service to write its endpoints by hand";
    assert_eq!(reviewed(&(alias.clone() + &endpoints("db", "[{port: 1}]"))), [format!("warning: a:7: {ignored}")]);
    assert_eq!(reviewed(&(alias + slice)), [format!("warning: a:7: {ignored}")]);
}

#[test]
fn ports_that_do_not_join() {
    let text = service("db", "{ports: [{port: 3366, name: mysql}]}") + &endpoints("db", "[{port: 3306}]");
    let expected = "warning: a:5:35: spec.ports[0].name: Endpoints default/db has no TCP port named \"mysql\"\n  \
                    help: it (a.yaml:7) has: unnamed TCP port; ports are joined by name and protocol: write the same in both";
    assert_eq!(reviewed(&text), [expected]);
    assert_eq!(reviewed(&text.replace("[{port: 3306}]", "[{port: 3306, name: mysql}]")), [""; 0]);
}

#[test]
fn slices_that_join_no_port() {
    let slice = |name: &str, ports: &str| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, labels: {{kubernetes.io/service-name: db}}}}\n\
             addressType: IPv4\nports: {ports}\nendpoints: [{{addresses: [10.0.0.1]}}]\n"
        )
    };
    let db = service("db", "{ports: [{port: 1, name: a}, {port: 2, name: b}]}");
    assert_eq!(reviewed(&(db.clone() + &slice("one", "[{name: a, port: 1}]") + &slice("two", "[{name: b, port: 2}]"))), [""; 0]);
    let found = reviewed(&(db.clone() + &slice("one", "[{name: a, port: 1}]") + &slice("two", "[{name: x, port: 1}]")));
    assert_eq!(found.len(), 2, "one slice joins a port, the other none: {found:?}");
    assert!(
        found[0].contains(
            "spec.ports[0].name: EndpointSlice default/two has no TCP port named \"a\"\n  help: it (a.yaml:14) has: TCP port named \"x\""
        ),
        "{found:?}"
    );
    let many: String = ["one", "two", "three"].iter().map(|name| slice(name, "[{name: x, port: 1}]")).collect();
    let found = reviewed(&(db + &many));
    assert_eq!(found.len(), 2, "one warning for each port: {found:?}");
    assert!(found[1].contains("EndpointSlice default/one has no TCP port named \"b\", nor have 2 more\n"), "{found:?}");
}

#[test]
fn a_selector_policy_of_ones_own_decides_by_itself() {
    let text = service("web", "{selector: {app: nginx}, ports: [{port: 80, targetPort: http}]}");
    let own = text.replace("{name: web}", "{name: web, annotations: {pointsman.dev/selector: mine}}");
    assert_eq!((reviewed(&text).len(), reviewed(&own)), (1, vec![]));
}
