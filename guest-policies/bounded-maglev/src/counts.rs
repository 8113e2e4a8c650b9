//! What a worker remembers of the host's counters, where there are too many to ask for all of them at every pick.

/// Live connections by index, as last seen.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// `UNSEEN` where nobody looked yet.
    seen: Vec<u32>,
    sum: u64,
    known: usize,
    next: usize,
}

impl Counts {
    /// Of `len` endpoints, none seen.
    pub(crate) fn of(len: usize) -> Self {
        Self { seen: vec![UNSEEN; len], ..Self::default() }
    }

    /// Where to look next, at so many.
    pub(crate) fn turn(&mut self, many: usize) -> usize {
        let first = self.next;
        self.next = (first + many).checked_rem(self.seen.len()).unwrap_or(0);
        first
    }

    /// Seen just now.
    pub(crate) fn set(&mut self, index: usize, active: u32) {
        let Some(seen) = self.seen.get_mut(index) else { return };
        if *seen == UNSEEN {
            self.known += 1;
        } else {
            self.sum -= u64::from(*seen);
        }
        *seen = active.min(UNSEEN - 1);
        self.sum += u64::from(*seen);
    }

    /// One that was seen gets a connection, and will be seen with it.
    pub(crate) fn placed(&mut self, index: usize) {
        if let Some(active) = self.seen.get(index).filter(|seen| **seen != UNSEEN) {
            self.set(index, active + 1);
        }
    }

    /// As last seen; 0 where it was not.
    pub(crate) fn at(&self, index: usize) -> u32 {
        self.seen.get(index).copied().filter(|seen| *seen != UNSEEN).unwrap_or(0)
    }

    /// Of all together; while some were not seen, they are thought to have as many as the others.
    pub(crate) fn total(&self) -> u64 {
        let total = u128::from(self.sum) * self.seen.len() as u128 / self.known.max(1) as u128;
        u64::try_from(total).unwrap_or(u64::MAX - 1)
    }
}

const UNSEEN: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_follows() {
        let mut counts = Counts::of(4);
        assert_eq!((counts.total(), counts.at(0)), (0, 0));
        counts.set(0, 6);
        assert_eq!((counts.total(), counts.at(0)), (24, 6), "the others as many");
        counts.set(1, 0);
        counts.placed(1);
        counts.placed(2);
        assert_eq!((counts.total(), counts.at(1), counts.at(2)), (14, 1, 0));
        (0..4).for_each(|index| counts.set(index, u32::MAX));
        assert_eq!(counts.total(), 4 * u64::from(u32::MAX - 1));
        counts.placed(0);
        counts.set(9, 1);
        assert_eq!(counts.total(), 4 * u64::from(u32::MAX - 1));
    }

    #[test]
    fn turns_go_round() {
        let mut counts = Counts::of(10);
        assert_eq!([counts.turn(4), counts.turn(4), counts.turn(4), counts.turn(4)], [0, 4, 8, 2]);
        assert_eq!([Counts::of(0).turn(4), Counts::default().turn(4)], [0, 0]);
    }
}
