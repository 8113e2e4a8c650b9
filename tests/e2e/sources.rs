//! Where objects come from: Endpoints, slices, selectors, JSON, folders that are swapped by a symlink, configuration files.

use std::net::SocketAddr;

use anyhow::{Result, bail, ensure};
use pointsman_tests::engine::Launch;
use pointsman_tests::manifest::{Pod, Service, endpoints};
use pointsman_tests::{Backend, Manifests, Range, load, poll};

use crate::site::{Site, WEB};

fn slice(name: &str, service: &str, address: SocketAddr, conditions: &str) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}\n  labels:\n    kubernetes.io/service-name: \
         {service}\naddressType: IPv4\nendpoints:\n- addresses: [{ip}]\n  conditions: {{{conditions}}}\nports:\n- {{name: \"\", port: {port}, \
         protocol: TCP}}\n"
    )
}

fn only(address: SocketAddr, name: &str) -> Result<()> {
    poll::until(&format!("only {name} to answer"), || {
        let tally = load::in_a_row(address, 6);
        if tally.of(name) == 6 { Ok(Some(())) } else { bail!("{tally:?}") }
    })
}

/// Slices written by hand serve a Service without selector; several add up; one that is not ready is passed over (J1).
#[test]
fn slices_written_by_hand_are_served() -> Result<()> {
    let range = Range::claim("slices_by_hand")?;
    let backends = [Backend::named(range.backend_ip(0), "a")?, Backend::named(range.backend_ip(1), "b")?];
    let text = Service::new("web").cluster_ip(range.cluster_ip(10)).port("{port: 8080}").yaml();
    let manifests = Manifests::with("all.yaml", &(text + &slice("web-1", "web", backends[0].address(), "ready: true")))?;
    manifests.write("second.yaml", &slice("web-2", "web", backends[1].address(), ""))?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    let address = engine.frontend(WEB, "cluster-ip")?;
    let tally = load::in_a_row(address, 8);
    ensure!(tally.of("a") == 4 && tally.of("b") == 4, "{tally:?}");
    manifests.write("second.yaml", &slice("web-2", "web", backends[1].address(), "ready: false"))?;
    only(address, "a")
}

/// Later the Service gets a selector, and pods take over from the hand-written address (J1).
#[test]
fn pods_take_over_from_written_endpoints() -> Result<()> {
    let site = Site::named("pods_take_over", &["outside", "pod"])?;
    let addresses = site.backend_addresses();
    site.endpoints(&addresses[..1])?;
    let address = site.address()?;
    only(address, "outside")?;
    let pod = Pod::new("p", "app: web", addresses[1].ip()).port("main", addresses[1].port());
    site.manifests.write("pod.yaml", &pod.yaml())?;
    let port = addresses[1].port();
    let service = Service::new("web").cluster_ip(site.range.cluster_ip(10)).selector("app", "web");
    site.manifests.write("service.yaml", &service.port(format!("{{port: 8080, targetPort: {port}}}")).yaml())?;
    site.manifests.remove("endpoints.yaml")?;
    only(address, "pod")
}

/// JSON, and a List of it, as `kubectl get -o json` prints them.
#[test]
fn json_is_read_as_well() -> Result<()> {
    let range = Range::claim("json_is_read")?;
    let backend = Backend::named(range.backend_ip(0), "a")?;
    let (ip, port) = (backend.address().ip().to_string(), backend.address().port());
    let manifests = Manifests::new()?;
    let service = serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"clusterIP": range.cluster_ip(10).to_string(), "ports": [{"port": 8080}]},
    });
    let endpoints = serde_json::json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web"},
        "subsets": [{"addresses": [{"ip": ip}], "ports": [{"port": port}]}],
    });
    manifests.write("list.json", &serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [service, endpoints]}).to_string())?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    only(engine.frontend(WEB, "cluster-ip")?, "a")
}

