//! Who is probed: the containers of pods that ask for it, and endpoints written by hand whose Service asks for it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::objects::{
    Diagnostic, EndpointPort, EndpointSlice, Endpoints, Meta, Pod, Probe, ProbeAction, Protocol, ReadinessProbe, Service, ServiceType,
    Severity,
};

/// What is found ready or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKey {
    /// A container of a pod.
    Container {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        pod: String,
        /// The container's name.
        container: String,
    },
    /// An endpoint written by hand.
    Endpoint {
        /// The Service's namespace.
        namespace: String,
        /// The Service's name.
        service: String,
        /// The endpoint's address and port; what is asked may be another port of it.
        address: SocketAddr,
    },
}

/// Whose targets are told together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A pod, with its containers.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A Service, with the endpoints written for it.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// Something to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What the answers are about.
    pub key: ProbeKey,
    /// How it is asked.
    pub probe: Probe,
    /// Its own address, with the port that is asked; port 0 for a command. Where the action names a host, that one is asked.
    pub address: SocketAddr,
}

/// What is probed of a pod or a Service, and what cannot be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What to probe.
    pub targets: Vec<Target>,
    /// Probes that were asked for and will not be made.
    pub diagnostics: Vec<Diagnostic>,
}

/// What this host may and should probe.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The node that this host serves.
    pub node: &'a str,
    /// There are Node objects: then only the pods of this node are probed, else all.
    pub nodes_exist: bool,
    /// `--allow-exec-probes`.
    pub allow_exec: bool,
}

impl ProbeKey {
    /// Whether it is this owner's.
    pub(super) fn is_of(&self, owner: &Owner) -> bool {
        match (self, owner) {
            (Self::Container { namespace, pod, .. }, Owner::Pod { namespace: of, name }) => (namespace, pod) == (of, name),
            (Self::Endpoint { namespace, service, .. }, Owner::Service { namespace: of, name }) => (namespace, service) == (of, name),
            _ => false,
        }
    }

    /// Whose it is.
    pub fn owner(&self) -> Owner {
        match self {
            Self::Container { namespace, pod, .. } => Owner::Pod { namespace: namespace.clone(), name: pod.clone() },
            Self::Endpoint { namespace, service, .. } => Owner::Service { namespace: namespace.clone(), name: service.clone() },
        }
    }
}

/// `Pod default/web, container nginx`; `Service default/mysql, endpoint 172.17.0.3:3306`.
impl fmt::Display for ProbeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container { namespace, pod, container } => write!(f, "Pod {namespace}/{pod}, container {container}"),
            Self::Endpoint { namespace, service, address } => write!(f, "Service {namespace}/{service}, endpoint {address}"),
        }
    }
}

/// The containers of a pod that are probed. A terminating pod is probed until it is gone, as the kubelet does: its last word still
/// counts where nobody else is left. A finished pod is not, and neither is one without an address.
pub fn of_pod(pod: &Pod, scope: &Scope<'_>) -> Found {
    let mut found = Found::default();
    let elsewhere = scope.nodes_exist && pod.node.as_deref() != Some(scope.node);
    // The kubelet asks the first of status.podIPs.
    let Some(ip) = pod.addresses.first().filter(|_| !pod.finished && !elsewhere) else { return found };
    for ReadinessProbe { container, probe } in &pod.readiness_probes {
        match port_asked(&probe.action, None).ok_or(NO_PORT).and_then(|port| permitted(&probe.action, scope).map(|()| port)) {
            Ok(port) => found.targets.push(Target {
                key: ProbeKey::Container {
                    namespace: pod.meta.namespace.clone(),
                    pod: pod.meta.name.clone(),
                    container: container.clone(),
                },
                probe: probe.clone(),
                address: SocketAddr::new(*ip, port),
            }),
            Err(why) => {
                let message = format!("container {container} is not probed: {}; the pod's condition Ready stands", why.message);
                found.diagnostics.push(why.diagnostic("Pod", &pod.meta, "spec.containers", message));
            }
        }
    }
    found
}

