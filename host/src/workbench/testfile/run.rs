//! Runs the tests of a file: each with fresh instances, so that none depends on another.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::{Bound, Churn, Clients, Connections, Endpoint, Expect, Frontend, Origin, ServiceText, Test, TestFile};
use crate::policy::contract::StageKind;
use crate::policy::registry::Registry;
use crate::table::{FrontendKind, Origin as Where};
use crate::workbench::metrics::{Balance, Disruption};
use crate::workbench::report::{Case, Estimate, Metric, Verdict};
use crate::workbench::stand::{Client, Outcomes, Stand, StandError};

/// The policy under test, by the name that the registry has for it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its stage.
    pub stage: StageKind,
}

/// What a test draws from: the seed that is given, else the one that it names.
pub fn seed(test: &Test, given: Option<u64>) -> u64 {
    given.or(test.connections.seed).unwrap_or(DEFAULT_SEED)
}

/// Runs one test.
///
/// # Errors
/// The test, not the policy, is wrong.
pub fn run(file: &TestFile, test: &Test, subject: Subject<'_>, registry: &Arc<Registry>, seed: u64) -> anyhow::Result<Case> {
    let mut trial = Trial { test, subject, seed, findings: Vec::new(), metrics: Vec::new() };
    trial.judge(file, registry)?;
    if !trial.findings.is_empty() {
        // A regular expression, in a word of the shell.
        let name = regex::escape(&test.name).replace('\'', "'\\''");
        trial.findings.push(format!("again: --run '{name}' --seed {seed}"));
    }
    let verdict = if trial.findings.is_empty() { Verdict::Holds } else { Verdict::Fails };
    Ok(Case { name: test.name.clone(), verdict, findings: trial.findings, metrics: trial.metrics })
}

const DEFAULT_SEED: u64 = 1;

struct Trial<'a> {
    test: &'a Test,
    subject: Subject<'a>,
    seed: u64,
    findings: Vec<String>,
    metrics: Vec<Metric>,
}

