//! UDP: datagrams there and back.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::dataplane::{Config, UdpLimits};
use crate::observe::Snapshot;
use crate::table::{Port, Protocol};

use super::rig::{Rig, ask, config, echo, key_of, web, within};

/// `default/web` with these endpoints, all ready.
pub(super) fn ready(endpoints: &[SocketAddr]) -> Port {
    let mut port = web(endpoints);
    let mut endpoints = port.endpoints.to_vec();
    for endpoint in &mut endpoints {
        (endpoint.conditions.ready, endpoint.conditions.serving) = (true, true);
    }
    port.endpoints = endpoints.into();
    port
}

pub(super) fn rig(port: Port) -> Rig {
    rig_with(&config(), port)
}

pub(super) fn rig_with(config: &Config, port: Port) -> Rig {
    Rig::on(key_of("10.97.72.1", Protocol::Udp), config, port)
}

pub(super) async fn socket(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).await.unwrap();
    socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
    socket
}

/// An endpoint that answers every datagram with its name and what it got.
pub(super) async fn answering(name: &'static str, address: &str) -> SocketAddr {
    let socket = socket(address).await;
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((bytes, from)) = socket.recv_from(&mut buffer).await {
            let answer = [name.as_bytes(), &buffer[..bytes]].concat();
            socket.send_to(&answer, from).await.unwrap();
        }
    });
    address
}

/// A client that talks to the Service alone.
pub(super) async fn client(rig: &Rig) -> UdpSocket {
    let address = rig.address();
    let socket = socket(if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).await;
    socket.connect(address).await.unwrap();
    socket
}

pub(super) async fn receive(client: &UdpSocket) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 65_536];
    let bytes = within(client.recv(&mut buffer)).await?;
    buffer.truncate(bytes);
    Ok(buffer)
}

/// A question, and what is answered.
pub(super) async fn query(client: &UdpSocket, question: &[u8]) -> std::io::Result<String> {
    within(client.send(question)).await?;
    receive(client).await.map(|answer| String::from_utf8(answer).unwrap())
}

#[tokio::test]
async fn many_clients_are_answered_and_counted() {
    let rig = rig(ready(&[answering("a", "127.0.0.1:0").await, answering("b", "127.0.0.1:0").await]));
    let mut clients = Vec::new();
    for n in 0..100 {
        let client = client(&rig).await;
        let first = query(&client, format!("{n}").as_bytes()).await.unwrap();
        assert_eq!(first, format!("{}{n}", if n % 2 == 0 { "a" } else { "b" }), "round robin");
        clients.push((client, first));
    }
    for (client, first) in &clients {
        for _ in 0..2 {
            assert_eq!(query(client, &first.as_bytes()[1..]).await.unwrap(), *first, "a flow keeps its endpoint");
        }
    }
    let snapshot = rig.until(|snapshot| snapshot.totals.datagrams_out == 300).await;
    // Of three rounds, ten questions have one digit and ninety have two.
    let bytes = 3 * (10 + 180);
    let totals = snapshot.totals;
    assert_eq!(
        (totals.accepted, totals.active, totals.datagrams_in, totals.bytes_in, totals.bytes_out),
        (100, 100, 300, bytes, bytes + 300)
    );
    let service = rig.service().await;
    assert_eq!(
        service.endpoints.values().map(|endpoint| (endpoint.connections, endpoint.datagrams_in)).collect::<Vec<_>>(),
        [(50, 150); 2]
    );
    assert!(snapshot.datagrams_lost.is_empty(), "{:?}", snapshot.datagrams_lost);
    let (snapshot, log) = rig.end(Duration::ZERO).await;
    assert_eq!((snapshot.totals.drained, snapshot.totals.active, log.len()), (100, 0, 100));
    let line = &log[0];
    assert_eq!((&line["address"], &line["protocol"], &line["outcome"]), (&"10.97.72.1:80".into(), &"udp".into(), &"drained".into()));
    assert!(log.iter().all(|line| line["endpoint"].is_string() && line["bytes_in"].as_u64() < line["bytes_out"].as_u64()));
}

#[tokio::test]
async fn answers_come_from_the_address_that_was_asked() {
    for (ip, endpoint) in [("10.97.72.1", "127.0.0.1:0"), ("fd00::1", "[::1]:0")] {
        let rig = Rig::on(key_of(ip, Protocol::Udp), &config(), ready(&[answering("", endpoint).await]));
        let address = rig.address();
        // Not connected: the kernel would keep from it what comes from elsewhere.
        let client = socket(endpoint).await;
        client.send_to(b"who?", address).await.unwrap();
        let mut buffer = [0; 8];
        let (bytes, from) = within(client.recv_from(&mut buffer)).await.unwrap();
        assert_eq!((&buffer[..bytes], from), (&b"who?"[..], address));
    }
}

#[tokio::test]
async fn tcp_is_served_over_ipv6_as_well() {
    let rig = Rig::on(key_of("fd00::1", Protocol::Tcp), &config(), web(&[echo("").await]));
    assert!(rig.address().is_ipv6());
    assert_eq!(ask(rig.connect().await, b"six").await.unwrap(), b"six");
}

#[tokio::test]
async fn the_longest_and_the_empty_datagram_pass() {
    // IPv6 would carry 20 bytes more.
    let longest = 65_507;
    for (ip, endpoint) in [("10.97.72.1", "127.0.0.1:0"), ("fd00::1", "[::1]:0")] {
        let rig = Rig::on(key_of(ip, Protocol::Udp), &config(), ready(&[answering("", endpoint).await]));
        let client = client(&rig).await;
        for length in [longest, 0, 1, longest] {
            let question: Vec<u8> = (0..length).map(|n| n as u8).collect();
            client.send(&question).await.unwrap();
            assert!(receive(&client).await.unwrap() == question, "{length} bytes");
        }
        let snapshot = rig.until(|snapshot| snapshot.totals.datagrams_out == 4).await;
        assert_eq!(snapshot.totals.bytes_out, 2 * longest + 1);
    }
}