/// A mounted ConfigMap changes by a symlink that is renamed over another: the new content takes force, with no gap.
#[test]
fn a_folder_swapped_by_symlink_is_followed() -> Result<()> {
    let range = Range::claim("swapped_by_symlink")?;
    let backends = [Backend::named(range.backend_ip(0), "a")?, Backend::named(range.backend_ip(1), "b")?];
    let mount = tempfile::tempdir()?;
    let service = Service::new("web").cluster_ip(range.cluster_ip(10)).port("{port: 8080}").yaml();
    for (version, backend) in ["..v1", "..v2"].iter().zip(&backends) {
        std::fs::create_dir(mount.path().join(version))?;
        let text = service.clone() + &endpoints("web", &[backend.address()]);
        std::fs::write(mount.path().join(version).join("all.yaml"), text)?;
    }
    std::os::unix::fs::symlink("..v1", mount.path().join("..data"))?;
    std::os::unix::fs::symlink("..data/all.yaml", mount.path().join("all.yaml"))?;
    let engine = Launch::new(&range, mount.path())?.start()?;
    let address = engine.frontend(WEB, "cluster-ip")?;
    only(address, "a")?;
    let flow = load::Flow::start(address, 300);
    flow.pass(30)?;
    std::os::unix::fs::symlink("..v2", mount.path().join("..data_tmp"))?;
    std::fs::rename(mount.path().join("..data_tmp"), mount.path().join("..data"))?;
    only(address, "b")?;
    std::fs::remove_dir_all(mount.path().join("..v1"))?;
    flow.pass(30)?;
    let tally = flow.stop();
    ensure!(tally.failures.is_empty(), "{tally:?}");
    only(address, "b")
}

/// The same options from a file; a flag wins over it.
#[test]
fn options_are_read_from_a_file() -> Result<()> {
    let range = Range::claim("options_from_a_file")?;
    let backend = Backend::named(range.backend_ip(0), "a")?;
    let service = Service::new("web").spec("type", "NodePort").port("{port: 8080, nodePort: 31398}").yaml();
    let manifests = Manifests::with("all.yaml", &(service + &endpoints("web", &[backend.address()])))?;
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    let other = range.backend_ip(80);
    std::fs::write(file.path(), format!("node-port-addresses: [{other}]\nservice-cidr: [10.255.0.0/24]\n"))?;
    let engine = Launch::new(&range, manifests.path())?.arguments(["--config", &file.path().display().to_string()]).start()?;
    ensure!(engine.frontend(WEB, "node-port")? == (other, 31398).into(), "the file's address for node ports: {:?}", engine.bound()?);
    let allocated = engine.bound()?.into_iter().find(|bound| bound.frontend == "cluster-ip").map(|bound| bound.address);
    let ours = allocated.is_some_and(|address| !address.to_string().starts_with("10.255."));
    ensure!(ours, "the flag --service-cidr did not win: {allocated:?}");
    Ok(())
}

/// `loadBalancerSourceRanges`: who is outside of them gets nothing from the load balancer's address, and is still served elsewhere.
#[test]
fn source_ranges_close_the_load_balancer_address() -> Result<()> {
    let range = Range::claim("source_ranges")?;
    let backend = Backend::named(range.backend_ip(0), "a")?;
    let allowed = pointsman_tests::range::client(5);
    let service = Service::new("web").spec("type", "LoadBalancer").cluster_ip(range.cluster_ip(10)).port("{port: 8080}");
    let service = service.ingress(range.external_ip(5)).spec("loadBalancerSourceRanges", format!("[\"{allowed}/32\"]"));
    let manifests = Manifests::with("all.yaml", &(service.yaml() + &endpoints("web", &[backend.address()])))?;
    let engine = Launch::new(&range, manifests.path())?.start()?;
    let address = engine.frontend(WEB, "load-balancer")?;
    ensure!(load::ask(address, Some(allowed))? == "a", "a client inside the range");
    let stranger = load::ask(address, Some(pointsman_tests::range::client(6)));
    ensure!(stranger.is_err(), "a client outside the range was answered {stranger:?}");
    ensure!(
        load::ask(engine.frontend(WEB, "cluster-ip")?, Some(pointsman_tests::range::client(6)))? == "a",
        "the cluster IP is not concerned"
    );
    let decisions = engine.decisions_at_least(3)?;
    ensure!(decisions[1]["verdict"] == "drop" && backend.accepted() == 2, "{}", decisions[1]);
    Ok(())
}
