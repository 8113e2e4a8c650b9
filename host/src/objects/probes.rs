//! `readinessProbe` of a container: defaults (`SetDefaults_Probe`), bounds (`validateReadinessProbe`), and port names resolved as
//! the kubelet does.

use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::model::{ContainerPort, Probe, ProbeAction};
use super::problems::Checks;
use super::spelling;
use super::syntax;
use super::tree::Field;

/// `periodSeconds` where none is given.
const DEFAULT_PERIOD_SECONDS: u32 = 10;
/// `timeoutSeconds` where none is given.
const DEFAULT_TIMEOUT_SECONDS: u32 = 1;
/// `successThreshold` where none is given.
const DEFAULT_SUCCESS_THRESHOLD: u32 = 1;
/// `failureThreshold` where none is given.
const DEFAULT_FAILURE_THRESHOLD: u32 = 3;

impl Probe {
    /// Asks for `action` as often as Kubernetes does by default.
    pub fn new(action: ProbeAction) -> Self {
        Self {
            action,
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(DEFAULT_PERIOD_SECONDS.into()),
            timeout: Duration::from_secs(DEFAULT_TIMEOUT_SECONDS.into()),
            success_threshold: DEFAULT_SUCCESS_THRESHOLD,
            failure_threshold: DEFAULT_FAILURE_THRESHOLD,
        }
    }
}

/// The probe of a container with these ports.
pub(super) fn readiness(probe: core::Probe, ports: &[ContainerPort], field: &Field<'_>, checks: &mut Checks<'_, '_>) -> Option<Probe> {
    if probe.termination_grace_period_seconds.is_some() {
        checks.error(&field.key("terminationGracePeriodSeconds"), "may not be set for a readinessProbe", "remove it".to_owned());
    }
    let mut number = |key: &str, given: Option<i32>, default: u32| {
        let number = checks.accept(&field.key(key), not_negative(given.unwrap_or_default()));
        number.filter(|number| *number != 0).unwrap_or(default)
    };
    let seconds = |number: u32| Duration::from_secs(number.into());
    let initial_delay = seconds(number("initialDelaySeconds", probe.initial_delay_seconds, 0));
    let period = seconds(number("periodSeconds", probe.period_seconds, DEFAULT_PERIOD_SECONDS));
    let timeout = seconds(number("timeoutSeconds", probe.timeout_seconds, DEFAULT_TIMEOUT_SECONDS));
    let success_threshold = number("successThreshold", probe.success_threshold, DEFAULT_SUCCESS_THRESHOLD);
    let failure_threshold = number("failureThreshold", probe.failure_threshold, DEFAULT_FAILURE_THRESHOLD);
    let action = action(probe.exec, probe.http_get, probe.tcp_socket, probe.grpc, ports, field, checks)?;
    Some(Probe { action, initial_delay, period, timeout, success_threshold, failure_threshold })
}

fn not_negative(number: i32) -> Result<u32, String> {
    u32::try_from(number).map_err(|_| format!("{number} must not be negative"))
}

