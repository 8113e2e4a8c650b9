//! The annotations `pointsman.dev/…`: what people ask of Pointsman beyond Kubernetes.

use std::time::Duration;

use super::model::{Drain, Labels, ServiceOptions, Share, StageOptions};
use super::probe_annotations;
use super::problems::Checks;
use super::reference::Reference;
use super::spelling;
use super::syntax;
use super::tree::Field;

/// What every annotation of ours begins with.
pub(super) const PREFIX: &str = "pointsman.dev/";
/// By which a Service may name a policy.
pub(super) const POLICIES: [&str; 4] = ["selector", "traffic-policy", "balancer", SHADOW];
/// What a Service may ask for, after [`PREFIX`].
const SERVICE_KEYS: [&str; 11] = [
    "selector",
    "traffic-policy",
    "balancer",
    SHADOW,
    CANARY,
    "max-connection-age",
    "proxy-protocol",
    "on-failure",
    "drain",
    "udp-idle-timeout",
    probe_annotations::KEY,
];
/// Names the balancer that is tried beside the one in force.
const SHADOW: &str = "balancer-shadow";
/// The share of clients for which that one is in charge.
const CANARY: &str = "balancer-canary";
/// Decimals of a share: millionths.
const SHARE_DECIMALS: usize = 4;
/// Keys and values of one stage's settings, in bytes: a policy receives them all at once.
const MAX_SETTING_BYTES: usize = 64 * 1024;
/// A policy's name is the stem of its file.
const MAX_POLICY_NAME: usize = 63;

/// The annotation that names a stage's policy.
pub(super) fn name(stage: &str) -> String {
    [PREFIX, stage].concat()
}

/// What a Service's annotations ask for.
pub(super) fn service_options(annotations: &Labels, checks: &mut Checks<'_, '_>) -> ServiceOptions {
    let metadata = Field::ROOT.key("metadata");
    let field = metadata.key("annotations");
    let mut options = ServiceOptions { probe: probe_annotations::probe(annotations, checks), ..ServiceOptions::default() };
    for (key, value) in ours(annotations) {
        let annotation = [PREFIX, key].concat();
        let field = field.key(&annotation);
        match key {
            "max-connection-age" => options.max_connection_age = checks.accept(&field, syntax::duration(value)),
            "proxy-protocol" => options.proxy_protocol = choice(&field, value, &["v2"], checks).is_some(),
            "on-failure" => options.refuse_on_failure = choice(&field, value, &["refuse", "fallback"], checks) == Some("refuse"),
            "drain" => options.drain = checks.accept(&field, drain(value)).unwrap_or_default(),
            CANARY => options.canary = checks.accept(&field, share(value)),
            "udp-idle-timeout" => options.udp_idle_timeout = checks.accept(&field, syntax::duration(value)),
            _ if is_probe(key) => {}
            _ => stage(&mut options, key, value, &field, checks),
        }
    }
    warn_of_missing_shadow(annotations, &options, checks);
    let stages = [&options.selector, &options.traffic_policy, &options.balancer, &options.shadow];
    for (name, stage) in POLICIES.into_iter().zip(stages) {
        let bytes: usize = stage.settings.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > MAX_SETTING_BYTES {
            checks.error(&field, format!("the settings {PREFIX}{name}.… have {bytes} bytes, {MAX_SETTING_BYTES} are allowed"), None);
        }
    }
    options
}

/// `probe`, or a setting of it.
fn is_probe(key: &str) -> bool {
    key.split_once('.').map_or(key, |(name, _)| name) == probe_annotations::KEY
}

/// `5%`, `0.1%`: none to all.
fn share(text: &str) -> Result<Share, String> {
    let wrong = || format!("\"{text}\" is not a share of clients: 0% to 100%, with up to {SHARE_DECIMALS} decimals, such as 5% or 0.5%");
    let number = text.strip_suffix('%').ok_or_else(wrong)?;
    let (percent, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(percent) || !digits(decimals) || decimals.len() > SHARE_DECIMALS || percent.len() > 3 {
        return Err(wrong());
    }
    let millionths = format!("{percent}{decimals:0<SHARE_DECIMALS$}").parse().map_err(|_| wrong())?;
    if millionths > Share::WHOLE { Err(wrong()) } else { Ok(Share::of_millionths(millionths)) }
}

/// Settings of a shadow, and a canary, say nothing where no shadow is named.
fn warn_of_missing_shadow(annotations: &Labels, options: &ServiceOptions, checks: &mut Checks<'_, '_>) {
    if annotations.contains_key(&name(SHADOW)) {
        return;
    }
    let metadata = Field::ROOT.key("metadata");
    let field = metadata.key("annotations");
    let settings = options.shadow.settings.keys().map(|key| format!("{SHADOW}.{key}"));
    for key in settings.chain(options.canary.map(|_| CANARY.to_owned())) {
        let remedy = format!("name the balancer to try: {PREFIX}{SHADOW}: NAME");
        checks.error(&field.key(&name(&key)), format!("has no balancer to try: {PREFIX}{SHADOW} is missing"), remedy);
    }
}

/// A bare number is seconds.
fn drain(text: &str) -> Result<Drain, String> {
    let after = || match text.parse::<u32>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => syntax::duration(text).map_err(|_| format!("\"{text}\" is not keep, reset, or a time such as 30 or 30s")),
    };
    match text {
        "keep" => Ok(Drain::Keep),
        "reset" => Ok(Drain::Reset),
        _ => after().map(|after| if after.is_zero() { Drain::Reset } else { Drain::After(after) }),
    }
}

