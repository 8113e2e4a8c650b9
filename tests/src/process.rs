//! A child process that cannot outlive the test, and whose standard error can be waited on.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::poll;

/// A running child. Killed, by its own id, when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts it; standard output and standard error are gathered line by line.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {name}: {command:?}"))?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut readers = Vec::new();
        if let Some(output) = child.stdout.take() {
            readers.push(gather(output, &log));
        }
        if let Some(output) = child.stderr.take() {
            readers.push(gather(output, &log));
        }
        Ok(Self { name: name.to_owned(), child, log, readers })
    }

    /// What it has written so far.
    pub fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line for which `pick` has an answer; fails at once when the process has ended.
    pub fn wait_for_line<T>(&mut self, what: &str, pick: impl Fn(&str) -> Option<T>) -> Result<T> {
        let name = self.name.clone();
        let found = poll::until(&format!("{name} to say {what}"), || {
            let line = self.log().iter().find_map(|line| pick(line));
            match line {
                Some(found) => Ok(Some(Ok(found))),
                None => Ok(self.ended()?.map(Err)),
            }
        });
        match found {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(status)) => bail!("{name} ended ({status}) before it said {what}:\n{}", self.log().join("\n")),
            Err(error) => Err(error.context(format!("it wrote:\n{}", self.log().join("\n")))),
        }
    }

    /// The exit status, once it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("asking after {}", self.name))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(id, signal).with_context(|| format!("sending {signal} to {}", self.name))
    }

    /// Waits for its end, then for the last of its output.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let name = self.name.clone();
        let status = poll::until(&format!("{name} to end"), || self.ended())?;
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end, and returns its output when it succeeded; else an error with all that it said.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("running {command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        bail!("{command:?} ended with {}:\n{}{}", output.status, text(&output.stdout), text(&output.stderr));
    }
    Ok(text(&output.stdout))
}

fn gather(output: impl std::io::Read + Send + 'static, log: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
            lock(&log).push(line);
        }
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
