//! What a change of endpoints does to clients.

/// What became of keys (clients, hashes) between two assignments of them to endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disruption {
    /// Keys that had an endpoint.
    pub keys: u64,
    /// Those that have another now, or none.
    pub moved: u64,
    /// Moves that nothing could have saved: away from an endpoint that left, or to one that is new.
    pub minimal: u64,
    /// The others: from an endpoint that is still there to one that was there already.
    pub collateral: u64,
}

/// What became of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// The same endpoint as before.
    Kept,
    /// Another: its endpoint has left, or the other is new since.
    Minimal,
    /// Another, without need.
    Collateral,
}

impl Visit {
    /// Of a key that went to `before` and goes to `after`. `left`: the former is gone; `new`: the latter was not there then.
    pub fn of<E: PartialEq>(before: &E, after: &E, left: bool, new: bool) -> Self {
        match before == after {
            true => Self::Kept,
            false if left || new => Self::Minimal,
            false => Self::Collateral,
        }
    }
}

impl Disruption {
    /// Counts one key.
    pub fn count(&mut self, visit: Visit) {
        self.keys += 1;
        self.moved += u64::from(visit != Visit::Kept);
        self.minimal += u64::from(visit == Visit::Minimal);
        self.collateral += u64::from(visit == Visit::Collateral);
    }

    /// Between two assignments of the same keys. `had` and `has` say whether an endpoint was there before, and is there after. A key
    /// that had no endpoint is not counted; one that has none any more has moved.
    pub fn between<E: PartialEq>(
        before: &[Option<E>],
        after: &[Option<E>],
        mut had: impl FnMut(&E) -> bool,
        mut has: impl FnMut(&E) -> bool,
    ) -> Self {
        let mut disruption = Self::default();
        for (before, after) in before.iter().zip(after) {
            let Some(before) = before else { continue };
            disruption.count(match after {
                Some(after) => Visit::of(before, after, !has(before), !had(after)),
                None if has(before) => Visit::Collateral,
                None => Visit::Minimal,
            });
        }
        disruption
    }

    /// `disruption`: the part of the keys that moved; `affinity-kept` is the rest, where each key is a client that came back. None without
    /// keys; so with the others.
    pub fn disruption(&self) -> Option<f64> {
        self.part(self.moved)
    }

    /// `minimal`: the part that had to.
    pub fn minimal_part(&self) -> Option<f64> {
        self.part(self.minimal)
    }

    /// `collateral`: the part that moved and need not have: moved − minimal.
    pub fn collateral_part(&self) -> Option<f64> {
        self.part(self.collateral)
    }

    fn part(&self, count: u64) -> Option<f64> {
        (self.keys > 0).then(|| count as f64 / self.keys as f64)
    }
}
