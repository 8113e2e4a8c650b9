//! What is right in each object and wrong between them. Warnings: the objects are applied as they stand.

use std::collections::HashMap;

use super::model::{
    Diagnostic, EndpointPort, EndpointSlice, Endpoints, Labels, Meta, Object, Pod, Protocol, Service, ServicePort, ServiceType, Severity,
    TargetPort,
};
use super::spelling;

/// Pods that are looked at for one that a selector nearly matches.
const MAX_NEAR_PODS: usize = 1_000;

/// Looks for people's mistakes that show only when objects are held side by side.
pub fn review(objects: &[Object]) -> Vec<Diagnostic> {
    let view = View::of(objects);
    let mut warnings = Vec::new();
    for object in objects {
        match object {
            Object::Service(service) => view.service(service, &mut warnings),
            Object::Endpoints(endpoints) => view.endpoints(endpoints, &mut warnings),
            Object::EndpointSlice(slice) => view.slice(slice, &mut warnings),
            Object::Pod(_) | Object::Node(_) | Object::Namespace(_) => {}
        }
    }
    warnings
}

/// The objects by what they are looked up by.
#[derive(Default)]
struct View<'a> {
    services: HashMap<(&'a str, &'a str), &'a Service>,
    pods: HashMap<&'a str, Vec<&'a Pod>>,
    /// By namespace, key and value of a label.
    labelled: HashMap<(&'a str, &'a str, &'a str), Vec<&'a Pod>>,
}

impl<'a> View<'a> {
    fn of(objects: &'a [Object]) -> Self {
        let mut view = Self::default();
        for object in objects {
            match object {
                Object::Service(service) => {
                    view.services.insert((&service.meta.namespace, &service.meta.name), service);
                }
                Object::Pod(pod) => {
                    view.pods.entry(&pod.meta.namespace).or_default().push(pod);
                    for (key, value) in &pod.meta.labels {
                        view.labelled.entry((&pod.meta.namespace, key, value)).or_default().push(pod);
                    }
                }
                _ => {}
            }
        }
        view
    }

    /// The pods of a namespace that have all these labels: the shortest list that one of them gives, sifted.
    fn selected(&self, namespace: &str, selector: &Labels) -> Vec<&'a Pod> {
        let lists = selector.iter().map(|(key, value)| self.labelled.get(&(namespace, key.as_str(), value.as_str())));
        let shortest = lists.min_by_key(|list| list.map_or(0, Vec::len)).flatten();
        let matches = |pod: &&Pod| selector.iter().all(|(key, value)| pod.meta.labels.get(key) == Some(value));
        shortest.into_iter().flatten().copied().filter(matches).collect()
    }

    fn service(&self, service: &Service, warnings: &mut Vec<Diagnostic>) {
        let Some(selector) = &service.selector else { return };
        let selected = self.selected(&service.meta.namespace, selector);
        if selected.is_empty() {
            let message = format!("no pod in namespace {} has {}", service.meta.namespace, shown(selector));
            warnings.push(warning(
                "Service",
                &service.meta,
                "spec.selector",
                message,
                Some(self.nearly(&service.meta.namespace, selector)),
            ));
            return;
        }
        for (index, port) in service.ports.iter().enumerate() {
            let TargetPort::Name(name) = &port.target_port else { continue };
            let has = |pod: &&Pod| pod.ports.iter().any(|own| own.name.as_deref() == Some(name) && own.protocol == port.protocol);
            if !selected.iter().any(has) {
                let message =
                    format!("none of the {} selected pods has a {} port named \"{name}\"", selected.len(), protocol(port.protocol));
                let field = format!("spec.ports[{index}].targetPort");
                warnings.push(warning("Service", &service.meta, &field, message, Some(near_port(name, &selected))));
            }
        }
    }

    /// Which pod a selector that selects none comes closest to, and what keeps it away.
    fn nearly(&self, namespace: &str, selector: &Labels) -> String {
        let pods = self.pods.get(namespace).map_or(&[][..], Vec::as_slice);
        let near = pods.iter().take(MAX_NEAR_PODS).filter_map(|pod| Some((closeness(pod, selector)?, pod))).min_by_key(|(far, _)| *far);
        if let Some((_, pod)) = near {
            return differences(pod, selector);
        }
        let elsewhere =
            self.pods.keys().filter(|other| **other != namespace).filter_map(|other| self.selected(other, selector).first().copied());
        match elsewhere.min_by_key(|pod| (&pod.meta.namespace, &pod.meta.name)) {
            Some(pod) => {
                format!("pod {}/{} has, but a Service selects in its own namespace", pod.meta.namespace, pod.meta.name)
            }
            None if pods.is_empty() => format!("there are no pods in namespace {namespace}: add their manifests, with status.podIP"),
            None => "compare it with the labels of the pods".to_owned(),
        }
    }

    fn endpoints(&self, endpoints: &Endpoints, warnings: &mut Vec<Diagnostic>) {
        let meta = &endpoints.meta;
        let Some(service) = self.services.get(&(meta.namespace.as_str(), meta.name.as_str())) else {
            let message = format!("there is no Service {}/{}", meta.namespace, meta.name);
            let remedy = self.near_service(&meta.namespace, &meta.name, "give Endpoints the name of their Service");
            warnings.push(warning("Endpoints", meta, "metadata.name", message, Some(remedy)));
            return;
        };
        if service.selector.is_some() {
            let message = "ignored: the Service of this name has a selector";
            let remedy = "remove the Service's selector to write its endpoints by hand".to_owned();
            warnings.push(warning("Endpoints", meta, "", message.to_owned(), Some(remedy)));
            return;
        }
        if endpoints.subsets.iter().any(|subset| !subset.ports.is_empty()) {
            let ports: Vec<_> = endpoints.subsets.iter().flat_map(|subset| &subset.ports).collect();
            warn_of_unjoined("Endpoints", meta, "subsets", service, &ports, warnings);
        }
    }

    fn slice(&self, slice: &EndpointSlice, warnings: &mut Vec<Diagnostic>) {
        let Some(name) = &slice.service else { return };
        let Some(service) = self.services.get(&(slice.meta.namespace.as_str(), name.as_str())) else {
            let message = format!("there is no Service {}/{name}", slice.meta.namespace);
            let remedy = self.near_service(&slice.meta.namespace, name, "write the Service's name");
            warnings.push(warning("EndpointSlice", &slice.meta, "metadata.labels[kubernetes.io/service-name]", message, Some(remedy)));
            return;
        };
        let joins = |port: &EndpointPort| service.ports.iter().any(|own| own.name == port.name && own.protocol == port.protocol);
        if !slice.ports.is_empty() && !slice.ports.iter().any(joins) {
            warn_of_unjoined("EndpointSlice", &slice.meta, "ports", service, &slice.ports.iter().collect::<Vec<_>>(), warnings);
        }
    }

    fn near_service(&self, namespace: &str, name: &str, otherwise: &str) -> String {
        let here = self.services.keys().filter(|(other, _)| *other == namespace).map(|(_, name)| *name);
        if let Some(near) = spelling::suggestion(name, here) {
            return format!("did you mean {near}?");
        }
        match self.services.keys().filter(|(_, other)| *other == name).min() {
            Some((other, _)) => format!("there is one in namespace {other}"),
            None => otherwise.to_owned(),
        }
    }
}

