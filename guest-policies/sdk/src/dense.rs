//! A map for ids that the host hands out densely from zero: an index away while they are small, and correct, if slow, where they
//! are not: a stray id must not cost a policy its memory.

/// A map from small ids.
#[derive(Debug)]
pub(crate) struct Dense<T> {
    near: Vec<Option<T>>,
    far: Vec<(u32, T)>,
}

impl<T> Dense<T> {
    pub(crate) const fn new() -> Self {
        Self { near: Vec::new(), far: Vec::new() }
    }

    #[inline]
    pub(crate) fn entry(&mut self, id: u32) -> Option<&mut T> {
        match self.near.get_mut(id as usize) {
            Some(entry) => entry.as_mut(),
            None if id < NEAR => None,
            None => self.far.iter_mut().find(|(far, _)| *far == id).map(|(_, value)| value),
        }
    }

    pub(crate) fn insert(&mut self, id: u32, value: T) {
        if id >= NEAR {
            self.remove(id);
            self.far.push((id, value));
            return;
        }
        let index = id as usize;
        if index >= self.near.len() {
            self.near.resize_with(index + 1, || None);
        }
        self.near[index] = Some(value);
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        if id < NEAR {
            return self.near.get_mut(id as usize)?.take();
        }
        let index = self.far.iter().position(|(far, _)| *far == id)?;
        Some(self.far.swap_remove(index).1)
    }
}

/// Ids from here on are kept in a list.
const NEAR: u32 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_and_far_ids() {
        let mut map = Dense::new();
        for id in [0, 7, NEAR - 1, NEAR, u32::MAX] {
            assert_eq!(map.entry(id), None);
            map.insert(id, id);
            assert_eq!(map.entry(id), Some(&mut { id }));
        }
        assert_eq!(map.entry(8), None);
        for id in [7, NEAR, u32::MAX] {
            assert_eq!((map.remove(id), map.remove(id), map.entry(id)), (Some(id), None, None));
        }
        assert_eq!(map.near.len(), NEAR as usize, "and no longer for the far ones");
    }
}
