//! Whether output is coloured.

use std::ffi::OsStr;
use std::io::IsTerminal;

use clap::ColorChoice;

/// Whether text on this stream is coloured: `auto` means on a terminal, unless `NO_COLOR` is set (no-color.org).
pub(super) fn wanted(choice: ColorChoice, stream: &impl IsTerminal) -> bool {
    decide(choice, std::env::var_os("NO_COLOR").as_deref(), stream.is_terminal())
}

fn decide(choice: ColorChoice, no_color: Option<&OsStr>, terminal: bool) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => terminal && no_color.is_none_or(OsStr::is_empty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_wins_over_the_environment() {
        let set = Some(OsStr::new("1"));
        assert!(decide(ColorChoice::Always, set, false));
        assert!(!decide(ColorChoice::Never, None, true));
        assert!(decide(ColorChoice::Auto, None, true));
        assert!(decide(ColorChoice::Auto, Some(OsStr::new("")), true));
        assert!(!decide(ColorChoice::Auto, set, true));
        assert!(!decide(ColorChoice::Auto, None, false));
    }
}
