//! Waiting for something to become so, with a bound, and with a message that says what never came.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a test waits for anything before it calls it broken. Generous: it is only ever reached by a failure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(10);

/// Asks `probe` until it has an answer; an error of the probe is kept for the message, not returned at once.
pub fn until<T>(what: &str, probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_for(PATIENCE, what, probe)
}

/// The same with a bound of one's own.
pub fn until_for<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        let said = match probe() {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => String::from("not yet"),
            Err(error) => format!("{error:#}"),
        };
        if started.elapsed() > patience {
            bail!("waited {}s for {what}; the last answer was: {said}", patience.as_secs());
        }
        std::thread::sleep(INTERVAL);
    }
}
