//! `pointsman.dev/drain`, `udp-idle-timeout` and `probe` on a Service.

use std::time::Duration;

use super::*;

fn annotated(annotations: &[(&str, &str)], spec: &str) -> String {
    let lines: String = annotations.iter().map(|(key, value)| format!("    pointsman.dev/{key}: '{value}'\n")).collect();
    service_text(&format!("  ports: [{{port: 80}}]\n{spec}")).replace("  name: web\n", &format!("  name: web\n  annotations:\n{lines}"))
}

fn options(annotations: &[(&str, &str)]) -> ServiceOptions {
    match object(&annotated(annotations, "")) {
        Object::Service(service) => service.options.clone(),
        other => panic!("{other:?}"),
    }
}

fn told(annotations: &[(&str, &str)]) -> Vec<String> {
    let shorter = |text: String| text.replace("metadata.annotations[pointsman.dev/", "[");
    findings(&annotated(annotations, "")).into_iter().map(shorter).collect()
}

#[test]
fn draining() {
    for (text, expected) in [
        ("keep", Drain::Keep),
        ("reset", Drain::Reset),
        ("0", Drain::Reset),
        ("30", Drain::After(Duration::from_secs(30))),
        ("30s", Drain::After(Duration::from_secs(30))),
        ("1m30s", Drain::After(Duration::from_secs(90))),
        ("500ms", Drain::After(Duration::from_millis(500))),
    ] {
        assert_eq!(options(&[("drain", text)]).drain, expected, "{text}");
    }
    assert_eq!(options(&[]).drain, Drain::Keep);
    for text in ["", "never", "-1", "99999999999999999999"] {
        assert_eq!(told(&[("drain", text)]), [format!("[drain]: \"{text}\" is not keep, reset, or a time such as 30 or 30s")]);
    }
}

/// A plain name, or a reference to a registry, which may be longer than a name.
#[test]
fn policies_by_name_and_by_reference() {
    let digest = format!("registry.example:5000/team/a/b/c@sha256:{}", "0".repeat(64));
    for text in ["maglev", "registry.example/team/maglev:1.0", &digest] {
        let options = options(&[("balancer", text), ("balancer.table-size", "251")]);
        assert_eq!(options.balancer.policy.as_deref(), Some(text));
        assert_eq!(options.balancer.settings["table-size"], "251");
    }
}

#[test]
fn shadows_and_canaries() {
    let shadow = options(&[("balancer-shadow", "maglev"), ("balancer-shadow.table-size", "251"), ("balancer-canary", "5%")]);
    assert_eq!(shadow.shadow.policy.as_deref(), Some("maglev"));
    assert_eq!(shadow.shadow.settings.get("table-size").map(String::as_str), Some("251"));
    assert!(shadow.balancer.settings.is_empty() && options(&[]).canary.is_none() && options(&[]).shadow.policy.is_none());
    for (text, millionths, shown) in [
        ("0%", 0, "0%"),
        ("5%", 50_000, "5%"),
        ("100%", 1_000_000, "100%"),
        ("100.0000%", 1_000_000, "100%"),
        ("0.1%", 1_000, "0.1%"),
        ("12.50%", 125_000, "12.5%"),
        ("0.0001%", 1, "0.0001%"),
        ("007%", 70_000, "7%"),
    ] {
        let share = options(&[("balancer-shadow", "maglev"), ("balancer-canary", text)]).canary.unwrap();
        assert_eq!((share.millionths(), share.to_string().as_str()), (millionths, shown), "{text}");
    }
    for text in ["", "5", "%", ".5%", "5.%", "-1%", "101%", "100.0001%", "0.00001%", "5 %", "1e1%", "9999999999%", "+5%"] {
        let found = told(&[("balancer-shadow", "maglev"), ("balancer-canary", text)]);
        let why = "is not a share of clients: 0% to 100%, with up to 4 decimals, such as 5% or 0.5%";
        assert_eq!(found, [format!("[balancer-canary]: \"{text}\" {why}")]);
    }
    let alone = told(&[("balancer-canary", "5%"), ("balancer-shadow.table-size", "251")]);
    let why = "has no balancer to try: pointsman.dev/balancer-shadow is missing";
    assert_eq!(alone, [format!("[balancer-canary]: {why}"), format!("[balancer-shadow.table-size]: {why}")]);
    assert_eq!(told(&[("balancer-shadow", "")]).len(), 1);
    assert_eq!(told(&[("balancer-shadow", "maglev.wasm"), ("balancer-canary", "5%")]).len(), 1, "one mistake, one finding");
}

