//! Limits, and the end.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::dataplane::Config;

use super::rig::{Rig, ask, config, echo, rest, was_reset, web, within};

#[tokio::test]
async fn a_connection_ends_in_order_at_its_maximum_age() {
    let mut port = web(&[echo("hello").await]);
    port.options.max_connection_age = Some(Duration::from_millis(200));
    let rig = Rig::new(port);
    assert_eq!(rest(&mut rig.connect().await).await.unwrap(), b"hello", "an end of stream, no reset");
    let snapshot = rig.until(|snapshot| snapshot.totals.active == 0).await;
    assert_eq!(snapshot.totals.aged, 1);
}

#[tokio::test]
async fn at_the_limit_connections_wait_in_the_queue() {
    let rig = Rig::with(&Config { max_connections: 2, ..config() }, web(&[echo("").await]));
    let (first, _second) = (rig.connect().await, rig.connect().await);
    rig.until(|snapshot| snapshot.totals.active == 2).await;
    let mut third = rig.connect().await;
    third.write_all(b"x").await.unwrap();
    let snapshot = rig.until(|snapshot| snapshot.accept_pauses > 0).await;
    assert_eq!(snapshot.totals.accepted, 2);
    drop(first);
    assert_eq!(within(third.read_u8()).await.unwrap(), b'x');
}

#[tokio::test]
async fn a_drain_waits_for_connections_and_serves_what_is_queued() {
    let rig = Rig::new(web(&[echo("").await]));
    let address = rig.address();
    let mut old = rig.connect().await;
    rig.until(|snapshot| snapshot.totals.active == 1).await;
    let script = rig.script.clone();
    let held = script.hold();
    let queued = rig.connect().await;
    let drain = tokio::spawn(rig.end(Duration::from_secs(600)));
    drop(held);
    assert_eq!(ask(queued, b"just in time").await.unwrap(), b"just in time");
    within(async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    old.write_all(b"x").await.unwrap();
    assert_eq!(within(old.read_u8()).await.unwrap(), b'x');
    drop(old);
    let (snapshot, _) = within(drain).await.unwrap();
    assert!(snapshot.totals.balances() && snapshot.totals.active == 0 && snapshot.totals.drained == 0, "{snapshot:?}");
}

#[tokio::test]
async fn what_is_open_at_the_deadline_is_reset_and_counted() {
    let port = web(&[echo("").await]);
    let load = std::sync::Arc::clone(&port.endpoints[0].load);
    let rig = Rig::new(port);
    let mut clients = vec![];
    for _ in 0..5 {
        clients.push(rig.connect().await);
    }
    rig.until(|snapshot| snapshot.totals.active == 5).await;
    let (snapshot, log) = rig.end(Duration::from_millis(50)).await;
    assert_eq!((snapshot.totals.drained, snapshot.totals.active, load.active()), (5, 0, 0));
    assert!(snapshot.totals.balances());
    for mut client in clients {
        was_reset(rest(&mut client).await);
    }
    assert_eq!(log.iter().filter(|line| line["outcome"] == "drained").count(), 5);
}
