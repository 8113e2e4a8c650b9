//! J2 and J6: pods that come, go and are relabelled, as far as manifests say so.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use anyhow::{Result, bail, ensure};
use pointsman_tests::engine::Launch;
use pointsman_tests::manifest::{Pod, Service};
use pointsman_tests::process::run;
use pointsman_tests::{Backend, Engine, Manifests, Range, load, peers, poll};

/// Pods of one template, all on the same port of different addresses; only those with a manifest are in the Service.
struct Deployment {
    engine: Engine,
    manifests: Manifests,
    port: u16,
    range: Range,
    _backends: Vec<Backend>,
}

const NAMES: [&str; 4] = ["p0", "p1", "p2", "p3"];

impl Deployment {
    fn start(test: &str) -> Result<Self> {
        let range = Range::claim(test)?;
        let listeners = range.same_port(4)?;
        let port = listeners[0].local_addr()?.port();
        let backends = listeners.into_iter().zip(NAMES).map(|(listener, name)| Backend::named_on(listener, name));
        let backends = backends.collect::<Result<Vec<_>>>()?;
        let service = Service::new("my-nginx").cluster_ip(range.cluster_ip(10)).selector("run", "my-nginx");
        let manifests = Manifests::with("service.yaml", &service.port(format!("{{port: 8080, targetPort: {port}}}")).yaml())?;
        let engine = Launch::new(&range, manifests.path())?.start()?;
        Ok(Self { engine, manifests, port, range, _backends: backends })
    }

    fn pod(&self, n: u8, labels: &str, ready: bool) -> Result<()> {
        let pod = Pod::new(NAMES[usize::from(n)], labels, self.range.backend_ip(n)).node("n1").port("http", self.port).ready(ready);
        self.manifests.write(&format!("pod-{n}.yaml"), &pod.yaml()).map(drop)
    }

    fn address(&self) -> SocketAddr {
        (Range::mapped(self.range.cluster_ip(10)), 8080).into()
    }

    /// Waits until exactly these pods answer, in equal shares.
    fn rotation(&self, expected: &[&str]) -> Result<()> {
        let expected: BTreeSet<&str> = expected.iter().copied().collect();
        let rounds = expected.len() as u64 * 4;
        poll::until(&format!("a rotation over {expected:?}"), || {
            let tally = load::in_a_row(self.address(), rounds);
            let names: BTreeSet<&str> = tally.by_name.keys().map(String::as_str).collect();
            let even = tally.by_name.values().all(|count| *count == 4);
            if names == expected && even && tally.failures.is_empty() { Ok(Some(())) } else { bail!("{tally:?}") }
        })
    }
}

/// Scaling changes the rotation without touching the Service; a pod that dies leaves, a new matching one joins.
#[test]
fn pods_join_and_leave_the_rotation() -> Result<()> {
    let deployment = Deployment::start("pods_join_and_leave")?;
    let refused = load::ask(deployment.address(), None).map_err(|error| error.kind());
    ensure!(refused == Err(std::io::ErrorKind::ConnectionRefused), "without pods, asking gave {refused:?}");
    deployment.pod(0, "run: my-nginx", true)?;
    deployment.rotation(&["p0"])?;
    deployment.pod(1, "run: my-nginx", true)?;
    deployment.pod(2, "run: my-nginx", true)?;
    deployment.rotation(&["p0", "p1", "p2"])?;
    deployment.manifests.remove("pod-0.yaml")?;
    deployment.rotation(&["p1", "p2"])?;
    deployment.pod(3, "run: my-nginx", true)?;
    deployment.rotation(&["p1", "p2", "p3"])?;
    for n in 1..4 {
        deployment.manifests.remove(&format!("pod-{n}.yaml"))?;
    }
    deployment.engine.frontend_gone("default/my-nginx:8080", "cluster-ip")
}

/// A Service's selector is an AND of equalities; relabelling moves a pod in or out at once.
#[test]
fn relabelled_pods_move_in_and_out() -> Result<()> {
    let deployment = Deployment::start("relabelled_pods")?;
    deployment.pod(0, "run: my-nginx, release: stable", true)?;
    deployment.pod(1, "run: other", true)?;
    deployment.pod(2, "app: my-nginx", true)?;
    deployment.rotation(&["p0"])?;
    deployment.pod(1, "run: my-nginx", true)?;
    deployment.rotation(&["p0", "p1"])?;
    deployment.pod(0, "release: stable", true)?;
    deployment.rotation(&["p1"])?;
    let text = |selector: &str| {
        let service = Service::new("my-nginx").cluster_ip(deployment.range.cluster_ip(10)).spec("selector", selector);
        service.port(format!("{{port: 8080, targetPort: {}}}", deployment.port)).yaml()
    };
    deployment.pod(0, "run: my-nginx, release: canary", true)?;
    deployment.rotation(&["p0", "p1"])?;
    deployment.manifests.write("service.yaml", &text("{run: my-nginx, release: canary}"))?;
    deployment.rotation(&["p0"])?;
    deployment.manifests.write("service.yaml", &text("{app: my-nginx}"))?;
    deployment.rotation(&["p2"])
}

/// A pod that is not ready gets no new connection, and is back when it is ready again.
#[test]
fn pods_that_are_not_ready_are_passed_over() -> Result<()> {
    let deployment = Deployment::start("pods_not_ready")?;
    deployment.pod(0, "run: my-nginx", true)?;
    deployment.pod(1, "run: my-nginx", false)?;
    deployment.rotation(&["p0"])?;
    deployment.pod(1, "run: my-nginx", true)?;
    deployment.rotation(&["p0", "p1"])?;
    deployment.pod(0, "run: my-nginx", false)?;
    deployment.rotation(&["p1"])
}

