//! UDP: endpoints that refuse, and clients that are refused.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::dataplane::tests::rig::{Rig, config, key_of, within};
use crate::observe::Snapshot;
use crate::policy::contract::Verdict;
use crate::table::Protocol;

use super::udp::{answering, client, query, ready, receive, rig};

/// An address where nobody is: its port was the kernel's to give, and it gives others meanwhile.
async fn nobody(address: &str) -> SocketAddr {
    UdpSocket::bind(address).await.unwrap().local_addr().unwrap()
}

/// Whether refusals can be sent here: they need CAP_NET_RAW.
fn may_refuse() -> bool {
    let raw = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(socket2::Protocol::from(255)));
    if let Err(error) = &raw {
        eprintln!("refusals are not tested: no raw sockets here ({error})");
    }
    raw.is_ok()
}

/// The client is told, if that can be done; either way it is counted.
async fn assert_refused(rig: &Rig, client: &UdpSocket, refusals: u64) -> Snapshot {
    let result = if may_refuse() {
        assert_eq!(receive(client).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        "sent"
    } else {
        "not-permitted"
    };
    rig.until(|snapshot| snapshot.refusals.get(result) == Some(&refusals)).await
}

#[tokio::test]
async fn a_question_that_is_refused_goes_to_the_next_endpoint() {
    for (ip, loopback) in [("10.97.72.1", "127.0.0.1:0"), ("fd00::1", "[::1]:0")] {
        let refusing = nobody(loopback).await;
        let mut port = ready(&[refusing, answering("here", loopback).await]);
        port.options.affinity = Some(Duration::from_secs(600));
        let loads: Vec<_> = port.endpoints.iter().map(|endpoint| endpoint.load.clone()).collect();
        let rig = Rig::on(key_of(ip, Protocol::Udp), &config(), port);
        let client = client(&rig).await;
        assert_eq!(query(&client, b"?").await.unwrap(), "here?");
        let service = rig.service().await;
        let failed = &service.endpoints[refusing.to_string().as_str()];
        assert_eq!((failed.connect_failures()[0], failed.active), (("refused", 1), 0));
        assert_eq!((service.tally.accepted, service.tally.active, loads[0].active(), loads[1].active()), (1, 1, 0, 1));
        let (_, log) = rig.end(Duration::ZERO).await;
        assert_eq!((log.len(), &log[0]["attempts"][0]["result"]), (1, &"refused".into()));
        assert_ne!(log[0]["endpoint"], refusing.to_string());
    }
}

#[tokio::test]
async fn affinity_lets_go_of_an_endpoint_that_refuses() {
    let backend = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let leaving = backend.local_addr().unwrap();
    let mut port = ready(&[leaving, answering("other", "127.0.0.1:0").await]);
    port.options.affinity = Some(Duration::from_secs(600));
    let rig = rig(port);
    let first = client(&rig).await;
    first.send(b"?").await.unwrap();
    assert_eq!(receive(&backend).await.unwrap(), b"?");
    drop(backend);
    // The same client, pinned to where nobody is any more.
    let second = client(&rig).await;
    assert_eq!(query(&second, b"?").await.unwrap(), "other?");
    assert_eq!(query(&client(&rig).await, b"?").await.unwrap(), "other?", "pinned there now");
    let (_, log) = rig.end(Duration::ZERO).await;
    let pinned: Vec<_> = log.iter().filter(|line| line["stages"][2]["not_asked"] == "session affinity").collect();
    assert!(pinned.iter().all(|line| line["endpoint"] != leaving.to_string()), "{pinned:?}");
}

/// A flow that was answered is not carried over: its endpoint knew it. The client's next datagram begins another.
#[tokio::test]
async fn an_endpoint_that_dies_ends_its_flows_and_the_next_datagram_finds_another() {
    let backend = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let rig = rig(ready(&[backend.local_addr().unwrap(), answering("other", "127.0.0.1:0").await]));
    let client = client(&rig).await;
    client.send(b"?").await.unwrap();
    let mut question = [0; 8];
    let (_, from) = within(backend.recv_from(&mut question)).await.unwrap();
    backend.send_to(b"!", from).await.unwrap();
    assert_eq!(receive(&client).await.unwrap(), b"!");
    drop(backend);
    client.send(b"lost").await.unwrap();
    rig.until(|snapshot| snapshot.totals.reset == 1).await;
    assert_eq!(query(&client, b"?").await.unwrap(), "other?");
    let totals = rig.snapshot().await.totals;
    assert_eq!((totals.accepted, totals.reset, totals.active, totals.connect_failures()[0]), (2, 1, 1, ("refused", 1)));
}

#[tokio::test]
async fn a_client_whom_nobody_can_serve_is_refused() {
    for (ip, loopback) in [("10.97.72.1", "127.0.0.1:0"), ("fd00::1", "[::1]:0")] {
        let port = ready(&[nobody(loopback).await, nobody(loopback).await]);
        let rig = Rig::on(key_of(ip, Protocol::Udp), &config(), port);
        let client = client(&rig).await;
        client.send(b"anybody?").await.unwrap();
        let snapshot = assert_refused(&rig, &client, 1).await;
        let totals = snapshot.totals;
        assert_eq!((totals.accepted, totals.connect_failed, totals.active, totals.failures[0]), (1, 1, 0, 2));
        let (_, log) = rig.end(Duration::ZERO).await;
        assert_eq!((&log[0]["outcome"], log[0]["attempts"].as_array().unwrap().len()), (&"connect-failed".into(), 2));
    }
}

/// Several datagrams of one client in one batch, and nobody there: one flow, one refusal, and every datagram accounted for.
#[tokio::test]
async fn a_burst_to_nobody_is_one_flow() {
    let rig = rig(ready(&[nobody("127.0.0.1:0").await, nobody("127.0.0.1:0").await]));
    let script = rig.script.clone();
    let held = script.hold();
    let (first, second) = (client(&rig).await, client(&rig).await);
    // While the worker stands still with the first client's datagram, the second's gather.
    first.send(b"x").await.unwrap();
    for _ in 0..10 {
        second.send(b"x").await.unwrap();
    }
    drop(held);
    let snapshot = rig.until(|snapshot| snapshot.totals.connect_failed >= 2 && snapshot.totals.active == 0).await;
    let refusals: u64 = snapshot.refusals.values().sum();
    assert_eq!(refusals, snapshot.totals.connect_failed, "{snapshot:?}");
}

#[tokio::test]
async fn reject_is_a_refusal_and_drop_is_silence() {
    let rig = rig(ready(&[answering("", "127.0.0.1:0").await]));
    let client = client(&rig).await;
    rig.script.verdict(Verdict::Drop);
    client.send(b"x").await.unwrap();
    let snapshot = rig.until(|snapshot| snapshot.totals.dropped == 1).await;
    assert!(snapshot.refusals.is_empty());
    rig.script.verdict(Verdict::Reject);
    client.send(b"x").await.unwrap();
    let snapshot = assert_refused(&rig, &client, 1).await;
    assert_eq!((snapshot.totals.rejected, snapshot.totals.accepted, snapshot.totals.active), (1, 2, 0));
    rig.script.verdict(Verdict::Forward(0));
    assert_eq!(query(&client, b"now").await.unwrap(), "now");
}

#[tokio::test]
async fn without_endpoints_the_kernel_refuses() {
    let endpoint = answering("", "127.0.0.1:0").await;
    let mut rig = rig(ready(&[endpoint]));
    let client = client(&rig).await;
    assert_eq!(query(&client, b"x").await.unwrap(), "x");
    rig.publish(Some(ready(&[])));
    rig.snapshot().await;
    assert!(rig.plane.bound().is_empty());
    client.send(b"x").await.unwrap();
    assert_eq!(receive(&client).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(rig.snapshot().await.refusals.is_empty(), "it was not us");
}
