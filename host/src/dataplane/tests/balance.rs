//! Where connections go, and that none is lost on the way.

use std::time::Duration;

use crate::policy::contract::{OutcomeKind, Verdict};

use crate::dataplane::Config;

use super::rig::{Rig, ask, config, echo, ip, refusing, silent, was_reset, web};

#[tokio::test]
async fn three_thousand_connections_are_spread_and_accounted_for() {
    let endpoints = [echo("a").await, echo("b").await, echo("c").await];
    let rig = Rig::new(web(&endpoints));
    for _ in 0..100 {
        let asking: Vec<_> = futures(&rig, 30).await;
        for answer in asking {
            assert_eq!(answer.await.unwrap().unwrap().len(), 3);
        }
    }
    rig.until(|snapshot| snapshot.totals.closed == 3000).await;
    let service = rig.service().await;
    assert!(service.endpoints.values().all(|endpoint| endpoint.connections == 1000 && endpoint.active == 0), "{service:?}");
    let (snapshot, log) = rig.end(Duration::ZERO).await;
    assert_eq!((snapshot.totals.accepted, log.len()), (3000, 3000));
    assert!(
        log.iter().all(|line| line["outcome"] == "closed" && line["bytes_in"] == 2 && line["bytes_out"] == 3 && line["generation"] == 1)
    );
}

async fn futures(rig: &Rig, count: usize) -> Vec<tokio::task::JoinHandle<std::io::Result<Vec<u8>>>> {
    let mut asking = Vec::new();
    for _ in 0..count {
        asking.push(tokio::spawn(ask(rig.connect().await, b"??")));
    }
    asking
}

#[tokio::test]
async fn several_workers_serve_one_address() {
    let rig = Rig::with(&Config { workers: 3, ..config() }, web(&[echo("a").await]));
    assert_eq!(rig.plane.listeners(), 3);
    for _ in 0..10 {
        for answer in futures(&rig, 20).await {
            assert_eq!(answer.await.unwrap().unwrap(), b"a??");
        }
    }
    rig.until(|snapshot| snapshot.totals.closed == 200).await;
    let picks = rig.plane.snapshot().await.1;
    assert!(picks.len() == 3 && picks.iter().all(|picks| *picks > 0), "the kernel spreads them: {picks:?}");
}

#[tokio::test]
async fn a_verdict_of_reject_or_drop_is_a_reset_with_its_own_count() {
    let rig = Rig::new(web(&[echo("a").await]));
    for verdict in [Verdict::Reject, Verdict::Drop] {
        rig.script.verdict(verdict);
        was_reset(rig.attempt().await);
    }
    let totals = rig.snapshot().await.totals;
    assert_eq!((totals.accepted, totals.rejected, totals.dropped, totals.active), (2, 1, 1, 0));
    let (_, log) = rig.end(Duration::ZERO).await;
    assert_eq!((&log[0]["verdict"], &log[1]["verdict"]), (&"reject".into(), &"drop".into()));
    assert_eq!(log[1]["stages"][2]["not_asked"], "dropped");
}

#[tokio::test]
async fn a_silent_endpoint_costs_its_timeout_and_the_next_one_serves() {
    let (_socket, _queued, address) = silent().await;
    let rig = Rig::with(&Config { connect_timeout: Duration::from_millis(100), ..config() }, web(&[address, echo("a").await]));
    assert_eq!(ask(rig.connect().await, b"?").await.unwrap(), b"a?");
    let snapshot = rig.until(|snapshot| snapshot.totals.closed == 1).await;
    assert_eq!(snapshot.totals.connect_failures()[1], ("timed-out", 1));
    let (_, log) = rig.end(Duration::ZERO).await;
    assert_eq!(log[0]["attempts"][0]["result"], "timed-out");
    assert_eq!(log[0]["attempts"][0]["endpoint"], address.to_string());
}

#[tokio::test]
async fn when_nobody_can_be_reached_the_client_is_reset() {
    let (held, dead): (Vec<_>, Vec<_>) = (0..6).map(|_| refusing()).unzip();
    let rig = Rig::new(web(&dead));
    was_reset(rig.attempt().await);
    let snapshot = rig.until(|snapshot| snapshot.totals.connect_failed == 1).await;
    assert_eq!(snapshot.totals.failures, [4, 0, 0, 0], "four attempts, no more");
    assert_eq!(snapshot.totals.forwarded(), 1);
    let tried = rig.service().await.endpoints.values().filter(|endpoint| endpoint.failures[0] == 1).count();
    assert_eq!(tried, 4, "none twice");
    let (_, log) = rig.end(Duration::ZERO).await;
    assert_eq!((&log[0]["outcome"], &log[0]["verdict"]), (&"connect-failed".into(), &"forward".into()));
    drop(held);
}

#[tokio::test]
async fn policies_are_told_what_became_of_their_picks() {
    let (_socket, refused) = refusing();
    let rig = Rig::new(web(&[refused, echo("a").await]));
    ask(rig.connect().await, b"?").await.unwrap();
    let kinds = super::rig::within(async {
        loop {
            let kinds: Vec<_> = rig.script.outcomes().iter().map(|outcome| outcome.kind).collect();
            if kinds.len() == 3 {
                break kinds;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert_eq!(kinds.await, [OutcomeKind::Refused, OutcomeKind::Connected, OutcomeKind::Closed]);
}

#[tokio::test]
async fn affinity_holds_a_client_until_its_endpoint_leaves_or_fails() {
    let endpoints = [echo("a").await, echo("b").await, echo("c").await];
    let sticky = |endpoints: &[std::net::SocketAddr]| {
        let mut port = web(endpoints);
        port.options.affinity = Some(Duration::from_secs(600));
        port
    };
    let mut rig = Rig::new(sticky(&endpoints));
    let mut answers = Vec::new();
    for _ in 0..5 {
        let client = rig.connect().await;
        assert!(ip(&client).is_loopback());
        answers.push(ask(client, b"").await.unwrap());
    }
    assert!(answers.iter().all(|answer| answer == b"a"), "{answers:?}");
    rig.publish(Some(sticky(&endpoints[1..])));
    let moved = ask(rig.connect().await, b"").await.unwrap();
    assert_ne!(moved, b"a");
    assert_eq!(ask(rig.connect().await, b"").await.unwrap(), moved);
    let (_socket, dead) = refusing();
    let other = if moved == b"b" { endpoints[2] } else { endpoints[1] };
    rig.publish(Some(sticky(&[dead, other])));
    let last = ask(rig.connect().await, b"").await.unwrap();
    assert_ne!(last, moved);
    assert_eq!(ask(rig.connect().await, b"").await.unwrap(), last);
    let (_, log) = rig.end(Duration::from_secs(5)).await;
    assert_eq!(log[1]["stages"][2]["not_asked"], "session affinity");
}
