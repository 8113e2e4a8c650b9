//! Registries that do not come to an end.

use std::time::{Duration, Instant};

use hyper::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::oci::http::{Request, send};
use crate::oci::url::Url;

/// What a request is given here, instead of half a minute.
const PATIENCE: Duration = Duration::from_millis(300);
/// By which it must have been given up, on a machine that does other things as well.
const LATEST: Duration = Duration::from_secs(10);

/// The error of a request to somebody who says the first text, and then the second one again and again.
async fn given_up(first: &'static str, again: &'static str, pause: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::of_registry(&listener.local_addr().unwrap().to_string(), false).unwrap();
    let talking = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let mut text = first;
        while stream.write_all(text.as_bytes()).await.is_ok() {
            text = again;
            if let Ok(Ok(0)) = tokio::time::timeout(pause, stream.read(&mut request)).await {
                return;
            }
        }
    });
    let begun = Instant::now();
    let said = send(Request::new(Method::GET, url, 1 << 20, PATIENCE)).await.unwrap_err().to_string();
    assert!(begun.elapsed() < LATEST, "after {:?}", begun.elapsed());
    // Whoever talks learns that nobody listens any more.
    tokio::time::timeout(LATEST, talking).await.unwrap().unwrap();
    said
}

#[tokio::test]
async fn an_answer_that_never_ends_is_given_up() {
    let drip = Duration::from_millis(5);
    let cases = [
        ("nothing", "", "", drip),
        ("a head that drips", "HTTP/1.1 200 OK\r\n", "x", drip),
        ("a body that drips", "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", "x", drip),
        ("chunks that drip", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "1\r\nx\r\n", drip),
        ("provisional answers", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n", Duration::ZERO),
    ];
    for (what, first, again, pause) in cases {
        let said = given_up(first, again, pause).await;
        assert!(said.contains("cannot be reached: no whole answer from http://127.0.0.1:"), "{what}: {said}");
    }
}

/// Not even as many bytes as it has time for.
#[tokio::test]
async fn an_answer_beyond_its_size_is_given_up_at_once() {
    let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk: &'static str = Box::leak(format!("10000\r\n{}\r\n", "x".repeat(0x10000)).into_boxed_str());
    let said = given_up(chunks, chunk, Duration::ZERO).await;
    assert!(said.contains("at most 1048576 are taken"), "{said}");
}
