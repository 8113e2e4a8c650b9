//! `pointsman completions`: made from the same definitions as the help.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::args::Cli;

/// Writes a shell's completions.
///
/// # Errors
/// What the stream says.
pub(super) fn print(shell: Shell, out: &mut impl Write) -> io::Result<()> {
    // `generate` panics when a write fails, as when the reader goes away: write to memory first.
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "pointsman", &mut script);
    out.write_all(&script)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_is_told_of_the_commands() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            print(*shell, &mut script).unwrap();
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("rollback") && script.contains("vip-mode"), "{shell}");
        }
    }
}
