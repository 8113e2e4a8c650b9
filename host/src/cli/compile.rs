//! `pointsman compile-policy`: what the host starts as a child, so that compiling a component cannot take the host with it.

use crate::policy::compile;

/// Reads a component from standard input and writes machine code to standard output.
///
/// # Errors
/// The reason why it does not compile.
pub fn run() -> anyhow::Result<()> {
    Ok(compile::serve()?)
}
