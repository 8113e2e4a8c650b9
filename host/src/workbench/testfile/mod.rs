//! Tests as data: a file says which endpoints there are, who connects, what changes, and what must hold.

mod bound;
mod check;
mod run;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::located;
use crate::objects::Diagnostic;
pub use bound::Bound;
pub use run::{Subject, run, seed};

/// A test file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TestFile {
    /// What the Service's annotations say to the policy under test: `table-size: "1021"`.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// More of the Service.
    #[serde(default)]
    pub service: ServiceText,
    /// The endpoints, unless a test has its own.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// The tests.
    pub tests: Vec<Test>,
}

/// What a test says of the Service beyond its endpoints.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServiceText {
    /// `metadata.annotations`
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// `metadata.labels`
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Fields of `spec`, over those of a `ClusterIP` Service with the selector `app: web`.
    #[serde(default)]
    pub spec: Map<String, Value>,
}

/// An endpoint: a pod of the Service.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Endpoint {
    /// `a:80`, or a real address: `10.244.0.1:80`. The identity: hashes are taken of the address, so of `a:80` they are taken of one that is made
    /// up for it.
    pub key: String,
    /// 0: never picked.
    #[serde(default = "one")]
    pub weight: u32,
    /// Whether it is ready.
    #[serde(default = "yes")]
    pub ready: bool,
    /// For one that terminates: whether it serves nevertheless.
    #[serde(default)]
    pub serving: bool,
    /// Whether it is being deleted.
    #[serde(default)]
    pub terminating: bool,
    /// Its node; the test's host is `node-1`.
    pub node: Option<String>,
    /// Its node's zone.
    pub zone: Option<String>,
    /// Its pod's labels, beside `app: web`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

/// One test: fresh instances, connections, what must hold of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Test {
    /// For reports, and for `--run`.
    pub name: String,
    /// Instead of the file's.
    pub endpoints: Option<Vec<Endpoint>>,
    /// Beside the file's.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Instead of the file's.
    pub service: Option<ServiceText>,
    /// Connections that are open before: so many to each of these endpoints.
    #[serde(default)]
    pub active: BTreeMap<String, u32>,
    /// Endpoints that refuse connections.
    #[serde(default)]
    pub unreachable: Vec<String>,
    /// Who connects.
    #[serde(default)]
    pub connections: Connections,
    /// So many connections, of which the sequence counts; instead of `connections.count`.
    pub picks: Option<u32>,
    /// What changes; then the same clients connect again, and what is expected holds of the second time.
    #[serde(default)]
    pub churn: Vec<Churn>,
    /// What must hold.
    pub expect: Expect,
}

/// Who connects.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Connections {
    /// How many.
    pub count: u32,
    /// From where.
    pub clients: Clients,
    /// What clients and random bits are drawn from; `--seed` comes before it.
    pub seed: Option<u64>,
    /// What they dial.
    pub frontend: Frontend,
    /// Where they are.
    pub origin: Origin,
    /// Whether they stay open.
    pub hold: bool,
}

impl Default for Connections {
    fn default() -> Self {
        Self { count: 1000, clients: Clients::Uniform, seed: None, frontend: Frontend::ClusterIp, origin: Origin::Pod, hold: false }
    }
}

/// From where connections come.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clients {
    /// Each from an address of its own.
    Uniform,
    /// All from one.
    One,
    /// In turn, from these.
    #[serde(untagged)]
    Listed(Vec<IpAddr>),
}

/// What a client dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are the contract's")]
pub enum Frontend {
    ClusterIp,
    NodePort,
    ExternalIp,
    LoadBalancer,
    HostPort,
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are the contract's")]
pub enum Origin {
    Pod,
    Node,
    Outside,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Churn {
    /// An endpoint comes.
    Add(Endpoint),
    /// An endpoint goes.
    Remove(String),
    /// An endpoint stops being ready.
    Unready(String),
    /// An endpoint becomes ready.
    Ready(String),
    /// Weights change.
    Weight(BTreeMap<String, u32>),
}

/// What must hold. What is not named is not looked at, except that by default there are no faults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Expect {
    /// No connection ends on these.
    pub never: Vec<String>,
    /// Every connection ends on one of these.
    pub only: Vec<String>,
    /// Share of the connections that end there.
    pub share: BTreeMap<String, Bound>,
    /// Where the connections end, one after the other.
    pub sequence: Vec<String>,
    /// Share of all clients that moved from an endpoint that is still there to another that was there before.
    pub collateral: Option<Bound>,
    /// Share of all clients that moved.
    pub disruption: Option<Bound>,
    /// The most connections for its weight that an endpoint got, by the mean.
    pub imbalance: Option<Bound>,
    /// Connections for which the policy had no opinion.
    pub no_opinion: Option<Bound>,
    /// Faults; none, unless this says otherwise.
    pub faults: Option<Bound>,
    /// Connections that were refused or dropped; none, unless this says otherwise.
    pub refused: Option<Bound>,
    /// The most fuel that a decision of the policy used.
    pub fuel: Option<Bound>,
    /// The test cannot begin: the policy refuses to plan, with this among its words.
    pub plan_error: Option<String>,
}

/// Reads a test file.
///
/// # Errors
/// What is wrong, with file and line.
pub fn parse(file: &Path, text: &str) -> anyhow::Result<TestFile> {
    let (parsed, places) = located::read::<TestFile>(file, text).map_err(|mistake| said(&[*mistake]))?;
    let mistakes: Vec<_> =
        check::mistakes(&parsed).into_iter().map(|wrong| places.mistake(&wrong.field, wrong.what, wrong.remedy)).collect();
    if mistakes.is_empty() { Ok(parsed) } else { Err(said(&mistakes)) }
}

/// The command says that it is an error.
fn said(mistakes: &[Diagnostic]) -> anyhow::Error {
    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    let text = lines.join("\n");
    anyhow::anyhow!("{}", text.strip_prefix("error: ").unwrap_or(&text))
}