/// The endpoints written by hand that are probed: those of a Service with the annotation `pointsman.dev/probe`, as far as they are
/// written as ready and joined with one of its ports. What is written as not ready was taken out on purpose.
pub fn of_service<'a>(
    service: &Service,
    endpoints: Option<&Endpoints>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    scope: &Scope<'_>,
) -> Found {
    let mut found = Found::default();
    let nobody = service.other_proxy || matches!(service.service_type, ServiceType::ExternalName(_));
    let Some(probe) = service.options.probe.as_ref().filter(|_| !nobody) else { return found };
    let mut written: Vec<(IpAddr, &[EndpointPort])> = Vec::new();
    if service.selector.is_none() {
        for subset in endpoints.iter().flat_map(|endpoints| &endpoints.subsets) {
            written.extend(subset.addresses.iter().filter(|entry| entry.ready).map(|entry| (entry.ip, &*subset.ports)));
        }
    }
    for slice in slices.into_iter().filter(|slice| !made_of_pods(service, slice)) {
        written.extend(slice.endpoints.iter().filter(|entry| entry.conditions.ready).map(|entry| (entry.ip, &*slice.ports)));
    }
    let (addresses, only_udp) = addresses(service, probe, &written);
    let refused = match permitted(&probe.action, scope) {
        Err(why) => Some(why),
        Ok(()) => only_udp.then_some(ONLY_UDP),
    };
    if let Some(why) = refused.as_ref().filter(|_| !written.is_empty()) {
        let message = format!("its endpoints are not probed: {}; what is written of them stands", why.message);
        found.diagnostics.push(why.diagnostic("Service", &service.meta, "metadata.annotations", message));
    }
    if refused.is_none() {
        found.targets.extend(addresses.into_iter().map(|(address, asked)| Target {
            key: ProbeKey::Endpoint { namespace: service.meta.namespace.clone(), service: service.meta.name.clone(), address },
            probe: probe.clone(),
            address: asked,
        }));
    }
    found
}

/// The endpoints' addresses, each once, with the address that is asked; and whether there are only ports that cannot be asked. Where
/// the annotation names no port, each endpoint's own is asked, if it is a TCP port.
fn addresses(service: &Service, probe: &Probe, written: &[(IpAddr, &[EndpointPort])]) -> (BTreeMap<SocketAddr, SocketAddr>, bool) {
    let (mut addresses, mut left_out) = (BTreeMap::new(), false);
    for (ip, ports) in written {
        for port in ports.iter().filter(|port| joined(service, port)) {
            let own = (port.protocol == Protocol::Tcp).then_some(port.port);
            match port_asked(&probe.action, own) {
                Some(asked) => {
                    addresses.insert(SocketAddr::new(*ip, port.port), SocketAddr::new(*ip, asked));
                }
                None => left_out = true,
            }
        }
    }
    let nothing_else = left_out && addresses.is_empty();
    (addresses, nothing_else)
}

/// Endpoints are joined with a Service's ports by name and protocol (kubernetes-semantics 2.2).
fn joined(service: &Service, port: &EndpointPort) -> bool {
    service.ports.iter().any(|wanted| wanted.name == port.name && wanted.protocol == port.protocol)
}

/// What Kubernetes' own controller made of pods is made of pods here too, and pods have probes of their own.
fn made_of_pods(service: &Service, slice: &EndpointSlice) -> bool {
    service.selector.is_some() && slice.meta.labels.get(MANAGED_BY).is_some_and(|manager| manager == SLICE_CONTROLLER)
}

/// The port that is asked: the action's, else `own`; `None` when there is neither. A command needs none.
fn port_asked(action: &ProbeAction, own: Option<u16>) -> Option<u16> {
    match action {
        ProbeAction::Http { port, .. } | ProbeAction::Tcp { port, .. } | ProbeAction::Grpc { port, .. } => port.or(own),
        ProbeAction::Exec { .. } => Some(0),
    }
}

fn permitted(action: &ProbeAction, scope: &Scope<'_>) -> Result<(), Refused> {
    if matches!(action, ProbeAction::Exec { .. }) && !scope.allow_exec { Err(NO_EXEC) } else { Ok(()) }
}

/// Why a probe is not made.
struct Refused {
    message: &'static str,
    remedy: &'static str,
}

impl Refused {
    fn diagnostic(&self, kind: &str, meta: &Meta, field: &str, message: String) -> Diagnostic {
        let object = format!("{kind} {}/{}", meta.namespace, meta.name);
        let remedy = Some(self.remedy.to_owned());
        Diagnostic { remedy, ..Diagnostic::about(object, meta, field, Severity::Warning, message) }
    }
}

const NO_EXEC: Refused = Refused {
    message: "its probe runs a command on this host, which nobody has allowed",
    remedy: "use httpGet, tcpSocket or grpc; or start with --allow-exec-probes, if you trust whoever writes the manifests",
};

const NO_PORT: Refused = Refused { message: "its probe names no port", remedy: "give the probe a port" };

const ONLY_UDP: Refused = Refused {
    message: "the probe names no port, and theirs are not TCP",
    remedy: "name a TCP port that tells of them: pointsman.dev/probe.port",
};

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const SLICE_CONTROLLER: &str = "endpointslice-controller.k8s.io";