impl Trial<'_> {
    fn judge(&mut self, file: &TestFile, registry: &Arc<Registry>) -> Result<(), StandError> {
        let test = self.test;
        let mut endpoints = test.endpoints.clone().unwrap_or_else(|| file.endpoints.clone());
        let stand = Stand::new(Arc::clone(registry), self.service(file), &endpoints, self.seed);
        let mut stand = match (&test.expect.plan_error, stand) {
            (_, Err(mistake @ StandError::Mistake(_))) => return Err(mistake),
            (Some(expected), Err(StandError::Refused(why))) => {
                if !why.contains(expected.as_str()) {
                    self.fail(format!("the plan is refused with {why:?}, where {expected:?} is expected"));
                }
                return Ok(());
            }
            (None, Err(StandError::Refused(why))) => {
                self.fail(why);
                return Ok(());
            }
            (Some(expected), Ok(_)) => {
                self.fail(format!("the plan is accepted, where an error with {expected:?} is expected"));
                return Ok(());
            }
            (None, Ok(stand)) => stand,
        };
        test.active.iter().try_for_each(|(key, active)| stand.load(key, *active))?;
        let clients = self.clients();
        let mut outcomes = self.connect(&mut stand, &clients);
        let mut churned = None;
        if !test.churn.is_empty() {
            let before = endpoints.clone();
            let changed = test.churn.iter().try_for_each(|churn| change(&mut endpoints, churn));
            changed.map_err(|key| StandError::Mistake(format!("churn: {key}")))?;
            match stand.set_endpoints(&endpoints) {
                Ok(()) => {}
                Err(StandError::Refused(why)) => {
                    self.fail(format!("after the churn: {why}"));
                    return Ok(());
                }
                Err(mistake) => return Err(mistake),
            }
            let after = self.connect(&mut stand, &clients);
            churned = Some(moves(&before, &outcomes, &endpoints, &after));
            outcomes = after;
        }
        self.compare(&outcomes, &endpoints, churned, stand.fuel_max(self.subject.name));
        Ok(())
    }

    fn service(&self, file: &TestFile) -> ServiceText {
        let mut service = self.test.service.clone().unwrap_or_else(|| file.service.clone());
        let stage = self.subject.stage.name();
        service.annotations.insert(format!("pointsman.dev/{stage}"), self.subject.name.to_owned());
        for (key, value) in file.settings.iter().chain(&self.test.settings) {
            service.annotations.insert(format!("pointsman.dev/{stage}.{key}"), value.clone());
        }
        service
    }

    fn clients(&self) -> Vec<Client> {
        let Connections { count, clients, frontend, origin, .. } = &self.test.connections;
        let count = self.test.picks.unwrap_or(*count);
        let mut random = fastrand::Rng::with_seed(self.seed ^ 0xc11e_1175);
        let frontend = match frontend {
            Frontend::ClusterIp => FrontendKind::ClusterIp,
            Frontend::NodePort => FrontendKind::NodePort,
            Frontend::ExternalIp => FrontendKind::ExternalIp,
            Frontend::LoadBalancer => FrontendKind::LoadBalancer,
            Frontend::HostPort => FrontendKind::HostPort,
        };
        let origin = match origin {
            Origin::Pod => Where::Pod,
            Origin::Node => Where::Node,
            Origin::Outside => Where::Outside,
        };
        let mut address = |n: usize| match clients {
            // 100.64.0.0/10 is nobody's (RFC 6598).
            Clients::Uniform => IpAddr::V4(Ipv4Addr::from_bits(0x6440_0000 | random.u32(..) >> 10)),
            Clients::One => IpAddr::V4(Ipv4Addr::from_bits(0x6440_0001)),
            Clients::Listed(addresses) => {
                addresses.get(n % addresses.len().max(1)).copied().unwrap_or(IpAddr::V4(Ipv4Addr::from_bits(0x6440_0001)))
            }
        };
        (0..count as usize).map(|n| Client { address: SocketAddr::new(address(n), 0), frontend, origin }).collect()
    }

    fn connect(&self, stand: &mut Stand, clients: &[Client]) -> Vec<Outcomes> {
        let Test { unreachable, connections, .. } = self.test;
        clients.iter().map(|client| stand.connect(*client, unreachable, connections.hold)).collect()
    }

    fn fail(&mut self, finding: String) {
        self.findings.push(finding);
    }

    fn compare(&mut self, outcomes: &[Outcomes], endpoints: &[Endpoint], moves: Option<Disruption>, fuel_max: u64) {
        let Expect { never, only, share, .. } = &self.test.expect;
        let counts = counts(outcomes);
        let total = counts.values().sum::<u64>() as f64;
        let count = |key: &str| counts.get(key).copied().unwrap_or_default();
        for key in never.iter().filter(|key| count(key) > 0) {
            self.findings.push(format!("never {key}: {} of {} connections ended there", count(key), outcomes.len()));
        }
        if !only.is_empty() {
            let nowhere = outcomes.iter().filter(|outcome| outcome.endpoint.is_none()).count() as u64;
            let others = counts.iter().filter(|(key, _)| !only.iter().any(|allowed| allowed == *key)).map(|(key, count)| (*key, *count));
            for (key, count) in others.chain(Some(("no endpoint", nowhere)).filter(|(_, count)| *count > 0)) {
                self.findings.push(format!("only {}: {count} of {} connections ended on {key}", only.join(", "), outcomes.len()));
            }
        }
        for (key, bound) in share {
            let measured = count(key) as f64 / total.max(1.0);
            self.metrics.push(metric(&format!("share of {key}"), measured));
            if !bound.holds(measured) {
                self.findings.push(format!("share of {key}: {bound} is expected, {measured:.4} was seen ({} of {total})", count(key)));
            }
        }
        self.sequence(outcomes);
        self.faults(outcomes);
        let loads: Vec<f64> = eligible(endpoints).map(|endpoint| count(&endpoint.key) as f64 / f64::from(endpoint.weight)).collect();
        let imbalance = Balance::of(&loads).map_or(0.0, |balance| balance.imbalance);
        let expect = &self.test.expect;
        self.number("imbalance", imbalance, expect.imbalance);
        self.number("fuel", fuel_max as f64, expect.fuel);
        if let Some(moves) = moves {
            self.number("disruption", moves.disruption().unwrap_or_default(), expect.disruption);
            self.number("collateral", moves.collateral_part().unwrap_or_default(), expect.collateral);
        }
    }

    fn sequence(&mut self, outcomes: &[Outcomes]) {
        let expected = &self.test.expect.sequence;
        if expected.is_empty() {
            return;
        }
        let seen: Vec<&str> = outcomes.iter().take(expected.len()).map(|outcome| outcome.endpoint.as_deref().unwrap_or("nobody")).collect();
        if seen != expected.iter().map(String::as_str).collect::<Vec<_>>() {
            self.findings.push(format!("the sequence {} is expected, {} was seen", expected.join(" "), seen.join(" ")));
        }
    }

    fn faults(&mut self, outcomes: &[Outcomes]) {
        let expect = &self.test.expect;
        let mut classes: BTreeMap<String, u64> = BTreeMap::new();
        for fault in outcomes.iter().flat_map(|outcome| &outcome.faults) {
            *classes.entry(fault.to_string()).or_default() += 1;
        }
        let faults = outcomes.iter().map(|outcome| outcome.faults.len() as u64).sum::<u64>();
        let none = Bound::exactly(0.0);
        if !expect.faults.unwrap_or(none).holds(faults as f64) {
            let kinds: Vec<String> = classes.iter().take(3).map(|(fault, count)| format!("{fault} ({count}×)")).collect();
            self.findings.push(format!("faults: {} are expected, {faults} were seen: {}", expect.faults.unwrap_or(none), kinds.join("; ")));
        }
        self.number("no-opinion", outcomes.iter().map(|outcome| u64::from(outcome.no_opinion)).sum::<u64>() as f64, expect.no_opinion);
        let refused: Vec<&str> = outcomes.iter().filter_map(|outcome| outcome.refused).collect();
        if !expect.refused.unwrap_or(none).holds(refused.len() as f64) {
            let why = refused.first().map_or_else(String::new, |why| format!(": {why}"));
            self.findings.push(format!("refused: {} are expected, {} were seen{why}", expect.refused.unwrap_or(none), refused.len()));
        }
    }

    /// Something measured, and what it must be.
    fn number(&mut self, name: &str, measured: f64, bound: Option<Bound>) {
        self.metrics.push(metric(name, measured));
        if let Some(bound) = bound
            && !bound.holds(measured)
        {
            self.findings.push(format!("{name}: {bound} is expected, {} was seen", trimmed(measured)));
        }
    }
}

