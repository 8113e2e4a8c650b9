#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use super::super::args::{self, PolicyCommand, RunArgs, VipMode};
use super::*;
use crate::policy::Limits;

fn line(words: &[&str]) -> Result<Cli, clap::Error> {
    parse(["pointsman"].iter().chain(words).map(OsString::from))
}

fn run(words: &[&str]) -> RunArgs {
    match line(words).unwrap_or_else(|error| panic!("{error}")).command {
        args::Command::Run(run) => *run,
        other => panic!("{other:?}"),
    }
}

/// What `run --config FILE`, and these words after it, make of a file with this text.
fn with_file(text: &str, words: &[&str]) -> Result<RunArgs, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pointsman.yaml");
    std::fs::write(&path, text).unwrap();
    let mut all = vec!["run", "--config", path.to_str().unwrap()];
    all.extend(words);
    match line(&all) {
        Ok(Cli { command: args::Command::Run(run), .. }) => Ok(*run),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string().replace(path.to_str().unwrap(), "FILE")),
    }
}

#[test]
fn the_definitions_hold_together() {
    Cli::command().debug_assert();
}

/// What follows a flattened group would stand below its heading.
#[test]
fn only_limits_stand_below_the_limits() {
    fn look(command: &Command) {
        for argument in command.get_arguments().filter(|argument| argument.get_help_heading().is_some_and(|it| it.starts_with("Limits"))) {
            let long = argument.get_long().unwrap_or_default();
            assert!(long.starts_with("policy-"), "{}: {long:?} ({})", command.get_name(), argument.get_id());
        }
        command.get_subcommands().for_each(look);
    }
    look(&Cli::command());
}

#[test]
fn the_flags_defaults_are_the_sandboxs() {
    let run = run(&["run", "-f", "a"]);
    assert_eq!(run.policies.sandbox.limits(), Limits::default());
}

#[test]
fn run_has_defaults_for_everything_but_the_manifests() {
    let run = run(&["run", "-f", "a", "b", "-f", "c"]);
    assert_eq!(run.cluster.files, ["a", "b", "c"].map(PathBuf::from));
    assert_eq!(run.cluster.node_port_range, 30000..=32767);
    assert_eq!(run.cluster.service_cidr, ["10.96.0.0/12".parse().unwrap()]);
    assert_eq!((run.vip_mode, run.drain_timeout), (VipMode::Auto, Duration::from_secs(30)));
    assert_eq!(run.admin, crate::admin::DEFAULT_ADDRESS);
    assert_eq!(line(&["run"]).unwrap_err().kind(), ErrorKind::MissingRequiredArgument);
}

