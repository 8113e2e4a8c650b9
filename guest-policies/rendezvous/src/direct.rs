//! Scores at every pick.

use pointsman_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::log2::neg_log2;

/// Endpoints, by weight.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Direct {
    hashes: Packed<u64>,
    slots: Packed<Slot>,
    /// Each weight, and the index behind its last endpoint.
    weights: Vec<(u32, u32)>,
}

impl Direct {
    /// Of endpoints that are sorted by weight.
    pub(crate) fn of(members: &[&Endpoint]) -> Self {
        let mut end = 0;
        let classes = members.chunk_by(|a, b| a.weight == b.weight).map(|class| {
            end += class.len() as u32;
            (class[0].weight, end)
        });
        let weights = classes.collect();
        let hashes = members.iter().map(|endpoint| endpoint.hash).collect();
        Self { hashes, slots: members.iter().map(|endpoint| endpoint.slot).collect(), weights }
    }

    /// The endpoint for which −ln(u) / weight is least, where u is the hash of client and endpoint as a fraction. Among endpoints
    /// of one weight that is the largest hash.
    pub(crate) fn best(&self, client: u64) -> Option<Slot> {
        let mut start = 0;
        let mut best = (f64::INFINITY, 0);
        for &(weight, end) in &self.weights {
            let mut top = (0, start);
            for (index, hash) in (start..).zip(self.hashes.range(start as usize, end as usize)) {
                let score = score(client, hash);
                if score >= top.0 {
                    top = (score, index);
                }
            }
            start = end;
            // The scores of a single weight need no logarithm to be compared.
            let score = if self.weights.len() == 1 { 0.0 } else { neg_log2(top.0) / f64::from(weight) };
            if score < best.0 {
                best = (score, top.1);
            }
        }
        self.slots.at(best.1 as usize)
    }
}

/// Both are hashes already, so two rounds of multiplication suffice to make every bit count in the upper ones (the constants are
/// MurmurHash3's finaliser's). This is the loop of every pick.
#[inline]
fn score(client: u64, endpoint: u64) -> u64 {
    let x = (client ^ endpoint).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (x ^ (x >> 32)).wrapping_mul(0xc4ce_b9fe_1a85_ec53)
}
