//! Doubly linked chains through the slots of a table: an element joins at the end and leaves from anywhere, without looking for it and
//! without allocating.

/// The links of every slot: each may stand in one chain of each of `N` kinds.
pub(super) struct Chains<const N: usize> {
    links: Vec<[Link; N]>,
}

/// The ends of one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    head: u32,
    tail: u32,
}

#[derive(Clone, Copy)]
struct Link {
    before: u32,
    after: u32,
}

/// Stands where there is no slot.
const NONE: u32 = u32::MAX;

impl Default for Chain {
    fn default() -> Self {
        Self { head: NONE, tail: NONE }
    }
}

impl Chain {
    pub(super) fn is_empty(self) -> bool {
        self.head == NONE
    }

    pub(super) fn first(self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    pub(super) fn is_last(self, slot: u32) -> bool {
        self.tail == slot
    }
}

impl<const N: usize> Chains<N> {
    pub(super) fn new() -> Self {
        Self { links: Vec::new() }
    }

    /// Makes room for one more slot, which is in no chain.
    pub(super) fn grow(&mut self) {
        self.links.push([Link { before: NONE, after: NONE }; N]);
    }

    /// Puts a slot that is in no chain of this kind at the end of one.
    pub(super) fn join(&mut self, kind: usize, chain: &mut Chain, slot: u32) {
        self.links[slot as usize][kind] = Link { before: chain.tail, after: NONE };
        match chain.tail {
            NONE => chain.head = slot,
            tail => self.links[tail as usize][kind].after = slot,
        }
        chain.tail = slot;
    }

    /// Takes a slot out of the chain that it is in.
    pub(super) fn leave(&mut self, kind: usize, chain: &mut Chain, slot: u32) {
        let Link { before, after } = self.links[slot as usize][kind];
        match before {
            NONE => chain.head = after,
            before => self.links[before as usize][kind].after = after,
        }
        match after {
            NONE => chain.tail = before,
            after => self.links[after as usize][kind].before = before,
        }
    }

    /// The slots of a chain, from its beginning.
    pub(super) fn iter(&self, kind: usize, chain: Chain) -> impl Iterator<Item = u32> + '_ {
        let after = move |slot: &u32| Some(self.links[*slot as usize][kind].after).filter(|after| *after != NONE);
        std::iter::successors(chain.first(), after)
    }
}
