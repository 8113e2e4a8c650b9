//! What the probes' parts must do; expectations are the kubelet's rules (pkg/kubelet/prober, kubernetes.io).
#![allow(clippy::unwrap_used, reason = "a wrong fixture must fail the test")]

mod prober;
mod readiness;
mod schedule;
mod simulator;
mod targets;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::readiness::{Life, Watched};
use super::schedule::{Answer, Verdict};
use super::targets::{ProbeKey, Target};
use crate::objects::{
    ClusterIp, Conditions, EndpointAddress, EndpointPort, EndpointSlice, EndpointSubset, Endpoints, Labels, Locality, Meta, Object, Pod,
    Probe, ProbeAction, Protocol, ReadinessProbe, Service, ServiceOptions, ServicePort, ServiceType, SliceEndpoint, TargetPort,
};

/// Kubernetes' defaults, asking a TCP port.
fn tcp(port: Option<u16>) -> Probe {
    Probe {
        action: ProbeAction::Tcp { host: None, port },
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 3,
    }
}

fn exec(command: &[&str]) -> Probe {
    Probe { action: ProbeAction::Exec { command: command.iter().map(|&word| word.to_owned()).collect() }, ..tcp(None) }
}

fn container(name: &str) -> ProbeKey {
    ProbeKey::Container { namespace: "default".to_owned(), pod: "web".to_owned(), container: name.to_owned() }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn target(key: ProbeKey, probe: Probe) -> Target {
    Target { key, probe, address: address("10.244.1.2:80") }
}

fn watched(targets: &[(u64, Target)]) -> Watched {
    targets.iter().map(|(id, target)| (target.key.clone(), Life { id: *id, target: target.clone() })).collect()
}

fn success() -> Answer {
    Answer { verdict: Verdict::Success, message: "it answered".to_owned() }
}

fn failure() -> Answer {
    Answer { verdict: Verdict::Failure, message: "it did not".to_owned() }
}

fn meta(name: &str) -> Meta {
    Meta { namespace: "default".to_owned(), name: name.to_owned(), ..Meta::default() }
}

fn pod(name: &str, ip: &str, probes: &[(&str, Probe)]) -> Pod {
    let readiness_probes =
        probes.iter().map(|(container, probe)| ReadinessProbe { container: (*container).to_owned(), probe: probe.clone() }).collect();
    Pod { meta: meta(name), node: Some("node01".to_owned()), addresses: vec![ip.parse().unwrap()], readiness_probes, ..Pod::default() }
}

fn service(name: &str, probe: Option<Probe>, ports: &[(&str, Protocol)]) -> Service {
    let port = |(name, protocol): &(&str, Protocol)| ServicePort {
        name: (*name).to_owned(),
        protocol: *protocol,
        port: 80,
        target_port: TargetPort::Number(80),
        node_port: None,
        app_protocol: None,
    };
    Service {
        meta: meta(name),
        service_type: ServiceType::ClusterIp,
        cluster_ip: ClusterIp::Allocate,
        ports: ports.iter().map(port).collect(),
        selector: None,
        ip_family_policy: None,
        ip_families: vec![],
        external_ips: vec![],
        load_balancer_ip: None,
        load_balancer_class: None,
        health_check_node_port: None,
        load_balancer_ips: vec![],
        load_balancer_source_ranges: vec![],
        internal_traffic_policy: Locality::Cluster,
        external_traffic_policy: Locality::Cluster,
        traffic_distribution: None,
        topology_aware: false,
        other_proxy: false,
        affinity: None,
        publish_not_ready: false,
        options: ServiceOptions { probe, ..ServiceOptions::default() },
    }
}

fn port(name: &str, protocol: Protocol, port: u16) -> EndpointPort {
    EndpointPort { name: name.to_owned(), protocol, port, app_protocol: None }
}

fn endpoints(name: &str, addresses: &[(&str, bool)], ports: &[EndpointPort]) -> Endpoints {
    let entry =
        |(ip, ready): &(&str, bool)| EndpointAddress { ip: ip.parse().unwrap(), ready: *ready, node: None, hostname: None, pod: None };
    let subset = EndpointSubset { addresses: addresses.iter().map(entry).collect(), ports: ports.to_vec() };
    Endpoints { meta: meta(name), subsets: vec![subset] }
}

fn slice(name: &str, service: &str, labels: &[(&str, &str)], addresses: &[(&str, bool)], ports: &[EndpointPort]) -> EndpointSlice {
    let entry = |(ip, ready): &(&str, bool)| SliceEndpoint {
        ip: ip.parse().unwrap(),
        conditions: Conditions { ready: *ready, serving: *ready, terminating: false },
        node: None,
        zone: None,
        hostname: None,
        zone_hints: vec![],
        node_hints: vec![],
        weight: None,
        pod: None,
    };
    let labels: Labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    EndpointSlice {
        meta: Meta { labels, ..meta(name) },
        service: Some(service.to_owned()),
        family: None,
        endpoints: addresses.iter().map(entry).collect(),
        ports: ports.to_vec(),
    }
}

fn put(object: impl Into<Fixture>) -> crate::store::Change {
    crate::store::Change::Put(object.into().0)
}

/// An object of any kind.
struct Fixture(Object);

impl From<Pod> for Fixture {
    fn from(pod: Pod) -> Self {
        Self(Object::Pod(Arc::new(pod)))
    }
}

impl From<Service> for Fixture {
    fn from(service: Service) -> Self {
        Self(Object::Service(Arc::new(service)))
    }
}

impl From<Endpoints> for Fixture {
    fn from(endpoints: Endpoints) -> Self {
        Self(Object::Endpoints(Arc::new(endpoints)))
    }
}

impl From<EndpointSlice> for Fixture {
    fn from(slice: EndpointSlice) -> Self {
        Self(Object::EndpointSlice(Arc::new(slice)))
    }
}
