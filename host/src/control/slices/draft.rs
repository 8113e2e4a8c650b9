//! A slice on its way: as it was, changed, or new.

use std::sync::Arc;

use crate::objects::model::EndpointSlice;

/// A slice between what it was and what it will be.
#[derive(Debug)]
pub(super) enum Draft {
    /// Nothing to write, so far.
    Kept(Arc<EndpointSlice>),
    /// It was there, and is different.
    Changed {
        /// As it was.
        before: Arc<EndpointSlice>,
        /// As it is to be.
        now: EndpointSlice,
    },
    /// It has no name yet.
    New(EndpointSlice),
}

impl Draft {
    /// As it is to be.
    pub(super) fn slice(&self) -> &EndpointSlice {
        match self {
            Self::Kept(slice) => slice,
            Self::Changed { now, .. } | Self::New(now) => now,
        }
    }

    /// To be written in any case.
    pub(super) fn is_written(&self) -> bool {
        !matches!(self, Self::Kept(_))
    }

    /// To change it; a slice that was to be kept is no more.
    pub(super) fn edit(&mut self) -> &mut EndpointSlice {
        if let Self::Kept(slice) = self {
            let now = EndpointSlice::clone(slice);
            *self = Self::Changed { before: Arc::clone(slice), now };
        }
        match self {
            Self::Changed { now, .. } | Self::New(now) => now,
            // Made into the other just above.
            Self::Kept(slice) => Arc::make_mut(slice),
        }
    }
}
