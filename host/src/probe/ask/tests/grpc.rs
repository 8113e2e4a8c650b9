//! `grpc`, against hyper's server.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;

use super::*;

type Body = BoxBody<Bytes, Infallible>;
type Seen = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;

/// Serves one connection after the other.
async fn server(answer: impl Fn() -> Response<Body> + Clone + Send + Sync + 'static) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Seen::default());
    let record = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, record) = (answer.clone(), Arc::clone(&record));
            let service = service_fn(move |request: Request<Incoming>| {
                let (answer, record) = (answer.clone(), Arc::clone(&record));
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    record.lock().unwrap().push((format!("{} {}", head.method, head.uri.path()), head.headers, body));
                    Ok::<_, Infallible>(answer())
                }
            });
            let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        }
    });
    (address, seen)
}

/// An answer with this message and, after it, this `grpc-status`.
fn message(message: &'static [u8], status: Option<&'static str>) -> Response<Body> {
    let trailers = status.map(|status| Ok(HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(status))])));
    let body = Full::new(Bytes::from_static(message)).with_trailers(async move { trailers });
    Response::builder().header("content-type", "application/grpc").body(body.boxed()).unwrap()
}

/// An answer of a head alone.
fn head(http: u16, status: Option<&'static str>) -> Response<Body> {
    let mut response = Response::builder().status(http).header("content-type", "application/grpc");
    if let Some(status) = status {
        response = response.header("grpc-status", status).header("grpc-message", "sorry");
    }
    response.body(Full::default().boxed()).unwrap()
}

fn grpc(service: &str) -> ProbeAction {
    ProbeAction::Grpc { port: None, service: service.to_owned() }
}

const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 1];
const NOT_SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 2];

#[tokio::test]
async fn serving_is_success_and_all_else_is_failure() {
    type Case = (fn() -> Response<Body>, Verdict, &'static str);
    let cases: [Case; 10] = [
        (|| message(SERVING, Some("0")), Verdict::Success, "SERVING"),
        (|| message(NOT_SERVING, Some("0")), Verdict::Failure, "NOT_SERVING"),
        (|| message(&[0; 5], Some("0")), Verdict::Failure, "UNKNOWN"),
        (|| message(SERVING, Some("14")), Verdict::Failure, "grpc-status 14"),
        (|| message(SERVING, None), Verdict::Failure, "without a status"),
        (|| message(b"hello", Some("0")), Verdict::Failure, "no HealthCheckResponse"),
        (|| head(200, Some("12")), Verdict::Failure, "does not implement the gRPC health checking protocol"),
        (|| head(200, Some("5")), Verdict::Failure, "no such service"),
        (|| head(200, Some("7")), Verdict::Failure, "grpc-status 7: sorry"),
        (|| head(404, None), Verdict::Failure, "HTTP status 404"),
    ];
    for (answer, verdict, said) in cases {
        let (address, _) = server(answer).await;
        let answer = asked(grpc(""), address, LONG).await;
        assert_eq!(answer.verdict, verdict, "{said}: {answer:?}");
        assert!(answer.message.contains(said), "{said}: {answer:?}");
    }
}

#[tokio::test]
async fn what_is_asked() {
    let (address, seen) = server(|| message(SERVING, Some("0"))).await;
    asked(grpc("db"), address, Duration::from_secs(20)).await;
    let seen = seen.lock().unwrap();
    let [(line, headers, body)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(line, "POST /grpc.health.v1.Health/Check");
    for (name, value) in [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", concat!("pointsman-probe/", env!("CARGO_PKG_VERSION"))),
        ("grpc-timeout", "20000m"),
    ] {
        assert_eq!(headers.get(name).unwrap(), value, "{name}");
    }
    assert_eq!(body, &[0, 0, 0, 0, 4, 0x0a, 2, b'd', b'b'][..]);
}

#[tokio::test]
async fn what_does_not_speak_http_2_is_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        first.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        drop(first);
        // The second is never answered.
        let silent = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
        drop(silent);
    });
    assert_eq!(asked(grpc(""), address, LONG).await.verdict, Verdict::Failure);
    let answer = asked(grpc(""), address, SHORT).await;
    assert_eq!((answer.verdict, answer.message), (Verdict::Failure, format!("grpc health check of {address}: no answer within 50ms")));
    assert_eq!(asked(grpc(""), nobody().await, LONG).await.verdict, Verdict::Failure);
}
