//! `exec`.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

async fn exec(command: &[&str], timeout: Duration) -> Answer {
    let command = command.iter().map(|&word| word.to_owned()).collect();
    asked(ProbeAction::Exec { command }, "127.0.0.1:0".parse().unwrap(), timeout).await
}

async fn sh(script: &str, timeout: Duration) -> Answer {
    exec(&["sh", "-c", script], timeout).await
}

/// Whether a process runs; one that ended may still wait for its parent.
fn runs(pid: i32) -> bool {
    let state = |stat: String| stat.rsplit(')').next().unwrap().trim_start().chars().next();
    kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
        && std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| state(stat) != Some('Z'))
}

#[tokio::test]
async fn status_0_is_success() {
    for (script, verdict, said) in [
        ("exit 0", Verdict::Success, "exit status: 0"),
        ("exit 3", Verdict::Failure, "exit status: 3"),
        ("echo; echo not yet; exit 1", Verdict::Failure, "exit status: 1: not yet"),
        ("echo words; echo why >&2; exit 1", Verdict::Failure, "exit status: 1: why"),
        ("kill -9 $$", Verdict::Failure, "signal: 9"),
    ] {
        let answer = sh(script, LONG).await;
        assert_eq!(answer.verdict, verdict, "{script}: {answer:?}");
        assert!(answer.message.starts_with(&format!("exec sh -c {script}: ")) && answer.message.contains(said), "{answer:?}");
    }
}

#[tokio::test]
async fn a_command_that_is_not_there_is_failure() {
    let answer = exec(&["/does/not/exist"], LONG).await;
    assert_eq!(answer.verdict, Verdict::Failure);
    assert!(answer.message.contains("No such file"), "{answer:?}");
    assert_eq!(exec(&[], LONG).await.verdict, Verdict::Failure);
}

#[tokio::test]
async fn our_environment_is_not_the_commands() {
    assert!(std::env::vars_os().count() > 1, "there is something to hide");
    // What is left is PATH and what a shell sets by itself.
    let script = r#"test -n "$PATH" && ! env | grep -qvE '^(PATH|PWD|OLDPWD|SHLVL|_)=' && test "$(pwd)" = / && ! read -r line"#;
    let answer = sh(script, LONG).await;
    assert_eq!(answer.verdict, Verdict::Success, "{answer:?}");
}

#[tokio::test]
async fn a_command_that_says_much_is_not_held_up() {
    let answer = sh("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2", LONG).await;
    assert_eq!(answer.verdict, Verdict::Success, "{answer:?}");
    assert!(answer.message.len() < 500);
}

#[tokio::test]
async fn at_the_timeout_the_command_and_all_it_started_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let script = format!("sleep 1000 & echo $$ $! > {0}.new; mv {0}.new {0}; wait", file.display());
    // On a busy machine the shell may need longer to get that far.
    for timeout in [100, 1_000, 10_000].map(Duration::from_millis) {
        let answer = sh(&script, timeout).await;
        assert_eq!(answer.verdict, Verdict::Failure);
        assert!(answer.message.ends_with(&format!("no answer within {timeout:?}")), "{answer:?}");
        if file.exists() {
            break;
        }
    }
    let pids = std::fs::read_to_string(&file).unwrap();
    let pids: Vec<i32> = pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    tokio::time::timeout(LONG, async {
        while pids.iter().any(|pid| runs(*pid)) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_a_command_leaves_running_neither_delays_it_nor_dies() {
    let answer = sh("sleep 1000 & echo $!", LONG).await;
    assert_eq!(answer.verdict, Verdict::Success, "{answer:?}");
    let pid: i32 = answer.message.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(runs(pid));
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}
