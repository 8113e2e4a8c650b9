//! Manifests in, objects and diagnostics out.
#![allow(clippy::unwrap_used, reason = "a test may end at once")]
use std::path::Path;

use super::*;

#[test]
fn show() {
    for text in [
        "apiVersion: v1\nkind: Endpoint\nmetadata: {name: a}\n",
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  lables: {a: b}\nspec:\n  ports:\n  - port: 80\n    nodePort: 31000\n  - port: '81'\n    prot: TCP\n",
        "apiVersion: v1\nkind: Service\nmetadata:\nname: web\nspec:\nports:\n- port: 80\n",
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n spec:\n  ports:\n  - port: 80\n---\nkind: Deployment\napiVersion: apps/v1\n",
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  name: b\nspec:\n  ports:\n  - port: 80\n",
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: 1web\nspec:\n\tports:\n  - port: 80\n",
        "apiVersion: v1\nkind: Endpoints\nmetadata:\n  name: web\nsubsets:\n  - addresses:\n      - ip: 172.17.0.3\n  - ports:\n      - port: 80\n",
        "{\"apiVersion\": \"v1\",\n\t\"kind\": \"Service\", \"metadata\": {\"name\": \"w\", \"annotations\":{\"a\":\"\\ud83d\\ude00 \\/\"}},\n\t\"spec\": {\"ports\":[{\"port\": 80}]}}\n{\"kind\":\"Pod\"}",
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  annotations: {pointsman.dev/balencer: x, pointsman.dev/balancer.k: '1', pointsman.dev/max-connection-age: 30, 80: 'x', y: 'a'}\nspec:\n  selector: {}\n  ports:\n  - port: 80\n",
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  ports:\n  - port 80\n  - 7\n  externalIPs: [127.0.0.1, 0.0.0.0]\n  externalTrafficPolicy: local\n",
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  ports:\n  - port: 80\n    name: \"unclosed\n",
        "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e]\n",
        "apiVersion: v1beta1\nkind: EndpointSlice\nmetadata: {name: a}\n",
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80, name: a},{port: 80, name: a}], type: Nodeport, sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 99999999999}}}\n",
    ] {
        let parsed = parse(Path::new("a.yaml"), text);
        println!("=====\n{text}-----");
        for d in &parsed.diagnostics {
            println!("{d}");
        }
        println!("{} objects; failed {:?} incomplete {}", parsed.objects.len(), parsed.failed, parsed.incomplete);
        for o in &parsed.objects {
            println!("{:?}", o.meta());
        }
    }
}
#[test]
fn ten_thousand() {
    let mut s = String::new();
    for i in 0..10000 {
        s += &format!("---\napiVersion: v1\nkind: Service\nmetadata:\n  name: web-{i}\n  labels: {{app: nginx, tier: front}}\nspec:\n  type: NodePort\n  selector:\n    app: nginx-{i}\n  ports:\n  - name: http\n    port: 80\n    targetPort: 8080\n  - name: https\n    port: 443\n    targetPort: https\n");
    }
    let t = std::time::Instant::now();
    let n = yaml::documents(&s).len();
    println!("{n} documents {:?} {} MB", t.elapsed(), s.len() / 1000000);
    let t = std::time::Instant::now();
    let p = parse(Path::new("x"), &s);
    println!("{} {:?}", p.objects.len(), t.elapsed());
}
