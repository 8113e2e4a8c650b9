//! The table changes while connections come and live.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::dataplane::Config;

use super::rig::{Rig, ask, config, echo, loopback, silent, web, within};

#[tokio::test]
async fn what_is_queued_when_a_frontend_goes_is_served() {
    let mut rig = Rig::new(web(&[echo("a").await]));
    let script = rig.script.clone();
    let held = script.hold();
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(rig.connect().await);
    }
    let address = rig.address();
    // The worker stands still with its first connection; the others are in the kernel's queue.
    rig.publish(None);
    drop(held);
    for client in clients {
        assert_eq!(ask(client, b"?").await.unwrap(), b"a?");
    }
    let snapshot = rig.until(|snapshot| snapshot.totals.closed == 40).await;
    assert_eq!(snapshot.totals.accepted, 40);
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(rig.script.forgotten(), [0]);
    assert!(rig.plane.bound().is_empty());
}

#[tokio::test]
async fn without_endpoints_the_kernel_refuses_and_old_connections_go_on() {
    let endpoint = echo("").await;
    let mut rig = Rig::new(web(&[endpoint]));
    let address = rig.address();
    let mut old = rig.connect().await;
    rig.until(|snapshot| snapshot.totals.active == 1).await;
    rig.publish(Some(web(&[])));
    rig.snapshot().await;
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(rig.plane.not_served().iter().all(|not_served| not_served.by_design), "refusing is the answer");
    old.write_all(b"x").await.unwrap();
    assert_eq!(within(old.read_u8()).await.unwrap(), b'x');
    rig.publish(Some(web(&[endpoint])));
    assert_eq!(ask(rig.connect().await, b"back").await.unwrap(), b"back");
}

#[tokio::test]
async fn a_retry_obeys_the_table_that_is_in_force_by_then() {
    let (_socket, _queued, silent) = silent().await;
    let (leaving, coming) = (echo("leaving").await, echo("coming").await);
    let mut rig = Rig::with(&Config { connect_timeout: Duration::from_millis(500), ..config() }, web(&[silent, leaving]));
    let client = rig.connect().await;
    rig.until(|snapshot| snapshot.totals.active == 1).await;
    rig.publish(Some(web(&[silent, coming])));
    assert_eq!(ask(client, b"").await.unwrap(), b"coming");
    let (_, log) = rig.end(Duration::from_secs(5)).await;
    assert_eq!((&log[0]["generation"], &log[0]["attempts"][0]["result"]), (&2.into(), &"timed-out".into()));
}

#[tokio::test]
async fn load_is_counted_from_pick_to_close() {
    let port = web(&[echo("").await]);
    let load = std::sync::Arc::clone(&port.endpoints[0].load);
    let rig = Rig::new(port);
    let clients = [rig.connect().await, rig.connect().await];
    rig.until(|snapshot| snapshot.totals.active == 2).await;
    assert_eq!(load.active(), 2);
    drop(clients);
    rig.until(|snapshot| snapshot.totals.closed == 2).await;
    assert_eq!(load.active(), 0);
}

/// Connections that are accepted in one go were once all decided before the first was counted: balancers that go by load put them all
/// on one endpoint.
#[tokio::test]
async fn a_pick_sees_every_connection_that_was_decided_before_it() {
    let rig = Rig::new(web(&[echo("").await, echo("").await]));
    let script = rig.script.clone();
    let held = script.hold();
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(rig.connect().await);
    }
    // The worker stands still with its first connection; the others are in the kernel's queue.
    drop(held);
    rig.until(|snapshot| snapshot.totals.active == 40).await;
    assert_eq!(script.loads(), (0..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_hundred_tables_a_second_lose_nothing() {
    let endpoints = [echo("a").await, echo("b").await];
    let mut rig = Rig::with(&Config { workers: 2, ..config() }, web(&endpoints));
    let address = rig.address();
    let clients = tokio::spawn(async move {
        for _ in 0..500 {
            let client = TcpStream::connect(address).await.unwrap();
            assert_eq!(ask(client, b"?").await.unwrap().len(), 2);
        }
    });
    let mut tables = 0;
    while !clients.is_finished() {
        rig.publish(Some(web(&endpoints[tables % 2..])));
        tables += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    within(clients).await.unwrap();
    assert!(tables > 1);
    rig.until(|snapshot| snapshot.totals.closed == 500).await;
    assert!(!rig.plane.retry(&loopback), "nothing had failed");
}

/// Every endpoint is replaced at once: the table that masks the old ones is in force before the plan that knows the new ones. A
/// connection in between waits for that plan, and the listener stays.
#[tokio::test]
async fn a_connection_between_the_mask_and_the_plan_waits_for_the_plan() {
    let (leaving, coming) = (echo("leaving").await, echo("coming").await);
    let mut rig = Rig::new(web(&[leaving]));
    let mut masked = web(&[leaving]);
    masked.masked = [0].into();
    rig.publish(Some(masked.clone()));
    let clients: Vec<TcpStream> = vec![rig.connect().await, rig.connect().await];
    // They count while they wait, against the limit of connections and for a drain.
    rig.until(|snapshot| snapshot.totals.active == 2).await;
    rig.publish(Some(web(&[coming])));
    for client in clients {
        assert_eq!(ask(client, b"?").await.unwrap(), b"coming?");
    }
    // With a plan that has nobody, they are refused, once, and counted as what they are.
    rig.publish(Some(masked));
    let client = rig.connect().await;
    rig.until(|snapshot| snapshot.totals.active == 1).await;
    rig.publish(Some(web(&[])));
    assert_eq!(ask(client, b"?").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let snapshot = rig.until(|snapshot| snapshot.totals.active == 0).await;
    assert_eq!((snapshot.totals.closed, snapshot.totals.rejected, snapshot.totals.accepted), (2, 1, 3));
}