#[test]
fn udp_idle_timeouts() {
    assert_eq!(options(&[("udp-idle-timeout", "90s")]).udp_idle_timeout, Some(Duration::from_secs(90)));
    assert_eq!(told(&[("udp-idle-timeout", "90")]), ["[udp-idle-timeout]: \"90\" is not a time with its unit, such as 90s, 30m or 1h30m"]);
}

#[test]
fn probes_by_annotation() {
    assert_eq!(options(&[]).probe, None);
    let tcp = options(&[("probe", "tcp")]).probe.unwrap();
    let defaults = (tcp.initial_delay, tcp.period, tcp.timeout, tcp.success_threshold, tcp.failure_threshold);
    assert_eq!(defaults, (Duration::ZERO, Duration::from_secs(10), Duration::from_secs(1), 1, 3));
    assert_eq!(tcp.action, ProbeAction::Tcp { host: None, port: None });
    let http = |tls, path: &str| ProbeAction::Http { tls, host: None, port: Some(8080), path: path.to_owned(), headers: vec![] };
    for (settings, expected) in [
        (&[("probe", "http"), ("probe.port", "8080"), ("probe.path", "/readyz?x=1")][..], http(false, "/readyz?x=1")),
        (&[("probe", "https"), ("probe.port", "8080")], http(true, "/")),
        (&[("probe", "http"), ("probe.port", "8080"), ("probe.path", "a b")], http(false, "/a%20b")),
        (&[("probe", "tcp"), ("probe.host", "db.example")], ProbeAction::Tcp { host: Some("db.example".to_owned()), port: None }),
        (&[("probe", "grpc"), ("probe.service", "shop.Cart")], ProbeAction::Grpc { port: None, service: "shop.Cart".to_owned() }),
    ] {
        assert_eq!(options(settings).probe.unwrap().action, expected, "{settings:?}");
    }
    let all = options(&[
        ("probe", "tcp"),
        ("probe.period", "5s"),
        ("probe.timeout", "200ms"),
        ("probe.initial-delay", "1m"),
        ("probe.success-threshold", "2"),
        ("probe.failure-threshold", "4"),
    ]);
    let action = ProbeAction::Tcp { host: None, port: None };
    let (initial_delay, period, timeout) = (Duration::from_secs(60), Duration::from_secs(5), Duration::from_millis(200));
    assert_eq!(all.probe, Some(Probe { action, initial_delay, period, timeout, success_threshold: 2, failure_threshold: 4 }));
    assert_eq!(options(&[("probe", "tcp"), ("probe.initial-delay", "0s")]).probe, Some(tcp));
}

#[test]
fn probes_that_cannot_be() {
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: [Case<'_>; 8] = [
        (&[("probe", "exec")], &["[probe]: \"exec\" is not a probe"]),
        (&[("probe", "HTTP"), ("probe.port", "x")], &["[probe]: \"HTTP\" is not a probe"]),
        (
            &[("probe.path", "/"), ("probe.port", "80")],
            &[
                "[probe.path]: a setting of a probe that is not asked for: pointsman.dev/probe is missing",
                "[probe.port]: a setting of a probe that is not asked for: pointsman.dev/probe is missing",
            ],
        ),
        (&[("probe", "tcp"), ("probe.path", "/")], &["[probe.path]: unknown annotation pointsman.dev/probe.path"]),
        (&[("probe", "http"), ("probe.servce", "x")], &["[probe.servce]: unknown annotation pointsman.dev/probe.servce"]),
        (
            &[("probe", "tcp"), ("probe.port", "0"), ("probe.host", "")],
            &["[probe.host]: a name or an address is required", "[probe.port]: 0 is not a port: 1 to 65535"],
        ),
        (&[("probe", "tcp"), ("probe.period", "10")], &["[probe.period]: \"10\" is not a time with its unit, such as 90s, 30m or 1h30m"]),
        (
            &[("probe", "tcp"), ("probe.success-threshold", "0"), ("probe.failure-threshold", "x")],
            &[
                "[probe.failure-threshold]: \"x\" is not a threshold: a whole number, 1 or more",
                "[probe.success-threshold]: \"0\" is not a threshold: a whole number, 1 or more",
            ],
        ),
    ];
    for (annotations, expected) in cases {
        let mut found = told(annotations);
        found.sort();
        assert_eq!(found, expected, "{annotations:?}");
    }
    let misspelt = parsed(&annotated(&[("probe", "tcp"), ("probe.peroid", "1s")], ""));
    assert_eq!(misspelt.diagnostics[0].remedy.as_deref(), Some("did you mean pointsman.dev/probe.period?"));
    let idle = findings(&annotated(&[("probe", "tcp")], "  selector: {a: b}\n"));
    let field = "metadata.annotations[pointsman.dev/probe]";
    assert_eq!(idle, [format!("warning: {field}: has no effect on a Service with a selector: its pods have their own probes")]);
}