/// The pods that a selector finds have readiness probes of their own.
pub(super) fn warn_of_idle_probe(options: &ServiceOptions, has_selector: bool, checks: &mut Checks<'_, '_>) {
    if options.probe.is_none() || !has_selector {
        return;
    }
    let metadata = Field::ROOT.key("metadata");
    let (annotations, name) = (metadata.key("annotations"), name(probe_annotations::KEY));
    let remedy = "write readinessProbe: in the pods' containers, or remove the selector".to_owned();
    checks.warning(&annotations.key(&name), "has no effect on a Service with a selector: its pods have their own probes", remedy);
}

/// `STAGE` names its policy, `STAGE.KEY` is one of its settings.
fn stage(options: &mut ServiceOptions, key: &str, value: &str, field: &Field<'_>, checks: &mut Checks<'_, '_>) {
    let (name, setting) = key.split_once('.').map_or((key, None), |(name, setting)| (name, Some(setting)));
    let stage: &mut StageOptions = match name {
        "selector" => &mut options.selector,
        "traffic-policy" => &mut options.traffic_policy,
        "balancer" => &mut options.balancer,
        SHADOW => &mut options.shadow,
        _ => return unknown_setting(name, &SERVICE_KEYS, field, checks),
    };
    match setting {
        Some("") => checks.error(field, "a setting needs a name", format!("write {PREFIX}{name}.KEY")),
        Some(setting) => {
            stage.settings.insert(setting.to_owned(), value.to_owned());
        }
        None => match policy_name(value) {
            Ok(()) => stage.policy = Some(value.to_owned()),
            Err((message, remedy)) => checks.error(field, message, remedy),
        },
    }
}

/// `pointsman.dev/weight` of a pod.
pub(super) fn pod_weight(annotations: &Labels, checks: &mut Checks<'_, '_>) -> Option<u32> {
    let metadata = Field::ROOT.key("metadata");
    let field = metadata.key("annotations");
    let mut weight = None;
    for (key, value) in ours(annotations) {
        let annotation = [PREFIX, key].concat();
        let field = field.key(&annotation);
        match key {
            "weight" => weight = checks.accept(&field, parse_weight(value)),
            _ => unknown_setting(key, &["weight"], &field, checks),
        }
    }
    weight
}

/// A weight; 0: never picked.
pub(super) fn parse_weight(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("\"{text}\" is not a weight: a whole number, 0 or more"))
}

/// Says of a kind that no annotation of ours belongs on that it has one.
pub(super) fn warn_of_any(annotations: &Labels, checks: &mut Checks<'_, '_>) {
    let metadata = Field::ROOT.key("metadata");
    let field = metadata.key("annotations");
    for (key, _) in ours(annotations) {
        let remedy = "annotations of Pointsman belong on Services; weight on Pods".to_owned();
        checks.warning(&field.key(&[PREFIX, key].concat()), format!("{PREFIX}{key} has no effect here"), remedy);
    }
}

fn ours(annotations: &Labels) -> impl Iterator<Item = (&str, &str)> {
    annotations.iter().filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value.as_str())))
}

/// Says that there is no such annotation, and which was probably meant.
pub(super) fn unknown_setting(key: &str, known: &[&str], field: &Field<'_>, checks: &mut Checks<'_, '_>) {
    let remedy = match spelling::suggestion(key, known.iter().copied()) {
        Some(near) => format!("did you mean {PREFIX}{near}?"),
        None if key == "weight" => "a weight belongs on a Pod".to_owned(),
        None => format!("known here: {}", known.iter().map(|key| [PREFIX, key].concat()).collect::<Vec<_>>().join(", ")),
    };
    checks.error(field, format!("unknown annotation {PREFIX}{key}"), remedy);
}

fn choice<'a>(field: &Field<'_>, value: &'a str, choices: &[&str], checks: &mut Checks<'_, '_>) -> Option<&'a str> {
    if choices.contains(&value) {
        return Some(value);
    }
    checks.error(field, format!("\"{value}\" is not known here"), format!("write {}", choices.join(" or ")));
    None
}

/// A plain name, or a reference to a registry. What is wrong with it, and the remedy.
fn policy_name(text: &str) -> Result<(), (String, String)> {
    if Reference::is_meant(text) {
        return text.parse::<Reference>().map(drop).map_err(|error| (error.what, error.remedy));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.ends_with(".wasm") || text.len() > MAX_POLICY_NAME || !text.chars().all(allowed) {
        let message = format!("\"{text}\" is not a policy's name: 1 to {MAX_POLICY_NAME} letters, digits, '-', '_' and '.'");
        return Err((message, "a policy is named as its file, without .wasm".to_owned()));
    }
    Ok(())
}
