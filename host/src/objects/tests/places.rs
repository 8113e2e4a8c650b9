//! Where fields stand that only others find wrong, and which findings are the same.

use super::*;

const TEXT: &str = "\
# A comment.
---
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations:
    pointsman.dev/balancer: lest-connections
    other: x
spec:
  type: NodePort
  clusterIP: 10.96.0.1
  clusterIPs:
  - 10.96.0.1
  - fd00::1
  externalIPs: [192.0.2.1, 192.0.2.2]
  selector:
    app: web
  ports:
  - port: 80
    name: a
    targetPort: http
    nodePort: 30080
  - port: 81
    name: b
    targetPort: 8081
  ipFamilyPolicy: PreferDualStack
status:
  loadBalancer: {}
";

fn told(object: &Object, field: &str) -> (u32, Option<u32>) {
    let diagnostic = Diagnostic::about(object.key().to_string(), object.meta(), field, Severity::Error, "wrong".to_owned());
    assert_eq!(diagnostic.file.as_deref(), Some("a.yaml"));
    assert_eq!(diagnostic.field.as_deref(), Some(field).filter(|field| !field.is_empty()));
    (diagnostic.line.unwrap(), diagnostic.column)
}

#[test]
fn fields_are_found_again() {
    let service = object(TEXT);
    for (field, place) in [
        ("metadata.annotations[pointsman.dev/balancer]", (8, Some(29))),
        ("spec.clusterIP", (12, Some(14))),
        ("spec.clusterIPs[1]", (15, Some(5))),
        ("spec.externalIPs[1]", (16, Some(28))),
        ("spec.selector", (17, Some(3))),
        ("spec.ports[0].targetPort", (22, Some(17))),
        ("spec.ports[0].nodePort", (23, Some(15))),
        ("spec.ipFamilyPolicy", (27, Some(19))),
        ("spec.ports[1].nodePort", (3, None)),
        ("", (3, None)),
    ] {
        assert_eq!(told(&service, field), place, "{field}");
    }
    assert_eq!(service.meta().location.as_ref().unwrap().fields.len(), 9, "and nothing else is remembered");
}

#[test]
fn every_annotation_that_names_a_policy_is_found_again() {
    for (name, column) in [("selector", 29), ("traffic-policy", 35), ("balancer-shadow", 36)] {
        let service = object(&TEXT.replace("other: x", &format!("pointsman.dev/{name}: magleff")));
        assert_eq!(told(&service, &format!("metadata.annotations[pointsman.dev/{name}]")), (9, Some(column)));
    }
}

#[test]
fn a_port_without_a_name_is_told_where_it_would_stand() {
    let by_hand = object(&service_text("  ports:\n  - port: 80\n"));
    assert_eq!(told(&by_hand, "spec.ports[0].name"), (7, Some(5)));
    let selecting = object(&service_text("  selector: {a: b}\n  ports:\n  - port: 80\n"));
    assert_eq!(told(&selecting, "spec.ports[0].name"), (1, None));
}

#[test]
fn items_of_lists_and_addresses_of_load_balancers() {
    let text = "\
kind: List
apiVersion: v1
items:
- apiVersion: v1
  kind: Service
  metadata: {name: web}
  spec:
    type: LoadBalancer
    ports: [{port: 80}]
  status:
    loadBalancer:
      ingress:
      - ip: 192.0.2.1
";
    assert_eq!(told(&object(text), "status.loadBalancer.ingress[0].ip"), (13, Some(13)));
}

#[test]
fn a_finding_is_the_same_wherever_it_moved_and_whatever_is_advised() {
    let service = object(TEXT);
    let finding = Diagnostic::about("Service default/web".to_owned(), service.meta(), "spec.selector", Severity::Warning, "x".to_owned());
    let moved = Diagnostic { line: Some(99), column: None, remedy: Some("look".to_owned()), ..finding.clone() };
    assert!(finding.same_finding(&moved) && finding.subject() == moved.subject());
    let message = Diagnostic { message: "y".to_owned(), ..finding.clone() };
    assert!(!finding.same_finding(&message) && finding.subject() == message.subject());
    for other in [
        Diagnostic { file: None, ..finding.clone() },
        Diagnostic { severity: Severity::Error, ..finding.clone() },
        Diagnostic { object: Some("Service default/db".to_owned()), ..finding.clone() },
        Diagnostic { field: None, ..finding.clone() },
    ] {
        assert!(!finding.same_finding(&other), "{other:?}");
    }
    let broken = Diagnostic { object: None, field: None, ..finding };
    assert!(!broken.same_finding(&Diagnostic { line: Some(99), ..broken.clone() }), "text that is broken in another place");
    assert_eq!(broken.subject(), None);
}
