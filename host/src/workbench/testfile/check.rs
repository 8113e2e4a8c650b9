//! What the types of a test file do not say: bounds, keys that nobody has, and fields that do not go together.

use std::collections::{BTreeMap, BTreeSet};

use super::run::change;
use super::{Churn, Clients, Endpoint, Expect, ServiceText, Test, TestFile};
use crate::workbench::located::instead_of;
use crate::workbench::stand::{self, Addresses};

/// Connections of a test: some 200 MB, and twice that with `churn`.
const MAX_CONNECTIONS: u32 = 1_000_000;
/// Connections that are open before, to all endpoints of a test.
const MAX_ACTIVE: u64 = 1_000_000;

/// Something wrong.
pub(super) struct Wrong {
    pub(super) field: String,
    pub(super) what: String,
    pub(super) remedy: String,
}

/// Everything that is wrong.
pub(super) fn mistakes(file: &TestFile) -> Vec<Wrong> {
    let mut check = Check(Vec::new());
    if file.tests.is_empty() {
        check.say("tests", "there is no test in it", "add one below `tests:`");
    }
    let place = |n| format!("endpoints[{n}]");
    if check.endpoints(&place, &file.endpoints) {
        check.objects("service", &place, &file.service, &file.endpoints);
    }
    for (n, test) in file.tests.iter().enumerate() {
        check.test(&format!("tests[{n}]"), test, file);
    }
    check.0
}

struct Check(Vec<Wrong>);

/// Where an endpoint of a list stands in the file.
type Place<'a> = &'a dyn Fn(usize) -> String;

