//! Which endpoints were full when they were last looked at: a bit for each.

/// A set of indices, walked through in turn.
#[derive(Debug, Default)]
pub(crate) struct Full {
    words: Vec<u64>,
    len: usize,
    /// Where the next turn begins.
    turn: usize,
}

impl Full {
    /// None of `len`.
    pub(crate) fn of(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len, turn: 0 }
    }

    /// The next `most` in turn; all of them where there are no more.
    pub(crate) fn next(&mut self, most: usize) -> Vec<usize> {
        let mut found = Vec::new();
        // Up to the end, then up to where it began.
        for (start, end) in [(self.turn, self.len), (0, self.turn)] {
            let mut from = start;
            while let Some(index) = self.first(from, 0).filter(|index| *index < end && found.len() < most) {
                found.push(index);
                from = index + 1;
            }
        }
        // Where all were found there is no turn to keep.
        self.turn = found.last().filter(|_| found.len() == most).map_or(0, |last| last + 1);
        found
    }

    /// The first from `from` on that is not in the set.
    pub(crate) fn first_not(&self, from: usize) -> Option<usize> {
        self.first(from, u64::MAX)
    }

    /// Puts an index into the set, or takes it out.
    pub(crate) fn set(&mut self, index: usize, full: bool) {
        if let Some(word) = self.words.get_mut(index / 64) {
            let bit = 1 << (index % 64);
            *word = if full { *word | bit } else { *word & !bit };
        }
    }

    /// The first from `from` on whose bit differs from that of `unlike`, which is all zeros or all ones.
    fn first(&self, from: usize, unlike: u64) -> Option<usize> {
        let mut mask = u64::MAX << (from % 64);
        for (n, word) in self.words.iter().enumerate().skip(from / 64) {
            let found = (word ^ unlike) & mask;
            if found != 0 {
                let index = n * 64 + found.trailing_zeros() as usize;
                return (index < self.len).then_some(index);
            }
            mask = u64::MAX;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walked_through_in_turn() {
        let mut full = Full::of(200);
        assert_eq!((full.next(3), full.first_not(0)), (vec![], Some(0)));
        [0, 1, 63, 64, 130, 199].into_iter().for_each(|index| full.set(index, true));
        assert_eq!([full.next(4), full.next(4), full.next(4)], [vec![0, 1, 63, 64], vec![130, 199, 0, 1], vec![63, 64, 130, 199]]);
        assert_eq!(full.next(10), [0, 1, 63, 64, 130, 199], "each once");
        full.set(0, false);
        full.set(200, true);
        assert_eq!(full.next(10), [1, 63, 64, 130, 199]);
    }

    #[test]
    fn the_first_that_is_not() {
        let mut full = Full::of(130);
        (0..129).for_each(|index| full.set(index, true));
        assert_eq!(full.first_not(0), Some(129));
        full.set(129, true);
        assert_eq!(full.first_not(0), None);
        full.set(64, false);
        assert_eq!([0, 64, 65].map(|from| full.first_not(from)), [Some(64), Some(64), None]);
        assert_eq!(Full::of(0).first_not(0), None);
        assert_eq!(Full::of(128).first_not(500), None);
    }
}
