//! Why a policy could not be pushed or pulled: what was found, and what to do.

use super::url::Url;
use crate::objects::reference::Digest;

/// A push or a pull that failed. Nothing was kept of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No answer: no such host, nobody there, no TLS, too slow.
    #[error("{registry} cannot be reached: {why}")]
    Unreachable {
        /// Host and port.
        registry: String,
        /// What happened.
        why: String,
    },
    /// The registry does not have it.
    #[error("{registry} has no {what}: look at the name and the version, and whether you may see them")]
    Absent {
        /// Host and port.
        registry: String,
        /// The repository and version.
        what: String,
    },
    /// The registry, or who gives out tokens for it, wants somebody else.
    #[error("{registry} does not let us {what}: {why}")]
    Denied {
        /// Host and port.
        registry: String,
        /// `pull team/p`.
        what: String,
        /// What was said, and what to do.
        why: String,
    },
    /// It is there, and is something else than a policy.
    #[error("{what} is not a policy: {why}")]
    WrongArtifact {
        /// The reference.
        what: String,
        /// What it is, and what it should be.
        why: String,
    },
    /// What came has another digest than it was asked for by.
    #[error("{what} was altered: its digest is {found}, and {wanted} was asked for; it is not used")]
    Altered {
        /// Manifest or component, and where from.
        what: String,
        /// Asked for.
        wanted: Digest,
        /// Of what came.
        found: Digest,
    },
    /// A push to a digest that is not the artifact's.
    #[error("what is to be pushed has the digest {found}, and {reference} names another: leave that digest out, or push what has it")]
    NamesAnother {
        /// Where to.
        reference: String,
        /// Of what is to be pushed.
        found: Digest,
    },
    /// More than is taken.
    #[error("{what} has {bytes} bytes, and at most {limit} are taken{help}")]
    TooLarge {
        /// Manifest or component, and where from.
        what: String,
        /// Its size, as far as it was read.
        bytes: u64,
        /// The limit.
        limit: u64,
        /// What to do about it, if anything.
        help: String,
    },
    /// An answer that the protocol does not know here.
    #[error("{url} answers {said}")]
    Protocol {
        /// What was asked.
        url: Url,
        /// Status and words.
        said: String,
    },
    /// A file of ours cannot be used.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: String,
        /// Why not.
        why: String,
    },
}

/// Somebody else's words as far as they go into messages: short, on one line, and nothing that a terminal would obey.
pub(super) fn shown(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| !c.is_control()).collect();
    line.trim().chars().take(MAX_WORDS).collect()
}

/// Characters of a registry's words that a message repeats.
const MAX_WORDS: usize = 200;
