//! What is right in each object and wrong between them. Warnings: the objects are applied as they stand.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

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
    /// By namespace and Service.
    written: HashMap<(&'a str, &'a str), Vec<Written<'a>>>,
}

/// Endpoints that are written by hand.
struct Written<'a> {
    kind: &'static str,
    meta: &'a Meta,
    ports: Vec<&'a EndpointPort>,
    /// One port of the Service is enough: others may be in other slices.
    part: bool,
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
                Object::Endpoints(endpoints) => {
                    let (meta, ports) = (&endpoints.meta, endpoints.subsets.iter().flat_map(|subset| &subset.ports).collect());
                    let written = Written { kind: "Endpoints", meta, ports, part: false };
                    view.written.entry((&meta.namespace, &meta.name)).or_default().push(written);
                }
                Object::EndpointSlice(slice) => {
                    let Some(service) = &slice.service else { continue };
                    let (meta, ports) = (&slice.meta, slice.ports.iter().collect());
                    let written = Written { kind: "EndpointSlice", meta, ports, part: true };
                    view.written.entry((&meta.namespace, service)).or_default().push(written);
                }
                Object::Node(_) | Object::Namespace(_) => {}
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
        self.unjoined(service, warnings);
        // A selector policy that is asked for by name may understand the selector in a way of its own.
        let Some(selector) = service.selector.as_ref().filter(|_| service.options.selector.policy.is_none()) else { return };
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
                let wanted = format!("{} port named \"{name}\"", protocol(port.protocol));
                let message = match selected.len() {
                    1 => format!("the selected pod has no {wanted}"),
                    pods => format!("none of the {pods} selected pods has a {wanted}"),
                };
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
        }
        warnings.extend(of_an_alias(service, "Endpoints", meta));
    }

    fn slice(&self, slice: &EndpointSlice, warnings: &mut Vec<Diagnostic>) {
        let Some(name) = &slice.service else { return };
        let Some(service) = self.services.get(&(slice.meta.namespace.as_str(), name.as_str())) else {
            let message = format!("there is no Service {}/{name}", slice.meta.namespace);
            let remedy = self.near_service(&slice.meta.namespace, name, "write the Service's name");
            warnings.push(warning("EndpointSlice", &slice.meta, "metadata.labels[kubernetes.io/service-name]", message, Some(remedy)));
            return;
        };
        warnings.extend(of_an_alias(service, "EndpointSlice", &slice.meta));
    }

    /// Endpoints that are written by hand are joined by the name and protocol of a port, not by its number.
    fn unjoined(&self, service: &Service, warnings: &mut Vec<Diagnostic>) {
        let Some(written) = self.written.get(&(service.meta.namespace.as_str(), service.meta.name.as_str())) else { return };
        if matches!(service.service_type, ServiceType::ExternalName(_)) {
            return;
        }
        let has = |written: &Written<'_>, own: &ServicePort| {
            written.ports.iter().any(|port| port.name == own.name && port.protocol == own.protocol)
        };
        let counts = |written: &&Written<'_>| {
            !written.ports.is_empty()
                && if written.part { !service.ports.iter().any(|own| has(written, own)) } else { service.selector.is_none() }
        };
        let written: Vec<_> = written.iter().filter(counts).collect();
        for (index, port) in service.ports.iter().enumerate() {
            let mut without = written.iter().filter(|written| !has(written, port));
            let Some(first) = without.next() else { continue };
            let more = match without.count() {
                0 => String::new(),
                more => format!(", nor have {more} more"),
            };
            let message = format!("{first} has no {}{more}", shown_port(&port.name, port.protocol));
            let others: BTreeSet<_> = first.ports.iter().map(|port| shown_port(&port.name, port.protocol)).collect();
            let others = others.into_iter().collect::<Vec<_>>().join(", ");
            let at = first.meta.location.as_ref().map_or_else(String::new, |location| format!(" ({location})"));
            let remedy = format!("it{at} has: {others}; ports are joined by name and protocol: write the same in both");
            warnings.push(warning("Service", &service.meta, &format!("spec.ports[{index}].name"), message, Some(remedy)));
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

/// Endpoints of a Service that is a DNS alias lead nowhere.
fn of_an_alias(service: &Service, kind: &str, meta: &Meta) -> Option<Diagnostic> {
    let ServiceType::ExternalName(name) = &service.service_type else { return None };
    let message = format!("ignored: Service {} is of type ExternalName, an alias of {name}", service.meta.name);
    let remedy = "remove type and externalName from the Service to write its endpoints by hand".to_owned();
    Some(warning(kind, meta, "", message, Some(remedy)))
}

/// `EndpointSlice default/web-1`.
impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.meta.namespace, self.meta.name)
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

/// `TCP port named "http"`.
fn shown_port(name: &str, of: Protocol) -> String {
    match name {
        "" => format!("unnamed {} port", protocol(of)),
        name => format!("{} port named \"{name}\"", protocol(of)),
    }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

fn warning(kind: &str, meta: &Meta, field: &str, message: String, remedy: Option<String>) -> Diagnostic {
    let object = format!("{kind} {}/{}", meta.namespace, meta.name);
    Diagnostic { remedy, ..Diagnostic::about(object, meta, field, Severity::Warning, message) }
}