fn metric(name: &str, value: f64) -> Metric {
    Metric { name: name.to_owned(), unit: String::new(), values: vec![Estimate::exact(value)], differs: None }
}

fn trimmed(value: f64) -> String {
    format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn counts(outcomes: &[Outcomes]) -> BTreeMap<&str, u64> {
    let mut counts = BTreeMap::new();
    for key in outcomes.iter().filter_map(|outcome| outcome.endpoint.as_deref()) {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

/// Those that may be picked as long as any of them can be.
fn eligible(endpoints: &[Endpoint]) -> impl Iterator<Item = &Endpoint> {
    endpoints.iter().filter(|endpoint| endpoint.weight > 0 && endpoint.ready && !endpoint.terminating)
}

/// Makes one change. The error is the key that is not there, or that is there already.
pub(super) fn change(endpoints: &mut Vec<Endpoint>, churn: &Churn) -> Result<(), String> {
    let find = |endpoints: &[Endpoint], key: &str| endpoints.iter().position(|endpoint| endpoint.key == key);
    match churn {
        Churn::Add(endpoint) if find(endpoints, &endpoint.key).is_some() => return Err(endpoint.key.clone()),
        Churn::Add(endpoint) => endpoints.push(endpoint.clone()),
        Churn::Remove(key) => {
            let at = find(endpoints, key).ok_or(key)?;
            endpoints.remove(at);
        }
        Churn::Unready(key) | Churn::Ready(key) => {
            let at = find(endpoints, key).ok_or(key)?;
            endpoints[at].ready = matches!(churn, Churn::Ready(_));
        }
        Churn::Weight(weights) => {
            for (key, weight) in weights {
                let at = find(endpoints, key).ok_or(key)?;
                endpoints[at].weight = *weight;
            }
        }
    }
    Ok(())
}

/// What the churn did to the clients.
fn moves(before: &[Endpoint], first: &[Outcomes], after: &[Endpoint], second: &[Outcomes]) -> Disruption {
    let may = |endpoints: &[Endpoint], key: &str| eligible(endpoints).any(|endpoint| endpoint.key == key);
    let keys = |outcomes: &[Outcomes]| outcomes.iter().map(|outcome| outcome.endpoint.clone()).collect::<Vec<_>>();
    Disruption::between(&keys(first), &keys(second), |key| may(before, key), |key| may(after, key))
}

#[cfg(test)]
mod tests;
