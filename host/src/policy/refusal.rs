//! Why a component does not become a policy. Messages are for the operator who supplied it: what was found, and what to do.

use std::path::PathBuf;

use super::contract::{Fault, StageKind};

/// A component, or a request about one, that is not accepted. The version in force stays in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name is a built-in policy's.
    #[error("\"{0}\" is the name of a built-in policy and cannot be replaced: choose another name for the file")]
    Reserved(String),
    /// Nothing goes by this name.
    #[error("there is no policy \"{name}\"; there are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// Not a name that an annotation can carry.
    #[error("\"{0}\" cannot be a policy's name: use letters, digits, '-', '_' and '.', at most 63 of them")]
    BadName(String),
    /// There is no version to go back to.
    #[error("policy \"{0}\" has no version before the one in force")]
    NothingToRollBack(String),
    /// A measured value is over its limit.
    #[error("{what}: {measured}, and the limit is {limit}{remedy}")]
    OverLimit {
        /// What was measured.
        what: &'static str,
        /// The value.
        measured: u64,
        /// The limit.
        limit: u64,
        /// What an operator can do; empty where nothing.
        remedy: &'static str,
    },
    /// The bytes are not WebAssembly, or end too early.
    #[error("not a complete WebAssembly component: {0}")]
    Malformed(String),
    /// A core module.
    #[error("a core WebAssembly module, not a component: turn it into one with `wasm-tools component new`")]
    CoreModule,
    /// It exports something else.
    #[error("not a policy for this host: {0}")]
    WrongWorld(String),
    /// It imports something that the host does not offer.
    #[error("imports {name}, which {why}")]
    Import {
        /// The interface.
        name: String,
        /// Why that is refused, and how it is mended.
        why: String,
    },
    /// The name already stands for a policy of another stage.
    #[error("\"{name}\" is a {was}, and this component is a {is}: give it a name of its own")]
    OtherStage {
        /// The name.
        name: String,
        /// The stage of the version in force.
        was: &'static str,
        /// The stage of the component.
        is: &'static str,
    },
    /// The compiler said no, or ran out of what it may use.
    #[error("does not compile: {0}")]
    Compile(String),
    /// It compiles, but does not fit the contract.
    #[error("does not fit the contract: {0}")]
    Link(String),
    /// It failed in its first calls.
    #[error("failed its probe in `{call}`: {fault}")]
    Probe {
        /// The function of the contract.
        call: &'static str,
        /// How it failed.
        fault: Fault,
    },
    /// It failed the self-test.
    #[error("failed its self-test in `{call}`, {case}: {fault}")]
    SelfTest {
        /// The function of the contract.
        call: &'static str,
        /// Which of the test's cases.
        case: String,
        /// How it failed.
        fault: Fault,
    },
    /// A file or folder could not be read.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        why: String,
    },
    /// The sandbox itself could not be set up.
    #[error("the sandbox could not be set up: {0}")]
    Sandbox(String),
}

impl Refusal {
    pub(super) fn other_stage(name: &str, was: StageKind, is: StageKind) -> Self {
        Self::OtherStage { name: name.to_owned(), was: was.name(), is: is.name() }
    }

    pub(super) fn file(path: &std::path::Path, error: &dyn std::fmt::Display) -> Self {
        Self::File { path: path.to_owned(), why: error.to_string() }
    }
}
