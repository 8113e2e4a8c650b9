//! `pointsman.dev/probe` and its settings: how endpoints that are written by hand are asked whether they are ready.

use std::time::Duration;

use super::annotations::{PREFIX, unknown_setting};
use super::model::{Labels, Probe, ProbeAction};
use super::probes::request_path;
use super::problems::Checks;
use super::syntax;
use super::tree::Field;

/// The annotation, after [`PREFIX`]; its settings are `probe.KEY`.
pub(super) const KEY: &str = "probe";
/// What can be asked for.
const KINDS: [&str; 4] = ["tcp", "http", "https", "grpc"];
/// Settings that every kind has.
const COMMON: [&str; 6] = ["port", "period", "timeout", "initial-delay", "success-threshold", "failure-threshold"];

/// The probe that a Service's annotations ask for.
pub(super) fn probe(annotations: &Labels, checks: &mut Checks<'_, '_>) -> Option<Probe> {
    let metadata = Field::ROOT.key("metadata");
    let field = metadata.key("annotations");
    let name = [PREFIX, KEY].concat();
    let settings = Settings { annotations, field: &field };
    let Some(kind) = annotations.get(&name) else {
        for (annotation, _) in settings.all() {
            let remedy = format!("add {name}: {}", KINDS.join(" or "));
            checks.error(&field.key(annotation), format!("a setting of a probe that is not asked for: {name} is missing"), remedy);
        }
        return None;
    };
    let Some(action) = action(kind, &settings, checks) else {
        let remedy = match kind.as_str() {
            "exec" => "a command can be a container's readinessProbe; for a Service write".to_owned(),
            _ => "write".to_owned(),
        };
        checks.error(&field.key(&name), format!("\"{kind}\" is not a probe"), format!("{remedy} {}", KINDS.join(" or ")));
        return None;
    };
    let own: &[&str] = match action {
        ProbeAction::Http { .. } => &["path", "host"],
        ProbeAction::Grpc { .. } => &["service"],
        ProbeAction::Tcp { .. } | ProbeAction::Exec { .. } => &["host"],
    };
    for (annotation, setting) in settings.all() {
        if !COMMON.contains(&setting) && !own.contains(&setting) {
            let known: Vec<_> = own.iter().chain(&COMMON).map(|key| format!("{KEY}.{key}")).collect();
            let known: Vec<_> = known.iter().map(String::as_str).collect();
            unknown_setting(&format!("{KEY}.{setting}"), &known, &field.key(annotation), checks);
        }
    }
    let mut probe = Probe::new(action);
    settings.read("period", syntax::duration, &mut probe.period, checks);
    settings.read("timeout", syntax::duration, &mut probe.timeout, checks);
    settings.read("initial-delay", delay, &mut probe.initial_delay, checks);
    settings.read("success-threshold", threshold, &mut probe.success_threshold, checks);
    settings.read("failure-threshold", threshold, &mut probe.failure_threshold, checks);
    Some(probe)
}

fn action(kind: &str, settings: &Settings<'_>, checks: &mut Checks<'_, '_>) -> Option<ProbeAction> {
    let tls = kind == "https";
    if !KINDS.contains(&kind) {
        return None;
    }
    let (mut port, mut host) = (None, None);
    settings.read("port", |text| port_number(text).map(Some), &mut port, checks);
    settings.read("host", |text| not_empty(text).map(Some), &mut host, checks);
    Some(match kind {
        "tcp" => ProbeAction::Tcp { host, port },
        "grpc" => ProbeAction::Grpc { port, service: settings.text("service").unwrap_or_default().to_owned() },
        _ => ProbeAction::Http { tls, host, port, path: request_path(settings.text("path").unwrap_or_default()), headers: Vec::new() },
    })
}

/// The annotations below `probe.`.
struct Settings<'a> {
    annotations: &'a Labels,
    field: &'a Field<'a>,
}

impl<'a> Settings<'a> {
    /// The whole annotation and the setting's key.
    fn all(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.annotations.keys().filter_map(|annotation| {
            let setting = annotation.strip_prefix(PREFIX)?.strip_prefix(KEY)?.strip_prefix('.')?;
            Some((annotation.as_str(), setting))
        })
    }

    fn text(&self, setting: &str) -> Option<&'a str> {
        self.annotations.get(&format!("{PREFIX}{KEY}.{setting}")).map(String::as_str)
    }

    /// Sets `to` where the setting is there and right.
    fn read<T>(&self, setting: &str, parse: impl Fn(&str) -> Result<T, String>, to: &mut T, checks: &mut Checks<'_, '_>) {
        let annotation = format!("{PREFIX}{KEY}.{setting}");
        let Some(text) = self.annotations.get(&annotation) else { return };
        if let Some(value) = checks.accept(&self.field.key(&annotation), parse(text)) {
            *to = value;
        }
    }
}

fn port_number(text: &str) -> Result<u16, String> {
    let number = text.parse::<i32>().map_err(|_| format!("\"{text}\" is not a port: 1 to 65535"))?;
    syntax::port(number)
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("a name or an address is required".to_owned()) } else { Ok(text.to_owned()) }
}

/// As any other time, and none.
fn delay(text: &str) -> Result<Duration, String> {
    if matches!(text, "0" | "0s") { Ok(Duration::ZERO) } else { syntax::duration(text) }
}

fn threshold(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("\"{text}\" is not a threshold: a whole number, 1 or more"))
}
