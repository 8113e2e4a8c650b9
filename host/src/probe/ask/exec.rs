//! `exec`: a command on this host; status 0 is success.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::probe::schedule::{Answer, Verdict};

/// What is kept of a command's output: as much as the kubelet reads (pkg/probe/exec).
const MAX_OUTPUT: usize = 10 * 1024;

/// What a message shows of it.
const MAX_SHOWN: usize = 200;

/// How long the end of the output is waited for after the command ended: something it left running may hold the pipe open.
const LAST_OUTPUT: Duration = Duration::from_millis(50);

/// Runs the command with nothing of our environment but PATH, since that may hold secrets, and in a process group of its own.
pub(super) async fn ask(command: &[String]) -> Answer {
    let what = shown(command);
    let Some((program, arguments)) = command.split_first() else { return Answer::failure("the command is empty".to_owned()) };
    let mut prepared = Command::new(program);
    prepared.args(arguments).env_clear().current_dir("/").process_group(0).kill_on_drop(true);
    prepared.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(path) = std::env::var_os("PATH") {
        prepared.env("PATH", path);
    }
    let mut child = match prepared.spawn() {
        Ok(child) => child,
        Err(error) => return Answer::error(&what, &error),
    };
    let group = Group::of(&child);
    let mut output = (Vec::new(), Vec::new());
    let ended = run(&mut child, &mut output).await;
    match ended {
        Ok(status) => {
            group.leave();
            answer(&what, status, &output)
        }
        Err(error) => Answer { verdict: Verdict::Unknown, message: format!("{what}: {error}") },
    }
}

/// Waits for the end of the command while taking its output in, so that a command that says much is not held up.
async fn run(child: &mut Child, (errors, words): &mut (Vec<u8>, Vec<u8>)) -> std::io::Result<ExitStatus> {
    let (stderr, stdout) = (child.stderr.take(), child.stdout.take());
    let output = async { tokio::join!(drain(stderr, errors), drain(stdout, words)) };
    tokio::pin!(output);
    let status = tokio::select! {
        status = child.wait() => status?,
        _ = &mut output => return child.wait().await,
    };
    let _ = timeout(LAST_OUTPUT, output).await;
    Ok(status)
}

/// Reads to the end and keeps the beginning.
async fn drain(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut chunk = [0; 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..read.min(MAX_OUTPUT - kept.len())]);
    }
}

fn answer(what: &str, status: ExitStatus, (errors, words): &(Vec<u8>, Vec<u8>)) -> Answer {
    let said = if errors.is_empty() { words } else { errors };
    let said = String::from_utf8_lossy(said);
    let first = said.lines().map(printable).find(|line| !line.is_empty()).map(|line| format!(": {line}")).unwrap_or_default();
    let message = format!("{what}: {status}{first}");
    if status.success() { Answer::success(message) } else { Answer::failure(message) }
}

/// The command, for messages.
pub(super) fn shown(command: &[String]) -> String {
    format!("exec {}", printable(&command.join(" ")))
}

fn printable(text: &str) -> String {
    text.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(MAX_SHOWN).collect()
}

/// A process group that dies with this value, until it is left.
struct Group(Option<Pid>);

impl Group {
    /// The child leads its group; before it is waited for, nobody else can have its number.
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    /// The command ended by itself. What it left running goes on, as it would in a container.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}
