use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::*;
use crate::observe::fixture::{endpoint, port};
use crate::observe::{ConnectError, ConnectFailure, Outcome};
use crate::policy::contract::{Fault, Verdict};
use crate::route::{By, Decision, Fate, Reason, Shadowed};
use crate::table::{FrontendKey, FrontendKind, Origin, Planned, PolicyVersion, Port, Protocol, Shadow, VersionId};

/// A file that can be read back.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Memory {
    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn record() -> ConnectionRecord {
    ConnectionRecord {
        at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_780_000_000_123),
        worker: 1,
        generation: 42,
        port: Arc::new(port(0, "web", vec![endpoint("127.0.0.1:4000"), endpoint("127.0.0.1:4001")])),
        frontend: FrontendKey { ip: "10.97.72.1".parse().unwrap(), port: 80, protocol: Protocol::Tcp },
        kind: FrontendKind::ClusterIp,
        client: "127.0.0.1:5123".parse().unwrap(),
        origin: Origin::Outside,
        decision: Decision {
            group: None,
            selector: By::Current,
            verdict: Verdict::Forward(0),
            traffic_policy: By::Current,
            set: Some(0),
            balancer: By::Current,
            fate: Fate::Forward(0),
            shadow: None,
        },
        source: Default::default(),
        failures: vec![],
        outcome: Outcome::Closed,
        bytes_in: 10,
        bytes_out: 20,
        recorded: None,
        duration: Duration::from_millis(5),
    }
}

fn written(record: ConnectionRecord) -> Value {
    let memory = Memory::default();
    let log = DecisionLog::start(memory.clone()).unwrap();
    log.sender().send(Box::new(record));
    log.close();
    memory.lines().remove(0)
}

#[test]
fn a_line_says_everything_of_a_connection() {
    assert_eq!(
        written(record()),
        json!({
            "time": "2026-05-28T20:26:40.123Z", "generation": 42, "service": "default/web:80", "frontend": "cluster-ip",
            "address": "10.97.72.1:80", "protocol": "tcp", "client": "127.0.0.1:5123", "origin": "outside",
            "stages": [
                {"stage": "selector", "policy": "label-selector", "digest": "sha256:0", "choice": "any group"},
                {"stage": "traffic-policy", "policy": "kubernetes", "digest": "sha256:1", "choice": "cluster"},
                {"stage": "balancer", "policy": "round-robin", "digest": "sha256:2", "choice": "127.0.0.1:4000"},
            ],
            "verdict": "forward", "endpoint": "127.0.0.1:4000", "source": "node", "outcome": "closed",
            "bytes_in": 10, "bytes_out": 20, "duration_ms": 5, "worker": 1,
        })
    );
}

#[test]
fn a_stage_that_was_not_asked_says_why() {
    let mut record = record();
    record.outcome = Outcome::Dropped;
    record.decision.verdict = Verdict::Drop;
    record.decision.balancer = By::NotAsked("dropped");
    record.decision.fate = Fate::Drop(Reason::TrafficPolicy);
    let line = written(record);
    assert_eq!((&line["verdict"], &line["reason"]), (&json!("drop"), &json!("the traffic policy said so")));
    assert_eq!(line["stages"][1]["choice"], "drop");
    assert_eq!(line["stages"][2], json!({"stage": "balancer", "policy": "round-robin", "digest": "sha256:2", "not_asked": "dropped"}));
    assert_eq!(line.get("endpoint"), None);
}

#[test]
fn fallbacks_and_failed_attempts_are_named() {
    let mut record = record();
    record.decision.selector = By::Fallback(Box::new(Fault::OutOfFuel));
    record.decision.balancer = By::StandIn(Box::new(Fault::Trap("unreachable \"\n\u{1b}[31m".into())));
    record.failures = vec![ConnectFailure { endpoint: "127.0.0.1:4001".into(), why: ConnectError::Refused }];
    let line = written(record.clone());
    assert_eq!((&line["stages"][0]["by"], &line["stages"][0]["fallback"]), (&json!("native"), &json!("used up its fuel")));
    assert_eq!(line["stages"][2]["by"], "stand-in");
    assert_eq!(line["stages"][2]["fallback"], "trap: unreachable \"\n\u{1b}[31m", "a guest's text stays inside its string");
    assert_eq!(line["attempts"], json!([{"endpoint": "127.0.0.1:4001", "result": "refused"}]));
    record.outcome = Outcome::ConnectFailed;
    record.decision.fate = Fate::Reject(Reason::NoneLeft);
    let line = written(record);
    assert_eq!((&line["verdict"], &line["reason"]), (&json!("forward"), &json!("no endpoint is left to try")));
}

