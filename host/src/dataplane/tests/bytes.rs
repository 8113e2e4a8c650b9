//! Streams arrive as they were sent, and end as they were ended.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::rig::{Rig, accept, ask, backend, echo, refusing, reset, rest, was_reset, web, within};

async fn pair() -> (Rig, TcpStream, TcpStream) {
    let (listener, address) = backend().await;
    let rig = Rig::new(web(&[address]));
    let (client, endpoint) = (rig.connect().await, accept(&listener).await);
    // An endpoint that resets before the worker has noticed its answer counts as one that refuses.
    rig.until(|snapshot| snapshot.services.values().any(|service| service.endpoints.values().any(|endpoint| endpoint.connections == 1)))
        .await;
    (rig, client, endpoint)
}

/// Bytes that differ at every place.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

#[tokio::test]
async fn both_directions_are_exact_and_close_one_by_one() {
    let (rig, client, endpoint) = pair().await;
    let (question, answer) = (noise(3_000_000, 1), noise(5_000_001, 2));
    let asking = tokio::spawn({
        let question = question.clone();
        async move { ask(client, &question).await.unwrap() }
    });
    let mut endpoint = endpoint;
    assert!(rest(&mut endpoint).await.unwrap() == question, "the client's end of stream came, with everything before it");
    within(endpoint.write_all(&answer)).await.unwrap();
    drop(endpoint);
    assert!(within(asking).await.unwrap() == answer);
    let snapshot = rig.until(|snapshot| snapshot.totals.closed == 1).await;
    assert_eq!((snapshot.totals.bytes_in, snapshot.totals.bytes_out), (3_000_000, 5_000_001));
}

#[tokio::test]
async fn the_endpoint_may_end_first_and_still_listen() {
    let (rig, mut client, mut endpoint) = pair().await;
    endpoint.write_all(b"all I have to say").await.unwrap();
    endpoint.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await.unwrap(), b"all I have to say");
    assert_eq!(rig.snapshot().await.totals.active, 1);
    client.write_all(b"but I have more").await.unwrap();
    drop(client);
    assert_eq!(rest(&mut endpoint).await.unwrap(), b"but I have more");
    rig.until(|snapshot| snapshot.totals.closed == 1).await;
}

#[tokio::test]
async fn the_server_may_speak_first_and_single_bytes_pass_at_once() {
    let rig = Rig::new(web(&[echo("hello").await]));
    let mut client = rig.connect().await;
    let mut greeting = [0; 5];
    within(client.read_exact(&mut greeting)).await.unwrap();
    assert_eq!(&greeting, b"hello");
    for byte in 0..200 {
        client.write_all(&[byte]).await.unwrap();
        assert_eq!(within(client.read_u8()).await.unwrap(), byte);
    }
}

/// Waits until everything on the way is full, while nobody reads. How many bytes the endpoint's side took.
async fn stalled(rig: &Rig) -> u64 {
    let mut before = 0;
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let now = rig.snapshot().await.totals.bytes_in;
        if now > 0 && now == before {
            return now;
        }
        before = now;
    }
}

#[tokio::test]
async fn a_slow_reader_loses_nothing() {
    let (rig, client, mut endpoint) = pair().await;
    let question = noise(12_000_000, 3);
    let asking = tokio::spawn({
        let question = question.clone();
        async move { ask(client, &question).await.unwrap() }
    });
    let before = stalled(&rig).await;
    assert!(before < 12_000_000, "a worker must not swallow what nobody reads");
    let mut received = Vec::new();
    let mut piece = vec![0; 10_000];
    loop {
        let length = within(endpoint.read(&mut piece)).await.unwrap();
        if length == 0 {
            break;
        }
        received.extend_from_slice(&piece[..length]);
    }
    assert!(received == question);
    drop(endpoint);
    assert_eq!(within(asking).await.unwrap(), b"");
}

#[tokio::test]
async fn a_reset_passes_through_both_ways() {
    let (rig, client, mut endpoint) = pair().await;
    reset(client);
    was_reset(rest(&mut endpoint).await);
    rig.until(|snapshot| snapshot.totals.reset == 1).await;

    let (rig, mut client, endpoint) = pair().await;
    reset(endpoint);
    was_reset(rest(&mut client).await);
    rig.until(|snapshot| snapshot.totals.reset == 1).await;
}

