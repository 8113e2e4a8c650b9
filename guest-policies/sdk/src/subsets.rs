//! Cutting a Service port's endpoints into subsets: once for all of them together, and once for each of the selector's groups, which
//! is a Service to itself, with its own fallback and its own emptiness.

use crate::readiness;
use crate::types::{Endpoint, Slot, Subset};

/// The subsets of a Service port, while they are being made.
#[derive(Debug)]
pub struct Cut<'e> {
    /// All endpoints, then those of each group.
    lists: Vec<Vec<&'e Endpoint>>,
    subsets: Vec<Subset>,
}

impl<'e> Cut<'e> {
    /// Nothing cut yet.
    pub fn new(endpoints: &'e [Endpoint]) -> Self {
        let of_group = |group| endpoints.iter().filter(|endpoint| endpoint.group == Some(group)).collect();
        let groups = (0..readiness::groups(endpoints)).map(of_group);
        Self { lists: std::iter::once(endpoints.iter().collect()).chain(groups).collect(), subsets: Vec::new() }
    }

    /// The rows of what is decided with these subsets: all endpoints, then those of each group.
    pub fn rows(&self) -> impl Iterator<Item = &[&'e Endpoint]> {
        self.lists.iter().map(Vec::as_slice)
    }

    /// Adds the subset that `choose` makes of all endpoints, and, where some group on its own would be given other endpoints than its
    /// share of that, a second subset with what the groups are given. Returns the index for each row; `None`: nobody was chosen.
    pub fn add(&mut self, name: &str, choose: impl Fn(&[&'e Endpoint]) -> Vec<&'e Endpoint>) -> Vec<Option<u32>> {
        let mut chosen = self.lists.iter().map(|list| slots(&choose(list))).collect::<Vec<_>>().into_iter();
        let together = chosen.next().unwrap_or_default();
        let apart: Vec<Vec<Slot>> = chosen.collect();
        let share = |group: &[&Endpoint]| {
            let own = group.iter().map(|endpoint| endpoint.slot).filter(|slot| together.binary_search(slot).is_ok());
            sorted(own.collect())
        };
        let same = apart.iter().zip(&self.lists[1..]).all(|(own, group)| *own == share(group));
        let any = self.push(name.to_owned(), together);
        let of_groups = if same { any } else { self.push(format!("{name}-by-group"), sorted(apart.concat())) };
        std::iter::once(any).chain(apart.iter().map(|own| of_groups.filter(|_| !own.is_empty()))).collect()
    }

    /// The subsets, in the order in which they were added.
    pub fn subsets(self) -> Vec<Subset> {
        self.subsets
    }

    fn push(&mut self, name: String, members: Vec<Slot>) -> Option<u32> {
        if members.is_empty() {
            return None;
        }
        self.subsets.push(Subset { name, members });
        Some(self.subsets.len() as u32 - 1)
    }
}

fn slots(endpoints: &[&Endpoint]) -> Vec<Slot> {
    sorted(endpoints.iter().map(|endpoint| endpoint.slot).collect())
}

fn sorted(mut slots: Vec<Slot>) -> Vec<Slot> {
    slots.sort_unstable();
    slots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native;

    fn endpoints(groups: &[Option<u32>]) -> Vec<Endpoint> {
        let mut endpoints = native::endpoints(&vec![1; groups.len()]);
        endpoints.iter_mut().zip(groups).for_each(|(endpoint, group)| endpoint.group = *group);
        endpoints
    }

    fn all<'e>(list: &[&'e Endpoint]) -> Vec<&'e Endpoint> {
        list.to_vec()
    }

    #[test]
    fn groups_share_a_subset_that_gives_each_its_own() {
        let endpoints = endpoints(&[Some(1), Some(0), None, Some(1)]);
        let mut cut = Cut::new(&endpoints);
        assert_eq!(cut.rows().map(<[_]>::len).collect::<Vec<_>>(), [4, 1, 2]);
        assert_eq!(cut.add("all", all), [Some(0); 3]);
        assert_eq!(cut.add("first", |list| list[..1].to_vec()), [Some(1), Some(2), Some(2)]);
        let subsets = cut.subsets();
        let named = |at: usize| (subsets[at].name.as_str(), subsets[at].members.as_slice());
        assert_eq!([named(0), named(1), named(2)], [("all", &[0, 1, 2, 3][..]), ("first", &[0]), ("first-by-group", &[0, 1])]);
    }

    #[test]
    fn an_empty_choice_is_no_subset() {
        let endpoints = endpoints(&[Some(1), None]);
        let mut cut = Cut::new(&endpoints);
        assert_eq!(cut.add("ungrouped", |list| list.iter().copied().filter(|e| e.group.is_none()).collect()), [Some(0), None, None]);
        assert_eq!(cut.add("none", |_| Vec::new()), [None; 3]);
        assert_eq!(cut.subsets().len(), 1);
        assert_eq!(Cut::new(&[]).add("all", all), [None], "without endpoints there is one row");
    }
}