/// Exactly one handler.
fn action(
    exec: Option<core::ExecAction>,
    http: Option<core::HTTPGetAction>,
    tcp: Option<core::TCPSocketAction>,
    grpc: Option<core::GRPCAction>,
    ports: &[ContainerPort],
    field: &Field<'_>,
    checks: &mut Checks<'_, '_>,
) -> Option<ProbeAction> {
    let given = [("exec", exec.is_some()), ("httpGet", http.is_some()), ("tcpSocket", tcp.is_some()), ("grpc", grpc.is_some())];
    let mut given = given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key);
    let Some(first) = given.next() else {
        checks.error(field, "a probe needs a handler", "add httpGet:, tcpSocket:, grpc: or exec:".to_owned());
        return None;
    };
    for more in given {
        checks.error(&field.key(more), format!("there is {first} already"), "a probe has one handler: keep one of them".to_owned());
    }
    if let Some(exec) = exec {
        let (exec_field, command) = (field.key("exec"), exec.command.unwrap_or_default());
        if command.is_empty() {
            checks.error(&exec_field.key("command"), "a command is required", "add command: [PROGRAM, ARGUMENT, …]".to_owned());
            return None;
        }
        return Some(ProbeAction::Exec { command });
    }
    if let Some(http) = http {
        return http_get(http, ports, &field.key("httpGet"), checks);
    }
    if let Some(tcp) = tcp {
        let port = container_port(tcp.port, ports, &field.key("tcpSocket"), checks)?;
        return Some(ProbeAction::Tcp { host: tcp.host.filter(|host| !host.is_empty()), port: Some(port) });
    }
    let grpc = grpc?;
    let grpc_field = field.key("grpc");
    let port = checks.accept(&grpc_field.key("port"), syntax::port(grpc.port))?;
    Some(ProbeAction::Grpc { port: Some(port), service: grpc.service.unwrap_or_default() })
}

fn http_get(http: core::HTTPGetAction, ports: &[ContainerPort], field: &Field<'_>, checks: &mut Checks<'_, '_>) -> Option<ProbeAction> {
    let tls = match http.scheme.as_deref() {
        None | Some("" | "HTTP") => false,
        Some("HTTPS") => true,
        Some(other) => {
            let remedy = spelling::suggestion(other, ["HTTP", "HTTPS"]).map(|near| format!("did you mean {near}?"));
            checks.error(&field.key("scheme"), format!("\"{other}\" is not one of HTTP, HTTPS"), remedy);
            false
        }
    };
    let (list, mut headers) = (field.key("httpHeaders"), Vec::new());
    for (index, header) in http.http_headers.unwrap_or_default().into_iter().enumerate() {
        let field = list.index(index);
        checks.accept(&field.key("name"), syntax::http_header_name(&header.name));
        checks.accept(&field.key("value"), syntax::http_header_value(&header.value));
        headers.push((header.name, header.value));
    }
    let port = Some(container_port(http.port, ports, field, checks)?);
    let host = http.host.filter(|host| !host.is_empty());
    Some(ProbeAction::Http { tls, host, port, path: request_path(&http.path.unwrap_or_default()), headers })
}

/// A number, or the name of one of the container's ports.
fn container_port(port: IntOrString, ports: &[ContainerPort], field: &Field<'_>, checks: &mut Checks<'_, '_>) -> Option<u16> {
    let field = field.key("port");
    match port {
        // A field that is missing reads as zero.
        IntOrString::Int(0) if !checks.root.has(&field) => {
            checks.error(&field, "port is required", "add the container's port, or its name".to_owned());
            None
        }
        IntOrString::Int(number) => checks.accept(&field, syntax::port(number)),
        IntOrString::String(name) => {
            checks.accept(&field, syntax::port_name(&name))?;
            let named = ports.iter().find(|port| port.name.as_deref() == Some(&name));
            if named.is_none() {
                let names: Vec<_> = ports.iter().filter_map(|port| port.name.as_deref()).collect();
                let remedy = match spelling::suggestion(&name, names.iter().copied()) {
                    Some(near) => format!("did you mean {near}?"),
                    None if names.is_empty() => "name the container's port, or write its number".to_owned(),
                    None => format!("it has: {}", names.join(", ")),
                };
                checks.error(&field, format!("this container has no port named \"{name}\""), remedy);
            }
            named.map(|port| port.port)
        }
    }
}

/// As it stands in a request: with a slash first, and what may not stand there escaped.
pub(super) fn request_path(text: &str) -> String {
    let mut path = String::with_capacity(text.len() + 1);
    if !text.starts_with('/') {
        path.push('/');
    }
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' => path.push(char::from(byte)),
            other => path.push_str(&format!("%{other:02X}")),
        }
    }
    path
}
