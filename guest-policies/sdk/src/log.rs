//! A line to the host's log, which cuts it at 256 bytes and lets ten a second through. Natively, to standard error.

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For the policy's author.
    Debug,
    /// For the record.
    Info,
    /// Somebody should look.
    Warn,
    /// The policy cannot do its work.
    Error,
}

/// A line at `level`.
pub fn log(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::glue::log(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?}: {message}");
}

/// A line for the policy's author.
pub fn debug(message: &str) {
    log(Level::Debug, message);
}

/// A line for the record.
pub fn info(message: &str) {
    log(Level::Info, message);
}

/// A line that somebody should look at.
pub fn warn(message: &str) {
    log(Level::Warn, message);
}

/// A line that says why the policy cannot do its work.
pub fn error(message: &str) {
    log(Level::Error, message);
}
