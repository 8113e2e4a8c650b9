#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;

async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String, SocketAddr) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: backend\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned(), stream.local_addr().unwrap())
}

async fn open(name: Option<&str>) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let backend = Arc::new(Backend::new(name.map(str::to_owned), address));
    let server = tokio::spawn(serve(listener, backend, async move {
        let _ = stopped.await;
    }));
    (address, stop, server)
}

#[tokio::test]
async fn it_says_who_it_is_and_who_asked() {
    let (address, _stop, _) = open(Some("web-1")).await;
    for requests in 1..=3 {
        let (status, body, client) = ask(address, "GET", "/", "").await;
        let wanted = serde_json::json!({"name": "web-1", "address": address, "client": client, "requests": requests});
        assert_eq!((status, serde_json::from_str::<serde_json::Value>(&body).unwrap()), (200, wanted));
    }
}

#[tokio::test]
async fn without_a_name_it_is_its_address() {
    let (address, _stop, _) = open(None).await;
    let (_, body, _) = ask(address, "GET", "/", "").await;
    assert!(body.contains(&format!("\"name\":\"{address}\"")), "{body}");
}

#[tokio::test]
async fn its_readiness_is_failed_and_mended() {
    let (address, _stop, _) = open(None).await;
    assert_eq!(ask(address, "GET", "/readyz", "").await.0, 200);
    for (post, after) in [("readyz=FAIL", 500), ("readyz=OK", 200), ("FAIL\n", 500), ("OK", 200)] {
        assert_eq!(ask(address, "POST", "/readyz", post).await.0, 200, "{post}");
        assert_eq!(ask(address, "GET", "/readyz", "").await.0, after, "{post}");
    }
    for wrong in ["", "readyz=maybe", "OKAY", &"x".repeat(2 * MAX_BODY_BYTES)] {
        assert_eq!(ask(address, "POST", "/readyz", wrong).await.0, 400);
    }
    assert_eq!(ask(address, "GET", "/readyz", "").await.0, 200, "nonsense changes nothing");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let (address, _stop, _) = open(None).await;
    assert_eq!(ask(address, "GET", "/other", "").await.0, 404);
    assert_eq!(ask(address, "DELETE", "/readyz", "").await.0, 405);
    assert_eq!(ask(address, "POST", "/", "").await.0, 405);
}

#[tokio::test]
async fn it_ends_when_told() {
    let (address, stop, server) = open(None).await;
    stop.send(()).unwrap();
    server.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
