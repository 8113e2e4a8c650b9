//! `pointsman route`: where would this connection go, and why? The code that decides is the host's own; no socket is opened.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;

use super::args::{ClientOrigin, OutputFormat, RouteArgs};
use super::{out, setup};
use crate::engine::core::any_error;
use crate::engine::offline::{Offline, Question};
use crate::route::explain::{Explanation, ShadowExplanation};
use crate::table::{FrontendKey, Origin};

/// Exit status 0 when there is an answer, whatever it is; 2 when the question could not be asked.
pub(super) fn run(args: RouteArgs) -> anyhow::Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let (mut core, refused) = setup::offline_core(&args.cluster, &args.policies)?;
    for refused in refused {
        writeln!(io::stderr(), "warning: {refused}")?;
    }
    core.reload(0);
    let diagnostics = core.findings(vec![]);
    for diagnostic in &diagnostics {
        writeln!(io::stderr(), "{diagnostic}")?;
    }
    let question = Question {
        client: SocketAddr::new(args.client.ip, args.client.port.unwrap_or(0)),
        origin: args.origin.map(|origin| match origin {
            ClientOrigin::Pod => Origin::Pod,
            ClientOrigin::Node => Origin::Node,
            ClientOrigin::Outside => Origin::Outside,
        }),
        to: FrontendKey { ip: args.to.address.ip(), port: args.to.address.port(), protocol: args.to.protocol },
        hash_key: setup::hash_key(args.hash_secret_file.as_deref())?,
        connections: args.connections,
        seed,
    };
    let mut offline = Offline::new(&mut core, seed).with_context(|| match any_error(&diagnostics) {
        true => "nothing to route by: every object in -f has an error",
        false => "nothing to route by: -f names no object",
    })?;
    for diagnostic in core.findings(offline.take_diagnostics()) {
        writeln!(io::stderr(), "{diagnostic}")?;
    }
    let explanation = offline.answer(&question);
    out::print(&match args.output {
        OutputFormat::Json => serde_json::to_string_pretty(&explanation)? + "\n",
        OutputFormat::Text => text(&args, &explanation),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn seen(explanation: &Explanation) -> &'static str {
    match explanation.source {
        Some("kept") => "in Kubernetes it would see the client's address",
        Some("proxy-protocol") => "it is told the client's address by the PROXY protocol",
        _ => "in Kubernetes it would see the node's address",
    }
}

fn whose(shadow: &ShadowExplanation) -> String {
    match &shadow.share {
        Some(share) if shadow.canary => format!("; the client is a canary, one of {share}"),
        Some(share) => format!("; the client is no canary ({share} are)"),
        None => String::new(),
    }
}

fn text(args: &RouteArgs, explanation: &Explanation) -> String {
    let mut text = String::new();
    let to = args.to.address;
    let Some(service) = &explanation.service else {
        return match &explanation.reason {
            Some(reason) => format!("{}: {reason} (table generation {})\n", explanation.verdict, explanation.generation),
            None => format!("{to} is not a Service's address in table generation {}\n", explanation.generation),
        };
    };
    // Writing to a String cannot fail.
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    line(format!(
        "{} → {to} is {service} ({}), from {}; table generation {}",
        args.client.ip,
        explanation.frontend.unwrap_or_default(),
        explanation.origin.unwrap_or_default(),
        explanation.generation
    ));
    for stage in &explanation.stages {
        line(format!("{:<15} {:<18} {}", stage.stage.name(), stage.policy, stage.choice));
        let count = |keys: &[String]| if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
        line(format!("{:<15} kept    {}", "", count(&stage.kept)));
        if let Some(shadow) = &stage.shadow {
            line(format!("{:<15} shadow: {} {}{}", "", shadow.policy, shadow.choice, whose(shadow)));
        }
        for removed in &stage.removed {
            line(format!("{:<15} removed {}: {}", "", removed.endpoint, removed.why));
        }
    }
    match (&explanation.endpoint, &explanation.reason) {
        (Some(endpoint), _) => line(format!("forward to {endpoint}; {}", seen(explanation))),
        (None, reason) => line(format!("{}: {}", explanation.verdict, reason.as_deref().unwrap_or_default())),
    }
    if let Some(counts) = &explanation.counts {
        for (endpoint, count) in counts {
            line(format!("{count:>10} × {endpoint}"));
        }
    }
    if let Some(refused) = explanation.refused {
        line(format!("{refused:>10} × nowhere"));
    }
    if let Some(seed) = explanation.seed {
        line(format!("--seed {seed} gives the same again"));
    }
    text
}