/// A named target port is looked up pod by pod, so that pods may differ in its number (kubernetes-semantics 1.3).
#[test]
fn a_named_target_port_differs_from_pod_to_pod() -> Result<()> {
    let range = Range::claim("a_named_target_port")?;
    let backends = [Backend::named(range.backend_ip(0), "p0")?, Backend::named(range.backend_ip(1), "p1")?];
    let service = Service::new("web").cluster_ip(range.cluster_ip(10)).selector("app", "web").port("{port: 8080, targetPort: http}");
    let manifests = Manifests::with("service.yaml", &service.yaml())?;
    for (n, backend) in backends.iter().enumerate() {
        let pod = Pod::new(&format!("p{n}"), "app: web", backend.address().ip()).port("http", backend.address().port());
        manifests.write(&format!("pod-{n}.yaml"), &pod.yaml())?;
    }
    let engine = Launch::new(&range, manifests.path())?.start()?;
    let tally = load::in_a_row(engine.frontend("default/web:8080", "cluster-ip")?, 8);
    ensure!(tally.of("p0") == 4 && tally.of("p1") == 4, "{tally:?}");
    Ok(())
}

/// Two named ports of nginx, one of them TLS with a certificate for `my-nginx`: both answer through the ClusterIP and the node port.
#[test]
fn https_answers_through_the_node_port() -> Result<()> {
    let range = Range::claim("https_through_the_node_port")?;
    let plain = peers::nginx(range.backend_ip(0), "plain")?;
    let tls = peers::nginx_tls(range.backend_ip(0), "secure", "my-nginx")?;
    let service = Service::new("my-nginx").spec("type", "NodePort").cluster_ip(range.cluster_ip(10)).selector("run", "my-nginx");
    let service = service.port("{name: http, port: 8080, targetPort: plain, nodePort: 31080}");
    let service = service.port("{name: https, port: 8443, targetPort: secure, nodePort: 31443}");
    let pod =
        Pod::new("p0", "run: my-nginx", range.backend_ip(0)).port("plain", plain.address().port()).port("secure", tls.address().port());
    let manifests = Manifests::with("all.yaml", &(service.yaml() + &pod.yaml()))?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    let curl = |arguments: &[&str]| run(Command::new("curl").args(["-sS", "--fail", "--max-time", "15"]).args(arguments));

    let node: SocketAddr = engine.frontend("default/my-nginx:https", "node-port")?;
    ensure!(node == (range.node_ip(), 31443).into(), "the node port of https is bound as {node}");
    ensure!(curl(&["-k", &format!("https://{node}/")])? == "secure", "curl -k https://<node>:<nodePort>");
    let cluster = engine.frontend("default/my-nginx:https", "cluster-ip")?;
    let (resolve, ca) = (format!("my-nginx:8443:{}", cluster.ip()), tls.folder().join("tls.crt"));
    let checked = curl(&["--cacert", &ca.display().to_string(), "--resolve", &resolve, "https://my-nginx:8443/"])?;
    ensure!(checked == "secure", "curl --cacert tls.crt https://my-nginx");
    let node = engine.frontend("default/my-nginx:http", "node-port")?;
    ensure!(curl(&[&format!("http://{node}/")])? == "plain", "the other port");
    Ok(())
}

/// Established connections outlive their endpoint's place in the rotation; new ones go elsewhere (J4).
#[test]
fn established_connections_survive_a_pod_that_leaves() -> Result<()> {
    let range = Range::claim("established_connections_survive")?;
    let greet_and_echo = |name: &'static [u8]| {
        move |mut stream: TcpStream| {
            stream.write_all(name)?;
            let mut reader = stream.try_clone()?;
            std::io::copy(&mut reader, &mut stream).map(drop)
        }
    };
    let backends = [(0, b"old"), (1, b"new")].map(|(n, name)| {
        let listener = TcpListener::bind((range.backend_ip(n), 0))?;
        Backend::threaded(listener, greet_and_echo(name))
    });
    let backends = backends.into_iter().collect::<Result<Vec<_>>>()?;
    let manifests = Manifests::new()?;
    let service = Service::new("web").cluster_ip(range.cluster_ip(10)).selector("app", "web").port("{port: 8080, targetPort: http}");
    manifests.write("service.yaml", &service.yaml())?;
    let pod = |n: usize, ip: Ipv4Addr| Pod::new(&format!("p{n}"), "app: web", ip).port("http", backends[n].address().port()).yaml();
    manifests.write("pod-0.yaml", &pod(0, range.backend_ip(0)))?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    let address = engine.frontend("default/web:8080", "cluster-ip")?;
    let greeted = || {
        let mut stream = load::connect(address, None)?;
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting)?;
        anyhow::Ok((stream, greeting))
    };
    let (mut established, greeting) = greeted()?;
    ensure!(&greeting == b"old", "the only pod said {greeting:?}");
    let mut echoed = [0; 6];
    established.write_all(b"before")?;
    established.read_exact(&mut echoed)?;

    manifests.write("pod-1.yaml", &pod(1, range.backend_ip(1)))?;
    manifests.remove("pod-0.yaml")?;
    poll::until("only the other in the rotation", || {
        let greetings = (0..3).map(|_| Ok(greeted()?.1)).collect::<Result<Vec<_>>>()?;
        Ok(greetings.iter().all(|greeting| greeting == b"new").then_some(()))
    })?;
    established.write_all(b"after!")?;
    established.read_exact(&mut echoed)?;
    ensure!(&echoed == b"after!", "the stream gave {echoed:?}");
    Ok(())
}