#[tokio::test]
async fn a_reset_passes_through_also_when_its_side_had_ended() {
    let (rig, mut client, mut endpoint) = pair().await;
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut endpoint).await.unwrap(), b"");
    reset(client);
    rig.until(|snapshot| snapshot.totals.reset == 1).await;

    let (rig, mut client, mut endpoint) = pair().await;
    endpoint.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await.unwrap(), b"");
    reset(endpoint);
    rig.until(|snapshot| snapshot.totals.reset == 1).await;
}

#[tokio::test]
async fn a_reset_passes_through_also_when_the_endpoint_takes_no_bytes() {
    let (rig, client, mut endpoint) = pair().await;
    let client = client.into_std().unwrap();
    let flood = noise(1_000_000, 5);
    let asking = tokio::task::spawn_blocking(move || {
        use std::io::Write;
        client.set_nonblocking(true).unwrap();
        // As much as fits between here and the endpoint, which reads nothing.
        let mut full = 0;
        while full < 20 {
            match (&client).write(&flood) {
                Ok(_) => full = 0,
                Err(_) => full += 1,
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        TcpStream::from_std(client)
    });
    let client = asking.await.unwrap().unwrap();
    stalled(&rig).await;
    reset(client);
    rig.until(|snapshot| snapshot.totals.reset == 1 && snapshot.totals.active == 0).await;
    was_reset(rest(&mut endpoint).await);
}

#[tokio::test]
async fn what_an_endpoint_said_before_its_reset_arrives() {
    let (rig, mut client, mut endpoint) = pair().await;
    endpoint.write_all(b"no thanks").await.unwrap();
    // Unread bytes make its close a reset.
    client.write_all(b"a question that is never read").await.unwrap();
    within(endpoint.peek(&mut [0])).await.unwrap();
    let mut answer = [0; 9];
    within(client.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"no thanks");
    drop(endpoint);
    was_reset(rest(&mut client).await);
    rig.until(|snapshot| snapshot.totals.reset == 1).await;
}

#[tokio::test]
async fn a_client_that_speaks_at_once_loses_nothing_to_a_retry() {
    let (_socket, refused) = refusing();
    let rig = Rig::new(web(&[refused, echo("").await]));
    for _ in 0..20 {
        let client = rig.connect().await;
        assert_eq!(ask(client, b"first words").await.unwrap(), b"first words");
    }
    rig.until(|snapshot| snapshot.totals.closed == 20).await;
    let service = rig.service().await;
    assert_eq!(service.tally.connect_failures()[0], ("refused", service.endpoints[&*refused.to_string()].failures[0]));
    assert!(service.tally.failures[0] >= 10, "round robin begins with the dead endpoint every other time");
}

#[tokio::test]
async fn the_proxy_header_comes_before_the_first_byte() {
    let (listener, address) = backend().await;
    let mut port = web(&[address]);
    port.options.proxy_protocol = true;
    let rig = Rig::new(port);
    let client = rig.connect().await;
    let from = client.local_addr().unwrap();
    let mut endpoint = accept(&listener).await;
    let mut header = [0; 28];
    within(endpoint.read_exact(&mut header)).await.unwrap();
    assert_eq!(&header[..16], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", "it does not wait for the client to speak");
    assert_eq!(&header[16..24], &[127, 0, 0, 1, 10, 97, 72, 1]);
    assert_eq!(&header[24..28], &[&from.port().to_be_bytes()[..], &[0, 80]].concat()[..]);
    let asking = tokio::spawn(ask(client, b"hello"));
    assert_eq!(rest(&mut endpoint).await.unwrap(), b"hello");
    drop(endpoint);
    assert_eq!(within(asking).await.unwrap().unwrap(), b"");
    let snapshot = rig.until(|snapshot| snapshot.totals.closed == 1).await;
    assert_eq!(snapshot.totals.bytes_in, 5, "the header is not the client's");
}
