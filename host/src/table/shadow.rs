//! A balancer that is tried beside the one in force: asked for the same connections, and in charge of a share of the clients.

use std::sync::Arc;

use super::{Planned, SetPlans, Share};

/// What the annotations `pointsman.dev/balancer-shadow` and `…-canary` ask for, as far as it is in force.
#[derive(Clone, Debug)]
pub struct Shadow {
    /// The candidate's name as asked for, in force or not.
    pub name: Arc<str>,
    /// The candidate, with one plan a candidate set; `None`: it could not plan, and is not asked.
    pub planned: Option<Planned<SetPlans>>,
    /// The generation in which this comparison began: another balancer or candidate, or other settings of one, begin a new one.
    pub since: u64,
    /// Whether it is in charge of some clients.
    pub canary: Option<Canary>,
}

/// The clients that the candidate is in charge of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canary {
    /// What the annotation says.
    pub asked: Share,
    /// What holds: nobody, once the candidate was rolled back.
    pub in_force: Share,
    /// Spreads the clients of each Service anew, so that not the same few try everything first.
    pub salt: u64,
}

impl Canary {
    /// Whether the candidate was rolled back.
    pub fn rolled_back(&self) -> bool {
        self.in_force != self.asked
    }

    /// Whether a client is among them, by its `client-hash`. Each client has a number of its own from 0 to 999,999, and is one while the
    /// share is above it: so a greater share only adds clients.
    pub fn has(&self, client_hash: u64) -> bool {
        let number = ((mixed(client_hash ^ self.salt) >> 32) * u64::from(Share::WHOLE)) >> 32;
        number < u64::from(self.in_force.millionths())
    }
}

/// Every bit of the answer hangs on every bit of the hash, so that it says nothing of what a balancer makes of the hash's own bits: without
/// this a canary's clients would crowd on a few endpoints of a hashing balancer. The finaliser of `SplitMix64` (Steele, Lea, Flood 2014).
fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary(millionths: u32, salt: u64) -> Canary {
        let share = Share::of_millionths(millionths);
        Canary { asked: share, in_force: share, salt }
    }

    /// Hashes of clients: the constant of Weyl sequences, which spreads them evenly.
    fn clients() -> impl Iterator<Item = u64> {
        (1..=100_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    #[test]
    fn a_share_is_that_share_of_the_clients() {
        for millionths in [0, 10, 1_000, 50_000, 200_000, 500_000, 1_000_000] {
            let share = f64::from(millionths) / 1e6;
            let met = clients().filter(|client| canary(millionths, 7).has(*client)).count() as f64;
            // Four standard deviations of a binomial.
            let tolerance = 4.0 * (100_000.0 * share * (1.0 - share)).sqrt();
            assert!((met - 100_000.0 * share).abs() <= tolerance, "{millionths}: {met}");
        }
    }

    #[test]
    fn a_greater_share_only_adds_clients() {
        for client in clients().take(2_000) {
            let first = (0..=100).map(|percent| canary(percent * 10_000, 7).has(client)).collect::<Vec<_>>();
            assert!(first.is_sorted(), "once a canary, always one: {first:?}");
            assert!(!first[0] && first[100]);
        }
    }

    #[test]
    fn the_share_is_taken_evenly_of_what_a_hashing_balancer_would_make_of_the_same_bits() {
        for of in [|hash: u64| hash % 10, |hash: u64| ((hash >> 32) * 10) >> 32] {
            let mut counts = [0_u32; 10];
            clients().filter(|client| canary(200_000, 7).has(*client)).for_each(|client| counts[of(client) as usize] += 1);
            assert!(counts.iter().all(|count| (1_800..2_200).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn services_try_things_on_different_clients() {
        let both = clients().filter(|client| canary(100_000, 1).has(*client) && canary(100_000, 2).has(*client)).count();
        assert!((800..1_200).contains(&both), "a tenth of a tenth, but {both}");
    }
}
