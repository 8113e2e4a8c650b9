//! Balancers that are tried beside those in force: who, on which Services, and what came of it.

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::workbench::report::{self, Report};

/// What is asked about those that are tried.
#[derive(Debug)]
pub enum ShadowRequest {
    /// All of them.
    List {
        /// For the answer.
        reply: oneshot::Sender<Vec<ShadowStatus>>,
    },
    /// What came of one.
    Report {
        /// The Service's namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// For the answer; none where nobody is tried on that Service.
        reply: oneshot::Sender<Option<Box<Report>>>,
    },
}

/// Who is tried on a Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ShadowStatus {
    /// The Service's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The balancer in force.
    pub balancer: String,
    /// The balancer that is tried.
    pub candidate: String,
    /// Its version; none where it could not plan.
    pub digest: Option<String>,
    /// The clients that it is in charge of.
    pub canary: Option<CanaryStatus>,
}

/// The clients that a candidate is in charge of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CanaryStatus {
    /// What the annotation says.
    pub asked: String,
    /// What holds.
    pub in_force: String,
    /// The same, of 1.
    pub share: f64,
    /// Why it was rolled back, where it was.
    pub rolled_back: Option<String>,
    /// How often the Service's canaries were, since the host started.
    pub rollbacks: u64,
}

/// `GET /shadow`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShadowList {
    /// By namespace and name.
    pub shadows: Vec<ShadowStatus>,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Text,
    Html,
    Junit,
}

/// Columns of a report's text, as the commands write it.
const WIDTH: usize = 120;

impl Format {
    /// What a query asks for; none where that is no format.
    pub(super) fn of(query: Option<&str>) -> Option<Self> {
        let Some(query) = query.filter(|query| !query.is_empty()) else { return Some(Self::Json) };
        Some(match query.strip_prefix("format=")? {
            "json" => Self::Json,
            "text" => Self::Text,
            "html" => Self::Html,
            "junit" => Self::Junit,
            _ => return None,
        })
    }

    /// The report, and its media type.
    pub(super) fn render(self, report: &Report) -> (String, &'static str) {
        match self {
            Self::Json => (report::json::render(report), "application/json"),
            Self::Text => (report::text::render(report, WIDTH), "text/plain; charset=utf-8"),
            Self::Html => (report::html::render(report), "text/html; charset=utf-8"),
            Self::Junit => (report::junit::render(report), "application/xml"),
        }
    }
}