impl Check {
    fn say(&mut self, field: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Wrong { field: field.to_owned(), what: what.into(), remedy: remedy.into() });
    }

    fn test(&mut self, at: &str, test: &Test, file: &TestFile) {
        let endpoints = test.endpoints.as_ref().unwrap_or(&file.endpoints);
        if test.endpoints.is_none() && file.endpoints.is_empty() {
            let what = format!("the test {:?} has no endpoints", test.name);
            return self.say(at, what, "list them below `endpoints:`, for the file or the test");
        }
        let own = |n| format!("{at}.endpoints[{n}]");
        let sound = test.endpoints.is_none() || self.endpoints(&own, endpoints);
        if sound && (test.endpoints.is_some() || test.service.is_some()) {
            let service = if test.service.is_some() { format!("{at}.service") } else { "service".to_owned() };
            self.objects(&service, &own, test.service.as_ref().unwrap_or(&file.service), endpoints);
        }
        self.connections(at, test);
        let first: BTreeSet<&str> = endpoints.iter().map(|endpoint| endpoint.key.as_str()).collect();
        test.active.keys().for_each(|key| self.known(&format!("{at}.active.{key}"), key, &first));
        let mut ever = first;
        ever.extend(test.churn.iter().filter_map(|churn| match churn {
            Churn::Add(endpoint) => Some(endpoint.key.as_str()),
            _ => None,
        }));
        self.churn(at, test, file, endpoints);
        test.unreachable.iter().enumerate().for_each(|(n, key)| self.known(&format!("{at}.unreachable[{n}]"), key, &ever));
        self.expect(&format!("{at}.expect"), test, &ever);
    }

    /// False: something is wrong.
    fn endpoints(&mut self, place: Place<'_>, endpoints: &[Endpoint]) -> bool {
        let before = self.0.len();
        let mut addresses = Addresses::default();
        let mut keys = BTreeSet::new();
        let mut zones = BTreeMap::new();
        for (n, endpoint) in endpoints.iter().enumerate() {
            let at = place(n);
            if let Err(remedy) = addresses.of(&endpoint.key) {
                self.say(&format!("{at}.key"), format!("{:?} is no endpoint's key", endpoint.key), remedy);
            } else if !keys.insert(&endpoint.key) {
                self.say(&format!("{at}.key"), format!("{} is there twice", endpoint.key), "keep one of the two");
            }
            self.endpoint(&at, endpoint, &mut zones);
        }
        self.0.len() == before
    }

    fn endpoint<'a>(&mut self, at: &str, endpoint: &'a Endpoint, zones: &mut BTreeMap<&'a str, &'a str>) {
        let Endpoint { ready, serving, terminating, node, zone, .. } = endpoint;
        if *serving && !ready && !terminating {
            self.say(
                &format!("{at}.serving"),
                "one that does not terminate serves while it is ready",
                "say `ready: true`, or add `terminating: true`",
            );
        }
        match (node, zone) {
            (None, Some(_)) => self.say(&format!("{at}.zone"), "an endpoint is in its node's zone", "add `node:`"),
            (Some(node), Some(zone)) => {
                let first = zones.entry(node).or_insert(zone);
                if *first != zone {
                    self.say(&format!("{at}.zone"), format!("{node} is in the zone {first} already"), "give it another node");
                }
            }
            (_, None) => {}
        }
    }

    /// What a host would refuse.
    fn objects(&mut self, service_at: &str, place: Place<'_>, service: &ServiceText, endpoints: &[Endpoint]) {
        let Err(wrong) = stand::objects(service, endpoints, &mut Addresses::default()) else { return };
        let field = match endpoints.iter().position(|endpoint| endpoint.key == wrong.about) {
            Some(n) => place(n),
            None => format!("{service_at}.{}", wrong.field.strip_prefix("metadata.").unwrap_or(&wrong.field)),
        };
        self.say(&field, wrong.message, format!("it becomes `{}` of an object, as a host reads it", wrong.field));
    }

    fn connections(&mut self, at: &str, test: &Test) {
        let counts = [("connections.count", Some(test.connections.count)), ("picks", test.picks)];
        for (field, count) in counts.into_iter().filter_map(|(field, count)| Some((field, count?))) {
            if count == 0 || count > MAX_CONNECTIONS {
                self.say(&format!("{at}.{field}"), format!("{count} connections"), format!("a test has 1 to {MAX_CONNECTIONS}"));
            }
        }
        if test.connections.clients == Clients::Listed(Vec::new()) {
            self.say(&format!("{at}.connections.clients"), "nobody connects", "list addresses, or say `uniform`");
        }
        let active: u64 = test.active.values().map(|active| u64::from(*active)).sum();
        if active > MAX_ACTIVE {
            self.say(&format!("{at}.active"), format!("{active} connections are open"), format!("at most {MAX_ACTIVE} can be"));
        }
    }

    fn churn(&mut self, at: &str, test: &Test, file: &TestFile, endpoints: &[Endpoint]) {
        let before = self.0.len();
        let mut now = endpoints.to_vec();
        for (n, churn) in test.churn.iter().enumerate() {
            let at = format!("{at}.churn[{n}]");
            if let Err(key) = change(&mut now, churn) {
                match churn {
                    Churn::Add(_) => self.say(&format!("{at}.add.key"), format!("{key} is there already"), "remove it first"),
                    Churn::Remove(_) => self.known(&format!("{at}.remove"), &key, &keys(&now)),
                    Churn::Ready(_) => self.known(&format!("{at}.ready"), &key, &keys(&now)),
                    Churn::Unready(_) => self.known(&format!("{at}.unready"), &key, &keys(&now)),
                    Churn::Weight(_) => self.known(&format!("{at}.weight.{key}"), &key, &keys(&now)),
                }
            }
        }
        let churn = |_| format!("{at}.churn");
        if !test.churn.is_empty() && self.0.len() == before && self.endpoints(&churn, &now) {
            self.objects("service", &churn, test.service.as_ref().unwrap_or(&file.service), &now);
        }
    }

    fn expect(&mut self, at: &str, test: &Test, ever: &BTreeSet<&str>) {
        let Expect { never, only, share, sequence, collateral, disruption, .. } = &test.expect;
        for (field, keys) in [("never", never), ("only", only), ("sequence", sequence)] {
            for (n, key) in keys.iter().enumerate() {
                self.known(&format!("{at}.{field}[{n}]"), key, ever);
            }
        }
        share.keys().for_each(|key| self.known(&format!("{at}.share.{key}"), key, ever));
        for (field, bound) in [("collateral", collateral), ("disruption", disruption)] {
            if bound.is_some() && test.churn.is_empty() {
                self.say(&format!("{at}.{field}"), "it compares before and after, and nothing changes", "add `churn:`");
            }
        }
    }

    fn known(&mut self, field: &str, key: &str, keys: &BTreeSet<&str>) {
        if !keys.contains(key) {
            let known: Vec<&str> = keys.iter().copied().collect();
            self.say(field, format!("there is no endpoint {key}"), instead_of(key, &known));
        }
    }
}

fn keys(endpoints: &[Endpoint]) -> BTreeSet<&str> {
    endpoints.iter().map(|endpoint| endpoint.key.as_str()).collect()
}

#[cfg(test)]
mod tests;