#[test]
fn the_other_commands_are_understood() {
    let Cli { command: args::Command::Route(route), .. } =
        line(&["route", "-f", "a", "--client", "10.0.0.1", "--to", "10.97.72.1:80/udp"]).unwrap()
    else {
        panic!("not route")
    };
    assert_eq!((route.client.port, route.to.address.port()), (None, 80));
    let Cli { command: args::Command::Policy(PolicyCommand::Swap(swap)), .. } =
        line(&["policy", "swap", "mine", "a.wasm", "--admin", "127.0.0.1:1"]).unwrap()
    else {
        panic!("not swap")
    };
    assert_eq!((swap.name.as_str(), swap.engine.admin.port()), ("mine", 1));
    for words in [
        &["check", "-f", "a"][..],
        &["backend", "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"],
        &["completions", "bash"],
        &["policy", "list"],
        &["policy", "rollback", "mine", "--token-file", "t"],
        &["--color", "never", "check", "-f", "a"],
        &["check", "-f", "a", "--color=always"],
    ] {
        line(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }
}

#[test]
fn a_file_stands_for_flags_and_flags_win() {
    let text = "
file: [services/, extra.yaml]
node-ip:
  - 192.168.2.6
  - fd00::6
workers: 3
vip-mode: loopback
policy-memory: 8MiB
drain-timeout: 1m
";
    let run = with_file(text, &[]).unwrap();
    assert_eq!(run.cluster.files, ["services/", "extra.yaml"].map(PathBuf::from));
    assert_eq!(run.cluster.node_ip.len(), 2);
    assert_eq!(run.workers.map(usize::from), Some(3));
    assert_eq!((run.vip_mode, run.drain_timeout), (VipMode::Loopback, Duration::from_secs(60)));
    assert_eq!(run.policies.sandbox.policy_memory, 8 << 20);

    let run = with_file(text, &["-f", "other/", "--workers", "1", "--node-ip", "10.0.0.1"]).unwrap();
    assert_eq!(run.cluster.files, [PathBuf::from("other/")]);
    assert_eq!(run.workers.map(usize::from), Some(1));
    assert_eq!(run.cluster.node_ip, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(run.vip_mode, VipMode::Loopback);
}

#[test]
fn mistakes_in_the_file_name_file_line_and_remedy() {
    for (text, wanted) in [
        ("file: a\nworkrs: 3\n", "FILE:2: there is no option \"workrs\"; did you mean \"workers\"?"),
        ("file: a\n\nnode_name: x\n", "FILE:3: there is no option \"node_name\"; did you mean \"node-name\"?"),
        ("file: a\nquite-another-thing: x\n", "FILE:2: there is no option \"quite-another-thing\"; `pointsman run --help` lists them"),
        ("file: a\nworkers: many\n", "FILE:2: invalid value 'many' for '--workers <N>'"),
        ("file: a\nworkers: [1, 2]\n", "FILE:2: the argument '--workers <N>' cannot be used multiple times"),
        ("file: a\nvip-mode: loop\n", "[possible values: auto, anyip, loopback]"),
        ("file: a\nworkers:\n", "workers: has no value"),
        ("file: a\nworkers: {n: 1}\n", "workers: expected a value, or a list of values"),
        ("file: a\nconfig: other.yaml\n", "FILE:2: there is no option \"config\""),
        ("workers: 1\n", "no manifests: give -f PATH, or `file: [PATH]` in FILE"),
        ("# nothing\n", "no manifests"),
        ("- file\n", "FILE: "),
        ("file: a\nfile: b\n", "FILE: "),
    ] {
        let said = with_file(text, &[]).unwrap_err();
        assert!(said.contains(wanted), "{text:?} says {said:?}");
    }
    assert!(line(&["run", "--config", "/does/not/exist"]).unwrap_err().to_string().contains("cannot read /does/not/exist"));
}

#[test]
fn flags_that_need_each_other_may_both_stand_in_the_file() {
    let run = with_file("file: a\nrecord-sample: 1/100\nrecord: day.rec\n", &[]).unwrap();
    assert_eq!((run.record.record, run.record.record_sample.get()), (Some(PathBuf::from("day.rec")), 100));
    let run = with_file("file: a\nrecord-sample: 1/100\n", &["--record", "b.rec"]).unwrap();
    assert_eq!(run.record.record, Some(PathBuf::from("b.rec")));
    let said = with_file("file: a\nrecord-sample: 1/100\n", &[]).unwrap_err();
    assert!(said.contains("with FILE: the following required arguments were not provided") && said.contains("--record"), "{said}");
}

#[test]
fn flags_without_a_value_are_true_or_false() {
    assert!(with_file("file: a\nallow-exec-probes: true\n", &[]).unwrap().allow_exec_probes);
    assert!(!with_file("file: a\nallow-exec-probes: false\n", &[]).unwrap().allow_exec_probes);
    assert!(with_file("file: a\nallow-exec-probes: false\n", &["--allow-exec-probes"]).unwrap().allow_exec_probes);
    assert!(with_file("file: a\nallow-exec-probes: 3\n", &[]).unwrap_err().contains("FILE:2: allow-exec-probes: expected true or false"));
    assert_eq!(with_file("file: a\nnode-name: true\n", &[]).unwrap().cluster.node_name.as_deref(), Some("true"));
}

#[test]
fn route_and_check_take_what_they_know_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pointsman.yaml");
    std::fs::write(&path, "file: services/\nnode-name: node01\nadmin: 127.0.0.1:9\nworkers: 2\n").unwrap();
    let path = path.to_str().unwrap();
    let Cli { command: args::Command::Route(route), .. } =
        line(&["route", "--config", path, "--client", "10.0.0.1", "--to", "10.0.0.2:80"]).unwrap()
    else {
        panic!("not route")
    };
    assert_eq!((route.cluster.node_name.as_deref(), route.cluster.files.len()), (Some("node01"), 1));
    assert!(line(&["check", "--config", path]).is_ok());
}