/// Ports are joined by name and protocol, not by number.
fn warn_of_unjoined(kind: &str, meta: &Meta, field: &str, service: &Service, ports: &[&EndpointPort], warnings: &mut Vec<Diagnostic>) {
    let joined = |own: &ServicePort| ports.iter().any(|port| port.name == own.name && port.protocol == own.protocol);
    if matches!(service.service_type, ServiceType::ExternalName(_)) {
        return;
    }
    for port in service.ports.iter().filter(|port| !joined(port)) {
        let of = |name: &str| if name.is_empty() { "no name".to_owned() } else { format!("the name \"{name}\"") };
        let message =
            format!("no port here has {} and {}, as port {} of the Service has", of(&port.name), protocol(port.protocol), port.port);
        let remedy = "ports are joined by name and protocol: write the same in both".to_owned();
        warnings.push(warning(kind, meta, field, message, Some(remedy)));
    }
}

/// How far a pod is from a selector: labels that differ, then edits to their values. `None`: not near.
fn closeness(pod: &Pod, selector: &Labels) -> Option<(usize, usize)> {
    let (mut wrong, mut edits) = (0, 0);
    for (key, value) in selector {
        match pod.meta.labels.get(key) {
            Some(own) if own == value => {}
            Some(own) => {
                wrong += 1;
                edits += spelling::distance(value, own);
            }
            None => {
                let key = spelling::suggestion(key, pod.meta.labels.keys().map(String::as_str))?;
                wrong += 1;
                edits += 1 + spelling::distance(value, &pod.meta.labels[key]);
            }
        }
    }
    // Nearly: most labels are right, or the only one looks like a slip.
    let near = if selector.len() > 1 { wrong == 1 } else { edits <= 3 };
    near.then_some((wrong, edits))
}

fn differences(pod: &Pod, selector: &Labels) -> String {
    let labels = &pod.meta.labels;
    let wrong = selector.iter().find(|(key, value)| labels.get(*key) != Some(value));
    let Some((key, value)) = wrong else { return String::new() };
    let own_key = if labels.contains_key(key) { Some(key.as_str()) } else { spelling::nearest(key, labels.keys().map(String::as_str)) };
    let own = own_key.and_then(|own| Some((own, labels.get(own)?)));
    let own = own.map_or_else(|| format!("no {key}"), |(key, value)| format!("{key}={value}"));
    format!("pod {} has {own}, the selector says {key}={value}", pod.meta.name)
}

fn near_port(name: &str, pods: &[&Pod]) -> String {
    let names = || pods.iter().flat_map(|pod| &pod.ports).filter_map(|port| port.name.as_deref());
    match spelling::suggestion(name, names()) {
        Some(near) => format!("did you mean {near}?"),
        None if names().next().is_none() => format!("name the container's port \"{name}\", or write its number"),
        None => {
            let mut names: Vec<_> = names().collect();
            names.sort_unstable();
            names.dedup();
            format!("they have: {}", names.join(", "))
        }
    }
}

fn shown(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

fn warning(kind: &str, meta: &Meta, field: &str, message: String, remedy: Option<String>) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        file: meta.location.as_ref().map(|location| location.file.display().to_string()),
        line: meta.location.as_ref().map(|location| location.line),
        column: None,
        object: Some(format!("{kind} {}/{}", meta.namespace, meta.name)),
        field: Some(field.to_owned()).filter(|field| !field.is_empty()),
        message,
        remedy,
    }
}