#[tokio::test]
async fn a_burst_arrives_in_order_in_every_flow() {
    const BURST: u32 = 1_000;
    let rig = rig(ready(&[answering("", "127.0.0.1:0").await]));
    let clients = [client(&rig).await, client(&rig).await];
    let script = rig.script.clone();
    // The worker stands still with the first datagram; the burst is in the kernel's queue. What does not fit there never arrives anywhere.
    let held = script.hold();
    for n in 0..BURST {
        for client in &clients {
            client.send(&n.to_be_bytes()).await.unwrap();
        }
    }
    drop(held);
    let mut lost = 0;
    for client in &clients {
        let mut next = 0;
        while next < BURST {
            let Ok(answer) = tokio::time::timeout(Duration::from_secs(1), receive(client)).await else { break };
            let n = u32::from_be_bytes(answer.unwrap().try_into().unwrap());
            assert!(n >= next, "{n} came after {next}");
            lost += n - next;
            next = n + 1;
        }
        lost += BURST - next;
    }
    let totals = rig.snapshot().await.totals;
    assert_eq!((totals.datagrams_in, totals.datagrams_out), (u64::from(2 * BURST - lost), u64::from(2 * BURST - lost)));
    if receive_buffer_of_a_burst() {
        assert_eq!(lost, 0);
    }
}

/// Whether the kernel lets sockets hold 2,000 small datagrams.
fn receive_buffer_of_a_burst() -> bool {
    let most = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
    most.trim().parse::<usize>().unwrap() >= 1 << 20
}

#[tokio::test]
async fn affinity_holds_for_a_clients_other_ports() {
    let mut port = ready(&[answering("a", "127.0.0.1:0").await, answering("b", "127.0.0.1:0").await]);
    port.options.affinity = Some(Duration::from_secs(600));
    let rig = rig(port);
    for _ in 0..5 {
        assert_eq!(query(&client(&rig).await, b"").await.unwrap(), "a");
    }
    assert_eq!(rig.snapshot().await.affinity_pins, 1);
    let (_, log) = rig.end(Duration::ZERO).await;
    assert_eq!(log.iter().filter(|line| line["stages"][2]["not_asked"] == "session affinity").count(), 4);
}

#[tokio::test]
async fn policies_learn_when_an_endpoint_answered_and_how_it_ended() {
    use crate::policy::contract::OutcomeKind;
    let mut port = ready(&[answering("a", "127.0.0.1:0").await]);
    port.options.udp_idle_timeout = Some(Duration::from_millis(50));
    let rig = rig(port);
    query(&client(&rig).await, b"").await.unwrap();
    within(async {
        while rig.script.outcomes().iter().map(|outcome| outcome.kind).ne([OutcomeKind::Connected, OutcomeKind::Closed]) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn every_worker_serves_its_share() {
    let config = Config { workers: 3, ..config() };
    let endpoint = answering("", "127.0.0.1:0").await;
    let rig = rig_with(&config, ready(&[endpoint]));
    let mut clients = Vec::new();
    for n in 0..60 {
        let client = client(&rig).await;
        assert_eq!(query(&client, n.to_string().as_bytes()).await.unwrap(), n.to_string());
        clients.push(client);
    }
    let snapshot = rig.until(|snapshot| snapshot.totals.active == 60).await;
    assert_eq!(snapshot.totals.accepted, 60);
    let (_, log) = rig.end(Duration::ZERO).await;
    let workers: HashSet<u64> = log.iter().map(|line| line["worker"].as_u64().unwrap()).collect();
    assert_eq!(workers.len(), 3, "the kernel spreads clients");
}

fn lost(snapshot: &Snapshot, reason: &str) -> u64 {
    snapshot.datagrams_lost.get(reason).copied().unwrap_or_default()
}

#[tokio::test]
async fn a_client_with_too_many_flows_gives_up_its_oldest() {
    let limits = UdpLimits { max_flows_per_client: 3, ..UdpLimits::default() };
    let rig = rig_with(&Config { udp: limits, ..config() }, ready(&[answering("", "127.0.0.1:0").await]));
    let mut clients = Vec::new();
    for _ in 0..5 {
        let client = client(&rig).await;
        query(&client, b"x").await.unwrap();
        clients.push(client);
    }
    let snapshot = rig.until(|snapshot| snapshot.totals.accepted == 5).await;
    assert_eq!((snapshot.totals.active, snapshot.totals.evicted, lost(&snapshot, "flow-limit")), (3, 2, 0));
    // It is no worse off: its next datagram begins another flow.
    assert_eq!(query(&clients[0], b"again").await.unwrap(), "again");
    let (_, log) = rig.end(Duration::ZERO).await;
    assert_eq!(log.iter().filter(|line| line["outcome"] == "evicted").count(), 3);
}

#[tokio::test]
async fn all_flows_together_keep_to_the_workers_limit() {
    let endpoint = answering("", "127.0.0.1:0").await;
    let mut port = ready(&[endpoint]);
    let load = std::sync::Arc::clone(&port.endpoints[0].load);
    port.options.udp_idle_timeout = Some(Duration::from_secs(600));
    let rig = rig_with(&Config { max_connections: 4, ..config() }, port);
    for _ in 0..10 {
        assert_eq!(query(&client(&rig).await, b"x").await.unwrap(), "x");
    }
    let snapshot = rig.until(|snapshot| snapshot.totals.accepted == 10).await;
    assert_eq!((snapshot.totals.active, snapshot.totals.evicted, load.active()), (4, 6, 4));
}
