//! The host without sockets: the same tables, plans and stages, asked about a connection that nobody made.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::objects::Diagnostic;
use crate::policy::contract::Connection;
use crate::policy::worker::WorkerPolicies;
use crate::route::explain::{Explanation, explain, explain_unserved};
use crate::route::{self, Fate, HashKey};
use crate::table::{FrontendKey, Origin, Table};

use super::core::Core;

/// A question to `pointsman route`.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Who connects.
    pub client: SocketAddr,
    /// Where the client is, when the address does not tell.
    pub origin: Option<Origin>,
    /// What it dials.
    pub to: FrontendKey,
    /// Of `client-hash`.
    pub hash_key: HashKey,
    /// How many connections to try, for the counts.
    pub connections: Option<u64>,
    /// What randomness is drawn from.
    pub seed: u64,
}

/// A table and one worker's policies.
pub struct Offline {
    table: Arc<Table>,
    diagnostics: Vec<Diagnostic>,
    policies: WorkerPolicies,
}

impl Offline {
    /// Plans what the core has read and adopts it, as a worker would. `seed` stands for the worker's.
    pub fn new(core: &mut Core, seed: u64) -> Option<Self> {
        core.node_changed();
        let update = core.rebuild(0, &mut || true)?;
        let mut policies = WorkerPolicies::new(seed);
        for version in update.table.versions(&update.changed) {
            if let Some(policy) = core.registry().loaded(version) {
                policies.install(policy, 0);
            }
        }
        for version in update.table.candidates(&update.changed) {
            if let Some(policy) = core.registry().loaded(version) {
                policies.install_candidate(policy, 0);
            }
        }
        policies.adopt(&update.table, &update.changed, 0);
        Some(Self { table: update.table, diagnostics: update.diagnostics, policies })
    }

    /// What is wrong with what the objects ask for; for [`Core::findings`], and once.
    pub fn take_diagnostics(&mut self) -> Vec<Diagnostic> {
        std::mem::take(&mut self.diagnostics)
    }

    /// Where the connection would go, and why. With `connections`, each has fresh random bits and, where the question's port is 0, a
    /// client port of its own.
    pub fn answer(&mut self, question: &Question) -> Explanation {
        let frontend = self.table.frontend(&question.to).cloned();
        let served = frontend.and_then(|frontend| Some((self.table.port(frontend.service).cloned()?, frontend)));
        let Some((port, frontend)) = served else {
            return explain_unserved(&self.table, &question.to);
        };
        let origin = question.origin.unwrap_or_else(|| route::origin(&self.table.origins, question.client.ip(), question.to.ip));
        let mut bits = fastrand::Rng::with_seed(question.seed);
        let mut connect = || -> Connection {
            let mut client = question.client;
            let random = bits.u64(..);
            if client.port() == 0 {
                client.set_port(bits.u16(32_768..61_000));
            }
            route::connection(frontend.service, client, frontend.kind, origin, question.hash_key, 0, random)
        };
        let first = connect();
        let decision = route::decide(&port, &mut self.policies, &first, None);
        let mut explanation = explain(self.table.generation, &port, &first, &decision);
        explanation.seed = Some(question.seed);
        if let Some(connections) = question.connections {
            let mut counts = BTreeMap::new();
            let mut refused = 0;
            let mut count = |fate| match fate {
                Fate::Forward(slot) => *counts.entry(port.endpoints[slot as usize].key.to_string()).or_insert(0) += 1,
                Fate::Reject(_) | Fate::Drop(_) => refused += 1,
            };
            count(decision.fate);
            for _ in 1..connections {
                let connection = connect();
                count(route::decide(&port, &mut self.policies, &connection, None).fate);
            }
            explanation.counts = Some(counts);
            explanation.refused = (refused > 0).then_some(refused);
        }
        explanation
    }
}
