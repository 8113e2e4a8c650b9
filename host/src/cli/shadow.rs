//! `pointsman policy shadow`: what came of a balancer that a running engine tries.

use std::process::ExitCode;

use anyhow::bail;
use hyper::Method;

use super::args::AdminArgs;
use super::policy::{ask, columns, say, short};
use super::workbench::{Format, ReportArgs, finish};
use crate::admin::{ShadowList, ShadowStatus};
use crate::workbench::report::{Report, SCHEMA};

/// What `policy shadow` is told.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  pointsman policy shadow\n  pointsman policy shadow default/shop\n  pointsman policy shadow default/shop --format json"
)]
pub struct Args {
    /// The Service whose report is wanted; without one, the Services are listed
    #[arg(value_name = "NAMESPACE/NAME")]
    service: Option<String>,
    /// The engine.
    #[command(flatten)]
    engine: AdminArgs,
    #[command(flatten)]
    output: ReportArgs,
}

/// # Errors
/// The engine cannot be reached, or tries nobody on this Service.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Some(service) = &args.service else {
        if args.output.format != Format::Text || args.output.html.is_some() {
            bail!("--format and --html are for the report of a Service: name it, such as default/shop");
        }
        let list: ShadowList = ask(&args.engine, Method::GET, "/shadow", vec![]).await?;
        say(&table(&list.shadows))?;
        return Ok(ExitCode::SUCCESS);
    };
    let report: Report = ask(&args.engine, Method::GET, &path(service)?, vec![]).await?;
    if report.schema != SCHEMA {
        bail!("the engine writes reports as {}, this command reads {SCHEMA}: use the command of the engine's version", report.schema);
    }
    finish(report, &args.output)
}

fn path(service: &str) -> anyhow::Result<String> {
    let fits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    match service.split_once('/') {
        Some((namespace, name)) if fits(namespace) && fits(name) => Ok(format!("/shadow/{namespace}/{name}")),
        _ => bail!("{service:?} is not a Service: write NAMESPACE/NAME, such as default/shop"),
    }
}

fn table(shadows: &[ShadowStatus]) -> String {
    if shadows.is_empty() {
        return "no balancer is tried on any Service: name one by the annotation pointsman.dev/balancer-shadow".to_owned();
    }
    let header = ["SERVICE", "IN FORCE", "TRIED", "DIGEST", "CANARY"].map(str::to_owned);
    let rows = shadows.iter().map(|shadow| {
        let canary = shadow.canary.as_ref().map_or("-".to_owned(), |canary| match &canary.rolled_back {
            Some(why) => format!("{} (rolled back from {}: {why})", canary.in_force, canary.asked),
            None => canary.in_force.clone(),
        });
        let digest = shadow.digest.as_deref().map_or("-", short).to_owned();
        [format!("{}/{}", shadow.namespace, shadow.name), shadow.balancer.clone(), shadow.candidate.clone(), digest, canary]
    });
    columns(std::iter::once(header).chain(rows).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::admin::CanaryStatus;

    #[test]
    fn a_service_is_named_in_its_namespace() {
        assert_eq!(path("default/shop").unwrap(), "/shadow/default/shop");
        for wrong in ["shop", "/shop", "default/", "default/a b", "default/a/b", "default/a?x", ""] {
            assert!(path(wrong).unwrap_err().to_string().contains("NAMESPACE/NAME"), "{wrong}");
        }
    }

    #[test]
    fn the_list_says_who_is_rolled_back_and_why() {
        let status = |name: &str, canary| ShadowStatus {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            balancer: "round-robin".to_owned(),
            candidate: "maglev".to_owned(),
            digest: Some("sha256:0123456789abcdef".to_owned()),
            canary,
        };
        let canary = |in_force: &str, rolled_back: Option<&str>| {
            let (asked, in_force) = ("20%".to_owned(), in_force.to_owned());
            Some(CanaryStatus { asked, in_force, share: 0.0, rolled_back: rolled_back.map(str::to_owned), rollbacks: 0 })
        };
        let listed = [status("a", None), status("b", canary("20%", None)), status("c", canary("0%", Some("its breaker opened")))];
        let lines = [
            "SERVICE    IN FORCE     TRIED   DIGEST               CANARY",
            "default/a  round-robin  maglev  sha256:0123456789ab  -",
            "default/b  round-robin  maglev  sha256:0123456789ab  20%",
            "default/c  round-robin  maglev  sha256:0123456789ab  0% (rolled back from 20%: its breaker opened)",
        ];
        assert_eq!(table(&listed), lines.join("\n"));
        assert!(table(&[]).contains("pointsman.dev/balancer-shadow"));
    }
}