/// Blocks in `write` until it is let go.
struct Stuck(Receiver<()>, std::sync::mpsc::Sender<()>, Memory);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.1.send(());
        let _ = self.0.recv();
        self.2.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_writer_stops_nobody_and_what_it_misses_is_counted() {
    let (memory, (go, wait), (writing, stuck)) = (Memory::default(), channel(), channel());
    let log = DecisionLog::with_capacity(Stuck(wait, writing, memory.clone()), 4).unwrap();
    let sender = log.sender();
    sender.send(Box::new(record()));
    stuck.recv_timeout(Duration::from_secs(10)).unwrap();
    for _ in 0..10 {
        sender.send(Box::new(record()));
    }
    assert_eq!(log.dropped(), 6, "one is being written, four wait");
    drop(go);
    let counts = Arc::clone(&log.sender.counts);
    log.close();
    assert_eq!((counts.written.load(Ordering::Relaxed), counts.dropped.load(Ordering::Relaxed)), (5, 6));
    let dropped: u64 = memory.lines().iter().filter_map(|line| line["dropped"].as_u64()).sum();
    assert_eq!((memory.lines().iter().filter(|line| line.get("client").is_some()).count(), dropped), (5, 6));
}

struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_loses_lines_and_counts_them() {
    let log = DecisionLog::start(Full).unwrap();
    let counts = Arc::clone(&log.sender.counts);
    let sender = log.sender();
    (0..3).for_each(|_| sender.send(Box::new(record())));
    log.close();
    sender.send(Box::new(record()));
    assert_eq!((counts.written.load(Ordering::Relaxed), counts.dropped.load(Ordering::Relaxed)), (0, 4));
}

#[test]
fn a_file_is_appended_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("decisions.log");
    for _ in 0..2 {
        let log = DecisionLog::open(&path).unwrap();
        log.sender().send(Box::new(record()));
        log.close();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
}

/// A port on which maglev is tried, which said this.
fn tried(canary: bool, candidate: Result<u32, Fault>, balancer: By) -> Value {
    let mut record = record();
    let version = PolicyVersion { id: VersionId(9), name: "maglev".into(), digest: "sha256:9".into() };
    let planned = Some(Planned { version: Arc::new(version), plan: Arc::from([]) });
    let shadow = Shadow { name: "maglev".into(), planned, since: 1, canary: None };
    record.port = Arc::new(Port { shadow: Some(Box::new(shadow)), ..Port::clone(&record.port) });
    record.decision.balancer = balancer;
    let shadowed = Shadowed { canary, candidate: candidate.map_err(Box::new), balancer: Ok(0), fuel: [1, 1] };
    record.decision.shadow = Some(Box::new(shadowed));
    written(record)["stages"][2].clone()
}

#[test]
fn a_line_says_what_the_balancer_that_is_tried_said() {
    let shadow = json!({"policy": "maglev", "digest": "sha256:9", "choice": "127.0.0.1:4001", "canary": false});
    let expected = json!({
        "stage": "balancer", "policy": "round-robin", "digest": "sha256:2", "choice": "127.0.0.1:4000", "shadow": shadow
    });
    assert_eq!(tried(false, Ok(1), By::Current), expected);
    let shadow = json!({"policy": "maglev", "digest": "sha256:9", "fault": "ran past its deadline", "canary": true});
    assert_eq!(tried(true, Err(Fault::Deadline), By::Current)["shadow"], shadow);
    let canary = tried(true, Ok(0), By::Canary);
    assert_eq!((&canary["policy"], &canary["digest"], &canary["by"]), (&json!("maglev"), &json!("sha256:9"), &json!("canary")));
    assert_eq!(canary["shadow"]["canary"], true);
}
