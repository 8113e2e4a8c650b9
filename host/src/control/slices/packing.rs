//! How a group's endpoints are spread over its slices (kubernetes-semantics 2.3; endpointslice `reconcileByPortMapping`): few writes go
//! before full slices, and nothing is moved from one slice to another.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;

use super::draft::Draft;
use super::pods::{Candidate, Group};
use crate::objects::model::{EndpointSlice, Labels, SliceEndpoint};

/// kube-controller-manager `--max-endpoints-per-slice`.
pub(super) const MAX_ENDPOINTS_PER_SLICE: usize = 100;

/// What becomes of a group's slices.
#[derive(Debug, Default)]
pub(super) struct Packed {
    pub(super) drafts: Vec<Draft>,
    pub(super) deleted: Vec<Arc<EndpointSlice>>,
}

/// Puts every pod of a group into one slice. `blank` is a slice without endpoints.
pub(super) fn pack(existing: Vec<Arc<EndpointSlice>>, group: Group<'_>, blank: &EndpointSlice) -> Packed {
    let mut packed = Packed::default();
    let mut unplaced = Unplaced { placed: vec![false; group.pods.len()], pods: group.pods, next: 0 };
    for slice in existing {
        packed.keep(slice, &mut unplaced, &blank.meta.labels);
    }
    let mut left: VecDeque<Candidate<'_>> = unplaced.rest().collect();
    packed.fill_changed(&mut left);
    packed.place_rest(left, blank);
    packed
}

/// A group's pods, by name, and which of them have a slice.
struct Unplaced<'a> {
    pods: Vec<Candidate<'a>>,
    placed: Vec<bool>,
    /// Endpoints mostly stand in the order of names: where the next one is likely to be.
    next: usize,
}

impl<'a> Unplaced<'a> {
    /// The pod that an endpoint is of, unless it has a slice already.
    fn place(&mut self, endpoint: &SliceEndpoint) -> Option<Candidate<'a>> {
        let likely = self.pods.get(self.next).is_some_and(|candidate| candidate.is(endpoint));
        let at = if likely { self.next } else { self.find(endpoint)? };
        self.next = at + 1;
        (!std::mem::replace(&mut self.placed[at], true)).then_some(self.pods[at])
    }

    fn find(&self, endpoint: &SliceEndpoint) -> Option<usize> {
        let name = endpoint.pod.as_deref()?;
        let at = self.pods.binary_search_by(|candidate| candidate.pod.meta.name.as_str().cmp(name)).ok()?;
        self.pods[at].is(endpoint).then_some(at)
    }

    fn rest(self) -> impl Iterator<Item = Candidate<'a>> {
        self.pods.into_iter().zip(self.placed).filter(|(_, placed)| !placed).map(|(candidate, _)| candidate)
    }
}

impl Packed {
    /// A slice with those of its endpoints that are still wanted, as they are now.
    fn keep(&mut self, slice: Arc<EndpointSlice>, unplaced: &mut Unplaced<'_>, labels: &Labels) {
        let (mut kept, mut updated) = (Vec::with_capacity(slice.endpoints.len()), false);
        for endpoint in &slice.endpoints {
            let Some(candidate) = unplaced.place(endpoint) else { continue };
            updated |= !candidate.equals(endpoint);
            kept.push(candidate);
        }
        let shrunk = kept.len() != slice.endpoints.len();
        if shrunk && kept.is_empty() {
            self.deleted.push(slice);
        } else if updated || shrunk || slice.meta.labels != *labels {
            let mut now = EndpointSlice { endpoints: kept.iter().map(Candidate::endpoint).collect(), ..EndpointSlice::clone(&slice) };
            now.meta.labels.clone_from(labels);
            self.drafts.push(Draft::Changed { before: slice, now });
        } else {
            self.drafts.push(Draft::Kept(slice));
        }
    }

    /// Slices that are written anyway take in what they can, the fullest first.
    fn fill_changed(&mut self, left: &mut VecDeque<Candidate<'_>>) {
        let mut changed: Vec<&mut Draft> = self.drafts.iter_mut().filter(|draft| draft.is_written()).collect();
        changed.sort_by_key(|draft| Reverse(draft.slice().endpoints.len()));
        for draft in changed {
            if left.is_empty() {
                return;
            }
            fill(draft.edit(), left);
        }
    }

    /// The rest goes into one slice that is not written yet, if it fits there, else into new ones.
    fn place_rest(&mut self, mut left: VecDeque<Candidate<'_>>, blank: &EndpointSlice) {
        while !left.is_empty() {
            match self.closest_to_full(left.len()) {
                Some(draft) => fill(draft.edit(), &mut left),
                None => {
                    let mut new = blank.clone();
                    fill(&mut new, &mut left);
                    self.drafts.push(Draft::New(new));
                }
            }
        }
    }

    /// The unchanged slice that so many more bring closest to the limit.
    fn closest_to_full(&mut self, more: usize) -> Option<&mut Draft> {
        if more >= MAX_ENDPOINTS_PER_SLICE {
            return None;
        }
        let room = |draft: &Draft| MAX_ENDPOINTS_PER_SLICE.checked_sub(draft.slice().endpoints.len() + more);
        let kept = self.drafts.iter_mut().filter(|draft| !draft.is_written());
        kept.filter_map(|draft| Some((room(draft)?, draft))).min_by_key(|(room, _)| *room).map(|(_, draft)| draft)
    }
}

fn fill(slice: &mut EndpointSlice, left: &mut VecDeque<Candidate<'_>>) {
    while slice.endpoints.len() < MAX_ENDPOINTS_PER_SLICE
        && let Some(candidate) = left.pop_front()
    {
        slice.endpoints.push(candidate.endpoint());
    }
}
