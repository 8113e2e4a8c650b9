//! `pointsman completions`: made from the same definitions as the help.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::args::Cli;

/// A shell's completions.
pub(super) fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "pointsman", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_is_told_of_the_commands() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            assert!(script.contains("rollback") && script.contains("vip-mode"), "{shell}");
        }
    }
}
